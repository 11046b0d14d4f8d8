import json
import random
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from hwgen.cli import main
from hwgen.params.design import Design
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan.compare import VARIED, Point, candidates, compared, front
from hwgen.plan.compare_picture import ticks
from hwgen.plan.fit import fit, spelled

ULX3S_85F = {"LUT": 83640, "FF": 83640, "BRAM": 208, "DSP": 156}
BASE = Design(model=DEMO, hw=hw_shape("tiny,context=64", DEMO), recipe=recipe())
COMPARE = ["plan", "compare", "demo", "--board", "ulx3s-85f", "--shape", "columns=8,attention_lanes=8,context=64",
           "--texts", "4"]


def points(numbers):
    """Points of (LUTs, tokens per second)."""
    return [Point(fit=SimpleNamespace(used={"LUT": luts}), texts=1, mhz=1, cycles=1e6 / speed)
            for luts, speed in numbers]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_beats_the_front_and_it_beats_all_else(seed):
    rng = random.Random(seed)
    every = points((rng.randint(1, 30), rng.randint(1, 30)) for _ in range(rng.randint(1, 40)))
    best = front(every)
    for point in every:
        better = [p for p in every if p.fit.used["LUT"] <= point.fit.used["LUT"] and p.speed >= point.speed
                  and p.speed > point.speed - 1e-9
                  and (p.fit.used["LUT"], p.speed) != (point.fit.used["LUT"], point.speed)]
        same = [p for p in best if (p.fit.used["LUT"], p.speed) == (point.fit.used["LUT"], point.speed)]
        assert len(same) == (not better)


def test_small_steps_are_left_out_but_never_the_fastest():
    best = front(points([(1, 100), (2, 101), (3, 104), (4, 106), (5, 106.5)]), gain=0.03)
    assert [point.fit.used["LUT"] for point in best] == [1, 3, 5]


def test_what_is_fixed_stays_and_all_else_is_tried():
    found = list(candidates(BASE, "ecp5", {**ULX3S_85F, "DSP": 60}, 4, ("lanes", "vector_lanes", "context")))
    assert len(set(found)) == len(found)
    assert {(d.hw.lanes, d.hw.vector_lanes, d.hw.context, d.hw.slots, d.hw.entries)
            for d in found} == {(4, 2, 64, 4, 4)}
    assert {name for name in VARIED if len({getattr(d.hw, name) for d in found}) > 1} == {"columns", "attention_lanes",
                                                                                          "halves", "dsp_columns",
                                                                                          "dsp_pairs", "tile_beats"}


def test_shapes_that_are_passed_over_would_not_have_fitted():
    small = {"LUT": 24288, "FF": 24288, "BRAM": 208, "DSP": 28}
    designs = list(candidates(BASE, "ecp5", small, 2, ("columns",)))
    fitting = {spelled(d.hw) for d in designs if not fit(d, "ecp5", small).over}
    assert 0 < len(fitting) < len(designs)
    assert {spelled(p.fit.design.hw) for p in compared(designs, "ecp5", small, 2)} == fitting


def test_a_clock_leaves_out_what_does_not_reach_it():
    designs = list(candidates(BASE, "ecp5", ULX3S_85F, 1, ("columns", "attention_lanes")))
    free, bound = compared(designs, "ecp5", ULX3S_85F, 1), compared(designs, "ecp5", ULX3S_85F, 1, mhz=65)
    assert {p.fit.design for p in bound} == {p.fit.design for p in free if p.mhz >= 65} != {p.fit.design for p in free}
    assert {p.mhz for p in bound} == {65}


def test_shapes_of_the_table_are_what_plan_board_says_of_them(tmp_path, capsys):
    assert main([*COMPARE, "--json", str(tmp_path / "all.json"), "--picture", str(tmp_path / "all.svg")]) == 0
    rows = re.findall(r"^ *\d+ +([\d,]+) +\d+% +\d+ +\d+ +\d+ +([\d,]+) +([\d,]+) +(\S+)", capsys.readouterr().out,
                      re.MULTILINE)
    assert len(rows) > 3
    for luts, cycles, _, shape in rows:
        assert main(["plan", "demo", "--board", "ulx3s-85f", "--shape", shape]) == 0
        out = capsys.readouterr().out
        assert f"{luts} " in out and f"{cycles} cycles a token, 4 texts" in out
    about = json.loads((tmp_path / "all.json").read_text())
    assert [shape["shape"] for shape in about["shapes"] if shape["in_table"]] == [row[3] for row in reversed(rows)]
    circles = [e.get("class") for e in ElementTree.parse(tmp_path / "all.svg").iter() if e.tag.endswith("circle")]
    assert circles.count("front") == len(rows) and len(circles) == len(about["shapes"])


