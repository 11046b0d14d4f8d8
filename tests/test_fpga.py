"""Boards and their builds, with tools that only pretend: what is run, what is kept, and what a person reads when it
goes wrong."""
import dataclasses
import hashlib
import json
import re
import stat
import sys
from pathlib import Path

import pytest

from hwgen.cli import main
from hwgen.fpga import files
from hwgen.fpga.boards import BOARDS, board
from hwgen.fpga.build import sources_digest
from hwgen.fpga.dram import memory_settings, memory_verilog
from hwgen.fpga.families import FAMILIES, MEMORY_ASKED, MEMORY_NET
from hwgen.fpga.tools import ToolError, run_tool
from hwgen.models import load, quantize, random_checkpoint
from hwgen.params.design import Design
from hwgen.params.dram import MT48LC16M16
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.presets import hw_shape, recipe

TOOL = """#!{python}
import json, os, sys
from pathlib import Path
words, name = sys.argv[1:], Path(sys.argv[0]).name
with open({log!r}, "a") as log:
    log.write(name + " " + " ".join(words) + chr(10))
if "--version" in words:
    print(name, os.environ.get("PRETENDED_VERSION", "1.0"))
elif os.environ.get("PRETENDED_FAILURE") == name + " places" * ("--no-route" in words):
    print("ERROR: it does not fit")
    sys.exit(1)
elif name == "ecppll":
    print("clkout0 frequency:", os.environ.get("PRETENDED_PLL", words[words.index("-o") + 1]), "MHz")
    Path("pll.v").write_text("module pll(input clkin, output clkout0, output locked); endmodule")
elif name == "yosys":
    multiplier = {{"type": "MULT18X18D", "attributes": {{}}, "connections": {{}}, "port_directions": {{}}}}
    Path("partial-top.json").write_text(json.dumps({{"modules": {{"top": {{
        "cells": {{"x": multiplier}}, "ports": {{}}}}}}}}))
elif name == "nextpnr-ecp5":
    seed = int(words[words.index("--seed") + 1])
    if "--no-route" in words:
        cells = json.loads(Path(words[words.index("--json") + 1]).read_text())["modules"]["top"]["cells"]
        Path("sites").write_text(str([cell["attributes"].get("BEL") for cell in cells.values()]))
        bel = {{"NEXTPNR_BEL": "X" + str(seed) + "/Y2/SLICEA.LUT0"}}
        Path(words[words.index("--write") + 1]).write_text(json.dumps({{"modules": {{"top": {{"cells": {{
            "machine.machine.decoder.rope.x": {{"type": "TRELLIS_COMB", "attributes": bel}}}}}}}}}}))
        sys.exit(0)
    assert '"X' + str(seed) + '/Y2' in Path(words[words.index("--json") + 1]).read_text()
    Path(words[words.index("--textcfg") + 1]).write_text("config of seed " + str(seed))
    used = {{"used": 10, "available": 100}}
    memory = float(os.environ.get("PRETENDED_MEMORY", 0))
    clocks = {{"clk": {{"achieved": 69.0 + seed, "constraint": 0}}}}
    if memory:
        clocks |= {{"$glbnet$clock": {{"achieved": 57.0 + seed, "constraint": 0}},
                    "$glbnet$memory.controller.sys_clk": {{"achieved": memory - seed, "constraint": 0}}}}
    Path(words[words.index("--report") + 1]).write_text(json.dumps({{
        "fmax": clocks, "utilization": dict.fromkeys(("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D"), used)}}))
elif name == "ecppack":
    Path(words[words.index("--bit") + 1]).write_bytes(
        b"bits of " + Path(words[words.index("--input") + 1]).read_bytes())
elif name == "gowin_pll":
    made = os.environ.get("PRETENDED_PLL", words[words.index("-o") + 1])
    Path("pll.v").write_text("// Achieved output frequency:    " + made + " MHz" + chr(10)
                             + "module pll (input clock_in, output clock_out, locked); endmodule")
elif name == "nextpnr-himbaechel-gowin":
    Path(words[words.index("--write") + 1]).write_text(json.dumps({{"modules": {{"top": {{"cells": {{
        "machine.uart.x": {{"type": "LUT4", "attributes": {{"NEXTPNR_BEL": "X3Y4/LUT0"}}}}}}}}}}}}))
    Path(words[words.index("--report") + 1]).write_text(json.dumps({{
        "fmax": {{"clk": {{"achieved": 50.0, "constraint": 0}}}},
        "utilization": dict.fromkeys(("LUT4", "DFF", "BSRAM", "MULT18X18", "MULT12X12"), {{"used": 1,
                                                                                            "available": 2}})}}))
elif name == "gowin_pack":
    Path(words[words.index("-o") + 1]).write_bytes(b"bits of " + Path(words[-1]).read_bytes())
"""


