"""Synthesis of a machine's units, one by one, for several targets: what `tools.synth_report` tabulates and the
planner's costs are fitted to.

The machine is emitted as for a board and taken apart at the borders of its modules: a unit is a module of the decoder,
of its buses or of the board's top, with all that is below it. What is left of those three when their modules are taken
out are units too, and so are the parts that are repeated in the array and in attention. The ROM is left out: the
planner counts its block RAM from its size.
"""
import hashlib
import functools
import json
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from hwgen.fpga import files
from hwgen.fpga.tools import run_tool
from hwgen.fpga.tools import version as tool_version
from hwgen.lib.verilog import emit_design
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.top.board import BoardMachine, memory_buses

__all__ = ["TARGETS", "Unit", "emit", "route", "silicon_cost", "split", "synthesize", "whole"]
from tools import silicon

version = functools.cache(tool_version)
ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "synth"
TOP = "machine"
#: Parts of units that are units for themselves, as a machine has many: name -> their modules' names.
REPEATED = {"column": r"mac_column_\w+(?<!_dsp)(?<!_pair)", "dsp_column": r"mac_column_\w+_dsp",
            "column_pair": r"mac_column_\w+_pair",
            "dot": r"attention_dot_\w+", "numerators": r"attention_numerators_\w+"}
_MODULE = re.compile(r"^module (\w+).*?^endmodule\n", re.MULTILINE | re.DOTALL)


class Unit(NamedTuple):
    """A part of a machine: Verilog whose top module is ``top``, and how many of it the machine has."""
    name: str
    verilog: str
    count: int = 1


def emit(design: Design):
    """Verilog of a board's machine (at a baud rate of a 40th of its clock); beside a memory, whose words are as wide as
    those of keys and values, where these are there."""
    axi = memory_buses(AxiShape(data_width=design.hw.kv_port)) if design.hw.kv_port else None
    return emit_design(BoardMachine(design, divisor=40, axi=axi), TOP)


def _children(text, modules):
    """Modules that a module's text instantiates, as [(module, instance)]."""
    found = re.findall(r"^  (\w+) +(?:#\([^;]*?\) +)?(\w+) +\(\n", text, re.MULTILINE)
    return [(module, name) for module, name in found if module in modules]


def _box(text):
    """A module without what is in it."""
    header = re.sub(r"`\w+", '""', text.split(");\n", 1)[0])
    return f"(* blackbox *)\n{header});\nendmodule\n"


def _whole(name, top, modules, boxed, count=1):
    """A unit: a module as ``top``, and all below it but those that are boxed."""
    inside, todo = {}, [top]
    while todo:
        module = todo.pop()
        if module in inside:
            continue
        box = module != top and boxed(module)
        inside[module] = _box(modules[module]) if box else modules[module]
        todo += [] if box else [child for child, _ in _children(modules[module], modules)]
    text = inside.pop(top).replace(f"module {top}", "module top", 1)
    return Unit(name, "\n".join([text, *(inside[key] for key in sorted(inside))]), count)


def split(text, top=TOP):
    """The units of an emitted machine, or of a decoder alone, in the order of their names."""
    text = re.sub(r"`\w+_rom_file\b", '""', text)      # its definition stands outside of all modules
    modules = {match[1]: match[0] for match in _MODULE.finditer(text)}
    levels = {"board": top, "axi": f"{top}_machine", "decoder": f"{top}_machine_decoder"}
    if levels["axi"] not in modules:
        levels = {"decoder": top}
    tops = {name: module for level in levels.values() for module, name in _children(modules[level], modules)
            if module not in levels.values()}
    repeated = {name: module for name, pattern in REPEATED.items() for module in modules
                if re.fullmatch(rf"{top}_{pattern}", module)}
    boxed = {*repeated.values(), f"{top}_rom"}
    units = [_whole(name, module, modules, boxed.__contains__) for name, module in tops.items()]
    units += [_whole(name, module, modules, boxed.__contains__,
                     len(re.findall(rf"^  {module} \w+ \($", text, re.MULTILINE)))
              for name, module in repeated.items()]
    units += [_whole(level, module, modules, {*boxed, *tops.values(), *levels.values()}.__contains__)
              for level, module in levels.items()]
    return sorted(units)


