#!/usr/bin/env bash
# LiteDRAM 2024.12 without a CPU: who plays the start-up that its generator writes gets a memory that answers OKAY and keeps nothing.
#
# For a core without a CPU (`"cpu": "None"`, SDR, an AXI port) `litedram_gen` writes the start-up as C: `init_sequence()` in sdram_phy.h, all registers with their
# values. A state machine beside the core can play it over `wb_ctrl`, and then set `ddrctrl_init_done`, upon which the port opens. But the sequence takes the
# pins from the controller ("software control") and does not give them back: a function of LiteX's BIOS does that afterwards, which is not among the files.
# Then each write is answered with OKAY, each read too, no error is set, and not one command leaves the chip's pins. One register more,
# `sdram_dfii_control` = DFII_CONTROL_SEL, and the same write comes out as an activation and a write. One would guess that a sequence called
# "init" ends with a memory that can be used, or that a port without a memory is not ready.
#
# Two things beside it: the bidirectional data pins of the core are declared `input` in its Verilog. And while addresses wait for the start-up, the first word of a
# write is taken before it (WREADY is 1, AWREADY 0), so valid data may leave long before its address can.
#
# The core is simulated by Yosys, with models of its flip-flops at the pins, once with the sequence as it is and once with that register.
#
# Seen with litedram 2024.12, litex 2024.12, migen 0.10.0, pyosys 0.70:
#   before the start-up: wready 1, awready 0; sdram_dq is an input
#   init_sequence, init_done: write answered 0, read answered 0; commands at the pins: 0 activations, 0 writes, 0 reads
#   init_sequence, control = SEL, init_done: write answered 0, read answered 0; commands at the pins: 1 activations, 1 writes, 1 reads
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "litedram==2024.12" "litex==2024.12" "migen==0.10.0" "pyosys==0.70"
cd "$work"
cat > core.yml <<'YML'
{"cpu": "None", "device": "LFE5U-85F-6BG381C", "memtype": "SDR", "sdram_module": "MT48LC16M16", "sdram_module_nb": 2, "sdram_phy": "GENSDRPHY",
 "sys_clk_freq": 45000000.0, "input_clk_freq": 45000000.0, "user_ports": {"0": {"type": "axi", "id_width": 1, "data_width": 16}}}
YML
PATH="$work/venv/bin:$PATH" venv/bin/litedram_gen core.yml --name core --output-dir made --csr-csv csr.csv > gen.log 2>&1
cat > bench.v <<'V'
module OFS1P3BX(input D, PD, SCLK, SP, output reg Q); always @(posedge SCLK) Q <= PD | D; endmodule
module IFS1P3BX(input D, PD, SCLK, SP, output reg Q); always @(posedge SCLK) Q <= PD | D; endmodule
module FD1S3BX(input D, PD, CK, output reg Q); always @(posedge CK) Q <= PD | D; endmodule
module TRELLIS_IO #(parameter DIR = "") (input B, I, T, output O); assign O = B; endmodule

module bench(input clk, input rst);
  // registers: {address of a word, data}, then a write and a read
  reg [7:0] step = 0;
  reg [61:0] now;
  wire ack, awready, wready, bvalid, arready, rvalid, cs_n, ras_n, cas_n, we_n;
  wire [1:0] bresp, rresp;
  reg cyc = 0, aw = 0, w = 1, ar = 0, early_w = 0, early_aw = 0;
  reg [2:0] wrote = 7, got = 7;
  reg [7:0] activations = 0, writes = 0, reads = 0;
  wire done = step == STEPS;
  always @* case (step)
