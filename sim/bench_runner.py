"""Bench of a chain of stream registers, for the tests of the runner itself."""

import random

import cocotb

from hwgen.params.formats import E3M4
from sim.example_units import layout
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

PARAMS = bench_params()
SHAPE = layout(PARAMS["lanes"])
DEPTH = PARAMS["depth"]
NUMBERS = {"lanes": E3M4}


def payloads(count):
    rng = random.Random(cocotb.RANDOM_SEED)
    return [{"tag": rng.randrange(-8, 8), "lanes": [rng.randrange(256) for _ in range(PARAMS["lanes"])]}
            for _ in range(count)]


async def ports(dut, idle=0, stall=0):
    clock = await start_clock_reset(dut)
    source = StreamSource(dut, "i", clock, idle=idle, shape=SHAPE, numbers=NUMBERS)
    return clock, source, StreamSink(dut, "o", clock, stall=stall, shape=SHAPE, numbers=NUMBERS, source=source)


@cocotb.test()
async def throughput(dut):
    """Item n arrives exactly DEPTH cycles after it was taken, and one is taken in each cycle."""
    _, source, sink = await ports(dut)
    items = payloads(20)
    source.send(items)
    assert await sink.wait(len(items), timeout=2000) == items
    assert source.sent == list(enumerate(items))
    assert sink.cycles == [n + DEPTH for n in range(len(items))]


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    _, source, sink = await ports(dut, *pattern)
    items = payloads(50)
    source.send(items)
    assert await sink.wait(len(items), timeout=2000) == items


@cocotb.test()
async def reset_in_flight(dut):
    clock, source, sink = await ports(dut)
    source.send(payloads(10))
    await clock.edge(DEPTH + 3)
    source.clear()
    await clock.reset()
    sink.clear()
    items = payloads(5)
    source.send(items)
    await clock.edge(DEPTH + 10)
    assert sink.items == items


@cocotb.test()
async def stays_silent(dut):
    clock, _, sink = await ports(dut)
    await clock.edge(10)
    assert sink.items == []
