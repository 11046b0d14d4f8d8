"""Granules of sums, to which those of another stream are added while that is wanted."""
from amaranth.hdl import Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .skid import SkidRegister

__all__ = ["AddedSums"]


class AddedSums(wiring.Component):
    """What an adapter adds, in the sums of a matrix that is logic: those of its B come from the array, granule for
    granule. A granule leaves a cycle after it, and where ``both``, its part are there; one per cycle.

    Parameters
    ----------
    base, more : ShapeLike      `result_layout` of what has the matrix as logic, and of the array

    Members
    -------
    both : In(1)                granules have a part in ``more``
    base, more : In(stream)     of the matrix, of B
    o : Out(stream)             ``more``'s layout: ``base`` with the sum of both
    """

    def __init__(self, base, more):
        self._fields = [name for name, _ in base if name != "acc"]
        self._layout = more
        super().__init__({"both": In(1), "base": In(stream.Signature(base)), "more": In(stream.Signature(more)),
                          "o": Out(stream.Signature(more))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.results = results = SkidRegister(self._layout)
        connect(m, results.o, flipped(self.o))
        base, more, both, i = self.base, self.more, self.both, results.i
        m.d.comb += [i.valid.eq(base.valid & (~both | more.valid)), base.ready.eq(i.ready & (~both | more.valid)),
                     more.ready.eq(i.ready & both & base.valid)]
        m.d.comb += [i.p[name].eq(base.p[name]) for name in self._fields]
        m.d.comb += [total.eq(of_base + Mux(both, of_more, 0))
                     for total, of_base, of_more in zip(i.p.acc, base.p.acc, more.p.acc)]
        return m
