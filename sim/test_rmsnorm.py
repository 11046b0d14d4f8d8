"""RmsNorm on the simulators."""
import random

import pytest

from hwgen.top import make
from sim.designs import small_design
from sim.runner import run, simulators

DESIGNS = {
    "two_entries": dict(),
    # one entry, two lanes, one granule per row; the model is smaller than its padding
    "smallest": dict(entries=1, vector_lanes=2, lanes=2, columns=2, attention_lanes=2, hidden_size=1,
                     residual_fraction=32),
    "odd": dict(entries=3, vector_lanes=8, hidden_size=20, residual_fraction=12, rms_norm_eps=1e-6),
    # the final norm adds a bias, between others, of which some are plain
    "biased": dict(entries=3, vector_lanes=4, lanes=4, columns=4, hidden_size=21,
                   block=dict(final_bias=True, norms="post")),
    "biased_short": dict(entries=2, vector_lanes=2, lanes=2, columns=2, attention_lanes=2, hidden_size=1,
                         block=dict(final_bias=True)),
    # plain and other norms in turn
    "plain": dict(entries=4, vector_lanes=2, hidden_size=13, residual_fraction=24, block=dict(norms="post")),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_rmsnorm(simulator, name):
    run(make.rmsnorm(small_design(**DESIGNS[name])), f"rmsnorm_{name}", "bench_rmsnorm",
        params={"design": DESIGNS[name]}, sim=simulator)


@pytest.mark.parametrize("seed", range(2))
def test_random_shape(seed):
    pick = random.Random(seed)
    lanes = pick.choice([2, 4, 8])
    design = dict(entries=pick.randint(1, 4), vector_lanes=lanes, lanes=8 * pick.randint(1, 2),
                  hidden_size=pick.randint(1, 40),
                  residual_fraction=pick.randint(0, 32))
    run(make.rmsnorm(small_design(**design)), "rmsnorm_random", "bench_rmsnorm", params={"design": design},
        sim=simulators()[-1], seed=seed)
