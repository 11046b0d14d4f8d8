// What LiteDRAM's A7DDRPHY takes of an Artix-7, for simulation: a model in slots, halves of a cycle of the pins' clock (CLK), eight of which are a cycle of the memory's (CLKDIV).
// There is no open model of the serializers (the vendor's are encrypted). Here a word leaves eight slots after it was taken, and what comes in is there two cycles after its last
// bit: LiteDRAM's constants are right with these. A phase of a quarter of a cycle is half a cycle here. Delays have 16 steps in a slot, and what is taken near the end of a slot is
// that slot's or the next one's. There is no jitter, no locking, and no skew between the pins of a lane.

// The oscillator's clock is that of the pins. Outputs in LiteDRAM's order: reference of the delays, memory, pins, strobes.
module PLLE2_ADV (input CLKIN1, input CLKFBIN, input RST, input PWRDWN, output CLKFBOUT, output CLKOUT0, output CLKOUT1, output CLKOUT2, output CLKOUT3, output LOCKED);
  parameter CLKFBOUT_MULT = 1, CLKIN1_PERIOD = 10.0, CLKOUT0_DIVIDE = 1, CLKOUT0_PHASE = 0, CLKOUT1_DIVIDE = 1, CLKOUT1_PHASE = 0, CLKOUT2_DIVIDE = 1, CLKOUT2_PHASE = 0,
      CLKOUT3_DIVIDE = 1, CLKOUT3_PHASE = 0, DIVCLK_DIVIDE = 1, REF_JITTER1 = 0.01, STARTUP_WAIT = "FALSE";
  reg [1:0] count;
  initial count = 0;
  always @(posedge CLKIN1) count <= count + 2'd1;
  assign CLKFBOUT = 1'b0, CLKOUT0 = count[0], CLKOUT1 = count[1], CLKOUT2 = CLKIN1, CLKOUT3 = !CLKIN1, LOCKED = !RST;
endmodule

module BUFG (input I, output O);
  assign O = I;
endmodule

module FDCE #(parameter INIT = 1'b0) (input C, input CE, input CLR, input D, output reg Q);
  initial Q = INIT;
  always @(posedge C or posedge CLR) if (CLR) Q <= 1'b0; else if (CE) Q <= D;
endmodule

module FDPE #(parameter INIT = 1'b1) (input C, input CE, input PRE, input D, output reg Q);
  initial Q = INIT;
  always @(posedge C or posedge PRE) if (PRE) Q <= 1'b1; else if (CE) Q <= D;
endmodule

module IDELAYCTRL (input REFCLK, input RST, output RDY);
  assign RDY = !RST;
endmodule

module OBUFDS (input I, output O, output OB);
  assign O = I, OB = !I;
endmodule

module IOBUF (input I, input T, output O, inout IO);
  assign IO = T ? 1'bz : I;
  assign O = IO;
endmodule

module IOBUFDS (input I, input T, output O, inout IO, inout IOB);
  assign IO = T ? 1'bz : I;
  assign IOB = T ? 1'bz : !I;
  assign O = IO;
endmodule

// `slot` is the number of the edge that comes, of a cycle of CLKDIV: that cycle begins with edge 0, where CLKDIV has its old level yet. Where CLK is half a cycle late a word does.
module OSERDESE2 (input CLK, input CLKDIV, input D1, input D2, input D3, input D4, input D5, input D6, input D7, input D8, input OCE, input RST, input T1, input T2, input T3,
    input T4, input TCE, input TBYTEIN, input SHIFTIN1, input SHIFTIN2, output OQ, output OFB, output TQ, output TFB, output TBYTEOUT, output SHIFTOUT1, output SHIFTOUT2);
  parameter SERDES_MODE = "MASTER", DATA_WIDTH = 8, TRISTATE_WIDTH = 1, DATA_RATE_OQ = "DDR", DATA_RATE_TQ = "BUF";
  reg [7:0] word, old, bits;
  reg [2:0] slot;
  reg was;
  initial {word, old, bits, slot, was} = 28'd0;
  assign OQ = bits[0], TQ = T1, {OFB, TFB, TBYTEOUT, SHIFTOUT1, SHIFTOUT2} = 5'd0;
  always @(posedge CLKDIV) begin
    old <= word;
    word <= RST ? 8'd0 : {D8, D7, D6, D5, D4, D3, D2, D1};
  end
  always @(posedge CLK or negedge CLK) begin
    was <= CLKDIV;
    slot <= CLKDIV && !was ? 3'd2 : slot + 3'd1;
    bits <= CLK && slot == 0 ? word : CLK && slot == 1 ? old : bits >> 1;
  end
endmodule

module ISERDESE2 (input CLK, input CLKB, input CLKDIV, input CE1, input CE2, input D, input DDLY, input RST, input BITSLIP, input DYNCLKDIVSEL, input DYNCLKSEL, input OCLK,
    input OCLKB, input OFB, input SHIFTIN1, input SHIFTIN2, input CLKDIVP, output O, output reg Q1, output reg Q2, output reg Q3, output reg Q4, output reg Q5, output reg Q6,
    output reg Q7, output reg Q8, output SHIFTOUT1, output SHIFTOUT2);
  parameter SERDES_MODE = "MASTER", INTERFACE_TYPE = "NETWORKING", DATA_WIDTH = 8, DATA_RATE = "DDR", NUM_CE = 1, IOBDELAY = "IFD";
  reg [7:0] bits, word;
  initial {bits, word, Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8} = 24'd0;
  assign O = D, {SHIFTOUT1, SHIFTOUT2} = 2'd0;
  always @(posedge CLK or negedge CLK) bits <= {DDLY, bits[7:1]};
  always @(posedge CLKDIV) begin
    word <= bits;
    {Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8} <= RST ? 8'd0 : word;
  end
endmodule

// A slot's bit comes `LATE` steps late by itself. Its clock of slots is that of the controller in which the cell is.
module IDELAYE2 (input C, input CE, input INC, input LD, input LDPIPEEN, input REGRST, input CINVCTRL, input [4:0] CNTVALUEIN, input IDATAIN, input DATAIN, output DATAOUT,
    output [4:0] CNTVALUEOUT);
  parameter [4:0] IDELAY_VALUE = 0;
  parameter IDELAY_TYPE = "FIXED", DELAY_SRC = "IDATAIN", CINVCTRL_SEL = "FALSE", HIGH_PERFORMANCE_MODE = "FALSE", PIPE_SEL = "FALSE", REFCLK_FREQUENCY = 200.0,
      SIGNAL_PATTERN = "DATA";
  localparam LATE = 6'd5;
  reg [4:0] taps;
  reg [2:0] old;     // bits of the slots before, the last one first
  reg either;
  wire [5:0] steps = taps + LATE;
  wire [3:0] bits = {old, IDATAIN};
  wire [1:0] whole = steps[5:4];
  initial {taps, old, either} = 9'd0;
  assign CNTVALUEOUT = taps;
  assign DATAOUT = steps[3:0] == 0 && either ? bits[whole-1] : steps[3:0] == 15 && either ? bits[whole+1] : bits[whole];
  always @(posedge C) taps <= LD ? IDELAY_VALUE : CE ? (INC ? taps + 5'd1 : taps - 5'd1) : taps;
  always @(posedge memory_controller.sys4x_clk or negedge memory_controller.sys4x_clk) begin
    old <= {old[1:0], IDATAIN};
    either <= !either;
  end
endmodule
