import pytest

from hwgen.units.swiglu import SwiGlu
from sim.designs import small_design
from sim.runner import run

SHAPES = {"smallest": dict(entries=1, vector_lanes=2), "wide": dict(entries=3, vector_lanes=4)}


@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu(simulator, shape):
    step = 3 if simulator == "verilator" else 61
    run(SwiGlu(small_design(**SHAPES[shape])), f"swiglu_{shape}", "bench_swiglu",
        params={"design": SHAPES[shape], "step": step}, sim=simulator)