def pretended_emit(design, quantized, folder, *, name, component):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.v").write_text(repr(component(design).design))
    (folder / f"{name}_rom.hex").write_text(quantized.digest)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Pretended tools; the list of what was run."""
    monkeypatch.setattr("hwgen.fpga.build.emit", pretended_emit)     # seconds each; sim/test_board.py has the real one
    log = tmp_path / "log"
    log.touch()
    for name in ("yosys", "nextpnr-ecp5", "ecppack", "ecppll", "nextpnr-himbaechel-gowin", "gowin_pack", "gowin_pll"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(TOOL.format(python=sys.executable, log=str(log)))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv(name.replace("-", "_").upper(), str(path))
    monkeypatch.chdir(tmp_path)

    def run():
        lines = [line for line in log.read_text().splitlines() if "--version" not in line]
        log.write_text("")
        return [line.split()[0] + (" places" if "--no-route" in line else "")
                + (f" {line.split('--seed ')[1].split()[0]}" if "--seed" in line else "")
                for line in lines]
    return run


SMALL = "fpga build --shape tiny,context=16 --mhz 50"


def test_arranged_multipliers(tools, tmp_path, capsys):
    """The placer gets a netlist with their sites, in a folder of its own."""
    for words, site in (([], None), (["--arrange"], "X4/Y10/MULT18_0")):
        assert main([*SMALL.split(), *words]) == 0
        report = json.loads((tmp_path / "build/fpga/ulx3s-85f.json").read_text())
        assert report.get("arranged", False) is bool(words)
        newest = max((tmp_path / "build/fpga").glob("*/sites"), key=lambda path: path.stat().st_mtime_ns)
        assert newest.read_text() == str([site])
    assert len({*(tmp_path / "build/fpga").glob("*/sites")}) == 2
    assert main("fpga build --board tang-console-138k --arrange".split()) == 2
    assert "Multipliers can be arranged on an ECP5 alone, not on a chip of gowin5" in capsys.readouterr().err


def test_a_build(tools, tmp_path, capsys):
    assert main(f"{SMALL} --seeds 1-3".split()) == 0
    assert tools() == ["ecppll", "yosys", *(f"nextpnr-ecp5{step} {seed}" for seed in (1, 2, 3)
                                            for step in (" places", "")), "ecppack"]
    out = capsys.readouterr().out
    assert re.search(r"50 MHz asked for, 72 MHz reached \(seed 3; others: 1: 70, 2: 71\)", out) and "10%" in out
    assert (tmp_path / "build/fpga/ulx3s-85f.bit").read_bytes() == b"bits of config of seed 3"
    picture = (tmp_path / "build/fpga/ulx3s-85f.svg").read_text()
    assert "demo, 72.00 MHz, seed 3" in picture and "rope" in picture
    report = json.loads((tmp_path / "build/fpga/ulx3s-85f.json").read_text())
    assert report["seed"] == 3 and report["fmax"] == 72
    assert report["run_on_hardware"] is False and report["shape"]["context"] == 16
    assert report["bitstream_sha256"] == hashlib.sha256(b"bits of config of seed 3").hexdigest()
    assert [*report["cpu_seconds"]] == ["yosys", "nextpnr-ecp5",
                                        "ecppack"] and 0 < min(report["cpu_seconds"].values()) < 60
    chosen, checkpoint = dataclasses.replace(board("ulx3s-85f"), clock=50), load("demo")
    design = Design(model=checkpoint.shape, hw=hw_shape("tiny,context=16", checkpoint.shape), recipe=recipe())
    assert sources_digest(chosen, design, quantize(checkpoint, design.recipe)) == report["verilog_sha256"]
    tools()
    # again: nothing but the new seed is done
    assert main(f"{SMALL} --seeds 2,5".split()) == 0
    assert [line for line in tools() if line != "ecppll"] == ["nextpnr-ecp5 places 5", "nextpnr-ecp5 5", "ecppack"]
    (tmp_path / "build/fpga/ulx3s-85f-notes").mkdir()
    (tmp_path / "build/fpga/ulx3s-85f-notes.txt").write_text("mine")
    assert main(f"{SMALL} --seeds 5 --clean".split()) == 0
    assert sorted(path.name for path in (tmp_path / "build/fpga").glob("*notes*")) == ["ulx3s-85f-notes",
                                                                                       "ulx3s-85f-notes.txt"]
    assert tools() == ["ecppll", "yosys", "nextpnr-ecp5 places 5", "nextpnr-ecp5 5", "ecppack"]


def test_another_family(tools, tmp_path, monkeypatch, capsys):
    line = "fpga build --board tang-nano-20k --shape tiny,context=16 --mhz 30".split()
    assert main(line) == 0
    assert tools() == ["gowin_pll", "yosys", "nextpnr-himbaechel-gowin 1", "gowin_pack"]
    routed = next((tmp_path / "build/fpga").glob("tang-nano-20k-*/seed-1.routed"))
    assert (tmp_path / "build/fpga/tang-nano-20k.fs").read_bytes() == b"bits of " + routed.read_bytes()
    assert json.loads((tmp_path / "build/fpga/tang-nano-20k.json").read_text())["model"] == "mini"
    work, = (tmp_path / "build/fpga").glob("tang-nano-20k-*")
    assert "module pll (input clkin, output clkout0, locked)" in (work / "pll.v").read_text()
    monkeypatch.setenv("PRETENDED_PLL", "30.4")
    assert main(line) == 2
    assert "The clock can be 30.4 MHz of 27 MHz, not 30: take --mhz 30.4" in capsys.readouterr().err


def test_a_clock_that_the_pll_cannot_make(tools, monkeypatch, capsys):
    monkeypatch.setenv("PRETENDED_PLL", "52.5")
    assert main(SMALL.split()) == 2
    assert "The clock can be 52.5 MHz of 25 MHz, not 50: take --mhz 52.5" in capsys.readouterr().err


def test_a_family_without_a_pll_or_multipliers(tools, tmp_path, capsys):
    line = "fpga build --board tang-console-138k --shape tiny,context=16".split()
    assert main(line) == 0
    assert tools() == ["yosys", "nextpnr-himbaechel-gowin 1", "gowin_pack"]
    work, = (tmp_path / "build/fpga").glob("tang-console-138k-*")
    assert "assign clock = clk;" in (work / "top.v").read_text() and not (work / "pll.v").exists()
    assert "mul2dsp" not in (work / "synth.ys").read_text()
    assert main([*line, "--mhz", "12.5"]) == 0
    halves, = (tmp_path / "build/fpga").glob("tang-console-138k-*/pll.v")
    assert "assign clkout0 = count[1];" in halves.read_text()
    assert main([*line, "--mhz", "40"]) == 2
    assert "The clock can be 50 MHz of 50 MHz, not 40: take --mhz 50" in capsys.readouterr().err


def test_what_a_gowin_cannot_place(tools, monkeypatch, capsys):
    """nextpnr would search for hours: a register takes a LUT's place, unless that place's LUT or ALU drives it."""
    cells = {"lut": ("LUT3", {"F": [1]}), "carry": ("ALU", {"SUM": [2], "COUT": [3]}),
             "ram": ("RAM16SDP4", {"DO": [4]}), "of lut": ("DFFE", {"D": [1], "Q": [5]}),
             "of carry": ("DFF", {"D": [2], "Q": [6]}), "of register": ("DFFRE", {"D": [5], "Q": [7]}),
             "of ram": ("DFF", {"D": [4], "Q": [8]}),
             "product": ("MULT18X18", {"DOUT": [9]})}
    netlist = {"modules": {"top": {"cells": {name: {"type": kind, "connections": nets}
                                             for name, (kind, nets) in cells.items()}}}}
    assert FAMILIES["gowin"].places(netlist) == 1 + 1 + 8 + 2
    monkeypatch.setitem(FAMILIES, "gowin", dataclasses.replace(FAMILIES["gowin"], places=lambda netlist: 19_700))
    assert main("fpga build --board tang-nano-20k --shape tiny,context=16".split()) == 2
    assert ("The machine takes the places of 19,700 of 20,736 LUTs, which leaves the placer too few: "
            "take a smaller --shape") in capsys.readouterr().err
    assert "nextpnr-himbaechel-gowin 1" not in tools()


def test_a_vivado_project_is_complete(tools, tmp_path, capsys):
    assert main("fpga build --board arty-a7-35 --shape tiny,context=16".split()) == 0
    assert "written and not run" in capsys.readouterr().out and tools() == []
    work = tmp_path / "build/fpga/arty-a7-35"
    script, xdc, top = ((work / name).read_text() for name in ("build.tcl", "top.xdc", "top.v"))
    read = re.findall(r"^read_(?:verilog|xdc) (\S+)$", script, re.MULTILINE)
    assert read == ["machine.v", "top.v", "pll.v",
                    "top.xdc"] and all((work / name).exists() for name in (*read, "machine_rom.hex"))
    assert script == (Path(__file__).parent.parent / "fpga/arty-a7-35/build.tcl").read_text()
    for step in ("synth_design -top top -part xc7a35ticsg324-1L", "opt_design", "place_design", "route_design",
                 "report_timing_summary", "report_utilization",
                 "write_bitstream"):
        assert f"\n{step}" in script
    ports = [f"{name}[{i}]" if top_bit else name for top_bit, name in re.findall(r"(?:input|output) +wire "
                                                                                 r"+(?:\[(\d+):0\])? *(\w+)", top)
             for i in range(int(top_bit or 0) + 1)]
    constrained = re.findall(r"^set_property -dict \{ PACKAGE_PIN \w+ IOSTANDARD \w+ \} \[get_ports \{ (\S+) \}\]$",
                             xdc, re.MULTILINE)
    assert sorted(constrained) == sorted(ports) == ["clk", "led[0]", "led[1]", "led[2]", "led[3]", "rx", "tx"]
    assert "create_clock -name clk -period 10 [get_ports clk]" in xdc
    times, by = (int(re.search(rf"\.{name}\((\d+)\)", (work / "pll.v").read_text())[1])
                 for name in ("CLKFBOUT_MULT", "CLKOUT0_DIVIDE"))
    assert 100 * times / by == 50 and 800 <= 100 * times <= 1600
    assert json.loads((tmp_path / "build/fpga/arty-a7-35.json").read_text())["run"] is False


def test_a_vivado_project_with_a_memory(tools, tmp_path, capsys):
    """Every port has a pin and a level, of pairs both; the two clocks' crossing and the resets are constrained."""
    pytest.importorskip("litedram", reason="the extra dram is not installed")
    assert main("fpga build --board arty-a7-100 --shape tiny,context=16,source=stream".split()) == 0
    work = tmp_path / "build/fpga/arty-a7-100"
    script, xdc, top = ((work / name).read_text() for name in ("build.tcl", "top.xdc", "top.v"))
    read = re.findall(r"^read_(?:verilog|xdc) (\S+)$", script, re.MULTILINE)
    assert read == ["machine.v", "top.v", "memory.v", "memory_controller.v", "pll.v", "top.xdc"] and all(
        (work / name).exists() for name in read)
    assert script == (Path(__file__).parent.parent / "fpga/arty-a7-100/build.tcl").read_text()
    ports = re.findall(r"^ +(?:input|output|inout) +wire +(?:\[(\d+):0\])? *(\w+)", top, re.MULTILINE)
    named = [f"{name}[{i}]" if top_bit else name for top_bit, name in ports for i in range(int(top_bit or 0) + 1)]
    constrained = re.findall(r"^set_property -dict \{ PACKAGE_PIN \w+ (?:\w+ \w+ )*IOSTANDARD \w+ (?:\w+ \w+ )*"
                             r"\} \[get_ports \{ (\S+) \}\]$", xdc, re.MULTILINE)
    assert sorted(constrained) == sorted(named) and len(named) == 3 + 4 + 48
    pins = {name: pin for pin, name in re.findall(r"PACKAGE_PIN (\w+) .*\{ (ddram\S+) \}\]$", xdc, re.MULTILINE)}
    assert [pins[f"ddram_{name}"] for name in ("clk_p", "clk_n", "dqs_p[1]", "dqs_n[1]", "reset_n")] \
        == ["U9", "V9", "U2", "V2", "K6"]
    assert "set_property INTERNAL_VREF 0.675 [get_iobanks 34]\n" in xdc
    # both PLLs have the oscillator's clock by one buffer, and the script finds their outputs by name
    assert "BUFG buffer (.I(clk), .O(oscillator));" in top and top.count("oscillator)") == 3
    assert "pll pll (" in top and re.search(r"^  PLLE2_BASE .*?\) pll \(", (work / "pll.v").read_text(),
                                            re.MULTILINE | re.DOTALL)
    assert "memory memory (" in top and " controller (" in (work / "memory.v").read_text()
    assert re.search(r"^\) PLLE2_ADV\(|^\) PLLE2_ADV \(", (work / "memory_controller.v").read_text(), re.MULTILINE)
    crossing, = re.findall(r"-from \$machine -to \$memory (\S+)$", script, re.MULTILINE)
    assert float(crossing) < 1000 / max(board("arty-a7-100").clock, board("arty-a7-100").memory_clock)
    about = json.loads((tmp_path / "build/fpga/arty-a7-100.json").read_text())
    assert about["run"] is False and (about["clock"], about["memory_clock"]) == (64, 100)


