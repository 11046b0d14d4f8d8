"""Bench of hwgen.lib.arith.add_bf16: numbers of all sizes and all distances, under stalls."""
import cocotb
import numpy as np

from hwgen.golden.numbers import bf16, bf16_bits, bf16_value
from hwgen.lib.arith import ADD_BF16_STAGES
from sim.arith_units import ADDENDS, LANES, AdderUnit
from sim.stream_bench import StreamSink, StreamSource, cross, start_clock_reset

COUNT = 3000         # items of LANES sums


def numbers(rng, near):
    """bf16 patterns like ``near`` in shape, with exponents a few places from those of it; some are 0, some at an end of
    the range."""
    field = np.clip((near >> 7 & 255) + rng.integers(-14, 15, near.shape), 1, 254)
    field = np.where(rng.random(near.shape) < 0.1, rng.choice([1, 2, 253, 254], near.shape), field)
    fraction = np.where(rng.random(near.shape) < 0.3, rng.choice([0, 1, 126, 127], near.shape),
                        rng.integers(0, 128, near.shape))
    bits = rng.integers(0, 2, near.shape) << 15 | field << 7 | fraction
    return np.where(rng.random(near.shape) < 0.05, 0, bits)


def case(rng, count):
    a = numbers(rng, rng.integers(0, 255, (count, LANES)) << 7)
    b = np.where(rng.random(a.shape) < 0.05, a ^ 0x8000 * (a != 0), numbers(rng, a))       # its opposite: the sum is 0
    # Sums that float64 rounds are so far apart that the larger number is the result either way.
    return a, b, bf16_bits(bf16(bf16_value(a) + bf16_value(b)))


@cocotb.test()
@cocotb.parametrize(("pattern", cross()[:4]))
async def values(dut, pattern):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    source = StreamSource(dut, "i", clock, idle=pattern[0], shape=ADDENDS, numbers={"a": "bf16", "b": "bf16"})
    sink = StreamSink(dut, "o", clock, stall=pattern[1], shape=AdderUnit().o.p.shape(), numbers={"": "bf16"},
                      source=source)
    count = 200 if any(pattern) else COUNT
    a, b, want = case(rng, count)
    source.send([{"a": x, "b": y} for x, y in zip(a.tolist(), b.tolist())])
    assert await sink.wait(count) == want.tolist()
    if pattern == (0, 0):
        assert sink.cycles == list(range(ADD_BF16_STAGES, count + ADD_BF16_STAGES))
