"""Bench of RmsNorm: values and cycles against its golden twin."""
from collections import deque
import math
import random

import cocotb
import numpy as np

from hwgen.golden.numbers import acc_to_bf16, bf16, bf16_bits
from hwgen.golden.rmsnorm import inverse_root, norm_cycles, rms_norm
from hwgen.params.block import Norm
from hwgen.params.tables import norm_epsilon
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import (StreamSink, StreamSource, bench_params, cross, cycles_of, pack, start_clock_reset,
                              unpack, value_of)

DESIGN = small_design(**bench_params()["design"])
UNIT = make.rmsnorm(DESIGN)
T, V = DESIGN.hw.entries, DESIGN.hw.vector_lanes
PARTS = DESIGN.padded_hidden_size // V
PLAIN, FINAL = any(norm.plain for norm in DESIGN.block.of(Norm)), DESIGN.block.final_bias


def shape(name):
    return getattr(UNIT, name).payload.shape()


def edges(rng, count):
    """Up to ``count`` rows whose sum of squares is where another factor begins, or one below, and in which that factor
    shows: all bits of the sum count."""
    k, fraction, found = DESIGN.model.hidden_size, DESIGN.hw.residual_fraction, []
    epsilon = norm_epsilon(k, DESIGN.model.rms_norm_eps, fraction)
    least, most = max(16, epsilon.bit_length()), (k << 30).bit_length()
    for _ in range(100 * count if least < most else 0):
        bits = rng.integers(least, most)
        edge = int(rng.integers(1 << 15, 1 << 16)) << int(bits) - 16
        rest, row = edge - int(rng.integers(2)) - epsilon, np.zeros(DESIGN.padded_hidden_size, np.int64)
        for i in range(k):
            row[i] = min(math.isqrt(max(0, rest)), (1 << 15) - 1)
            rest -= int(row[i]) ** 2
        row *= rng.choice([-1, 1], len(row))
        x = acc_to_bf16(row, -fraction)
        below, above = (bf16(x * np.ldexp(r.astype(np.float64), e))
                        for r, e in (inverse_root(k, [total], [fraction]) for total in (edge - 1, edge)))
        if not rest and (below != above).any():
            found.append(row)
        if len(found) == count:
            break
    return found


EDGES = edges(np.random.default_rng(cocotb.RANDOM_SEED), 16)


def rows(rng, count):
    """Residual rows [count, hidden] of all sizes, padding 0; some are corners."""
    k = DESIGN.model.hidden_size
    out = np.zeros((count, DESIGN.padded_hidden_size), np.int64)
    corners = [np.zeros(k), np.full(k, -1), np.full(k, -2**31), np.full(k, 2**31 - 1),
               np.eye(1, k)[0] * 2**31 - 1, np.ones(k)]
    for row in out:
        if EDGES and rng.random() < 0.3:
            row[:] = EDGES[rng.integers(len(EDGES))]
        elif rng.random() < 0.3:
            row[:k] = corners[rng.integers(len(corners))]
        else:
            bits = rng.integers(1, 32)
            row[:k] = rng.integers(-2**bits, 2**bits, k) >> rng.integers(0, bits + 1, k)
            if rng.random() < 0.3:          # between two bf16 numbers, or a bit beside that
                row[:k] = (2 * rng.integers(128, 256, k)
                           + 1 << rng.integers(0, 22, k)) + (rng.integers(0, 2, k) << rng.integers(0, 22, k))
    return out


def gains(rng):
    """[hidden]; one in four so small or large that products underflow or saturate, or nearly."""
    k = DESIGN.model.hidden_size
    scale = np.where(rng.random(k) < 0.25, 2.0**rng.choice([*range(-128, -120), *range(122, 127)], k)
                     * rng.integers(0, 5, k).clip(0, 1), 1)
    return np.concatenate([bf16(rng.normal(size=k) * scale), np.zeros(DESIGN.padded_hidden_size - k)])


def bias_of(rng, y):
    """A bias [hidden] for normalized rows y, padding 0: near what it is added to, some opposites, some 0, some far
    away."""
    k = DESIGN.model.hidden_size
    factor = rng.choice([0, 1, -1, -1.0078125, 1.5, -2.0**-9, 2.0**9], k) * 2.0 ** rng.integers(-3, 4, k)
    return np.concatenate([bf16(y[rng.integers(len(y), size=k), np.arange(k)] * factor),
                           np.zeros(DESIGN.padded_hidden_size - k)])


