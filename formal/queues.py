"""Skids, and the queue of Amaranth's that units use."""
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hwgen.lib.skid import Skid, SkidRegister

from .broken import Break
from .harness import Harness
from .proofs import Proof
from .stream import gives, queues, takes

__all__ = ["PROOFS"]


class Queue(wiring.Component):
    """`SyncFIFO` between two streams."""

    def __init__(self, width, depth):
        self._width, self._depth = width, depth
        super().__init__({"i": In(stream.Signature(width)), "o": Out(stream.Signature(width))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = SyncFIFO(width=self._width, depth=self._depth)
        m.d.comb += [fifo.w_data.eq(self.i.payload), fifo.w_en.eq(self.i.valid), self.i.ready.eq(fifo.w_rdy),
                     self.o.payload.eq(fifo.r_data), self.o.valid.eq(fifo.r_rdy), fifo.r_en.eq(self.o.ready)]
        return m


def _harness(unit, capacity, latency):
    h = Harness(unit)
    takes(h, unit.i)
    gives(h, unit.o, "o")
    queues(h, unit.i, unit.o, capacity, latency)
    return h


_FULL, _KEPT = "full.eq(self.o.valid & ~self.o.ready)", "kept.eq(self.i.payload)"
_SKID = {
    "o_withdrawn": Break(Skid, _FULL, "full.eq(0)"),
    "o_changed": Break(Skid, "with m.If(~full):", "with m.If(1):"),
    "invented": Break(Skid, _FULL, "full.eq(self.o.valid)"),
    "overfull": Break(Skid, "self.i.ready.eq(~full)", "self.i.ready.eq(1)"),
    "altered": Break(Skid, _KEPT, "kept.eq(self.i.payload ^ 1)"),
    "hidden": Break(Skid, _FULL, "full.eq(0)"),
    "refused": Break(Skid, "self.i.ready.eq(~full)", "self.i.ready.eq(~full & self.o.ready)"),
}
_REGISTER = {
    "o_withdrawn": Break(SkidRegister, "with m.If(skid.o.ready):", "with m.If(1):"),
    "o_changed": Break(SkidRegister, "payload.eq(skid.o.payload)]",
                       "payload.eq(skid.o.payload)]\n        m.d.sync += payload[0].eq(self.i.payload[0])"),
    "invented": Break(SkidRegister, "self.o.valid.eq(skid.o.valid)", "self.o.valid.eq(1)"),
    "overfull": Break(SkidRegister, "skid.o.ready.eq(~self.o.valid | self.o.ready)", "skid.o.ready.eq(1)"),
    "altered": Break(SkidRegister, "payload.eq(skid.o.payload)]", "payload.eq(self.i.payload)]"),
    "hidden": Break(SkidRegister, "self.o.valid.eq(skid.o.valid)", "self.o.valid.eq(self.i.valid)"),
    "refused": Break(SkidRegister, "skid.o.ready.eq(~self.o.valid | self.o.ready)", "skid.o.ready.eq(self.o.ready)"),
}
_QUEUE = {
    "o_withdrawn": Break(SyncFIFO, "self.r_rdy.eq(self.level != 0)", "self.r_rdy.eq((self.level != 0) & ~self.w_en)"),
    "o_changed": Break(SyncFIFO, "with m.If(do_read):", "with m.If(self.r_rdy):"),
    "invented": Break(SyncFIFO, "self.r_rdy.eq(self.level != 0)", "self.r_rdy.eq(1)"),
    "overfull": Break(SyncFIFO, "self.w_rdy.eq(self.level != self.depth)", "self.w_rdy.eq(1)"),
    "altered": Break(SyncFIFO, "w_port.addr.eq(produce)", "w_port.addr.eq(0)"),
    "hidden": Break(SyncFIFO, "self.r_rdy.eq(self.level != 0)", "self.r_rdy.eq(self.level > 1)"),
    "refused": Break(SyncFIFO, "self.w_rdy.eq(self.level != self.depth)", "self.w_rdy.eq(self.level < self.depth - 1)"),
}

PROOFS = [
    Proof("Skid", "8 bits", lambda: _harness(Skid(8), 1, 0), breaks=_SKID, quick=True),
    *(Proof("Skid", f"{width} bits", lambda width=width: _harness(Skid(width), 1, 0)) for width in (1, 33)),
    Proof("SkidRegister", "8 bits", lambda: _harness(SkidRegister(8), 2, 1), breaks=_REGISTER, quick=True),
    *(Proof("SkidRegister", f"{width} bits", lambda width=width: _harness(SkidRegister(width), 2, 1))
      for width in (1, 33)),
    Proof("SyncFIFO", "3 of 4 bits", lambda: _harness(Queue(4, 3), 3, 1), breaks=_QUEUE, quick=True),
    *(Proof("SyncFIFO", f"{depth} of {width} bits",
            lambda depth=depth, width=width: _harness(Queue(width, depth), depth, 1))
      for depth, width in ((1, 3), (2, 8), (4, 5), (6, 2))),
]
