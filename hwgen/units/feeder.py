"""Asks for the slices of activations that the tiles of a matrix want, in order."""
from dataclasses import replace

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.layouts import meta_layout
from ..lib.steps import matrices

__all__ = ["Feeder", "feeder_ports"]


def feeder_ports(design):
    """Members of a feeder: see `Feeder`."""
    entries, k_tiles = design.hw.entries, max(x.k_tiles for x in (*design.layer_matmuls, design.head_matmul))
    return {"cmd": In(stream.Signature(data.StructLayout({"matrix": matrices(design.block), "n": range(entries + 1)}))),
            "o": Out(stream.Signature(data.StructLayout({"row": range(entries), "part": range(k_tiles), "meta": meta_layout(design)})))}


class Feeder(wiring.Component):
    """Addresses of the activations of one matrix and ``n`` entries: for each n-tile, k-tile, code (hi, lo) and entry. Of a matrix that is
    logic: for each k-tile.

    Row ``entry`` and part ``k-tile`` of the vector buffer that holds the matrix's input. The first request is offered the
    cycle after the command was taken, then one per cycle; the next command is taken after the last request.
    ``n`` is at least 1.

    Parameters
    ----------
    design : Design

    Members
    -------
    cmd : In(stream)    {matrix, n}: of `hwgen.lib.steps.matrices`, number of entries
    o : Out(stream)     {row, part, meta}, for `VectorBuffer.r`; ``meta`` is `meta_layout`
    """

    def __init__(self, design):
        self._design = design
        Matrix = matrices(design.block)
        matmuls = (*design.layer_matmuls, design.head_matmul)
        if design.hw.wired:     # each slice once
            matmuls = [replace(matmul, n_tiles=1, codes=1) for matmul in matmuls]
        self._matmuls = dict(zip(Matrix, matmuls))
        super().__init__(feeder_ports(design))

    def elaborate(self, platform):
        m = Module()
        o, cmd = self.o.payload, self.cmd.payload
        matmuls = self._matmuls.values()

        # What is left of each loop; all count down to 0, so that an end is a comparison with 0.
        busy = Signal()
        matrix = Signal(matrices(self._design.block))
        n_left = Signal(range(max(x.n_tiles for x in matmuls)), reset_less=True)
        k_left = Signal(range(max(x.k_tiles for x in matmuls)), reset_less=True)
        codes_left = Signal(range(max(x.codes for x in matmuls)), reset_less=True)
        top_entry = Signal(range(self._design.hw.entries), reset_less=True)     # n - 1
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
            o.meta.first.eq(first), o.meta.last.eq((k_left == 0) & (codes_left == 0)), o.meta.tile_end.eq(entry == top_entry)]
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