class Residual:
    """Answers reads after ``latency`` cycles from ``rows``."""

    def __init__(self, dut, clock, *, latency=1, idle=0, stall=0):
        self.dut, self.clock, self.latency, self.idle, self.stall = dut, clock, latency, idle, stall
        self.rows, self.pending = np.zeros((T, DESIGN.padded_hidden_size), np.int64), deque()
        self._rng = random.Random(cocotb.RANDOM_SEED)
        cocotb.start_soon(self._run())

    def granule(self, request):
        row = self.rows[request["entry"]]
        mag = int(np.bitwise_or.reduce(row ^ (row >> 31)))
        return pack(shape("read_i"), {"x": row.reshape(-1, V)[request["part"]].tolist(), "mag": mag})

    async def _run(self):
        dut, offered = self.dut, False
        while True:
            ready = len(self.pending) <= self.latency and self._rng.random() >= self.stall
            offered = offered or bool(self.pending and self.pending[0][0] <= self.clock.cycle
                                      and self._rng.random() >= self.idle)
            dut.read__ready.value = int(ready)
            dut.read_i__valid.value = int(offered)
            dut.read_i__payload.value = self.pending[0][1] if offered else 0
            await self.clock.sample()
            if self.clock.in_reset:
                self.pending.clear()
                offered = False
            else:
                if offered and value_of(dut.read_i__ready):
                    self.pending.popleft()
                    offered = False
                if ready and value_of(dut.read__valid):
                    payload = getattr(dut, "read__payload", None)      # one entry and one part have no address
                    request = unpack(shape("read"), 0 if payload is None else value_of(payload))
                    self.pending.append((self.clock.cycle + self.latency, self.granule(request)))
            await self.clock.edge()


class Bench:
    def __init__(self, dut, clock, idle=0, stall=0, latency=1):
        self.dut, self.clock = dut, clock
        self.residual = Residual(dut, clock, latency=latency, idle=idle, stall=stall)
        self.cmd = StreamSource(dut, "cmd", clock, idle=idle, shape=shape("cmd"))
        self.gain = StreamSource(dut, "gain", clock, idle=idle, shape=shape("gain"))
        self.bias = StreamSource(dut, "bias", clock, idle=idle, shape=shape("bias")) if FINAL else None
        self.o = StreamSink(dut, "o", clock, stall=stall, shape=shape("o"))
        self.done = cycles_of(dut.done, clock)

    async def send_bias(self, bias):
        """The bias follows the gains, as in the stream."""
        await self.gain.drained()
        self.bias.send([{"x": x, "part": p} for p, x in enumerate(bf16_bits(bias).reshape(PARTS, V).tolist())])

    def send_gains(self, gain):
        self.gain.send([{"g": g, "part": p} for p, g in enumerate(bf16_bits(gain).reshape(PARTS, V).tolist())])

    def send(self, entries, final=False):
        """Commands; where a norm is plain, those of odd entries are, but for the final one's."""
        self.cmd.send([{"entry": e, "row": i % T, "last": int(i == len(entries) - 1),
                        **({"plain": e % 2 * (not final)} if PLAIN else {}),
                        **({"final": int(final)} if FINAL else {})} for i, e in enumerate(entries)])

    def normed(self, entries, gain, bias=None):
        return np.concatenate([rms_norm(DESIGN, self.residual.rows[e:e + 1], gain, plain=PLAIN and bias is None
                                        and e % 2, bias=bias)
                               for e in entries])

    def expected(self, entries, gain, bias=None):
        y = bf16_bits(self.normed(entries, gain, bias)).reshape(-1, PARTS, V)
        return [{"x": y[i, p].tolist(), "row": i % T, "part": p} for i in range(len(entries)) for p in range(PARTS)]

    async def phase(self, rng, n):
        """One norm phase of n entries, checked."""
        self.residual.rows = rows(rng, T)
        gain, entries, bias = gains(rng), rng.permutation(T)[:n].tolist(), None
        final = FINAL and rng.random() < 0.5
        self.o.clear()
        self.send_gains(gain)
        self.send(entries, final)
        if final:
            bias = bias_of(rng, rms_norm(DESIGN, self.residual.rows[entries], gain))
            cocotb.start_soon(self.send_bias(bias))
        assert await self.o.wait(n * PARTS, timeout=20_000) == self.expected(entries, gain, bias)


