"""The runner and the stream drivers hold what they promise: a good unit passes, and each fault is seen."""

import pytest

from hwgen.lib.verilator import lint
from hwgen.lib.verilog import emit_design
from sim import runner
from sim.example_units import Quad, StreamRegister
from sim.runner import BenchFailed, run


@pytest.mark.parametrize("lanes", [1, 3])
def test_register(simulator, lanes):
    run(StreamRegister(lanes), "register", "bench_runner", params={"lanes": lanes, "depth": 1}, sim=simulator)


def test_shared_parts(simulator):
    run(Quad(2), "quad", "bench_runner", params={"lanes": 2, "depth": 4}, sim=simulator)


@pytest.mark.parametrize("broken, complaint", [("value", "values"), ("hold", "offer dropped")])
def test_fault_fails_the_test(simulator, broken, complaint):
    with pytest.raises(BenchFailed, match=complaint):
        run(StreamRegister(2, broken=broken), "register", "bench_runner", params={"lanes": 2, "depth": 1},
            sim=simulator)


def test_wrong_latency_fails_the_test(simulator):
    with pytest.raises(BenchFailed, match="throughput"):
        run(StreamRegister(1), "register", "bench_runner", params={"lanes": 1, "depth": 2}, sim=simulator)


def test_missing_testcase_fails_the_test(simulator):
    for wanted in ("no_such_test", ["reset_in_flight", "no_such_test"]):
        with pytest.raises(BenchFailed):
            run(StreamRegister(1), "register", "bench_runner", testcase=wanted, params={"lanes": 1, "depth": 1}, sim=simulator)


def test_missing_bench_fails_the_test(simulator):
    with pytest.raises(BenchFailed):
        run(StreamRegister(1), "register", "bench_that_is_not_there", sim=simulator)


def test_failed_build_leaves_nothing(simulator, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "BUILDS", tmp_path)
    text = "module bad(clk);\n  input clk;\n  wire clk;\n  nonsense\nendmodule\n"
    for _ in range(2):
        with pytest.raises(Exception):
            runner.build(text, "bad", sim=simulator)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("bad-", "partial-"))]


def test_lint(tmp_path):
    file = tmp_path / "quad.v"
    file.write_text(emit_design(Quad(2), "quad"))
    lint(file, "quad")
