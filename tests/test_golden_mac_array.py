"""The array's twin: sums against exact integers, and the fast cycle function against the recursion written out."""
import random

import numpy as np
import pytest

from hwgen.golden import mac_array as golden
from hwgen.golden.mac_array import mac_array, matmul_cycles, matmul_trace
from hwgen.params.design import Design, Matmul
from hwgen.params.formats import E3M4, E4M3
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.stream import Tiling
from sim.designs import small_design


def codes(rng, fmt, shape):
    """Finite codes, the large ones often: sums that lose bits if anything does."""
    magnitudes = np.where(rng.random(shape) < 0.5, fmt.max_code, rng.integers(0, fmt.max_code + 1, shape))
    return (magnitudes | rng.integers(0, 2, shape) << 7).astype(np.uint8)


@pytest.mark.parametrize("weight", [E3M4, E4M3])
@pytest.mark.parametrize("activation", [E3M4, E4M3])
def test_sums_are_exact(weight, activation):
    design = small_design(weight_format=str(weight), activation_format=str(activation))
    rng = np.random.default_rng(1)
    w, x = codes(rng, weight, (5, 3000)), codes(rng, activation, (3, 3000))
    # Python's integers do not overflow
    exact = (weight.values()[w].astype(object) @ activation.values()[x].astype(object).T).T
    assert (mac_array(design, w, x) == exact).all()


def test_sum_is_the_dot_product_of_values():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    design = small_design(weight_format="e4m3", activation_format="e3m4")
    rng = np.random.default_rng(2)
    w, x = codes(rng, E4M3, (4, 64)), codes(rng, E3M4, (2, 64))
    ideal = x.view(ml_dtypes.float8_e3m4).astype(float) @ w.view(ml_dtypes.float8_e4m3fn).astype(float).T
    assert (mac_array(design, w, x) * 2.0 ** design.acc_unit == ideal).all()


def test_sums_that_may_round_are_refused():
    design = small_design(weight_format="e4m3", activation_format="e4m3")
    w = np.zeros((1, 1 << 18), np.uint8)
    with pytest.raises(ValueError, match="below 2\\*\\*53"):
        mac_array(design, w, w)


def matmul(n_tiles, k_tiles, codes=1):
    return Matmul(name="test", rows=0, cols=0, n_tiles=n_tiles, k_tiles=k_tiles, codes=codes)


def counted(design, shape, n, ops, tile):
    """(starved, blocked) of a trace, cycle by cycle."""
    takes, fires, _ = matmul_trace(design, shape, n, ops, tile)
    waits_from = [ops + 1, *(fires.reshape(-1)[:-1] + 1)]
    active_from = np.repeat(takes + 1, n)
    starved = sum(max(0, active - waits) for waits, active in zip(waits_from, active_from))
    return starved, sum(fire - max(waits, active) for waits, active, fire in zip(waits_from, active_from,
                                                                                 fires.reshape(-1)))


@pytest.mark.parametrize("seed", range(200))
def test_fast_cycles_are_the_recursion(seed):
    rng = random.Random(seed)
    lanes, columns = 1 << rng.randrange(2, 6), 1 << rng.randrange(2, 6)
    vector = rng.choice([v for v in (2, 4, 8) if v <= min(lanes, columns)])
    beats = rng.choice([b for b in (1, 2, 4, 8) if b <= columns and lanes * columns // b >= 2 * vector])
    entries = rng.choice([1, 2, 3, 7])
    design = small_design(lanes=lanes, columns=columns, vector_lanes=vector, attention_lanes=8, tile_beats=beats,
                          entries=entries)
    shape = matmul(rng.choice([1, 2, 3, 17, 60]), rng.choice([1, 2, 3, 4, 9]), rng.choice([1, 2]))
    n, ops = rng.randint(1, entries), rng.randrange(100)
    tile = ops + rng.randrange(-20, 20)

    takes, fires, granules = matmul_trace(design, shape, n, ops, tile)
    fast = matmul_cycles(design, shape, n, ops, tile)
    assert fast.first_fire == fires[0, 0]
    assert fast.last_fire == fires[-1, -1]
    assert fast.last_take == takes[-1]
    assert fast.busy == fires.size
    assert (fast.starved, fast.blocked) == counted(design, shape, n, ops, tile)
    assert [fast.granule(i) for i in range(granules[:, -1].size)] == granules[:, -1].reshape(-1).tolist()
    assert fast.granule(-1) == granules[-1, -1, -1]


@pytest.mark.parametrize("seed", range(100))
def test_fast_cycles_with_offsets_and_narrow_tiles_are_the_recursion(seed):
    rng = random.Random(seed)
    beats, entries = rng.choice([1, 2, 4, 8]), rng.choice([1, 2, 3, 7])
    design = small_design(lanes=8, columns=16, vector_lanes=rng.choice([2, 8]), tile_beats=beats, entries=entries)
    shape = matmul(rng.choice([1, 2, 3, 17, 60]), rng.choice([1, 2, 3, 9, 40]))
    tiling = Tiling(shape, beats, rng.random() < 0.7, rng.choice([0, 1, 2, 8]), rng.choice([0, 1, 4, 16]))
    n, ops = rng.randint(1, entries), rng.randrange(100)
    tile = ops + rng.randrange(-20, 20)
    takes, fires, granules = matmul_trace(design, shape, n, ops, tile, tiling)
    fast = matmul_cycles(design, shape, n, ops, tile, tiling)
    assert (fast.first_fire, fast.last_fire, fast.last_take, fast.busy) == (fires[0, 0], fires[-1, -1],
                                                                            takes[-1], fires.size)
    assert fast.starved + fast.blocked == fast.last_fire - ops - fires.size
    assert [fast.granule(i) for i in range(granules[:, -1].size)] == granules[:, -1].reshape(-1).tolist()


def test_a_tile_costs_its_entries_or_its_beats():
    for entries, beats in (1, 1), (1, 4), (4, 1), (4, 4), (3, 8):
        design = small_design(entries=entries, tile_beats=beats, vector_lanes=4, hidden_size=256)
        _, fires, _ = matmul_trace(design, matmul(3, 40), entries, 0, 0)
        assert (np.diff(fires[:, 0]) == max(entries, beats)).all()


def test_a_long_matmul_is_not_followed_to_its_end(monkeypatch):
    """Of the LM head of the largest preset that is simulated, 1,536 n-tiles, until they repeat."""
    design = Design(model=SMOLLM2_135M, hw=HwShape(lanes=32, columns=32, vector_lanes=16, entries=16),
                    recipe=Recipe(head="pair"))
    followed = []
    monkeypatch.setattr(golden, "_n_tile", lambda *words, step=golden._n_tile: followed.append(1) or step(*words))
    for n in range(1, 17):
        golden._cycles.cache_clear()
        followed.clear()
        matmul_cycles(design, design.head_matmul, n, 5, 0)
        assert 0 < len(followed) < 20 < design.head_matmul.n_tiles
