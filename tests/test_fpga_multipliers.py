"""Flip-flops around an ECP5's multipliers that become the multipliers' registers: which ones, and that the netlist then
does the same in each cycle; and where multipliers and block RAMs stand. The model of a MULT18X18D with registers is
ours, of what Lattice's guide to its sysDSP says (FPGA-TN-02205)."""
import json
import subprocess

import pytest

from hwgen.fpga import files
from hwgen.fpga.boards import BOARDS
from hwgen.fpga.multipliers import absorb, arrange
from hwgen.fpga.tools import run_tool
from hwgen.lib import verilator

#: (what stands around a product of 10 by 9 bits, the flip-flops that it can give up)
CASES = {
    "pair": ("reg [18:0] p; reg [9:0] a; reg [8:0] b;"
             "always @(posedge clk) begin if (load) a <= x; b <= y; p <= a * b; end assign out = p;", 19),
    "product": ("reg [18:0] p; always @(posedge clk) p <= x * y; assign out = p;", 0),
    "factors": ("reg [9:0] a; reg [8:0] b; always @(posedge clk) begin a <= x; b <= y; end assign out = a * b;", 19),
    "with_signs": ("reg signed [9:0] a; reg signed [8:0] b;"
                   "always @(posedge clk) begin a <= x; if (load) b <= y; end assign out = a * b;", 19),
    "one_factor": ("reg [9:0] a; reg [18:0] p;"
                   "always @(posedge clk) begin a <= x; p <= a * y; end assign out = p;", 0),
    "read_twice": ("reg [9:0] a; reg [8:0] b; reg [18:0] p;"
                   "always @(posedge clk) begin a <= x; b <= y; p <= a * b; end assign out = p ^ b;", 0),
    "square": ("reg [9:0] a; always @(posedge clk) a <= x; assign out = a * a;", 0),
    "two_enables": ("reg [9:0] a; reg [8:0] b; reg [18:0] p;"
                    "always @(posedge clk) begin if (load) a[9:4] <= x[9:4]; if (more) a[3:0] <= x[3:0]; b <= y;"
                    " p <= a * b; end assign out = p;", 0),
    "both_enabled": ("reg [9:0] a; reg [8:0] b;"
                     "always @(posedge clk) begin if (load) a <= x; if (more) b <= y; end assign out = a * b;", 19),
    "reset_factor": ("reg [9:0] a; reg [8:0] b; reg [18:0] p;"
                     "always @(posedge clk) begin if (more) a <= 0; else a <= x; b <= y; p <= a * b; end"
                     " assign out = p;", 0),
    "starts_at_1": ("reg [9:0] a = 1; reg [8:0] b;"
                    "always @(posedge clk) begin a <= x; b <= y; end assign out = a * b;", 0),
    "chain": ("reg [9:0] a; reg [8:0] b; reg [18:0] p, q; always @(posedge clk) begin a <= x; b <= y; p <= a * b;"
              "q <= p[9:0] * p[18:10]; end assign out = q;", 38),
}

_MODULE = """\
module {name}(input clk, input load, input more, input [9:0] x, input [8:0] y, output [18:0] out);
{body}
endmodule
"""

_MULTIPLIER = """\
module MULT18X18D({ports}, input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3);
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTA_CE = "CE0";
  parameter REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_INPUTB_CE = "CE0";
  parameter REG_INPUTB_RST = "RST0";
  parameter GSR = "ENABLED";
  wire signed [17:0] a = {{{a}}}, b = {{{b}}};
  reg signed [17:0] ra = 0, rb = 0;
  wire ea = REG_INPUTA_CE == "CE0" ? CE0 : REG_INPUTA_CE == "CE1" ? CE1 : REG_INPUTA_CE == "CE2" ? CE2 : CE3;
  wire eb = REG_INPUTB_CE == "CE0" ? CE0 : REG_INPUTB_CE == "CE1" ? CE1 : REG_INPUTB_CE == "CE2" ? CE2 : CE3;
  wire signed [17:0] left = REG_INPUTA_CLK == "NONE" ? a : ra, right = REG_INPUTB_CLK == "NONE" ? b : rb;
  always @(posedge CLK0) begin
    if (RST0) ra <= 0; else if (ea) ra <= a;
    if (RST0) rb <= 0; else if (eb) rb <= b;
  end
  wire signed [18:0] wide_left = {{SIGNEDA & left[17], left}}, wide_right = {{SIGNEDB & right[17], right}};
  wire signed [37:0] product = wide_left * wide_right;
  assign {{{p}}} = product[35:0];
endmodule
"""

