"""Asks for the slices of activations that the tiles of a matrix want, in order."""
from dataclasses import replace

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.layouts import meta_layout, runs_layout
from ..lib.pick import pick
from ..lib.steps import matrices
from ..lib.tile_order import TileSource
from ..params.phases import member
from ..params.stream import HEAD

__all__ = ["AdaptedFeeder", "Feeder", "feeder_ports"]


def feeder_ports(*, block, matmuls, entries, with_adapters=False):
    """Members of a feeder: see `Feeder`."""
    k_tiles, meta = max(matmul.k_tiles for matmul in matmuls), meta_layout(entries=entries, with_adapters=with_adapters)
    return {"cmd": In(stream.Signature(data.StructLayout({"matrix": matrices(block), "n": range(entries + 1)}))),
            "o": Out(stream.Signature(data.StructLayout({"row": range(entries), "part": range(k_tiles),
                                                         "meta": meta})))}


class Feeder(wiring.Component):
    """Addresses of the activations of one matrix and ``n`` entries: for each n-tile, k-tile, code (hi, lo) and entry.
    Of a matrix that is logic: for each k-tile.

    Row ``entry`` and part ``k-tile`` of the vector buffer that holds the matrix's input. The first request is offered
    the cycle after the command was taken, then one per cycle; the next command is taken after the last request. ``n``
    is at least 1.

    Parameters
    ----------
    block : Block
    matmuls : list[Matmul]      of `hwgen.lib.steps.matrices`, in that order
    entries : int               T
    wired : names               of the matmuls that are logic

    Members
    -------
    cmd : In(stream)    {matrix, n}: of `hwgen.lib.steps.matrices`, number of entries
    o : Out(stream)     {row, part, meta}, for `VectorBuffer.r`; ``meta`` is `meta_layout`
    """

    def __init__(self, *, block, matmuls, entries, wired=()):
        # of what is logic each slice once
        matmuls = [replace(matmul, n_tiles=1, codes=1) if matmul.name in wired else matmul for matmul in matmuls]
        self._matmuls = dict(zip(matrices(block), matmuls))
        super().__init__(feeder_ports(block=block, matmuls=matmuls, entries=entries))

    def elaborate(self, platform):
        m = Module()
        o, cmd = self.o.payload, self.cmd.payload
        matmuls = self._matmuls.values()

        # What is left of each loop; all count down to 0, so that an end is a comparison with 0.
        busy = Signal()
        matrix = Signal(cmd.matrix.shape())
        n_left = Signal(range(max(x.n_tiles for x in matmuls)), reset_less=True)
        k_left = Signal(range(max(x.k_tiles for x in matmuls)), reset_less=True)
        codes_left = Signal(range(max(x.codes for x in matmuls)), reset_less=True)
        top_entry = Signal(o.row.shape(), reset_less=True)         # n - 1
        part, entry = Signal.like(o.part, name="part"), Signal.like(top_entry, name="entry")
        first = Signal()

        def restart(of, n=False):
            with m.Switch(of):
                for key, matmul in self._matmuls.items():
                    with m.Case(key):
                        m.d.sync += [k_left.eq(matmul.k_tiles - 1), codes_left.eq(matmul.codes - 1)]
                        if n:
                            m.d.sync += n_left.eq(matmul.n_tiles - 1)
            m.d.sync += [part.eq(0), first.eq(1)]

        m.d.comb += [
            self.cmd.ready.eq(~busy), self.o.valid.eq(busy), o.row.eq(entry), o.part.eq(part), o.meta.entry.eq(entry),
            o.meta.first.eq(first), o.meta.last.eq((k_left == 0) & (codes_left == 0)),
            o.meta.tile_end.eq(entry == top_entry)]
        with m.If(self.cmd.valid & self.cmd.ready):
            restart(cmd.matrix, n=True)
            m.d.sync += [busy.eq(1), matrix.eq(cmd.matrix), top_entry.eq(cmd.n - 1), entry.eq(0)]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += entry.eq(entry + 1)
            with m.If(o.meta.tile_end):
                m.d.sync += [entry.eq(0), first.eq(0)]
                with m.If(codes_left != 0):
                    m.d.sync += codes_left.eq(codes_left - 1)
                with m.Elif(k_left != 0):
                    m.d.sync += [k_left.eq(k_left - 1), part.eq(part + 1)]
                    with m.Switch(matrix):
                        for key, matmul in self._matmuls.items():
                            with m.Case(key):
                                m.d.sync += codes_left.eq(matmul.codes - 1)
                with m.Else():
                    restart(matrix)
                    m.d.sync += n_left.eq(n_left - 1)
                    with m.If(n_left == 0):
                        m.d.sync += busy.eq(0)
        return m


