"""Bench of Rope: values and cycles against its golden twin."""
import cocotb
import numpy as np

from hwgen.golden.numbers import bf16_bits, bf16_value
from hwgen.golden.rope import ROPE_LATENCY, angle_cycles, rope
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset, value_of

DESIGN = small_design(**bench_params()["design"])
UNIT = make.rope(DESIGN)
T, V, HEADS = DESIGN.hw.entries, DESIGN.hw.vector_lanes, DESIGN.qkv_heads
PARTS = DESIGN.padded_head_dim // V
ROPES = sorted({DESIGN.model.rope_of(layer) for layer in range(DESIGN.layers)}, key=str)      # None is one of them
LAYOUT = UNIT.i.payload.shape()


def vectors(rng, n):
    """bf16 bits [n, heads, head_dim], padding 0: mostly pairs of like size, some at the ends of the range, some
    zeros."""
    size = (n, HEADS, DESIGN.padded_head_dim)
    center = rng.choice([1, 20, 120, 127, 140, 253], size=(n, HEADS, 1))
    exponent = np.clip(center + rng.integers(-9, 10, size), 1, 254)
    bits = rng.integers(0, 2, size) << 15 | exponent << 7 | rng.integers(0, 128, size)
    bits[rng.random(size) < 0.05] = 0
    bits[..., DESIGN.model.head_dim:] = 0
    return bits


def granules(bits):
    """Of [n, heads, head_dim], in an order of n-tiles: entries inside parts inside heads."""
    n = len(bits)
    return [{"x": bits[e, h].reshape(PARTS, V)[p].tolist(), "entry": e, "head": h, "part": p,
             "last": int((e, h, p) == (n - 1, HEADS - 1, PARTS - 1))}
            for h in range(HEADS) for p in range(PARTS) for e in range(n)]


def turned_to_zero(rng, bits, positions, which):
    """The same, but for some pairs of which one number comes out as nearly or wholly 0, and some that are 0."""
    pairs, one = bits.reshape(*bits.shape[:2], -1, 2).copy(), np.zeros(bits.shape)
    one[..., :DESIGN.model.head_dim:2] = 1
    turned = rope(DESIGN, one, positions, which).reshape(pairs.shape)
    back = np.where(rng.random((*pairs.shape[:3], 1)) < 0.5, turned[..., ::-1],
                    turned * [1, -1]) * 2.0**rng.integers(-20, 20, (*pairs.shape[:3], 1)) + 0.0
    chosen = rng.random(pairs.shape[:3])
    pairs[chosen < 0.2] = bf16_bits(back).astype(int)[chosen < 0.2]
    pairs[chosen > 0.9] = 0
    return pairs.reshape(bits.shape)


class Bench:
    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock = dut, clock
        self.angle = StreamSource(dut, "angle", clock, idle=idle, shape=UNIT.angle.payload.shape())
        self.i = StreamSource(dut, "i", clock, idle=idle, shape=LAYOUT)
        self.o = StreamSink(dut, "o", clock, stall=stall, shape=LAYOUT, source=self.i)

    async def angles(self, positions):
        """Commands for entries 0 and up; returns (cycle of the first's acceptance, cycle of angle_done) in the cycle of
        done."""
        before = len(self.angle.sent)
        n = len(positions)
        self.angle.send([{"entry": e, "position": int(p), "last": int(e == n - 1)} for e, p in enumerate(positions)])
        for _ in range(20 * angle_cycles(DESIGN, n)):
            await self.clock.sample()
            if value_of(self.dut.angle_done):
                return self.angle.sent[before][0], self.clock.cycle
            await self.clock.edge()
        raise AssertionError("no angle_done")

    def layer(self, which):
        """As the granules of a layer with that RoPE come."""
        if hasattr(self.dut, "turn"):
            self.dut.turn.value = int(which is not None)
        if hasattr(self.dut, "rope"):
            self.dut.rope.value = which or 0

    def expected(self, bits, positions, which):
        return granules(bf16_bits(rope(DESIGN, bf16_value(bits), positions, which)).astype(int))

    async def phase(self, rng, n):
        positions = rng.integers(0, DESIGN.hw.context, n)
        await self.angles(positions)
        await self.clock.edge()
        for which in rng.permutation(np.array(ROPES, object)):
            self.layer(which)
            bits = turned_to_zero(rng, vectors(rng, n), positions, which)
            self.o.clear()
            items = granules(bits)
            self.i.send(items)
            assert await self.o.wait(len(items), timeout=50_000) == self.expected(bits, positions, which)


@cocotb.test()
async def timing(dut):
    """Angles where the golden model has them, at once usable; then a granule per cycle."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut))
    for n in range(1, T + 1):
        positions = rng.integers(0, DESIGN.hw.context, n)
        bits = vectors(rng, n)
        # the entry whose angles come last goes first, into the cycle of angle_done
        items = granules(bits)
        items.sort(key=lambda g: -g["entry"])
        which = ROPES[n % len(ROPES)]
        bench.layer(which)
        expected = sorted(bench.expected(bits, positions, which), key=lambda g: -g["entry"])
        first = len(bench.i.sent)
        bench.o.clear()
        cocotb.start_soon(_send_when_done(bench, n, items))
        start, done = await bench.angles(positions)
        assert done - start == angle_cycles(DESIGN, n)
        await bench.clock.edge()
        assert await bench.o.wait(len(items)) == expected
        assert [cycle for cycle, _ in bench.i.sent[first:]] == [done + k for k in range(len(items))]
        assert bench.o.cycles == [done + ROPE_LATENCY + k for k in range(len(items))]


async def _send_when_done(bench, n, items):
    await bench.clock.sample()
    while not value_of(bench.angle.valid):          # the first command is taken at once
        await bench.clock.edge()
        await bench.clock.sample()
    # queued in the cycle before, offered in that of angle_done
    done = bench.clock.cycle + angle_cycles(DESIGN, n)
    while bench.clock.cycle < done - 1:
        await bench.clock.edge()
        await bench.clock.sample()
    bench.i.send(items)


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng([cocotb.RANDOM_SEED, int(10 * pattern[0]), int(10 * pattern[1])])
    bench = Bench(dut, await start_clock_reset(dut), *pattern)
    for _ in range(2 if any(pattern) else 8):
        await bench.phase(rng, rng.integers(1, T + 1))


@cocotb.test()
async def all_positions(dut):
    """Angles of every position: a pair (1, 0) of each and a pair of like elements, T at a time."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut))
    for start in range(0, DESIGN.hw.context, T):
        positions = np.arange(start, min(start + T, DESIGN.hw.context))
        bits = vectors(rng, len(positions))
        bits[:, 0, :DESIGN.model.head_dim:2], bits[:, 0, 1::2] = 127 << 7, 0
        await bench.angles(positions)
        await bench.clock.edge()
        items = [g for g in granules(bits) if g["head"] in (0, HEADS - 1)]
        for which in ROPES:
            bench.layer(which)
            bench.o.clear()
            bench.i.send(items)
            expected = [g for g in bench.expected(bits, positions, which) if g["head"] in (0, HEADS - 1)]
            assert await bench.o.wait(len(items)) == expected


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut), 0.2, 0.2)
    for _ in range(3):
        bench.angle.send([{"entry": 0, "position": DESIGN.hw.context - 1, "last": 1}])
        bench.i.send(granules(vectors(rng, T)))
        await bench.clock.edge(int(rng.integers(3, 20)))
        bench.angle.clear(), bench.i.clear()
        await bench.clock.reset()
        await bench.phase(rng, T)
