import pytest

from hwgen.top import make
from sim.designs import random_changes, small_design
from sim.runner import run, simulators

SHAPES = {"pair": dict(entries=3, head="pair"), "single": dict(entries=1, lanes=16, columns=16, vector_lanes=2),
          # of what is logic each slice is asked for once
          "wired": dict(entries=1, source="wired", wire_matrices="qkv+down", head="pair")}


@pytest.mark.parametrize("shape", SHAPES)
def test_feeder(simulator, shape):
    run(make.feeder(small_design(**SHAPES[shape])), f"feeder_{shape}", "bench_feeder", params=SHAPES[shape],
        sim=simulator)


@pytest.mark.parametrize("seed", range(1))
def test_random_shapes(seed):
    changes = random_changes(seed)
    run(make.feeder(small_design(**changes)), "feeder_random", "bench_feeder", params=changes,
        sim=simulators()[-1], seed=seed)
