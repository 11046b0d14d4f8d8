// What LiteDRAM's ECP5DDRPHY takes of an ECP5 beside ecp5_cells.v, for simulation: a model in slots, halves of a cycle of the pins' clock (ECLK), four of which are a cycle of
// the machine's (SCLK). Cells that have no open model behave here as LiteDRAM's constants need it: commands leave a cycle later than data, what comes in is there after five,
// and a pulse READ opens the gate of a lane's strobe for a burst. Their analogue side (thresholds, jitter, locking of delays) is not there.

// The oscillator's clock is that of the pins; both clocks of the PLL are.
module EHXPLLL (input CLKI, input CLKFB, input RST, input STDBY, input PHASESEL0, input PHASESEL1, input PHASEDIR, input PHASESTEP, input PHASELOADREG, input PLLWAKESYNC,
    input ENCLKOP, input ENCLKOS, input ENCLKOS2, input ENCLKOS3, output CLKOP, output CLKOS, output CLKOS2, output CLKOS3, output LOCK, output INTLOCK, output REFCLK,
    output CLKINTFB);
  parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 1, CLKOS_DIV = 1, CLKOS2_DIV = 1, CLKOS3_DIV = 1, CLKOP_CPHASE = 0, CLKOS_CPHASE = 0, CLKOS2_CPHASE = 0,
      CLKOS3_CPHASE = 0, CLKOP_FPHASE = 0, CLKOS_FPHASE = 0, CLKOS2_FPHASE = 0, CLKOS3_FPHASE = 0;
  parameter CLKOP_ENABLE = "ENABLED", CLKOS_ENABLE = "DISABLED", CLKOS2_ENABLE = "DISABLED", CLKOS3_ENABLE = "DISABLED", FEEDBK_PATH = "CLKOP", PLLRST_ENA = "DISABLED",
      INTFB_WAKE = "DISABLED", DPHASE_SOURCE = "DISABLED", STDBY_ENABLE = "DISABLED", OUTDIVIDER_MUXA = "DIVA", OUTDIVIDER_MUXB = "DIVB", OUTDIVIDER_MUXC = "DIVC",
      OUTDIVIDER_MUXD = "DIVD";
  assign CLKOP = CLKI, CLKOS = CLKI, CLKOS2 = CLKI, CLKOS3 = CLKI, REFCLK = CLKI, CLKINTFB = 1'b0, LOCK = !RST, INTLOCK = !RST;
endmodule

module ECLKBRIDGECS (input CLK0, input CLK1, input SEL, output ECSOUT);
  assign ECSOUT = CLK0;
endmodule

module ECLKSYNCB (input ECLKI, input STOP, output ECLKO);
  assign ECLKO = ECLKI && !STOP;
endmodule

module CLKDIVF #(parameter DIV = "2.0", parameter GSR = "DISABLED") (input CLKI, input RST, input ALIGNWD, output reg CDIVX);
  initial CDIVX = 1'b0;
  always @(posedge CLKI or posedge RST) if (RST) CDIVX <= 1'b0; else CDIVX <= !CDIVX;
endmodule

module DDRDLLA (input CLK, input RST, input UDDCNTLN, input FREEZE, output DDRDEL, output reg LOCK);
  reg [7:0] count;
  initial {LOCK, count} = 9'd0;
  assign DDRDEL = 1'b0;
  always @(posedge CLK) if (RST) {LOCK, count} <= 9'd0; else if (!LOCK) {LOCK, count} <= count + 9'd1;
endmodule

module DELAYG #(parameter DEL_MODE = "USER_DEFINED", parameter DEL_VALUE = 0) (input A, output Z);
  assign Z = A;
endmodule

// Four bits, one behind the other: those that are there when a cycle ends leave in the next one, or `LATE` cycles later.
module ddr_slots #(parameter LATE = 0) (input ECLK, input SCLK, input [3:0] D, output reg Q);
  reg [3:0] words[0:LATE];
  integer i;
  initial begin
    Q = 1'b0;
    for (i = 0; i <= LATE; i = i + 1) words[i] = 4'd0;
  end
  always @(posedge ECLK or negedge ECLK)
    if (ECLK && !SCLK) begin    // a cycle begins
      for (i = LATE; i > 0; i = i - 1) words[i] <= words[i-1];
      words[0] <= D;
      Q <= LATE == 0 ? D[0] : words[LATE == 0 ? 0 : LATE - 1][0];
    end else Q <= words[LATE][ECLK ? 2 : SCLK ? 1 : 3];     // SCLK is that before this edge
endmodule

module ODDRX2F (input D0, input D1, input D2, input D3, input ECLK, input SCLK, input RST, output Q);
  ddr_slots #(.LATE(1)) slots (.ECLK(ECLK), .SCLK(SCLK), .D({D3, D2, D1, D0}), .Q(Q));
endmodule

