"""The tool that breaks units to see whether their benches notice."""
import contextlib
import re
from collections import Counter

import pytest

from formal import engine
from hwgen.lib.verilog import Port
from tools import equivalence, mutate

PORTS = [Port("i__valid", "input", 1), Port("i__payload", "input", 8), Port("o__ready", "input", 1),
         Port("rst", "input", 1),
         Port("i__ready", "output", 1), Port("o__valid", "output", 1), Port("o__payload", "output", 4)]
VERILOG = ["module x(a);", "  assign y = $1 & a;", "  if ($2 ) begin", "    word <= $2 ;"]


def test_every_unit_has_a_bench_and_every_bench_is_of_a_unit():
    used = {path.stem.removeprefix("test_") for path in (mutate.ROOT / "sim").glob("test_*.py")
            if "runner import run" in path.read_text()}
    others = {"runner", "dram", "ddr3", "sdram_chip", "ddr3_chip", "sd_card"}   # itself, LiteDRAM, models of chips
    assert used - others == set(mutate.UNITS)


def test_a_mutation_in_words():
    command = ("mutate -ctrl mutant 8 3 -mode cnot0 -module x -cell $and$design.v:2$1 -port A -portbit 1 -ctrlbit 2 "
               "-wire $2 -wirebit 1 -src design.v:2.1-2.3")
    assert mutate._where(command, VERILOG, {}) == "cnot0 by [2] x and.A[1] $2=word[1]; Verilog: assign y = $1 & a;"
    assert mutate._where(f"{command} -src hwgen/units/__init__.py:9", VERILOG,
                         {("\\x", "$and$design.v:2$1"): "\\y"}).endswith("=word[1] -> y; hwgen/units/__init__.py:9")


def test_a_wire_is_named_in_its_own_module():
    other = ["module \\y.z (a);", "  assign other = $2 ;", "endmodule"]
    command = ("mutate -ctrl mutant 8 3 -mode inv -module {} -cell $and$design.v:9$1 -port A -portbit 1 "
               "-wire $2 -wirebit 1 -src design.v:2.1-2.3")
    text = [*other, *VERILOG, "endmodule"]
    assert [mutate._where(command.format(name), text, {}).split(";")[0]
            for name in ("x", "\\y.z")] == ["inv x and.A[1] $2=word[1]", "inv \\y.z and.A[1] $2=other[1]"]


def test_what_a_cell_drives_is_named_through_multiplexers():
    cell = "  cell ${} {}\n    connect \\A {}\n    connect \\Y {}\n  end\n"
    text = "module \\x\n" + cell.format("not", "$1", "\\a", "$2") + cell.format("mux", "$3", "$2", "\\y") + "end\n"
    assert mutate._drives(text) == {("\\x", "$1"): "\\y", ("\\x", "$3"): "\\y"}
    assert mutate._drives(text.replace("$2", "\\_not1")) == mutate._drives(text)


def test_a_score_leaves_out_what_is_equivalent_and_counts_what_is_only_explained():
    counts = Counter({"killed by values": 6, "killed by cycles only": 2, "equivalent": 5, "argued": 2, "explained": 1,
                      "survived": 1})
    assert mutate.summary(counts) == {"mutants": 17, **counts, "score": 80.0}


def test_totals_are_of_units():
    entries = [{"name": f"{unit}/{number}", "value": value} for unit in ("rope", "axi", "no unit") for number, value in
               (("killed by values", 6), ("equivalent", 2), ("explained", 1), ("survived", 1), ("score", 75),
                ("mutants", 10))]
    assert mutate.totals([*entries, {"name": "mutation_score", "value": 1}]) == {
        "mutation_score": 75.0, "mutation_units": 2, "mutation_mutants": 20, "mutation_equivalent": 4,
        "mutation_argued": 0,
        "mutation_explained": 2, "mutation_survived": 2}


def test_explanations_are_of_units():
    assert mutate.explanation("convert", "inv nowhere") == (None, False)
    entries = mutate.explanations()
    assert all(set(entry) - {"equivalent"} == {"unit", "match", "why"} and entry["unit"] in (*mutate.UNITS, "*")
               and entry["why"]
               for entry in entries)


def test_a_miter_compares_a_payload_only_while_it_is_offered_and_keeps_to_the_streams_rule():
    text = equivalence._miter("x", [*PORTS, Port("mutant", "input", 3)])
    text = text.replace("\\", "").replace(" ", "")
    assert "xb(.mutant(which),.i__valid(i__valid)" in text
    assert "(a_o__payload!=b_o__payload&&a_o__valid)" in text and "(a_o__valid!=b_o__valid)" in text
    assert "wirewrong=(was_i__valid&&(!i__valid||i__payload!=was_i__payload));" in text
    assert "was_i__valid<=i__valid&&!a_i__ready&&!rst;" in text and "inputclk;" in text


def test_of_a_model_yosys_sees_the_ports_alone():
    model = "module card #(\n  parameter SLOW = 3\n) (\n  input a\n);\n  initial $random;\nendmodule"
    verilog = f"// a model\n{model}\nmodule unit(a);\nendmodule\n"
    seen, models = mutate._apart(verilog, ("card",))
    assert "$random" not in seen and "(* blackbox *) module card #(" in seen and models.endswith(f"\n{model}\n")
    assert [line.startswith("module unit") for line in seen.splitlines()].index(True) == 8 == verilog[
        :verilog.index("module unit")].count("\n")
    with pytest.raises(engine.EngineError, match="There must be one module card_reader, not 0"):
        mutate._apart(verilog, ("card_reader",))


@pytest.mark.parametrize("names, missing", [
    (("decoder", "decoder_sequencer", "decoder_norm_skid"), None),
    (("decoder", "decoder.sequencer", "decoder_norm_skid"), "_sequencer*"),
    (("decoder", "decoder_sequencer"), "_*_skid")])
def test_a_top_whose_modules_have_other_names_is_refused(names, missing):
    case = mutate.Case("decoder", "decoder", "".join(f"module {name}(\nendmodule\n" for name in names), [])
    with pytest.raises(engine.EngineError, match=re.escape(repr(missing))) if missing else contextlib.nullcontext():
        mutate._check_tops("decoder", [case])


@pytest.mark.nightly
def test_a_unit(monkeypatch, tmp_path):
    monkeypatch.setattr(mutate, "WORK", tmp_path)
    found = mutate.run_unit("secded", 12, 3, 1, 0)
    counts = Counter(entry["verdict"] for entry in found)
    assert len(found) == 12 and counts["killed by values"] >= 9 and all(re.search("hwgen/lib/|sim/secded_units|Verilog",
                                                                                  entry["where"])
                                                                        for entry in found)
    assert mutate.run_unit("secded", 12, 3, 1, 0) == found          # from the disk
