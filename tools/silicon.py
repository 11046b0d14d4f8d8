"""Units in Oklahoma State University's 0.18 um standard cells, where Debian's packages are installed: area from Yosys,
clock from OpenSTA.

`apt-get install qflow-tech-osu018 opensta` brings both. $OSU018_LIBERTY names another Liberty file of the same cells.
Clocked memories are left out.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

from hwgen.fpga.tools import ToolError, run_tool

__all__ = ["area_and_clock", "missing"]

LIBERTY = Path(os.environ.get("OSU018_LIBERTY", "/usr/share/qflow/tech/osu018/osu018_stdcells.lib"))
PERIOD = 10.0       # ns
SCRIPT = f"""\
dfflibmap -liberty cells.lib
abc -liberty cells.lib -constr cells.constr -D {PERIOD / 2 * 1000:g}
opt_clean -purge
tee -q -o area.txt stat -liberty cells.lib
delete t:$__memory
write_verilog -noattr -noexpr -nodec cells.v
"""


def missing():
    """What is not installed, in words; "" if all is there."""
    return ", ".join(name for name, there in (("qflow-tech-osu018", LIBERTY.is_file()),
                                              ("opensta", shutil.which("sta"))) if not there)


def area_and_clock(folder, script, clock):
    """{"um2": ..., "MHz": ...} of unit.v in a folder, after the lines of ``script``; ``clock`` is the clock's port."""
    # with it abc inserts buffers and sizes gates
    (folder / "cells.constr").write_text("set_driving_cell INVX4\nset_load 0.05 [all_outputs]\n")
    (folder / "cells.lib").write_text(LIBERTY.read_text())
    (folder / "cells.ys").write_text("\n".join(["read_verilog unit.v", *script, SCRIPT]))
    run_tool("yosys", "-q", "cells.ys", folder=folder, log="cells.log")
    area = re.search(r"Chip area for module '\\top': *([\d.]+)", (folder / "area.txt").read_text())
    (folder / "cells.tcl").write_text("\n".join([
        "read_liberty cells.lib", "read_verilog cells.v", "link_design top",
        f"create_clock -name clock -period {PERIOD} [get_ports {{{clock}}}]",
        "report_worst_slack", "exit", ""]))
    done = subprocess.run(["sta", "-no_splash", "-exit", "cells.tcl"], cwd=folder, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
    slack = re.search(r"worst slack (-?[\d.]+)", done.stdout)
    if not area or done.returncode:
        raise ToolError(f"OpenSTA failed: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
    clock = {"MHz": round(1000 / (PERIOD - float(slack[1])), 1)} if slack else {}
    return {"um2": round(float(area[1])), **clock}
