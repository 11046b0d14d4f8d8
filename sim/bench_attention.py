"""Bench of Attention: a qkv buffer and a KV cache in Python around it, values and cycles against the golden twin."""

import random

import cocotb
from cocotb.triggers import ReadOnly
import numpy as np

from hwgen.golden.attention import attention, attention_cycles
from hwgen.golden.kv_cache import READ_LATENCY as KV_LATENCY
from hwgen.golden.numbers import bf16_bits
from hwgen.golden.vector_buffer import READ_LATENCY as QUERY_LATENCY
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, pack, start_clock_reset, unpack, value_of

DESIGN = small_design(**bench_params())
PORTS = make.attention(DESIGN)
LANES, V, ROWS = DESIGN.hw.attention_lanes, DESIGN.hw.vector_lanes, DESIGN.hw.attention_rows
#: (idle, stall) of every stream; half of those that a unit with one input and output is tried with.
PATTERNS = [(0, 0.5), (0.5, 0), (0.5, 0.5), (0.9, 0.1), (0.1, 0.9)]


class Memory:
    """Answers requests in order, ``latency`` cycles later or when asked again; stalls and idles by chance."""

    def __init__(self, dut, request, answer, clock, shapes, lookup, latency, idle=0, stall=0):
        self.dut, self.clock, self.lookup = dut, clock, lookup
        self.latency, self.idle, self.stall = latency, idle, stall
        self.req, self.ans = ({n: getattr(dut, f"{p}__{n}") for n in ("valid", "ready", "payload")}
                              for p in (request, answer))
        self.shapes, self.queue, self.rng = shapes, [], random.Random(f"{cocotb.RANDOM_SEED} {request}")
        cocotb.start_soon(self.run())

    async def run(self):
        offered = False
        while True:
            due = bool(self.queue) and self.queue[0][0] <= self.clock.cycle and not self.clock.in_reset
            offered = due and (offered or self.rng.random() >= self.idle)
            ready = self.rng.random() >= self.stall
            self.req["ready"].value, self.ans["valid"].value = int(ready), int(offered)
            self.ans["payload"].value = self.queue[0][1] if offered else 0
            await ReadOnly()
            if self.clock.in_reset:
                self.queue.clear()
                offered = False
            else:
                if offered and value_of(self.ans["ready"]):
                    self.queue.pop(0)
                    offered = False
                if ready and value_of(self.req["valid"]):
                    request = unpack(self.shapes[0], value_of(self.req["payload"]))
                    self.queue.append((self.clock.cycle + self.latency, pack(self.shapes[1], self.lookup(request))))
            await self.clock.edge()


