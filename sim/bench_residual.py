"""Bench of Residual: embeddings, adds (of sums, biases, a norm's results), reads, magnitudes, signatures, and their
cycles.

With the parameter ``sums`` it is of the unit that keeps sums for a norm: there are no embeddings and no signatures, and
an add sets rows.
"""

import cocotb
import numpy as np

from hwgen.golden import residual as golden
from hwgen.golden.numbers import bf16_bits, bf16_value
from hwgen.lib.layouts import bias_layout, residual_read_layout, residual_row_layout, signature_layout
from hwgen.params.hardware import MAX_ROW
from hwgen.units.residual import Residual
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset, value_of

PARAMS = bench_params()
SUMS = PARAMS.pop("sums", False)
DESIGN = small_design(**PARAMS)
NORMED = DESIGN.block.post_norms and not SUMS
BIASED = [] if NORMED else [down for down, project in enumerate(DESIGN.block.added) if DESIGN.block.biased(project)]
V, T, H = DESIGN.hw.vector_lanes, DESIGN.hw.entries, DESIGN.padded_hidden_size
ADDED = DESIGN.layer_hidden()       # elements of a row that sums are added to
CODES = DESIGN.recipe.codes_per_head_weight
TABLES = DESIGN.embedding_rows()
UNIT = Residual(DESIGN, sums=SUMS)
CMD = UNIT.cmd.payload.shape()
FMT = DESIGN.recipe.weight_format


def embedding(rng, n):
    """(codes [n, TABLES, CODES, H], exponents [TABLES]): exponents from everything rounds off to everything
    saturates."""
    codes = rng.integers(0, FMT.max_code + 1, (n, TABLES, CODES, H)) | rng.integers(0, 2, (n, TABLES, CODES, H)) << 7
    if CODES == 2 and rng.random() < 0.5:                  # the lo codes cancel the hi ones, but for an element
        codes[:, :, 1] = codes[:, :, 0] ^ 0x80
        codes[:, :, 1, int(rng.integers(H))] = 1
    exponents = rng.choice([-9, -4, 0, 7, -30, 16, 40], TABLES)
    if TABLES == 2 and rng.random() < 0.5:                 # numbers of a position that count beside the token's
        exponents[1] = exponents[0] - int(rng.integers(-3, 4))
    return codes, exponents.tolist()


def embedded(codes, exponents, clipped=None):
    """The rows that these codes make."""
    x = golden.embed(codes[:, 0], exponents[0], DESIGN, clipped)
    return x if TABLES == 1 else golden.embed(codes[:, 1], exponents[1], DESIGN, clipped, x)


