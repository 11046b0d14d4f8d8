"""Verilog for a simulator is the same machine, with less in it."""
import re

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.quicker import quicker
from hwgen.lib.verilog import emit_design
from sim.designs import small_design
from tests.same_machine import UNITS, same


class Wide(wiring.Component):
    """Sums that saturate, and what has many bits."""
    a: In(signed(12))
    b: In(signed(12))
    sum: Out(signed(8))
    parity: Out(2)
    some: Out(2)
    chosen: Out(3)

    def elaborate(self, platform):
        m = Module()
        total = self.a + self.b
        fits = total[7:].all() | ~total[7:].any()
        m.d.sync += [self.sum.eq(Mux(fits, total[:8], Cat((~total[12]).replicate(7), total[12]))),
                     self.parity.eq(Cat(Cat(self.a[0], self.a[2:9], self.b[1:8], self.b[11], self.a[4]).xor(),
                                        Cat(self.a[:3], self.b[:2]).xor()))]
        last = Signal(12)
        m.d.sync += last.eq(self.a)
        both = [self.a ^ self.b, self.a ^ last, self.b ^ last, last & self.a, last & self.b, last | self.a,
                last | self.b, self.a & self.b]
        m.d.comb += [bit.eq(Cat(x[place] for x in both).any()) for bit, place in zip(self.some, (3, 11))]
        fitted = Signal()
        m.d.sync += fitted.eq(fits)
        m.d.comb += self.chosen.eq(Mux(fitted, self.a[:3], 1))
        return m


@pytest.fixture(scope="module")
def text():
    return emit_design(Wide(), "top")


def test_what_is_made_twice_is_made_once(text):
    made = [re.findall(r"^  assign _\w+ = (.*);$", each, re.MULTILINE) for each in (text, quicker(text))]
    assert len(made[0]) > len({*made[0]}) and len(made[1]) == len({*made[1]})
    assert re.search(r"\{7\{_not\d+\}\}", quicker(text))


def test_many_bits_are_taken_at_once(text):
    lines = re.findall(r"= ([|^] \(.*);$", quicker(text), re.MULTILINE)
    # a bit that is in it twice does not count
    assert "^ (((a) & 9'h1ed) ^ ((b) & 12'h8fe))" in lines and sum(line.startswith("| ") for line in lines) == 2
    assert re.search(r"= \^ \{ b\[1:0\], a\[2:0\] \};", quicker(text))       # of which there are few


def test_a_choice_of_a_constant_is_no_branch(text):
    assert "  assign chosen = ({3{fitted}} & a[2:0]) | (~{3{fitted}} & 3'h1);\n" in quicker(text)


def test_it_is_the_same_machine(text, tmp_path):
    assert same(text, quicker(text), tmp_path)


@pytest.mark.parametrize("old, new", [("12'h8fe", "12'h8ff"), ("9'h1ed", "9'h1fd"), ("{7{", "{6{"),
                                      (" & 3'h1)", " & 3'h3)")])
def test_another_would_be_noticed(text, tmp_path, old, new):
    assert old in quicker(text) and not same(text, quicker(text).replace(old, new, 1), tmp_path)


def test_results_that_depend_on_each_other_in_a_circle():
    """As words: their bits do not."""
    wires = "".join(f"  wire [1:0] _value{i};\n" for i in (1, 2))
    text = (f"module top (\n);\n{wires}  assign _value1 = {{ _value2[0], a }};\n"
            "  assign _value2 = { b, _value1[0] };\nendmodule\n")
    assert quicker(text) == text


@pytest.mark.nightly
@pytest.mark.parametrize("unit", UNITS)
def test_units(unit, tmp_path):
    text = emit_design(UNITS[unit](small_design(sampler="gumbel", source="stream", kv_ecc=True, entries=3)), "top")
    assert same(text, quicker(text), tmp_path)


@pytest.mark.parametrize("mark", ["", "/*verilator tracing_on*/"])
def test_modules_behind_marks_stay_apart(mark):
    """Names without a meaning are those of a module, though `hwgen.host.diagnosis.waves.probed` marks its first
    line."""
    def module(name, *sums):
        wires = "".join(f"  wire [2:0] _sum{i};\n  assign _sum{i} = {what};\n" for i, what in enumerate(sums, 1))
        return f"module {name};\n{wires}  assign out = _sum1 ^ _sum2;\nendmodule\n"
    first, second = module("one", "a + b", "c + d"), module("two", "a + b", "a + b")
    done = quicker(f"// a head\n{first}{mark}{second}")
    assert done.startswith(f"// a head\n{first}{mark}module two;")
    assert done.endswith("assign out = _sum1 ^ _sum1;\nendmodule\n")
