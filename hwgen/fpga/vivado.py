"""A Vivado project of a board's machine: written, not run, for the vendor's tool is nobody's to ship."""
import dataclasses
import json

from .build import sources_digest_of, write_sources, write_text
from .families import FAMILIES

__all__ = ["SCRIPT", "script", "write_project"]

SCRIPT = "build.tcl"

_SCRIPT = """\
# {title}: from Verilog to a bitstream, without a project file. Made by hwgen; make it again rather than change it.
#   vivado -mode batch -source build.tcl
cd [file dirname [file normalize [info script]]]
{sources}
read_xdc {constraints}
synth_design -top top -part {part}
opt_design
place_design
phys_opt_design
route_design
report_timing_summary -file timing.rpt
report_utilization -file utilization.rpt
set slack [get_property SLACK [get_timing_paths -setup]]
if {{$slack < 0}} {{
  puts "ERROR: the clock of {clock:g} MHz is not met by $slack ns: write the project again with a lower --mhz"
  exit 1
}}
write_bitstream -force {bitstream}
"""


def script(board, sources):
    """Vivado's commands. It finds the memory image that machine.v reads beside that file."""
    return _SCRIPT.format(title=board.title, sources="\n".join(f"read_verilog {source}" for source in sources),
                          part=board.device[0], constraints=FAMILIES[board.family].constraints_file, clock=board.clock,
                          bitstream=f"{board.name}.bit")


def write_project(board, design, quantized, folder, *, stage):
    """Write Verilog, memory image, constraints and script into a folder of the board's name; returns that folder."""
    family, work = FAMILIES[board.family], folder / board.name
    with stage(f"emitting Verilog into {work}"):
        sources = write_sources(board, design, quantized, work)
    write_text(work / family.constraints_file, family.constraints(board))
    write_text(work / SCRIPT, script(board, sources))
    about = {"board": board.name, "model": design.model.name, "model_id": quantized.digest,
             "shape": dataclasses.asdict(design.hw), "clock": board.clock, "baud": board.baud,
             "verilog_sha256": sources_digest_of(work, sources, design), "run": False, "run_on_hardware": False}
    write_text(folder / f"{board.name}.json", json.dumps(about, indent=1) + "\n")
    return work
