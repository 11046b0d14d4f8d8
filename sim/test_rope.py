"""Rope on the simulators."""
import random

import pytest

from hwgen.top import make
from sim.designs import small_design
from sim.runner import run, simulators

DESIGNS = {
    "two_entries": dict(context=150, max_position_embeddings=150),      # three rows of the high table
    "smallest": dict(entries=1, vector_lanes=2, attention_lanes=2, head_dim=2, context=1),
    # three granules per head, padding pairs, groups of query heads
    "odd": dict(entries=3, vector_lanes=8, head_dim=20, attention_lanes=8, num_attention_heads=4, num_key_value_heads=2,
                context=70, max_position_embeddings=80),
    # two RoPEs of a part of each head, layers without one, padding pairs
    "layers": dict(entries=3, vector_lanes=2, head_dim=10, attention_lanes=4, rotary_dim=6, context=70,
                   max_position_embeddings=80,
                   num_hidden_layers=4, layer_types=[{"rope_theta": 100.0}, {"rotary": False}, {},
                                                     {"rope_theta": 100.0}]),
    "three": dict(entries=2, vector_lanes=8, head_dim=16, context=66, max_position_embeddings=80, num_hidden_layers=3,
                  layer_types=[{}, {"rope_theta": 50.0}, {"rope_theta": 500.0}]),
    "none": dict(entries=2, vector_lanes=4, rotary_dim=0),
}


@pytest.mark.parametrize("name", ["two_entries", "smallest", "odd"])
def test_rope(simulator, name):
    run(make.rope(small_design(**DESIGNS[name])), f"rope_{name}", "bench_rope", params={"design": DESIGNS[name]},
        sim=simulator)


@pytest.mark.parametrize("seed", range(2))
def test_random_shape(seed):
    pick = random.Random(seed)
    lanes = pick.choice([2, 4, 8])
    kv = pick.randint(1, 3)
    design = dict(entries=pick.randint(1, 4), vector_lanes=lanes, head_dim=2 * pick.randint(1, 12),
                  num_key_value_heads=kv,
                  num_attention_heads=kv * pick.randint(1, 2), context=pick.randint(1, 80), max_position_embeddings=80)
    run(make.rope(small_design(**design)), "rope_random", "bench_rope", params={"design": design},
        sim=simulators()[-1], seed=seed)


@pytest.mark.parametrize("name", ["layers", "three", "none"])
def test_other_layers(name):
    run(make.rope(small_design(**DESIGNS[name])), f"rope_{name}", "bench_rope", params={"design": DESIGNS[name]},
        sim=simulators()[-1])
