"""Bench of Wired: sums of several matrices against the array's, and every granule in its cycle."""
import cocotb
import numpy as np

from hwgen.golden.wired import sums, wired_cycles
from hwgen.top import make
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset, value_of
from sim.wired_units import codes, wired

PARAMS = bench_params()
DESIGN, MATRICES, _ = wired(PARAMS["design"], PARAMS["sizes"], PARAMS["levels"])
HW, ARRAY = DESIGN.hw, make.array_params(DESIGN)
L, C, V = HW.lanes, HW.columns, HW.vector_lanes
GROUPS = C // V
BITS = max(matrix.bits for _, matrix in MATRICES.values())
ACTIVATION = DESIGN.recipe.activation_format


class Bench:
    async def start(self, dut, idle=0, stall=0):
        self.dut = dut
        self.clock = await start_clock_reset(dut)
        self.x = StreamSource(dut, "x", self.clock, idle=idle, shape=ARRAY.op_layout)
        self.o = StreamSink(dut, "o", self.clock, stall=stall, shape=ARRAY.result_layout)
        self.busy = []
        cocotb.start_soon(self.watch())
        return self

    async def watch(self):
        while True:
            await self.clock.sample()
            if not self.clock.in_reset and value_of(self.dut.busy):
                self.busy.append(self.clock.cycle)
            await self.clock.edge()

    async def multiply(self, name, x, entry=0, exp=0):
        """The granules of an entry, and when they came."""
        w, matrix = MATRICES[name]
        if hasattr(self.dut, "matrix"):
            self.dut.matrix.value = list(MATRICES).index(name)
        count = len(x) // L
        self.x.send([{"codes": x[k * L:][:L].tolist(), "entry": entry, "exp": exp, "first": int(k == 0),
                      "last": int(k == count - 1),
                      "tile_end": 1} for k in range(count)])
        padded = -(-len(w) // C) * C
        acc = np.pad(sums(DESIGN, w, x[None])[0], (0, padded - len(w)))
        rows = {} if matrix.rows is None else {"rows": np.pad(matrix.rows, (0, padded - len(w)))}
        expected = [{"acc": acc[at:at + V].tolist(), "entry": entry, "exp": exp, "group": at // V % GROUPS,
                     **{key: of[at:at + V].tolist() for key, of in rows.items()}} for at in range(0, padded, V)]
        before = len(self.o.items)
        await self.o.wait(before + len(expected), timeout=40 * (len(expected) + count + BITS + matrix.latency) + 500)
        assert self.o.items[before:] == expected
        return self.o.cycles[before:]


def inputs(rng, name):
    return codes(rng, ACTIVATION, MATRICES[name][0].shape[1])


@cocotb.test()
async def cycles(dut):
    """Each matrix, and the next entry as early as it can: in the cycles of the model."""
    bench, rng, at = await Bench().start(dut), np.random.default_rng(cocotb.RANDOM_SEED), 0
    for name in [*MATRICES, *reversed(MATRICES)]:
        bench.busy.clear()
        bench.x.sent.clear()
        seen = await bench.multiply(name, inputs(rng, name), HW.entries - 1, -5)
        times = wired_cycles(DESIGN, MATRICES[name][1], BITS, bench.x.sent[0][0])
        assert bench.x.sent[-1][0] == times.taken
        assert bench.busy == list(range(times.taken + 1, times.taken + 1 + times.busy))
        assert seen == list(range(times.first, times.last + 1))
        assert at <= bench.x.sent[0][0]
        at = times.ready


@cocotb.test()
async def next_entry(dut):
    """Slices that wait are taken in the cycle that the model says."""
    bench, rng = await Bench().start(dut), np.random.default_rng(cocotb.RANDOM_SEED)
    name = next(iter(MATRICES))
    x = inputs(rng, name)
    one = [{"codes": x[k * L:][:L].tolist(), "entry": 0, "exp": 0, "first": 0, "last": int(k == len(x) // L - 1),
            "tile_end": 0}
           for k in range(len(x) // L)]
    bench.x.send(one * 3)
    await bench.o.wait(3 * -(-MATRICES[name][1].size[0] // C) * GROUPS, timeout=3000)
    at = 0
    for entry in range(3):
        assert bench.x.sent[entry * len(one)][0] == at
        at = wired_cycles(DESIGN, MATRICES[name][1], BITS, at).ready


@cocotb.test()
@cocotb.parametrize(("pattern", cross()[1:]))
async def values(dut, pattern):
    bench, rng = await Bench().start(dut, *pattern), np.random.default_rng(cocotb.RANDOM_SEED)
    for turn in range(2):
        for name in MATRICES:
            await bench.multiply(name, inputs(rng, name), turn % HW.entries, int(rng.integers(-512, 512)))


@cocotb.test()
async def extremes(dut):
    """The largest activations, of every sign: the sums that need all bits."""
    bench = await Bench().start(dut)
    for name, (w, _) in MATRICES.items():
        heaviest = int(np.abs(DESIGN.array_format.values()[w]).sum(axis=1).argmax())
        signs = (w[heaviest] >> DESIGN.array_format.bits - 1).astype(np.uint8) << 7
        for x in (signs | ACTIVATION.max_code, signs ^ 0x80 | ACTIVATION.max_code, np.zeros_like(signs),
                  np.full_like(signs, 1)):
            await bench.multiply(name, x.astype(np.uint8))


@cocotb.test()
async def reset_in_flight(dut):
    bench, rng = await Bench().start(dut), np.random.default_rng(cocotb.RANDOM_SEED)
    name = next(iter(MATRICES))
    for after in 1, BITS // 2, BITS + 4:
        bench.x.send([{"codes": inputs(rng, name)[:L].tolist(), "entry": 0, "exp": 1, "first": 1, "last": 1,
                       "tile_end": 1}])
        await bench.clock.edge(after)
        bench.x.clear()
        await bench.clock.reset()
        bench.o.clear()
        await bench.multiply(name, inputs(rng, name))
