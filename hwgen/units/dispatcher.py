"""The dispatcher of the weight stream: asks for what a pass needs, and hands out what comes."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.granules import Granules, Section
from ..lib.layouts import EXP_BITS, embed_layout, tile_layout
from ..lib.stream_requests import Pass, Requests
from ..lib.tile_runs import is_one_of, name_matrix, runs
from ..lib.tiles import TileReader
from .weights import beat_layout, request_layout

__all__ = ["Dispatcher", "gain_layout", "row_layout", "vector_layout"]


def row_layout(*, entries, vocab_size, halves, positions=0):
    """An embedding row wanted, and where positions are learned, that of a position. ``head``: the LM head is wanted
    too, by each half-batch; it counts with ``last``."""
    return StructLayout({"entry": range(entries), "token": range(vocab_size), "last": 1, "head": halves,
                         **({"position": range(positions)} if positions else {})})


def gain_layout(*, vector_lanes, parts):
    """One of the ``parts`` granules of a norm's gains, as bf16."""
    return StructLayout({"g": ArrayLayout(unsigned(16), vector_lanes), "part": range(parts)})


def vector_layout(*, vector_lanes, counts, halves):
    """A granule of the vectors of a record. ``norm``: whose record, by its number in the block, which the final one's
    follows if it has vectors; ``half``: for which half-batch; ``part``: counts the granules of all vectors of the
    record, of which each record has as many as ``counts`` says."""
    return StructLayout({"x": ArrayLayout(unsigned(16), vector_lanes), "norm": range(len(counts)),
                         "half": range(halves), "part": range(max(counts))})


class Dispatcher(wiring.Component):
    """Asks for what a pass needs of the weight stream, and hands out what comes.

    A pass is one command per entry, in order, at most T. It reads the header, the embedding row of each entry (and
    behind it that of its position, where they are learned), and the body of the stream from layer 0 on: to the end of
    the layers, or of the LM head if the last command has ``head``. Where two half-batches alternate, each reads the
    body, a record or matrix at a time, in the order of `hwgen.lib.pieces`. The next pass's commands are taken after its
    last tile was.

    Everything but tiles goes through one register, a granule a cycle. Tiles have none: a tile's last beat is passed
    through beside the B - 1 that were kept, so ``tile`` is as fast as the source, one in B cycles. Where rows have
    offsets, or matrices are in E2M1, tiles are made by a `hwgen.lib.tiles.TileReader`, in the cycles that
    `params.stream.Tiling` says. ``exps`` change in a cycle in which ``gain.ready``: a consumer that is not ready for
    gains keeps the exponents too. `golden.weights` has the cycles.

    Parameters
    ----------
    params : StreamParams

    Members
    -------
    cmd : In(stream)            `row_layout`
    req : Out(stream)           `request_layout`
    beats : In(stream)          `beat_layout`, in the order asked for
    embed_exp : Out(signed)     exponent of the table, or of its row, that the granule of ``embed`` is of
    model_id : Out(32)          from the header, valid with the pass's first ``embed``; 0 before the first pass
    embed : Out(stream)         `hwgen.lib.layouts.embed_layout`, rows in order, a row's parts in order but hi and lo
                                alternating per L elements
    exps : Out                  exponents of the latest record, valid with its first ``gain``
    gain : Out(stream)          `gain_layout`
    vector : Out(stream)        `vector_layout`, only where records have vectors; ``ready`` must be 1
    tile : Out(stream)          `hwgen.lib.layouts.tile_layout`
    """

    def __init__(self, params):
        self._params, vectors = params, params.vector_granules
        entries, lanes, halves = params.entries, params.vector_lanes, params.halves
        row = row_layout(entries=entries, vocab_size=params.vocab_size, halves=halves, positions=params.positions)
        embed = embed_layout(vector_lanes=lanes, entries=entries, parts=params.row_granules,
                             positions=params.positions > 0)
        tile = tile_layout(weight_bits=params.weight.bits, lanes=params.lanes, columns=params.columns,
                           row_offsets=params.row_offsets)
        vector = {"vector": Out(stream.Signature(vector_layout(vector_lanes=lanes, counts=vectors, halves=halves)))}
        super().__init__({
            "cmd": In(stream.Signature(row)),
            "req": Out(stream.Signature(request_layout(stream_beats=params.stream.beats))),
            "beats": In(stream.Signature(unsigned(beat_layout(beat_bytes=params.beat_bytes).size))),
            "embed_exp": Out(signed(EXP_BITS)),
            "model_id": Out(32),
            "embed": Out(stream.Signature(embed)),
            "exps": Out(ArrayLayout(signed(EXP_BITS), params.block.record_words)),
            "gain": Out(stream.Signature(gain_layout(vector_lanes=lanes, parts=params.row_granules))),
            **(vector if any(vectors) else {}),
            "tile": Out(stream.Signature(unsigned(tile.size))),
        })

    def elaborate(self, platform):
        m = Module()
        params = self._params
        current = Pass(both=Signal(name="both", reset_less=True),
                       wants_head=Signal(params.halves, name="head", reset_less=True), finish=Signal(name="finish"))
        requests = Requests(m, params, self.cmd, self.req, current)
        section = Section.of(m, params)
        granules = Granules(m, params, self, requests, section)
        _Order(m, params, self, requests, current, section, granules)
        return m


