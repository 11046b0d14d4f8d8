"""The golden grid: a matrix through it is the matrix, whatever the grid; its time with one array, and its
throughput."""
import numpy as np
import pytest

from hwgen.golden.array_grid import array_grid, grid_beats, grid_cycles, grid_ops, rounds
from hwgen.golden.mac_array import mac_array, matmul_trace
from hwgen.golden.numbers import fp8_ints
from hwgen.params.design import Matmul
from sim.designs import small_design

DESIGN = small_design(lanes=4, columns=8, vector_lanes=2, attention_lanes=4, entries=5, tile_beats=4,
                      intermediate_size=512)


@pytest.mark.parametrize("rows, tiles", [(1, 1), (2, 3), (3, 2)])
def test_beats_and_operations_make_the_sums(rows, tiles):
    """Played by hand: tile by tile, entry by entry, whole rows added up."""
    rng, hw, fmt = np.random.default_rng(1), DESIGN.hw, DESIGN.recipe.weight_format
    w, x = (rng.integers(0, fmt.max_code + 1, shape).astype(np.uint8) for shape in ((37, 29), (5, 29)))
    beats, ops = grid_beats(DESIGN, rows, tiles, w), grid_ops(DESIGN, rows, tiles, 37, x, range(5))
    n_rounds, k_rounds = rounds(DESIGN, rows, tiles, 37, 29)
    sums = np.zeros((n_rounds, 5, tiles, hw.columns), np.int64)
    for r in range(rows):
        data = np.frombuffer(b"".join(beat.to_bytes(hw.beat_bytes, "little") for beat in beats[r]), np.uint8)
        data = fp8_ints(data, fmt).reshape(n_rounds, k_rounds, tiles, hw.columns, hw.lanes)
        queue = iter(ops[r])
        for j in range(n_rounds):
            for k in range(k_rounds):
                for entry in range(5):
                    op = next(queue)
                    assert (op["entry"], op["first"], op["last"],
                            op["tile_end"]) == (entry, k == 0, k == k_rounds - 1, entry == 4)
                    sums[j, entry] += (data[j, k] @ fp8_ints(np.array(op["codes"], np.uint8), fmt)).astype(np.int64)
        assert next(queue, None) is None
    assert (sums == array_grid(DESIGN, rows, tiles, w, x)).all()
    assert (sums.swapaxes(0, 1).reshape(5, -1)[:, :37] == mac_array(DESIGN, w, x)).all()


@pytest.mark.parametrize("n", [1, 3, 5])
def test_one_array(n):
    """A grid of one array is the array, its first tile there after so many beats, and a register behind it."""
    matmul = Matmul(name="x", rows=24, cols=16, n_tiles=3, k_tiles=4)
    _, _, granules = matmul_trace(DESIGN, matmul, n, 0, DESIGN.hw.tile_beats)
    assert grid_cycles(DESIGN, 1, 3, 4, n) == [(granules + 1).reshape(-1).tolist()]


@pytest.mark.parametrize("tiles, n, each", [(1, 5, 5), (2, 5, 8), (3, 2, 12), (3, 5, 12)])
def test_throughput(tiles, n, each):
    """A round costs max(n, tiles * tile_beats) cycles."""
    ends = [grid_cycles(DESIGN, tiles, count, 9, n)[-1][-1] for count in (20, 30)]
    assert ends[1] - ends[0] == 10 * 9 * each == 90 * max(n, tiles * DESIGN.hw.tile_beats)
