// An SD card in SPI mode, at its pins, for simulation: what a host needs that reads blocks (SD Association, Physical Layer Simplified Specification, chapter 7). It distrusts
// its host: what the specification forbids is an error with a code of its own. How long it takes for anything is drawn at random. Its bits come a cycle of `clk` behind the
// fall of `sck`. Bytes of blocks are asked for at `at_block` and `at_byte`, and are to be there some cycles later.
module sd_card #(
    parameter SLOW = 113,       // cycles of a period of sck, at least: until the card is ready (400 kHz) ...
    parameter FAST = 2,         // ... and behind it (25 MHz)
    parameter WAKE = 74,        // clocks before it is selected
    parameter BLOCKS = 1 << 20  // that it has
) (
    input wire clk,
    input wire present,         // there is a card, with power
    input wire cs_n,
    input wire sck,
    input wire mosi,
    output wire miso,
    output reg [31:0] at_block,
    output reg [8:0] at_byte,
    input wire [7:0] content,
    // for a bench: what kind of card it is; what goes wrong; what happened
    input wire [31:0] seed,
    input wire [1:0] kind,      // 0: SDHC or SDXC, 1: standard capacity, 2: version 1
    input wire [7:0] deaf,      // CMD0 that it does not answer
    input wire [7:0] starts,    // answers to ACMD41 that it still starts
    input wire [7:0] waits,     // bytes before a block, at most: at least one
    input wire [1:0] fault,     // of a block: 1: a bit is wrong, 2: it says that it cannot read, 3: it says nothing
    input wire [31:0] fault_block,
    input wire [7:0] fault_times,
    output reg [7:0] error,             // the first, by its code below; 0: none
    output reg [31:0] error_cycle,
    output reg [31:0] blocks,           // that were sent
    output reg logged,                  // changes with each byte that was exchanged: these
    output reg [7:0] log_in,
    output reg [7:0] log_out,
    output reg log_selected
);
  localparam WOKEN = 1,         // a command before enough clocks
      RATE_SLOW = 2,            // a clock that is too fast for a card that is not ready
      RATE_FAST = 3,            // ... for any
      PROTECTION = 4,           // a command with a wrong CRC
      FRAME = 5,                // a byte that begins no command, or a command without its last bit
      ORDER = 6,                // a command that is not allowed now
      ARGUMENT = 7,             // one whose argument is not allowed
      SELECT = 8,               // the card is no longer selected within a command, an answer, or a read
      EARLY = 9;                // a command before the answer to the last one was over for a byte

  reg sck_was, cs_was, out_pin;
  reg [31:0] now, rose, random;
  reg [15:0] woken;
  reg [2:0] bits;
  reg [7:0] in, out, gave;
  reg [47:0] command;
  reg [2:0] collected;
  reg spi, checked, protects, prefixed, ready, reading, sending, stuffs;
  reg [7:0] starts_left, faults, unheard;
  reg [3:0] answer_wait;
  reg [2:0] answer_left;
  reg [39:0] answer;
  reg [3:0] busy_left;
  reg idled, answers;           // a byte has passed since the answer; the one that goes is of it
  reg [1:0] part;               // of a block: wait, bytes, CRC
  reg [7:0] wait_left;
  reg [15:0] sum;
  reg [7:0] got, next;
  reg crc_right;
  assign miso = !present || cs_n || out_pin;

  function [6:0] crc7(input [39:0] data);
    integer i;
    begin
      crc7 = 0;
      for (i = 39; i >= 0; i = i - 1) crc7 = {crc7[5:0], 1'b0} ^ (data[i] ^ crc7[6] ? 7'h09 : 7'h00);
    end
  endfunction

  function [15:0] crc16(input [15:0] sofar, input [7:0] data);
    integer i;
    begin
      crc16 = sofar;
      for (i = 7; i >= 0; i = i - 1) crc16 = {crc16[14:0], 1'b0} ^ (data[i] ^ crc16[15] ? 16'h1021 : 16'h0000);
    end
  endfunction

  task fail(input [7:0] code);
    if (error == 0) begin
      error = code;
      error_cycle = now;
    end
  endtask

  task draw;
    begin
      random = random ^ random << 13;
      random = random ^ random >> 17;
      random = random ^ random << 5;
    end
  endtask

  task reset;           // by CMD0
    begin
      checked = 0; protects = 0; prefixed = 0; ready = 0; reading = 0; sending = 0; stuffs = 0;
      starts_left = starts; answer_wait = 0; answer_left = 0; answer = 0; busy_left = 0; idled = 1; answers = 0; part = 0; wait_left = 0; sum = 0;
    end
  endtask

  task power_up;
    begin
      reset;
      sck_was = 0; cs_was = 1; out_pin = 1; now = 0; rose = 0; random = seed ^ 32'h2545f491; woken = 0; bits = 0; in = 0; out = 8'hff; gave = 8'hff;
      command = 0; collected = 0; spi = 0; faults = 0; unheard = 0; got = 0; next = 8'hff; crc_right = 0; at_block = 0; at_byte = 0;
      error = 0; error_cycle = 0; blocks = 0;
    end
  endtask

  initial begin
    power_up;
    logged = 0; log_in = 0; log_out = 0; log_selected = 0;
  end

  // An R1 with its flags, and ``more`` bytes behind it.
  task reply(input [6:0] flags, input [31:0] rest, input [2:0] more);
    begin
      draw;
      answer_wait = random[19:16] % 9;
      answer = {1'b0, flags, rest};
      answer_left = more + 1;
    end
  endtask

  task wait_for_block;
    begin
      draw;
      part = 0;
      wait_left = random[23:16] % waits;
      at_byte = 0;
    end
  endtask

  task execute;
    begin
      crc_right = command[7:1] == crc7(command[47:8]);
      if (!command[0]) fail(FRAME);
      if (!crc_right) fail(PROTECTION);
      if (!spi && command[45:40] != 0) fail(ORDER);
      else if (!crc_right) reply({6'b000100, !ready}, 0, 0);
      else begin
        case (command[45:40])
          0: begin
            if (!spi && woken < WAKE) fail(WOKEN);
            reset;
            if (unheard < deaf) unheard = unheard + 1;
            else begin
              spi = 1;
              reply(1, 0, 0);
            end
          end
          8: if (kind == 2) reply(5, 0, 0);
            else begin
              if (ready) fail(ORDER);
              if (command[39:16] != 24'h000001) fail(ARGUMENT);
              checked = 1;
              reply(1, {24'h000001, command[15:8]}, 4);
            end
          12: begin
            if (!reading) fail(ORDER);
            reading = 0;
            sending = 0;
            stuffs = 1;
            reply(0, 0, 0);
            busy_left = random[27:24] % 6;
          end
          18: begin
            if (!ready || reading) fail(ORDER);
            if (command[39:8] >= BLOCKS) fail(ARGUMENT);
            reading = 1;
            sending = 1;
            at_block = command[39:8];
            reply(0, 0, 0);
            wait_for_block;
          end
          41: begin
            if (!prefixed || !checked || !protects || ready) fail(ORDER);
            if (!command[38]) fail(ARGUMENT);
            if (starts_left == 0) ready = 1;
            else starts_left = starts_left - 1;
            reply({6'b0, !ready}, 0, 0);
          end
          55: reply({6'b0, !ready}, 0, 0);
          58: reply({6'b0, !ready}, {ready, ready && kind == 0, 30'h00ff8000}, 4);
          59: begin
            if (command[39:9] != 0) fail(ARGUMENT);
            protects = command[8];
            reply({6'b0, !ready}, 0, 0);
          end
          default: begin
            fail(ORDER);
            reply({6'b000010, !ready}, 0, 0);
          end
        endcase
        prefixed = command[45:40] == 55;
      end
    end
  endtask

  // The next byte of blocks, one behind the other.
  task block_byte;
    begin
      case (part)
        0: if (wait_left != 0) wait_left = wait_left - 1;
          else if (fault > 1 && at_block == fault_block && faults < fault_times) begin
            faults = faults + 1;
            sending = 0;
            if (fault == 2) next = 8'h04;
          end else begin
            next = 8'hfe;
            part = 1;
            sum = 0;
          end
        1: begin
          next = content;
          sum = crc16(sum, content);
          if (fault == 1 && at_block == fault_block && faults < fault_times && at_byte == 100) begin
            faults = faults + 1;
            next = content ^ 8'h10;
          end
          if (at_byte == 511) begin
            part = 2;
            blocks = blocks + 1;
            if (!protects) sum = 16'hffff;
          end
          at_byte = at_byte + 1;
        end
        2: begin
          next = sum[15:8];
          part = 3;
        end
        3: begin
          next = sum[7:0];
          at_block = at_block + 1;
          wait_for_block;
        end
      endcase
    end
  endtask

  // A byte came; what the next one out is follows.
  task exchanged;
    begin
      if (collected == 0 && got != 8'hff) begin
        if (got[7:6] != 2'b01) fail(FRAME);
        if (answer_left != 0 || busy_left != 0 || !idled) fail(EARLY);
        command = {40'b0, got};
        collected = 1;
      end else if (collected != 0) begin
        command = {command[39:0], got};
        collected = collected + 1;
      end
      if (answer_left == 0 && busy_left == 0 && !answers) idled = 1;
      if (collected == 6) begin
        collected = 0;
        idled = 0;
        execute;
      end
      next = 8'hff;
      answers = answer_left != 0 || busy_left != 0;
      if (stuffs) begin
        draw;
        next = {1'b0, random[22:16]};
        stuffs = 0;
      end else if (answer_left != 0) begin
        if (answer_wait != 0) answer_wait = answer_wait - 1;
        else begin
          next = answer[39:32];
          answer = answer << 8;
          answer_left = answer_left - 1;
        end
      end else if (busy_left != 0) begin
        next = 0;
        busy_left = busy_left - 1;
      end else if (sending) block_byte;
    end
  endtask

  always @(posedge clk) if (!present) power_up; else begin
    now = now + 1;
    if (cs_n != cs_was) begin
      if (cs_n && (collected != 0 || answer_left != 0 || reading)) fail(SELECT);
      bits = 0;
      collected = 0;
      out = 8'hff;
      out_pin = 1;
    end
    if (sck && !sck_was) begin
      if (!ready && now - rose < SLOW) fail(RATE_SLOW);
      if (now - rose < FAST) fail(RATE_FAST);
      rose = now;
      if (cs_n && mosi && woken != 16'hffff) woken = woken + 1;
      got = {in[6:0], mosi};
      in = got;
      bits = bits + 1;
      if (bits == 0) begin
        log_in = got;
        log_out = cs_n ? 8'hff : gave;
        log_selected = !cs_n;
        if (!cs_n) begin
          exchanged;
          out = next;
          gave = next;
        end
        logged = !logged;       // when all else is there
      end
    end
    if (!sck && sck_was && !cs_n) begin
      out_pin = out[7];
      out = {out[6:0], 1'b1};
    end
    sck_was = sck;
    cs_was = cs_n;
  end
endmodule