def test_an_interrupted_build_goes_on(tools, monkeypatch, capsys):
    monkeypatch.setenv("PRETENDED_FAILURE", "nextpnr-ecp5 places")
    assert main(SMALL.split()) == 2
    assert re.search(r"error: nextpnr-ecp5 failed: ERROR: it does not fit \(see .*seed-1.placed.log\)",
                     capsys.readouterr().err)
    tools()
    monkeypatch.setenv("PRETENDED_FAILURE", "nextpnr-ecp5")
    assert main(SMALL.split()) == 2
    assert "seed-1.routed.log" in capsys.readouterr().err and "nextpnr-ecp5 places 1" in tools()
    monkeypatch.delenv("PRETENDED_FAILURE")
    assert main(SMALL.split()) == 0
    assert [line for line in tools() if line != "ecppll"] == ["nextpnr-ecp5 1", "ecppack"]
    monkeypatch.setenv("PRETENDED_VERSION", "2.0")      # another tool's results are other results
    assert main(SMALL.split()) == 0
    assert "yosys" in tools()


def test_a_build_after_a_change_of_hwgen(tools, monkeypatch):
    assert main(SMALL.split()) == 0
    tools()
    monkeypatch.setattr(files, "_TOP", files._TOP.replace("// Reset while", "wire another;\n  // Reset while"))
    assert main(SMALL.split()) == 0
    assert tools() == ["ecppll", "yosys", "nextpnr-ecp5 places 1", "nextpnr-ecp5 1", "ecppack"]


