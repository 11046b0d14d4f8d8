"""Bench of hwgen.lib.arith: exhaustive where an input is small enough, else corners and seeded random cases."""

import cocotb
import numpy as np

from hwgen.golden import numbers
from hwgen.params.formats import FORMATS
from sim.arith_units import ACC, FIXED, INPUT, LANES, OUTPUT, TABLES
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset

NUMBERS = {**{f"codes_{name}": fmt for name, fmt in FORMATS.items()},
           **dict.fromkeys(("bf16", "short", "small"), "bf16")}


def stimulus(rng, count):
    """Fields -> arrays of ``count`` random cases."""
    acc = rng.integers(-(1 << (ACC - 1)), 1 << (ACC - 1), count) >> rng.integers(0, ACC, count)
    ties = (2 * rng.integers(0, 1 << 9, count) + 1) << rng.integers(0, ACC - 12, count)
    acc = np.where(rng.random(count) < 0.3, np.where(rng.random(count) < 0.5, -ties, ties), acc)
    acc[:4] = [0, -(1 << (ACC - 1)), (1 << (ACC - 1)) - 1, -1]
    left = np.where(rng.random(count) < 0.7, rng.integers(-45, 30, count), rng.integers(-400, 400, count))
    left = np.where(rng.random(count) < 0.2, rng.integers(-175, -120, count), left)
    return {"exponent": rng.integers(-140, 140, count), "acc": acc, "left": left,
            "f": rng.integers(0, 1 << 16, count), "code": rng.integers(0, 256, count)}


def all_bf16():
    """All values of the format: both signs, fields 1 to 254, and 0; repeated up to whole items."""
    bits = np.arange(1 << 16)
    bits = bits[((bits & 0x7F80) != 0) & ((bits & 0x7F80) != 0x7F80) | (bits == 0)]
    return np.resize(bits, -(-len(bits) // LANES) * LANES).reshape(-1, LANES)


def expected(case):
    out = {}
    x = numbers.bf16_value(case["x"])
    for name, fmt in FORMATS.items():
        out[f"codes_{name}"] = numbers.fp8_codes(x, case["exponent"][:, None], fmt)
        out[f"scale_{name}"] = numbers.scale_exponent(case["x"][:, 0] & 0x7FFF, fmt)
        bare = [fmt.decode(int(c)) for c in case["code"]]
        out[f"negative_{name}"] = np.array([negative for negative, _, _ in bare])
        out[f"int_{name}"] = np.array([significand << shift for _, significand, shift in bare]) % (1 << fmt.int_bits)
    for name, table in TABLES.items():
        bits = table.index_bits + table.fraction_bits
        out[f"y_{name}"] = numbers.table(table, case["f"] & ((1 << bits) - 1))
    acc, left = case["acc"], case["left"]
    out["bf16"] = numbers.bf16_bits(numbers.acc_to_bf16(acc, left))
    out["short"] = out["bf16"]
    tiny = np.abs(acc) & 31
    out["small"] = numbers.bf16_bits(numbers.acc_to_bf16(np.where(acc < 0, -tiny, tiny), left))
    out["fixed"] = numbers.acc_to_fixed(acc, left, FIXED)
    out["rne3"] = numbers.shift_round(acc, -3)
    out["rne40"] = numbers.shift_round(acc, -ACC)
    out["sat9"] = numbers.saturate(acc, 9)
    return out


def items(arrays):
    columns = {name: array.tolist() for name, array in arrays.items()}
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


@cocotb.test()
async def values(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    x = all_bf16()
    small = bench_params()["small"]
    if small:
        x = x[rng.choice(len(x), 400, replace=False)]
    x = np.concatenate([x, rng.permuted(x.reshape(-1)).reshape(x.shape)])
    case = {"x": x, **stimulus(rng, len(x))}
    n = len(x)
    case["exponent"][:n // 2] = 0                                             # every value at this one
    near = ((x[n // 2:, 0] >> 7) & 255) - 127 + rng.integers(-10, 20, n - n // 2)
    case["exponent"][n // 2:] = np.clip(near, -512, 511)
    case["x"][n // 2:] = (case["x"][n // 2:] & 0x807F) | (case["x"][n // 2:, :1] & 0x7F80)   # fields alike in an item
    case["x"][(case["x"] & 0x7F80) == 0] = 0
    case["code"] = np.arange(n) % 256
    case["f"] = np.arange(n) * (3 if small else 1) % (1 << 16)
    if not small:
        case["exponent"][:4] = [-512, 511, 0, 1]
    await check(dut, case)


async def check(dut, case):
    clock = await start_clock_reset(dut)
    source = StreamSource(dut, "i", clock, shape=INPUT)
    sink = StreamSink(dut, "o", clock, shape=OUTPUT, numbers=NUMBERS, source=source)
    n = len(case["x"])
    source.send(items(case))
    got = await sink.wait(n)
    assert sink.cycles == list(range(2, n + 2))
    assert got == items(expected(case))


@cocotb.test()
async def pipeline_holds(dut):
    """The same under idle cycles and stalls."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    source = StreamSource(dut, "i", clock, idle=0.5)
    sink = StreamSink(dut, "o", clock, stall=0.5, shape=OUTPUT, numbers=NUMBERS, source=source)
    case = {"x": all_bf16()[:100], **stimulus(rng, 100)}
    source.shape = INPUT
    source.send(items(case))
    assert await sink.wait(100) == items(expected(case))