def _of_boards(family):
    return lambda unit="": files.synthesis_script(["unit.v"], "", family, own=unit == "dsp_column",
                                                  pairs=unit == "column_pair").splitlines()[1:-1]


#: Leaves memories out: what is in them is no logic, and block RAM differs.
_NO_MEMORY = ["synth -flatten -top top -run begin:fine", "memory -nomap", "opt -full",
              "chtype -set $__memory t:$mem_v2",
              "synth -top top -run fine:check"]

#: Target -> lines of Yosys' script after the Verilog is read, of a unit of some name.
TARGETS = {
    "ecp5": _of_boards("ecp5"),
    "gowin": _of_boards("gowin"),
    "gowin5": _of_boards("gowin5"),
    "ice40": lambda unit="": ["synth_ice40 -dsp -top top"],
    "xilinx7": lambda unit="": ["synth_xilinx -family xc7 -flatten -top top -noiopad -noclkbuf"],
    "cmos": lambda unit="": [*_NO_MEMORY, "abc -g cmos4", "opt_clean -purge"],
}

_GOWIN_BRAM = {r"SDPB|SDPX9B|DPB|DPX9B|SP|SPX9|pROM|pROMX9": 1}

#: Target -> resource -> how many of it each cell takes, by a pattern of the cell's type.
CELLS = {
    # As the placers count: on ECP5 a carry chain takes four LUTs more at its ends, and a RAM two for its writing; on
    # Gowin a RAM takes whole slices.
    "ecp5": {"LUT": {"LUT4": 1, "CCU2C": 2.6, "TRELLIS_DPR16X4": 6}, "carry": {"CCU2C": 1},
             "LUTRAM": {"TRELLIS_DPR16X4": 1},
             "FF": {"TRELLIS_FF": 1},
             "DSP": {"MULT18X18D": 1}, "BRAM": {"DP16KD": 1, "PDPW16KD": 1}},
    "ice40": {"LUT": {"SB_LUT4": 1}, "carry": {"SB_CARRY": 1}, "FF": {r"SB_DFF\w*": 1}, "DSP": {"SB_MAC16": 1},
              "BRAM": {r"SB_RAM40_4K\w*": 1}},
    "gowin": {"LUT": {r"LUT[1-4]": 1, "ALU": 1.15, "RAM16SDP4": 8}, "carry": {"ALU": 1}, "LUTRAM": {"RAM16SDP4": 1},
              "FF": {r"DFF\w*": 1, "RAM16SDP4": 6},
              "DSP": {r"MULT\d+X\d+": 1}, "BRAM": _GOWIN_BRAM},
    "gowin5": {"LUT": {r"LUT[1-4]": 1, "ALU": 1.06, "RAM16SDP4": 8}, "carry": {"ALU": 1}, "LUTRAM": {"RAM16SDP4": 1},
               "FF": {r"DFF\w*": 1},
               "DSP": {r"MULT\w+": 1}, "BRAM": _GOWIN_BRAM},
    "xilinx7": {"LUT": {r"LUT[1-6]": 1, r"RAM32M|RAM64M": 4, r"RAM\d+X1D": 2, r"SRL\w+": 1}, "carry": {"CARRY4": 1},
                "FF": {r"FD[RSCP]E(_1)?": 1},
                "DSP": {"DSP48E1": 1}, "BRAM": {"RAMB18E1": 1, "RAMB36E1": 2}},
    "cmos": {"FF": {r"\$_S?DFFE?_\w+": 1}},
}


def _resources(target, stat):
    """{resource: count} of Yosys' statistics."""
    cells = stat["num_cells_by_type"]
    found = {resource: round(sum(weight * count for pattern, weight in weights.items() for cell, count in cells.items()
                                 if re.fullmatch(pattern, cell)))
             for resource, weights in CELLS[target].items()}
    if "estimated_num_transistors" in stat:
        found["transistors"] = int(str(stat["estimated_num_transistors"]).rstrip("+"))
    return found


def _kept(said, files, work):
    """What ``work`` made of a folder with these files: kept, under a digest of all that it depends on, and not made
    again."""
    key = hashlib.sha256(said.encode()).hexdigest()[:16]
    kept = CACHE / f"{key}.json"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            for name, text in files.items():
                Path(folder, name).write_text(text)
            found = work(Path(folder))
            Path(folder, "found").write_text(json.dumps(found))
            Path(folder, "found").rename(kept)
    return json.loads(kept.read_text())


