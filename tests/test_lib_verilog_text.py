"""Verilog that people read: ports and names as in the source, and nothing that says nothing."""
import re

import pytest
from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.netlist import RESERVED
from hwgen.lib.verilator import VerilatorError, lint
from hwgen.lib.verilog import emit_design, hierarchy, ports, written
from hwgen.lib.verilog_text import tidy
from hwgen.top import make
from sim.designs import small_design
from tests.verilog_examples import Aside, Machine


@pytest.fixture(scope="module")
def text():
    return emit_design(Machine(), "chip")


def test_ports_are_those_of_the_signature(text):
    assert [port.name for port in ports(text, "chip")] == ["clk", "rst", "b", "a__payload", "a__valid", "a__ready",
                                                           "out", "state"]
    assert [port.name for port in ports(text, "chip_skid")] == ["clk", "rst", "i__payload", "i__valid", "i__ready",
                                                                "o__payload",
                                                                "o__valid", "o__ready"]
    assert "  input wire [9:0] b,  // [3:0] low, [9:4] high (3 x 2)\n" in text


def test_what_a_module_is(text):
    assert "// Machine: Some of all that Yosys writes.\n// Source: tests/verilog_examples.py\nmodule chip (" in text
    assert "// Source: hwgen/lib/skid.py, docs/architecture.md\nmodule chip_skid (" in text


def test_names_are_those_of_the_source(text):
    assert "\\" not in text and "$" not in text
    assert written(text)["chip"].registers == {"rows_read__data": 4, "count": 4, "mode": 2}
    assert "  reg [1:0] mode;  // 0 IDLE, 1 BUSY, 2 LATE\n" in text and "  wire [3:0] final_;\n" in text


def test_registers_are_assigned_where_they_are_clocked(text):
    assert "always @*" not in text and "count <= " in text and "_next" not in text


def test_a_condition_stands_where_it_is_used(text):
    assert "assign skid__i__valid = (a__valid & (~ b[0])) & (count == 2'h3);" in text and "if (~ full) begin" in text


def test_tools_take_it(text, tmp_path):
    (tmp_path / "chip.v").write_text(text)
    lint(tmp_path / "chip.v", "chip")


def test_the_hierarchy(text):
    assert hierarchy(text, "chip") == [((), "chip", "tests/verilog_examples.py", ""),
                                       (("skid",), "chip_skid", "hwgen/lib/skid.py", "docs/architecture.md")]


YOSYS = """\
module top(b, a, y, clk);
  reg \\$auto$verilog_backend.cc:2355:dump_module$1  = 0;
  input [3:0] a;
  wire [3:0] a;
  input b;
  wire b;
  input clk;
  wire clk;
  output [3:0] y;
  reg [3:0] y;
  wire _not1;
  wire [3:0] _sum1;
  wire _less1;
  wire _equal1;
  wire \\$auto$x ;
  assign _not1 = ~ b;
  assign _sum1 = a + _not1;
  assign _less1 = $signed(a) < $signed(4'h3);
  assign _equal1 = a == 4'h2;
  assign \\$auto$x  = a[0];
  always @* begin
    if (\\$auto$verilog_backend.cc:2355:dump_module$1 ) begin end
    y = 4'h0;
    (* full_case = 32'd1 *)
    casez (a)
      4'b???1:
          /* empty */;
      4'h2:
          /* empty */;
      4'b?1??:
          y = _sum1;
      default:
          if (_less1) begin
          end else begin
            y[0] = \\$auto$x ;
          end
    endcase
  end
endmodule
"""
TIDY = """\
module top (
  input wire [3:0] a,
  input wire b,
  input wire clk,
  output reg [3:0] y
);
  reg wake;
  wire _not1;
  wire _value1;
  initial wake <= 0;
  assign _not1 = ~ b;
  assign _value1 = a[0];
  always @* begin
    if (wake) begin end
    y = 4'h0;
    casez (a)
      4'b???1: ;
      4'h2: ;
      4'b?1??:
          y = a + _not1;
      default:
          if (!($signed(a) < $signed(4'h3))) begin
            y[0] = _value1;
          end
    endcase
  end
endmodule
"""


