"""The runner and the stream drivers hold what they promise: a good unit passes, and each fault is seen."""

import json
from pathlib import Path
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

from amaranth.lib import data
import numpy as np
import pytest

from hwgen.emit.manifest import _plain
from hwgen.lib.verilator import lint
from hwgen.lib.verilog import emit_design
from hwgen.models.pack import pack
from hwgen.params.errors import KvOp
from hwgen.params.formats import E4M3
from hwgen.params.model import LinearRopeScaling
from sim import explain, points, runner
from sim.example_units import Quad, StreamRegister
from sim.design_benches import WITHOUT_OFFSETS, Mine, run_system, run_unit
from sim.designs import changes_of, small_design
from sim.explain import Seen, explanation, show
from sim.passes import random_model
from sim.runner import BenchFailed, run
from sim.unpack import read_image, unpack


@pytest.mark.parametrize("lanes", [1, 3])
def test_register(simulator, lanes):
    run(StreamRegister(lanes), "register", "bench_runner", params={"lanes": lanes, "depth": 1}, sim=simulator)


def test_shared_parts(simulator):
    run(Quad(2), "quad", "bench_runner", params={"lanes": 2, "depth": 4}, sim=simulator)


@pytest.mark.parametrize("broken, complaint", [("value", "values"), ("hold", "offer dropped")])
def test_fault_fails_the_test(simulator, broken, complaint):
    with pytest.raises(BenchFailed, match=complaint):
        run(StreamRegister(2, broken=broken), "register", "bench_runner", params={"lanes": 2, "depth": 1},
            sim=simulator, waves=False)


def test_wrong_latency_fails_the_test(simulator):
    with pytest.raises(BenchFailed, match="throughput: assert o: item 0, its cycle: got 1, expected 2 "):
        run(StreamRegister(1), "register", "bench_runner", params={"lanes": 1, "depth": 2}, sim=simulator, waves=False)


def failure(sim, broken="lane", testcase="values/pattern=0"):
    """What the failure of a wrong unit says, by line."""
    with pytest.raises(BenchFailed) as failed:
        run(StreamRegister(2, broken=broken), "register", "bench_runner", testcase=testcase,
            params={"lanes": 2, "depth": 1}, sim=sim,
            seed=7)
    return str(failed.value).splitlines()


@pytest.mark.parametrize("sim", [runner.simulators()[-1], pytest.param("verilator", marks=pytest.mark.nightly)])
def test_a_failure_explains_itself(sim, monkeypatch):
    monkeypatch.delenv("WAVES", raising=False)
    monkeypatch.setattr(runner, "WINDOW", 2)
    case, noticed, given, lane, assertion, unit, waves, rerun, log = failure(sim)
    code = r"0x[0-9a-f]+ \(e3m4 (-?[0-9.]+|not finite)\)"
    found = re.fullmatch(r"values/pattern=0: assert o: item 0, cycle 1, field lanes\[1\]: "
                         rf"got ({code}), expected ({code}) \(50 of 50 items differ\)", case)
    assert int(found[1][:5].strip(), 16) ^ int(found[3][:5].strip(), 16) == 32
    assert re.fullmatch(r"  noticed in cycle 51, 50 cycles later", noticed)
    assert given.startswith("  input i: item 0, cycle 0, that of this item: tag ")
    assert lane == f"    lanes[1] {found[3]}"
    assert re.fullmatch(r"  sim/bench_runner.py:\d+: assert await sink.wait\(.*\) == items", assertion)
    assert unit == f'unit: register (StreamRegister) on {sim}, seed 7, {{"lanes": 2, "depth": 1}}'
    path, at = re.fullmatch(r"waves: (\S+), from (15) ns on; the difference is at 35 ns, 10 ns are a cycle",
                            waves).groups()
    vcd = sim == "verilator" and runner._trace_kind() == "vcd"
    assert Path(path).stat().st_size > 100 and Path(path).suffix == (".vcd" if vcd else ".fst")
    if vcd:
        times = [line for line in Path(path).read_text().splitlines() if line.startswith("#")]
        assert (times[0], times[-1]) == (f"#{at}000", "#55000")
    assert re.fullmatch(r"rerun: WAVES=1 HWGEN_SEED=7 python -m pytest "
                        r"'sim/test_runner.py::test_a_failure_explains_itself\[.*\]'", rerun)
    assert Path(log.removeprefix("log: ")).is_file()


def test_a_run_with_waveforms_that_fails_does_not_hide_the_failure(monkeypatch):
    monkeypatch.delenv("WAVES", raising=False)

    def fail(*_):
        raise OSError("no space")
    monkeypatch.setattr(runner, "_waves_in", fail)
    lines = failure(runner.simulators()[-1])
    assert "o: item 0" in lines[0]
    assert "waves: not written, as the run with waveforms failed: OSError: no space" in lines


