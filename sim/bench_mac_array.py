"""Bench of MacArray: matrices against exact sums and the cycle model, any order of entries, every product of two
codes."""

import random

import cocotb
import numpy as np

from hwgen.golden.mac_array import latency, mac_array, matmul_cycles, matmul_trace
from hwgen.lib.layouts import OFFSET_BITS
from hwgen.params.design import Matmul
from hwgen.top import make
from sim.codes import codes
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset, value_of

PARAMS = bench_params()
DESIGN = small_design(**PARAMS.get("design", {}))
HW, ARRAY = DESIGN.hw, make.array_params(DESIGN)
L, C, T, V = HW.lanes, HW.columns, HW.entries, HW.vector_lanes
W_FMT, X_FMT = DESIGN.array_format, DESIGN.recipe.activation_format
QUICK = PARAMS.get("quick", False)      # for simulators that take their time


def with_offsets(rng, codes):
    """A tile of these codes, as the array takes it, and what its results have of its rows' offsets: {"rows": ...} by
    group, where there are some."""
    if not DESIGN.scaled:
        return codes, [{}] * (C // V)
    rows = rng.integers(0, 1 << OFFSET_BITS, (C // V, V)).tolist()
    return {"codes": codes, "rows": sum(rows, [])}, [{"rows": of_group} for of_group in rows]


class Product:
    """Codes of a matrix and of n entries, as the array gets them, and the granules it makes."""

    def __init__(self, rng, n_tiles, k_tiles, n, w=None, x=None):
        self.shape, self.n = Matmul(name="bench", rows=n_tiles * C, cols=k_tiles * L, n_tiles=n_tiles,
                                    k_tiles=k_tiles), n
        w = codes(rng, W_FMT, (n_tiles * C, k_tiles * L)) if w is None else w
        x = codes(rng, X_FMT, (n, k_tiles * L)) if x is None else x
        exps = [int(e) for e in rng.integers(-512, 512, n)]
        tiles = w.reshape(n_tiles, C, k_tiles, L).swapaxes(1, 2)
        self.tiles, offsets = zip(*[with_offsets(rng, tiles[j, k].reshape(-1).tolist()) for j in range(n_tiles)
                                    for k in range(k_tiles)])
        self.ops = [{"codes": x[entry, k * L:][:L].tolist(), "entry": entry, "exp": exps[entry], "first": int(k == 0),
                     "last": int(k == k_tiles - 1), "tile_end": int(entry == n - 1)}
                    for j in range(n_tiles) for k in range(k_tiles) for entry in range(n)]
        acc = mac_array(DESIGN, w, x).reshape(n, n_tiles, C // V, V)
        self.results = [{"acc": acc[entry, j, group].tolist(), "entry": entry, "exp": exps[entry], "group": group,
                         **offsets[(j + 1) * k_tiles - 1][group]}
                        for j in range(n_tiles) for entry in range(n) for group in range(C // V)]


class Bench:
    async def start(self, dut, tile_idle=0, idle=0, stall=0):
        self.dut = dut
        self.clock = await start_clock_reset(dut)
        self.tile = StreamSource(dut, "tile", self.clock, idle=tile_idle, shape=ARRAY.tile_layout)
        self.x = StreamSource(dut, "x", self.clock, idle=idle, shape=ARRAY.op_layout)
        self.o = StreamSink(dut, "o", self.clock, stall=stall, shape=ARRAY.result_layout)
        self.busy, self.starved, self.blocked = [], [], []
        cocotb.start_soon(self.watch())
        return self

    async def watch(self):
        """The cycles of each status."""
        while True:
            await self.clock.sample()
            if not self.clock.in_reset:
                status = [name for name in ("busy", "starved", "blocked") if value_of(getattr(self.dut, name))]
                assert len(status) <= 1
                for name in status:
                    getattr(self, name).append(self.clock.cycle)
            await self.clock.edge()

    def forget(self):
        for source in self.tile, self.x:
            source.clear()
            source.sent.clear()
        self.o.clear()
        for events in self.busy, self.starved, self.blocked:
            events.clear()

    def send(self, product):
        self.tile.send(product.tiles)
        self.x.send(product.ops)

    async def results(self, count):
        return await self.o.wait(count, timeout=20 * count * (T + HW.tile_beats) + 2000)


def shapes(count):
    """(n_tiles, k_tiles, n, cycle of the first operation, cycle of the first tile)"""
    rng = random.Random(cocotb.RANDOM_SEED)
    corners = [(3, 1, 1, 0, 0), (3, 1, T, 4, 0), (2, 5, T, 0, 9), (6, 2, 1, 9, 0)]
    return corners + [(rng.randint(1, 5), rng.randint(1, 5), rng.randint(1, T), rng.randrange(9), rng.randrange(12))
                      for _ in range(count)]


@cocotb.test()
@cocotb.parametrize(("shape", shapes(1 if QUICK else 6)))
async def cycles(dut, shape):
    """Every operation, tile and granule in the cycle that the model says, and as many waits."""
    n_tiles, k_tiles, n, ops, tile = shape
    product = Product(np.random.default_rng(cocotb.RANDOM_SEED), n_tiles, k_tiles, n)

    def tile_is_late(cycle):
        return cycle < (bench.tile.sent[-1][0] + HW.tile_beats if bench.tile.sent else tile)

    bench = Bench()
    await bench.start(dut, tile_idle=tile_is_late, idle=lambda cycle: cycle < ops)
    bench.send(product)
    assert await bench.results(len(product.results)) == product.results

    takes, fires, granules = matmul_trace(DESIGN, product.shape, n, ops, tile)
    assert [cycle for cycle, _ in bench.tile.sent] == takes.tolist()
    assert bench.busy == fires.reshape(-1).tolist()
    assert bench.o.cycles == granules.reshape(-1).tolist()
    times = matmul_cycles(DESIGN, product.shape, n, ops, tile)
    assert (len(bench.busy), len(bench.starved), len(bench.blocked)) == (times.busy, times.starved, times.blocked)


@cocotb.test()
async def throughput(dut):
    """With all at hand an operation fires in each cycle: the last granule is there N + latency + C/V cycles after the
    start."""
    product = Product(np.random.default_rng(cocotb.RANDOM_SEED), 2, 2 * C // V + 6, T)
    bench = await Bench().start(dut)
    bench.send(product)
    assert await bench.results(len(product.results)) == product.results
    assert bench.busy == list(range(1, 1 + len(product.ops)))
    if T == 1:
        assert bench.o.cycles[-1] == len(product.ops) + latency(DESIGN) + C // V - 1


@cocotb.test()
@cocotb.parametrize(("pattern", cross()[3:] if QUICK else cross()))
async def values(dut, pattern):
    idle, stall = pattern
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    products = [Product(rng, n_tiles, k_tiles, n) for n_tiles, k_tiles, n in ((2, 3, T), (3, 1, 1),
                                                                              (1, 4, (T + 1) // 2))]
    bench = await Bench().start(dut, idle / 2, idle, stall)
    for product in products:
        bench.send(product)
    expected = [result for product in products for result in product.results]
    assert await bench.results(len(expected)) == expected
    assert len(bench.busy) == sum(len(product.ops) for product in products)


@cocotb.test()
async def throughput_recovers(dut):
    """After a stall that has filled the ring, while which a result is offered, one operation fires in each cycle
    again."""
    product = Product(np.random.default_rng(cocotb.RANDOM_SEED), 6, 2 * C // V + 6, T)
    bench = await Bench().start(dut, stall=lambda cycle: cycle < len(product.ops))
    bench.send(product)
    await bench.clock.edge(len(product.ops) - 1)
    await bench.clock.sample()
    assert value_of(dut.o__valid)
    await bench.clock.edge()
    assert await bench.results(len(product.results)) == product.results
    assert bench.blocked
    after = [cycle for cycle in bench.busy if cycle > bench.blocked[-1]]
    assert after == list(range(after[0], after[0] + len(after))) and len(after) > 2


@cocotb.test()
async def any_order(dut):
    """Sums of all lengths, operations of the entries in any order, the same one several times in a row."""
    rng, chance = np.random.default_rng(cocotb.RANDOM_SEED), random.Random(cocotb.RANDOM_SEED)
    values_w, values_x = W_FMT.values(), X_FMT.values()
    bench = await Bench().start(dut, 0.3, 0.1, 0.3)
    tiles, ops, expected = [], [], []
    sums = [None] * T
    while len(expected) < (8 if QUICK else 40) * C // V:
        w = codes(rng, W_FMT, C * L)
        tile, offsets = with_offsets(rng, w.tolist())
        tiles.append(tile)
        while True:
            entry, last, end = chance.randrange(T), chance.random() < 0.3, chance.random() < 0.3
            exp = chance.randrange(-512, 512)
            x = codes(rng, X_FMT, L)
            ops.append({"codes": x.tolist(), "entry": entry, "exp": exp, "first": int(sums[entry] is None),
                        "last": int(last),
                        "tile_end": int(end)})
            old = 0 if sums[entry] is None else sums[entry]
            sums[entry] = old + values_w[w.reshape(C, L)] @ values_x[x]
            if last:
                expected += [{"acc": sums[entry][group * V:][:V].tolist(), "entry": entry, "exp": exp, "group": group,
                              **offsets[group]}
                             for group in range(C // V)]
                sums[entry] = None
            if end:
                break
    bench.tile.send(tiles)
    bench.x.send(ops)
    assert await bench.results(len(expected)) == expected


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, stall=0.5)
    for after in 3, 17:
        bench.send(Product(rng, 3, 1, T))
        await bench.clock.edge(after)
        for source in bench.tile, bench.x:
            source.clear()
        await bench.clock.reset()
        bench.forget()
        product = Product(rng, 2, 3, T)
        bench.send(product)
        assert await bench.results(len(product.results)) == product.results
        await bench.clock.edge(latency(DESIGN) + T * C // V + 5)
        assert len(bench.o.items) == len(product.results)
        bench.forget()


@cocotb.test(skip="products" not in PARAMS)
async def all_products(dut):
    """All pairs of finite codes, L * C at a time: lane l of column c has a weight of its own, as every lane has its
    code."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    w_all, x_all = ([c for c in range(1 << fmt.bits) if fmt.is_finite(c)] for fmt in (W_FMT, X_FMT))
    x_all += [0] * (-len(x_all) % L)
    # lane l of row j has code j + l of the list, so that every weight meets every lane, and every code of the entries
    # below
    columns = -(-len(w_all) // C) * C
    w = np.array([[w_all[(j + 29 * lane) % len(w_all)] for lane in range(L)] for j in range(columns)], np.uint8)
    slices = rng.permutation(np.array(x_all, np.uint8)).reshape(-1, L)
    bench = await Bench().start(dut)
    expected = []
    for start in range(0, len(slices), T):
        product = Product(rng, columns // C, 1, len(slices[start:start + T]), w=w, x=slices[start:start + T])
        bench.send(product)
        expected += product.results
    assert await bench.results(len(expected)) == expected
