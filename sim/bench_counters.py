"""Bench of the event counters: every cycle has random events, and reads one of the counts."""
import random

import cocotb
import numpy as np

from hwgen.golden import counters as golden
from sim.stream_bench import bench_params, start_clock_reset, value_of

N, WIDTH = bench_params()["n"], bench_params()["width"]


def drive(dut, events, clear, address):
    dut.events.value = sum(int(e) << i for i, e in enumerate(events))
    dut.clear.value = int(clear)
    if N > 1:
        dut.address.value = int(address)


async def check(dut, clock, events, clears, addresses):
    want = golden.counts(events, clears, WIDTH)
    got = []
    for cycle in range(len(events)):
        drive(dut, events[cycle], clears[cycle], addresses[cycle])
        await clock.sample()
        got.append(value_of(dut.data))
        await clock.edge()
    expected = [int(want[cycle, a]) for cycle, a in enumerate(addresses)][:-golden.READ_LATENCY]
    got = got[golden.READ_LATENCY:]
    assert got == expected


@cocotb.test()
@cocotb.parametrize(("chance", [0.1, 0.5, 1]))
async def values(dut, chance):
    rng = np.random.default_rng(random.randrange(1 << 32))
    clock = await start_clock_reset(dut)
    cycles = 400
    clears = rng.random(cycles) < 0.01
    await check(dut, clock, rng.random((cycles, N)) < chance, clears, rng.integers(0, N, cycles))


@cocotb.test()
async def reset_clears(dut):
    clock = await start_clock_reset(dut)
    ones = np.ones((30, N), bool)
    never = np.zeros(30, bool)
    await check(dut, clock, ones, never, np.arange(30) % N)
    drive(dut, ones[0], 0, 0)
    await clock.reset()
    await check(dut, clock, ones, never, np.arange(30)[::-1] % N)