def test_no_waveforms_when_they_are_not_wanted(monkeypatch):
    monkeypatch.setenv("WAVES", "0")
    assert "waves: not written" in failure(runner.simulators()[-1])


@pytest.mark.parametrize("testcase, complaint", [
    ("throughput", "o: 0 items instead of 20 after 2000 cycles"),
    ("reset_in_flight",
     r"assert o: item 0: got nothing, expected tag -?\d.* \(5 of 5 items differ, 0 came instead of 5\)")])
def test_what_never_came_is_explained(monkeypatch, testcase, complaint):
    monkeypatch.setenv("WAVES", "0")
    said, noticed, given, *_ = failure(runner.simulators()[-1], "deaf", testcase)
    assert re.fullmatch(f"{testcase}: {complaint}", said)
    assert re.fullmatch("noticed in cycle 2000, 2000 cycles later|  noticed in cycle 11", noticed)
    assert given.strip() == "input i: nothing before it"


def test_an_explanation_that_fails_does_not_hide_the_failure(monkeypatch):
    monkeypatch.setattr(explain, "explanation", lambda *_: 1 // 0)
    assert explain._of_pytest("==", 7,
                              "%") == "7 == '%%'\n~not explained: ZeroDivisionError: integer division or modulo by zero"


X = data.StructLayout({"x": data.ArrayLayout(16, 2), "codes": 8})


@pytest.mark.parametrize("got, want, line", [
    ([1, 20, 3], [1, 21, 4], "item 1: got 20 (0x14), expected 21 (0x15) (2 of 3 items differ)"),
    ([1], [1, 2, 3], "item 1: got nothing, expected 2 (2 of 3 items differ, 1 came instead of 3)"),
    ([{"a": [0, 1]}, (2, KvOp.FREE)], [{"a": [0, 1]}, (2, KvOp.FORK)],
     f"item 1, field [1]: got FREE ({KvOp.FREE.value}), expected FORK ({KvOp.FORK.value}) (1 of 2 items differ)"),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 5]], "item 1, field [1]: got 4, expected 5 (1 of 2 items differ)"),
    ({"error": 0}, {"error": 3}, "field error: got 0, expected 3"), (7, -7, "got 7, expected -7")])
def test_the_first_difference(got, want, line):
    assert explanation(got, want)[0] == line


def test_slices_and_fields_of_what_a_sink_received_know_their_transfers():
    received = [(cycle, {"x": [0, 0x3F80], "codes": cycle}) for cycle in (3, 5, 8)]
    sink = SimpleNamespace(name="o", received=received, shape=X, numbers={"codes": E4M3})
    items = Seen([item for _, item in received], sink, "item")
    assert explanation(items[1:].field("x"), [[0, 0x3F80], [0, 0x4000]])[0] == \
        "o: item 2, cycle 8, field x[1]: got 0x3f80 (bf16 1), expected 0x4000 (bf16 2) (1 of 2 items differ)"
    assert explanation([3, 6, 8], items.field("codes"))[0] == \
        ("o: item 1, cycle 5, field codes: got 0x5 (e4m3 0.009765625), expected 0x6 (e4m3 0.01171875) "
         "(1 of 3 items differ)")
    too_many = explanation(items, [item for _, item in received[:2]])[0]
    assert too_many.startswith("o: item 2, cycle 8: got x [0x0 (bf16 0), 0x3f80 (bf16 1)], codes 0x8")


def test_numbers_are_shown_as_code_and_as_number():
    assert show({"x": [0x3FC0, 0x8080], "codes": 0x7F}, X) == \
        "x [0x3fc0 (bf16 1.5), 0x8080 (bf16 -1.17549435e-38)], codes 0x7f (e3m4 not finite, e4m3 not finite)"
    assert show([0x38, 0xB8], numbers={"": E4M3}) == "[0x38 (e4m3 1), 0xb8 (e4m3 -1)]"


SPECIMEN = runner.ROOT / "rtl_out" / "specimen"


