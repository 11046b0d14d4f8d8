"""Bench of SwiGlu: all inputs of the function, ups of all magnitudes."""

import cocotb
import numpy as np

from hwgen.golden import swiglu as golden
from hwgen.golden.numbers import bf16_bits, bf16_value
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

P = bench_params()
DESIGN = small_design(**{"block": P["block"], **P["design"]})
BLOCK = DESIGN.block
V, LATENCY = DESIGN.hw.vector_lanes, golden.latency(BLOCK)
STEP = 2 if BLOCK.gated else 1       # from an input of the function to the next
UNIT = make.swiglu(DESIGN)
#: Zeros, the smallest and largest numbers, 1, the ends of the tables (4, 8 and 16) and where they reach 1, each with
#: its neighbours.
EXTREMES = [sign | bits for bits in (0, 0x0080, 0x0081, 0x5F7F, 0x5F80, 0x7F7E, 0x7F7F, *(
    at + near for at in (0x3F80, 0x4075, 0x4080, 0x40C4, 0x4100, 0x4128, 0x4180) for near in (-1, 0, 1)))
    for sign in (0, 0x8000)]


def random_bf16(rng, shape, low=1, high=255):
    bits = rng.integers(0, 1 << 16, shape) & 0x807F | rng.integers(low, high, shape) << 7
    return np.where(rng.random(shape) < 0.02, 0, bits)


def cases(rng, count):
    """Patterns [count, V]: gates mostly where the function bends, every other item of any magnitude."""
    x = random_bf16(rng, (count, V))
    x[::2, 0::STEP] = random_bf16(rng, x[::2, 0::STEP].shape, 127 - 12, 127 + 6)
    if BLOCK.gated:
        x[::2, 1::2] = random_bf16(rng, x[::2, 1::2].shape, 127 - 12, 127 + 12)
    return x


def items(rng, x):
    limits = {"entry": DESIGN.hw.entries, "part": STEP * DESIGN.padded_intermediate_size // V, "last": 2}
    return [{"x": row, **{name: int(rng.integers(limit)) for name, limit in limits.items()}} for row in x.tolist()]


def expected(given):
    h = bf16_bits(golden.activate(BLOCK, bf16_value(np.array([item["x"] for item in given]))))
    return [{**item, "x": row} for item, row in zip(given, h.tolist())]


async def ports(dut, idle=0, stall=0):
    clock = await start_clock_reset(dut)
    source = StreamSource(dut, "i", clock, idle=idle, shape=UNIT.i.payload.shape())
    return clock, source, StreamSink(dut, "o", clock, stall=stall, shape=UNIT.o.payload.shape(), source=source)


@cocotb.test()
async def throughput(dut):
    """All inputs of the function (or some), one granule per cycle, each result LATENCY cycles later."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    _, source, sink = await ports(dut)
    gates = np.arange(1 << 16)
    gates = gates[(gates & 0x7F80 != 0) & (gates & 0x7F80 != 0x7F80)][::P["step"]]
    gates = np.resize(gates, -(-len(gates) // V) * V).reshape(-1, V // STEP)
    x = cases(rng, len(gates))
    x[:, 0::STEP] = gates
    given = items(rng, x)
    source.send(given)
    assert await sink.wait(len(given)) == expected(given)
    assert sink.cycles == [cycle + LATENCY for cycle in range(len(given))]


@cocotb.test()
async def extremes(dut):
    """Each with each in a pair; -0 counts as 0."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    _, source, sink = await ports(dut)
    pairs = np.stack(np.meshgrid(EXTREMES, EXTREMES), axis=-1).reshape(-1)
    given = items(rng, np.resize(pairs, (-(-len(pairs) // V), V)))
    source.send(given)
    assert await sink.wait(len(given)) == expected(given)


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    _, source, sink = await ports(dut, *pattern)
    given = items(rng, cases(rng, P["count"]))
    source.send(given)
    assert await sink.wait(len(given)) == expected(given)


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    clock, source, sink = await ports(dut)
    source.send(items(rng, cases(rng, 20)))
    await clock.edge(LATENCY + 2)
    source.clear()
    await clock.reset()
    sink.clear()
    given = items(rng, cases(rng, 3))
    source.send(given)
    await clock.edge(2 * LATENCY + 5)
    assert sink.items == expected(given)
