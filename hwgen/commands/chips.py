"""Which model on which FPGA: what `hwgen plan` and other commands share."""
from pathlib import Path

from ..fpga.boards import BOARDS, board
from ..fpga.families import FAMILIES
from ..models.hf import folder_shape
from ..models.kept import is_kept
from ..models.options import About
from ..params.model import PRESETS
from ..plan.costs import KINDS, table
from .common import MODEL_HELP, opened

__all__ = ["DOES_NOT_FIT", "add_chip", "capacity_of", "check_clock", "chip", "shape_of"]

DOES_NOT_FIT = 3        # exit code


def add_chip(sub, clock="speeds are for this clock (default: the board's, if the machine may reach it)",
             shape="hardware shape, see below (default: the board's, or tiny)"):
    """Model, FPGA, shape and clock."""
    sub.add_argument("model", metavar="MODEL", help=f"{MODEL_HELP}; a folder with config.json alone, or one of {', '.join(PRESETS)}")
    sub.add_argument("--board", choices=[*BOARDS], help="the board (default: what --family, --lut, --ff, --bram and --dsp say)")
    sub.add_argument("--family", choices=[*table()], help="of an FPGA without a board here (default: ecp5)")
    for kind, noun in (("lut", "LUTs of 4 inputs (xilinx7: of 6)"), ("ff", "flip-flops"),
                       ("bram", "memory blocks (ecp5, gowin, xilinx7: 18 kbit; ice40: 4 kbit)"),
                       ("dsp", "multipliers, 18 x 18")):
        sub.add_argument(f"--{kind}", type=int, metavar="N", help=f"{noun} that the FPGA has")
    sub.add_argument("--clock", type=float, metavar="MHZ", help=clock)
    sub.add_argument("--shape", metavar="S", help=shape)


def shape_of(screen, model):
    """(The model's shape, without its weights; the `QuantizedModel` of a folder of one, else None.)"""
    if (name := model.lower()) in PRESETS and (name == model or not Path(model).exists()):
        return PRESETS[name], None
    if Path(model).name == "config.json" and Path(model).is_file():
        model = str(Path(model).parent)
    if Path(model).is_dir() and not is_kept(model):
        about = About()
        shape = folder_shape(model, about)
        for line in about.warnings:
            screen.warn(line)
        return shape, None
    checkpoint = opened(screen, model)
    return checkpoint.shape, checkpoint.kept


def capacity_of(chosen):
    """{kind: how many}"""
    return {kind: chosen.capacity[FAMILIES[chosen.family].resources[kind.lower()]] for kind in KINDS}


def chip(options):
    """(title, family, {kind: how many}, board or None)"""
    given = {kind: getattr(options, kind.lower()) for kind in KINDS if getattr(options, kind.lower()) is not None}
    for kind, count in given.items():
        if count < (least := int(kind in ("LUT", "FF"))):       # some FPGAs have no multipliers, or no memory blocks
            raise ValueError(f"{kind} must be at least {least}, not {count}")
    if options.board:
        if given or options.family:
            raise ValueError("Board and resources must not be given both: a board has its own")
        chosen = board(options.board)
        if chosen.family not in table():
            raise ValueError(f"Costs are known of {', '.join(table())}, not of {chosen.family}")
        return chosen.title, chosen.family, capacity_of(chosen), chosen
    if not given:
        raise ValueError(f"FPGA must be given: --board {'|'.join(BOARDS)}, or its --lut, --bram and --dsp")
    family = options.family or "ecp5"
    return f"{family} with " + ", ".join(f"{count:,} {kind}" for kind, count in given.items()), family, given, None


def check_clock(options):
    """ValueError for a clock that no FPGA has."""
    if options.clock is not None and not 1 <= options.clock <= 1000:
        raise ValueError(f"Clock must be 1 to 1000 MHz, not {options.clock:g}")