module ODDRX2DQA (input D0, input D1, input D2, input D3, input DQSW270, input ECLK, input SCLK, input RST, output Q);
  ddr_slots slots (.ECLK(ECLK), .SCLK(SCLK), .D({D3, D2, D1, D0}), .Q(Q));
endmodule

module ODDRX2DQSB (input D0, input D1, input D2, input D3, input DQSW, input ECLK, input SCLK, input RST, output Q);
  ddr_slots slots (.ECLK(ECLK), .SCLK(SCLK), .D({D3, D2, D1, D0}), .Q(Q));
endmodule

module TSHX2DQA (input T0, input T1, input DQSW270, input ECLK, input SCLK, input RST, output Q);
  wire driven;
  ddr_slots slots (.ECLK(ECLK), .SCLK(SCLK), .D(~{T1, T1, T0, T0}), .Q(driven));
  assign Q = !driven;
endmodule

module TSHX2DQSA (input T0, input T1, input DQSW, input ECLK, input SCLK, input RST, output Q);
  wire driven;
  ddr_slots slots (.ECLK(ECLK), .SCLK(SCLK), .D(~{T1, T1, T0, T0}), .Q(driven));
  assign Q = !driven;
endmodule

// DQSR90 is the gate: open in slots in which data are taken. READCLKSEL opens it half a slot later each, and a burst is detected if it opens with the first edge of the strobe or
// in the two slots before. PAUSE holds nothing here.
module DQSBUFM (input DQSI, input READ0, input READ1, input READCLKSEL0, input READCLKSEL1, input READCLKSEL2, input DDRDEL, input ECLK, input SCLK, input RST, input PAUSE,
    input DYNDELAY0, input DYNDELAY1, input DYNDELAY2, input DYNDELAY3, input DYNDELAY4, input DYNDELAY5, input DYNDELAY6, input DYNDELAY7, input RDLOADN, input RDMOVE,
    input RDDIRECTION, input WRLOADN, input WRMOVE, input WRDIRECTION, output reg DQSR90, output DQSW, output DQSW270, output RDPNTR0, output RDPNTR1, output RDPNTR2,
    output WRPNTR0, output WRPNTR1, output WRPNTR2, output DATAVALID, output reg BURSTDET, output RDCFLAG, output WRCFLAG);
  parameter DQS_LI_DEL_ADJ = "FACTORYONLY", DQS_LI_DEL_VAL = 0, DQS_LO_DEL_ADJ = "FACTORYONLY", DQS_LO_DEL_VAL = 0, GSR = "ENABLED";
  reg [5:0] reading;            // READ in the slots before
  reg read;
  reg [1:0] opened;             // slots for which the gate has been open, 3 at most
  reg [3:0] detected;           // in the slots before: seen by a cycle of SCLK
  wire [1:0] later = {READCLKSEL2, READCLKSEL1};
  wire [5:0] now = {reading[4:0], ECLK && !SCLK ? READ0 && READ1 : read};
  assign {DQSW, DQSW270, RDPNTR0, RDPNTR1, RDPNTR2, WRPNTR0, WRPNTR1, WRPNTR2, RDCFLAG, WRCFLAG} = 10'd0;
  assign DATAVALID = BURSTDET;
  initial begin
    reading = 0; read = 0; opened = 0; detected = 0; DQSR90 = 0; BURSTDET = 0;
  end
  always @(posedge ECLK or negedge ECLK) begin
    if (ECLK && !SCLK) read <= READ0 && READ1;
    reading <= now;
    DQSR90 <= now[later] || now[later+1] || now[later+2];
    opened <= !DQSR90 ? 2'd0 : opened == 3 ? 2'd3 : opened + 2'd1;
    // the slot before was one with a first edge, and the gate has been open for one or two
    detected <= {detected[2:0], DQSR90 && DQSI === 1'b1 && (opened == 1 || opened == 2) && !detected[0]};
    if (ECLK && SCLK) BURSTDET <= detected != 0;
  end
endmodule

module IDDRX2DQA (input D, input DQSR90, input RDPNTR0, input RDPNTR1, input RDPNTR2, input WRPNTR0, input WRPNTR1, input WRPNTR2, input ECLK, input SCLK, input RST,
    output reg Q0, output reg Q1, output reg Q2, output reg Q3, output QWL);
  reg [2:0] slots;
  reg [3:0] words[0:4];
  reg last;
  wire bit_now = DQSR90 ? D : last;
  integer i;
  assign QWL = 1'b0;
  initial begin
    slots = 0; last = 0; {Q0, Q1, Q2, Q3} = 4'd0;
    for (i = 0; i < 5; i = i + 1) words[i] = 4'd0;
  end
  always @(posedge ECLK or negedge ECLK) begin
    last <= bit_now;
    slots <= {bit_now, slots[2:1]};
    if (ECLK && !SCLK) begin
      for (i = 4; i > 0; i = i - 1) words[i] <= words[i-1];
      words[0] <= {bit_now, slots};
    end
    if (ECLK && SCLK) {Q3, Q2, Q1, Q0} <= words[4];
  end
endmodule