class _Loops:
    """What a command is at, how often its loops run, and what is left of each: all count down to 0."""

    def __init__(self, entry, part, matmuls):
        """Registers of the shapes of ``entry`` and ``part``, for ``matmuls`` {matrix: (that of the base, of A, of
        B)}."""
        base, a, b = zip(*matmuls.values())
        a, b = ([matmul for matmul in each if matmul] for each in (a, b))
        entries = entry.shape()

        def register(name, shape):
            return Signal(shape, name=name, reset_less=True)

        self.busy = Signal(name="busy")
        self.source = register("source", TileSource)                # but for ALL
        self.adapted = register("adapted", 1)                       # of a layer's matrix, and some row has an adapter
        self.matrix = register("matrix", type(next(iter(matmuls))))
        self.k_tiles = register("k_tiles", range(max(matmul.k_tiles for matmul in base) + 1))   # of the base and of A
        self.a_tiles = register("a_tiles", range(max(matmul.n_tiles for matmul in a) + 1))      # n-tiles of A
        self.b_tiles = register("b_tiles", range(max(matmul.k_tiles for matmul in b) + 1))      # k-tiles of B
        self.codes = register("codes", range(3))
        self.n_left = register("n_left", range(max(matmul.n_tiles for matmul in base)))
        limits = self.k_tiles, self.a_tiles, self.b_tiles, self.codes
        self.k_left, self.a_left, self.b_left, self.codes_left = (
            Signal.like(limit, name=f"{limit.name}_left") for limit in limits)
        self.part = Signal.like(part, name="part")                  # of the row that is asked for
        self.run = register("run", entries)
        self.top_entry = register("top_entry", entries)             # the pass's last one
        self.entry = register("entry", entries)
        self.first = register("first", 1)                           # the tile is the first one of its sums
        # of what is logic: whether the matrix is, and the n-tiles of its B
        self.of_logic, self.of_b = Signal(name="of_logic"), Signal(self.n_left.shape(), name="of_b")