class Data:
    """Random contents. ``kind``: "typical" scores, "wild" exponents, "largest" codes, "zero", or "small" codes with
    typical scores, most values 0."""

    def __init__(self, kind, rng):
        d, hw, self.junk = DESIGN, DESIGN.hw, random.Random(f"{kind} {cocotb.RANDOM_SEED}")
        fmt = d.recipe.kv_format
        rows = d.layers, hw.slots, hw.context, d.kv_heads
        def codes(shape, most=fmt.max_code):
            if kind in ("largest", "zero"):
                return np.full(shape, fmt.max_code if kind == "largest" else 0, np.uint8)
            return (rng.integers(0, most + 1, shape) | rng.integers(0, 2, shape) << 7).astype(np.uint8)
        low, high = {"wild": (-512, 512), "small": (-1, 1)}.get(kind, (-3, 4))
        # without an exponent: so the last bits of sums count
        most = (2 << fmt.man_bits) - 1 if kind == "small" else fmt.max_code
        self.q, self.k, self.v = (codes((*shape, d.padded_head_dim), most)
                                  for shape in ((hw.entries, d.heads), rows, rows))
        if kind == "small":
            self.v[rng.random(self.v.shape) < 0.7] = 0
        # so that scores differ by a few units of log2
        middle = -int(np.log2((fmt.values()[most] * 2.0**fmt.unit_exp) ** 2 * d.padded_head_dim)) + 3
        self.q_exp = rng.integers(low, high, (hw.entries, d.heads))
        self.k_exp, self.v_exp = (rng.integers(low, high, rows) + (0 if kind == "wild" else m) for m in (middle, 0))
        if kind == "wild":      # around the scores' range too, and at both ends
            near = rng.random(rows) < 0.7
            self.q_exp = np.where(rng.random(self.q_exp.shape) < 0.7,
                                  rng.integers(-20, 20, self.q_exp.shape), self.q_exp)
            self.k_exp = np.where(near, rng.integers(-30, 20, rows), self.k_exp)
            self.v_exp = np.where(rng.random(rows) < 0.7, self.v_exp % 32 - 140 * rng.integers(-1, 2), self.v_exp)

    def query(self, r):
        entry, head = divmod(r["row"], DESIGN.qkv_heads)
        head -= 2 * DESIGN.kv_heads
        assert head >= 0
        part = slice(r["part"] * LANES, (r["part"] + 1) * LANES)
        return {"codes": self.q[entry, head, part].tolist(), "exp": int(self.q_exp[entry, head]), "meta": r["meta"]}

    def row(self, r, which):
        if ROWS > 1:
            return self.rows(r, which)
        at = r["layer"], r["slot"], r["position"], r["head"]
        part = slice(r["part"] * LANES, (r["part"] + 1) * LANES)
        if which == "v":
            return {"codes": self.v[at][part].tolist(), "last": r["last"]}
        return {"codes": self.k[at][part].tolist(), "exp": int(self.k_exp[at]), "v_exp": int(self.v_exp[at]),
                "last": r["last"]}

    def rows(self, r, which):
        """Several rows at once: of those that are not wanted anything."""
        first = r["position"] // ROWS * ROWS
        codes, exp, v_exp = [], [], []
        for row in range(ROWS):
            at = r["layer"], r["slot"], first + row, r["head"]
            if r["seen"] >> row & 1:
                codes, exp, v_exp = (codes + (self.v if which == "v" else self.k)[at].tolist(),
                                     [*exp, int(self.k_exp[at])], [*v_exp, int(self.v_exp[at])])
            else:
                codes = codes + [self.junk.randrange(256) for _ in range(LANES)]
                exp, v_exp = ([*many, self.junk.randrange(-512, 512)] for many in (exp, v_exp))
        return {"codes": codes, "last": r["last"]} | (
            {} if which == "v" else {"exp": exp, "v_exp": v_exp, "seen": r["seen"]})

    def expected(self, commands):
        out = []
        for c in commands:
            at = c["layer"], c["slot"], slice(c["position"] + 1)
            o = attention(DESIGN, self.q[c["entry"]], self.q_exp[c["entry"]], self.k[at], self.k_exp[at], self.v[at],
                          self.v_exp[at],
                          DESIGN.window(c["layer"]))
            x = bf16_bits(o).reshape(-1, V)
            out += [{"x": g.tolist(), "entry": c["entry"], "part": i, "last": int(i == len(x) - 1)}
                    for i, g in enumerate(x)]
        return out


def command(rng, position=None, last=0):
    hw = DESIGN.hw
    return {"entry": int(rng.integers(hw.entries)), "slot": int(rng.integers(hw.slots)),
            "layer": int(rng.integers(DESIGN.layers)),
            "position": int(rng.integers(hw.context)) if position is None else position, "last": last}


