import pytest

from hwgen.params.block import dense
from hwgen.units.swiglu import SwiGlu
from sim.designs import small_design
from sim.runner import run

SHAPES = {"smallest": dict(entries=1, vector_lanes=2), "wide": dict(entries=3, vector_lanes=4)}
#: name -> (shape, activation, whether there is a gate)
CASES = {
    "smallest": ("smallest", "silu", True), "wide": ("wide", "silu", True), "gelu": ("wide", "gelu", True), "gelu_tanh": ("smallest", "gelu_tanh", True),
    "quick_gelu": ("wide", "quick_gelu", True), "relu2": ("smallest", "relu2", True), "gelu_alone": ("wide", "gelu", False),
    "quick_gelu_alone": ("smallest", "quick_gelu", False), "relu2_alone": ("wide", "relu2", False)}


@pytest.mark.parametrize("case", CASES)
def test_swiglu(simulator, case):
    shape, activation, gated = CASES[case]
    block, step = dict(activation=activation, gated=gated), 3 if simulator == "verilator" else 61
    run(SwiGlu(small_design(**SHAPES[shape], block=dense(**block))), f"swiglu_{case}", "bench_swiglu",
        params={"design": SHAPES[shape], "block": block, "step": step}, sim=simulator)
