"""The quickest proofs, and that the checker itself can say no: `make formal` has them all."""
import re
from pathlib import Path

import pytest
from amaranth.hdl import Signal

from formal import engine, proofs, uart_bridge
from formal.__main__ import PROOFS, run
from formal.broken import Break, broken
from formal.harness import Harness
from formal.proofs import Proof, ProofFailed, prove, refute
from hwgen.lib.skid import Skid
from hwgen.lib.verilog import ports


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(proofs, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("proof", [proof for proof in PROOFS if proof.quick], ids=lambda proof: proof.name)
def test_quick_proofs(proof):
    assert prove(proof)[0].kind == "proved"
    assert refute(proof, "altered").depth < proof.depth


def test_names_are_unique_and_every_property_has_a_broken_unit():
    assert len({proof.name for proof in PROOFS}) == len(PROOFS)
    refuted = {(proof.unit.split("'")[0], name) for proof in PROOFS for name in proof.breaks}
    assert [(proof.name, name) for proof in PROOFS for name in proof.make().properties
            if (proof.unit.split("'")[0], name) not in refuted] == []


def counter(bound, method, reset_less=False):
    """A counter beside a skid that is wrong when it is at ``bound``."""
    def make():
        h = Harness(Skid(1))
        count = Signal(3, reset_less=reset_less)
        h.m.d.sync += count.eq(count + h["i__valid"])
        h.never("small", count < 0)
        h.never("at_bound", count == bound)
        return h
    return Proof("Counter", f"to {bound}", make, method, {"small": Break(Skid, "full.eq(", "full.eq(1 | ")}, depth=4)


@pytest.mark.parametrize("method, kind", [("pdr", "refuted"), ("bounded 8", "refuted"), ("bounded 4", "bounded"),
                                          ("induction 3", "open")])
def test_what_is_wrong_after_five_cycles(folder, method, kind):
    assert engine.solve(counter(4, method).make(), folder, method).kind == kind


def test_a_failure_names_unit_property_and_a_waveform_that_ends_with_it(folder):
    with pytest.raises(ProofFailed, match=r"^Counter, to 2: property 'at_bound' does not hold in cycle 3; waveform: "
                                          r"\S+counterexample.vcd$") as caught:
        prove(counter(2, "pdr"))
    text = Path(str(caught.value).split("waveform: ")[1]).read_text()
    name = next(line.split()[3] for line in text.splitlines() if line.endswith(" at_bound $end"))
    assert [line for line in text.splitlines() if line in (f"b0 {name}", f"b1 {name}")] == [f"b0 {name}", f"b1 {name}"]


def test_what_reset_does_not_reach_may_start_as_anything(folder):
    assert engine.solve(counter(6, "pdr", reset_less=True).make(), folder, "bounded 3").kind == "refuted"


def test_run_says_all_that_failed():
    lines = []
    failed = run([counter(2, "pdr")], lines.append)
    assert len(lines) == 2 and all(line.endswith(": FAILED") for line in lines)
    assert [sentence.split("'")[1] for sentence in failed] == ["at_bound", "small"]


def test_a_break_must_fit_the_source():
    with pytest.raises(ValueError, match="Source of Skid must have 'fool' once, not 0 times"):
        with broken(Break(Skid, "fool", "full")):
            pass
    with broken(Break(Skid, "full.eq(self.o.valid & ~self.o.ready)", "full.eq(0)")):
        from hwgen.lib import skid
        assert skid.Skid is not Skid
    assert skid.Skid is Skid


def test_what_a_proof_sees_inside_a_unit_has_one_name_on_both_sides():
    """The port for what a part of the bridge has, of which Amaranth's name has a number."""
    text = uart_bridge._harness(16, 3).verilog()
    connected = re.findall(r"\.(\w+)\(", re.search(r"^  top_unit unit \((.*?)\);", text, re.MULTILINE | re.DOTALL)[1])
    assert set(connected) <= {port.name for port in ports(text, "top_unit")}