STEPS_TABLE
    default: now = 0;
  endcase
  core core(.clk(clk), .rst(rst), .sdram_dq(16'h0), .sdram_cs_n(cs_n), .sdram_ras_n(ras_n), .sdram_cas_n(cas_n), .sdram_we_n(we_n),
      .wb_ctrl_adr(now[61:32]), .wb_ctrl_dat_w(now[31:0]), .wb_ctrl_cyc(cyc), .wb_ctrl_stb(cyc), .wb_ctrl_we(1'b1), .wb_ctrl_sel(4'hf),
      .wb_ctrl_ack(ack), .wb_ctrl_bte(2'd0), .wb_ctrl_cti(3'd0),
      .user_port_0_awvalid(aw), .user_port_0_awready(awready), .user_port_0_awaddr(25'd0), .user_port_0_awburst(2'd1), .user_port_0_awid(1'b0),
      .user_port_0_awlen(8'd0), .user_port_0_awsize(4'd1), .user_port_0_wvalid(w & done), .user_port_0_wready(wready), .user_port_0_wdata(16'h1234),
      .user_port_0_wlast(1'b1), .user_port_0_wstrb(2'd3), .user_port_0_bready(1'b1), .user_port_0_bvalid(bvalid), .user_port_0_bresp(bresp),
      .user_port_0_arvalid(ar), .user_port_0_arready(arready), .user_port_0_araddr(25'd0), .user_port_0_arburst(2'd1), .user_port_0_arid(1'b0),
      .user_port_0_arlen(8'd0), .user_port_0_arsize(4'd1), .user_port_0_rready(1'b1), .user_port_0_rvalid(rvalid), .user_port_0_rresp(rresp));
  reg [9:0] count = 0;
  always @(posedge clk) if (!rst) begin
    count <= count + 1;
    if (!done) begin
      cyc <= !(cyc && ack);
      if (cyc && ack) step <= step + 1;
      if (count == 20) begin early_w <= wready; early_aw <= awready; end
      aw <= cyc && ack && step + 1 == STEPS;
    end else begin
      cyc <= 0;
      if (awready) aw <= 0;
      if (wready) w <= 0;
      if (bvalid) begin wrote <= bresp; ar <= 1; end else if (arready) ar <= 0;
      if (rvalid) got <= rresp;
      // the sequence itself makes none of these
      if ({cs_n, ras_n, cas_n, we_n} == 4'b0011) activations <= activations + 1;
      if ({cs_n, ras_n, cas_n, we_n} == 4'b0100) writes <= writes + 1;
      if ({cs_n, ras_n, cas_n, we_n} == 4'b0101) reads <= reads + 1;
    end
    if (count == 600) $display("SEEN %d %d %d %d %d %d %d", early_w, early_aw, wrote, got, activations, writes, reads);
  end
endmodule
V
cat > try.py <<'PY'
import re
import subprocess
import sys

header = open("made/software/include/generated/sdram_phy.h").read()
verilog = open("made/gateware/core.v").read()
rows = [line.split(",") for line in open("csr.csv").read().splitlines()]
registers = {row[1]: int(row[2], 16) for row in rows if row[0] == "csr_register"}
values = {name: int(value, 0) for name, value in re.findall(r"#define (\w+) (0x[0-9a-f]+|\d+)$", header, re.MULTILINE)}


def value(text):
    return sum(values[word] if word in values else int(word, 0) for word in text.split("|"))


sequence = []
for line in re.search(r"void init_sequence\(void\)\n\{(.*?)^\}", header, re.DOTALL | re.MULTILINE)[1].splitlines():
    if told := re.match(r"\s*command_p0\((.*)\);", line):
        sequence += [("sdram_dfii_pi0_command", value(told[1])), ("sdram_dfii_pi0_command_issue", 1)]
    elif told := re.match(r"\s*(\w+)_write\((.*)\);", line):
        sequence.append((told[1], value(told[2])))
given = [("sdram_dfii_control", values["DFII_CONTROL_SEL"])]
done = [("ddrctrl_init_done", 1)]


def seen(steps):
    table = "".join(f"    {k}: now = {{30'd{registers[name] // 4}, 32'd{data}}};\n" for k, (name, data) in enumerate(steps))
    open("run.v", "w").write(open("bench.v").read().replace("STEPS_TABLE\n", table).replace("STEPS", str(len(steps))))
    passes = ("read_verilog run.v made/gateware/core.v", "hierarchy -top bench", "proc", "flatten", "opt_clean", "memory -nomap", "async2sync",
              "sim -clock clk -reset rst -rstlen 4 -n 620")
    code = f"from pyosys import libyosys as y\ndesign = y.Design()\nfor each in {passes}:\n    y.run_pass(each, design)\n"
    text = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return [int(word) for word in re.findall(r"\d+", re.search(r"SEEN (.*)", text)[1])]


found = [seen(sequence + done), seen(sequence + given + done)]
pins = re.search(r"(input|output|inout) +wire +\[15:0\] sdram_dq\b", verilog)[1]
print(f"before the start-up: wready {found[0][0]}, awready {found[0][1]}; sdram_dq is an {pins}")
for what, of in zip(("", "control = SEL, "), found):
    print(f"init_sequence, {what}init_done: write answered {of[2]}, read answered {of[3]}; commands at the pins: "
          f"{of[4]} activations, {of[5]} writes, {of[6]} reads")
sys.exit(not (pins == "input" and found[0][:6] == [1, 0, 0, 0, 0, 0] and found[1][:4] == [1, 0, 0, 0] and min(found[1][4:]) > 0))
PY
venv/bin/python try.py
