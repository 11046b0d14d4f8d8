"""Bench of RomGrid: matrices out of the ROMs against whole sums and the cycle model; stalls change when, never what."""
import cocotb
import numpy as np

from hwgen.golden.array_grid import grid_ops, rounds
from hwgen.golden.rom_grid import rom_grid, rom_grid_cycles, slices
from hwgen.top import make
from hwgen.units.rom_grid import run_layout
from sim.codes import codes
from sim.designs import small_design
from sim.grid_bench import STALLS, GridBench
from sim.rom_grid_units import matrices
from sim.stream_bench import StreamSource, bench_params

PARAMS = bench_params()
DESIGN, R, H = small_design(**PARAMS["design"]), PARAMS["rows"], PARAMS["tiles"]
HW, ARRAY = DESIGN.hw, make.array_params(DESIGN)
MATRICES = matrices(DESIGN, R, H)
SLICES = slices(DESIGN, R, H, MATRICES)


class Bench(GridBench):
    def more(self, dut, idle):
        self.runs = StreamSource(dut, "runs", self.clock, idle=idle, shape=run_layout(SLICES.words.shape[2]))
        return [self.runs]

    def send(self, rng, index, n):
        """Offer a matrix's run and n entries; returns what each column of tiles should give."""
        weights, blocks, offsets = MATRICES[index]
        x, exps = codes(rng, DESIGN.recipe.activation_format,
                        (n, weights.shape[1])), [int(e) for e in rng.integers(-512, 512, n)]
        self.runs.send([dict(zip(("first", "last"), SLICES.runs[index]))])
        for source, ops in zip(self.x, grid_ops(DESIGN, R, H, len(weights), x, exps)):
            source.send(ops)
        sums = rom_grid(DESIGN, R, H, weights, x, blocks).reshape(-1, n, H, HW.columns // HW.vector_lanes,
                                                                  HW.vector_lanes)
        of_rows = np.pad(np.zeros(len(weights), np.uint8) if offsets is None else offsets,
                         (0, len(sums) * H * HW.columns - len(weights)))
        of_rows = of_rows.reshape(len(sums), H, -1, HW.vector_lanes)
        return [[{"acc": sums[j, entry, h, group].tolist(), "entry": entry, "exp": exps[entry], "group": group,
                  **({} if offsets is None else {"rows": of_rows[j, h, group].tolist()})}
                 for j in range(len(sums)) for entry in range(n) for group in range(sums.shape[3])] for h in range(H)]


def entries():
    """(matrix, entries), the ROMs' words out of their order, and some again."""
    return [(0, 1), (3, HW.entries), (2, max(1, HW.entries - 1)), (1, HW.entries), (2, 1), (4, 1), (0, HW.entries)]


@cocotb.test()
async def cycles_and_values(dut):
    """Each matrix after a reset, every granule in its cycle."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench(ARRAY, R, H).start(dut)
    for index, n in entries():
        await bench.restart()
        await bench.check(bench.send(rng, index, n))
        assert [sink.cycles for sink in bench.o] == H * [rom_grid_cycles(DESIGN, *rounds(DESIGN, R,
                                                                                         H, *MATRICES[index][0].shape),
                                                                                         n)]


@cocotb.test()
async def without_a_gap(dut):
    """Two matrices of one entry take as many cycles as they have words: the second's run follows the first's."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench(ARRAY, R, H).start(dut)
    expected = [bench.send(rng, index, 1) for index in (1, 3)]
    await bench.clock.reset()
    await bench.check([expected[0][h] + expected[1][h] for h in range(H)])
    sizes = [rounds(DESIGN, R, H, *MATRICES[index][0].shape) for index in (1, 3)]
    if HW.columns // HW.vector_lanes <= sizes[0][1]:        # nothing waits for the sums before it to leave
        assert bench.o[0].cycles[-1] == rom_grid_cycles(DESIGN, *sizes[1], 1)[-1] + sizes[0][0] * sizes[0][1]


@cocotb.test()
@cocotb.parametrize(("pattern", STALLS))
async def stalled(dut, pattern):
    """All matrices in a row, with hesitation at every port; rows and columns drift apart and meet again."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench(ARRAY, R, H).start(dut, *pattern)
    await bench.check_all(rng, entries())


@cocotb.test()
async def reset_in_flight(dut):
    bench = await Bench(ARRAY, R, H).start(dut)
    await bench.check_resets(np.random.default_rng(cocotb.RANDOM_SEED), entries()[1])