class _Order:
    """The order of what comes: each section counts what is received of it, and says what comes ``after`` it.

    The header; an embedding row of each entry, and that of its position, each behind its offset where rows have them;
    then records, each with its gains and vectors, and behind them runs of tiles.
    """

    def __init__(self, m, params, ports, requests, current, section, granules):
        self._m, self._params, self._ports, self._requests, self._current = m, params, ports, requests, current
        self._granules, self._kinds, self._after = granules, section.kinds, section.after
        self._in_tiles, self._vectors = section.in_tiles, params.vector_granules
        self._run = runs(m, params, current)
        if any(self._vectors):
            self._vectored = self._has_vectors()
            granules.note_record(self._run.norm, self._run.half)
        self._left = Signal.like(self._run.tiles, name="left")      # tiles of the run behind the next one
        self._read = params.row_offsets or params.narrow                 # tiles are not just beats side by side
        self._connect_tiles()
        with m.Switch(section.now):
            for kind, receive in self._receivers().items():
                with m.Case(kind):
                    receive()

    def _receivers(self):
        """{section: what is done in it}"""
        kinds, found = self._kinds, {self._kinds.HEADER: self._header, self._kinds.EMBED: self._embed}
        if self._params.row_offsets:
            found[kinds.OFFSETS] = self._offsets
        found |= {kinds.RECORD: self._record, kinds.GAINS: self._gains}
        if any(self._vectors):
            found[kinds.VECTORS] = self._vector_granules
        if not self._params.wired:
            found[kinds.TILES] = self._take_tiles if self._read else self._keep_beats
        return found

    # -- header and rows

    def _header(self):
        m, granules = self._m, self._granules
        m.d.comb += granules.beat_end.eq(granules.words_end | granules.beat_full)
        with m.If(granules.move):
            granules.count_words()
            with m.If(granules.words_end):
                m.d.comb += self._after.eq(self._kinds.OFFSETS if self._params.row_offsets else self._kinds.EMBED)

    def _embed(self):
        m, params, granules, row = self._m, self._params, self._granules, self._requests.row
        learned, part = params.positions > 0, granules.part
        m.d.comb += [granules.beat_end.eq(granules.slice_end),
                     self._requests.next_row.eq(granules.move & granules.entry_end)]
        with m.If(granules.move):
            m.d.sync += [granules.held.upper.eq(granules.unit[0]), part.eq(part + 1)]
            if params.pair:
                granules.count_slices()
            with m.If(granules.row_end):
                m.d.sync += part.eq(0)
                if params.row_offsets:
                    m.d.comb += self._after.eq(self._kinds.OFFSETS)
                if learned:
                    m.d.sync += granules.of_position.eq(~granules.of_position)
                with m.If(row.last & granules.of_position if learned else row.last):
                    m.d.comb += self._after.eq(self._kinds.RECORD)

    def _offsets(self):
        """A beat of offsets stands before each row."""
        m, granules = self._m, self._granules
        m.d.comb += granules.beat_end.eq(1)
        with m.If(granules.move):
            m.d.comb += self._after.eq(self._kinds.EMBED)

    # -- records

    def _has_vectors(self):
        """The record that is being received has vectors."""
        vectored = Signal(name="vectored")
        of_layer = Const(1) if self._params.block.final_vectors else ~self._run.of_final
        with_vectors = [i for i, count in enumerate(self._vectors) if count]
        self._m.d.comb += vectored.eq(of_layer & is_one_of(self._run.norm, with_vectors))
        return vectored

    def _record(self):
        """Its exponents."""
        m, granules = self._m, self._granules
        m.d.comb += granules.beat_end.eq(granules.beat_full)
        m.d.sync += self._left.eq(self._run.tiles)
        with m.If(granules.move):
            granules.count_words()
            with m.If(granules.words_end):
                m.d.comb += self._after.eq(self._kinds.GAINS)

    def _gains(self):
        """Vectors go on in the same beat."""
        m, granules, part = self._m, self._granules, self._granules.part
        gains_end = granules.part_end & ~self._vectored if any(self._vectors) else granules.part_end
        m.d.comb += granules.beat_end.eq(gains_end | granules.beat_full)
        with m.If(granules.move):
            m.d.sync += part.eq(part + 1)
            with m.If(granules.part_end):
                m.d.sync += part.eq(0)
                if not any(self._vectors):
                    self._close_record()
                else:
                    with m.If(self._vectored):
                        m.d.comb += self._after.eq(self._kinds.VECTORS)
                    with m.Else():
                        self._close_record()

    def _vector_granules(self):
        m, granules, part = self._m, self._granules, self._granules.part
        vectors_end = Signal()
        last_part = Array(max(1, count) - 1 for count in self._vectors)[self._run.norm]
        m.d.comb += [vectors_end.eq(part == last_part), granules.beat_end.eq(vectors_end | granules.beat_full)]
        with m.If(granules.move):
            m.d.sync += part.eq(part + 1)
            with m.If(vectors_end):
                m.d.sync += part.eq(0)
                self._close_record()

    def _close_record(self):
        """Behind a record come tiles, or, where its norm is followed by another one, a record; or nothing."""
        m, run, after, kinds, alternating = self._m, self._run, self._after, self._kinds, self._params.halves == 2
        if run.empty is None:
            m.d.comb += after.eq(kinds.TILES)
            if alternating:
                m.d.comb += run.step.eq(1)
            return
        with m.If(run.empty):
            m.d.comb += [run.step.eq(1), after.eq(kinds.RECORD)]
            with m.If(run.over):
                m.d.comb += [after.eq(kinds.HEADER), self._current.finish.eq(1)]
        with m.Else():
            m.d.comb += [after.eq(kinds.TILES), run.step.eq(alternating)]

    # -- tiles

    def _connect_tiles(self):
        """The way of beats: granules, and tiles if there are any."""
        if self._params.wired:
            self._m.d.comb += self._ports.beats.ready.eq(self._granules.ready)
        elif self._read:
            self._read_tiles()
        else:
            self._join_beats()

    def _read_tiles(self):
        """A `TileReader` makes tiles of beats."""
        m, params, ports = self._m, self._params, self._ports
        m.submodules.reader = reader = TileReader(
            tilings=params.tilings, weight=params.weight, lanes=params.lanes, columns=params.columns,
            largest_block=params.largest_block)
        m.d.comb += [reader.beats.valid.eq(ports.beats.valid & self._in_tiles),
                     reader.beats.payload.eq(ports.beats.payload),
                     ports.beats.ready.eq(Mux(self._in_tiles, reader.beats.ready, self._granules.ready))]
        connect(m, reader.tile, flipped(ports.tile))
        name_matrix(m, params, self._run, reader)

    def _take_tiles(self):
        """... which leave when they are ready."""
        with self._m.If(self._ports.tile.valid & self._ports.tile.ready):
            self._count_tile()

    def _join_beats(self):
        """A tile is its last beat, as it comes, beside the beats before it, which are kept."""
        m, beats, ports = self._m, self._params.tile_beats, self._ports
        self._beat = Signal(range(beats), name="beat")
        self._last_beat = self._beat == beats - 1
        self._kept = [Signal(len(ports.beats.payload), name=f"kept{i}", reset_less=True) for i in range(beats - 1)]
        # for itself: what follows from it does not wait for the other sections' ready
        self._tile_ready = ports.tile.ready | ~self._last_beat
        m.d.comb += [ports.tile.payload.eq(Cat(*self._kept, ports.beats.payload)),
                     ports.beats.ready.eq(Mux(self._in_tiles, self._tile_ready, self._granules.ready))]

    def _keep_beats(self):
        """... until the last one comes."""
        m, beats, beat = self._m, self._ports.beats, self._beat
        m.d.comb += self._ports.tile.valid.eq(beats.valid & self._last_beat)
        with m.If(beats.valid & self._tile_ready):
            with m.Switch(beat):
                for i, register in enumerate(self._kept):
                    with m.Case(i):
                        m.d.sync += register.eq(beats.payload)
            m.d.sync += beat.eq(beat + 1)
            with m.If(self._last_beat):
                self._count_tile()

    def _count_tile(self):
        """A tile leaves; the run's last one ends it, and maybe the pass."""
        m, run, left = self._m, self._run, self._left
        m.d.sync += left.eq(left - 1)
        with m.If(left == 0):
            m.d.comb += run.step.eq(1)
            if self._params.halves == 2:
                m.d.sync += left.eq(run.tiles)
            with m.If(run.record):
                m.d.comb += self._after.eq(self._kinds.RECORD)
            with m.If(run.over):
                m.d.comb += self._after.eq(self._kinds.HEADER)
                m.d.comb += self._current.finish.eq(1)
