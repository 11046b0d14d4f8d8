"""The sums of two streams in Amaranth's simulator: each granule with its part or alone, in order, and none lost."""
import random

import pytest
from amaranth.sim import Simulator

from hwgen.lib.added_sums import AddedSums
from hwgen.lib.layouts import result_layout

SIZES = dict(columns=4, vector_lanes=2, entries=1, acc_bits=12)
RNG = random.Random(3)
BASE = [{"acc": [RNG.randint(-1000, 1000), RNG.randint(-1000, 1000)], "exp": RNG.randint(-99, 99), "group": k % 2}
        for k in range(120)]
MORE = [[RNG.randint(-1000, 1000), RNG.randint(-1000, 1000)] for _ in BASE]


def simulate(both, base, more, takes):
    """[(cycle, granule)] at ``o``, and the cycles in which granules of each stream were taken; the lists say in which
    cycles there is an offer, which then stays, and a taker."""
    dut = AddedSums(result_layout(**SIZES), result_layout(**SIZES, with_adapters=True))
    left, taken, sent, offering = [], {"base": [], "more": []}, {"base": 0, "more": 0}, {"base": False, "more": False}

    async def bench(ctx):
        ctx.set(dut.both, both)
        for cycle, (*offers, take) in enumerate(zip(base, more, takes)):
            for (name, offer) in zip(sent, offers):
                offering[name] = sent[name] < len(BASE) and (offering[name] or offer)
                port, item = getattr(dut, name), min(sent[name], len(BASE) - 1)
                ctx.set(port.valid, offering[name])
                ctx.set(port.payload, BASE[item] | {"entry": 0} if name == "base" else
                        {"acc": MORE[item], "entry": 0, "exp": 77, "group": 1, "a": 0})
            ctx.set(dut.o.ready, take)
            await ctx.delay(1e-9)
            if ctx.get(dut.o.valid) and take:
                o = ctx.get(dut.o.payload)
                left.append((cycle, {"acc": list(o.acc), "exp": o.exp, "group": o.group, "a": o.a}))
            for name in sent:
                if offering[name] and ctx.get(getattr(dut, name).ready):
                    taken[name].append(cycle)
                    sent[name], offering[name] = sent[name] + 1, False
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return left, taken


@pytest.mark.parametrize("both", [0, 1])
def test_granules_are_added_in_order(both):
    rng, cycles = random.Random(both), 900
    base, more, takes = ([rng.random() < part for _ in range(cycles)] for part in (0.7, 0.5, 0.6))
    left, taken = simulate(both, base, more, takes)
    wanted = [{"acc": [x + y * both for x, y in zip(granule["acc"], added)], "exp": granule["exp"],
               "group": granule["group"], "a": 0} for granule, added in zip(BASE, MORE)]
    assert [granule for _, granule in left] == wanted
    assert taken["more"] == (taken["base"] if both else [])


def test_a_granule_takes_a_cycle_and_waits_for_its_part():
    always, late = [True] * 300, [k % 2 == 1 for k in range(300)]
    assert [cycle for cycle, _ in simulate(0, always, late, always)[0]] == list(range(1, 1 + len(BASE)))
    assert [cycle for cycle, _ in simulate(1, always, late, always)[0]] == list(range(2, 2 + 2 * len(BASE), 2))
