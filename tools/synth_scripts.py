#!/usr/bin/env python3
"""Run the Yosys scripts of somebody who takes an emitted machine in, on rtl_out/specimen or on outputs of `hwgen emit`.

It fails if one of them does, or if there is a register that nothing writes. YOSYS=yosys takes another Yosys than that of PyPI. What ran
on the specimen goes into docs/results/emit_tools.json.
"""
import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from hwgen.fpga.tools import ToolError, run_tool, version
from tools import ledger

SPECIMEN = ledger.ROOT / "rtl_out" / "specimen"
COMMAND = "make synth-scripts"

#: Name -> what is done with the Verilog once it has been read. ``{top}`` is the top module.
SCRIPTS = {
    "proc; opt": "proc; opt",
    "proc; flatten; opt -fast": "hierarchy -top {top}; proc; flatten; opt -fast",
    "synth": "synth -top {top}",
    "synth -flatten": "synth -flatten -top {top}",
    **{f"{command}{' -noflatten' if apart else ''}": f"{command} {words[apart]} -top {{top}}"
       for command, words in {"synth_ecp5": ("", "-noflatten"), "synth_xilinx": ("-flatten", ""), "synth_gowin": ("", "-noflatten"),
                              "synth_ice40": ("", "-noflatten")}.items() for apart in (False, True)},
}


def run(folder, top, script, work):
    """Run a script of `SCRIPTS` in the folder ``work``. Returns its seconds. Raises ToolError."""
    for path in Path(folder).iterdir():
        if path.suffix in (".v", ".hex"):
            shutil.copy(path, work)
    begun = time.monotonic()
    (work / "script.ys").write_text(f"read_verilog {top}.v\n" + "\n".join(SCRIPTS[script].format(top=top).split("; ")) + "\ncheck -assert\n")
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
                found += [f"{module} {names[q]}" for d, q in zip(cell["connections"]["D"], cell["connections"]["Q"]) if d == q]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="*", type=Path, help="an output of `hwgen emit`")
    parser.add_argument("--only", default=",".join(SCRIPTS), help=f"some of these scripts, with commas: {', '.join(SCRIPTS)}")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(SCRIPTS):
        raise SystemExit(f"Scripts must be of {', '.join(SCRIPTS)}, not {', '.join(sorted(unknown))}")
    failed, rows = False, []
    for folder in options.folder or [SPECIMEN]:
        top = json.loads((folder / "manifest.json").read_text())["top"]
        with tempfile.TemporaryDirectory() as work:
            for name in unwritten(folder, top, Path(work)):
                failed = True
                print(f"{top}: Register must be written by something, unlike {name}")
        for name in options.only.split(","):
            with tempfile.TemporaryDirectory() as work:
                try:
                    seconds = run(folder, top, name, Path(work))
                except ToolError as error:
                    failed = True
                    print(f"{top}: {name}: {error}", flush=True)
                    continue
            print(f"{top}: {name}: {seconds:.0f} s", flush=True)
            rows.append({"name": f"{version('yosys').split(' (')[0]}/{name}", "value": round(seconds), "unit": "s", "kind": "measured", "command": COMMAND})
    if not options.folder:
        ledger.record("emit_tools.json", rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
