"""A chip of DDR3 behind a board's pins, in simulation."""
from pathlib import Path

from ...fpga.dram_phys import pin_ports
from ...params.dram import Ddr3
from .sdram import LINT

__all__ = ["SKEW", "board_with_ddr3", "chip_parameters", "ddr3_verilog", "kept_bits", "simulated_ddr3"]

_HERE = Path(__file__).parent
#: Slots (halves of a cycle of the chip) by which the lanes' data are late on the way to the FPGA: three bits a lane.
SKEW = 0b010_001

#: The chip's ports, and their pins.
_CHIP = {port: port for port in ("cke", "ras_n", "cas_n", "we_n", "ba", "a", "dm", "dq")} | {"ck": "clk_p",
                                                                                           "dqs": "dqs_p"}
#: By PHY: models of the FPGA's cells.
_CELLS = {"ECP5DDRPHY": ("ecp5_ddr_cells.v", "ecp5_cells.v"), "A7DDRPHY": ("artix7_ddr_cells.v",)}

_BOARD = """\
module board (
    input wire clk,
    input wire rx,
    output wire tx{leds},
    input wire flip,
    input wire [{place}:0] flip_address,
    input wire [{data}:0] flip_bits,
    output wire [7:0] chip_error,
    output wire [31:0] chip_error_cycle
);
{chip}
  top top (.clk(clk), .rx(rx), .tx(tx){led}, {pins});
endmodule
"""


def kept_bits(memory: Ddr3, size: int) -> int:
    """Bits of a row's number in a simulated chip that keeps ``size`` bytes, and not all rows: they would be 512 MB."""
    return max(1, (-(-size // (memory.row_bytes * memory.banks)) - 1).bit_length())


def chip_parameters(memory: Ddr3, clock: float, kept: int) -> dict[str, int]:
    """Of `ddr3_chip`, for a controller at ``clock`` MHz."""
    phases = memory.phy.phases
    limits = {f"T_{name.upper()}": max(4 if name == "rrd" else 1, memory.cycles(name, phases * clock))
              for name in ("rcd", "rp", "ras", "rc", "rrd", "rfc", "wr", "faw", "refi")}
    # cycles of the chip whatever its clock is; T_WTR and T_RTP are 7.5 ns at least, as T_RRD is
    fixed = {"T_MOD": 12, "T_WTR": limits["T_RRD"], "T_RTP": limits["T_RRD"], "T_ZQCS": 64,
             "T_MRD": memory.mode_cycles, "T_DLL": memory.dll_cycles, "T_ZQ": memory.zq_cycles}
    return limits | fixed | {
        "DATA": memory.data_width, "BANK_BITS": memory.banks.bit_length() - 1,
        "ROW_BITS": memory.rows.bit_length() - 1, "COLUMN_BITS": memory.columns.bit_length() - 1, "KEPT_BITS": kept,
        "CL": memory.cas_latency, "CWL": memory.cas_write_latency,
        "T_XPR": limits["T_RFC"] + phases * round(clock / 50),
        "POWER_UP": round(memory.power_up * phases * clock / 1000)}


def ddr3_verilog(memory: Ddr3, clock: float, kept: int, **ports: str) -> str:
    """Verilog that puts a `ddr3_chip` and the wires ``ddram_*`` of its pins into a module whose ``clk`` is the clock of
    the pins: two edges of it are a cycle of the chip. ``ports`` are more of its ports and what they are joined with."""
    pins = [(name, bits) for name, bits, _ in pin_ports(memory)]
    ports = dict(clk="clk", skew=f"{3 * memory.data_width // 8}'d{SKEW}", mute="0", cut="1'b0", flip="1'b0",
                 flip_address="0", flip_bits="0") | ports
    wired = {name.removeprefix("ddram_"): name for name, _ in pins}
    ports |= {port: wired[pin] for port, pin in _CHIP.items()}
    if "cs_n" in wired:         # without it a command is none, and RESET# holds the chip as it is without CKE
        ports |= {port: f"{wired[port]} || {wired['cs_n']}" for port in ("ras_n", "cas_n", "we_n")}
        ports["cke"] = f"{wired['cke']} && {wired['reset_n']}"
    parameters = ", ".join(f".{name}({value})" for name, value in chip_parameters(memory, clock, kept).items())
    wires = "".join(f"  wire {f'[{bits - 1}:0] ' if bits > 1 else ''}{name};\n" for name, bits in pins)
    joined = ",\n      ".join(f".{port}({wire})" for port, wire in ports.items())
    return f"{wires}  ddr3_chip #({parameters}) chip (\n      {joined});\n"


def board_with_ddr3(memory: Ddr3, clock: float, kept: int, leds: int = 0) -> str:
    """Verilog of a module ``board``: a board's ``top`` with its chip, as `board_with_chip` of SDR."""
    place = (memory.banks << kept) * memory.columns - 1
    chip = ddr3_verilog(memory, clock, kept, flip="flip", flip_address="flip_address", flip_bits="flip_bits",
                        error="chip_error", error_cycle="chip_error_cycle")
    return _BOARD.format(place=place.bit_length() - 1, data=memory.data_width - 1, chip=chip,
                         leds=f",\n    output wire [{leds - 1}:0] led" * bool(leds), led=", .led(led)" * bool(leds),
                         pins=", ".join(f".{name}({name})" for name, _, _ in pin_ports(memory)))


def simulated_ddr3(memory: Ddr3, texts: list[str]) -> str:
    """Verilog texts of a DDR3 memory path with what a simulation needs beside them: the chip, the FPGA's cells, and no
    warnings."""
    cells = [(_HERE / name).read_text() for name in ("ddr3_chip.v", *_CELLS[memory.phy.name])]
    return "\n".join([*(f"/* verilator lint_off {name} */" for name in LINT.split()), *texts, *cells])
