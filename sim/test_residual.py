import pytest

from hwgen.units.residual import Residual
from sim.designs import random_changes, small_design
from sim.runner import run, simulators

SHAPES = {
    # one granule in a row, hi and lo codes in successive cycles
    "smallest": dict(entries=1, lanes=2, columns=2, vector_lanes=2, attention_lanes=2, hidden_size=2, head="pair"),
    "pair": dict(entries=2, lanes=8, columns=16, vector_lanes=4, hidden_size=48, head="pair", weight_format="e4m3",
                 activation_format="e4m3"),
    "single": dict(entries=3, lanes=16, columns=4, vector_lanes=4, hidden_size=40, residual_fraction=20),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_residual(simulator, shape):
    run(Residual(small_design(**SHAPES[shape])), f"residual_{shape}", "bench_residual", params=SHAPES[shape], sim=simulator)


@pytest.mark.parametrize("seed", range(1))
def test_random_shapes(seed):
    changes = random_changes(seed)
    run(Residual(small_design(**changes)), "residual_random", "bench_residual", params=changes, sim=simulators()[-1], seed=seed)