def test_a_clock_that_is_not_met(tools, capsys):
    assert main(f"{SMALL} --mhz 80".split()) == 2
    assert "The clock of 80 MHz is not met: build with --mhz 70" in capsys.readouterr().err


@pytest.mark.parametrize("line, complaint", [
    ("fpga build --board spartan", "Board must be one of ulx3s-85f"),
    ("fpga build --board arty-a7-35 --mhz 3", "The clock can be"),
    ("fpga build --mhz 4000", "Clock must be 1 to 400 MHz, not 4000"),
    ("fpga build --seeds 4-1", "Seeds must be numbers of up to 9 digits and ranges"),
    ("fpga build --seeds 1-\u0663", "Seeds must be numbers of up to 9 digits and ranges"),
    ("fpga build --seeds 1-999,1-2", "Seeds must be at most 1000: each takes minutes"),
    ("fpga build --shape batch-16x16", "take source=rom or source=wired for the shape"),
    ("fpga program --bitstream none.bit", "none.bit: No such file"),
    ("fpga program --board tang-nano-20k",
     "tang-nano-20k.fs: No such file: hwgen fpga build --board tang-nano-20k makes it"),
    ("fpga program --board arty-a7-35", "a Vivado project, which makes it: name it with --bitstream"),
    ("run demo --prompt x --link uart", "Link must be verilator, golden, sim-uart or serial:DEVICE"),
    ("run demo --prompt x --link sim-uart --trace x.vcd", "has no --trace"),
])
def test_refused(tools, capsys, line, complaint):
    assert main(line.split()) == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


