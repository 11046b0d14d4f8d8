"""Emission: shared modules once and under the design's prefix, the same bytes each time, no signal without width."""

import os
from pathlib import Path
import re
import subprocess
import sys

from amaranth.hdl import Cat, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
import pytest

from hwgen.lib.verilator import lint
from hwgen.lib.verilog import emit_design, emit_verilog, ports, shared, verbatim
from sim.example_units import Pair, Quad, StreamRegister


def modules(text):
    return [line.split()[1].split("(")[0] for line in text.split("\n") if line.startswith("module ")]


class Combinational(wiring.Component):
    """No register, hence no clock; a port and a signal of no width."""

    a: In(3)
    nothing: In(0)
    b: Out(3)
    constant: Out(2)

    def elaborate(self, platform):
        m = Module()
        none = Signal(range(1))
        m.d.comb += [none.eq(self.a), self.b.eq(self.a + none + self.nothing + 1)]
        return m


class Parent(wiring.Component):
    """Shares what it is told to, under one name."""

    x: In(3)
    y: Out(3)

    def __init__(self, *children):
        self._children = children
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        for index, child in enumerate(self._children):
            m.submodules[f"child{index}"] = shared(child, "child")
        if isinstance(self._children[0], Combinational):
            m.d.comb += [self._children[0].a.eq(self.x), self.y.eq(self._children[0].b)]
        return m


class Recursive(wiring.Component):
    x: In(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = shared(Recursive(), "recursive")
        return m


def test_each_shared_module_is_written_once():
    assert modules(emit_design(Quad(2), "chip")) == ["chip_register_2", "chip_pair_2", "chip"]


def test_with_sources_a_module_takes_no_attributes_of_the_next():
    text = emit_design(Quad(2), "chip", sources=True)
    assert modules(text) == ["chip_register_2", "chip_pair_2", "chip"]
    assert re.search(r'\(\* src = ".*example_units.py:\d+" \*\)', text)
    assert {before for before in re.findall(r"(.*)\n(?:module |\Z)", text) if before.lstrip().startswith("(*")} == set()


def test_in_place_without_a_design():
    assert modules(emit_verilog(Pair(2), "chip")) == ["chip", "chip_first", "chip_second"]


def test_two_designs_share_no_name():
    assert not set(modules(emit_design(Quad(2), "one"))) & set(modules(emit_design(Quad(2), "two")))


def test_the_same_bytes_in_another_process():
    program = ("from hwgen.lib.verilog import *; from sim.example_units import *; "
               "print(emit_design(Quad(2), 'chip'), end='')")
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": "."},
                          cwd=Path(__file__).parent.parent,
                          capture_output=True, text=True, check=True)
    assert done.stdout == emit_design(Quad(2), "chip")


def test_ports():
    assert set(ports(emit_design(StreamRegister(2), "register"), "register")) == {
        ("clk", "input", 1), ("rst", "input", 1), ("i__valid", "input", 1), ("i__ready", "output", 1),
        ("i__payload", "input", 20), ("o__valid", "output", 1), ("o__ready", "input", 1), ("o__payload", "output", 20)}


def test_no_width():
    text = emit_design(Combinational(), "comb")
    assert "[-1:0]" not in text
    assert set(ports(text, "comb")) == {("a", "input", 3), ("b", "output", 3), ("constant", "output", 2)}


def test_a_part_without_clock():
    assert modules(emit_design(Parent(Combinational(), Combinational()), "chip")) == ["chip_child", "chip"]


def test_a_name_for_two_components_is_refused():
    with pytest.raises(ValueError, match="one component, not both Combinational and StreamRegister"):
        emit_design(Parent(Combinational(), StreamRegister(1)), "chip")
    with pytest.raises(ValueError, match="one component"):
        emit_design(Parent(StreamRegister(2), StreamRegister(1)), "chip")


def test_a_part_in_itself_is_refused():
    with pytest.raises(ValueError, match="must not contain itself"):
        emit_design(Recursive(), "chip")


