"""Boards and their builds, with tools that only pretend: what is run, what is kept, and what a person reads when it goes wrong."""
import dataclasses
import json
import re
import stat
import sys

import pytest

from hwgen.cli import main
from hwgen.fpga import files
from hwgen.fpga.boards import BOARDS, board

TOOL = """#!{python}
import json, os, sys
from pathlib import Path
words, name = sys.argv[1:], Path(sys.argv[0]).name
with open({log!r}, "a") as log:
    log.write(name + " " + " ".join(words) + chr(10))
if "--version" in words:
    print(name, os.environ.get("PRETENDED_VERSION", "1.0"))
elif os.environ.get("PRETENDED_FAILURE") == name:
    print("ERROR: it does not fit")
    sys.exit(1)
elif name == "ecppll":
    Path("pll.v").write_text("module pll(input clkin, output clkout0, output locked); endmodule")
elif name == "yosys":
    Path("partial-top.json").write_text("{{}}")
elif name == "nextpnr-ecp5":
    seed = int(words[words.index("--seed") + 1])
    Path(words[words.index("--textcfg") + 1]).write_text("config of seed " + str(seed))
    used = {{"used": 10, "available": 100}}
    Path(words[words.index("--report") + 1]).write_text(json.dumps({{"fmax": {{"clk": {{"achieved": 69.0 + seed, "constraint": 0}}}},
        "utilization": dict.fromkeys(("TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D"), used)}}))
elif name == "ecppack":
    Path(words[words.index("--bit") + 1]).write_bytes(b"bits of " + Path(words[words.index("--input") + 1]).read_bytes())
"""


def pretended_emit(design, quantized, folder, *, name, component):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.v").write_text(repr(component(design).design))
    (folder / "rom.hex").write_text(quantized.digest)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Pretended tools; the list of what was run."""
    monkeypatch.setattr("hwgen.fpga.build.emit", pretended_emit)     # seconds each; sim/test_board.py has the real one
    log = tmp_path / "log"
    log.touch()
    for name in ("yosys", "nextpnr-ecp5", "ecppack", "ecppll"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(TOOL.format(python=sys.executable, log=str(log)))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv(name.replace("-", "_").upper(), str(path))
    monkeypatch.chdir(tmp_path)

    def run():
        lines = [line for line in log.read_text().splitlines() if "--version" not in line]
        log.write_text("")
        return [line.split()[0] + (f" {line.split('--seed ')[1].split()[0]}" if "--seed" in line else "") for line in lines]
    return run


SMALL = "fpga build --shape tiny,context=16"


def test_a_build(tools, tmp_path, capsys):
    assert main(f"{SMALL} --seeds 1-3".split()) == 0
    assert tools() == ["ecppll", "yosys", "nextpnr-ecp5 1", "nextpnr-ecp5 2", "nextpnr-ecp5 3", "ecppack"]
    out = capsys.readouterr().out
    assert re.search(r"40 MHz asked for, 72 MHz reached \(seed 3; others: 1: 70, 2: 71\)", out) and "10%" in out
    assert (tmp_path / "build/fpga/ulx3s-85f.bit").read_bytes() == b"bits of config of seed 3"
    report = json.loads((tmp_path / "build/fpga/ulx3s-85f.json").read_text())
    assert report["seed"] == 3 and report["fmax"] == 72 and report["run_on_hardware"] is False and report["shape"]["context"] == 16
    # again: nothing but the new seed is done
    assert main(f"{SMALL} --seeds 2,5".split()) == 0
    assert [line for line in tools() if line != "ecppll"] == ["nextpnr-ecp5 5", "ecppack"]
    assert main(f"{SMALL} --seeds 5 --clean".split()) == 0
    assert tools() == ["ecppll", "yosys", "nextpnr-ecp5 5", "ecppack"]


def test_an_interrupted_build_goes_on(tools, monkeypatch, capsys):
    monkeypatch.setenv("PRETENDED_FAILURE", "nextpnr-ecp5")
    assert main(SMALL.split()) == 2
    assert re.search(r"error: nextpnr-ecp5 failed: ERROR: it does not fit \(see .*seed-1.config.log\)", capsys.readouterr().err)
    tools()
    monkeypatch.delenv("PRETENDED_FAILURE")
    assert main(SMALL.split()) == 0
    assert [line for line in tools() if line != "ecppll"] == ["nextpnr-ecp5 1", "ecppack"]
    monkeypatch.setenv("PRETENDED_VERSION", "2.0")      # another tool's results are other results
    assert main(SMALL.split()) == 0
    assert "yosys" in tools()


def test_a_clock_that_is_not_met(tools, capsys):
    assert main(f"{SMALL} --mhz 80".split()) == 2
    assert "The clock of 80 MHz is not met: build with --mhz 70" in capsys.readouterr().err


@pytest.mark.parametrize("line, complaint", [
    ("fpga build --board spartan", "Board must be one of ulx3s-85f"),
    ("fpga build --mhz 4000", "Clock must be 1 to 400 MHz, not 4000"),
    ("fpga build --seeds 4-1", "Seeds must be numbers and ranges"),
    ("fpga build --shape batch-16x16", "take source=rom for the shape"),
    ("fpga program --bitstream none.bit", "none.bit: No such file"),
    ("run demo --prompt x --link uart", "Link must be verilator, golden, sim-uart or serial:DEVICE"),
    ("run demo --prompt x --link sim-uart --trace x.vcd", "has no --trace"),
])
def test_refused(tools, capsys, line, complaint):
    assert main(line.split()) == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


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
    text = files.constraints(board(name))
    assert all(f'SITE "{pin}"' in text for pin in names)


def test_a_top_without_pll():
    chosen = board("ulx3s-85f")
    assert "pll pll" in files.top(chosen, "machine")
    assert "assign clock = clk" in files.top(dataclasses.replace(chosen, clock=25), "machine")
