"""The model of a chip of SDRAM, which is to find what a controller does wrong."""
from hwgen.host.links.sdram import simulated
from sim.runner import run

LIMITS = dict(POWER_UP=20, T_RCD=3, T_RP=4, T_RAS=7, T_RC=14, T_RRD=3, T_RFC=9, T_WR=2, T_MRD=3, T_REFI=40, POSTPONED=9)
_TOP = """\
module sdram_bench (
    input wire [0:0] clk,
    input wire [0:0] rst,
    input wire [0:0] cut,
    input wire [0:0] cke,
    input wire [0:0] cs_n,
    input wire [0:0] ras_n,
    input wire [0:0] cas_n,
    input wire [0:0] we_n,
    input wire [1:0] ba,
    input wire [10:0] a,
    input wire [1:0] dm,
    input wire [15:0] data,
    input wire [0:0] driven,
    output wire [15:0] seen,
    output wire [7:0] error,
    output wire [31:0] refreshes
);
  wire [15:0] dq;
  assign dq = driven ? data : 16'bz;
  assign seen = dq;
  sdram_chip #({parameters}) chip (
      .clk(clk), .cke(cke), .cs_n(cs_n), .ras_n(ras_n), .cas_n(cas_n), .we_n(we_n), .ba(ba), .a(a), .dm(dm), .dq(dq),
      .cut(cut),
      .flip(1'b0), .flip_address(0), .flip_bits(0), .error(error), .error_cycle(), .refreshes(refreshes),
      .activates(), .reads(),
      .writes());
endmodule
"""


def test_sdram_chip():
    parameters = ", ".join(f".{name}({value})" for name, value in (LIMITS | dict(ROW_BITS=11, COLUMN_BITS=2)).items())
    run(simulated([_TOP.format(parameters=parameters)]), "sdram_bench", "bench_sdram_chip", params={"limits": LIMITS})
