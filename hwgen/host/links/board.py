"""Links to a board's machine: on its serial port, or with its UART pins in a simulation of the very top that goes into
the bitstream."""
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib.wiring import In

from ...emit import emit
from ...emit.images import image_name
from ...fpga import files
from ...fpga.boards import Board
from ...fpga.dram import memory_settings, memory_verilog
from ...lib.workdir import work_folder
from ...models.pack import pack
from ...models.quantize import QuantizedModel
from ...params.axi import AxiShape
from ...params.card import card_timing
from ...params.design import Design
from ...params.dram import Ddr3
from ...top.board import BUSES, BoardMachine, memory_buses, memory_ports
from ..diagnosis.faults import Fault, WeightFault, rewired
from .ddr3 import board_with_ddr3, kept_bits, simulated_ddr3
from .frames import FramePort
from ..inputs import writing
from .lines import Line, PinsLine, SerialLine
from .link import Link
from .loader import load_weights
from .machine import broken, flipping
from .register_link import RegisterLink
from .sdram import board_with_chip, card_periods, card_verilog, simulated
from .verilated import WORK, KEEP, KV_MEMORY, cache_folder, compiled, kept, kv_header, remembered, texts

__all__ = ["build_pins", "build_with_chip", "buses", "pins_link", "serial_link", "simulated_pins"]

MAIN, CARD = Path(__file__).with_name("uart_main.cpp"), Path(__file__).with_name("sd_card.v")

#: What stands for the vendor's PLL in a simulation: its clock is the oscillator's, and it is locked at once.
_PLL = """\
module pll (input wire clkin, output wire clkout0, output wire locked);
  assign clkout0 = clkin;
  assign locked = 1'b1;
endmodule
"""

#: The same of two clocks. The chip's is half a cycle behind, as good as a quarter to both.
_PLL_2 = """\
module pll (input wire clkin, output wire clkout0, output wire clkout1, output wire locked);
  assign clkout0 = clkin;
  assign clkout1 = ~clkin;
  assign locked = 1'b1;
endmodule
"""

#: The same of a machine that has not its memory's clock: ``share`` of the pins' cycles, in parts of 2^-32, have a
#: rising edge of it, with one of the memory's clock or between two.
_PLL_SHARE = """\
module pll (input wire clkin, output wire clkout0, output wire locked);
  reg [31:0] phase;
  initial phase = 0;
  always @(posedge clkin) phase <= phase + 32'd{share};
  assign clkout0 = phase[31];
  assign locked = 1'b1;
endmodule
"""

#: Cycles of the pins' clock in which DDR3's controller holds the machine in reset, and some more.
DDR3_RESET = 70_000

#: Around a machine with a memory: its port is the top's, and what is behind it `uart_main.cpp`'s.
_MEMORY_TOP = """\
module top (input wire clk, input wire rx, output wire tx{ports});
  reg [4:0] settled;
  initial settled = 0;
  always @(posedge clk) if (!settled[4]) settled <= settled + 1'b1;
  machine machine (.clk(clk), .rst(!settled[4]), .rx(rx), .tx(tx), .led(){connections});{card}
endmodule
"""


def buses(board: Board) -> AxiShape:
    """The `AxiShape` of a board's machine."""
    return memory_buses(board.memory.axi(), board.card) if board.memory else BUSES


def _component(board, divisor, card_clock):
    more: dict[str, Any] = {"axi": buses(board)} if board.memory else {}
    if board.card:
        more["card"] = card_timing(card_clock or board.clock)
    return lambda design, **wires: BoardMachine(design, divisor=divisor, **more, **wires)


def _memory_top(board, design, card_clock):
    """Verilog of a machine's top in a simulation, whose memory is outside. A card is inside, and its bytes outside."""
    members = memory_ports(design, buses(board))
    connections = "".join(f", .{name}({name})" for name in members)
    members = {name: member for name, member in members.items() if not name.startswith("card_")}
    card, inside = card_verilog(*card_periods(card_clock or board.clock)) if board.card else ("", "")

    def port(name, member):
        width = Shape.cast(member.shape).width
        return f", {'input' if member.flow == In else 'output'} wire [{width - 1}:0] {name}"
    ports = "".join(port(name, member) for name, member in members.items())
    return _MEMORY_TOP.format(ports=ports + card, connections=connections, card=inside)