def test_a_tool_sees_its_folder_and_nothing_else(tmp_path):
    """So that the folder above, and how deep it is, cannot change what a tool does."""
    (tmp_path / "unit.v").write_text("module unit; endmodule\n")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/own.v").write_text("module own(input a, output b); assign b = a; endmodule\n")
    run_tool("yosys", "-q", "-p", "read_verilog own.v; write_verilog out.v", folder=tmp_path / "work", log="log")
    assert "module own" in (tmp_path / "work/out.v").read_text()
    for outside in ("../unit.v", tmp_path / "unit.v"):
        with pytest.raises(ToolError, match="not found"):
            run_tool("yosys", "-q", "-p", f"read_verilog {outside}", folder=tmp_path / "work", log="log")


def test_missing_tools(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOSYS", "no-such-yosys")
    assert main(SMALL.split()) == 2
    assert "no-such-yosys is not installed: pip install 'hwgen[fpga]'" in capsys.readouterr().err


def test_openfpgaloader_is_missing(monkeypatch, tmp_path, capsys):
    (tmp_path / "x.bit").write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["fpga", "program", "--bitstream", str(tmp_path / "x.bit")]) == 2
    assert "openFPGALoader is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("name", BOARDS)
def test_pins(name):
    pins = board(name).pins()
    assert len(pins["clk"]) == len(pins["rx"]) == len(pins["tx"]) == 1
    names = [pin.name for group in pins.values() for pin in group]
    assert len(names) == len(set(names))
    family = FAMILIES[board(name).family]
    text = family.constraints(board(name))
    assert all(re.search(rf"\b{re.escape(pin)}\b", text) for pin in names)
    assert [*board(name).capacity] == [*family.resources.values()]
    # what stands there is what is built
    assert (Path(__file__).parent.parent / "fpga" / name / family.constraints_file).read_text() == text


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_given_what_it_holds(name):
    """Its weights go into its memory, or its block RAM, 18 kbit each in all these families, which has room for K and V;
    and its UART's bits are true to 2 %."""
    chosen = board(name)
    shape = load(chosen.model, need_tokenizer=False).shape
    design = Design(model=shape, hw=hw_shape(chosen.shape, shape), recipe=recipe(chosen.formats))
    kv = 2 * design.layers * design.kv_heads * design.padded_head_dim * design.hw.context
    weights = design.stream_beats * design.hw.beat_bytes
    assert design.hw.source in (("stream",) if chosen.memory else ("rom", "wired"))
    if chosen.memory:
        assert weights <= chosen.memory.size
        kv, weights = kv * design.hw.kv_blocks * design.hw.kv_block // design.hw.context, 0
    assert weights + kv <= chosen.capacity[FAMILIES[chosen.family].resources["bram"]] * 18 * 1024 // 8
    assert abs(chosen.clock * 1e6 / chosen.baud / files.divisor(chosen) - 1) < 0.02