_MAIN = """\
#include "Vtop.h"
#include <random>
int main() {
  Vtop top;
  std::mt19937 random(1);
  for (int cycle = 0; cycle < 2000; ++cycle) {
    for (int word = 0; word < WORDS; ++word) top.bits[word] = random();
    top.clk = 0, top.eval();
    if (!top.same) return 1;
    top.clk = 1, top.eval();
  }
  return 0;
}
"""


def _multiplier():
    def names(side, width):
        return ", ".join(f"{side}{i}" for i in reversed(range(width)))
    ports = ", ".join([f"input {names('A', 18)}", f"input {names('B', 18)}", f"input {names('C', 18)}",
                       f"output {names('P', 36)}"])
    return _MULTIPLIER.format(ports=ports, a=names("A", 18), b=names("B", 18), p=names("P", 36))


def _top():
    """A module of all cases, each with inputs of its own: Yosys would make one register of two that hold the same."""
    outputs = "".join(f", output [18:0] out_{case}" for case in CASES)
    inside = "\n".join(f"wire [31:0] of_{case} = bits[{32 * i + 31}:{32 * i}];\n"
                       f"{case} {case}(.clk(clk), .load(of_{case}[0]), .more(&of_{case}[3:1]), .x(of_{case}[13:4]), "
                       f".y(of_{case}[22:14]), .out(out_{case}));" for i, case in enumerate(CASES))
    return f"module top(input clk, input [{32 * len(CASES) - 1}:0] bits{outputs});\n{inside}\nendmodule\n"


def _beside(*designs):
    """Two designs with those outputs, and whether all are the same."""
    wires = "\n".join(f"wire [18:0] {case}_0, {case}_1;" for case in CASES)
    outputs = [", ".join(f".out_{case}({case}_{i})" for case in CASES) for i in range(2)]
    both = "\n".join(f"{name} u{i}(.clk(clk), .bits(bits), {outputs[i]});" for i, name in enumerate(designs))
    same = " && ".join(f"{case}_0 === {case}_1" for case in CASES)
    return (f"module beside(input clk, input [{32 * len(CASES) - 1}:0] bits, output same);\n{wires}\n{both}\n"
            f"assign same = {same};\nendmodule\n")


def _verilog(folder, netlist, name):
    """Of a netlist in gates, with models of its cells."""
    (folder / f"{name}.json").write_text(json.dumps(netlist))
    (folder / "multiplier.v").write_text(_multiplier())
    run_tool("yosys", "-q", "-p",
             f"read_json {name}.json; techmap -autoproc -map multiplier.v -map +/lattice/cells_sim_ecp5.v; opt_clean; "
             f"rename top {name}; write_verilog -noattr {name}.v", folder=folder, log=f"{name}.log")
    return folder / f"{name}.v"


def _runs_the_same(folder, before, after):
    sources = [_verilog(folder, netlist, name) for netlist, name in ((before, "plain"), (after, "absorbed"))]
    (folder / "beside.v").write_text(_beside("plain", "absorbed"))
    (folder / "main.cpp").write_text(_MAIN.replace("WORDS", str(len(CASES))))
    built = verilator.build([*sources, folder / "beside.v"], "beside", cpp=[folder / "main.cpp"],
                            folder=folder / "built", executable="same", opt="-O0")
    return subprocess.run([built], check=False).returncode == 0


def _counted(netlist, kind):
    """{case: its cells of a kind}"""
    cells = next(m for m in netlist["modules"].values() if m["attributes"].get("top"))["cells"]
    return {case: sum(c["type"] == kind and name.startswith((f"{case}.", f"out_{case}_TRELLIS", f"out_{case}_MULT"))
                      for name, c in cells.items()) for case in CASES}


@pytest.fixture(scope="module")
def netlists(tmp_path_factory):
    """(folder, the netlist of all cases, the same with registers in its multipliers)"""
    folder = tmp_path_factory.mktemp("multipliers")
    (folder / "top.v").write_text("".join(_MODULE.format(name=name, body=body) for name, (body, _) in CASES.items())
                                  + _top())
    (folder / "synth.ys").write_text(files.synthesis_script(["top.v"], "top.json"))
    run_tool("yosys", "-q", "synth.ys", folder=folder, log="synth.log")
    before, after = (json.loads((folder / "top.json").read_text()) for _ in range(2))
    assert absorb(after) == sum(count for _, count in CASES.values())
    return folder, before, after


