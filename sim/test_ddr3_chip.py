"""The simulated chip of DDR3 alone."""
from pathlib import Path

from hwgen.host.links import ddr3
from hwgen.params.dram import MT41K256M16
from sim.runner import run

PARAMETERS = ddr3.chip_parameters(MT41K256M16, 60, 2) | {"POWER_UP": 50, "T_RC": 9, "T_FAW": 20}
_TOP = """\
module chip_at_pins (
    input wire clk,
    input wire cut,
    input wire ck,
    input wire cke,
    input wire ras_n,
    input wire cas_n,
    input wire we_n,
    input wire [2:0] ba,
    input wire [14:0] a,
    input wire [1:0] dm,
    input wire dq_drive,
    input wire dqs_drive,
    input wire [15:0] dq_out,
    input wire [1:0] dqs_out,
    output wire [15:0] dq_seen,
    output wire [1:0] dqs_seen,
    input wire [5:0] skew,
    input wire [1:0] mute,
    input wire flip,
    input wire [14:0] flip_address,
    input wire [15:0] flip_bits,
    output wire [7:0] error,
    output wire [31:0] error_cycle,
    output wire [31:0] reads,
    output wire [31:0] writes
);
  wire [15:0] dq;
  wire [1:0] dqs;
  assign dq = dq_drive ? dq_out : 16'bz;
  assign dqs = dqs_drive ? dqs_out : 2'bz;
  assign dq_seen = dq, dqs_seen = dqs;
  ddr3_chip #({parameters}) chip (
      .clk(clk), .cut(cut), .ck(ck), .cke(cke), .ras_n(ras_n), .cas_n(cas_n), .we_n(we_n), .ba(ba), .a(a), .dm(dm),
      .dq(dq), .dqs(dqs), .skew(skew), .mute(mute), .flip(flip), .flip_address(flip_address), .flip_bits(flip_bits),
      .error(error), .error_cycle(error_cycle), .refreshes(), .activates(), .reads(reads), .writes(writes));
endmodule
"""


def test_ddr3_chip():
    parameters = ", ".join(f".{name}({value})" for name, value in PARAMETERS.items())
    chip = (Path(ddr3.__file__).parent / "ddr3_chip.v").read_text()
    text = "\n".join([*(f"/* verilator lint_off {name} */" for name in ddr3.LINT.split()),
                      _TOP.format(parameters=parameters), chip])
    run(text, "chip_at_pins", "bench_ddr3_chip", params={"parameters": PARAMETERS}, sim="verilator")
