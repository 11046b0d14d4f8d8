// A chip of DDR3 SDRAM as its data sheet has it, at its pins, for simulation: bursts of eight words. It looks at them at every edge of `clk`, a slot, which is half a cycle of
// its own clock ck. It distrusts its controller: what the data sheet forbids is an error with a code of its own. Limits are in cycles of ck. Behind power-up each word is a
// number of its own, hashed from its address. It keeps the first rows of each bank; others are an error. Its clock has no phase but that of its pins, and no lowest frequency.
module ddr3_chip #(
    parameter DATA = 16,
    parameter BANK_BITS = 3,
    parameter ROW_BITS = 15,
    parameter KEPT_BITS = 8,    // of a row: those that it keeps
    parameter COLUMN_BITS = 10,
    parameter CL = 6,
    parameter CWL = 5,
    parameter T_RCD = 2,
    parameter T_RP = 2,
    parameter T_RAS = 5,
    parameter T_RC = 6,
    parameter T_RRD = 4,
    parameter T_FAW = 5,
    parameter T_RFC = 32,
    parameter T_WR = 2,
    parameter T_WTR = 4,
    parameter T_RTP = 4,
    parameter T_MRD = 4,
    parameter T_MOD = 12,
    parameter T_XPR = 34,
    parameter T_DLL = 512,
    parameter T_ZQ = 512,
    parameter T_ZQCS = 64,
    parameter T_REFI = 937,     // a refresh in so many, on average
    parameter POSTPONED = 9,    // refreshes that may be late
    parameter POWER_UP = 60000  // cycles without CKE
) (
    input wire clk,
    input wire ck,
    input wire cke,
    input wire ras_n,
    input wire cas_n,
    input wire we_n,
    input wire [BANK_BITS-1:0] ba,
    input wire [ROW_BITS-1:0] a,
    input wire [DATA/8-1:0] dm,
    inout wire [DATA-1:0] dq,
    inout wire [DATA/8-1:0] dqs,
    // for a bench: the power is cut; slots by which what a lane reads is late, and a lane that says nothing; bits of a word flip; what happened
    input wire cut,
    input wire [3*DATA/8-1:0] skew,
    input wire [DATA/8-1:0] mute,
    input wire flip,
    input wire [BANK_BITS+KEPT_BITS+COLUMN_BITS-1:0] flip_address,
    input wire [DATA-1:0] flip_bits,
    output reg [7:0] error,             // the first, by its code below; 0: none
    output reg [31:0] error_cycle,
    output reg [31:0] refreshes,
    output reg [31:0] activates,
    output reg [31:0] reads,            // bursts
    output reg [31:0] writes
);
  localparam EARLY = 1,         // a command before the power-up is over, or without CKE
      UNREADY = 2,              // a row is opened before all mode registers were loaded and the drivers calibrated
      BUSY = 3,                 // a command while a refresh, a calibration or a load of a mode register goes on
      OPEN = 4,                 // a row is opened in a bank with an open row
      CLOSED = 5,               // a read or write in a bank without one
      RCD = 6, RP = 7, RAS = 8, RC = 9, RRD = 10, WR = 11,
      REFRESH_OPEN = 12,        // a refresh, or a calibration, while a row is open
      REFRESH_LATE = 13,
      MODE_OPEN = 14,           // a mode register is loaded while a row is open
      MODE = 15,                // a read or write in another mode than bursts of eight words with latencies CL and CWL
      CONTENTION = 16,          // a write's data while those of a read are on the pins
      FAW = 18, WTR = 19, RTP = 20,
      CCD = 21,                 // a read or write that begins before the one before has its four cycles
      COLUMN = 22,              // a burst that does not begin where eight words do
      STROBE = 23,              // a write's data come without an edge of their strobe
      DLL = 24,                 // a read before the DLL has locked
      OUTSIDE = 25;             // a row that is not kept
  localparam BANKS = 1 << BANK_BITS, PLACE = BANK_BITS + KEPT_BITS + COLUMN_BITS, WORDS = 1 << PLACE, LANES = DATA / 8;
  // slots from a command, seen a slot late, to its data: those of a read are driven, those of a write have been seen
  localparam READ = 2 * CL - 1, WRITE = 2 * CWL - 1, LAST = READ + 9, LAST_WRITE = WRITE + 8;

  reg [DATA-1:0] cells[0:WORDS-1] /* verilator public_flat_rw */;  // a simulation may begin with what was loaded before
  reg [BANKS-1:0] open;
  reg [ROW_BITS-1:0] row[0:BANKS-1];
  reg [31:0] opened[0:BANKS-1], closed[0:BANKS-1], written[0:BANKS-1], read[0:BANKS-1];  // cycles from which on their limits count
  reg [31:0] now, ready, modes_ready, due, low, locked, four[0:3], last_burst, last_written;
  reg signed [31:0] owed;
  reg powered, calibrated, refreshed, was_ck, was_cke, activated;
  reg [3:0] loaded;
  reg [ROW_BITS-1:0] mode[0:3];
  reg [LAST:0] q_driven, q_strobed, q_strobe;         // what is driven so many slots later
  reg [DATA-1:0] q_data[0:LAST];
  reg [LAST_WRITE:0] w_there;
  reg [PLACE-1:0] w_place[0:LAST_WRITE];
  reg [DATA-1:0] was_dq;
  reg [LANES-1:0] was_dm, was_dqs;
  reg [7:0] late_driven, late_strobed, late_strobe;   // of the slots before
  reg [DATA-1:0] late_data[0:7];
  wire [2:0] command = {ras_n, cas_n, we_n};
  wire [PLACE-1:0] place = {ba, row[ba][KEPT_BITS-1:0], a[COLUMN_BITS-1:0]};
  reg [LANES-1:0] driven, strobed, strobe;            // in this slot
  reg [DATA-1:0] data;
  integer i, n;

  task power_up;
    begin
      for (i = 0; i < WORDS; i = i + 1) cells[i] = i[DATA-1:0] * 16'd40503 ^ i[23:8];
      for (i = 0; i < BANKS; i = i + 1) begin opened[i] = 0; closed[i] = 0; written[i] = 0; read[i] = 0; row[i] = 0; end
      for (i = 0; i < 4; i = i + 1) begin mode[i] = 0; four[i] = 0; end
      for (i = 0; i <= LAST; i = i + 1) q_data[i] = 0;
      for (i = 0; i <= LAST_WRITE; i = i + 1) w_place[i] = 0;
      for (i = 0; i < 8; i = i + 1) late_data[i] = 0;
      open = 0; now = 0; ready = 0; modes_ready = 0; due = 0; low = 0; locked = 0; last_burst = 0; last_written = 0; owed = 0;
      powered = 0; calibrated = 0; refreshed = 0; was_ck = 0; was_cke = 0; activated = 0; loaded = 0;
      q_driven = 0; q_strobed = 0; q_strobe = 0; w_there = 0; was_dq = 0; was_dm = 0; was_dqs = 0;
      late_driven = 0; late_strobed = 0; late_strobe = 0;
      error = 0; error_cycle = 0; refreshes = 0; activates = 0; reads = 0; writes = 0;
    end
  endtask

  initial begin
    power_up;
    driven = 0; strobed = 0; strobe = 0; data = 0;
  end

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

  task all_closed(input [7:0] code);
    begin
      if (open != 0) fail(code);
      for (i = 0; i < BANKS; i = i + 1) if (now < closed[i] + T_RP) fail(RP);
    end
  endtask

  task burst;
    begin
      if (!open[ba]) fail(CLOSED);
      if (now < opened[ba] + T_RCD) fail(RCD);
      if (mode[0][1:0] != 0 || {mode[0][6:4], mode[0][2]} != (CL - 4) * 2 || mode[2][5:3] != CWL - 5) fail(MODE);
      if (last_burst != 0 && now < last_burst + 4) fail(CCD);
      if (a[2:0] != 0) fail(COLUMN);
      last_burst = now;
      if (command == 3'b100) begin
        for (n = 0; n < 8; n = n + 1) begin
          w_there[WRITE+n] = 1;
          w_place[WRITE+n] = place + n[PLACE-1:0];
        end
        last_written = now + CWL + 4;
        written[ba] = now + CWL + 4;
        writes = writes + 1;
        if (a[10]) close(ba, written[ba] + T_WR > opened[ba] + T_RAS ? written[ba] + T_WR : opened[ba] + T_RAS);
      end else begin
        if (now < locked) fail(DLL);
        if (last_written != 0 && now < last_written + T_WTR) fail(WTR);
        q_strobed[READ-2+:11] = 11'h7ff;
        for (n = 0; n < 8; n = n + 1) begin
          q_driven[READ+n] = 1;
          q_strobe[READ+n] = !n[0];
          q_data[READ+n] = cells[place+n[PLACE-1:0]];
        end
        read[ba] = now;
        reads = reads + 1;
        if (a[10]) close(ba, now + T_RTP > opened[ba] + T_RAS ? now + T_RTP : opened[ba] + T_RAS);
      end
    end
  endtask

  task cycle;   // a rising edge of ck
    begin
      now = now + 1;
      if (cke && !was_cke) begin
        if (now - low >= POWER_UP) powered = 1;
        ready = now + T_XPR;
      end
      if (!cke && was_cke) low = now;
      was_cke = cke;
      if (refreshed && now == due) begin
        owed = owed + 1;
        due = due + T_REFI;
        if (owed > POSTPONED) fail(REFRESH_LATE);
      end
      if (command != 3'b111) begin
        if (!powered || !cke) fail(EARLY);
        if (now < ready || command != 3'b000 && now < modes_ready) fail(BUSY);
        case (command)
          3'b000: begin   // load a mode register
            all_closed(MODE_OPEN);
            mode[ba[1:0]] = a;
            loaded[ba[1:0]] = 1;
            if (ba[1:0] == 0 && a[8]) locked = now + T_DLL;
            ready = now + T_MRD;
            modes_ready = now + T_MOD;
          end
          3'b001: begin   // refresh
            all_closed(REFRESH_OPEN);
            if (!calibrated) fail(UNREADY);
            refreshes = refreshes + 1;
            ready = now + T_RFC;
            if (!refreshed) due = now + T_REFI;
            else if (owed > -POSTPONED) owed = owed - 1;
            refreshed = 1;
          end
          3'b010:         // precharge
            for (i = 0; i < BANKS; i = i + 1)
              if ((a[10] || i[BANK_BITS-1:0] == ba) && open[i]) begin
                if (now < opened[i] + T_RAS) fail(RAS);
                if (now < written[i] + T_WR) fail(WR);
                if (read[i] != 0 && now < read[i] + T_RTP) fail(RTP);
                close(i[BANK_BITS-1:0], now);
              end
          3'b011: begin   // activate
            if (loaded != 4'hf || !calibrated) fail(UNREADY);
            if (open[ba]) fail(OPEN);
            if (now < closed[ba] + T_RP) fail(RP);
            if (opened[ba] != 0 && now < opened[ba] + T_RC) fail(RC);
            if (activated && now < four[0] + T_RRD) fail(RRD);
            if (four[3] != 0 && now < four[3] + T_FAW) fail(FAW);
            if (a[ROW_BITS-1:KEPT_BITS] != 0) fail(OUTSIDE);
            for (i = 3; i > 0; i = i - 1) four[i] = four[i-1];
            four[0] = now;
            activated = 1;
            open[ba] = 1;
            row[ba] = a;
            opened[ba] = now;
            written[ba] = 0;
            read[ba] = 0;
            activates = activates + 1;
          end
          3'b100, 3'b101: burst;
          default: begin  // 110: the drivers are calibrated, long or short
            all_closed(REFRESH_OPEN);
            if (a[10]) calibrated = 1; else if (!calibrated) fail(UNREADY);
            ready = now + (a[10] ? T_ZQ : T_ZQCS);
          end
        endcase
      end
    end
  endtask

  always @(posedge clk or negedge clk) if (cut) power_up; else begin
    if (flip && clk) cells[flip_address] = cells[flip_address] ^ flip_bits;
    // what was driven in the slot before is over
    late_driven = {late_driven[6:0], q_driven[0]};
    late_strobed = {late_strobed[6:0], q_strobed[0]};
    late_strobe = {late_strobe[6:0], q_strobe[0]};
    for (i = 7; i > 0; i = i - 1) late_data[i] = late_data[i-1];
    late_data[0] = q_data[0];
    q_driven = q_driven >> 1;
    q_strobed = q_strobed >> 1;
    q_strobe = q_strobe >> 1;
    for (i = 0; i < LAST; i = i + 1) q_data[i] = q_data[i+1];
    // a word of a write was there before the edge of the strobe
    if (w_there[0]) begin
      if (late_driven != 0 || q_driven[0]) fail(CONTENTION);
      for (i = 0; i < LANES; i = i + 1) begin
        if (dqs[i] === was_dqs[i] || dqs[i] !== !w_place[0][0]) fail(STROBE);
        if (!was_dm[i]) cells[w_place[0]][8*i+:8] = was_dq[8*i+:8];
      end
    end
    w_there = w_there >> 1;
    for (i = 0; i < LAST_WRITE; i = i + 1) w_place[i] = w_place[i+1];
    if (ck && !was_ck) cycle;
    for (i = 0; i < LANES; i = i + 1) begin
      driven[i] <= (skew[3*i+:3] == 0 ? q_driven[0] : late_driven[skew[3*i+:3]-1]) && !mute[i];
      strobed[i] <= (skew[3*i+:3] == 0 ? q_strobed[0] : late_strobed[skew[3*i+:3]-1]) && !mute[i];
      strobe[i] <= skew[3*i+:3] == 0 ? q_strobe[0] : late_strobe[skew[3*i+:3]-1];
      data[8*i+:8] <= skew[3*i+:3] == 0 ? q_data[0][8*i+:8] : late_data[skew[3*i+:3]-1][8*i+:8];
    end
    was_ck = ck;
    was_dq = dq;
    was_dm = dm;
    was_dqs = dqs;
  end

  genvar lane;
  generate
    for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
      assign dq[8*lane+:8] = driven[lane] ? data[8*lane+:8] : 8'bz;
      assign dqs[lane] = strobed[lane] ? strobe[lane] : 1'bz;
    end
  endgenerate
endmodule
