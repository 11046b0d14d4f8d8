"""Verilog that leaves alone what stands still is the same machine, whatever stands still and for how long."""
import random
import re
import subprocess
import sys
from functools import cache

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwgen.host.links.verilated import cache_folder
from hwgen.lib import verilator
from hwgen.lib.resting import resting
from hwgen.lib.verilog import emit_design
from tests.same_machine import same

module = sys.modules[resting.__module__]

#: Texts of one module side by side, with inputs that begin as 0, change, stand still, and come back.
_BOTH = """\
module both (input wire clk, input wire rst, input wire [15:0] a, input wire [7:0] b, input wire go,
             output wire [{last}:0] differ);
{wires}endmodule
"""
_PAIR = """\
  wire [63:0] o{0}, p{0};
  {1} first{0} (.clk(clk), .rst(rst), .a(a), .b(b), .go(go), .o(o{0}));
  {2} second{0} (.clk(clk), .rst(rst), .a(a), .b(b), .go(go), .o(p{0}));
  assign differ[{0}] = o{0} != p{0};
"""
_MAIN = """\
#include <cstdio>
#include <cstdlib>
#include "Vtop.h"
int main() {
    Vtop top;
    unsigned long differ = 0;
    srand(1);
    for (int cycle = 0, still = 3; cycle < 20000; cycle++) {
        if (!still--) {
            still = rand() % 4 ? rand() % 3 : rand() % 40;
            int which = rand() % 8;
            if (which != 1) top.a = rand() % 3 ? rand() : 7;
            if (which < 3) top.b = rand();
            if (which < 6) top.go = rand() & 1;
            top.rst = rand() % 50 == 0;
        }
        top.eval();
        differ |= top.differ;
        top.clk = 1, top.eval(), top.clk = 0;
    }
    printf("%lu", differ);
}
"""


class Drawn(wiring.Component):
    """Registers, wires and a memory that are made of each other by chance: in pipelines, circles, held and cleared."""

    a: In(16)
    b: In(8)
    go: In(1)
    o: Out(64)

    def __init__(self, seed):
        super().__init__()
        self._draw = random.Random(seed)

    def _expression(self, things):
        a, b, c = (self._draw.choice(things) for _ in range(3))
        return self._draw.choice([lambda: a + b, lambda: a - b, lambda: a ^ (b & c), lambda: Mux(c[0], a, b),
                                  lambda: Mux(c[0], a, 5), lambda: Cat(b[-1], a), lambda: a * b[:3],
                                  lambda: (a.as_signed() >> 1) + b.as_signed(), lambda: a == b])()

    def elaborate(self, platform):
        m, draw = Module(), self._draw
        registers = [Signal(signed(width) if draw.random() < .2 else width, name=f"r{i}", init=draw.choice((0, -1)),
                            reset_less=draw.random() < .5)
                     for i, width in enumerate(draw.choices((1, 1, 4, 9, 20, 40), k=24))]
        m.submodules.memory = memory = Memory(shape=12, depth=8, init=range(8))
        write, read = memory.write_port(), memory.read_port()
        known = [self.a, self.b, self.go, read.data]
        m.d.comb += [read.en.eq(self.go), read.addr.eq(self._expression(known[:3])), write.addr.eq(self.b)]
        for i, register in enumerate(registers):
            # mostly of what was before: else all is in circles
            near = [*known[-5:], *(registers if draw.random() < .15 else known[:3])]
            wire = Signal(9, name=f"w{i}")
            m.d.comb += [wire[:4].eq(self._expression(near)), wire[4:].eq(self._expression(near))]
            value = self._expression([*near, wire])
            if draw.random() < .4:
                with m.If(self._expression([wire, *near])[0]):
                    m.d.sync += register.eq(value)
                with m.Elif(draw.choice(near).any()):
                    m.d.sync += register[0].eq(self.go)
            elif draw.random() < .2:
                with m.Switch(wire[3:6]):
                    with m.Case(1):
                        m.d.sync += register.eq(value)
                    with m.Case(2):
                        m.d.sync += register.eq(wire)
            else:
                m.d.sync += register.eq(value)
            known.append(register)
        m.d.comb += [write.en.eq(known[8][0]), write.data.eq(known[9])]
        shown = [Signal(64, name=f"shown{i}") for i in range(len(registers))]
        for last, now, register in zip([self.a, *shown], shown, registers):
            m.d.comb += now.eq(Cat(last[-1], last) ^ register)
        m.d.comb += self.o.eq(shown[-1])
        return m


