"""The report of coverage: what it fails for, and the lines of Python that emitted Verilog names."""
import json
import re

import pytest

from hwgen.lib.verilog import emit_design
from hwgen.top import make
from sim import branches
from sim.designs import small_design
from sim.example_units import Quad
from tools import coverage


def about(mark=100, unreachable=()):
    return {"marks": {"x": {"branches": mark, "points": mark}},
            "unreachable": [{"unit": "x", "what": what, "why": "so"} for what in unreachable]}


def judged(missed, **more):
    """Complaints of a unit with a branch and three points, of which some are missed."""
    points = {name: name not in missed for name in ("o: taken", "o: waits for ready", "cmd.n = first")}
    return coverage.judge({"x": {coverage.Branch("x", "hwgen/units/convert.py:1", "if"): True}}, {"x": points},
                          about(**more))[1]


@pytest.mark.parametrize("missed, more, complaint", [
    ((), {}, None),
    (("o: taken",), {}, "x: 66.67 % of the points that can be reached are, less than the mark of 100 %"),
    (("o: taken",), {"mark": 66}, None),
    (("cmd.n = first",), {"unreachable": [r"cmd\.n = first"]}, None),
    ((), {"unreachable": [r"cmd\.n = first"]}, "x: cmd.n = first is reached, but tools/coverage.json says that it "
                                               "cannot be: so"),
])
def test_what_a_report_fails_for(missed, more, complaint):
    assert (judged(missed, **more) or [None])[0] == complaint


@pytest.mark.parametrize("place, unit", [("hwgen/top/paths.py", "decoder"), ("hwgen/units/rope.py", "rope"),
                                         ("hwgen/lib/skid.py", "axi")])
def test_whose_a_branch_is(place, unit):
    assert (coverage.ROOT / place).exists()
    assert coverage._unit(f"{place}:7", "axi") == unit


def test_benches_that_did_not_run():
    assert "x: no branches were counted: its benches did not run" in coverage.judge({}, {}, about())[1]
    assert any(each.startswith("y must have a mark") for each in coverage.judge({}, {"y": {"o: taken": 1}}, about())[1])


def test_verilog_says_of_each_branch_which_line_made_it():
    design = small_design(vocab_size=7, context=16)
    with branches.untidied():
        plain = emit_design(make.decode_loop(design), "loop")
    with branches.made_by():
        marked = emit_design(make.decode_loop(design), "loop")
    lines = marked.split("\n")
    assert "\n".join(line for line in lines if not branches.MARK.match(line)) == plain
    made = [branches.MARK.match(before)[1] for before, line in zip(lines, lines[1:])
            if re.match(r"\s*if \((?!rst|\\\$auto)", line)]
    sources = [coverage._source(place) for place in made]
    assert len(made) > 40 and {place.split(":")[0] for place in made} == {"hwgen/units/decode_loop.py"}
    # two branches, one in the other: the register that counts up, and what it is between
    assert sources.count("m.d.sync += index.eq(index + 1)") == 2 and not any(source.startswith(("with", "def", "class"))
                                                                             for source in sources)


def test_parts_that_a_design_shares_are_marked_too():
    with branches.made_by():
        text = emit_design(Quad(2), "chip")
    part = text.partition("module chip_register_2")[2].partition("endmodule")[0]
    assert 'made_by = "sim/example_units.py' in part


def test_counts_are_added_up(tmp_path):
    """A branch is reached if some module of some build took it in each of its places."""
    (tmp_path / "verilog").mkdir()
    branch = '  /* made_by = "hwgen/units/rope.py:9" */\n  if (x) begin\n'
    (tmp_path / "verilog" / "a.v").write_text(f"module top (\n{branch}{branch}  a = b;\n")

    def run(number, first, second):
        text = "".join(f"C '\1f\2/x/a.v\1l\2{line}\1n\2{5}\1o\2{kind}\1S\2{line}' {times}\n"
                       for line, kind, times in ((3, "if", first), (5, "if", second), (3, "block", 1)))
        (tmp_path / "coverage.dat").write_text(text)
        branches.keep(tmp_path / "coverage.dat", tmp_path, "decoder")
        return {str(branch): hit for branch, hit in coverage.add_up(tmp_path)[0]["rope"].items()}

    (name, hit), = run(1, 7, 0).items()
    assert name.startswith("hwgen/units/rope.py:9: if") and not hit
    assert list(run(2, 0, 1).values()) == [True]


def test_marks_are_well_formed():
    said = json.loads(coverage.MARKS.read_text(encoding="utf-8"))
    assert all(set(of) <= set(coverage.KINDS) and all(0 < mark <= 100 for mark in of.values())
               for of in said["marks"].values())
    assert all(set(each) == {"unit", "what", "why"} and re.compile(each["what"]) and len(each["why"]) > 10
               for each in said["unreachable"])
