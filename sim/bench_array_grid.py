"""Bench of ArrayGrid: matrices against whole sums and the cycle model; stalls change when, never what."""
import cocotb
import numpy as np

from hwgen.golden.array_grid import array_grid, grid_beats, grid_cycles, grid_ops, rounds
from hwgen.top import make
from sim.codes import codes
from sim.designs import small_design
from sim.grid_bench import STALLS, GridBench
from sim.stream_bench import StreamSource, bench_params

PARAMS = bench_params()
DESIGN, R, H = small_design(**PARAMS["design"]), PARAMS["rows"], PARAMS["tiles"]
HW, ARRAY = DESIGN.hw, make.array_params(DESIGN)


class Bench(GridBench):
    def more(self, dut, idle):
        self.beats = [StreamSource(dut, f"beats__{r}", self.clock, idle=idle) for r in range(R)]
        return self.beats

    def send(self, rng, outputs, inputs, n):
        """Offer a matrix and n entries; returns what each column of tiles should give."""
        recipe = DESIGN.recipe
        w, x = codes(rng, recipe.weight_format, (outputs, inputs)), codes(rng, recipe.activation_format, (n, inputs))
        exps = [int(e) for e in rng.integers(-512, 512, n)]
        for r, (beats, ops) in enumerate(zip(grid_beats(DESIGN, R, H, w), grid_ops(DESIGN, R, H, outputs, x, exps))):
            self.beats[r].send(beats)
            self.x[r].send(ops)
        sums = array_grid(DESIGN, R, H, w, x).reshape(-1, n, H, HW.columns // HW.vector_lanes, HW.vector_lanes)
        return [[{"acc": sums[j, entry, h, group].tolist(), "entry": entry, "exp": exps[entry], "group": group}
                 for j in range(len(sums)) for entry in range(n) for group in range(sums.shape[3])] for h in range(H)]


def matrices():
    """(outputs, inputs, n): one round, several, padding on both sides."""
    width, depth = H * HW.columns, R * HW.lanes
    return [(width, depth, 1), (2 * width, 3 * depth, HW.entries),
            (2 * width - 1, 2 * depth - 1, max(1, HW.entries - 1)),
            (width, 4 * depth, HW.entries)]


@cocotb.test()
async def cycles_and_values(dut):
    """Each matrix after a reset, every granule in its cycle."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench(ARRAY, R, H).start(dut)
    for outputs, inputs, n in matrices():
        await bench.restart()
        await bench.check(bench.send(rng, outputs, inputs, n))
        assert [sink.cycles for sink in bench.o] == grid_cycles(DESIGN, H, *rounds(DESIGN, R, H, outputs, inputs), n)


@cocotb.test()
@cocotb.parametrize(("pattern", STALLS))
async def stalled(dut, pattern):
    """All matrices in a row, with hesitation at every port; rows and columns drift apart and meet again."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench(ARRAY, R, H).start(dut, *pattern)
    await bench.check_all(rng, matrices())


@cocotb.test()
async def reset_in_flight(dut):
    bench = await Bench(ARRAY, R, H).start(dut)
    await bench.check_resets(np.random.default_rng(cocotb.RANDOM_SEED), matrices()[1])