class AdaptedFeeder(wiring.Component):
    """A `Feeder` for passes in which rows have adapters: the requests of a matrix, in the order of the tiles.

    Before each first slice of A's sums it waits for `AdapterSums`. Without runs, and of the LM head, it is as the other
    one. Of a matrix that is logic come first the slices for that, then those for A's tiles, and for the B's of each
    n-tile those of A's sums.

    Parameters
    ----------
    block : Block
    matmuls : list[Matmul]                      as those of `Feeder`
    adapter_matmuls : list[(Matmul, Matmul)]    of A and B of each project, in order
    entries : int                               T
    wired : names                               of the matmuls that are logic: in a machine whose passes have one row

    Members
    -------
    cmd : In(stream), o : Out(stream)   as `Feeder`; of a request whose ``meta.z`` is set, ``part`` is one of A's sums
    runs : In, ready : In(1)            `runs_layout`; A's sums are there
    """

    def __init__(self, *, block, matmuls, adapter_matmuls, entries, wired=()):
        # {matrix: (that of the base, of A, of B)}
        self._matmuls = {matrix: (base, a, b) for matrix, base, (a, b)
                         in zip(matrices(block), matmuls, [*adapter_matmuls, (None, None)], strict=True)}
        self._head = member(matrices(block), HEAD)
        self._logic = {matrix for matrix, (base, *_) in self._matmuls.items() if base.name in wired}
        super().__init__(feeder_ports(block=block, matmuls=matmuls, entries=entries, with_adapters=True)
                         | {"runs": In(runs_layout(entries=entries)), "ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        loops = _Loops(self.o.p.row, self.o.p.part, self._matmuls)
        self._limit(m, loops)
        of_a, of_b = loops.source == TileSource.A, loops.source == TileSource.B
        end = self._request(m, loops, of_a, of_b)
        last_run = loops.run + 1 == self.runs.count
        with m.If(self.cmd.valid & self.cmd.ready):
            self._begin(m, loops)
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += loops.entry.eq(loops.entry + 1)
            with m.If(end):
                m.d.sync += loops.first.eq(0)
                with m.If(of_b):
                    self._next_tile_of_b(m, loops, last_run)
                with m.Elif(of_a):
                    self._next_tile_of_a(m, loops, last_run)
                with m.Else():
                    self._next_tile_of_base(m, loops)
        return m

    def _limit(self, m, loops):
        """How often each loop of the matrix runs."""
        with m.Switch(loops.matrix):
            for key, (w, a, b) in self._matmuls.items():
                with m.Case(key):
                    m.d.comb += [loops.k_tiles.eq(w.k_tiles), loops.codes.eq(1 if key in self._logic else w.codes)]
                    if a is not None:
                        m.d.comb += [loops.a_tiles.eq(a.n_tiles), loops.b_tiles.eq(b.k_tiles)]
                    if key in self._logic:
                        m.d.comb += [loops.of_logic.eq(1), loops.of_b.eq(w.n_tiles - 1)]

    def _request(self, m, loops, of_a, of_b):
        """The request. Returns that it is the last one of its tile."""
        o, entry, end = self.o.p, loops.entry, Signal(name="end")
        m.d.comb += [
            self.cmd.ready.eq(~loops.busy), self.o.valid.eq(loops.busy & ~(of_b & ~self.ready)), o.row.eq(entry),
            o.part.eq(loops.part), o.meta.entry.eq(entry),
            end.eq(entry == Mux(of_a | of_b, pick(self.runs.last, loops.run), loops.top_entry)),
            o.meta.tile_end.eq(end),
            o.meta.first.eq(loops.first & (~of_b | loops.of_logic if self._logic else ~of_b)),
            o.meta.last.eq(Mux(of_b, loops.of_logic & (loops.b_left == 0) if self._logic else 0,
                               (loops.k_left == 0) & (loops.codes_left == 0))), o.meta.a.eq(of_a),
            o.meta.z.eq(of_b)]
        return end

    def _row(self, m, loops, run=None):
        """To the first row of a run, or of the pass."""
        m.d.sync += loops.entry.eq(0 if run is None else pick(self.runs.first, run))

    def _begin(self, m, loops):
        """A command is taken."""
        cmd, runs = self.cmd.p, self.runs
        m.d.sync += [loops.busy.eq(1), loops.matrix.eq(cmd.matrix), loops.top_entry.eq(cmd.n - 1), loops.part.eq(0),
                     loops.first.eq(1), loops.run.eq(0)]
        uses = (runs.count != 0) & (cmd.matrix != self._head)
        m.d.sync += [loops.adapted.eq(uses), loops.source.eq(Mux(uses, TileSource.A, TileSource.MOST)),
                     loops.entry.eq(Mux(uses, runs.first[0], 0))]
        with m.Switch(cmd.matrix):
            for key, (w, a, b) in self._matmuls.items():
                with m.Case(key):
                    logic = key in self._logic
                    m.d.sync += [loops.n_left.eq(0 if logic else w.n_tiles - 1), loops.k_left.eq(w.k_tiles - 1),
                                 loops.codes_left.eq(0 if logic else w.codes - 1)]
                    if logic:       # its slices are the first
                        m.d.sync += loops.source.eq(TileSource.MOST)
                    if a is not None:
                        m.d.sync += loops.a_left.eq(a.n_tiles - 1)

    def _next_tile_of_b(self, m, loops, last_run):
        """Behind a tile of B: the run's next one, the next run's first, or the base's last."""
        self._row(m, loops, loops.run)
        m.d.sync += [loops.b_left.eq(loops.b_left - 1), loops.part.eq(loops.part + 1)]
        with m.If(loops.b_left == 0):
            self._row(m, loops, loops.run + 1)
            m.d.sync += [loops.run.eq(loops.run + 1), loops.b_left.eq(loops.b_tiles - 1), loops.part.eq(0)]
            with m.If(last_run):
                self._row(m, loops)
                m.d.sync += [loops.source.eq(TileSource.REST), loops.part.eq(loops.k_tiles - 1)]
                if self._logic:
                    with m.If(loops.of_logic):
                        self._begin_n_tile_of_b(m, loops)
                        m.d.sync += [loops.n_left.eq(loops.n_left - 1), loops.busy.eq(loops.n_left != 0)]

    def _begin_n_tile_of_b(self, m, loops):
        """To sums of B alone: the base is logic."""
        m.d.sync += [loops.source.eq(TileSource.B), loops.run.eq(0), loops.b_left.eq(loops.b_tiles - 1),
                     loops.part.eq(0), loops.first.eq(1)]

    def _next_tile_of_a(self, m, loops, last_run):
        """Behind a tile of A: the next k-tile, n-tile or run, or the base's first."""
        self._row(m, loops, loops.run)
        m.d.sync += [loops.k_left.eq(loops.k_left - 1), loops.part.eq(loops.part + 1)]
        with m.If(loops.k_left == 0):
            m.d.sync += [loops.k_left.eq(loops.k_tiles - 1), loops.part.eq(0), loops.first.eq(1),
                         loops.a_left.eq(loops.a_left - 1)]
            with m.If(loops.a_left == 0):
                self._row(m, loops, loops.run + 1)
                m.d.sync += [loops.a_left.eq(loops.a_tiles - 1), loops.run.eq(loops.run + 1)]
                with m.If(last_run):
                    self._row(m, loops)
                    m.d.sync += loops.source.eq(TileSource.MOST)
                    if self._logic:
                        with m.If(loops.of_logic):
                            self._begin_n_tile_of_b(m, loops)
                            m.d.sync += loops.n_left.eq(loops.of_b)

    def _next_tile_of_base(self, m, loops):
        """Behind a tile of the base: the next code or k-tile, the first run's B before the last k-tile, or the next
        n-tile. Behind those of a base that is logic the first of A."""
        self._row(m, loops)
        to_b = loops.adapted & (loops.k_left == 1)
        if self._logic:
            to_b &= ~loops.of_logic
        with m.If(loops.codes_left != 0):
            m.d.sync += loops.codes_left.eq(loops.codes_left - 1)
        with m.Elif(loops.k_left != 0):
            m.d.sync += [loops.k_left.eq(loops.k_left - 1), loops.part.eq(loops.part + 1),
                         loops.codes_left.eq(loops.codes - 1)]
            with m.If(to_b):
                self._row(m, loops, 0)
                m.d.sync += [loops.source.eq(TileSource.B), loops.run.eq(0), loops.b_left.eq(loops.b_tiles - 1),
                             loops.part.eq(0)]
        with m.Else():
            m.d.sync += [loops.source.eq(TileSource.MOST), loops.k_left.eq(loops.k_tiles - 1),
                         loops.codes_left.eq(loops.codes - 1), loops.part.eq(0), loops.first.eq(1),
                         loops.n_left.eq(loops.n_left - 1)]
            with m.If(loops.n_left == 0):
                m.d.sync += loops.busy.eq(0)
            if self._logic:
                with m.If(loops.adapted & loops.of_logic):
                    m.d.sync += [loops.source.eq(TileSource.A), loops.busy.eq(1)]
