import pytest

from hwgen.top import make
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
    "ungated": dict(entries=2, columns=16, lanes=8, block=dict(gated=False, parallel=True, biased=["up"])),
    "rows": dict(entries=2, columns=16, hidden_size=24, formats="weights=e3m4,scales=row"),
    "biased": dict(entries=3, columns=16, vector_lanes=2, num_attention_heads=5, num_key_value_heads=1,
                   hidden_size=40, banks=2,
                   block=dict(biased=["q", "k", "v", "gate", "up"])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_convert(simulator, shape):
    _run(f"convert_{shape}", SHAPES[shape], sim=simulator)


def _run(name, params, **options):
    changes = dict(params)
    banks = changes.pop("banks", 1)
    run(make.convert(small_design(**changes), banks), name, "bench_convert", params=params, **options)


@pytest.mark.parametrize("seed", range(3))
def test_random_shapes(seed):
    biases = dict(block=dict(biased=["q", "v"]), banks=2) if seed == 2 else {}
    _run("convert_random", random_changes(seed) | biases, sim=simulators()[-1], seed=seed)