class Bench:
    def __init__(self, dut, clock, data, idle, stall):
        self.clock, self.dut, self.done = clock, dut, []
        self.cmd = StreamSource(dut, "cmd", clock, idle=idle, shape=PORTS.cmd.p.shape())
        self.o = StreamSink(dut, "o", clock, stall=stall, shape=PORTS.o.p.shape())
        self.data = data
        for request, answer, lookup, latency in (("q_r", "q_i", lambda r: self.data.query(r), QUERY_LATENCY),
                                                 ("k_req", "k_o", lambda r: self.data.row(r, "k"), KV_LATENCY),
                                                 ("v_req", "v_o", lambda r: self.data.row(r, "v"), KV_LATENCY)):
            shapes = getattr(PORTS, request).p.shape(), getattr(PORTS, answer).p.shape()
            Memory(dut, request, answer, clock, shapes, lookup, latency, idle, stall)
        cocotb.start_soon(self.watch())

    async def watch(self):
        while True:
            await ReadOnly()
            if not self.clock.in_reset and value_of(self.dut.done):
                self.done.append(self.clock.cycle)
            await self.clock.edge()

    async def check(self, commands, note=""):
        self.cmd.send(commands)
        expected = self.data.expected(commands)
        assert await self.o.wait(len(expected), timeout=20000) == expected, note
        await self.clock.edge(3)
        # one pulse for each command with last, in the cycle after its final granule
        per = len(expected) // len(commands)
        ends = [self.o.cycles[per * (i + 1) - 1] + 1 for i, c in enumerate(commands) if c["last"]]
        assert self.done == ends


async def bench(dut, kind="typical", idle=0, stall=0):
    clock = await start_clock_reset(dut)
    return Bench(dut, clock, Data(kind, np.random.default_rng(cocotb.RANDOM_SEED)), idle, stall)


def positions(rng, count):
    """Short ones, long ones, and runs of equal ones."""
    context = DESIGN.hw.context
    out = []
    while len(out) < count:
        out += [int(rng.integers(rng.choice([1, min(3, context), context])))] * int(rng.integers(1, 4))
    return out[:count]


@cocotb.test()
@cocotb.parametrize(("case", range(8)))
async def cycles(dut, case):
    """Commands at full speed: each granule and `done` come in the predicted cycle."""
    b = await bench(dut)
    rng = np.random.default_rng([cocotb.RANDOM_SEED, case])
    context = DESIGN.hw.context
    at = [[0], [context - 1], [0] * 12, [context - 1, 0, context - 1], *(positions(rng, 6) for _ in range(4))][case]
    commands = [command(rng, p, int(i == len(at) - 1)) for i, p in enumerate(at)]
    start = b.clock.cycle
    await b.check(commands)
    granules, done = attention_cycles(DESIGN, at, [DESIGN.window(c["layer"]) for c in commands])
    assert b.cmd.sent[0][0] == start
    assert b.o.cycles == [start + c for c in granules], f"at {at}"
    assert b.done == [start + done]


@cocotb.test()
@cocotb.parametrize(("pattern", PATTERNS))
async def values(dut, pattern):
    b = await bench(dut, "typical", *pattern)
    rng = np.random.default_rng([cocotb.RANDOM_SEED, PATTERNS.index(pattern)])
    await b.check([command(rng, p, int(rng.integers(2))) for p in positions(rng, 6)])


@cocotb.test()
@cocotb.parametrize(("kind", ["wild", "largest", "zero", "small"]))
async def extremes(dut, kind):
    # which takes long for as many as are needed
    if kind == "small" and cocotb.SIM_NAME.lower().startswith("icarus"):
        return
    b = await bench(dut, kind)
    rng = np.random.default_rng([cocotb.RANDOM_SEED, 7])
    count = {"largest": 4, "zero": 2}.get(kind, 16)
    await b.check([command(rng, DESIGN.hw.context - 1 if i % 2 else None, 1) for i in range(count)])


@cocotb.test()
async def reset_in_flight(dut):
    b = await bench(dut)
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    context = DESIGN.hw.context
    for wait in (3, 12, 30, 47):
        b.cmd.send([command(rng, p) for p in (context - 1, context // 2, 0, 0, context - 1)])
        await b.clock.edge(wait)
        b.cmd.clear()
        await b.clock.reset()
        b.o.clear()
        b.done.clear()
        await b.check([command(rng, context - 1), command(rng, 0, 1)], f"after {wait} cycles")
        b.o.clear()
        b.done.clear()
