"""Bench of QkNorm: values and cycles against its golden twin."""
import cocotb
import numpy as np

from hwgen.golden import convert
from hwgen.golden.numbers import bf16, bf16_bits, bf16_value
from hwgen.golden.qk_norm import PASS_LATENCY, cycles, order, qk_norm
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

PARAMS = bench_params()
DESIGN = small_design(**{"block": {"qk_norm": {"span": PARAMS.get("span")}}, **PARAMS["design"]})
SPAN = DESIGN.block.qk_norm.span
BANKS = PARAMS["banks"]
UNIT = make.qk_norm(DESIGN, banks=BANKS)
T, V, KV, HEADS = DESIGN.hw.entries, DESIGN.hw.vector_lanes, DESIGN.kv_heads, DESIGN.qkv_heads
PARTS = DESIGN.padded_head_dim // V
LAYOUT = UNIT.i.payload.shape()


def vectors(rng, n):
    """bf16 bits [n, heads, head_dim], padding 0: of all sizes, alike in size or not, with zeros and whole zero
    heads."""
    size = (n, HEADS, DESIGN.padded_head_dim)
    center = rng.choice([1, 20, 105, 115, 119, 121, 123, 127, 140, 253], size=(n, HEADS, 1))
    exponent = np.clip(center + rng.integers(-9, 10, size) * rng.integers(0, 3, (n, HEADS, 1)), 1, 254)
    bits = rng.integers(0, 2, size) << 15 | exponent << 7 | rng.integers(0, 128, size)
    bits[rng.random(size) < 0.05] = 0
    bits[rng.random((n, HEADS)) < 0.05] = 0
    bits[..., DESIGN.model.head_dim:] = 0
    return bits


def gains(rng):
    """(of queries, of keys), bf16, padding 0; one in eight so small or large that products underflow or saturate."""
    out = []
    for heads in (DESIGN.heads, KV):
        size = (heads if SPAN == "projection" else 1, DESIGN.padded_head_dim)
        scale = np.where(rng.random(size) < 0.125, rng.choice([2.0**-124, 2.0**126, 0], size), 1)
        gain = bf16(rng.normal(size=size) * scale)
        gain[:, DESIGN.model.head_dim:] = 0
        out.append(gain.reshape(-1))
    return out


def granule(bits, entry, head, part, last):
    return {"x": bits[entry, head].reshape(PARTS, V)[part].tolist(), "entry": entry, "head": head, "part": part,
            "last": int(last)}


def granules(bits):
    """Of [n, heads, head_dim], in the array's order."""
    return [granule(bits, entry, head, part, last)
            for _, entry, _, head, part, last in convert.granules(DESIGN, 0, len(bits)) if head is not None]


def is_value(item):
    return KV <= item["head"] < 2 * KV


def expected(bits, gain):
    """V heads' granules as they came, then the others, normalized."""
    y = bf16_bits(qk_norm(DESIGN, bf16_value(bits), *gain)).astype(int)
    places = order(DESIGN, len(bits))
    return [item for item in granules(bits) if is_value(item)] + [granule(y, *place, place == places[-1])
                                                                  for place in places]


class Bench:
    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock = dut, clock
        self.i = StreamSource(dut, "i", clock, idle=idle, shape=LAYOUT)
        self.gain = StreamSource(dut, "gain", clock, idle=idle, shape=UNIT.gain.payload.shape())
        self.o = StreamSink(dut, "o", clock, stall=stall, shape=LAYOUT)

    def send_gains(self, gain, bank):
        choice = {"bank": bank} if BANKS == 2 else {}
        self.gain.send([{"x": x, "key": key, "part": part, **choice}
                        for key, vector in enumerate(gain)
                        for part, x in enumerate(bf16_bits(vector).reshape(-1, V).tolist())])

    async def load(self, gain, bank):
        self.send_gains(gain, bank)
        await self.gain.drained()
        if BANKS == 2:
            self.dut.bank.value = bank

    async def phase(self, rng, commands):
        """Commands one behind the other, checked; the other bank's gains are written meanwhile."""
        bank, gain = int(rng.integers(BANKS)), gains(rng)
        await self.load(gain, bank)
        if BANKS == 2:
            self.send_gains(gains(rng), 1 - bank)
        sets = [vectors(rng, rng.integers(1, T + 1)) for _ in range(commands)]
        self.o.clear()
        self.i.send([item for bits in sets for item in granules(bits)])
        want = [item for bits in sets for item in expected(bits, gain)]
        assert await self.o.wait(len(want), timeout=50_000) == want


@cocotb.test()
async def timing(dut):
    """A granule is taken per cycle; V heads leave in the next, the others without a gap up to where the golden model
    has their end."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut))
    gain = gains(rng)
    await bench.load(gain, BANKS - 1)
    for n in [*range(1, T + 1), 1]:
        bits, first = vectors(rng, n), len(bench.i.sent)
        items, want = granules(bits), expected(bits, gain)
        bench.o.clear()
        bench.i.send(items)
        assert await bench.o.wait(len(want)) == want
        taken = [cycle for cycle, _ in bench.i.sent[first:]]
        assert taken == list(range(taken[0], taken[0] + len(items)))
        values = [cycle + PASS_LATENCY for cycle, item in zip(taken, items) if is_value(item)]
        assert bench.o.cycles[:len(values)] == values
        assert bench.o.cycles[-1] == taken[-1] + cycles(DESIGN, n)
        if SPAN == "head":
            left = bench.o.cycles[len(values):]
            assert left == list(range(left[0], left[0] + len(left)))


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng([cocotb.RANDOM_SEED, int(10 * pattern[0]), int(10 * pattern[1])])
    bench = Bench(dut, await start_clock_reset(dut), *pattern)
    for _ in range(1 if any(pattern) else 5):
        await bench.phase(rng, 2)


@cocotb.test()
async def long_stalls(dut):
    """The output stands still until everything before it is full, then takes all at once."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut), stall=lambda cycle: cycle % 400 < 300)
    await bench.phase(rng, 3)


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut), 0.2, 0.2)
    for _ in range(2):
        items = granules(vectors(rng, T))
        bench.i.send(items)
        await bench.clock.edge(int(rng.integers(len(items), 2 * len(items) + cycles(DESIGN, T))))
        bench.i.clear(), bench.gain.clear()
        await bench.clock.reset()
        await bench.phase(rng, 1)
