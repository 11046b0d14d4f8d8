"""Links to a board's machine: on its serial port, or with its UART pins in a simulation of the very top that goes into the bitstream."""
import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path

from ..emit import emit
from ..fpga import files
from ..lib import verilator
from ..top.board import BUSES, BoardMachine
from .frames import FramePort
from .lines import PinsLine, SerialLine
from .register_link import RegisterLink
from .verilated import cache_folder

__all__ = ["build_pins", "serial_link", "simulated_pins"]

MAIN = Path(__file__).with_name("uart_main.cpp")

#: What stands for the vendor's PLL in a simulation: its clock is the oscillator's, and it is locked at once.
_PLL = """\
module pll (input wire clkin, output wire clkout0, output wire locked);
  assign clkout0 = clkin;
  assign locked = 1'b1;
endmodule
"""


def build_pins(board, design, quantized, *, divisor=None, trace=False):
    """Compile a board's top, from its emitted Verilog. Returns the executable; the same top is built once.

    ``divisor`` is the cycles per bit, the board's unless somebody is in a hurry.
    """
    divisor = divisor or files.divisor(board)
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pins-", dir=cache_folder()) as work:
        work = Path(work)
        emit(design, quantized, work / "machine", name="machine", component=lambda d: BoardMachine(d, divisor=divisor))
        (work / "top.v").write_text(files.top(board, "machine"))
        (work / "pll.v").write_text(_PLL)
        sources = [work / "machine/machine.v", work / "top.v", *([work / "pll.v"] if files.has_pll(board) else [])]
        digest = hashlib.sha256(repr((divisor, trace, verilator.tool_versions())).encode())
        for path in (*sources, work / "machine/rom.hex", MAIN):
            digest.update(path.read_bytes())
        folder = cache_folder() / "models" / f"pins-{digest.hexdigest()[:16]}"
        if not (folder / "model").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            built = verilator.build(sources, "top", cpp=[MAIN], folder=work / "obj", executable="model", opt="-O1", trace=trace,
                                    cflags=f"-DDIVISOR={divisor}", cache=cache_folder() / "verilator-runtime",
                                    args=["--x-assign", "fast", "--x-initial", "fast", "-fno-dfg"])
            done = work / "done"
            done.mkdir()
            shutil.move(built, done / "model")
            shutil.copy(work / "machine/rom.hex", done)
            if folder.exists():
                shutil.rmtree(folder)
            done.rename(folder)
    return folder / "model"


@contextlib.contextmanager
def simulated_pins(board, design, quantized, stage, *, divisor=None, line=lambda line: line, timeout=30.0, attempts=8, faults=()):
    """A `RegisterLink` over the UART pins of a board's simulated top.

    ``line`` may put something between (`NoisyLine`); ``faults`` are `hwgen.host.machine.Fault`.
    """
    with contextlib.ExitStack() as stack:
        with stage("emitting and building the Verilator model of the board's top"):
            executable = build_pins(board, design, quantized, divisor=divisor)
        if faults:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache_folder(), prefix="pins-")))
            for file in (executable, executable.with_name("rom.hex")):
                shutil.copy(file, work)
            for fault in faults:
                fault.apply(work / "rom.hex", design)
            executable = work / executable.name
        pins = PinsLine(executable)
        stack.callback(pins.close)
        port = FramePort(line(pins), timeout=timeout, attempts=attempts)
        yield RegisterLink(port, design, BUSES, quantized, patience=600)


@contextlib.contextmanager
def serial_link(device, board, design, quantized):
    """A `RegisterLink` to a board on a serial port."""
    line = SerialLine(device, board.baud)
    try:
        yield RegisterLink(FramePort(line), design, BUSES, quantized)
    finally:
        line.close()