def synthesize(unit, target):
    """{resource: count} of a unit on a target."""
    script = "\n".join(["read_verilog unit.v", *TARGETS[target](unit.name),
                        f"tee -q -o stat.json stat -json{' -tech cmos' if target == 'cmos' else ''}", ""])

    def work(folder):
        run_tool("yosys", "-q", "synth.ys", folder=folder, log="yosys.log")
        return json.loads((folder / "stat.json").read_text())["modules"]["\\top"]

    return _resources(target, _kept("\0".join([script, unit.verilog, version("yosys")]),
                                    {"unit.v": unit.verilog, "synth.ys": script}, work))


_DECLARED = re.compile(r"^  (input|output) (?:reg )?(?:\[(\d+):0\] )?(\\\S+ |\w+);$", re.MULTILINE)


def clock_port(unit):
    """The name of a unit's clock, or None."""
    return next((name for _, _, name in _DECLARED.findall(unit.verilog.split("endmodule")[0])
                 if re.fullmatch(r"(\w+_)?clk", name)), None)


def _surrounded(unit):
    """A unit between registers: a chain into its inputs, and one that shifts its outputs out. So it needs four pins,
    and all its paths end in registers."""
    ports = {"input": [], "output": []}
    clock = clock_port(unit)
    for direction, high, name in _DECLARED.findall(unit.verilog.split("endmodule")[0]):
        if name != clock:
            ports[direction].append((name, int(high or 0) + 1))
    connections, sizes = [f".{clock}(clk)"], {}
    for direction, bus in (("input", "chain"), ("output", "seen")):
        at = 0
        for name, width in ports[direction]:
            connections.append(f".{name}({bus}[{at + width - 1}:{at}])")
            at += width
        sizes[bus] = at
    return f"""{unit.verilog}
module pads(input clk, input i, input shift, output o);
  reg [{sizes["chain"] - 1}:0] chain;
  wire [{sizes["seen"] - 1}:0] seen;
  reg [{sizes["seen"] - 1}:0] out;
  always @(posedge clk) begin
    chain <= {{chain, i}};
    out <= shift ? out >> 1 : seen;
  end
  assign o = out[0];
  top unit ({", ".join(connections)});
endmodule
"""


def whole(unit):
    """Whether all of it is there: nothing places what is left of a unit whose parts are units for themselves."""
    return "(* blackbox *)" not in unit.verilog


def route(unit):
    """{"MHz": ..., "COMB": ...} of a unit alone on an ECP5 of speed grade 6, placed and routed: seed 1. "LUT": what
    synthesis made of the same."""
    script = "\n".join(["read_verilog unit.v", *TARGETS["ecp5"](unit.name), ""]).replace("-top top", "-top pads")
    script += "tee -q -o stat.json stat -json\nwrite_json unit.json\n"
    words = ("--25k", "--package", "CABGA381", "--speed", "6", "--json", "unit.json", "--report", "report.json",
             "--freq", "100",
             "--seed", "1",
             "--timing-allow-fail", "--router", "router2")
    verilog = _surrounded(unit)

    def work(folder):
        run_tool("yosys", "-q", "synth.ys", folder=folder, log="yosys.log")
        run_tool("nextpnr-ecp5", *words, folder=folder, log="nextpnr.log")
        report = json.loads((folder / "report.json").read_text())
        stat = json.loads((folder / "stat.json").read_text())["modules"]["\\pads"]
        return {"MHz": round(min(clock["achieved"] for clock in report["fmax"].values()), 1),
                "COMB": report["utilization"]["TRELLIS_COMB"]["used"],
                "LUT": _resources("ecp5", stat)["LUT"]}

    return _kept("\0".join([script, *words, verilog, version("nextpnr-ecp5")]),
                 {"unit.v": verilog, "synth.ys": script}, work)


def silicon_cost(unit):
    """{"um2": ..., "MHz": ...} of a unit in 0.18 um standard cells, without its clocked memories. MHz is left out where
    all its paths leave it."""
    return _kept("\0".join(["osu018", *_NO_MEMORY, silicon.SCRIPT, unit.verilog, version("yosys")]),
                 {"unit.v": unit.verilog},
                 lambda folder: silicon.area_and_clock(folder, _NO_MEMORY, clock_port(unit)))
