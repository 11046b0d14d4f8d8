"""Bench of the weight stream's source and dispatcher: routing, cycles, stalls."""
import random

import cocotb
from amaranth.lib.data import ArrayLayout
from amaranth.hdl import signed

from hwgen.golden import weights as golden
from hwgen.lib.layouts import EXP_BITS
from hwgen.params.block import Norm
from hwgen.params.stream import EMBEDDING, FINAL_NORM, HEAD, POSITIONS
from hwgen.top import make
from hwgen.units.weights import beat_layout, request_layout
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset, unpack, value_of
from sim.weights_units import random_stream

DESIGN = small_design(**bench_params())
HW, UNIT = DESIGN.hw, make.dispatcher(DESIGN)
ALL = True if HW.halves == 1 else [1, 1]       # all LM heads
STREAM = random_stream(DESIGN)      # of the ROM
OTHER = 255 - STREAM                # from elsewhere: so each bit is 0 in one and 1 in the other
NORMS = [norm.name for norm in DESIGN.block.of(Norm)]
LEARNED = DESIGN.model.learned_positions
VECTORS = any(section.vectors for section in DESIGN.stream)
EXPS = ArrayLayout(signed(EXP_BITS), DESIGN.block.record_words)


class Bench:
    def __init__(self, dut, clock, idle, stall, stream):
        self.dut, self.clock, self.stream = dut, clock, stream
        self.cmd = StreamSource(dut, "cmd", clock, idle=idle, shape=UNIT.cmd.p.shape())
        self.embed = StreamSink(dut, "embed", clock, stall=stall, shape=UNIT.embed.p.shape(),
                                numbers={"codes": DESIGN.recipe.weight_format})
        self.gain = StreamSink(dut, "gain", clock, stall=stall, shape=UNIT.gain.p.shape())
        self.tile = StreamSink(dut, "tile", clock, stall=stall)
        if VECTORS:
            self.vector = StreamSink(dut, "vector", clock, shape=UNIT.vector.p.shape())
        self.exps = {}          # cycle: exponents then
        self.embed_exps = {}    # the same of the tables
        self.waits, self.takes = [], []     # cycles
        cocotb.start_soon(self._watch())

    async def _watch(self):
        may_change, before = True, None
        while True:
            await self.clock.sample()
            value = value_of(self.dut.exps)
            assert may_change or value == before, f"exps changed in cycle {self.clock.cycle} though gain was not ready"
            self.exps[self.clock.cycle] = value
            self.embed_exps[self.clock.cycle] = value_of(self.dut.embed_exp)
            before = value
            for seen, signal in ((self.waits, self.dut.waits), (self.takes, self.dut.takes)):
                if value_of(signal):
                    seen.append(self.clock.cycle)
            may_change = self.clock.in_reset or value_of(self.dut.gain__ready)
            await self.clock.edge()

    def clear(self):
        for seen in (self.exps, self.embed_exps, self.waits, self.takes):
            seen.clear()
        for sink in (self.embed, self.gain, self.tile, *([self.vector] if VECTORS else [])):
            sink.clear()

    def send(self, tokens, wants_head):
        last = len(tokens) - 1
        self.cmd.send([{"entry": i, "token": t, "last": i == last, "head": head_bits(wants_head) * (i == last)} |
                       ({"position": position_of(i, t)} if LEARNED else {}) for i, t in enumerate(tokens)])

    async def check(self, passes):
        """Everything that passes [(tokens, wants_head)] make, in order."""
        want = [expected(self.stream, tokens, wants_head) for tokens, wants_head in passes]
        for sink, name in ((self.embed, "embed"), (self.gain, "gain"),
                           (self.tile, "tile"), *([(self.vector, "vector")] if VECTORS else [])):
            items = [item for one in want for item in one[name]]
            got = await sink.wait(len(items))
            assert got == items, name
        shown = [unpack(EXPS, self.exps[cycle]) for cycle, gain in self.gain.received if gain["part"] == 0]
        assert shown == [e for one in want for e in one["exps"]]
        shown = [unpack(signed(EXP_BITS), self.embed_exps[cycle]) for cycle, _ in self.embed.received]
        assert shown == [unpack(signed(EXP_BITS), exp % (1 << EXP_BITS)) for one in want for exp in one["embed_exps"]]
        assert value_of(self.dut.model_id) == golden.model_id(self.stream, DESIGN)


def position_of(entry, token):
    """Some position for each entry."""
    return (7 * token + 5 * entry + 3) % HW.context


def head_bits(wants_head):
    return int(wants_head) if HW.halves == 1 else wants_head[0] | wants_head[1] << 1


