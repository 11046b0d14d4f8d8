// Two passes of specimen, compared with what hwgen's golden model says: tokens, a signature for each layer, and which
// weights were read. Plain Verilog, for any simulator. Ends with "PASS", or with $fatal and the first difference.
// Made by hwgen; make it again rather than change it.
/* verilator lint_off WIDTH */
module specimen_tb;
  parameter ROM_FILE = "specimen_rom.hex";
  localparam PASSES = 2;
  localparam LAYERS = 5;
  localparam LIMIT = 1881200;

  function [31:0] signature(input integer index);
    case (index)
      0: signature = 32'h97838672;
      1: signature = 32'h10da7a37;
      2: signature = 32'h8bacc079;
      3: signature = 32'h73e70524;
      4: signature = 32'he24f6f11;
      5: signature = 32'he11bb224;
      6: signature = 32'h9958809a;
      7: signature = 32'h2a038b48;
      8: signature = 32'haef849ef;
      9: signature = 32'hc0964463;
      default: signature = 0;
    endcase
  endfunction

  function [18:0] command(input integer index);
    case (index)
      0: command = 19'h30040;
      1: command = 19'h35841;
      default: command = 0;
    endcase
  endfunction

  function [63:0] outcome(input integer index);
    case (index)
      0: outcome = 64'h961;
      1: outcome = 64'h829;
      default: outcome = 0;
    endcase
  endfunction

  reg [0:0] clk;
  reg [0:0] rst;
  reg [18:0] command__payload;
  reg [0:0] command__valid;
  wire [0:0] command__ready;
  wire [15:0] outcome__payload;
  wire [0:0] outcome__valid;
  reg [0:0] outcome__ready;
  reg [8:0] kv_command__payload;
  reg [0:0] kv_command__valid;
  wire [0:0] kv_command__ready;
  wire [3:0] kv_answer__payload;
  wire [0:0] kv_answer__valid;
  reg [0:0] kv_answer__ready;
  wire [3:0] phase;
  wire [2:0] layer;
  wire [31:0] model_id;
  reg [3:0] counter_address;
  wire [31:0] counter_data;
  reg [2:0] signature_address;
  wire [31:0] signature_data;
  integer number, row, cycles;

  initial clk = 0;
  always #5 clk = ~clk;

  initial cycles = 0;
  always @(posedge clk) begin
    cycles = cycles + 1;
    if (cycles == LIMIT) begin
      $display("FAIL: specimen: pass %0d does not end", number);
      $fatal;
    end
  end

  task check(input [63:0] got, input [63:0] want, input [8*12-1:0] what);
    if (got !== want) begin
      $display("FAIL: specimen: pass %0d: %0s must be %h, not %h", number, what, want, got);
      $fatal;
    end
  endtask

  initial begin
    number = 0;
    rst = 0;
    command__payload = 0;
    command__valid = 0;
    outcome__ready = 1;
    kv_command__payload = 0;
    kv_command__valid = 0;
    kv_answer__ready = 1;
    counter_address = 0;
    signature_address = 0;
    rst = 1;
    repeat (4) @(negedge clk);
    rst = 0;
    for (number = 0; number < PASSES; number = number + 1) begin
      @(negedge clk);
      command__valid = 1;
      command__payload = command(number);
      #1;
      while (!command__ready) begin @(negedge clk); #1; end
      @(negedge clk);
      command__valid = 0;
      #1;
      while (!outcome__valid) begin @(negedge clk); #1; end
      check(outcome__payload, outcome(number), "result");
      check(model_id, 32'h4eaaf8c1, "model_id");
      for (row = 0; row < LAYERS; row = row + 1) begin
        signature_address = row * 1;
        repeat (2) @(negedge clk);
        check(signature_data, signature(number * LAYERS + row), "signature");
      end
    end
    $display("PASS: specimen: %0d passes, %0d cycles", PASSES, cycles);
    $finish;
  end

  specimen #(.ROM_FILE(ROM_FILE)) dut (
      .clk(clk),
      .rst(rst),
      .command__payload(command__payload),
      .command__valid(command__valid),
      .command__ready(command__ready),
      .outcome__payload(outcome__payload),
      .outcome__valid(outcome__valid),
      .outcome__ready(outcome__ready),
      .kv_command__payload(kv_command__payload),
      .kv_command__valid(kv_command__valid),
      .kv_command__ready(kv_command__ready),
      .kv_answer__payload(kv_answer__payload),
      .kv_answer__valid(kv_answer__valid),
      .kv_answer__ready(kv_answer__ready),
      .phase(phase),
      .layer(layer),
      .model_id(model_id),
      .counter_address(counter_address),
      .counter_data(counter_data),
      .signature_address(signature_address),
      .signature_data(signature_data)
  );
endmodule