def test_what_depends_on_its_place_stays_where_it_is():
    unused = "  wire _equal1;\n"
    left = "  assign _equal1 = a == 4'h2;\n"
    assert tidy(YOSYS, ["a", "b"], {}).replace(unused, "").replace(left, "") == TIDY


def test_cases_that_do_nothing():
    text = YOSYS.replace("default:\n", "4'h8:\n")
    assert "4'h2" not in tidy(text, [], {}).split("casez")[1] and "4'b???1: ;" in tidy(text, [], {})


@pytest.mark.parametrize("unit", [make.attention, make.sampler])
def test_registers_have_one_name_at_all_shapes(unit):
    """Numbers of lanes and stages are in names; without them, both shapes have the same."""
    small, large = (written(emit_design(unit(small_design(**shape)), "unit"))
                    for shape in ({}, dict(context=32, kv_block=16, entries=4)))
    found = [{name: {re.sub(r"\d+", "#", register) for register in module.registers} for name, module in of.items()}
             for of in (small, large)]
    own = [{re.sub(r"_[a-z]\d+(?=_|$)", "", name): registers for name, registers in of.items()} for of in found]
    assert own[0] == own[1] and sum(map(len, own[0].values())) > 5
    assert not [name for module in small.values() for name in module.registers
                if re.search(r"signal|signature|\$", name)
                or name in RESERVED]


BOUND = """\
module watch(input clk, input [3:0] count, input full);
  always @(posedge clk) if (full && count == 4'hf) $display("full");
endmodule
bind chip watch watched(.clk(clk), .count(count), .full(skid.full));
"""


def test_a_bind_file_still_matches(text, tmp_path):
    again = emit_design(Machine(), "chip")
    assert again == text
    (tmp_path / "chip.v").write_text(f"{again}{BOUND}")
    lint(tmp_path / "chip.v", "chip")
    (tmp_path / "chip.v").write_text(f"{again}{BOUND.replace('skid.full', 'skid.other')}")
    with pytest.raises(VerilatorError, match="other"):
        lint(tmp_path / "chip.v", "chip")


class Emptied(wiring.Component):
    """A queue that ``clear`` empties."""
    i: In(stream.Signature(4))
    clear: In(1)
    level: Out(3)

    def elaborate(self, platform):
        m = Module()
        queue = fifo.SyncFIFO(width=4, depth=4)
        m.submodules.queue = ResetInserter(self.clear)(queue)
        m.d.comb += [queue.w_data.eq(Cat(self.i.payload[1:], self.clear)), queue.w_en.eq(self.i.valid),
                     self.i.ready.eq(queue.w_rdy), self.level.eq(queue.level)]
        return m


def test_a_part_with_another_reset_is_what_it_is():
    text = emit_design(Emptied(), "chip")
    assert ("// SyncFIFO: Synchronous first in, first out queue.\n// Source: amaranth/lib/fifo.py\n"
            "module chip_queue (") in text
    assert ("w_data", "input", 4) in ports(text, "chip_queue") and ".w_data({ clear, i__payload[3:1] })" in text


def test_a_port_that_a_register_takes_is_driven(tmp_path):
    text = emit_design(Aside(), "chip")
    (tmp_path / "chip.v").write_text(text)
    lint(tmp_path / "chip.v", "chip")
    assert "out = b;" in text and "last_out <= out;" in text


def test_a_case_of_32_bits_stands_where_a_later_one_overlaps():
    assert "32'd5: ;" in emit_design(Aside(), "chip")


class Padded(wiring.Component):
    """Of one signal some bits are assigned in places, some always the same, some are another signal's."""
    a: In(4)
    out: Out(12)

    def elaborate(self, platform):
        m = Module()
        word, count = Signal(12, name="word", init=0xA00), Signal(4, name="count")
        m.d.sync += count.eq(count + 1)
        with m.If(self.a[0]):
            m.d.comb += word[:4].eq(self.a)
        m.d.comb += [word[4:8].eq(count), self.out.eq(word)]
        return m


def test_a_block_of_some_bits_wakes_up_too(tmp_path):
    text = emit_design(Padded(), "chip")
    assert "    if (wake) begin end\n    word[11:8] = 4'ha;\n  end\n" in text and "always @*\n" not in text
    (tmp_path / "chip.v").write_text(text)
    lint(tmp_path / "chip.v", "chip")