def test_a_top_without_pll():
    chosen = board("ulx3s-85f")
    assert "pll pll" in files.top(chosen, "machine")
    assert "assign clock = clk" in files.top(dataclasses.replace(chosen, clock=25), "machine")


def test_a_memory_with_a_clock_of_its_own():
    """The machine's clock is from the board's PLL then; either's reset is both's, and both clocks are constrained, by
    the names that they have before and behind their buffers."""
    chosen = board("ecpix-5-85f")
    text, lpf = files.top(chosen, "machine"), FAMILIES["ecp5"].constraints(chosen)
    assert files.has_pll(chosen) and "pll pll (.clkin(clk), .clkout0(clock), .locked(made));" in text
    assert "assign locked = made && !memory_reset;" in text and ".rst(!made)" in text
    assert ".machine_clock(clock)" in text and ".memory_clock(memory_clock)" in text
    assert chosen.memory_mhz == chosen.memory_clock and {
        line for line in lpf.splitlines() if line.startswith("FREQUENCY NET")} == {
        f'FREQUENCY NET "{before}{net}" {mhz:g} MHZ;' for before in ("", "$glbnet$")
        for net, mhz in (("clock", chosen.asked), (MEMORY_NET, MEMORY_ASKED * chosen.memory_clock))}
    assert repr(chosen) == repr(dataclasses.replace(chosen, memory_clock=None))[:-1] + \
        f", memory_clock={chosen.memory_clock!r})"
    with pytest.raises(ValueError, match="^Clock of a memory must be the machine's on a board with 32 MB of SDRAM, not "
                                         "90 MHz$"):
        dataclasses.replace(board("ulx3s-85f-sdram"), memory_clock=90)
    with pytest.raises(ValueError, match="on a board with no memory, not 90 MHz$"):
        dataclasses.replace(board("ulx3s-85f"), memory_clock=90)


