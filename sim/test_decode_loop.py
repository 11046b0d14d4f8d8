import pytest

from hwgen.top import make
from sim.designs import small_design
from sim.runner import run

SHAPES = {"single": dict(vocab_size=7, context=16),
          "gumbel": dict(vocab_size=13, entries=3, slots=3, context=24, sampler="gumbel")}


@pytest.mark.parametrize("shape", SHAPES)
def test_decode_loop(shape, simulator):
    run(make.decode_loop(small_design(**SHAPES[shape])), f"decode_loop_{shape}", "bench_decode_loop",
        params=SHAPES[shape], sim=simulator)