def with_design(*words):
    """What pytest says of the benches at the specimen's shape."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "sim", "--design",
               "rtl_out/specimen", *words]
    return subprocess.run(command, cwd=runner.ROOT, capture_output=True, text=True).stdout


def test_a_manifest_gives_its_design(tmp_path):
    about, changes = changes_of(SPECIMEN)
    design = small_design(**json.loads(json.dumps(changes)))
    assert (design.model.name, design.hw.columns, design.recipe.p_format.name) == ("demo", 4, "e4m3")
    about["derived"]["acc_bits"] += 1
    (tmp_path / "manifest.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="must be one that this version emits: acc_bits must"):
        changes_of(tmp_path)
    scaled = {"rope_scaling": {"factor": 2.0}}
    assert small_design(**scaled, layer_types=[scaled | {"rope_theta": 7.0},
                                               {}]).model.layer_types[0].rope_scaling == LinearRopeScaling(factor=2.0)
    with pytest.raises(TypeError, match="RoPE scaling must have the fields of one kind, not slope"):
        small_design(rope_scaling={"slope": 1})


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": {}, "hardware": {}, "recipe": {}, "derived": 3}'])
def test_a_manifest_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="Manifest must be JSON with model, hardware, recipe, derived, as "):
        changes_of(tmp_path)


@pytest.mark.parametrize("file, old, new, complaint", [
    ("specimen_rom.hex", "\n1", "\n2", "Weights of specimen must be those of its manifest, 4eaaf8c1, not "),
    ("specimen.v", "outcome__payload", "led", "Design must be a decoder on streams or on buses, not a top with led")])
def test_what_is_no_design_is_refused(tmp_path, file, old, new, complaint):
    folder = shutil.copytree(SPECIMEN, tmp_path / "specimen")
    text = (folder / file).read_text()
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=complaint):
        Mine(folder).model()


def test_a_design_has_its_own_tests():
    tests = [line for line in with_design("--collect-only").splitlines() if "::" in line]
    assert len(tests) == 24 and "sim/test_design.py::test_system" in tests
    assert {test.split("::")[0] for test in tests} == {"sim/test_design.py"}


def test_without_a_design_its_tests_are_skipped():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "sim/test_design.py", "-k",
               "swiglu or system"]
    said = subprocess.run(command, cwd=runner.ROOT, capture_output=True, text=True).stdout
    assert "--design must name its folder" in said and "2 skipped" in said


@pytest.mark.parametrize("unit", WITHOUT_OFFSETS)
def test_a_bench_without_offsets_is_not_run_with_them(unit):
    with pytest.raises(pytest.skip.Exception, match=f"bench of {unit} has no offsets"):
        run_unit(SimpleNamespace(design=small_design(formats="weights=e3m4,scales=row", block=dict(norms="sandwich"))),
                 unit)


def test_weights_with_offsets_are_not_read_back():
    with pytest.raises(pytest.skip.Exception, match="reader of weights .* knows no offsets"):
        run_system(SimpleNamespace(design=small_design(formats="weights=e3m4,scales=row")))


@pytest.mark.nightly
def test_benches_at_the_shape_of_a_design():
    assert "2 passed" in with_design("-k", "decode_loop or system")


def test_points_are_what_was_seen_at_the_ports(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "POINTS", tmp_path)
    for testcase, missed in (("throughput", {"o: waits for ready"}), ("values/pattern=1", set())):
        run(StreamRegister(1), "register", "bench_runner", testcase=testcase, params={"lanes": 1, "depth": 1},
            sim=runner.simulators()[-1])
        found = points.reached(tmp_path)["runner"]
        assert {"i: taken", "i: in successive cycles", "o: waits for valid"} < set(found)
        assert missed <= {point for point, times in found.items() if not times} and found["o: taken"]
        assert missed or found["o: waits for ready"]


def test_the_weights_of_a_folder_are_read_back():
    about, changes = changes_of(SPECIMEN)
    design = small_design(**changes)
    assert unpack(read_image(SPECIMEN / about["weights"]["image"], design), design).digest == about["model_id"]


@pytest.mark.parametrize("changes", [
    dict(block=dict(norms="sandwich", qk_norm=dict(span="head"), activation="gelu", biased=["q", "o"], final_bias=True),
         tie_word_embeddings=False,
         head_bias=True, vector_lanes=2, head_dim=6, hidden_size=13),
    dict(block=dict(parallel=True, gated=False, biased=["k", "up"]), head="pair", rotary_dim=4, entries=1, lanes=16),
    dict(block=dict(qk_norm=dict(span="projection")), learned_positions=True, context=64, intermediate_size=19)])
def test_any_block_is_read_back(changes):
    design = small_design(source="stream", **changes)
    quantized = random_model(design)
    assert unpack(pack(quantized, design), design).digest == quantized.digest
    assert small_design(block=json.loads(json.dumps(_plain(design.block)))).block == design.block


def test_missing_testcase_fails_the_test(simulator):
    for wanted in ("no_such_test", ["reset_in_flight", "no_such_test"]):
        with pytest.raises(BenchFailed):
            run(StreamRegister(1), "register", "bench_runner", testcase=wanted, params={"lanes": 1, "depth": 1},
                sim=simulator)


def test_missing_bench_fails_the_test(simulator):
    with pytest.raises(BenchFailed):
        run(StreamRegister(1), "register", "bench_that_is_not_there", sim=simulator)


def test_failed_build_leaves_nothing(simulator, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "BUILDS", tmp_path)
    text = "module bad(clk);\n  input clk;\n  wire clk;\n  nonsense\nendmodule\n"
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017  each simulator has its own
            runner.build(text, "bad", sim=simulator)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("bad-", "partial-"))]


def test_lint(tmp_path):
    file = tmp_path / "quad.v"
    file.write_text(emit_design(Quad(2), "quad"))
    lint(file, "quad")
