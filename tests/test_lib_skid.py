"""Skid buffers in Amaranth's simulator: every item once and in order, in the cycle promised, and `ready` that no
taker's `ready` reaches."""
import random

import pytest
from amaranth.sim import Simulator

from hwgen.lib.skid import Skid, SkidRegister


def simulate(dut, offers, takes):
    """(cycles in which items were taken at i, [(cycle, item)] at o) of a source and a taker that are willing in the
    cycles of two lists."""
    entered, left = [], []

    async def bench(ctx):
        item, offering = 0, False
        for cycle, (offer, take) in enumerate(zip(offers, takes)):
            offering = offering or offer                # an offer stays
            ctx.set(dut.i.valid, offering)
            ctx.set(dut.i.payload, item & 0xFF)
            before = []
            for ready in (0, 1, take):
                ctx.set(dut.o.ready, ready)
                await ctx.delay(1e-9)
                before.append(ctx.get(dut.i.ready))
            assert len(set(before)) == 1, "i.ready depends on o.ready"
            if ctx.get(dut.o.valid) and take:
                left.append((cycle, ctx.get(dut.o.payload)))
            if offering and before[0]:
                entered.append(cycle)
                item, offering = item + 1, False
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return entered, left


@pytest.mark.parametrize("make, latency", [(Skid, 0), (SkidRegister, 1)])
def test_no_item_waits_for_nothing(make, latency):
    rng = random.Random(1)
    cycles = 600
    offers = [rng.random() < (0.3, 0.9, 1.0)[c // 200] for c in range(cycles)]
    takes = [rng.random() < (0.9, 0.3, 0.7)[c // 200] for c in range(cycles)]
    entered, left = simulate(make(8), offers, takes)
    assert [item for _, item in left] == [k & 0xFF for k in range(len(left))] and len(left) > 150
    # each leaves when it may: it is there, its predecessor has gone, and the taker is willing
    before = -1
    for start, (cycle, _) in zip(entered, left):
        assert cycle == next(c for c in range(max(start + latency, before + 1), cycles) if takes[c])
        before = cycle
    # and the place for one more is used: the source is at most 1 + latency items ahead
    ahead = [sum(e <= c for e in entered) - sum(t <= c for t, _ in left) for c in range(cycles)]
    assert min(ahead) == 0 and max(ahead) == 1 + latency


def test_holds():
    dut = SkidRegister(8)
    seen = []

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        for cycle in range(6):
            seen.append((ctx.get(dut.holds), ctx.get(dut.i.ready)))
            ctx.set(dut.o.ready, cycle >= 3)
            if cycle == 2:
                ctx.set(dut.i.valid, 0)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [(0, 1), (1, 1), (1, 0), (1, 0), (1, 1), (0, 1)]
