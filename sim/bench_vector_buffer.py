"""Bench of VectorBuffer: values and cycles against the golden twin, reads under idle and stalls, reset, rewriting."""

import cocotb
import numpy as np

from hwgen.golden import vector_buffer as golden
from hwgen.golden.numbers import bf16_value
from hwgen.lib.layouts import slice_layout
from hwgen.params.formats import fp8
from amaranth.lib import data
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

P = bench_params()
FMT = fp8(P["fmt"])
ROWS, LENGTH, WRITE, READ = P["rows"], P["length"], P["write_lanes"], P["read_lanes"]
META = P["meta"]
W = data.StructLayout({"x": data.ArrayLayout(16, WRITE), "row": range(ROWS), "part": range(LENGTH // WRITE)})
R = data.StructLayout({"row": range(ROWS), "part": range(LENGTH // READ), "meta": META})
O = slice_layout(READ, META)


def rows(rng):
    """Patterns [ROWS, LENGTH]: rows of one magnitude each, of all magnitudes, of zeros, and near a format's largest."""
    bits = rng.integers(0, 1 << 16, (ROWS, LENGTH))
    kind = rng.integers(0, 4, ROWS)[:, None]
    exponent = np.clip(rng.integers(1, 255, (ROWS, 1)) - rng.integers(0, 20, (ROWS, LENGTH)), 1, 254)
    bits = np.where(kind != 1, bits & 0x807F | exponent << 7, bits)
    bits = np.where(kind == 2, bits & 0x8000 | 130 << 7 | rng.integers(118, 123, (ROWS, LENGTH)), bits)
    # bits of a bf16 that a code does not have: close to a tie between an even code and the next
    low = 7 - FMT.man_bits
    ties = bits & -2 << low | 1 << low - 1 | 1 << rng.integers(0, low, bits.shape)
    bits = np.where((kind < 2) & (rng.random(bits.shape) < 0.5), ties, bits)
    bits = np.where((kind == 3) & (rng.random((ROWS, LENGTH)) < P["zeros"]), 0, bits)
    field = bits >> 7 & 255
    return np.where((field == 0) | (field == 255), 0, bits)


def writes(bits, order):
    parts = bits.reshape(ROWS, -1, WRITE)
    return [{"x": parts[row, part].tolist(), "row": row, "part": part} for row, part in order]


def in_turn(rng):
    """Granules of each row in order, the rows in a random interleaving."""
    at, left = [0] * ROWS, list(np.repeat(np.arange(ROWS), LENGTH // WRITE))
    for row in rng.permutation(left).tolist():
        yield row, at[row]
        at[row] += 1


def reads(rng, count):
    return [{"row": int(rng.integers(ROWS)), "part": int(rng.integers(LENGTH // READ)), "meta": i % (1 << META)}
            for i in range(count)]


def answers(bits, requests):
    codes, exponents = golden.quantize(bf16_value(bits), FMT)
    codes = golden.slices(codes, READ)
    return [{"codes": codes[r["row"], r["part"]].tolist(), "exp": int(exponents[r["row"]]), "meta": r["meta"]}
            for r in requests]


class Bench:
    async def start(self, dut, idle=0, stall=0):
        self.clock = await start_clock_reset(dut)
        self.w = StreamSource(dut, "w", self.clock, shape=W)
        self.r = StreamSource(dut, "r", self.clock, idle=idle, shape=R)
        self.o = StreamSink(dut, "o", self.clock, stall=stall, shape=O, numbers={"codes": FMT}, source=self.r)
        return self

    async def write(self, bits, order):
        self.w.send(writes(bits, order))
        await self.w.drained()


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, *pattern)
    for _ in range(P["rounds"]):
        bits = rows(rng)
        await bench.write(bits, in_turn(rng))
        requests = reads(rng, 3 * ROWS * LENGTH // READ)
        bench.o.clear()
        bench.r.sent.clear()
        bench.r.send(requests)
        assert await bench.o.wait(len(requests)) == answers(bits, requests)
        if pattern == (0, 0):
            taken = [cycle for cycle, _ in bench.r.sent]
            assert taken == list(range(taken[0], taken[0] + len(requests)))
            assert bench.o.cycles == [cycle + golden.READ_LATENCY for cycle in taken]


@cocotb.test()
async def seen_next_cycle(dut):
    """A request two cycles after the last granule sees it, the data and its magnitude; writes are one per cycle."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    parts = LENGTH // WRITE
    bench = Bench()
    await bench.start(dut, idle=lambda cycle: len(bench.w.sent) < parts or cycle < bench.w.sent[-1][0]
                      + golden.WRITE_LATENCY)
    for _ in range(4):
        bits = rows(rng)
        row = int(rng.integers(ROWS))
        bits[row, -WRITE:] = 0x4F00                       # the largest comes last
        bits[row, :-WRITE] = np.minimum(bits[row, :-WRITE] & 0x7FFF, 0x4E00)
        bits[row][(bits[row] & 0x7F80) == 0] = 0
        request = {"row": row, "part": LENGTH // READ - 1, "meta": 0}
        for port in (bench.w, bench.r):
            port.sent.clear()
        bench.o.clear()
        bench.w.send(writes(bits, [(row, part) for part in range(parts)]))
        bench.r.send([request])
        got = await bench.o.wait(1)
        assert bench.r.sent[0][0] - bench.w.sent[-1][0] == golden.WRITE_LATENCY
        assert bench.w.sent[-1][0] - bench.w.sent[0][0] == parts - 1
        assert got == answers(bits, [request])


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    bits = rows(rng)
    await bench.write(bits, in_turn(rng))
    bench.r.send(reads(rng, 10))
    await bench.clock.edge(4)
    bench.r.clear()
    await bench.clock.reset()
    bench.o.clear()
    bits = rows(rng)
    await bench.write(bits, in_turn(rng))
    requests = reads(rng, 5)
    bench.r.send(requests)
    await bench.clock.edge(12)
    assert bench.o.items == answers(bits, requests)
