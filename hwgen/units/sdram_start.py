"""The start-up of a memory without a CPU."""
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SdramStart"]


class SdramStart(wiring.Component):
    """A Wishbone master that writes a list of registers once, from the reset on, with pauses, as software would to
    start a memory controller.

    A write is offered until it is acknowledged; one cycle and its pause later the next is. ``ready`` follows the last
    one's pause. A
    write that is refused ends it: ``failed``. `golden.sdram_start` has the cycles.

    Parameters
    ----------
    steps : [StartStep]     at least one; addresses are of whole words of 4 bytes

    Members
    -------
    wb_adr : Out(30)        of a word, as the Wishbone of LiteX has it
    wb_dat_w : Out(32)
    wb_cyc, wb_stb, wb_we : Out(1)      all the same: a write is offered
    wb_ack, wb_err : In(1)  it is done; it is refused
    ready, failed : Out(1)  levels

    Raises
    ------
    ValueError              for no steps, or an address within a word
    """

    def __init__(self, steps):
        self._steps = tuple(steps)
        if not self._steps:
            raise ValueError("Start-up must have at least one step, not none")
        for step in self._steps:
            if step.address % 4:
                raise ValueError(f"Address of a start-up step must be a multiple of 4, not {step.address:#x}")
        super().__init__({"wb_adr": Out(30), "wb_dat_w": Out(32), "wb_cyc": Out(1), "wb_stb": Out(1), "wb_we": Out(1),
                          "wb_ack": In(1),
                          "wb_err": In(1),
                          "ready": Out(1), "failed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        steps = self._steps
        index = Signal(range(len(steps) + 1))
        left = Signal(range(max(step.wait for step in steps) + 1))      # cycles of the pause
        pause = Signal(left.shape(), reset_less=True)                   # behind the step that is offered
        m.d.comb += [self.wb_stb.eq(self.wb_cyc), self.wb_we.eq(self.wb_cyc),
                     self.ready.eq((index == len(steps)) & (left == 0) & ~self.failed)]
        with m.If(self.wb_cyc):
            with m.If(self.wb_ack | self.wb_err):
                m.d.sync += [self.wb_cyc.eq(0), index.eq(index + 1), left.eq(pause), self.failed.eq(self.wb_err)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Elif(~self.failed & (index != len(steps))):
            m.d.sync += self.wb_cyc.eq(1)
            with m.Switch(index):
                for number, step in enumerate(steps):
                    with m.Case(number):
                        m.d.sync += [self.wb_adr.eq(step.address // 4), self.wb_dat_w.eq(step.data),
                                     pause.eq(step.wait)]
        return m