@cache
def drawn(seed):
    return emit_design(Drawn(seed), f"given{seed}")


def differ(pairs, folder):
    """Of each pair of texts of one module, whether a simulation sees a difference."""
    sources, wires = {}, ""
    for number, (given, other) in enumerate(pairs):
        first = re.search(r"^module (\w+)", given, re.MULTILINE)[1]
        sources[first], sources[f"other{number}"] = given, re.sub(rf"\b{first}\b", f"other{number}", other)
        wires += _PAIR.format(number, first, f"other{number}")
    sources["both"] = _BOTH.format(last=len(pairs) - 1, wires=wires)
    for name, text in sources.items():
        (folder / f"{name}.v").write_text(text)
    (folder / "main.cpp").write_text(_MAIN)
    model = verilator.build([folder / f"{name}.v" for name in sources], "both", cpp=[folder / "main.cpp"],
                            folder=folder / "obj", executable="model", opt="-O0",
                            cache=cache_folder() / "verilator-runtime")
    found = int(subprocess.run([model], capture_output=True, check=True, text=True).stdout)
    return [bool(found >> number & 1) for number in range(len(pairs))]


@pytest.fixture
def anything(monkeypatch):
    """However little it is worth."""
    monkeypatch.setattr(module, "_LEAST", 0)
    monkeypatch.setattr(module, "_WORD", 0)


SEEDS = range(8)


def test_drawn(tmp_path, anything):
    after = {seed: resting(drawn(seed)) for seed in SEEDS}
    for text in after.values():
        assert text.count("begin : resting_stage") > 2 and "resting_was0" in text
    steady = [(drawn(seed), resting(drawn(seed), [f"given{seed}"])) for seed in SEEDS[:2]]
    assert all("resting_stage1" in text and "resting_was" not in text for _, text in steady)
    assert differ([*((drawn(seed), text) for seed, text in after.items()), *steady], tmp_path) == [False] * 10


def test_what_would_be_wrong_is_seen(tmp_path, anything, monkeypatch):
    """Stages that are not asked in the first cycle, not when an input is new, not when the stage above was computed;
    and a register that is taken for a stage though its next value depends on its own."""
    texts = [drawn(seed) for seed in SEEDS[:4]]
    wrong = {"begun": ["~ resting_begun", "1'h0"], "new": ["resting_new_a\\b(?! =)", "1'h0"],
             "was": ["<= resting_is\\d+;", "<= 1'h0;"]}
    pairs = [(text, re.sub(*change, resting(text))) for change in wrong.values() for text in texts]
    in_order = module._in_order
    monkeypatch.setattr(module, "_in_order", lambda above: (in_order(above)[0], set()))
    pairs += [(text, re.sub(r"(wire resting_is(\d+) = .*) \| resting_was\2\b", r"\1", resting(text))) for text in texts]
    found = differ(pairs, tmp_path)
    assert {name: any(found[4 * i:4 * i + 4]) for i, name in enumerate([*wrong, "circle"])} == dict.fromkeys(
        [*wrong, "circle"], True)


_TEXT = """\
module top (
  input wire clk,
  input wire [31:0] a,
  input wire [4:0] row,
  output wire [31:0] o
);
  reg [31:0] count;
  reg [31:0] last;
  reg [31:0] second;
  wire [31:0] _sum1;
  wire [31:0] _sum2;
  reg [31:0] rows [31:0];
  assign _sum1 = a ^ { LONG };
  assign _sum2 = last + { LONG };
  always @(posedge clk) begin
    count <= count + 1'h1;
  end
  always @(posedge clk) begin
    last <= _sum1;
  end
  always @(posedge clk) begin
    second <= _sum2;
  end
  always @(posedge clk) begin
    if (a[0])
      rows[row] <= a;
  end
  assign o = second ^ count ^ rows[row];
endmodule
""".replace("LONG", ", ".join(f"a[{bit}]" for bit in range(31, -1, -1)))


