import pytest

from hwgen.params.block import dense
from hwgen.top import make
from sim.designs import small_design
from sim.runner import run

SHAPES = {"smallest": dict(entries=1, vector_lanes=2), "wide": dict(entries=3, vector_lanes=4)}
#: (shape, activation, whether there is a gate)
OTHERS = [("wide", "gelu", True), ("smallest", "gelu_tanh", True), ("smallest", "quick_gelu", True),
          ("wide", "relu2", True),
          ("wide", "gelu", False), ("smallest", "relu2", False), ("smallest", "relu", True), ("wide", "relu", False)]


def check(name, shape, activation, gated, *, step, count, sim):
    block = dict(activation=activation, gated=gated)
    run(make.swiglu(small_design(**SHAPES[shape], block=dense(**block))), f"swiglu_{name}", "bench_swiglu",
        params={"design": SHAPES[shape], "block": block, "step": step, "count": count}, sim=sim)


@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu(simulator, shape):
    check(shape, shape, "silu", True, step=3 if simulator == "verilator" else 61, count=200, sim=simulator)


@pytest.mark.parametrize("shape, activation, gated", OTHERS)
def test_other_activations(shape, activation, gated):
    check(f"{activation}_{'gated' if gated else 'alone'}", shape, activation, gated, step=11, count=80, sim="verilator")
