"""Links to a board's machine: on its serial port, or with its UART pins in a simulation of the very top that goes into the bitstream."""
import contextlib
from pathlib import Path

from ..emit import emit
from ..emit.images import image_name
from ..fpga import files
from ..lib.workdir import work_folder
from ..top.board import BUSES, BoardMachine
from .faults import rewired
from .frames import FramePort
from .inputs import writing
from .lines import PinsLine, SerialLine
from .machine import broken, flipping
from .register_link import RegisterLink
from .verilated import WORK, KEEP, KV_MEMORY, cache_folder, compiled, kept, kv_header, remembered, texts

__all__ = ["build_pins", "pins_link", "serial_link", "simulated_pins"]

MAIN = Path(__file__).with_name("uart_main.cpp")

#: What stands for the vendor's PLL in a simulation: its clock is the oscillator's, and it is locked at once.
_PLL = """\
module pll (input wire clkin, output wire clkout0, output wire locked);
  assign clkout0 = clkin;
  assign locked = 1'b1;
endmodule
"""


def build_pins(board, design, quantized, *, divisor=None):
    """Compile a board's top, from its emitted Verilog. Returns the executable; the same top is built once.

    ``divisor`` is the cycles per bit, the board's unless somebody is in a hurry.
    """
    divisor, top = divisor or files.divisor(board), files.top(board, "machine")
    cache_folder().mkdir(parents=True, exist_ok=True)
    return remembered(("pins", top, files.has_pll(board), divisor, design, quantized.digest), lambda: _built_pins(board, design, quantized, divisor, top))


def _built_pins(board, design, quantized, divisor, top):
    with work_folder(cache_folder(), WORK) as work:
        emit(design, quantized, work / "machine", name="machine", component=lambda d, **wires: BoardMachine(d, divisor=divisor, **wires))
        (work / "top.v").write_text(top)
        (work / "pll.v").write_text(_PLL)
        sources = [work / "machine/machine.v", work / "top.v", *([work / "pll.v"] if files.has_pll(board) else [])]
        image = work / "machine" / image_name(design, "machine")
        header = kv_header("top__DOT__machine__DOT__machine__DOT__decoder") + f"#define DIVISOR {divisor}\n"
        return kept("pins", (header, KEEP, texts(*sources, image, MAIN, KV_MEMORY)),
                    lambda folder: [compiled(folder, sources, "top", MAIN, header, opt="-O1"), image])


@contextlib.contextmanager
def simulated_pins(board, design, quantized, stage, *, divisor=None, faults=(), **more):
    """A `RegisterLink` over the UART pins of a board's simulated top. More arguments are those of `pins_link`."""
    with stage("emitting and building the Verilator model of the board's top"), rewired(design, faults), writing(cache_folder()):
        executable = build_pins(board, design, quantized, divisor=divisor)
    with pins_link(executable, design, quantized, faults=faults, **more) as link:
        yield link


@contextlib.contextmanager
def pins_link(executable, design, quantized, *, line=lambda line: line, timeout=30.0, attempts=8, faults=()):
    """A `RegisterLink` to what `build_pins` made.

    ``line`` may put something between (`NoisyLine`). Of ``faults`` (`hwgen.host.faults`) constants must have been in it when it was built.
    """
    with contextlib.ExitStack() as stack:
        executable, _ = stack.enter_context(broken(executable, executable.with_name(image_name(design, "machine")), design, faults))
        pins = PinsLine(executable)
        stack.callback(pins.close)
        link = RegisterLink(FramePort(line(pins), timeout=timeout, attempts=attempts), design, BUSES, quantized, patience=600)
        link.flip = pins.flip
        yield flipping(link, faults)


@contextlib.contextmanager
def serial_link(device, board, design, quantized):
    """A `RegisterLink` to a board on a serial port."""
    line = SerialLine(device, board.baud)
    try:
        yield RegisterLink(FramePort(line), design, BUSES, quantized)
    finally:
        line.close()