def test_what_rests_is_asked_and_all_else_stays():
    text = resting(_TEXT)
    assert "  always @(posedge clk) begin\n    count <= count + 1'h1;\n  end\n" in text
    assert "  always @(posedge clk) begin\n    if (a[0])\n      rows[row] <= a;\n  end\n" in text
    assert "  wire resting_is0 = ~ resting_begun | resting_new_a;\n" in text
    assert "  wire resting_is1 = ~ resting_begun | resting_new_a | resting_was0;\n" in text
    stage = re.search(r" begin : resting_stage1\n(.*?)^  end$", text, re.MULTILINE | re.DOTALL)[1]
    assert stage.startswith("    automatic reg [31:0] _sum2;\n    if (resting_is1) begin\n      _sum2 = last + {")
    assert stage.endswith("    second <= _sum2;\n    end\n") and "wire [31:0] _sum2" not in text
    assert text.count("count") == _TEXT.count("count") and text.count("_sum1") == 3 and "resting_row" not in text


def test_of_steady_modules_nothing_is_asked():
    text = resting(_TEXT, ["other", "top"])
    assert "    begin\n      _sum2 = last + {" in text and not re.search("resting_(is|new|was|begun)", text)


@pytest.mark.parametrize("old, new", [
    ("assign o =", "assign #1 o ="), ("posedge clk) begin\n    last", "negedge clk) begin\n    last"),
    ("posedge clk) begin\n    last", "posedge a) begin\n    last"), ("last <= _sum1", "last <= $random"),
    ("last <= _sum1", "last = _sum1"), ("last <= _sum1", "last <= #1 _sum1"), ("count + 1'h1;", "count + 1'h1; // one"),
    ("  reg [31:0] last;", "  reg [31:0] last = a;"), ("a[31], ", "")])
def test_what_is_not_known_stays(old, new):
    """Other clocks, delays, functions, other statements; and what is not worth it."""
    assert _TEXT.count(old) >= 1
    text = _TEXT.replace(old, new) if old != "a[31], " else re.sub(r"\{ a\[.*?\}", "a", _TEXT)
    assert text != _TEXT and resting(text) == text


def test_wires_in_a_circle_stay():
    """As words: their bits are in none."""
    circle = _TEXT.replace("assign _sum1 = a ^ {", "assign _sum1 = a[0] + _sum2 ^ {")
    circle = circle.replace("assign _sum2 = last +", "assign _sum2 = last ^ _sum1 +")
    text = resting(circle)
    assert "  assign _sum1 = " in text and "  assign _sum2 = " in text and "resting_new__sum1" not in circle
    assert not re.search(r"^ +_sum\d = ", text, re.MULTILINE)


def test_pieces_of_a_signal_are_one_expression(anything):
    text = _TEXT.replace("  assign _sum1 = a ^ {", "  assign { _sum1[31:8], _sum1[3:0] } = { a[31:8], a[3:0] };\n"
                         "  assign _sum1[7:4] = 4'h0;\n  assign other = {")
    assert "      _sum1 = a & 32'hffffff0f;\n" in resting(text.replace("  reg [31:0] count;", "  reg [31:0] count;\n"
                                                                       "  wire [31:0] other;"))


@pytest.mark.parametrize("wrong", [None, "~ resting_begun", " | resting_was0", " | resting_new_a"])
def test_it_is_proved_of_a_small_one(wrong, tmp_path, anything):
    text = re.sub(r".*rows.*\n|    if \(a\[0\]\)\n", "", _TEXT).replace("31:0", "3:0").replace("= a ^", "= ~ a ^")
    text = re.sub(r"\{ a\[.*?\}", "{ a[1:0], a[3:2] }", text)
    text = text.replace("endmodule", "  assign o = second ^ count;\nendmodule")
    after = resting(text)
    assert "resting_is1" in after
    if wrong:
        after = after.replace(wrong, "1'h0" if "~" in wrong else "")
    assert same(text, after, tmp_path) is (wrong is None)
