"""hwgen.lib.arith: all cases on the fast simulator, some on the other."""

import pytest

from hwgen.lib.pipeline import Pipeline
from sim.arith_units import AdderUnit, ArithUnit
from sim.runner import run, simulators


def test_arith(simulator):
    run(ArithUnit(), "arith", "bench_arith", params={"small": simulator != "verilator"}, sim=simulator)


def test_add_bf16():
    run(AdderUnit(), "add_bf16", "bench_add_bf16", sim=simulators()[-1])


def test_pipeline_needs_a_stage():
    with pytest.raises(ValueError, match="at least 1 stage, not 0"):
        Pipeline(None, None, None, stages=0)
