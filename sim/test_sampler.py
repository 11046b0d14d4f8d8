"""Sampler on the simulators."""
import random

import pytest

from hwgen.lib.verilog import emit_design
from hwgen.top import make
from sim.designs import small_design
from sim.runner import run, simulators
from sim.sampler_units import NoiseUnit

DESIGNS = {
    "greedy": dict(),
    "greedy_smallest": dict(entries=1, vector_lanes=2, lanes=2, columns=2, attention_lanes=2, vocab_size=1),
    "gumbel": dict(sampler="gumbel"),
    # four groups, a vocabulary of whole tiles, wide accumulators
    "gumbel_wide": dict(sampler="gumbel", entries=3, vector_lanes=2, vocab_size=24, weight_format="e4m3",
                        activation_format="e4m3"),
    # scores of which most are beyond the softcap's middle
    "gumbel_capped": dict(sampler="gumbel", entries=3, vector_lanes=4, final_logit_softcapping=12.0),
    "greedy_capped": dict(final_logit_softcapping=12.0, vector_lanes=2),
    "gumbel_smallest": dict(sampler="gumbel", entries=1, vector_lanes=2, columns=2, attention_lanes=2, vocab_size=3),
}


# The fast simulator compiles long: the smallest shapes are for the other only.
@pytest.mark.parametrize("name, sim", [(name, sim) for name in DESIGNS for sim in simulators()
                                       if not name.endswith("smallest") or sim == simulators()[-1]])
def test_sampler(name, sim):
    run(make.sampler(small_design(**DESIGNS[name])), f"sampler_{name}", "bench_sampler",
        params={"design": DESIGNS[name]}, sim=sim)


@pytest.mark.nightly
@pytest.mark.parametrize("shape", [dict(), dict(sampler="gumbel", entries=3, vector_lanes=4, vocab_size=24)],
                         ids=["greedy", "gumbel"])
def test_offsets_of_rows(shape):
    """Sums of rows with other offsets are compared in one unit."""
    design = dict(shape, formats="scales=row")
    run(make.sampler(small_design(**design)), "sampler_rows", "bench_sampler", params={"design": design},
        sim=simulators()[-1])


@pytest.mark.parametrize("seed", range(2))
def test_random_shape(seed):
    pick = random.Random(seed)
    lanes = pick.choice([2, 4, 8])
    design = dict(entries=pick.randint(1, 4), vector_lanes=lanes, vocab_size=pick.randint(1, 50),
                  sampler="gumbel" if seed else "greedy",
                  head=pick.choice(["single", "pair"]))
    run(make.sampler(small_design(**design)), "sampler_random", "bench_sampler", params={"design": design},
        sim=simulators()[-1], seed=seed)


def test_greedy_has_no_noise():
    greedy, gumbel = (emit_design(make.sampler(small_design(sampler=s)), "sampler") for s in ("greedy", "gumbel"))
    assert "seed" not in greedy and "inv_temperature" not in greedy and len(greedy) < len(gumbel) / 10


def test_noise(simulator):
    run(NoiseUnit(), "noise", "bench_noise", sim=simulator)