def build_pins(board: Board, design: Design, quantized: QuantizedModel, *, divisor: int | None = None,
               card_clock: float | None = None) -> Path:
    """Compile a board's top, from its emitted Verilog. Returns the executable; the same top is built once.

    ``divisor`` is the cycles per bit, the board's unless somebody is in a hurry; ``card_clock`` likewise the clock in
    MHz that the reader of a card thinks it has.
    """
    divisor = divisor or files.divisor(board)
    component = _component(board, divisor, card_clock)
    top = _memory_top(board, design, card_clock) if board.memory else files.top(board, "machine")
    cache_folder().mkdir(parents=True, exist_ok=True)
    more = [card_clock] if board.card else []
    return remembered(("pins", top, files.has_pll(board), divisor, design, buses(board), quantized.digest, *more),
                      lambda: _built_pins(board, design, quantized, divisor, top, component))


def _built_pins(board, design, quantized, divisor, top, component):
    with work_folder(cache_folder(), WORK) as work:
        emit(design, quantized, work / "machine", name="machine", component=component)
        (work / "top.v").write_text(top)
        (work / "pll.v").write_text(_PLL)
        pll = files.has_pll(board) and not board.memory
        sources = [work / "machine/machine.v", work / "top.v", *([work / "pll.v"] if pll else [])]
        image = work / "machine" / image_name(design, "machine")
        header = kv_header("top__DOT__machine__DOT__machine__DOT__decoder", design) + f"#define DIVISOR {divisor}\n"
        if board.memory:
            header += f"#define MEMORY_BYTES {board.memory.size}ull\n#define MEMORY_WORD {buses(board).word_bytes}\n"
            header += "#define KV_PORT 1\n" if design.hw.kv_port else ""
        if board.card:
            header, sources = f"{header}#define CARD 1\n", [*sources, CARD]
        return kept("pins", (header, KEEP, texts(*sources, image, MAIN, KV_MEMORY)),
                    lambda folder: [compiled(folder, sources, "top", MAIN, header, opt="-O1"), image])


