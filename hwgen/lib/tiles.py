"""The tiles of matrices with offsets, or in E2M1, from the beats of the weight stream."""
from typing import NamedTuple

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from ..params.formats import E2M1
from ..params.stream import BLOCK
from .fp8_dot import expand_e2m1
from .layouts import OFFSET_BITS, tile_layout

__all__ = ["TileReader", "matrix_layout"]


def matrix_layout(tilings):
    """Of the matrix whose beats come, one of these `Tiling` s: steps of an n-tile and n-tiles, each less 1, and whether
    it is in E2M1."""
    return StructLayout({"steps": range(max(tiling.steps for tiling in tilings)),
                         "n_tiles": range(max(tiling.matmul.n_tiles for tiling in tilings)),
                         "narrow": 1})


class _Place(NamedTuple):
    """Where in the matrix the tile is that comes."""
    step: Signal            # of the n-tile
    n_tile: Signal
    take: Signal            # it is taken ...
    step_end: Signal        # ... and is the n-tile's last one ...
    matrix_end: Signal      # ... and the matrix's
    beat: Signal            # of codes, of the tile


class _Offsets(NamedTuple):
    """A beat of offsets."""
    left: Signal        # what is left of it: those that come next stand in the lowest bits
    there: Signal       # there is one


class TileReader(wiring.Component):
    """Makes tiles of beats that stand as `hwgen.params.stream.Tiling` says: the rows' offsets go along with each tile,
    E2M1 codes become, with their blocks' offsets, codes of the array's format.

    A tile's last beat is passed through beside those that were kept, so a tile comes with its last beat; beats of
    offsets are taken in between.

    Parameters
    ----------
    tilings : list[Tiling]      of all matrices: tiles of all have the same number of beats
    weight : Fp8                format of the array's weights
    lanes, columns : int        L and C
    largest_block : int         the largest offset of a block of E2M1 weights; 0: blocks have none

    Members
    -------
    matrix : In             `matrix_layout`, held until ``matrix_end``
    beats : In(stream)      `hwgen.units.weights.beat_layout`
    tile : Out(stream)      `hwgen.lib.layouts.tile_layout`
    matrix_end : Out(1)     the matrix's last tile is taken
    """

    def __init__(self, *, tilings, weight, lanes, columns, largest_block=0):
        self._tilings, self._weight, self._lanes, self._columns = tilings, weight, lanes, columns
        self._tile_beats, self._largest_block = tilings[0].beats, largest_block
        self._beat_bytes = lanes * columns // self._tile_beats
        tile = tile_layout(weight_bits=weight.bits, lanes=lanes, columns=columns, row_offsets=tilings[0].row_tiles > 0)
        super().__init__({
            "matrix": In(matrix_layout(tilings)),
            "beats": In(stream.Signature(unsigned(8 * self._beat_bytes))),
            "tile": Out(stream.Signature(unsigned(tile.size))),
            "matrix_end": Out(1),
        })
        # there may be tiles of 8 bits too, and these need not come first
        self._any_narrow = any(tiling.narrow for tiling in tilings)
        self._both = self._any_narrow and weight.bits == 8
        self._narrow = self.matrix.narrow if self._both else Const(int(self._any_narrow))

    def elaborate(self, platform):
        m = Module()
        tile_beats, narrow = self._tile_beats, self._narrow
        place = self._count(m)
        beat = place.beat
        rows, blocks = self._row_offsets(m, place), self._block_offsets(m, place)
        of_row = ~rows.there if rows else Const(0)
        of_block = narrow & ~blocks.there & ~of_row if blocks else Const(0)
        of_code = Signal()
        m.d.comb += of_code.eq(~(of_row | of_block))
        for offset, group in ((of_row, rows), (of_block, blocks)):
            if group:
                with m.If(offset & self.beats.valid):
                    m.d.sync += [group.left.eq(self.beats.payload), group.there.eq(1)]

        if tile_beats == 1:
            # (where no matrix has a second step, its half of a beat is never read)
            odd = place.step[0] if len(place.step) else Const(0)
            last_beat, done = Const(1), ~narrow | odd | (place.step == self.matrix.steps)   # with the beat
            codes = self._of_one_beat(m, odd, blocks, beat)
        else:
            last_beat = done = beat == Mux(narrow, tile_beats // 2 - 1, tile_beats - 1)
            codes = self._of_some_beats(m, blocks, beat)
        with m.If(self.beats.valid & self.beats.ready & of_code):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
        codes = self._keep(m, codes, beat, of_code)
        m.d.comb += [self.tile.valid.eq(self.beats.valid & of_code & last_beat),
                     self.tile.payload.eq(Cat(*codes, rows.left[:OFFSET_BITS * self._columns] if rows else ())),
                     self.beats.ready.eq(Mux(of_code, Mux(last_beat, self.tile.ready & done, 1), 1))]
        return m

    def _count(self, m):
        """Where in the matrix the tile is that comes: `_Place`."""
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
        return _Place(step, n_tile, take, step_end, matrix_end, beat=Signal(range(self._tile_beats)))

    # -- offsets

    def _row_offsets(self, m, place):
        """`_Offsets` of the rows of the n-tiles that come, or None where rows have none."""
        n_tiles = self._tilings[0].row_tiles
        if not n_tiles:
            return None
        last = place.n_tile[:n_tiles.bit_length() - 1].all() if n_tiles > 1 else 1      # n-tile of the beat of offsets
        return self._offsets(m, "row", n_tiles, 1, place.step_end, place.matrix_end | place.step_end & last)

    def _block_offsets(self, m, place):
        """`_Offsets` of the blocks of the steps that come, or None where no matrix is in E2M1."""
        lanes, block_steps = self._lanes, max(tiling.block_steps for tiling in self._tilings)
        if not block_steps:
            return None
        per_step = max(1, lanes // BLOCK)                   # groups of a step ...
        steps = max(1, BLOCK // lanes)                      # ... or steps of a group
        take, step = place.take, place.step
        shift = take & step[:steps.bit_length() - 1].all() if steps > 1 else take
        ends = place.step_end | take & step[:block_steps.bit_length() - 1].all() if block_steps > 1 else take
        return self._offsets(m, "block", block_steps * per_step // steps, per_step, shift, ends)

    def _offsets(self, m, name, groups, per_shift, shift, end):
        """There are so many groups of C offsets in a beat, and some leave with each ``shift``."""
        columns, beat = self._columns, 8 * self._beat_bytes
        left = Signal(OFFSET_BITS * columns * groups, name=f"{name}_offsets", reset_less=True)
        there = Signal(name=f"{name}_offsets_there")
        assert len(left) <= beat
        with m.If(shift):
            m.d.sync += left.eq(left[OFFSET_BITS * columns * per_shift:])
        with m.If(end):
            m.d.sync += there.eq(0)
        return _Offsets(left, there)

    # -- codes

    def _of_one_beat(self, m, odd, blocks, beat):
        """The codes of a tile of one beat; of E2M1 a beat has two tiles, and the ``odd`` one is the upper half."""
        if not self._any_narrow:
            return [self.beats.payload]
        small = self._small()
        half = len(small) // 2
        chosen = Mux(odd, Cat(small[half:]), Cat(small[:half]))
        small = [chosen.word_select(i, E2M1.bits) for i in range(half)]
        codes = Cat(self._expanded(m, code, blocks, i, 0, beat) for i, code in enumerate(small))
        return [Mux(self._narrow, codes, self.beats.payload) if self._both else codes]

    def _of_some_beats(self, m, blocks, beat):
        """The codes of a beat of a tile that has several; of E2M1 they are those of two beats."""
        if not self._any_narrow:
            return [self.beats.payload]
        small, n = self._small(), self._beat_bytes
        large = [self._expanded(m, code, blocks, i, len(small), beat) for i, code in enumerate(small)]
        return [Cat(large[:n]), Cat(large[n:])]

    def _keep(self, m, codes, beat, of_code):
        """The codes of a whole tile: those of its last beat, behind those that were kept of the beats before."""
        tile_beats, narrow = self._tile_beats, self._narrow
        mixed = self._both and tile_beats > 1    # one beat more is kept: of a tile of 8 bits one is the last
        size = self._beat_bytes * self._weight.bits
        kept = [Signal(size, name=f"kept{i}", reset_less=True) for i in range(tile_beats - len(codes) + mixed)]
        if kept:
            with m.If(self.beats.valid & of_code):
                for i, register in enumerate(kept):
                    if self._both or not self._any_narrow:
                        with m.If(~narrow & (beat == i)):
                            m.d.sync += register.eq(self.beats.payload)
                    if self._any_narrow and i < tile_beats - 2:
                        with m.If(narrow & (beat == i // 2)):
                            m.d.sync += register.eq(codes[i % 2])
        if mixed:
            return [*kept[:-1], Mux(narrow, codes[0], kept[-1]), Mux(narrow, codes[1], self.beats.payload)]
        return [*kept, *codes]

    def _small(self):
        """The E2M1 codes of the beat."""
        return [self.beats.payload.word_select(i, E2M1.bits) for i in range(2 * self._beat_bytes)]

    def _expanded(self, m, code, blocks, index, per_beat, beat):
        """The array's code of an E2M1 code of a beat, by its place there."""
        lanes, fmt = self._lanes, self._weight
        if not blocks:
            return expand_e2m1(m, fmt, code, Const(0, 0), name=f"code{index}")
        column, lane = divmod(index, lanes)
        group, step = lane // BLOCK % max(1, lanes // BLOCK), per_beat // lanes
        beats = max(1, self._tile_beats // 2)

        def offset(column):
            bits = self._largest_block.bit_length()
            return blocks.left.word_select(group * self._columns + column, OFFSET_BITS)[:bits]

        chosen = offset(column)
        if beats > 1:
            of_beat = beat[:max(1, (beats - 1).bit_length())]
            chosen = Array(offset(column + i * step) for i in range(beats))[of_beat]
        return expand_e2m1(m, fmt, code, chosen, name=f"code{index}")