@cocotb.test()
@cocotb.parametrize(latency=[1, 2])
async def timing(dut, latency):
    """Granules of successive commands without a gap, and each ``done`` where the golden model has it."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock, latency=latency)
    bench.residual.rows, gain, entries = rows(rng, T), gains(rng), list(range(T))
    bench.send_gains(gain)
    await bench.gain.drained()
    bench.send(entries)
    assert await bench.o.wait(T * PARTS) == bench.expected(entries, gain)
    await clock.edge(2)
    start = bench.cmd.sent[0][0]
    assert [d - start for d in bench.done] == [norm_cycles(DESIGN, n + 1, read_latency=latency) for n in range(T)]
    assert bench.o.cycles == [d - PARTS + p for d in bench.done for p in range(PARTS)]


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng([cocotb.RANDOM_SEED, int(10 * pattern[0]), int(10 * pattern[1])])
    bench = Bench(dut, await start_clock_reset(dut), *pattern)
    for _ in range(8 if any(pattern) else 40):
        await bench.phase(rng, rng.integers(1, T + 1))


@cocotb.test()
@cocotb.parametrize(("pattern", [(0, 0.9, 1), (0.9, 0, 1), (0.5, 0.5, 1), (0, 0, 8 * PARTS + 4)]))
async def more_rows_than_fit(dut, pattern):
    """So many commands in line that everything before a stalled output, or behind slow reads, is full, then empties."""
    *pattern, latency = pattern
    rng = np.random.default_rng([cocotb.RANDOM_SEED, int(10 * pattern[0])])
    bench = Bench(dut, await start_clock_reset(dut), *pattern, latency=latency)
    bench.residual.idle = bench.residual.stall = 0
    for _ in range(3):
        bench.residual.rows, gain = rows(rng, T), gains(rng)
        entries = rng.integers(0, T, 12).tolist()
        bench.o.clear()
        bench.send_gains(gain)
        bench.send(entries)
        assert await bench.o.wait(12 * PARTS) == bench.expected(entries, gain)


@cocotb.test()
async def gains_of_the_next_phase_wait(dut):
    """All gains of two phases and all commands at once: the second vector is taken after the first phase's done."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut))
    bench.residual.rows = rows(rng, T)
    first, second = gains(rng), gains(rng)
    for gain in (first, second):
        bench.send_gains(gain)
        bench.send(list(range(T)))
    expected = bench.expected(list(range(T)), first) + bench.expected(list(range(T)), second)
    assert await bench.o.wait(2 * T * PARTS) == expected
    await bench.clock.edge(2)
    assert [cycle for cycle, _ in bench.gain.sent][PARTS] == bench.done[T - 1]


@cocotb.test()
async def waits_for_gains(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut))
    bench.residual.rows, gain = rows(rng, T), gains(rng)
    bench.send([0])
    await bench.clock.edge(norm_cycles(DESIGN) + 10)
    assert bench.o.items == []
    bench.send_gains(gain)
    assert await bench.o.wait(PARTS) == bench.expected([0], gain)


@cocotb.test(skip=not FINAL)
async def waits_for_its_bias(dut):
    """A norm with the whole bias there takes the cycles of any; without, it waits, and the bias of the phase before
    does not do."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut))
    bench.residual.rows, entries = rows(rng, T), list(range(T))
    expected = []
    for waits in (0, 50):
        gain = gains(rng)
        bias = bias_of(rng, rms_norm(DESIGN, bench.residual.rows, gain))
        expected += bench.expected(entries, gain, bias)
        bench.send_gains(gain)
        await bench.gain.drained()
        bench.send(entries, final=True)
        if waits:
            await bench.clock.edge(norm_cycles(DESIGN) + waits)
            assert len(bench.o.items) == T * PARTS
        await bench.send_bias(bias)
        assert await bench.o.wait(len(expected)) == expected
        await bench.clock.edge(2)
        if not waits:
            start = bench.cmd.sent[0][0]
            assert [d - start for d in bench.done] == [norm_cycles(DESIGN, n + 1) for n in range(T)]


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut), 0.2, 0.2)
    for _ in range(3):
        bench.residual.rows = rows(rng, T)
        bench.send_gains(gains(rng))
        bench.send(list(range(T)))
        await bench.clock.edge(int(rng.integers(PARTS, norm_cycles(DESIGN))))
        bench.cmd.clear(), bench.gain.clear()
        await bench.clock.reset()
        await bench.phase(rng, T)
