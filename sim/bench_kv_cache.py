"""Bench of KvCache: what was written is read, from every address, and when."""

import itertools
import random

import cocotb

from hwgen.golden.kv_cache import READ_LATENCY
from hwgen.units.kv_cache import KvCache
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

DESIGN = small_design(**bench_params())
PORTS = KvCache(DESIGN)
LANES = DESIGN.hw.attention_lanes
PARTS = DESIGN.head // LANES
ADDRESSES = [dict(zip(("slot", "layer", "head", "position", "part"), at)) for at in itertools.product(
    range(DESIGN.hw.slots), range(DESIGN.layers), range(DESIGN.kv_heads), range(DESIGN.hw.context), range(PARTS))]


def row(at):
    return tuple(at[field] for field in ("slot", "layer", "head", "position"))


class Rows:
    """What the memory should hold."""

    def __init__(self, seed):
        self.rng, self.codes, self.exps = random.Random(seed), {}, {}

    def write(self, at, value):
        """A random write of part of a row; the exponent is the row's."""
        exp = self.exps.setdefault((value, row(at)), self.rng.randrange(-512, 512))
        codes = self.codes[value, row(at), at["part"]] = [self.rng.randrange(256) for _ in range(LANES)]
        return {**at, "value": value, "codes": codes, "exp": exp}

    def k(self, at, last):
        return {"codes": self.codes[0, row(at), at["part"]], "exp": self.exps[0, row(at)], "v_exp": self.exps[1, row(at)],
                "last": last}

    def v(self, at, last):
        return {"codes": self.codes[1, row(at), at["part"]], "last": last}


async def ports(dut, idle=0, stall=0):
    clock = await start_clock_reset(dut)
    sources = {name: StreamSource(dut, name, clock, idle=idle, shape=getattr(PORTS, name).p.shape())
               for name in ("write", "k_req", "v_req")}
    sinks = {name: StreamSink(dut, f"{name}_o", clock, stall=stall, shape=getattr(PORTS, f"{name}_o").p.shape())
             for name in ("k", "v")}
    return clock, sources, sinks


async def fill(clock, sources, rows, addresses=None):
    items = [rows.write(at, value) for at in addresses or ADDRESSES for value in (0, 1)]
    rows.rng.shuffle(items)
    sources["write"].send(items)
    await sources["write"].drained()
    rows.codes.update({(i["value"], row(i), i["part"]): i["codes"] for i in items})


@cocotb.test()
async def every_address(dut):
    """All of the memory is written, then all is read, at one row per cycle."""
    clock, sources, sinks = await ports(dut)
    rows = Rows(cocotb.RANDOM_SEED)
    await fill(clock, sources, rows)
    order = {name: rows.rng.sample(ADDRESSES, len(ADDRESSES)) for name in sinks}
    for name, sink in sinks.items():
        sources[f"{name}_req"].send([{**at, "last": i & 1} for i, at in enumerate(order[name])])
    for name, sink in sinks.items():
        await sink.wait(len(ADDRESSES))
        assert sink.items == [getattr(rows, name)(at, i & 1) for i, at in enumerate(order[name])]
        start = sources[f"{name}_req"].sent[0][0]
        assert sink.cycles == [start + READ_LATENCY + i for i in range(len(ADDRESSES))]


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    """K and V are read at their own pace while other rows are written."""
    clock, sources, sinks = await ports(dut, *pattern)
    rows = Rows(cocotb.RANDOM_SEED)
    half = max(1, len(ADDRESSES) // 2)
    await fill(clock, sources, rows, ADDRESSES[:half])
    order = {name: rows.rng.choices(ADDRESSES[:half], k=60) for name in sinks}
    for name in sinks:
        sources[f"{name}_req"].send([{**at, "last": i & 1} for i, at in enumerate(order[name])])
    sources["write"].send([rows.write(at, 1) for at in ADDRESSES[half:]])
    for name, sink in sinks.items():
        await sink.wait(60)
        assert sink.items == [getattr(rows, name)(at, i & 1) for i, at in enumerate(order[name])]


@cocotb.test()
async def seen_in_the_next_cycle(dut):
    """A write taken in cycle s is seen by a request taken in cycle s + 1."""
    clock, sources, sinks = await ports(dut)
    rows = Rows(cocotb.RANDOM_SEED)
    at = rows.rng.choice(ADDRESSES)
    for _ in range(3):
        sources["write"].send([rows.write(at, 0), rows.write(at, 1)])
        for sink in sinks.values():
            sink.clear()
        await clock.edge(2)
        for name in sinks:
            sources[f"{name}_req"].send([{**at, "last": 0}])
        for name, sink in sinks.items():
            assert await sink.wait(1) == [getattr(rows, name)(at, 0)]
        assert sources["k_req"].sent[-1][0] == sources["write"].sent[-1][0] + 1


@cocotb.test()
async def reset_in_flight(dut):
    clock, sources, sinks = await ports(dut, stall=0.5)
    rows = Rows(cocotb.RANDOM_SEED)
    await fill(clock, sources, rows)
    for name in sinks:
        sources[f"{name}_req"].send([{**at, "last": 0} for at in rows.rng.choices(ADDRESSES, k=9)])
    await clock.edge(6)
    for source in sources.values():
        source.clear()
    await clock.reset()
    at = rows.rng.choice(ADDRESSES)
    for name, sink in sinks.items():
        sink.clear()
        sources[f"{name}_req"].send([{**at, "last": 1}])
        await sink.wait(1)
        await clock.edge(5)
        assert sink.items == [getattr(rows, name)(at, 1)]