@pytest.mark.parametrize("memory_clock, made", [(95.8333, None), (96, "95.83333"), (56, "56.25")])
def test_the_clock_that_litedram_makes(memory_clock, made):
    """Its PLL takes the first clock within 1 %."""
    pytest.importorskip("litedram", reason="the extra dram is not installed")
    chosen = dataclasses.replace(board("ecpix-5-85f"), memory_clock=memory_clock)
    if made is None:
        text = memory_verilog(chosen.memory, chosen.memory_mhz, kv=True, **memory_settings(chosen))["memory.v"]
        assert text.count("memory_crossing far_") == 2 and "assign memory_ready" not in text
        return
    with pytest.raises(ToolError, match=f"^Clock of a memory can be {made} MHz of 100 MHz, not {memory_clock}: "
                                        f"take {made}$"):
        memory_verilog(chosen.memory, chosen.memory_mhz, **memory_settings(chosen))


@pytest.mark.parametrize("memory, said", [(105, None), (80, "The memory's clock of 93.75 MHz is not met: try other"),
                                          (0, "must have the clocks .* was not constrained")])
def test_a_build_with_two_clocks(memory, said, tools, tmp_path, monkeypatch, capsys):
    """The best seed is that with which the clock that is nearer to its limit is furthest from it."""
    monkeypatch.setattr("hwgen.fpga.build.memory_verilog", lambda *_, **__: {"memory.v": ""})
    monkeypatch.setenv("PRETENDED_MEMORY", str(memory))
    line = "fpga build --board ecpix-5-85f --shape tiny,context=16,source=stream --seeds 1,5,9"
    assert main(line.split()) == (2 if said else 0)
    out, err = capsys.readouterr()
    if said:
        assert re.search(said, err)
        return
    assert "memory     93.75 MHz asked for, 100 MHz reached" in out and "others: 1: 58/104, 9: 66/96" in out
    report = json.loads((tmp_path / "build/fpga/ecpix-5-85f.json").read_text())
    assert report["seed"] == 5 and report["seeds"] == {"1": [58, 104], "5": [62, 100], "9": [66, 96]}
    assert report["fmax"] == 62 and report["memory_fmax"] == 100 and report["memory_clock"] == 93.75


def test_a_top_with_ddr3():
    """Each of its pins is constrained; the memory path makes the machine's clock, and there is no other PLL."""
    chosen = dataclasses.replace(board("ecpix-5-85f"), memory_clock=None)
    text, lpf = files.top(chosen, "machine"), FAMILIES["ecp5"].constraints(chosen)
    ports = re.findall(r"^ +(?:input|output|inout) +wire +(?:\[(\d+):0\])? *(\w+)", text, re.MULTILINE)
    named = [f"{name}[{i}]" if top_bit else name for top_bit, name in ports for i in range(int(top_bit or 0) + 1)]
    assert sorted(re.findall(r'^LOCATE COMP "(\S+)" SITE', lpf, re.MULTILINE)) == sorted(named)
    assert len(named) == 3 + 6 + 3 + 15 + 2 + 2 + 16
    assert 'IOBUF PORT "ddram_dqs_p[1]" DIFFRESISTOR=100 IO_TYPE=SSTL15D_I SLEWRATE=FAST TERMINATION=OFF;' in lpf
    assert not files.has_pll(chosen) and "pll" not in text and "ODDRX1F" not in text
    assert ".memory_clock(clock)" in text and "assign locked = !memory_reset" in text


