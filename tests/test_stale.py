"""`make stale`: which results are older than what they depend on, and the digests that say so."""
import json

import pytest

from tools import digests, ledger, stale, tables

ENTRY = {"name": "x", "value": 1.5, "unit": "W", "kind": "measured", "command": "python -m tools.bench_x",
         "commit": "0123456789", "machine": "a CPU", "date": "2025-01-31"}
FRESH = digests.spelled(["rtl:specimen", "golden:cycles"], digests.committed().get)
OLD = FRESH.replace("golden:cycles=", "golden:cycles=0")


def test_digests_are_those_of_this_checkout():
    """Machines are emitted, and passes predicted."""
    found = digests.quick()
    kept = {name: value for name, value in digests.committed().items() if not name.startswith("board")}
    assert found == kept, "run: python -m tools.digests"
    assert digests.committed()["boards of"] == digests.boards_of(), (
        "run: python -m tools.digests")


def test_every_entry_depends_on_something():
    entries = [(path.name, entry) for path in ledger.RESULTS.glob("*.json") for entry in ledger.load(path)]
    assert {file for file, entry in entries
            if not digests.depends(file, entry["name"], entry["command"])} == set()


@pytest.mark.parametrize("file, name, command, needed", [
    ("synth.json", "4x4/rope/ecp5 LUT", "", ("unit:rope",)),
    ("synth.json", "4x4/xa/ecp5 LUT", "", ("unit:vector_buffer",)),
    ("synth.json", "4x4/whole machine/ecp5 LUT", "", digests.RTL), ("other.json", "x", "", ()),
    ("boards.json", "clock", "hwgen fpga build --board ulx3s-85f", ("board:ulx3s-85f",)),
    ("boards.json", "clock", "hwgen fpga build --board none", digests.RTL[:2])])
def test_what_an_entry_depends_on(file, name, command, needed):
    assert digests.depends(file, name, command) == needed


MACHINE = """// A.
// Source: hwgen/units/a.py, docs/a.md
module m_a (
  m_skid skid (
endmodule
// Source: hwgen/lib/skid.py, docs/architecture.md
module m_skid (  // a comment
endmodule
// Source: hwgen/units/b.py, docs/b.md
module m_b (
  m_a a (
endmodule
"""


@pytest.mark.parametrize("old, new, differ", [("a comment", "another", set()), ("m_skid (  ", "m_skid (x", {"a"}),
                                              ("m_a a (", "m_a b (", {"b"}),
                                              ("units/a.py,", "units/c.py,", {"a", "c"})])
def test_units_have_digests_of_their_own(old, new, differ):
    before, after = digests.units(MACHINE), digests.units(MACHINE.replace(old, new))
    assert {unit for unit in before | after if before.get(unit) != after.get(unit)} == differ


def test_a_comment_changes_no_machine():
    assert digests.verilog(MACHINE) == digests.verilog("/* Yosys 2 */" + MACHINE.replace("// A.", "// B."))
    assert digests.verilog(MACHINE) != digests.verilog(MACHINE.replace("m_a a", "m_a b"))


@pytest.mark.parametrize("text, same", [('"""Says."""\nX = 1  # one\n', True), ("X = 2\n", False)])
def test_a_comment_changes_no_module(text, same):
    assert (digests.meaning(text) == digests.meaning("X = 1\n")) is same


@pytest.mark.parametrize("sources, changed", [(FRESH, []), (OLD, ["golden:cycles"]), ("rtl:none=0", ["rtl:none"]),
                                              (None, None)])
def test_outdated(sources, changed):
    assert ledger.outdated(ENTRY if sources is None else {**ENTRY, "sources": sources}) == changed


@pytest.fixture
def checkout(tmp_path):
    """A checkout with three results of a run, and a page that shows them."""
    ledger.record(tmp_path / "docs" / "results" / "x.json", [
        {**ENTRY, "name": "a/1", "sources": FRESH, "cpu_seconds": 77},
        {**ENTRY, "name": "b/1", "sources": OLD, "cpu_seconds": 77}, {**ENTRY, "name": "c/1", "sources": OLD}])
    (tmp_path / "README.md").write_text(
        "<!-- ledger:x.json:a/1:inline --><!-- end --><!-- ledger:x.json:b/1:inline --><!-- end -->\n"
        "<!-- ledger:x.json:* -->\n<!-- end -->\n<!-- ledger:x.json:b/*,c/*:pivot -->\n<!-- end -->\n")
    return tmp_path


def test_a_run_with_old_results_is_listed(checkout):
    result, = stale.results(checkout)
    assert (result.count, result.old, result.changed) == (3, 2, ("golden:cycles",)) and result.cpu_seconds >= 77


def test_a_page_marks_what_is_old(checkout):
    text, = tables.stale(checkout).values()
    assert "-->1.500 W<!-- end --><" in text and "-->1.500 W (of 2025-01-31)<!-- end -->" in text
    assert "\n\n2 of 3 values are older than the present machine or model: measured 2025-01-31.\n<!-- end -->" in text
    assert "\n\nAll values are older than the present machine or model: measured 2025-01-31.\n<!-- end -->" in text


def test_record_says_what_an_entry_depends_on(tmp_path):
    ledger.record(tmp_path / "utilization.json", [{**ENTRY, "name": "rate"}])
    entry, = json.loads((tmp_path / "utilization.json").read_text())
    assert entry["sources"] == digests.spelled(["golden:cycles"]) and entry["cpu_seconds"] >= 0
