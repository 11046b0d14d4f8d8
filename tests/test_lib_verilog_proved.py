"""What `hwgen.lib.verilog_text` makes of Yosys' text is the same machine: proved in all cycles from the first on, by
Yosys and ABC."""

import pytest

from hwgen.lib.verilog import emit_design
from sim.branches import untidied
from sim.designs import small_design
from tests.same_machine import UNITS, same
from tests.verilog_examples import Aside, Machine


def texts(make):
    with untidied():
        before = emit_design(make(), "top")
    return before, emit_design(make(), "top")


@pytest.mark.parametrize("make", [Machine, Aside])
def test_the_same_machine(make, tmp_path):
    assert same(*texts(make), tmp_path)


@pytest.mark.parametrize("old, new", [("initial last_out = 32'd0", "initial last_out = 32'd1"),
                                      ("last_out <= out", "last_out <= b"),
                                      ("out = b;", ""), ("32'd5: ;", "32'd4: ;")])
def test_another_machine(old, new, tmp_path):
    before, after = texts(Aside)
    assert old in after and not same(before, after.replace(old, new), tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("unit", UNITS)
def test_units(unit, tmp_path):
    design = small_design(sampler="gumbel", source="stream", kv_ecc=True, entries=3)
    assert same(*texts(lambda: UNITS[unit](design)), tmp_path)
