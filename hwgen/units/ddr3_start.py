"""The start-up of a memory whose reads must be levelled, without a CPU."""
from enum import IntEnum

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..params.dram import CheckStep, LaneStep

__all__ = ["Ddr3Start"]


class _Part(IntEnum):
    """The lists of a `StartPlan`, in the order in which they are kept."""
    FIRST = 0
    RESET = 1
    DELAY = 2
    BITSLIP = 3
    TEST = 4
    LAST = 5
    FAILURE = 6


class Ddr3Start(wiring.Component):
    """A Wishbone master that plays a `StartPlan` once, from the reset on: it writes registers with pauses, tries each
    lane of data at all of its bitslips and delays, and sets it to the middle of the longest run of delays that work.

    What is written is LiteDRAM's: its generator's `sdram_phy.h`, and the read levelling of LiteX's `liblitedram`
    (sdram.c). A step is offered until it is acknowledged; one cycle and its pause later the next is. Behind a list
    comes a cycle in which the next list is chosen. A step that is refused ends it. `golden.ddr3_start` has the cycles.

    Parameters
    ----------
    plan : StartPlan        addresses are of whole words of 4 bytes
    table : bool            steps are in a memory, which takes a cycle more to look one up; else they are logic, as deep
        as there are steps

    Members
    -------
    wb_adr : Out(30)        of a word, as the Wishbone of LiteX has it
    wb_dat_w : Out(32)
    wb_dat_r : In(32)
    wb_cyc, wb_stb : Out(1)             both the same: a step is offered
    wb_we : Out(1)          it is a write
    wb_ack, wb_err : In(1)  it is done; it is refused
    ready, failed : Out(1)  levels

    Raises
    ------
    ValueError              for an empty list, an address within a word, or counts that are no powers of two
    """

    def __init__(self, plan, *, table=False):
        self._plan, self._table = plan, table
        self._parts = [getattr(plan, part.name.lower()) for part in _Part]
        for part, steps in zip(_Part, self._parts, strict=True):
            if not steps:
                raise ValueError(f"Start-up must have at least one step of each kind, not none in {part.name.lower()}")
            for step in steps:
                if step.address % 4:
                    raise ValueError(f"Address of a start-up step must be a multiple of 4, not {step.address:#x}")
        for name in ("bitslips", "delays"):
            count = getattr(plan, name)
            if count < 2 or count & count - 1:
                raise ValueError(f"Number of {name} must be a power of two from 2 on, not {count}: they wrap")
        self._starts = [sum(map(len, self._parts[:part])) for part in _Part]
        super().__init__({"wb_adr": Out(30), "wb_dat_w": Out(32), "wb_dat_r": In(32), "wb_cyc": Out(1),
                          "wb_stb": Out(1), "wb_we": Out(1), "wb_ack": In(1), "wb_err": In(1),
                          "ready": Out(1), "failed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        steps = [step for part in self._parts for step in part]
        masks = sorted({step.masks for step in steps if isinstance(step, CheckStep)})
        index, ended, fine = Signal(range(len(steps) + 1)), Signal(), Signal(init=1)
        lane = Signal(range(self._plan.lanes))
        left = Signal(range(max(step.wait for step in steps) + 1))      # cycles of the pause
        # of the step that is offered: its pause; it writes the lane's bit, reads (with which masks), ends its list
        pause, data = Signal(left.shape(), reset_less=True), Signal(32, reset_less=True)
        of_lane, check, which, last = Signal(), Signal(), Signal(range(len(masks))), Signal()
        mask = Array(Array(Const(word, 32) for word in each)[lane] for each in masks)[which]
        m.d.comb += [self.wb_stb.eq(self.wb_cyc), self.wb_we.eq(self.wb_cyc & ~check),
                     self.wb_dat_w.eq(Mux(of_lane, Const(1, self._plan.lanes) << lane, data))]
        with m.If(self.wb_cyc):
            with m.If(self.wb_ack | self.wb_err):
                m.d.sync += [self.wb_cyc.eq(0), index.eq(index + 1), left.eq(pause), ended.eq(last),
                             self.failed.eq(self.wb_err)]
                with m.If(check & ((self.wb_dat_r ^ data) & mask).any()):
                    m.d.sync += fine.eq(0)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Elif(ended):
            with m.If(~self.failed & ~self.ready):
                self._choose(m, index, ended, fine, lane)
        with m.Elif(~self.failed):
            ends = {start - 1 for start in self._starts} | {len(steps) - 1}
            fields = (self.wb_adr, data, pause, of_lane, check, which, last)
            values = [(step.address // 4, step.data, step.wait, isinstance(step, LaneStep), isinstance(step, CheckStep),
                       masks.index(step.masks) if isinstance(step, CheckStep) else 0, number in ends)
                      for number, step in enumerate(steps)]
            self._look_up(m, index, fields, values)
        return m

    def _look_up(self, m, index, fields, values):
        """Offer the step of that index, in the next cycle or the one behind it."""
        if self._table:
            widths = [len(field) for field in fields]
            words = [sum(int(value) << sum(widths[:k]) for k, value in enumerate(each)) for each in values]
            m.submodules.table = table = Memory(shape=sum(widths), depth=len(words), init=words)
            port, looked = table.read_port(), Signal()
            m.d.comb += port.addr.eq(index)
            m.d.sync += looked.eq(~looked)
            with m.If(looked):
                m.d.sync += [self.wb_cyc.eq(1), Cat(fields).eq(port.data)]
            return
        m.d.sync += self.wb_cyc.eq(1)
        with m.Switch(index):
            for number, each in enumerate(values):
                with m.Case(number):
                    m.d.sync += [field.eq(int(value)) for field, value in zip(fields, each, strict=True)]

    def _choose(self, m, index, ended, fine, lane):
        """The list behind the one that has ended."""
        plan = self._plan
        part, setting = Signal(_Part), Signal()             # of each place, or at the one that was found
        bitslip, delay = Signal(range(plan.bitslips)), Signal(range(plan.delays))
        run, longest = (Signal(range(plan.delays + 1)) for _ in range(2))
        its_bitslip, its_end = Signal.like(bitslip), Signal.like(delay)     # of the longest run
        attempt = Signal(range(plan.tries))

        def play(new):
            return [index.eq(self._starts[new]), part.eq(new), ended.eq(0)]

        def begin(set_it):
            return [*play(_Part.RESET), setting.eq(set_it), bitslip.eq(0), delay.eq(0), run.eq(0)]

        with m.Switch(part):
            with m.Case(_Part.FIRST):
                m.d.sync += begin(0)
            with m.Case(_Part.TEST):
                m.d.sync += fine.eq(1)
                with m.If(~setting):
                    m.d.sync += play(_Part.DELAY)
                    m.d.sync += run.eq(Mux(fine, run + 1, 0))
                    with m.If(fine & (run >= longest)):
                        m.d.sync += [longest.eq(run + 1), its_bitslip.eq(bitslip), its_end.eq(delay)]
                with m.Elif(fine):
                    m.d.sync += [*begin(0), lane.eq(lane + 1), longest.eq(0), attempt.eq(0)]
                    with m.If(lane == plan.lanes - 1):
                        m.d.sync += [*play(_Part.LAST), lane.eq(0)]
                with m.Elif(attempt == plan.tries - 1):
                    m.d.sync += play(_Part.FAILURE)
                with m.Else():
                    m.d.sync += [*begin(1), attempt.eq(attempt + 1)]
            with m.Case(_Part.LAST):
                m.d.sync += self.ready.eq(1)
            with m.Case(_Part.FAILURE):
                m.d.sync += self.failed.eq(1)
            with m.Default():       # a place is reached, or half of the way to it
                wanted = Signal.like(delay)
                m.d.comb += wanted.eq(its_end - (longest >> 1))
                with m.If(setting):
                    with m.If(bitslip != its_bitslip):
                        m.d.sync += [*play(_Part.BITSLIP), bitslip.eq(bitslip + 1)]
                    with m.Elif(delay != wanted):
                        m.d.sync += [*play(_Part.DELAY), delay.eq(delay + 1)]
                    with m.Else():
                        m.d.sync += play(_Part.TEST)
                with m.Elif((part == _Part.DELAY) & (delay == plan.delays - 1)):
                    m.d.sync += [*play(_Part.BITSLIP), delay.eq(0), run.eq(0)]
                with m.Elif((part == _Part.BITSLIP) & (bitslip == plan.bitslips - 1)):
                    m.d.sync += begin(1)
                    with m.If(longest == 0):
                        m.d.sync += play(_Part.FAILURE)
                with m.Else():
                    m.d.sync += play(_Part.TEST)
                    with m.If(part == _Part.DELAY):
                        m.d.sync += delay.eq(delay + 1)
                    with m.If(part == _Part.BITSLIP):
                        m.d.sync += bitslip.eq(bitslip + 1)