def wanted_heads(rng, n):
    """Whether the LM head is wanted; by each half-batch that there is."""
    return rng.random() < 0.5 if HW.halves == 1 else [rng.random() < 0.5, n > HW.entries // 2 and rng.random() < 0.5]


def runs(n, wants_head):
    """(record, [the matrices behind it], half-batch) of a pass, in order: sections of the stream."""
    halves = None
    if HW.halves == 2:
        pieces = golden.pieces(DESIGN, n > HW.entries // 2, wants_head)
        sections = [DESIGN.stream.at(address) for address, _, _ in golden.request_list(DESIGN, [0] * n, wants_head,
                                                                                       [0]
                                                                                       * n)[n * DESIGN.embedding_rows()
                                                                                            * (1 + DESIGN.scaled) + 1:]]
        halves = [piece.half for piece in pieces]
        assert len(sections) == len(halves)
    else:
        sections = [s for s in DESIGN.stream if s.layer is not None or wants_head
                    and (s.name == FINAL_NORM or s.name == HEAD and DESIGN.stream.has_tiles(HEAD))]
    found = []
    for section, half in zip(sections, halves or [0] * len(sections)):
        if section.matmul is None:
            found.append((section, [], half))
        else:
            found[-1][1].append(section)
    return found


def expected(stream, tokens, wants_head):
    lanes = HW.vector_lanes
    want = {"embed": [], "embed_exps": [], "gain": [], "exps": [], "tile": [], "vector": []}
    for entry, token in enumerate(tokens):
        rows = [(golden.embedding_row(stream, DESIGN, token), {})]
        exps = [golden.embed_exponent(stream, DESIGN) + golden.row_offset(stream, DESIGN, EMBEDDING, token)]
        if LEARNED:
            position = position_of(entry, token)
            rows = [(rows[0][0], {"position": 0}), (golden.position_row(stream, DESIGN, position), {"position": 1})]
            exps.append(golden.position_exponent(stream, DESIGN)
                        + golden.row_offset(stream, DESIGN, POSITIONS, position))
        parts = [(k * HW.lanes // lanes + i, lo) for k in range(DESIGN.head_matmul.k_tiles)
                 for lo in range(DESIGN.head_matmul.codes)
                 for i in range(HW.lanes // lanes)]
        want["embed"] += [{"codes": row[lo, part * lanes:(part + 1) * lanes].tolist(), "entry": entry,
                           "part": part, "lo": lo,
                           "last": 0, **of} for row, of in rows for part, lo in parts]
        want["embed_exps"] += [exp for exp in exps for _ in parts]
    want["embed"][-1]["last"] = 1
    for section, matrices, half in runs(len(tokens), wants_head):
        exps, gains, vectors = golden.record(stream, DESIGN, section)
        want["exps"].append(exps.tolist())
        want["gain"] += [{"g": g, "part": part} for part, g in enumerate(gains.reshape(-1, lanes).tolist())]
        want["vector"] += [{"x": x, "norm": len(NORMS) if section.name == FINAL_NORM else NORMS.index(section.name),
                            "half": half, "part": part}
                           for part, x in enumerate(vectors.reshape(-1, lanes).tolist())]
        for section in matrices:
            want["tile"] += tile_words(stream, section)
    return want


def tile_words(stream, section):
    """The tiles of a matrix as they are handed out: codes, and behind them the offsets of the rows."""
    codes, bits = golden.tiles(stream, DESIGN, section), DESIGN.array_format.bits
    words = [sum(code << bits * i for i, code in enumerate(tile)) for tile in codes.tolist()]
    if not DESIGN.scaled:
        return words
    rows = golden.row_offsets(stream, DESIGN, section).reshape(-1, HW.columns).tolist()
    steps = section.tiling.steps
    return [word | sum(row << 4 * c for c, row in enumerate(rows[i // steps])) << bits * HW.columns * HW.lanes
            for i, word in enumerate(words)]


async def begin(dut, idle=0, stall=0, apart=0):
    clock = await start_clock_reset(dut)
    dut.apart.value = apart
    return clock, Bench(dut, clock, idle, stall, OTHER if apart else STREAM)


def some_tokens(rng, n):
    return [rng.randrange(DESIGN.model.vocab_size) for _ in range(n)]


@cocotb.test()
async def cycles(dut):
    """Every transfer of two passes in the cycle that golden says, and as few waits for the source."""
    rng = random.Random(cocotb.RANDOM_SEED)
    _, bench = await begin(dut)
    for n, wants_head in ((HW.entries, True), (1, False)) if HW.halves == 1 else ((HW.entries, [1, 1]), (1, [0, 0]),
                                                                            (HW.entries, [0, 1])):
        tokens = some_tokens(rng, n)
        bench.clear()
        bench.send(tokens, wants_head)
        await bench.check([(tokens, wants_head)])
        start = bench.cmd.sent[-n][0]
        assert bench.embed.cycles == [start + golden.embed_cycle(DESIGN, i) for i in range(len(bench.embed.cycles))]
        assert bench.embed.cycles[-1] == start + golden.embed_done_cycle(DESIGN, n)
        previous = start + golden.record_first(DESIGN, n)
        gains, tiles, exps = [], [], []
        for record, matrices, _ in runs(n, wants_head):
            exps.append(golden.exps_cycle(DESIGN, previous))
            gains += [golden.gain_cycle(DESIGN, previous, i)
                      for i in range(DESIGN.padded_hidden_size // HW.vector_lanes)]
            previous = golden.record_end(record, previous)
            for tiling, i in ((section.tiling, i) for section in matrices for i in range(section.matmul.tiles)):
                previous = golden.tile_after_tile_cycle(tiling, previous, i)
                tiles.append(previous)
        assert bench.gain.cycles == gains
        assert bench.tile.cycles == tiles
        assert [unpack(EXPS, bench.exps[cycle]) for cycle in exps] == expected(STREAM, tokens, wants_head)["exps"]
        assert bench.waits == [start + 1 + i for i in range(golden.waits(DESIGN))]
        assert len(bench.takes) == golden.beats_taken(DESIGN, n, wants_head)


@cocotb.test()
@cocotb.parametrize(("pattern", cross()), ("apart", [0, 1]))
async def values(dut, pattern, apart):
    """Passes one behind the other, from the ROM and from a memory with a latency of its own."""
    if not apart and pattern[0]:
        return      # the ROM is never idle
    rng = random.Random(f"{cocotb.RANDOM_SEED} {pattern}")
    clock, bench = await begin(dut, *pattern, apart=apart)
    if apart:
        cocotb.start_soon(external_memory(dut, clock, *pattern))
    counts = [rng.randint(1, HW.entries) for _ in range(3)][:3 if max(pattern) < 0.9 else 1]
    passes = [(some_tokens(rng, n), wanted_heads(rng, n)) for n in counts]
    for tokens, wants_head in passes:
        bench.send(tokens, wants_head)
    await bench.check(passes)


async def external_memory(dut, clock, idle, stall):
    """Answers requests; takes some ahead of their beats."""
    requests = StreamSink(dut, "requests", clock, stall=stall, shape=request_layout(stream_beats=DESIGN.stream_beats))
    data = StreamSource(dut, "data", clock, idle=idle, shape=beat_layout(beat_bytes=DESIGN.hw.beat_bytes))
    served = 0
    while True:
        await clock.edge()
        while served < len(requests.items):
            r = requests.items[served]
            served += 1
            step = HW.tile_beats if r["stride"] else 1
            data.send(OTHER[r["address"] + step * i].tolist() for i in range(r["count"]))


@cocotb.test()
async def requests(dut):
    """What a pass asks for, when nobody answers: everything, at once."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock, bench = await begin(dut, apart=1)
    sink = StreamSink(dut, "requests", clock, shape=request_layout(stream_beats=DESIGN.stream_beats))
    tokens = some_tokens(rng, HW.entries)
    bench.send(tokens, ALL)
    want = golden.request_list(DESIGN, tokens, ALL, [position_of(i, t) for i, t in enumerate(tokens)])
    got = await sink.wait(len(want), timeout=100)
    assert [(r["address"], r["count"], r["stride"]) for r in got] == want
    assert sink.cycles == list(range(len(want)))


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def rom(dut, pattern):
    """The ROM on its own: requests of all kinds, without a bubble if nobody stalls."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {pattern}")
    idle, stall = pattern
    clock, _ = await begin(dut, apart=1)
    source = StreamSource(dut, "rom_req", clock, idle=idle, shape=request_layout(stream_beats=DESIGN.stream_beats))
    sink = StreamSink(dut, "rom_beats", clock, stall=stall)
    asked, want = [], []
    for count in [1, 1, 2, 1, 5, 3, 1, *(rng.randint(1, 9) for _ in range(10))]:
        stride = rng.randrange(2)
        step = HW.tile_beats if stride else 1
        count = min(count, (DESIGN.stream_beats - 1) // step + 1)
        address = rng.randrange(DESIGN.stream_beats - (count - 1) * step)
        asked.append({"address": address, "count": count, "stride": stride})
        want += [int.from_bytes(STREAM[address + step * i].tobytes(), "little") for i in range(count)]
    source.send(asked)
    assert await sink.wait(len(want)) == want
    if pattern == (0, 0):
        assert sink.cycles == [source.sent[0][0] + golden.ROM_LATENCY + i for i in range(len(want))]


@cocotb.test()
@cocotb.parametrize(("when", [1, 3, 9, 40]))
async def reset_in_flight(dut, when):
    rng = random.Random(cocotb.RANDOM_SEED)
    clock, bench = await begin(dut, 0, 0.2)
    bench.send(some_tokens(rng, HW.entries), ALL)
    await clock.edge(when)
    bench.cmd.clear()
    await clock.reset()
    bench.clear()
    tokens = some_tokens(rng, HW.entries)
    bench.send(tokens, ALL)
    await bench.check([(tokens, ALL)])
