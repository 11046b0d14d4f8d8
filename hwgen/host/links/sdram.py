"""A chip of SDRAM and an SD card behind a board's pins, in simulation."""
import math
from collections.abc import Sequence
from pathlib import Path

from ...params.dram import Sdram

__all__ = ["CARD_PINS", "CARD_TELLS", "CARD_TOLD", "LINT", "board_with_chip", "card_periods", "card_verilog",
           "chip_verilog", "simulated"]

_HERE = Path(__file__).parent
_CHIP = """\
wire [{a}:0] sdram_a;
  wire [{ba}:0] sdram_ba;
  wire [{dm}:0] sdram_dm;
  wire [{dq}:0] sdram_dq;
  wire sdram_ras_n, sdram_cas_n, sdram_we_n, sdram_cs_n, sdram_cke;
  sdram_chip #({parameters}) chip (
      .clk({clock}), .cke(sdram_cke), .cs_n(sdram_cs_n), .ras_n(sdram_ras_n), .cas_n(sdram_cas_n), .we_n(sdram_we_n),
      .ba(sdram_ba), .a(sdram_a), .dm(sdram_dm), .dq(sdram_dq){more});
"""

_BOARD = """\
module board (
    input wire clk,
    input wire rx,
    output wire tx,
    output wire [{leds}:0] led,
    input wire flip,
    input wire [{word}:0] flip_address,
    input wire [{data}:0] flip_bits,
    output wire [7:0] chip_error,
    output wire [31:0] chip_error_cycle{card_ports}
);
  wire sdram_clk;
  {chip}{card}
  top top (
      .clk(clk), .rx(rx), .tx(tx), .led(led), .sdram_clk(sdram_clk), .sdram_cke(sdram_cke), .sdram_cs_n(sdram_cs_n),
      .sdram_ras_n(sdram_ras_n), .sdram_cas_n(sdram_cas_n), .sdram_we_n(sdram_we_n), .sdram_ba(sdram_ba),
      .sdram_a(sdram_a), .sdram_dm(sdram_dm), .sdram_dq(sdram_dq){card_pins});
endmodule
"""

#: Pins of a card, and what one in a simulation is told and tells beside them.
CARD_PINS = ("cs_n", "sck", "mosi", "miso")
CARD_TOLD = {"present": 1, "content": 8, "seed": 32, "kind": 2, "deaf": 8, "starts": 8, "waits": 8, "fault": 2,
             "fault_block": 32, "fault_times": 8}
CARD_TELLS = {"at_block": 32, "at_byte": 9, "error": 8, "error_cycle": 32, "blocks": 32}

#: Verilator's warnings on LiteDRAM's Verilog and on the chip, which are not ours to change, or are a model.
LINT = "BLKSEQ COMBDLY PINCONNECTEMPTY PINMISSING"


def chip_verilog(memory: Sdram, clock: float, wire: str = "~clk", **ports: str) -> str:
    """Verilog that puts a `sdram_chip` and the wires ``sdram_*`` of its pins into a module, for an `Sdram` at ``clock``
    MHz.

    ``wire`` is its clock. On a board it comes a quarter of a cycle behind the controller's; half a cycle is the same to
    both.

    ``ports`` are more of its ports and what they are joined with.
    """
    limits = {f"T_{name.upper()}": memory.cycles(name, clock)
              for name in ("rcd", "rp", "ras", "rc", "rrd", "rfc", "wr", "refi")}
    parameters = limits | {"DATA": memory.data_width, "BANK_BITS": memory.banks.bit_length() - 1,
                           "ROW_BITS": memory.rows.bit_length() - 1, "COLUMN_BITS": memory.columns.bit_length() - 1,
                           "CL": memory.cas_latency, "T_MRD": memory.mode_cycles,
                           "POWER_UP": round(memory.power_up * clock / 1000)}
    ports = dict(cut="1'b0", flip="1'b0", flip_address="0", flip_bits="0") | ports
    return _CHIP.format(a=memory.rows.bit_length() - 2, ba=memory.banks.bit_length() - 2, dm=memory.data_width // 8 - 1,
                        dq=memory.data_width - 1, clock=wire,
                        parameters=", ".join(f".{name}({value})" for name, value in parameters.items()),
                        more="".join(f",\n      .{port}({joined})" for port, joined in ports.items()))


def card_periods(clock: float) -> tuple[int, int]:
    """Cycles of a period of a card's clock, at least, before it is ready and behind it: at 400 kHz and 25 MHz, of a
    clock in MHz."""
    return math.ceil(clock * 1e6 / 400e3), math.ceil(clock * 1e6 / 25e6)


def card_verilog(slow: int, fast: int) -> tuple[str, str]:
    """(Ports ``card_*`` of a module, Verilog that puts an `sd_card` into it) for `card_periods`. Its pins are wires,
    but for its clock, which is seen outside."""
    ports = [("input", bits, name) for name, bits in CARD_TOLD.items()]
    ports += [("output", bits, name) for name, bits in CARD_TELLS.items()]
    joined = ", ".join(f".{name}(card_{name})" for name in (*CARD_PINS, *(name for _, _, name in ports)))
    declared = "".join(f", {direction} wire [{bits - 1}:0] card_{name}"
                       for direction, bits, name in [*ports, ("output", 1, "sck")])
    return declared, f"""
  wire card_cs_n, card_mosi, card_miso;
  sd_card #(.SLOW({slow}), .FAST({fast})) card (
      .clk(clk), {joined},
      .logged(), .log_in(), .log_out(), .log_selected());
"""


def board_with_chip(memory: Sdram, clock: float, leds: int, card: tuple[int, int] | None = None) -> str:
    """Verilog of a module ``board``: a board's ``top`` with its chip, and with a card for which ``card`` is
    `card_periods`. A bit of the chip flips with ``flip``; ``chip_error`` is what it complains about."""
    card_ports, inside = card_verilog(*card) if card else ("", "")
    word = (memory.size // (memory.data_width // 8) - 1).bit_length()
    chip = chip_verilog(memory, clock, wire="sdram_clk", flip="flip", flip_address="flip_address",
                        flip_bits="flip_bits", error="chip_error", error_cycle="chip_error_cycle")
    pins = "".join(f", .card_{pin}(card_{pin})" for pin in CARD_PINS) if card else ""
    return _BOARD.format(leds=leds - 1, word=word - 1, data=memory.data_width - 1, chip=chip, card_ports=card_ports,
                         card=inside, card_pins=pins)


def simulated(texts: Sequence[str]) -> str:
    """Verilog texts of a memory path with what a simulation needs beside them: the chip, the FPGA's cells, and no
    warnings."""
    cells = [(_HERE / name).read_text() for name in ("sdram_chip.v", "ecp5_cells.v")]
    top, *others = texts
    lint = [f"/* verilator lint_off {name} */" for name in LINT.split()]
    return "\n".join([*lint, top, *others, *cells])
