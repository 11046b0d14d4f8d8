"""The tiles of matrices with offsets, or in E2M1, from the beats of the weight stream."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from ..params.formats import E2M1
from ..params.stream import BLOCK
from .fp8_dot import expand_e2m1
from .layouts import OFFSET_BITS, tile_layout

__all__ = ["TileReader", "matrix_layout"]


def matrix_layout(design):
    """Of the matrix whose beats come: steps of an n-tile and n-tiles, each less 1, and whether it is in E2M1."""
    matmuls = [section.matmul for section in design.stream if section.matmul]
    return StructLayout({"steps": range(max(matmul.k_tiles * matmul.codes for matmul in matmuls)),
                         "n_tiles": range(max(matmul.n_tiles for matmul in matmuls)),
                         "narrow": 1})


class TileReader(wiring.Component):
    """Makes tiles of beats that stand as `hwgen.params.stream.Tiling` says: the rows' offsets go along with each tile, E2M1 codes become,
    with their blocks' offsets, codes of the array's format.

    A tile's last beat is passed through beside those that were kept, so a tile comes with its last beat; beats of offsets are taken in
    between.

    Members
    -------
    matrix : In             `matrix_layout`, held until ``matrix_end``
    beats : In(stream)      `hwgen.units.weights.beat_layout`
    tile : Out(stream)      `hwgen.lib.layouts.tile_layout`
    matrix_end : Out(1)     the matrix's last tile is taken
    """

    def __init__(self, design):
        self._design = design
        super().__init__({
            "matrix": In(matrix_layout(design)),
            "beats": In(stream.Signature(unsigned(8 * design.hw.beat_bytes))),
            "tile": Out(stream.Signature(unsigned(tile_layout(design).size))),
            "matrix_end": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        design, hw = self._design, self._design.hw
        tilings = [section.tiling for section in design.stream if section.matmul]
        row_tiles, block_steps = tilings[0].row_tiles, max(tiling.block_steps for tiling in tilings)
        both = design.narrow and design.array_format.bits == 8      # there may be tiles of 8 bits too, and these need not come first
        narrow = self.matrix.narrow if both else Const(int(design.narrow))
        take, step_end, matrix_end = Signal(), Signal(), Signal()
        step, n_tile = Signal.like(self.matrix.steps, name="step"), Signal.like(self.matrix.n_tiles, name="n_tile")
        m.d.comb += [take.eq(self.tile.valid & self.tile.ready), step_end.eq(take & (step == self.matrix.steps)),
                     matrix_end.eq(step_end & (n_tile == self.matrix.n_tiles)), self.matrix_end.eq(matrix_end)]
        with m.If(take):
            m.d.sync += step.eq(step + 1)
        with m.If(step_end):
            m.d.sync += [step.eq(0), n_tile.eq(n_tile + 1)]
        with m.If(matrix_end):
            m.d.sync += n_tile.eq(0)

        # Offsets: those that come next stand in the lowest bits of what is left of their beat.
        of_row, of_block, offsets = Const(0), Const(0), []
        if row_tiles:
            rows = self._offsets(m, "row", row_tiles, 1, step_end,
                                 matrix_end | step_end & (n_tile[:row_tiles.bit_length() - 1].all() if row_tiles > 1 else 1))
            of_row = ~rows[1]
        if block_steps:
            per_step = max(1, hw.lanes // BLOCK)                # groups of a step ...
            steps = max(1, BLOCK // hw.lanes)                   # ... or steps of a group
            shift = take & step[:steps.bit_length() - 1].all() if steps > 1 else take
            ends = step_end | take & step[:block_steps.bit_length() - 1].all() if block_steps > 1 else take
            blocks = self._offsets(m, "block", block_steps * per_step // steps, per_step, shift, ends)
            of_block = narrow & ~blocks[1] & ~of_row
            bits, columns = design.largest_block.bit_length(), hw.columns
            offsets = [[blocks[0].word_select(group * columns + column, OFFSET_BITS)[:bits] for column in range(columns)]
                       for group in range(per_step)]
        of_code = Signal()
        m.d.comb += of_code.eq(~(of_row | of_block))
        for offset, group in ((of_row, rows if row_tiles else None), (of_block, blocks if block_steps else None)):
            if group:
                with m.If(offset & self.beats.valid):
                    m.d.sync += [group[0].eq(self.beats.payload), group[1].eq(1)]

        # Codes
        beat, parts = Signal(range(hw.tile_beats)), []
        small = [self.beats.payload.word_select(i, E2M1.bits) for i in range(2 * hw.beat_bytes)]
        if hw.tile_beats == 1:
            last_beat = Const(1)
            odd = step[0] if len(step) else Const(0)                    # no matrix has a second step: its half of a beat is never read
            done = ~narrow | odd | (step == self.matrix.steps)          # with the beat
            if design.narrow:
                half = len(small) // 2
                chosen = Mux(odd, Cat(small[half:]), Cat(small[:half]))
                small = [chosen.word_select(i, E2M1.bits) for i in range(half)]
                parts = [Cat(self._expanded(m, code, offsets, i, 0, beat) for i, code in enumerate(small))]
        else:
            last_beat = done = beat == Mux(narrow, hw.tile_beats // 2 - 1, hw.tile_beats - 1)
            if design.narrow:
                large = [self._expanded(m, code, offsets, i, len(small), beat) for i, code in enumerate(small)]
                parts = [Cat(large[:hw.beat_bytes]), Cat(large[hw.beat_bytes:])]
        if not design.narrow:
            parts = [self.beats.payload]
        elif both:
            parts = [Mux(narrow, parts[0], self.beats.payload)] if hw.tile_beats == 1 else parts
        size = hw.beat_bytes * design.array_format.bits
        kept = [Signal(size, name=f"kept{i}", reset_less=True) for i in range(hw.tile_beats - len(parts) + (both and hw.tile_beats > 1))]
        with m.If(self.beats.valid & self.beats.ready & of_code):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
        if kept:
            with m.If(self.beats.valid & of_code):
                for i, register in enumerate(kept):
                    here = [(~narrow & (beat == i), self.beats.payload)] if both or not design.narrow else []
                    here += [(narrow & (beat == i // 2), parts[i % 2])] if design.narrow and i < hw.tile_beats - 2 else []
                    for condition, value in here:
                        with m.If(condition):
                            m.d.sync += register.eq(value)
        if both and hw.tile_beats > 1:
            parts = [*kept[:-1], Mux(narrow, parts[0], kept[-1]), Mux(narrow, parts[1], self.beats.payload)]
        else:
            parts = [*kept, *parts]
        m.d.comb += [self.tile.valid.eq(self.beats.valid & of_code & last_beat),
                     self.tile.payload.eq(Cat(*parts, rows[0][:OFFSET_BITS * hw.columns] if row_tiles else ())),
                     self.beats.ready.eq(Mux(of_code, Mux(last_beat, self.tile.ready & done, 1), 1))]
        return m

    def _offsets(self, m, name, groups, per_shift, shift, end):
        """(What is left of a beat of offsets; it is there). There are so many groups of C offsets in it, and some leave with each
        ``shift``."""
        columns, beat = self._design.hw.columns, 8 * self._design.hw.beat_bytes
        left, there = Signal(OFFSET_BITS * columns * groups, name=f"{name}_offsets", reset_less=True), Signal(name=f"{name}_offsets_there")
        assert len(left) <= beat
        with m.If(shift):
            m.d.sync += left.eq(left[OFFSET_BITS * columns * per_shift:])
        with m.If(end):
            m.d.sync += there.eq(0)
        return left, there

    def _expanded(self, m, code, offsets, index, per_beat, beat):
        """The array's code of an E2M1 code of a beat, by its place there."""
        hw, fmt = self._design.hw, self._design.array_format
        if not offsets:
            return expand_e2m1(m, fmt, code, Const(0, 0), name=f"code{index}")
        column, lane = divmod(index, hw.lanes)
        group, step = offsets[lane // BLOCK % len(offsets)], per_beat // hw.lanes
        beats = max(1, hw.tile_beats // 2)
        offset = group[column] if beats == 1 else Array(group[column + i * step]
                                                        for i in range(beats))[beat[:max(1, (beats - 1).bit_length())]]
        return expand_e2m1(m, fmt, code, offset, name=f"code{index}")
