"""AXI4 from the clock of a master to another one of a memory."""
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import AsyncFFSynchronizer, FFSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

from ..lib.axi import read_master, write_master

__all__ = ["AxiCrossing", "CHANNELS", "RESET_CYCLES"]

_REQUEST = ("id", "addr", "len", "size", "burst")
#: {channel: (fields of a beat, whether it goes from the master to the memory)}.
CHANNELS = {"aw": (_REQUEST, True), "w": (("data", "strb", "last"), True), "b": (("id", "resp"), False),
            "ar": (_REQUEST, True), "r": (("id", "data", "resp", "last"), False)}
#: Cycles of both clocks that a reset lasts at least: a queue's counts need some of both to become 0 on both sides.
RESET_CYCLES = 8


class AxiCrossing(wiring.Component):
    """An AXI4 slave on one clock that is a master on another; any two clocks.

    Each channel has a queue (`amaranth.lib.fifo.AsyncFIFO`). A beat that is given in a cycle can be taken behind the
    second edge of the other clock that follows, and its place is free again behind the second edge back. Beats of a
    channel keep their order; those of different channels may get another one, as AXI allows. With 8 places or more a
    channel carries a beat in each cycle of the slower clock. `golden.axi_crossing` has the cycles.

    A reset of either side empties all, on both. It lasts `RESET_CYCLES` of both clocks at least; meanwhile nothing is
    taken and nothing offered. Whoever resets one side alone while bursts are under way loses these: the other side
    must be reset too.

    Parameters
    ----------
    axi : AxiShape          widths
    words, requests : int   places of the channels with data, and of the others: powers of two, 4 or more

    Members
    -------
    clk, rst                of the master's side
    m_clk, m_rst : In(1)    of the memory's
    s_axi_*, m_axi_*        AXI4 without lock, cache, prot and qos, which no memory of a board has
    m_status : In(2)        levels of the memory's clock; a register takes them first, for they may have glitches
    status : Out(2)         the same behind the second edge of the master's clock that follows

    Raises
    ------
    ValueError              for a queue of another depth
    """

    def __init__(self, axi, *, words=16, requests=8):
        for depth in (words, requests):
            if depth < 4 or depth & (depth - 1):
                raise ValueError(f"Depth of a crossing must be a power of two, 4 or more, not {depth}")
        self._depth = {name: words if "data" in fields else requests for name, (fields, _) in CHANNELS.items()}
        master = {**write_master(axi, ""), **read_master(axi, "")}
        names = [f"{channel}{field}" for channel, (fields, _) in CHANNELS.items()
                 for field in (*fields, "valid", "ready")]
        super().__init__({"m_clk": In(1), "m_rst": In(1), "m_status": In(2), "status": Out(2),
                          **{f"m_axi_{name}": master[name] for name in names},
                          **{f"s_axi_{name}": master[name].flip() for name in names}})

    def _domains(self, m):
        """Domains "near" and "far", which each side's reset resets, long enough."""
        m.domains += [ClockDomain(name, local=True) for name in ("near", "far")]
        m.d.comb += [ClockSignal("near").eq(ClockSignal()), ClockSignal("far").eq(self.m_clk)]
        asked, long = Signal(), Signal()
        counted = {name: Signal(name=f"{name}_counted") for name in ("near", "far")}
        m.d.comb += [asked.eq(ResetSignal() | self.m_rst), long.eq(asked | counted["near"] | counted["far"])]
        for name, still in counted.items():
            m.submodules[f"{name}_counts"] = AsyncFFSynchronizer(asked, still, o_domain=name, stages=RESET_CYCLES)
            m.submodules[f"{name}_resets"] = AsyncFFSynchronizer(long, ResetSignal(name), o_domain=name)

    def elaborate(self, platform):
        m = Module()
        self._domains(m)
        for channel, (fields, forward) in CHANNELS.items():
            giver, taker = ("s_axi_", "m_axi_") if forward else ("m_axi_", "s_axi_")
            of, to = ("near", "far") if forward else ("far", "near")
            given, taken = (Cat(getattr(self, f"{side}{channel}{field}") for field in fields)
                            for side in (giver, taker))
            queue = AsyncFIFO(width=len(given), depth=self._depth[channel], w_domain=of, r_domain=to)
            m.submodules[channel] = queue
            ready = getattr(self, f"{giver}{channel}ready")
            m.d.comb += [queue.w_data.eq(given), ready.eq(queue.w_rdy & ~ResetSignal(of)),
                         queue.w_en.eq(getattr(self, f"{giver}{channel}valid") & ready),
                         taken.eq(queue.r_data), getattr(self, f"{taker}{channel}valid").eq(queue.r_rdy),
                         queue.r_en.eq(getattr(self, f"{taker}{channel}ready"))]
        told = Signal(2)
        m.d.far += told.eq(self.m_status)
        m.submodules.levels = FFSynchronizer(told, self.status, o_domain="near")
        return m
