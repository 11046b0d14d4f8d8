"""Small units that the tests of the runner itself are made of."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen.lib.verilog import shared


def layout(lanes):
    """Payload of the examples: a signed tag and an array of bytes."""
    return data.StructLayout({"tag": signed(4), "lanes": data.ArrayLayout(8, lanes)})


class StreamRegister(wiring.Component):
    """One pipeline register. ``broken`` plants a fault: "value" corrupts one in four, "hold" drops a stalled offer,
    "lane" inverts a bit of the last lane, "deaf" takes nothing."""

    def __init__(self, lanes, *, broken=None):
        self._broken = broken
        super().__init__({"i": In(stream.Signature(layout(lanes))), "o": Out(stream.Signature(layout(lanes)))})

    def elaborate(self, platform):
        m = Module()
        if self._broken != "deaf":
            m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
        if self._broken == "value":
            count = Signal(2)
            with m.If(self.i.ready & self.i.valid):
                m.d.sync += count.eq(count + 1)
                with m.If(count == 3):
                    m.d.sync += self.o.payload.tag.eq(~self.i.payload.tag)
        if self._broken == "lane":
            with m.If(self.i.ready):
                m.d.sync += self.o.payload.lanes[-1][5].eq(~self.i.payload.lanes[-1][5])
        if self._broken == "hold":
            with m.If(self.o.valid):
                m.d.sync += self.o.valid.eq(0)
        return m


class Pair(wiring.Component):
    """Two registers in a row, written once."""

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({"i": In(stream.Signature(layout(lanes))), "o": Out(stream.Signature(layout(lanes)))})

    def elaborate(self, platform):
        m = Module()
        first, second = StreamRegister(self._lanes), StreamRegister(self._lanes)
        m.submodules.first = shared(first, f"register_{self._lanes}")
        m.submodules.second = shared(second, f"register_{self._lanes}")
        connect(m, flipped(self.i), first.i)
        connect(m, first.o, second.i)
        connect(m, second.o, flipped(self.o))
        return m


class Quad(wiring.Component):
    """Two pairs in a row: shared parts that have shared parts."""

    def __init__(self, lanes):
        self._lanes = lanes
        super().__init__({"i": In(stream.Signature(layout(lanes))), "o": Out(stream.Signature(layout(lanes)))})

    def elaborate(self, platform):
        m = Module()
        first, second = Pair(self._lanes), Pair(self._lanes)
        m.submodules.first = shared(first, f"pair_{self._lanes}")
        m.submodules.second = shared(second, f"pair_{self._lanes}")
        connect(m, flipped(self.i), first.i)
        connect(m, first.o, second.i)
        connect(m, second.o, flipped(self.o))
        return m
