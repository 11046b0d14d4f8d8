"""hwgen fpga build and program: a board's bitstream."""
import argparse
import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

from rich.table import Table

from ..fpga.boards import BOARDS
from ..fpga.build import build
from ..fpga.families import FAMILIES
from ..fpga.tools import ToolError
from ..fpga.vivado import SCRIPT, write_project
from ..host.inputs import InputError, checked_input, writing
from ..host.terminal import result
from ..params.checks import shown
from .common import add_command, add_machine, loaded, quantized_of
from .links import add_board, chosen_board

__all__ = ["add_fpga"]


def _boards_help():
    """A line for each board."""
    width = max(map(len, BOARDS))
    lines = [f"  {b.name:{width}} {b.title}, {b.clock:g} MHz, --model {b.model} --shape {b.shape}"
             f"{b.note and f' ({b.note})'}" for b in BOARDS.values()]
    return "\n".join(["boards:", *lines])


def add_fpga(commands):
    fpga = commands.add_parser("fpga", help="Build a board's bitstream (build), or load it (program).",
                               description="Machines on FPGA boards.", epilog=_boards_help(),
                               formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = fpga.add_subparsers(dest="action", metavar="ACTION", required=True)
    sub = add_command(actions, "fpga build", run_build,
                      "From a model to a board's bitstream: emit, synthesize, place and route, pack. An interrupted "
                      "build goes on where it was.",
                      "hwgen fpga build --board ulx3s-85f\n\n" + _boards_help(), shapes=False)
    add_machine(sub, shape=None, option="the board's")
    add_board(sub)
    sub.add_argument("--seeds", metavar="N,A-B", help="of the placement; the fastest is taken (default: the board's)")
    sub.add_argument("--arrange", action="store_true",
                     help="give an ECP5's multipliers registers and sites before the rest is placed: shorter wires "
                          "(docs/boards.md)")
    sub.add_argument("--clean", action="store_true", help="forget what earlier builds for the board have left")
    sub.add_argument("-o", "--output", default="build/fpga", metavar="DIR",
                     help="where bitstream and report go (default: build/fpga)")
    sub = add_command(actions, "fpga program", run_program, "Load a bitstream into a board, with openFPGALoader.",
                      "hwgen fpga program --board ulx3s-85f", shapes=False)
    add_board(sub)
    sub.add_argument("--bitstream", metavar="FILE", help="default: that of hwgen fpga build")
    sub.add_argument("--flash", action="store_true", help="into the flash, where it stays without power")


_MOST_SEEDS = 1000


def _seeds(text):
    """``3`` or ``1-8`` or ``1,5,9`` -> a list."""
    seeds = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        numbers = [low, high] if dash else [low]
        if not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers) or int(numbers[-1]) < int(low):
            raise ValueError(f"Seeds must be numbers of up to 9 digits and ranges, as 1-4 or 1,5, not {shown(text)}")
        if len(seeds) + int(high or low) - int(low) >= _MOST_SEEDS:
            raise ValueError(f"Seeds must be at most {_MOST_SEEDS}: each takes minutes")
        seeds += range(int(low), int(high or low) + 1)
    return seeds


def run_build(options, screen):
    """Build a board's bitstream, and say what it takes."""
    chosen = chosen_board(options)
    for name in ("model", "shape", "formats"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(chosen, name))
    with checked_input():
        seeds = [chosen.seed] if options.seeds is None else _seeds(options.seeds)
        chosen = dataclasses.replace(chosen, arranged=chosen.arranged or options.arrange)
    checkpoint, design = loaded(options, screen)
    with writing(options.output), checked_input():
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
    design, quantized = quantized_of(options, screen, checkpoint, design)
    if options.clean:
        for old in folder.glob(f"{chosen.name}-*"):
            # as `build` names them
            if re.fullmatch("-[0-9a-f]{12}", old.name.removeprefix(chosen.name)) and old.is_dir():
                with writing(old):
                    shutil.rmtree(old)
    try:
        with checked_input():
            if not FAMILIES[chosen.family].placer:
                work = write_project(chosen, design, quantized, folder, stage=screen.stage)
                print(f"project    {work}, written and not run\nnext       vivado -mode batch -source {work / SCRIPT}")
                return
            report = build(chosen, design, quantized, folder, seeds=seeds, stage=screen.stage)
    except ToolError as error:
        raise InputError(str(error)) from None
    table = Table("", "used", "of", "", box=None, header_style="bold", padding=(0, 2))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, used in report.used.items():
        table.add_row(name, f"{used:,}", f"{report.available[name]:,}", f"{used / report.available[name]:.0%}")
    result(table)
    print(f"clock      {report.clock:g} MHz asked for, {report.fmax:g} MHz reached (seed {report.seed}"
          + (f"; others: {', '.join(f'{s}: {_mhz(f)}' for s, f in report.seeds.items() if int(s) != report.seed)}"
             if len(report.seeds) > 1 else "") + ")")
    if report.memory_clock:
        print(f"memory     {report.memory_clock:g} MHz asked for, {report.memory_fmax:g} MHz reached")
    print(f"CPU        {sum(report.cpu_seconds.values()) / 60:.1f} minutes: "
          + ", ".join(f"{tool} {s:.0f} s" for tool, s in report.cpu_seconds.items()))
    print(f"bitstream  {report.bitstream}")
    print(f"report     {folder / f'{chosen.name}.json'}")
    if report.missed == ["memory's clock"]:
        raise InputError(f"The memory's clock of {report.memory_clock:g} MHz is not met: try other --seeds")
    if report.missed:
        raise InputError(f"The clock of {report.clock:g} MHz is not met: build with --mhz {int(report.fmax)}, or try "
                         "other --seeds")


def _mhz(found):
    """MHz of a seed, or of both clocks."""
    return "/".join(f"{mhz:g}" for mhz in found) if isinstance(found, list) else f"{found:g}"


def run_program(options, screen):
    """Load a bitstream into a board with openFPGALoader."""
    chosen = chosen_board(options)
    bitstream = Path(options.bitstream or f"build/fpga/{chosen.name}{FAMILIES[chosen.family].suffix}")
    if not bitstream.is_file():
        makes = ("makes it" if FAMILIES[chosen.family].placer
                 else "writes a Vivado project, which makes it: name it with --bitstream")
        raise InputError(f"{bitstream}: No such file: hwgen fpga build --board {chosen.name} {makes}")
    loader = shutil.which("openFPGALoader")
    if loader is None:
        raise InputError("openFPGALoader is not installed: apt-get install openfpgaloader (Debian 12), brew install "
                         "openfpgaloader, or https://trabucayre.github.io/openFPGALoader")
    command = [loader, *chosen.programmer, *(["--write-flash"] if options.flash else []), str(bitstream)]
    screen.say(" ".join(command))
    if subprocess.run(command).returncode:
        raise InputError("openFPGALoader failed: see what it said above")
