"""Counters of events, for whoever wants to know what kept the machine busy."""
from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]


class Counters(wiring.Component):
    """Counts the cycles in which each of N events is high, modulo 2**width.

    ``data`` is in cycle c + 1 the count of event ``address`` (of cycle c) since the last ``clear``: of the cycles after
    that of the clear and before c. Reading disturbs nothing; every cycle may read and every event be high.

    Each event has a counter of few bits, and in turn, every N cycles, it is added to a memory's row by the only wide
    adder but the one of ``data``: half the logic of N wide counters, and a quarter of their flip-flops.

    Parameters
    ----------
    names : list of str     the events
    width : int             bits of a count

    Members
    -------
    events : In             a bit for each name
    clear : In(1)           all counts are 0 after this cycle
    address : In            number of the event to read, in the order of the names
    data : Out(width)       its count, one cycle later
    """

    def __init__(self, names, width=32):
        self._names = list(names)
        if not self._names:
            raise ValueError("Event names must be at least one, not none")
        self._width = width
        super().__init__({"events": In(StructLayout(dict.fromkeys(self._names, 1))), "clear": In(1),
                          "address": In(range(len(self._names))), "data": Out(width)})

    def elaborate(self, platform):
        m = Module()
        n = len(self._names)
        events = [self.events[name] for name in self._names]
        m.submodules.totals = totals = memory.Memory(shape=unsigned(self._width), depth=max(n, 2), init=[])
        write = totals.write_port()
        recent = Array(Signal(range(n + 1), name=f"recent_{name}") for name in self._names)
        unused = Signal(n, init=-1)                 # rows of the memory that stand for 0

        def total(address, name):
            port = totals.read_port(domain="comb")
            value = Signal(self._width, name=name)
            m.d.comb += [port.addr.eq(address),
                         value.eq(Mux(unused.bit_select(address, 1), 0, port.data) + recent[address])]
            return value

        turn = Signal(range(n))
        m.d.sync += [turn.eq(Mux(turn == n - 1, 0, turn + 1)), self.data.eq(total(self.address, "read"))]
        m.d.comb += [write.addr.eq(turn), write.data.eq(total(turn, "folded")), write.en.eq(1)]
        for i, (event, few) in enumerate(zip(events, recent)):
            mine = turn == i
            m.d.sync += few.eq(Mux(mine, 0, few) + event)
            with m.If(mine):
                m.d.sync += unused[i].eq(0)
        with m.If(self.clear):
            m.d.sync += [unused.eq(-1), Cat(recent).eq(0)]
        return m