def test_a_top_with_a_memory(tools, tmp_path):
    """Its pins are constrained, each of them; the chip has a clock of its own, which the PLL makes."""
    chosen = dataclasses.replace(board("ulx3s-85f"), clock=45, memory=MT48LC16M16)
    text, lpf = files.top(chosen, "machine"), FAMILIES["ecp5"].constraints(chosen)
    ports = [f"{name}[{i}]" if top_bit else name for top_bit, name in re.findall(r"^ +(?:input|output|inout) +wire "
                                                                                 r"+(?:\[(\d+):0\])? *(\w+)", text,
                                                                                 re.MULTILINE)
             for i in range(int(top_bit or 0) + 1)]
    assert sorted(re.findall(r'^LOCATE COMP "(\S+)" SITE', lpf,
                             re.MULTILINE)) == sorted(ports) and len(ports) == 11 + 39
    assert 'LOCATE COMP "sdram_dq[15]" SITE "J17";' in lpf and 'LOCATE COMP "sdram_clk" SITE "F19";' in lpf
    assert "ODDRX1F memory_clock (.SCLK(shifted)" in text and ".clkout1(shifted)" in text
    assert files.pll(chosen, tmp_path) and files.pll(dataclasses.replace(chosen, clock=25), tmp_path)
    assert "--clkout1 45 --phase1 90" in (tmp_path / "log").read_text()
    assert "sdram" not in files.top(board("ulx3s-85f"), "machine") + FAMILIES["ecp5"].constraints(board("ulx3s-85f"))


def test_a_build_with_a_memory(tools, tmp_path, monkeypatch, capsys):
    """What is between machine and pins is synthesized with it."""
    monkeypatch.setattr("hwgen.fpga.build.memory_verilog",
                        lambda memory, clock, kv: {"memory.v": f"// {memory.name} at {clock:g} MHz\n"})
    line = "fpga build --board ulx3s-85f-sdram --shape tiny,context=16,source=stream"
    assert main(line.split()) == 0
    assert "yosys" in tools()
    work, = (tmp_path / "build/fpga").glob("ulx3s-85f-sdram-*")
    assert (work / "memory.v").read_text() == "// MT48LC16M16 at 45 MHz\n"
    assert "read_verilog machine.v top.v memory.v pll.v\n" in (work / "synth.ys").read_text()
    assert main("fpga build --board ulx3s-85f-sdram --shape tiny,context=16".split()) == 2
    assert "error: Weight source must be 'stream' on a board with a memory, not 'rom'" in capsys.readouterr().err


def test_a_build_without_litedram(tools, monkeypatch, capsys):
    monkeypatch.setattr("hwgen.fpga.dram.importlib.util.find_spec", lambda name: None)
    assert main("fpga build --board ulx3s-85f-sdram --shape tiny,context=16,source=stream".split()) == 2
    assert "error: LiteDRAM is not installed: pip install 'hwgen[dram]'" in capsys.readouterr().err


@pytest.mark.parametrize("mhz, asked", [("50", "58"), ("66", "66")])
def test_what_place_and_route_are_asked_for(mhz, asked, tools, tmp_path, monkeypatch):
    """A little more than the clock on a board that says so; never less."""
    monkeypatch.setattr("hwgen.fpga.build.memory_verilog", lambda *_, **__: {"memory.v": ""})
    assert board("ecpix-5-85f").asked == 58
    main(f"fpga build --board ecpix-5-85f --shape tiny,context=16,source=stream --mhz {mhz}".split())
    assert set(re.findall(r"--freq (\S+)", (tmp_path / "log").read_text())) == {asked}


@pytest.mark.nightly
def test_smollm2s_bitstream_is_of_todays_verilog():
    """Of its shape: the bitstream has no weights."""
    pytest.importorskip("litedram", reason="the extra dram is not installed")
    report = json.loads((Path(__file__).parent.parent / "fpga/ecpix-5-85f/smollm2.json").read_text(encoding="utf-8"))
    chosen = dataclasses.replace(board("ecpix-5-85f"), memory_clock=report.get("memory_clock"))
    design = Design(model=SMOLLM2_135M, hw=HwShape(**report["shape"]), recipe=Recipe())
    quantized = quantize(random_checkpoint(SMOLLM2_135M), design.recipe)
    assert sources_digest(chosen, design, quantized) == report["verilog_sha256"]
    assert report["fmax"] > report["clock"] == chosen.clock and report["baud"] == chosen.baud
    assert report.get("memory_fmax", 0) >= report.get("memory_clock", 0)
