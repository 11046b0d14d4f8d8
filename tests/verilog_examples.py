"""Components with some of all that Yosys writes, for the tests of the text that is made of it."""
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.skid import Skid


class State(enum.Enum, shape=2):
    IDLE = 0
    BUSY = 1
    LATE = 2


class Machine(wiring.Component):
    """Some of all that Yosys writes. And more."""
    b: In(data.StructLayout({"low": 4, "high": data.ArrayLayout(2, 3)}))
    a: In(stream.Signature(4))
    out: Out(4)
    state: Out(State)

    def elaborate(self, platform):
        m = Module()
        m.submodules.skid = skid = Skid(4)
        m.submodules.rows = rows = memory.Memory(shape=4, depth=4, init=[])
        read, write = rows.read_port(), rows.write_port()
        state, count, final = Signal(State, name="mode"), Signal(4, name="count"), Signal(4, name="final")
        m.d.comb += [skid.i.valid.eq(self.a.valid & ~self.b.low[0] & (count == 3)),
                     skid.i.payload.eq(Cat(count[:2], self.a.payload[:2])),
                     self.a.ready.eq(skid.i.ready), skid.o.ready.eq(self.b.low[1]), write.en.eq(skid.o.valid),
                     write.data.eq(skid.o.payload),
                     self.state.eq(state), final.eq(count + 1), self.out.eq(read.data ^ final)]
        with m.Switch(state):
            with m.Case(State.IDLE):
                with m.If(self.a.valid & self.a.ready):
                    m.d.sync += [count.eq(count + 1), state.eq(State.BUSY)]
            with m.Case(State.BUSY):
                pass
            with m.Default():
                m.d.sync += state.eq(State.IDLE)
        return m


class Aside(wiring.Component):
    """A register that follows a port, and a case of 32 bits in which nothing happens."""
    a: In(1)
    b: In(32)
    out: Out(32)
    last: Out(32)

    def elaborate(self, platform):
        m = Module()
        last = Signal(32, name="last_out", reset_less=True)
        with m.If(self.a):
            m.d.comb += self.out.eq(self.b)
        m.d.sync += last.eq(self.out)
        with m.Switch(self.b):
            with m.Case(5):
                pass
            with m.Case("-" * 29 + "1-1"):
                m.d.comb += self.last.eq(last)
        return m
