import pytest

from hwgen.units.convert import Convert
from sim.designs import random_changes, small_design
from sim.runner import run, simulators

SHAPES = {
    "smallest": dict(entries=1, columns=2, vector_lanes=2, tile_beats=1, hidden_size=8, intermediate_size=8,
                     num_attention_heads=1, num_key_value_heads=1),
    # 7 heads of 8 in tiles of 16: a tile ends within a head's neighbour, and the last one has padding
    "padded": dict(entries=3, columns=16, vector_lanes=4, num_attention_heads=5, num_key_value_heads=1, hidden_size=40),
    "e4m3": dict(entries=2, columns=8, num_attention_heads=3, num_key_value_heads=3, head_dim=6, hidden_size=24,
                 weight_format="e4m3", activation_format="e4m3"),
    # ff of 24 in tiles of 16: without a gate, the last tile has padding; all exponents are in one record
    "ungated": dict(entries=2, columns=16, lanes=8, block=dict(gated=False, parallel=True)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_convert(simulator, shape):
    run(Convert(small_design(**SHAPES[shape])), f"convert_{shape}", "bench_convert", params=SHAPES[shape], sim=simulator)


@pytest.mark.parametrize("seed", range(2))
def test_random_shapes(seed):
    changes = random_changes(seed)
    run(Convert(small_design(**changes)), "convert_random", "bench_convert", params=changes, sim=simulators()[-1], seed=seed)