def embed_items(codes):
    """In the dispatcher's order: for each entry, table and k-tile, the hi slice, then the lo slice."""
    n, lanes = len(codes), DESIGN.hw.lanes
    out = [{"codes": codes[entry, table, lo, tile * lanes + k * V:][:V].tolist(), "entry": entry,
            "part": tile * lanes // V + k,
            "lo": lo, "last": 0, **({"position": table} if TABLES == 2 else {})}
           for entry in range(n) for table in range(TABLES) for tile in range(H // lanes) for lo in range(CODES)
           for k in range(lanes // V)]
    out[-1]["last"] = 1
    return out


def patterns(rng, shape):
    """bf16 numbers as bits: from everything rounds off to everything saturates, and zeros."""
    unit = 127 - DESIGN.hw.residual_fraction
    exponents = rng.integers(unit - 11, unit + 35, shape)
    exponents = np.where(rng.random(shape) < 0.1, rng.choice([1, 254], shape), exponents)
    bits = rng.integers(0, 2, shape) << 15 | exponents << 7 | rng.integers(0, 128,
                                                                           shape) & rng.choice([127, 64, 0], shape)
    return np.where(rng.random(shape) < 0.1, 0, bits)


def additions(rng, n):
    """What is added: bf16 numbers as bits [n, H], or (acc [n, H], exponents [n], weight exponent, offsets of rows [H]
    or None)."""
    if NORMED:
        return patterns(rng, (n, H))
    bits = DESIGN.acc_bits
    acc = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (n, H)) >> rng.integers(0, bits, (n, H))
    ties = (2 * rng.integers(0, 256, (n, H)) + 1) << rng.integers(0, bits - 11, (n, H))
    acc = np.where(rng.random((n, H)) < 0.2, ties * rng.choice([-1, 1], (n, H)), acc)
    acc[0, 0] = -(1 << (bits - 1))
    acc[:, ADDED:] = 0
    spread = int(rng.choice([6, 6, 6, 500]))
    exponents = rng.integers(-spread - 4, spread - 4, n).tolist(), int(rng.integers(-spread, spread))
    return acc, *exponents, rng.integers(0, MAX_ROW + 1, H) if DESIGN.scaled else None


def order(n):
    """(entry, part) of the granules of an add."""
    if NORMED:
        return list(golden.value_granules(DESIGN, n))
    return [(entry, tile * (DESIGN.hw.columns // V) + group) for tile, entry, group in golden.granules(DESIGN, n)]


def add_items(what, n):
    if NORMED:
        return [{"x": what[entry, part * V:][:V].tolist(), "row": entry, "part": part} for entry, part in order(n)]
    acc, exponents, _, rows = what
    return [{"acc": acc[entry, part * V:][:V].tolist(), "entry": entry, "exp": exponents[entry],
             "group": part % (DESIGN.hw.columns // V),
             **({} if rows is None else {"rows": rows[part * V:][:V].tolist()})} for entry, part in order(n)]


def added(x, what, bias, clipped):
    """The rows x after an add of ``what``; where it sets them, x does not count."""
    if NORMED:
        return golden.add_values(x, bf16_value(what), DESIGN, clipped)
    bias = None if bias is None else bf16_value(bias)
    *sums, rows = what
    return golden.set_sums(*sums, DESIGN, clipped, bias,
                           rows) if SUMS else golden.add(x, *sums, DESIGN, clipped, bias, rows)


class Bench:
    async def start(self, dut, idle=0, stall=0):
        self.dut = dut
        self.clock = clock = await start_clock_reset(dut)
        self.cmd = StreamSource(dut, "cmd", clock, shape=CMD)
        self.i = StreamSource(dut, "i", clock, idle=idle, shape=UNIT.i.payload.shape())
        if BIASED:
            self.bias = StreamSource(dut, "bias", clock, idle=idle, shape=bias_layout(DESIGN))
            self.biases = [None, None]      # of o, of down: bf16 numbers as bits
        self.read = StreamSource(dut, "read", clock, idle=idle, shape=residual_read_layout(DESIGN))
        self.read_o = StreamSink(dut, "read_o", clock, stall=stall, shape=residual_row_layout(DESIGN), source=self.read)
        if not SUMS:
            self.embed = StreamSource(dut, "embed", clock, idle=idle, shape=UNIT.embed.payload.shape())
            self.sig = StreamSink(dut, "sig", clock, stall=stall, shape=signature_layout(DESIGN))
        self.saturated = []         # the cycles
        cocotb.start_soon(self._watch())
        if TABLES == 2:
            cocotb.start_soon(self._follow())
        return self

    async def _follow(self):
        """The exponent is that of the table of which the next granule is."""
        while True:
            if self.embed._queue:
                self.dut.embed_exp.value = self.exponents[self.embed._queue[0]["position"]] & 1023
            await self.clock.edge()

    async def _watch(self):
        while True:
            await self.clock.sample()
            if value_of(self.dut.saturated):
                self.saturated.append(self.clock.cycle)
            await self.clock.edge()

    def check_saturated(self, sent, flags):
        """That the granules, taken in the cycles of ``sent``, with true ``flags`` were told, each SATURATED_LATENCY
        later."""
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

    def send_embedding(self, codes, exponents):
        self.exponents = exponents
        self.dut.embed_exp.value = exponents[0] & 1023
        self.embed.send(embed_items(codes))

    async def do_embed(self, codes, exponents):
        self.embed.sent.clear()
        self.send_embedding(codes, exponents)
        done = await self.until(self.dut.embed_done)
        assert done == self.embed.sent[-1][0] + golden.DONE_LATENCY
        assert len(self.embed.sent) == len(embed_items(codes))
        embedded(codes, exponents, clipped := [])
        self.check_saturated(self.embed.sent, [clipped[item.get("position", 0) * CODES
                                                       + item["lo"]][item["entry"]].reshape(-1, V)[item["part"]].any()
                                                       for item in embed_items(codes)])
        return done

    async def start_rows(self, rng, n):
        """Rows to begin with, from an embedding."""
        if SUMS:
            return np.zeros((n, H), np.int64)
        codes, exponents = embedding(rng, n)
        await self.do_embed(codes, exponents)
        return embedded(codes, exponents)

    def send_biases(self, rng):
        """New numbers for all biases that there are."""
        for down in BIASED:
            self.biases[down] = np.pad(patterns(rng, ADDED), (0, H - ADDED))
            self.bias.send([{"x": self.biases[down][part * V:][:V].tolist(), "down": down, "part": part}
                            for part in range(ADDED // V)])

    def command(self, what, n, final):
        """Offers a command, for ``final`` of "down" and else of "o", and all granules for it. Returns the bias that
        there is to add."""
        if not NORMED:
            self.dut.exp.value = what[2] & 1023
        self.cmd.send([{name: n if name == "n" else final for name in CMD.members}])
        self.i.send(add_items(what, n))
        return self.biases[final] if BIASED else None

    async def do_add(self, x, what, final):
        """An add to rows x; what they are then."""
        n = len(x)
        for port in (self.cmd, self.i):
            port.sent.clear()
        bias = self.command(what, n, final)
        await self.cmd.drained()
        if not NORMED:
            self.dut.exp.value = 0
        done = await self.until(self.dut.done)
        assert done == self.i.sent[-1][0] + golden.DONE_LATENCY
        assert len(self.i.sent) == len(add_items(what, n))
        x = added(x, what, bias, clipped := [])
        by_granule = clipped[0].reshape(n, -1, V).any(axis=-1)
        self.check_saturated(self.i.sent, [by_granule[granule] for granule in order(n)])
        return x

    async def check_rows(self, x, order=None):
        """Reads all granules of the rows, in order or in that of a list of (entry, part)."""
        order = order or list(golden.value_granules(DESIGN, len(x)))
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
        x = await bench.start_rows(rng, n)
        if not SUMS:
            await bench.check_rows(x)
            if smooth:
                taken = [cycle for cycle, _ in bench.embed.sent]
                assert taken == list(range(taken[0], taken[0] + len(taken)))
                taken = [cycle for cycle, _ in bench.read.sent]
                assert taken == list(range(taken[0], taken[0] + len(taken)))
                assert bench.read_o.cycles == [cycle + golden.READ_LATENCY for cycle in taken]
        for final in (0, 1, 1, 0):
            if BIASED:
                bench.send_biases(rng)
                await bench.bias.drained()
            if not SUMS:
                bench.sig.clear()
            x = await bench.do_add(x, additions(rng, n), final)
            reads = [(int(rng.integers(n)), int(rng.integers(H // V))) for _ in range(20)]
            await bench.check_rows(x, reads if final else None)
            if smooth:
                taken = [cycle for cycle, _ in bench.i.sent]
                assert taken == [bench.cmd.sent[0][0] + 1 + k for k in range(len(taken))]
            if SUMS:
                continue
            if final:
                crcs = golden.signature(x[:, :ADDED])
                assert await bench.sig.wait(n) == [{"entry": entry, "crc": crc} for entry, crc in enumerate(crcs)]
            if smooth:
                ends = {entry: cycle for cycle, (entry, _) in zip(taken, order(n))}
                assert bench.sig.cycles == [ends[entry] + golden.SIGNATURE_LATENCY for entry in range(n) if final]
            elif not final:
                assert bench.sig.items == []


@cocotb.test(skip=SUMS)
async def readable_as_soon_as_promised(dut):
    """A read taken ADD_LATENCY after the granule sees it."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench()
    codes, exponents = embedding(rng, 1)
    items = embed_items(codes)

    def too_soon(cycle):
        return len(bench.embed.sent) < len(items) or cycle < bench.embed.sent[-1][0] + golden.ADD_LATENCY

    await bench.start(dut)
    bench.read.stop()
    bench.read = StreamSource(dut, "read", bench.clock, idle=too_soon, shape=residual_read_layout(DESIGN))
    bench.send_embedding(codes, exponents)
    await bench.check_rows(embedded(codes, exponents), [(0, H // V - 1)])
    assert bench.read.sent[0][0] == bench.embed.sent[-1][0] + golden.ADD_LATENCY


@cocotb.test(skip=not SUMS)
async def readable_while_the_rest_is_set(dut):
    """A granule of sums is readable ADD_LATENCY after it was taken, in the middle of a command; and reads never
    wait."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    bench.read.stop()
    bench.i.stop()
    bench.i = StreamSource(dut, "i", bench.clock, idle=lambda cycle: cycle % 3 and len(bench.i.sent),
                           shape=UNIT.i.payload.shape())
    bench.read = StreamSource(dut, "read", bench.clock, shape=residual_read_layout(DESIGN),
                              idle=lambda cycle: not bench.i.sent or cycle < bench.i.sent[0][0] + golden.ADD_LATENCY)
    bench.read_o.source = bench.read
    if BIASED:
        bench.send_biases(rng)
        await bench.bias.drained()
    what = additions(rng, T)
    bias = bench.command(what, T, 0)
    bench.read.send([{"entry": 0, "part": 0}] * 8)
    received = await bench.read_o.wait(8)
    first = bench.i.sent[0][0] + golden.ADD_LATENCY
    assert [cycle for cycle, _ in bench.read.sent] == list(range(first, first + 8))
    assert received.field("x") == [added(None, what, bias, [])[0, :V].tolist()] * 8


@cocotb.test(skip=not BIASED)
@cocotb.parametrize(lag=[golden.BIAS_LATENCY - 1, golden.BIAS_LATENCY])
async def biases_in_time(dut, lag):
    """Sums taken BIAS_LATENCY after their bias have the new one, and those that come earlier the one before."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    x, what = await bench.start_rows(rng, 1), additions(rng, 1)
    for turn in range(2):
        bench.send_biases(rng)
        await bench.bias.drained()
        bench.bias.sent.clear()
    before = list(bench.biases)
    bench.i.stop()
    bench.i = StreamSource(dut, "i", bench.clock, shape=UNIT.i.payload.shape(),
                           idle=lambda cycle: not bench.bias.sent or cycle < bench.bias.sent[0][0] + lag)
    bench.command(what, 1, BIASED[0])
    await bench.cmd.drained()
    bench.send_biases(rng)
    done = await bench.until(dut.done)
    assert done == bench.bias.sent[0][0] + lag + ADDED // V - 1 + golden.DONE_LATENCY
    await bench.check_rows(added(x, what, (before if lag < golden.BIAS_LATENCY else bench.biases)[BIASED[0]], []))


@cocotb.test(skip=SUMS)
async def commands_in_a_row(dut):
    """Commands offered together are taken one after the other, when signatures are gone."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, 0, 0.8)
    x, expected = await bench.start_rows(rng, T), []
    if BIASED:
        bench.send_biases(rng)
        await bench.bias.drained()
    bench.cmd.send([{"n": T, "final": 1}] * 3)
    for _ in range(3):
        what = additions(rng, T)
        if not NORMED:
            acc, exponents, _, rows = what
            what = acc, exponents, 0, rows
        bench.i.send(add_items(what, T))
        x = added(x, what, bench.biases[1] if BIASED else None, [])
        expected += [{"entry": entry, "crc": crc} for entry, crc in enumerate(golden.signature(x[:, :ADDED]))]
    assert await bench.sig.wait(3 * T) == expected
    await bench.clock.edge(golden.DONE_LATENCY)
    await bench.check_rows(x)


@cocotb.test(skip=SUMS)
async def limits(dut):
    """Numbers at the limits and next to them: which were clipped is told exactly; the largest and the least as a sum
    are not."""
    bench = await Bench().start(dut)
    fraction, top = DESIGN.hw.residual_fraction, 1 << 22
    if BIASED:
        bench.biases = [np.zeros(H, np.int64)] * 2
        bench.bias.send([{"x": [0] * V, "down": down, "part": part} for down in BIASED for part in range(ADDED // V)])
        await bench.bias.drained()
    await bench.do_embed(np.zeros((T, TABLES, CODES, H), np.int64), [0] * TABLES)
    x, told = np.zeros((T, H), np.int64), []

    def units(values, exponent):
        """Sums, or bf16 numbers, of ``values * 2**exponent`` in units of the residual's."""
        if NORMED:
            return np.resize(bf16_bits(np.ldexp(values, exponent - fraction)).astype(np.int64), (T, H))
        rows = np.zeros(H, int) if DESIGN.scaled else None
        return np.resize(values, (T, H)) * (np.arange(H) < ADDED), [0] * T, exponent - DESIGN.acc_unit - fraction, rows

    # the largest and the least are numbers as others; one beyond is not, and neither is what is added if it is too
    # large by itself
    reach = [([top - 1, -top + 1], 9), ([511, -511], 0)]
    if NORMED:
        reach = [([255, -255], 23), ([255, -255], 15), ([255, -255], 7), ([127, -127], 0)]
    steps = [*((*step, False) for step in reach), ([0, -1], 0, False), ([1, -1], 0, True), ([-1, 1], 9, False),
             ([top, -top], 9, True), ([-top, top], 9, True)]
    for values, exponent, beyond in steps:
        what = units(values, exponent)
        added(x, what, None, clipped := [])
        told.append((clipped[0][0, :2] == beyond).all())
        x = await bench.do_add(x, what, 0)
        await bench.check_rows(x)
    assert all(told) and len(told) == len(steps)


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    if BIASED:
        bench.send_biases(rng)
        await bench.bias.drained()
    bench.command(additions(rng, T), T, 1)
    bench.read.send([{"entry": 0, "part": 0}])
    await bench.clock.edge(H // V - 1 + 4)
    for port in (bench.i, bench.read, bench.cmd):
        port.clear()
    await bench.clock.reset()
    bench.read_o.clear()
    if not SUMS:
        bench.sig.clear()
    bench.saturated.clear()
    x = await bench.start_rows(rng, T)
    x = await bench.do_add(x, additions(rng, T), 1)
    await bench.check_rows(x)
    if not SUMS:
        assert bench.sig.items.field("crc") == golden.signature(x[:, :ADDED])
