"""What a command runs a model on: the simulated Verilog, the golden model, the cycle model, a board."""
import contextlib
import dataclasses
import os

from ..fpga.boards import BOARDS, board
from ..host.inputs import InputError, checked_input
from ..lib import verilator
from ..models.wires import fixed_matrices
from ..params.model import DEMO as DEMO_SHAPE

__all__ = ["LINKS", "add_board", "add_link", "board_link", "check_link", "check_simulator", "check_source", "chosen_board", "is_board_link",
           "open_link", "place"]

LINKS = "sim-uart (the UART pins of the board's simulated top), serial:DEVICE (a board, as serial:/dev/ttyUSB0)"


def add_link(sub, golden="; golden is numpy, with predicted cycles"):
    sub.add_argument("--link", default="verilator", metavar="L",
                     help=f"verilator simulates the emitted Verilog{golden}; {LINKS} (default: verilator)")
    add_board(sub)


def add_board(sub):
    sub.add_argument("--board", metavar="B", help=f"one of {', '.join(BOARDS)} (default: ulx3s-85f); its shape is taken "
                     "unless --shape names one")
    sub.add_argument("--mhz", type=float, metavar="MHz", help="clock of the board's machine (default: the board's)")


def is_board_link(text):
    """Whether a link of that name is to a board's machine."""
    return text == "sim-uart" or text.startswith("serial:")


def chosen_board(options):
    """The board that the options name, at the clock that they name."""
    with checked_input():
        chosen = board("ulx3s-85f" if options.board is None else options.board)
        clock = getattr(options, "mhz", None)
        if clock is not None:
            if not 1 <= clock <= 400:
                raise ValueError(f"Clock must be 1 to 400 MHz, not {clock:g}")
            chosen = dataclasses.replace(chosen, clock=clock)
        return chosen


def place(options):
    """What the link leads to."""
    return {"golden": "golden model", "verilator": "simulator", "sim-uart": "simulator"}.get(options.link, "board")


def check_simulator():
    """Refuse a missing compiler, and a cache that cannot be written, before the work."""
    from ..host.links.verilated import check_cache
    verilator.root()
    try:
        check_cache()
    except OSError as error:
        raise InputError(f"{os.environ.get('HWGEN_CACHE') or error.filename}: Cache must be a folder that can be written and has room "
                         f"(HWGEN_CACHE "
                         f"names another), not this one: {error.strerror}") from None


def check_link(options):
    """Refuse, before the work, a link that cannot be: no compiler, no cache, no serial port."""
    if options.link in ("verilator", "sim-uart"):
        check_simulator()
    elif options.link.startswith("serial:"):
        from ..host.links.lines import SerialLine
        SerialLine(options.link.removeprefix("serial:"), chosen_board(options).baud).close()


@contextlib.contextmanager
def open_link(screen, options, design, quantized, **more):
    """The link that the options ask for, checked against the golden model where they ask for that."""
    from ..host.driver import CheckedLink
    with contextlib.ExitStack() as stack:
        golden = None
        if options.check or options.link == "golden":
            from ..host.links.golden_link import GoldenLink
            golden = stack.enter_context(GoldenLink(design, quantized))
        if options.link == "golden":
            yield golden
            return
        if options.link == "timing":
            from ..host.links.timing_link import TimingLink
            yield TimingLink(design, fixed_matrices(quantized, design) if design.hw.wired else None)
            return
        if is_board_link(options.link):
            link = stack.enter_context(board_link(screen, options, design, quantized, faults=more.get("faults", ())))
            late = bool(chosen_board(options).memory)       # golden's weights never are
            yield CheckedLink(link, golden, values_only=late) if golden else link
            return
        from ..host.links.machine import simulated
        stall = getattr(options, "stall", 0)
        name = "demo" if design.model == DEMO_SHAPE else "top"      # so that what `hwgen demo` built serves the others
        link = stack.enter_context(simulated(design, quantized, screen.stage, name=name, stall=stall,
                                             seed=getattr(options, "seed", 1), **more))
        yield CheckedLink(link, golden, values_only=stall > 0) if golden else link


def check_source(chosen, hw):
    """ValueError for an `HwShape` whose weights are not where a board (or None: an FPGA) has them."""
    if chosen and chosen.memory:
        if hw.source != "stream":
            raise ValueError(f"The weights of {chosen.name} are in its memory: take source=stream for the shape")
    elif not hw.inside:
        raise ValueError("A board's machine keeps its weights in itself: take source=rom or source=wired for the shape")


@contextlib.contextmanager
def board_link(screen, options, design, quantized, *, faults=(), empty=None):
    """The link to a board's machine that the options ask for. With ``empty``, the file of a simulated memory's bytes, nothing is said of
    the weights that are there."""
    from ..host.links.board import serial_link, simulated_pins
    chosen = chosen_board(options)
    with checked_input():
        check_source(chosen, design.hw)
    if options.link == "sim-uart":
        more = {"memory": empty, "loaded": False} if empty else {}
        with simulated_pins(chosen, design, quantized, screen.stage, faults=faults, **more) as link:
            yield link
    else:
        if faults:
            raise InputError("Faults can be injected into simulations only: take --link verilator or --link sim-uart")
        with serial_link(options.link.removeprefix("serial:"), chosen, design, quantized, weights=not empty) as link:
            yield link
