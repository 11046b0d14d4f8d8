"""What benches of KvCache and KvPort share: the unit, and what its slots should hold."""
import itertools
import random

import cocotb

from hwgen.golden.kv_cache import KvBlocks
from hwgen.lib.layouts import ADMIT
from hwgen.params.errors import ErrorCode, KvOp
from hwgen.top import make
from hwgen.top.kv_port import KvBus
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset, value_of

DESIGN = small_design(**bench_params())
PORTS = KvBus(DESIGN) if DESIGN.hw.kv_port else make.kv_cache(DESIGN)
#: Streams that ask for K and for V.
ASKS = {"k": "jobs", "v": "jobs"} if DESIGN.hw.kv_port else {"k": "k_req", "v": "v_req"}
HW = DESIGN.hw
LANES, ROWS = HW.attention_lanes, HW.attention_rows
WORDS = DESIGN.padded_head_dim // LANES


def addresses(slot, position):
    """Addresses of all that an entry at a position writes."""
    return [dict(zip(("slot", "layer", "head", "position", "part"), (slot, layer, head, position, part)))
            for layer, head, part in itertools.product(range(DESIGN.layers), range(DESIGN.kv_heads), range(WORDS))]


class Cache:
    """The cache, what its slots should hold, and who should own its blocks."""

    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock, self.rng = dut, clock, random.Random(cocotb.RANDOM_SEED)
        self.start = dict.fromkeys(("write", *ASKS.values(), "ask"), 0)       # first cycle of an offer
        self.sources = {name: StreamSource(dut, name, clock, idle=name != "ask" and idle
                                           or (lambda cycle, name=name: cycle < self.start[name]),
                                           shape=getattr(PORTS, name).p.shape()) for name in self.start}
        self.sinks = {name: StreamSink(dut, f"{name}_o", clock, stall=stall,
                                       shape=getattr(PORTS, f"{name}_o").p.shape(),
                                       numbers={"codes": DESIGN.recipe.kv_format}, source=self.sources[ASKS[name]])
                      for name in ("k", "v")}
        self.forget()

    def forget(self):
        """As after a reset."""
        self.start = dict.fromkeys(self.start, 0)
        self.blocks = KvBlocks(DESIGN)
        self.texts = [[] for _ in range(HW.slots)]      # of each slot: a dict for each position
        self.changing = []                              # places that are being written

    # -- asking

    async def ask(self, op, slot, other=0, length=0):
        """(error, cycles that it waited)."""
        waited = 0
        self.sources["ask"].send([{"op": op, "slot": slot, "other": other, "length": length}])
        while True:
            await self.clock.sample()
            if value_of(self.dut.ask__valid):
                if value_of(self.dut.ask__ready):
                    error = ErrorCode(value_of(self.dut.error))
                    await self.clock.edge()
                    return error, waited
                waited += 1
            await self.clock.edge()

    async def admit(self, slot, position=None):
        position = len(self.texts[slot]) if position is None else position
        error, extra = self.blocks.admit(slot, position)
        assert await self.ask(ADMIT, slot, length=position) == (error, extra)
        if not error:
            self.texts[slot].append({})
        return error

    async def operate(self, op, slot, other=0, length=0):
        error, cycles = self.blocks.operate(op, slot, other, length)
        assert await self.ask(int(op), slot, other, length) == (error, cycles - 2)
        if not error and op == KvOp.FORK:
            self.texts[other] = [dict(row) for row in self.texts[slot][:length]]
        elif not error:
            del self.texts[slot][length if op == KvOp.TRUNCATE else 0:]
        return error

    # -- rows

    def rows(self, slot, position, value=None):
        """New random contents of a position: writes of K (value 0), of V (1) or both."""
        row = self.texts[slot][position]
        for at in addresses(slot, position):
            for v in (0, 1) if value is None else (value,):
                where = v, at["layer"], at["head"]
                exp = row.setdefault(where, self.rng.randrange(-512, 512))
                codes = row[*where, at["part"]] = [self.rng.randrange(256) for _ in range(LANES)]
                yield {**at, "value": v, "codes": codes, "exp": exp}

    async def write(self, places):
        items = [item for place in places for item in self.rows(*place)]
        self.rng.shuffle(items)
        await self.clock.edge()         # a copy's last word is still on its way
        self.sources["write"].send(items)
        await self.sources["write"].drained()

    async def fill(self):
        """All slots as full as they can be, one position after the other in random order."""
        order = [slot for slot in range(HW.slots) for _ in range(HW.context)]
        self.rng.shuffle(order)
        for slot in order:
            await self.admit(slot)
        await self.write(self.places())

    def has(self, slot, position):
        """Whether a slot has a position, and has not given it back."""
        table = self.blocks.tables[slot]
        return position < len(self.texts[slot]) and not (table and table[position // HW.kv_block] is None)

    def places(self):
        return [(slot, position) for slot, text in enumerate(self.texts) for position in range(len(text))
                if self.has(slot, position)]

    def expected(self, name, at, last):
        if ROWS > 1:
            return self.expected_rows(name, at, last)
        where = at["layer"], at["head"]
        if self.has(at["slot"], at["position"]):
            row = self.texts[at["slot"]][at["position"]]
            codes, exp, v_exp = row[name == "v", *where, at["part"]], row[0, *where], row[1, *where]
        else:
            codes, exp, v_exp = [0] * LANES, 0, 0
        return {"codes": codes, "last": last} | ({"exp": exp, "v_exp": v_exp} if name == "k" else {})

    def expected_rows(self, name, at, last):
        """Of several rows at once: those that are wanted, in their places."""
        first = at["position"] // ROWS * ROWS
        each = []
        for row in range(ROWS):
            here, wanted = {**at, "position": first + row}, at["seen"] >> row & 1 and self.has(at["slot"], first + row)
            text = self.texts[at["slot"]][first + row] if wanted else None
            where = here["layer"], here["head"]
            each.append((text[name == "v", *where, 0], text[0, *where], text[1, *where]) if text
                        else ([0] * LANES, 0, 0))
        codes = [code for row, _, _ in each for code in row]
        return {"codes": codes, "last": last} | (
            {"exp": [exp for _, exp, _ in each], "v_exp": [exp for _, _, exp in each], "seen": at["seen"]}
            if name == "k" else {})

    def wanted(self, at):
        """Some of the rows that come with one: it and others that were written."""
        first = at["position"] // ROWS * ROWS
        others = sum(1 << row for row in range(ROWS)
                     if self.has(at["slot"], at["position"]) and self.has(at["slot"], first + row)
                     and self.texts[at["slot"]][first + row] and (at["slot"], first + row) not in self.changing
                     and self.rng.random() < 0.7)
        return others | 1 << at["position"] - first

    def read(self, name, order):
        for at in order if ROWS > 1 else ():
            at.setdefault("seen", self.wanted(at))
        self.sources[f"{name}_req"].send([{**at, "last": i & 1} for i, at in enumerate(order)])

    async def check(self, orders):
        """Reads of K and V, in given orders, and what comes back."""
        for name, order in orders.items():
            self.sinks[name].clear()
            self.read(name, order)
        for name, order in orders.items():
            await self.sinks[name].wait(len(order))
            assert self.sinks[name].items == [self.expected(name, at, i & 1) for i, at in enumerate(order)]

    def anywhere(self):
        """A random address; where nobody shares the memory only one that was written."""
        positions = range(HW.context) if HW.paged else range(len(self.texts[0]))
        return self.rng.choice(addresses(self.rng.randrange(HW.slots), self.rng.choice(positions)))


async def cache(dut, idle=0, stall=0):
    return Cache(dut, await start_clock_reset(dut), idle, stall)