def test_what_is_absorbed(netlists):
    _, before, after = netlists
    first, then = (_counted(netlist, "TRELLIS_FF") for netlist in (before, after))
    assert {case: first[case] - then[case] for case in CASES} == {case: count for case, (_, count) in CASES.items()}
    assert _counted(after, "MULT18X18D") == {case: 1 + (case == "chain") for case in CASES}
    assert absorb(json.loads(json.dumps(after))) == 0


def test_the_netlist_does_the_same(netlists):
    assert _runs_the_same(*netlists)


def test_a_wrong_enable_is_seen(netlists):
    folder, before, after = netlists
    wrong = json.loads(json.dumps(after))
    for cell in wrong["modules"]["top"]["cells"].values():
        if cell["parameters"].get("REG_INPUTB_CE") == "CE1":
            cell["parameters"]["REG_INPUTB_CE"] = "CE0"
    (folder / "wrong").mkdir()
    assert not _runs_the_same(folder / "wrong", before, wrong)


def _netlist(**units):
    """A design with so many multipliers in each unit, the array's columns among them, and a flip-flop."""
    names = [f"machine.{'array.' * unit.startswith('column')}{unit}.p{i}" for unit, count in units.items()
             for i in range(count)]
    cells = {name: {"type": "MULT18X18D", "attributes": {}} for name in names}
    return {"modules": {"top": {"attributes": {"top": 1}, "cells": cells | {"machine.f": {"type": "TRELLIS_FF",
                                                                                         "attributes": {}}}}}}


def _sites(netlist):
    """{unit: [(row, column) of its multipliers, in their order]}"""
    found = {}
    for name, cell in netlist["modules"]["top"]["cells"].items():
        if "BEL" in cell["attributes"]:
            column, row, _ = cell["attributes"]["BEL"].split("/")
            found.setdefault(name.split(".")[-2], []).append((int(row[1:]), int(column[1:])))
    return found


def test_multipliers_of_a_unit_stand_in_a_row():
    """Those of the ULX3S-85F's machine with 8 x 32."""
    units = {f"column{2 * i}": 8 for i in range(15)} | {"rope": 12, "rmsnorm": 9, "division": 5, "swiglu": 4}
    netlist = _netlist(**units)
    assert arrange(netlist, ("--85k", "--package", "CABGA381")) == sum(units.values())
    sites = _sites(netlist)
    assert {unit: len(found) for unit, found in sites.items()} == units
    assert len({place for found in sites.values() for place in found}) == sum(units.values())
    for found in sites.values():
        assert len({row for row, _ in found}) == 1 and found == sorted(found)
        assert max(column for _, column in found) - min(column for _, column in found) <= 30
    rows = [sorted(((found[0][1], unit) for unit, found in sites.items() if found[0][0] == y)) for y in (10, 34, 58)]
    engines = [[unit for _, unit in row if not unit.startswith("column")] for row in rows]
    assert engines == [["rope"], ["rmsnorm"], ["division", "swiglu"]]
    assert [[unit for _, unit in row][:len(first)] for row, first in zip(rows, engines)] == engines
    assert [len(row) - len(first) for row, first in zip(rows, engines)] == [5, 5, 5]


def test_the_emptiest_row_is_not_enough():
    netlist = _netlist(large=60, small=96)
    assert arrange(netlist, ("--85k",)) == 156
    assert len({place for found in _sites(netlist).values() for place in found}) == 156


def test_more_multipliers_than_sites():
    netlist = _netlist(array=29)
    assert arrange(netlist, ("--12k",)) == 0 and not _sites(netlist)


def test_a_device_that_is_not_known():
    with pytest.raises(ValueError, match="Device must be one of --12k, .*, not --45k"):
        arrange(_netlist(array=1), ("--45k",))


def test_boards_that_are_arranged_have_sites():
    for board in BOARDS.values():
        if board.arranged:
            netlist = _netlist(array=board.capacity["MULT18X18D"])
            assert arrange(netlist, board.device) == board.capacity["MULT18X18D"]