def test_formats_are_compared_beside_each_other(tmp_path, capsys):
    assert main([*COMPARE, "--formats", "e3m4", "--formats", "weights=e2m1,head=e3m4", "--json",
                 str(tmp_path / "all.json")]) == 0
    assert re.search(r" (e3m4|weights=e2m1,head=e3m4) +tiny,", capsys.readouterr().out)
    about = json.loads((tmp_path / "all.json").read_text())
    assert {shape["formats"] for shape in about["shapes"]} == {"e3m4", "weights=e2m1,head=e3m4"}


def test_shapes_with_adapters_are_compared(capsys):
    assert main(["plan", "compare", "demo", "--board", "ulx3s-85f", "--texts", "4", "--shape",
                 "tiny,context=32,lanes=8,columns=8,vector_lanes=4,attention_lanes=8,adapters=1"]) == 0
    out = capsys.readouterr().out
    assert "texts without an adapter" in out and "adapters=1" in out and "halves=2" in out


@pytest.mark.parametrize("words, said", [
    (["--board", "ulx3s-12f"], "the smallest has too many BRAM"),
    (["--board", "ulx3s-85f", "--shape", "lanes=4,columns=4,context=64", "--clock", "300"],
     "no shape may reach 300 MHz: the smallest about ")])
def test_nothing_fits(words, said, tmp_path, capsys):
    files = ["--json", str(tmp_path / "all.json"), "--picture", str(tmp_path / "none.svg")]
    assert main(["plan", "compare", "demo", *words, *files]) == 3
    out = capsys.readouterr().out
    assert said in out and out.endswith(", and there is nothing to draw\n") and not (tmp_path / "none.svg").exists()
    assert json.loads((tmp_path / "all.json").read_text())["shapes"] == []


@pytest.mark.parametrize("words, said", [
    (["--texts", "0"], "Texts must be 1 to 256, not 0"),
    (["--shape", "slots=2", "--texts", "3"], "Slots must be at least the 3 texts, not 2"),
    (["--shape", "source=stream"], "take source=rom"),
    (["--clock", "0"], "Clock must be 1 to 1000 MHz, not 0"),
    (["--picture", "/no/such/folder/a.svg"], "/no/such/folder/a.svg: No such file or directory")])
def test_refused(words, said, capsys):
    assert main(["plan", "compare", "demo", "--board", "ulx3s-85f", *words]) == 2
    assert said in capsys.readouterr().err


def test_fpga_without_luts_is_refused(capsys):
    assert main(["plan", "compare", "demo", "--bram", "100"]) == 2
    assert "LUT count must be given: --lut N" in capsys.readouterr().err


@pytest.mark.parametrize("most", [1, 3.7, 10, 99, 32715, 83640, 1e6])
def test_ticks_are_round_and_reach(most):
    found = ticks(most)
    assert 4 <= len(found) <= 9 and found[0] == 0 and found[-2] < most <= found[-1]
    assert re.fullmatch(r"[125]e[+-]\d+", f"{found[1]:.0e}")


@pytest.mark.parametrize("words, key", [(["plan", "demo", "--board", "ulx3s-85f"], "used"),
                                        (["plan", "demo", "--board", "ulx3s-12f"], "used"),
                                        (["plan", "engines", "demo"], "passes")])
def test_plans_are_json_too(words, key, tmp_path, capsys):
    code = main([*words, "--json", str(tmp_path / "plan.json")])
    about, out = json.loads((tmp_path / "plan.json").read_text()), capsys.readouterr().out
    assert about["kind"] == "projected" and key in about
    if key == "used":
        assert about["fits"] == (code == 0) == out.startswith("fits") and f"{about['used']['LUT']:,}" in out
        assert about["fits"] == bool(about["speeds"])
