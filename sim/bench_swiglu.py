"""Bench of SwiGlu: all gates, ups of all magnitudes."""

import cocotb
import numpy as np

from hwgen.golden import swiglu as golden
from hwgen.golden.numbers import bf16_bits, bf16_value
from hwgen.lib.layouts import glu_layout
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

P = bench_params()
DESIGN = small_design(**P["design"])
V = DESIGN.hw.vector_lanes
I, O = glu_layout(DESIGN, V), glu_layout(DESIGN, V // 2)


def random_bf16(rng, shape, low=1, high=255):
    bits = rng.integers(0, 1 << 16, shape) & 0x807F | rng.integers(low, high, shape) << 7
    return np.where(rng.random(shape) < 0.02, 0, bits)


def cases(rng, count):
    """Patterns [count, V]: gates mostly where the sigmoid bends, every other item of any magnitude."""
    x = random_bf16(rng, (count, V))
    x[::2, 0::2] = random_bf16(rng, x[::2, 0::2].shape, 127 - 12, 127 + 6)
    x[::2, 1::2] = random_bf16(rng, x[::2, 1::2].shape, 127 - 12, 127 + 12)
    return x


def items(rng, x):
    limits = {"entry": DESIGN.hw.entries, "part": 2 * DESIGN.ff // V, "last": 2}
    return [{"x": row, **{name: int(rng.integers(limit)) for name, limit in limits.items()}} for row in x.tolist()]


def expected(given):
    h = bf16_bits(golden.swiglu(bf16_value(np.array([item["x"] for item in given]))))
    return [{**item, "x": row} for item, row in zip(given, h.tolist())]


async def ports(dut, idle=0, stall=0):
    clock = await start_clock_reset(dut)
    return clock, StreamSource(dut, "i", clock, idle=idle, shape=I), StreamSink(dut, "o", clock, stall=stall, shape=O)


@cocotb.test()
async def throughput(dut):
    """All gates (or some), one granule per cycle, each result LATENCY cycles later."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    _, source, sink = await ports(dut)
    gates = np.arange(1 << 16)
    gates = gates[(gates & 0x7F80 != 0) & (gates & 0x7F80 != 0x7F80)][::P["step"]]
    gates = np.resize(gates, -(-len(gates) // V) * V).reshape(-1, V // 2)
    x = cases(rng, len(gates))
    x[:, 0::2] = gates
    given = items(rng, x)
    source.send(given)
    assert await sink.wait(len(given)) == expected(given)
    assert sink.cycles == [cycle + golden.LATENCY for cycle in range(len(given))]


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    _, source, sink = await ports(dut, *pattern)
    given = items(rng, cases(rng, 200))
    source.send(given)
    assert await sink.wait(len(given)) == expected(given)


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    clock, source, sink = await ports(dut)
    source.send(items(rng, cases(rng, 20)))
    await clock.edge(golden.LATENCY + 2)
    source.clear()
    await clock.reset()
    sink.clear()
    given = items(rng, cases(rng, 3))
    source.send(given)
    await clock.edge(2 * golden.LATENCY + 5)
    assert sink.items == expected(given)
