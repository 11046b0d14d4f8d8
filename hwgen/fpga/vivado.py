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
{crossing}opt_design
place_design
phys_opt_design
route_design
report_timing_summary -file timing.rpt
report_utilization -file utilization.rpt
set slack [get_property SLACK [get_timing_paths -setup]]
if {{$slack < 0}} {{
  puts "ERROR: {missed} by $slack ns: write the project again with a lower --mhz"
  exit 1
}}
write_bitstream -force {bitstream}
"""


#: Of a machine whose memory has another clock, behind the synthesis: cells have their names then.
_CROSSING = """\
# Machine and memory have no edge in common. What crosses are Gray codes, and words that stand still meanwhile: the
# wires of a code must not differ by a cycle of the clock that they come from.
set machine [get_clocks -of_objects [get_pins -hierarchical -filter {{NAME =~ pll/*CLKOUT0}}]]
set memory [get_clocks -of_objects [get_pins -hierarchical -filter {{NAME =~ memory/controller/*CLKOUT1}}]]
if {{[llength $machine] != 1 || [llength $memory] != 1}} {{
  puts "ERROR: the PLLs must make a clock each for machine and memory, not '$machine' and '$memory'"
  exit 1
}}
set_max_delay -datapath_only -from $machine -to $memory {most:g}
set_max_delay -datapath_only -from $memory -to $machine {most:g}
# Resets begin at any time. They end in two registers (LiteDRAM's), or before a count to 16 (top.v).
set_false_path -to [get_pins -hierarchical -filter {{REF_PIN_NAME == PRE || REF_PIN_NAME == CLR}}]
"""


def script(board, sources):
    """Vivado's commands. It finds the memory image that machine.v reads beside that file."""
    missed = f"the clock of {board.clock:g} MHz is not met" if not board.memory_clock else \
        f"a clock is not met (timing.rpt says which: the machine's {board.clock:g} MHz, or the memory's)"
    crossing = _CROSSING.format(most=500 / max(board.clock, board.memory_clock)) if board.memory_clock else ""
    return _SCRIPT.format(title=board.title, sources="\n".join(f"read_verilog {source}" for source in sources),
                          part=board.device[0], constraints=FAMILIES[board.family].constraints_file,
                          missed=missed, crossing=crossing, bitstream=f"{board.name}.bit")


def write_project(board, design, quantized, folder, *, stage):
    """Write Verilog, memory image, constraints and script into a folder of the board's name; returns that folder."""
    family, work = FAMILIES[board.family], folder / board.name
    with stage(f"emitting Verilog into {work}"):
        sources = write_sources(board, design, quantized, work)
    write_text(work / family.constraints_file, family.constraints(board))
    write_text(work / SCRIPT, script(board, sources))
    about = {"board": board.name, "model": design.model.name, "model_id": quantized.digest,
             "shape": dataclasses.asdict(design.hw), "clock": board.clock, "baud": board.baud,
             **({"memory_clock": board.memory_clock} if board.memory_clock else {}),
             "verilog_sha256": sources_digest_of(work, sources, design), "run": False, "run_on_hardware": False}
    write_text(folder / f"{board.name}.json", json.dumps(about, indent=1) + "\n")
    return work
