// A chip of SDR SDRAM as its data sheet has it, at its pins, for simulation: bursts of one word. It distrusts its controller: what the data sheet forbids is an error with a
// code of its own. Limits are in cycles. Behind power-up each word is a number of its own, hashed from its address: nobody may count on zeros.
module sdram_chip #(
    parameter DATA = 16,
    parameter BANK_BITS = 2,
    parameter ROW_BITS = 13,
    parameter COLUMN_BITS = 9,
    parameter CL = 2,
    parameter T_RCD = 1,
    parameter T_RP = 1,
    parameter T_RAS = 2,
    parameter T_RC = 3,
    parameter T_RRD = 1,
    parameter T_RFC = 3,
    parameter T_WR = 1,
    parameter T_MRD = 2,
    parameter T_REFI = 351,     // a refresh in so many, on average
    parameter POSTPONED = 9,    // refreshes that may be late
    parameter POWER_UP = 4500   // cycles of nothing behind power-up
) (
    input wire clk,
    input wire cke,
    input wire cs_n,
    input wire ras_n,
    input wire cas_n,
    input wire we_n,
    input wire [BANK_BITS-1:0] ba,
    input wire [ROW_BITS-1:0] a,
    input wire [DATA/8-1:0] dm,
    inout wire [DATA-1:0] dq,
    // for a bench: the power is cut; bits of a word flip; what happened
    input wire cut,
    input wire flip,
    input wire [BANK_BITS+ROW_BITS+COLUMN_BITS-1:0] flip_address,
    input wire [DATA-1:0] flip_bits,
    output reg [7:0] error,             // the first, by its code below; 0: none
    output reg [31:0] error_cycle,
    output reg [31:0] refreshes,
    output reg [31:0] activates,
    output reg [31:0] reads,
    output reg [31:0] writes
);
  localparam EARLY = 1,         // a command before the power-up is over, or without CKE
      UNREADY = 2,              // a row is opened before all banks were precharged, refreshed twice, and the mode register loaded
      BUSY = 3,                 // a command while a refresh or a load of the mode register goes on
      OPEN = 4,                 // a row is opened in a bank with an open row
      CLOSED = 5,               // a read or write in a bank without one
      RCD = 6, RP = 7, RAS = 8, RC = 9, RRD = 10, WR = 11,
      REFRESH_OPEN = 12,        // a refresh while a row is open
      REFRESH_LATE = 13,
      MODE_OPEN = 14,           // the mode register is loaded while a row is open
      MODE = 15,                // a read or write in another mode than bursts of one word with latency CL
      CONTENTION = 16,          // a write while data of a read are on the pins
      UNKNOWN = 17;             // a command that is none
  localparam BANKS = 1 << BANK_BITS, WORDS = 1 << (BANK_BITS + ROW_BITS + COLUMN_BITS);

  reg [DATA-1:0] cells[0:WORDS-1] /* verilator public_flat_rw */;  // a simulation may begin with what was loaded before
  reg [BANKS-1:0] open;
  reg [ROW_BITS-1:0] row[0:BANKS-1];
  reg [31:0] opened[0:BANKS-1], closed[0:BANKS-1], written[0:BANKS-1];  // cycles from which on their limits count
  reg [31:0] now, ready, due, last_opened;
  reg signed [31:0] owed;
  reg precharged, loaded;
  reg [1:0] refreshed;
  reg [ROW_BITS-1:0] mode;
  reg [DATA-1:0] pipe[0:CL];
  reg [CL:0] driven;
  reg [DATA/8-1:0] masked[0:1];
  wire [2:0] command = {ras_n, cas_n, we_n};
  wire [BANK_BITS+ROW_BITS+COLUMN_BITS-1:0] address = {ba, row[ba], a[COLUMN_BITS-1:0]};
  integer i;

  task power_up;
    begin
      for (i = 0; i < WORDS; i = i + 1) cells[i] = i[DATA-1:0] * 16'd40503 ^ i[23:8];
      for (i = 0; i < BANKS; i = i + 1) begin opened[i] = 0; closed[i] = 0; written[i] = 0; row[i] = 0; end
      for (i = 0; i <= CL; i = i + 1) pipe[i] = 0;
      open = 0; now = 0; ready = 0; due = T_REFI; last_opened = 0; owed = 0; precharged = 0; loaded = 0; refreshed = 0; mode = 0; driven = 0;
      masked[0] = 0; masked[1] = 0;
      error = 0; error_cycle = 0; refreshes = 0; activates = 0; reads = 0; writes = 0;
    end
  endtask

  initial power_up;

  task fail(input [7:0] code);
    if (error == 0) begin
      error = code;
      error_cycle = now;
    end
  endtask

  // a precharge of one bank, from ``from`` on
  task close(input [BANK_BITS-1:0] bank, input [31:0] from);
    begin
      open[bank] = 0;
      closed[bank] = from;
    end
  endtask

  genvar lane;
  generate
    for (lane = 0; lane < DATA / 8; lane = lane + 1) begin : lanes
      assign dq[8*lane+:8] = driven[CL-1] && !masked[1][lane] ? pipe[CL-1][8*lane+:8] : 8'bz;
    end
  endgenerate

  always @(posedge clk) if (cut) power_up; else begin
    now = now + 1;
    for (i = CL; i > 0; i = i - 1) pipe[i] = pipe[i-1];
    driven = driven << 1;
    masked[1] = masked[0];
    masked[0] = dm;
    if (flip) cells[flip_address] = cells[flip_address] ^ flip_bits;
    if (refreshed == 2 && now == due) begin
      owed = owed + 1;
      due = due + T_REFI;
      if (owed > POSTPONED) fail(REFRESH_LATE);
    end
    if (!cs_n && command != 3'b111) begin
      if (now < POWER_UP || !cke) fail(EARLY);
      if (now < ready) fail(BUSY);
      case (command)
        3'b000: begin   // load mode register
          if (open != 0) fail(MODE_OPEN);
          for (i = 0; i < BANKS; i = i + 1) if (now < closed[i] + T_RP) fail(RP);
          mode = a;
          loaded = 1;
          ready = now + T_MRD;
        end
        3'b001: begin   // refresh
          if (open != 0) fail(REFRESH_OPEN);
          if (!precharged) fail(UNREADY);
          for (i = 0; i < BANKS; i = i + 1) if (now < closed[i] + T_RP) fail(RP);
          refreshes = refreshes + 1;
          ready = now + T_RFC;
          if (refreshed != 2) begin
            refreshed = refreshed + 1;
            due = now + T_REFI;
            owed = 0;
          end else if (owed > -POSTPONED) owed = owed - 1;
        end
        3'b010: begin   // precharge
          for (i = 0; i < BANKS; i = i + 1)
            if (a[10] || i[BANK_BITS-1:0] == ba) begin
              if (open[i]) begin
                if (now < opened[i] + T_RAS) fail(RAS);
                if (now < written[i] + T_WR) fail(WR);
                close(i[BANK_BITS-1:0], now);
              end
              if (!precharged) closed[i] = now;
            end
          if (a[10]) precharged = 1;
        end
        3'b011: begin   // activate
          if (!precharged || !loaded || refreshed != 2) fail(UNREADY);
          if (open[ba]) fail(OPEN);
          if (now < closed[ba] + T_RP) fail(RP);
          if (activates != 0 && now < opened[ba] + T_RC) fail(RC);
          if (activates != 0 && now < last_opened + T_RRD) fail(RRD);
          open[ba] = 1;
          row[ba] = a;
          opened[ba] = now;
          last_opened = now;
          written[ba] = 0;
          activates = activates + 1;
        end
        3'b100, 3'b101: begin   // write, read
          if (!open[ba]) fail(CLOSED);
          if (now < opened[ba] + T_RCD) fail(RCD);
          if (mode != CL << 4) fail(MODE);
          if (command == 3'b100) begin
            if (driven[CL-1] || driven[CL]) fail(CONTENTION);
            for (i = 0; i < DATA / 8; i = i + 1) if (!dm[i]) cells[address][8*i+:8] = dq[8*i+:8];
            written[ba] = now;
            writes = writes + 1;
            // with A10 the bank is precharged behind it
            if (a[10]) close(ba, now + T_WR > opened[ba] + T_RAS ? now + T_WR : opened[ba] + T_RAS);
          end else begin
            pipe[0] = cells[address];
            driven[0] = 1;
            reads = reads + 1;
            if (a[10]) close(ba, now + 1 > opened[ba] + T_RAS ? now + 1 : opened[ba] + T_RAS);
          end
        end
        default: fail(UNKNOWN);         // burst stop: there are no bursts
      endcase
    end
  end
endmodule
