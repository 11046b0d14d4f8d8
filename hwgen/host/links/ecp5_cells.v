// What LiteDRAM's controller takes of an ECP5's pins and flip-flops, for simulation: what Yosys has of them is for synthesis, or has delays.
module OFS1P3BX(input D, input PD, input SCLK, input SP, output reg Q);
  initial Q = 1'b1;
  always @(posedge SCLK) if (PD) Q <= 1'b1; else if (SP) Q <= D;
endmodule

module IFS1P3BX(input D, input PD, input SCLK, input SP, output reg Q);
  initial Q = 1'b1;
  always @(posedge SCLK) if (PD) Q <= 1'b1; else if (SP) Q <= D;
endmodule

module FD1S3BX(input D, input PD, input CK, output reg Q);
  initial Q = 1'b1;
  always @(posedge CK or posedge PD) if (PD) Q <= 1'b1; else Q <= D;
endmodule

module TRELLIS_IO #(parameter DIR = "INPUT") (inout B, input I, input T, output O);
  assign B = T ? 1'bz : I;
  assign O = B;
endmodule

// A clock on a pin: its two levels are constants here.
module ODDRX1F(input D0, input D1, input SCLK, input RST, output Q);
  assign Q = SCLK ? D0 : D1;
endmodule