@pytest.mark.parametrize("call, error", [
    (lambda: emit_design(Combinational(), "not plain"), "plain Verilog identifier"),
    (lambda: ports(emit_design(Combinational(), "chip"), "other"), "module named 'other'"),
])
def test_refused(call, error):
    with pytest.raises(ValueError, match=error):
        call()


def test_a_shared_module_is_a_submodule_in_the_simulator():
    parent = Parent(Combinational())

    async def bench(context):
        context.set(parent.x, 5)
        assert context.get(parent.y) == 6

    simulator = Simulator(parent)
    simulator.add_testbench(bench)
    simulator.run()


class Verbatim(wiring.Component):
    """Two instances of a module written by hand."""

    x: In(1)
    y: Out(2)

    def __init__(self, *texts):
        self._texts = texts
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        for i, text in enumerate(self._texts):
            m.submodules[f"part{i}"] = Instance(verbatim("inverter", text), i_x=self.x, o_y=self.y[i])
        return m


class Inner(wiring.Component):
    x: In(1)
    y: Out(1)

    def elaborate(self, platform):
        m = Module()
        part = verbatim("part", PART, raised={"DEPTH": ("PART_DEPTH", "3")})
        m.submodules.part = Instance(part, p_OTHER=2, i_x=self.x, o_y=self.y)
        return m


class Middle(wiring.Component):
    x: In(1)
    y: Out(1)
    inner = Inner

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = self.inner()
        m.d.comb += [inner.x.eq(self.x), self.y.eq(~inner.y)]
        return m


class Outer(Middle):
    """A module by hand two levels below."""
    inner = Middle


PART = """\
module {module} #(
    parameter DEPTH = 0,
    parameter OTHER = 0
) (input x, output y);
  assign y = x ^ (DEPTH == OTHER);
endmodule
"""

INVERTER = "module {module} (input x, output y);\n  assign y = ~x;\nendmodule\n"


def test_a_module_written_by_hand_is_there_once(tmp_path):
    text = emit_design(Verbatim(INVERTER, INVERTER), "chip")
    assert modules(text) == ["chip_inverter", "chip"]
    assert text.startswith("/* Generated by Amaranth")
    (tmp_path / "chip.v").write_text(text)
    lint(tmp_path / "chip.v", "chip")
    with pytest.raises(ValueError, match="one text"):
        emit_design(Verbatim(INVERTER, INVERTER.replace("~", "")), "chip")
    assert "chip_inverter" not in emit_verilog(Verbatim(INVERTER), "chip")


def test_a_parameter_of_a_module_by_hand_is_the_tops(tmp_path):
    text = emit_design(Outer(), "chip")
    assert "module chip #(parameter PART_DEPTH = 3) (" in text and re.search(r"^  chip_part #\(\.DEPTH\(PART_DEPTH\),$",
                                                                             text, re.MULTILINE)
    assert text.count("#(.PART_DEPTH(PART_DEPTH))") == 2 and {port.name for port in ports(text, "chip")} == {"x", "y"}
    (tmp_path / "chip.v").write_text(text)
    lint(tmp_path / "chip.v", "chip")


class Passing(wiring.Component):
    """Hands a port on, beside a register."""
    i: In(4)
    o: Out(8)
    last: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(Cat(self.last, self.i))
        m.d.sync += self.last.eq(self.i)
        return m


class Behind(wiring.Component):
    """Of a part that stands before the one whose output it hands on."""
    o: Out(8)
    last: Out(4)

    def elaborate(self, platform):
        m = Module()
        m.submodules.passing = passing = Passing()
        m.submodules.source = source = Passing()
        m.d.comb += [source.i.eq(passing.last + 1), passing.i.eq(source.last), self.o.eq(passing.o),
                     self.last.eq(source.last)]
        return m


def test_what_passes_a_part_is_driven_by_another():
    assert emit_design(Behind(), "behind").count("module ") >= 3
