// An instance of specimen, to paste into a module: connect the wires, or put your own signals in their place. Made by hwgen.
wire        specimen_clk;
wire        specimen_rst;
wire [18:0] specimen_command__payload;
wire        specimen_command__valid;
wire        specimen_command__ready;
wire [15:0] specimen_outcome__payload;
wire        specimen_outcome__valid;
wire        specimen_outcome__ready;
wire [8:0]  specimen_kv_command__payload;
wire        specimen_kv_command__valid;
wire        specimen_kv_command__ready;
wire [3:0]  specimen_kv_answer__payload;
wire        specimen_kv_answer__valid;
wire        specimen_kv_answer__ready;
wire [3:0]  specimen_phase;
wire [2:0]  specimen_layer;
wire [31:0] specimen_model_id;
wire [3:0]  specimen_counter_address;
wire [31:0] specimen_counter_data;
wire [2:0]  specimen_signature_address;
wire [31:0] specimen_signature_data;

specimen #(.ROM_FILE("specimen_rom.hex")) specimen_0 (
    .clk                 (specimen_clk),                  // input: clock, rising edge
    .rst                 (specimen_rst),                  // input: synchronous reset, active high, for one cycle or more
    .command__payload    (specimen_command__payload),     // input: an entry of a pass: position 5:0, token 15:6, want 16, last 17, none 18
    .command__valid      (specimen_command__valid),       // input: an entry of a pass is offered
    .command__ready      (specimen_command__ready),       // output: an entry of a pass is taken, if one is offered
    .outcome__payload    (specimen_outcome__payload),     // output: a result: token 9:0, none 10, last 11, error 15:12
    .outcome__valid      (specimen_outcome__valid),       // output: a result is offered
    .outcome__ready      (specimen_outcome__ready),       // input: a result is taken, if one is offered
    .kv_command__payload (specimen_kv_command__payload),  // input: an operation on the KV memory (between passes): op 1:0, length 8:2
    .kv_command__valid   (specimen_kv_command__valid),    // input: an operation on the KV memory (between passes) is offered
    .kv_command__ready   (specimen_kv_command__ready),    // output: an operation on the KV memory (between passes) is taken, if one is offered
    .kv_answer__payload  (specimen_kv_answer__payload),   // output: the answer to it: error 3:0
    .kv_answer__valid    (specimen_kv_answer__valid),     // output: the answer to it is offered
    .kv_answer__ready    (specimen_kv_answer__ready),     // input: the answer to it is taken, if one is offered
    .phase               (specimen_phase),                // output: where the pass is: 0 IDLE, 1 EMBED, 2 NORM_1, 3 QKV, 4 KV_WRITE, 5 ATTENTION, 6 O, 7 NORM_2, 8 GATE_UP, 9 DOWN, 10 NORM_F, 11 HEAD, 12 FINISH
    .layer               (specimen_layer),                // output: the layer that the pass is in
    .model_id            (specimen_model_id),             // output: which weights the latest pass read, from their header; 0 before
    .counter_address     (specimen_counter_address),      // input: number of the counter that is read
    .counter_data        (specimen_counter_data),         // output: that counter, one cycle later
    .signature_address   (specimen_signature_address),    // input: layer * 1 + row of the signature that is read; rows are the entries that were not refused
    .signature_data      (specimen_signature_data)        // output: that signature, one cycle later: CRC-32 of the row's residual after the layer
);
