"""Bench of Residual: embeddings, adds, reads, magnitudes, signatures, and their cycles."""

import cocotb
import numpy as np

from hwgen.golden import residual as golden
from hwgen.lib.layouts import embed_layout, residual_read_layout, residual_row_layout, result_layout, signature_layout
from hwgen.units.residual import Residual
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset, value_of

DESIGN = small_design(**bench_params())
V, T, H = DESIGN.hw.vector_lanes, DESIGN.hw.entries, DESIGN.hidden
CODES = DESIGN.recipe.codes_per_head_weight
CMD = Residual(DESIGN).cmd.payload.shape()
FMT = DESIGN.recipe.weight_format


def embedding(rng, n):
    """(codes [n, CODES, H], exponent): exponents from everything rounds off to everything saturates."""
    codes = rng.integers(0, FMT.max_code + 1, (n, CODES, H)) | rng.integers(0, 2, (n, CODES, H)) << 7
    if CODES == 2 and rng.random() < 0.5:                  # the lo codes cancel the hi ones, but for an element
        codes[:, 1] = codes[:, 0] ^ 0x80
        codes[:, 1, int(rng.integers(H))] = 1
    return codes, int(rng.choice([-9, -4, 0, 7, -30, 16, 40]))


def embed_items(codes):
    """In the dispatcher's order: for each entry and k-tile, the hi slice, then the lo slice."""
    n, lanes = len(codes), DESIGN.hw.lanes
    out = [{"codes": codes[entry, lo, tile * lanes + k * V:][:V].tolist(), "entry": entry, "part": tile * lanes // V + k,
            "lo": lo, "last": 0}
           for entry in range(n) for tile in range(H // lanes) for lo in range(CODES) for k in range(lanes // V)]
    out[-1]["last"] = 1
    return out


def sums(rng, n):
    """(acc [n, H], exponents [n], weight exponent)"""
    bits = DESIGN.acc_bits
    acc = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (n, H)) >> rng.integers(0, bits, (n, H))
    ties = (2 * rng.integers(0, 256, (n, H)) + 1) << rng.integers(0, bits - 11, (n, H))
    acc = np.where(rng.random((n, H)) < 0.2, ties * rng.choice([-1, 1], (n, H)), acc)
    acc[0, 0] = -(1 << (bits - 1))
    spread = int(rng.choice([6, 6, 6, 500]))
    return acc, rng.integers(-spread - 4, spread - 4, n).tolist(), int(rng.integers(-spread, spread))


def add_items(acc, exponents):
    granules = acc.reshape(len(acc), H // DESIGN.hw.columns, -1, V)
    return [{"acc": granules[entry, tile, group].tolist(), "entry": entry, "exp": exponents[entry], "group": group}
            for tile, entry, group in golden.granules(DESIGN, len(acc))]


class Bench:
    async def start(self, dut, idle=0, stall=0):
        self.dut = dut
        self.clock = clock = await start_clock_reset(dut)
        self.embed = StreamSource(dut, "embed", clock, idle=idle, shape=embed_layout(DESIGN))
        self.cmd = StreamSource(dut, "cmd", clock, shape=CMD)
        self.i = StreamSource(dut, "i", clock, idle=idle, shape=result_layout(DESIGN))
        self.read = StreamSource(dut, "read", clock, idle=idle, shape=residual_read_layout(DESIGN))
        self.read_o = StreamSink(dut, "read_o", clock, stall=stall, shape=residual_row_layout(DESIGN))
        self.sig = StreamSink(dut, "sig", clock, stall=stall, shape=signature_layout(DESIGN))
        self.saturated = []         # the cycles
        cocotb.start_soon(self._watch())
        return self

    async def _watch(self):
        while True:
            await self.clock.sample()
            if value_of(self.dut.saturated):
                self.saturated.append(self.clock.cycle)
            await self.clock.edge()

    def check_saturated(self, sent, flags):
        """That the granules, taken in the cycles of ``sent``, with true ``flags`` were told, each SATURATED_LATENCY later."""
        expected = [cycle + golden.SATURATED_LATENCY for (cycle, _), flag in zip(sent, flags) if flag]
        assert self.saturated == expected
        self.saturated.clear()

    async def until(self, signal, timeout=5000):
        """The cycle in which a pulse comes, and that it lasts one cycle; then at the next edge."""
        for _ in range(timeout):
            await self.clock.sample()
            if value_of(signal):
                cycle = self.clock.cycle
                await self.clock.edge()
                return cycle
            await self.clock.edge()
        raise AssertionError("no done")

    async def do_embed(self, codes, exponent):
        self.embed.sent.clear()
        self.dut.embed_exp.value = exponent & 1023
        self.embed.send(embed_items(codes))
        done = await self.until(self.dut.embed_done)
        assert done == self.embed.sent[-1][0] + golden.DONE_LATENCY
        assert len(self.embed.sent) == len(embed_items(codes))
        golden.embed(codes, exponent, DESIGN, clipped := [])
        self.check_saturated(self.embed.sent, [clipped[item["lo"]][item["entry"]].reshape(-1, V)[item["part"]].any() for item in embed_items(codes)])
        return done

    async def do_add(self, x, acc, exponents, weight_exponent, final):
        """An add to rows x; what they are then."""
        for port in (self.cmd, self.i):
            port.sent.clear()
        self.dut.exp.value = weight_exponent & 1023
        self.cmd.send([{"n": len(acc), "final": final}])
        self.i.send(add_items(acc, exponents))
        await self.cmd.drained()
        self.dut.exp.value = 0
        done = await self.until(self.dut.done)
        assert done == self.i.sent[-1][0] + golden.DONE_LATENCY
        assert len(self.i.sent) == len(add_items(acc, exponents))
        x = golden.add(x, acc, exponents, weight_exponent, DESIGN, clipped := [])
        by_granule = clipped[0].reshape(len(x), H // DESIGN.hw.columns, -1, V).any(axis=-1)
        self.check_saturated(self.i.sent, [by_granule[entry, tile, group] for tile, entry, group in golden.granules(DESIGN, len(x))])
        return x

    async def check_rows(self, x, order=None):
        """Reads all granules of the rows, in order or in that of a list of (entry, part)."""
        order = order or [(entry, part) for entry in range(len(x)) for part in range(H // V)]
        self.read.sent.clear()
        self.read_o.clear()
        self.read.send([{"entry": entry, "part": part} for entry, part in order])
        mags = golden.magnitude(x).tolist()
        expected = [{"x": x[entry, part * V:][:V].tolist(), "mag": mags[entry]} for entry, part in order]
        assert await self.read_o.wait(len(order)) == expected


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, *pattern)
    smooth = pattern == (0, 0)
    for n in (T, 1, T) if smooth else (1, T):
        codes, exponent = embedding(rng, n)
        await bench.do_embed(codes, exponent)
        x = golden.embed(codes, exponent, DESIGN)
        await bench.check_rows(x)
        if smooth:
            taken = [cycle for cycle, _ in bench.embed.sent]
            assert taken == list(range(taken[0], taken[0] + len(taken)))
            taken = [cycle for cycle, _ in bench.read.sent]
            assert taken == list(range(taken[0], taken[0] + len(taken)))
            assert bench.read_o.cycles == [cycle + golden.READ_LATENCY for cycle in taken]
        for final in (0, 1, 1, 0):
            acc, exponents, weight_exponent = sums(rng, n)
            bench.sig.clear()
            x = await bench.do_add(x, acc, exponents, weight_exponent, final)
            order = [(int(rng.integers(n)), int(rng.integers(H // V))) for _ in range(20)]
            await bench.check_rows(x, order if final else None)
            if final:
                crcs = golden.signature(x)
                assert await bench.sig.wait(n) == [{"entry": entry, "crc": crc} for entry, crc in enumerate(crcs)]
            if smooth:
                taken = [cycle for cycle, _ in bench.i.sent]
                assert taken == [bench.cmd.sent[0][0] + 1 + k for k in range(len(taken))]
                ends = {entry: cycle for cycle, (_, entry, _) in zip(taken, golden.granules(DESIGN, n))}
                assert bench.sig.cycles == [ends[entry] + golden.SIGNATURE_LATENCY for entry in range(n) if final]
            elif not final:
                assert bench.sig.items == []


@cocotb.test()
async def readable_as_soon_as_promised(dut):
    """A read taken ADD_LATENCY after the granule sees it."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench()
    codes, exponent = embedding(rng, 1)
    items = embed_items(codes)

    def too_soon(cycle):
        return len(bench.embed.sent) < len(items) or cycle < bench.embed.sent[-1][0] + golden.ADD_LATENCY

    await bench.start(dut)
    bench.read.stop()
    bench.read = StreamSource(dut, "read", bench.clock, idle=too_soon, shape=residual_read_layout(DESIGN))
    dut.embed_exp.value = exponent & 1023
    bench.embed.send(items)
    await bench.check_rows(golden.embed(codes, exponent, DESIGN), [(0, H // V - 1)])
    assert bench.read.sent[0][0] == bench.embed.sent[-1][0] + golden.ADD_LATENCY


@cocotb.test()
async def commands_in_a_row(dut):
    """Commands offered together are taken one after the other, when signatures are gone."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, 0, 0.8)
    codes, exponent = embedding(rng, T)
    await bench.do_embed(codes, exponent)
    x, expected = golden.embed(codes, exponent, DESIGN), []
    bench.cmd.send([{"n": T, "final": 1}] * 3)
    for _ in range(3):
        acc, exponents, _ = sums(rng, T)
        bench.i.send(add_items(acc, exponents))
        x = golden.add(x, acc, exponents, 0, DESIGN)
        expected += [{"entry": entry, "crc": crc} for entry, crc in enumerate(golden.signature(x))]
    assert await bench.sig.wait(3 * T) == expected
    await bench.clock.edge(golden.DONE_LATENCY)
    await bench.check_rows(x)


@cocotb.test()
async def limits(dut):
    """Numbers at the limits and next to them: which were clipped is told exactly; the largest and the least as a sum are not."""
    bench = await Bench().start(dut)
    unit, top = -DESIGN.acc_unit - DESIGN.hw.residual_fraction, 1 << 22         # of the weights' exponent, for sums in units of the residual's
    await bench.do_embed(np.zeros((T, CODES, H), np.int64), 0)
    x, told = np.zeros((T, H), np.int64), []
    for values, exponent in (([top - 1, -top + 1], 9), ([511, -511], 0), ([0, -1], 0), ([1, -1], 0), ([-1, 1], 9), ([top, -top], 9), ([-top, top], 9)):
        acc = np.resize(values, (T, H))
        golden.add(x, acc, [0] * T, exponent + unit, DESIGN, clipped := [])
        told.append(clipped[0][0, :2].tolist())
        x = await bench.do_add(x, acc, [0] * T, exponent + unit, 0)
        await bench.check_rows(x)
    # the largest and the least are numbers as others; one beyond is not, and neither is what is added if it is too large by itself
    assert told == [[False, False]] * 3 + [[True, True], [False, False], [True, True], [True, True]]


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    acc, exponents, weight_exponent = sums(rng, T)
    bench.cmd.send([{"n": T, "final": 1}])
    bench.i.send(add_items(acc, exponents))
    bench.read.send([{"entry": 0, "part": 0}])
    await bench.clock.edge(H // V - 1 + 4)
    for port in (bench.i, bench.read, bench.cmd):
        port.clear()
    await bench.clock.reset()
    bench.read_o.clear()
    bench.sig.clear()
    bench.saturated.clear()
    codes, exponent = embedding(rng, T)
    await bench.do_embed(codes, exponent)
    x = golden.embed(codes, exponent, DESIGN)
    acc, exponents, weight_exponent = sums(rng, T)
    x = await bench.do_add(x, acc, exponents, weight_exponent, 1)
    await bench.check_rows(x)
    assert [item["crc"] for item in bench.sig.items] == golden.signature(x)
