"""Bench of SdramStart: each write in its cycle, whatever the bus does."""
import random

import cocotb
from cocotb.triggers import FallingEdge

from hwgen.golden import sdram_start as golden
from hwgen.params.dram import StartStep
from sim.stream_bench import bench_params, start_clock_reset, value_of

STEPS = [StartStep(**step) for step in bench_params()["steps"]]


class Bus:
    """A Wishbone slave that answers as late as it is told, and remembers what was written."""

    def __init__(self, dut, clock):
        self.dut, self.clock, self.answers, self.writes = dut, clock, [], []
        cocotb.start_soon(self._run())

    async def _run(self):
        dut, waited = self.dut, 0
        while True:
            await FallingEdge(dut.clk)      # so that it may answer in the cycle of the offer
            offered = value_of(dut.wb_cyc) and not self.clock.in_reset
            if self.clock.in_reset:
                self.writes.clear()
                waited = 0
            if not offered:
                dut.wb_ack.value = dut.wb_err.value = 0
                continue
            assert value_of(dut.wb_stb) and value_of(dut.wb_we)
            write = value_of(dut.wb_adr) * 4, value_of(dut.wb_dat_w)
            if waited == 0:
                self.writes.append((self.clock.cycle, *write))
            assert write == self.writes[-1][1:]
            late, refused = self.answers[len(self.writes) - 1]
            answers = waited == late
            dut.wb_ack.value, dut.wb_err.value = int(answers and not refused), int(answers and refused)
            waited = 0 if answers else waited + 1


async def watched(dut, clock, cycle, failed):
    """``ready`` and ``failed`` are low before ``cycle``, and one of them stays from then on."""
    while clock.cycle <= cycle + 5:
        await clock.sample()
        there = clock.cycle >= cycle
        assert (value_of(dut.ready), value_of(dut.failed)) == (there and not failed,
                                                               there and failed), f"in cycle {clock.cycle} of {cycle}"
        await clock.edge()


@cocotb.test()
@cocotb.parametrize(("most", [0, 3]))
async def starts(dut, most):
    """Again after a reset, in the middle and at the end."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {most}")
    clock = await start_clock_reset(dut)
    bus = Bus(dut, clock)
    for cut in (False, True, False):
        bus.answers = [(rng.randint(0, most), 0) for _ in STEPS]
        await clock.reset()
        writes, ready, failed = golden.start(STEPS, bus.answers)
        if cut:
            await clock.edge(ready // 2)
            continue
        await watched(dut, clock, ready, failed)
        assert bus.writes == writes


@cocotb.test()
async def refused(dut):
    """A write that is refused is the last."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bus = Bus(dut, clock)
    for last in range(len(STEPS)):
        bus.answers = [(rng.randint(0, 2), step == last) for step in range(len(STEPS))]
        await clock.reset()
        writes, cycle, failed = golden.start(STEPS, bus.answers)
        await watched(dut, clock, cycle, failed)
        assert bus.writes == writes and len(writes) == last + 1