def build_with_chip(board: Board, design: Design, quantized: QuantizedModel, *, divisor: int | None = None,
                    card_clock: float | None = None) -> Path:
    """As `build_pins`, of the top that goes into the bitstream of a board with a memory: with LiteDRAM's controller,
    and a chip behind its pins (docs/dram.md), and a card if it reads one.

    ToolError if LiteDRAM is not installed.
    """
    divisor = divisor or files.divisor(board)
    memory = board.memory
    assert memory is not None
    cache_folder().mkdir(parents=True, exist_ok=True)
    with work_folder(cache_folder(), WORK) as work:
        emit(design, quantized, work / "machine", name="machine", component=_component(board, divisor, card_clock))
        kv = design.hw.kv_port > 0
        path = memory_verilog(memory, board.memory_mhz, kv=kv, **memory_settings(board)).values()
        top = files.top(board, "machine", kv)
        if isinstance(memory, Ddr3):
            rows = kept_bits(memory, design.memory_bytes)
            share = board.clock / board.memory_mhz / memory.phy.phases
            pll = [_PLL_SHARE.format(share=round(share * 2 ** 32))] * files.has_pll(board)
            around = board_with_ddr3(memory, board.memory_mhz, rows, len(board.pins()["led"]))
            text = simulated_ddr3(memory, [around, top, *path, *pll])
            # the simulation's cycle is one of the pins' clock, and the memory's are some
            numbers = {"DIVISOR": _pin_cycles(board, divisor), "SDRAM_ROWS": 1 << rows, "SETTLED": DDR3_RESET}
        else:
            card = card_periods(card_clock or board.clock) if board.card else None
            text = simulated([board_with_chip(memory, board.clock, len(board.pins()["led"]), card),
                              top, *path, _PLL_2])
            numbers = {"DIVISOR": divisor, "SDRAM_ROWS": memory.rows}
        (work / "board.v").write_text(text)
        sources = [work / "machine/machine.v", work / "board.v", *([CARD] if board.card else [])]
        numbers |= {"SDRAM_BANKS": memory.banks, "SDRAM_COLUMNS": memory.columns,
                    "SDRAM_WORD": memory.data_width // 8} | ({"CARD": 1} if board.card else {})
        header = kv_header("board__DOT__top__DOT__machine__DOT__machine__DOT__decoder", design)
        header += "".join(f"#define {name} {value}u\n" for name, value in numbers.items())
        return _with_chip(header, sources)


def _pin_cycles(board, divisor):
    """Cycles of the pins' clock, a multiple of the memory's, for a bit of ``divisor`` cycles of the machine's.
    ValueError if the ninth bit were missed, as that is no whole number."""
    wanted = board.memory.phy.phases * divisor * board.memory_mhz / board.clock
    if 9.5 * abs(round(wanted) / wanted - 1) + 1 / divisor > 0.45:
        raise ValueError(f"Cycles per bit must be about a whole number of the pins' clock, not {divisor}, "
                         f"which are {wanted:.2f}")
    return round(wanted)


def _with_chip(header: str, sources: Sequence[Path]) -> Path:
    """The executable of a board's top with its chip, built once."""
    return kept("pins", (header, KEEP, texts(*sources, MAIN, KV_MEMORY)),
                lambda folder: [compiled(folder, sources, "board", MAIN, header, opt="-O1")])


@contextlib.contextmanager
def simulated_pins(board: Board, design: Design, quantized: QuantizedModel,
                   stage: Callable[[str], contextlib.AbstractContextManager], *, divisor: int | None = None,
                   faults: Sequence[Fault] = (), **more: Any) -> Iterator[Link]:
    """A `RegisterLink` over the UART pins of a board's simulated top. More arguments are those of `pins_link`; a memory
    holds the weights unless they say ``memory``."""
    building = stage("emitting and building the Verilator model of the board's top")
    with building, rewired(design, faults), writing(cache_folder()):
        executable = build_pins(board, design, quantized, divisor=divisor)
    with contextlib.ExitStack() as stack:
        if board.memory:
            more = {"axi": buses(board)} | more
            if "memory" not in more:
                more["memory"] = stack.enter_context(work_folder(cache_folder(), WORK)) / "memory.bin"
                more["memory"].write_bytes(pack(quantized, design).data)
        yield stack.enter_context(pins_link(executable, design, quantized, faults=faults, **more))


class _PinsLink(RegisterLink):
    """A `RegisterLink` to a simulated board, to which things happen: `PinsLine.flip` and ``control``."""

    def __init__(self, pins, *args, **more):
        super().__init__(*args, **more)
        self.flip, self.control = pins.flip, pins.control


@contextlib.contextmanager
def pins_link(executable: Path, design: Design, quantized: QuantizedModel, *,
              line: Callable[[PinsLine], Line] = lambda line: line, timeout: float = 30.0, attempts: int = 8,
              faults: Sequence[Fault] = (), axi: AxiShape = BUSES, memory: str | Path | None = None,
              loaded: bool = True, card: Sequence[object] | None = None) -> Iterator[Link]:
    """A `RegisterLink` to what `build_pins` made.

    ``line`` may put something between (`NoisyLine`). Of ``faults`` (`hwgen.host.diagnosis.faults`) constants must have
    been in it when it was built. With a `LoaderShape` ``memory`` is the file of the memory's bytes, at its beginning
    (of what `build_with_chip` made: those that its chip has before the first cycle); what it has of the weights is
    checked, and the rest loaded, unless ``loaded`` is False: then nothing is looked at.
    ``card`` is the file of a card's bytes, if there is one, and what it does, as ("card.img", "waits=5"):
    `uart_main.cpp`.
    """
    with contextlib.ExitStack() as stack:
        if axi.loader:
            pins = PinsLine(executable, memory or ("-" if card else None), card or ())
            stack.callback(pins.close)
            link = _PinsLink(pins, FramePort(line(pins), timeout=timeout, attempts=attempts), design, axi, quantized,
                             patience=600, weights=False)
            if loaded:
                link.card()
                load_weights(link, pack(quantized, design))
                link.check_weights()
            for fault in faults:
                if isinstance(fault, WeightFault):
                    pins.control(f"memory flip {fault.beat * design.hw.beat_bytes + fault.byte} {fault.bit}")
            yield flipping(link, faults)
            return
        executable, _ = stack.enter_context(broken(executable, executable.with_name(image_name(design, "machine")),
                                                   design, faults))
        pins = PinsLine(executable)
        stack.callback(pins.close)
        link = _PinsLink(pins, FramePort(line(pins), timeout=timeout, attempts=attempts), design, BUSES, quantized,
                         patience=600)
        yield flipping(link, faults)


@contextlib.contextmanager
def serial_link(device: str, board: Board, design: Design, quantized: QuantizedModel,
                **more: Any) -> Iterator[RegisterLink]:
    """A `RegisterLink` to a board on a serial port. More arguments are those of `RegisterLink`."""
    line = SerialLine(device, board.baud)
    try:
        yield RegisterLink(FramePort(line), design, buses(board), quantized, **more)
    finally:
        line.close()
