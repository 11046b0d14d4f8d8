#!/usr/bin/env bash
# LiteDRAM 2024.12, DDR3: nothing that its generator writes ever drives the chip's RESET# low, nor CKE before the software runs.
#
# The power-up of DDR3 (JESD79-3) wants RESET# low for 200 us with stable supplies, and CKE low from 10 ns before it rises until 500 us behind it. A core
# for an Artix-7 has a pin `ddram_reset_n`. After the FPGA's configuration the controller has the pins ("hardware control"), and its RESET# and CKE are
# constants, 1. The start-up that the generator writes, `init_sequence()` in sdram_phy.h, has a step called "Release reset", but no step before it takes
# RESET# low; LiteX's software (sdram_software_control_on) sets CKE and RESET# to 1 again before that step. One would guess that what is released was
# held. Boards work all the same where a resistor holds RESET# low until the configuration is over. Who plays the sequence from a state machine can write
# `sdram_dfii_control` = 0 first.
#
# The core is simulated by Yosys, with a serializer that gives its first bit to the pin.
#
# Seen with litedram 2024.12, litex 2024.12, migen 0.10.0, pyosys 0.70:
#   init_sequence writes sdram_dfii_control 2 times, 0 of them without DFII_CONTROL_RESET_N
#   behind the reset, before any register is written: reset_n 1, cke 1
#   behind sdram_dfii_control = 0: reset_n 0, cke 0
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "litedram==2024.12" "litex==2024.12" "migen==0.10.0" "pyosys==0.70"
cd "$work"
cat > core.yml <<'YML'
{"cpu": "None", "device": "xc7a100tcsg324-1", "memtype": "DDR3", "sdram_module": "MT41K128M16", "sdram_module_nb": 2, "sdram_rank_nb": 1,
 "sdram_phy": "A7DDRPHY", "speedgrade": -1, "iodelay_clk_freq": 200000000.0, "cmd_latency": 0, "sys_clk_freq": 100000000.0,
 "input_clk_freq": 100000000.0, "user_ports": {"0": {"type": "axi", "id_width": 1, "data_width": 128}}}
YML
PATH="$work/venv/bin:$PATH" venv/bin/litedram_gen core.yml --name core --output-dir made --csr-csv csr.csv > gen.log 2>&1
cat > bench.v <<'V'
module PLLE2_ADV (input CLKIN1, CLKFBIN, RST, PWRDWN, output CLKFBOUT, CLKOUT0, CLKOUT1, CLKOUT2, CLKOUT3, LOCKED);
  parameter CLKFBOUT_MULT = 0, CLKIN1_PERIOD = 0, CLKOUT0_DIVIDE = 0, CLKOUT0_PHASE = 0, CLKOUT1_DIVIDE = 0, CLKOUT1_PHASE = 0, CLKOUT2_DIVIDE = 0,
      CLKOUT2_PHASE = 0, CLKOUT3_DIVIDE = 0, CLKOUT3_PHASE = 0, DIVCLK_DIVIDE = 0, REF_JITTER1 = 0, STARTUP_WAIT = "";
  assign {CLKOUT0, CLKOUT1, CLKOUT2, CLKOUT3, LOCKED} = {{4{CLKIN1}}, !RST};
endmodule
module BUFG (input I, output O); assign O = I; endmodule
module FDCE #(parameter INIT = 0) (input C, CE, CLR, D, output reg Q = 0); always @(posedge C) Q <= D && !CLR; endmodule
module FDPE #(parameter INIT = 0) (input C, CE, PRE, D, output reg Q = 1); always @(posedge C) Q <= D || PRE; endmodule
module IDELAYCTRL (input REFCLK, RST, output RDY); endmodule
module OBUFDS (input I, output O, OB); assign {O, OB} = {I, !I}; endmodule
module IOBUF (input I, T, output O, inout IO); assign O = 1'b0; endmodule
module IOBUFDS (input I, T, output O, inout IO, IOB); assign O = 1'b0; endmodule
module IDELAYE2 (input C, CE, INC, LD, LDPIPEEN, IDATAIN, output DATAOUT); assign DATAOUT = IDATAIN;
  parameter CINVCTRL_SEL = "", DELAY_SRC = "", HIGH_PERFORMANCE_MODE = "", IDELAY_TYPE = "", IDELAY_VALUE = 0, PIPE_SEL = "", REFCLK_FREQUENCY = 0,
      SIGNAL_PATTERN = "";
endmodule
module ISERDESE2 (input BITSLIP, CE1, CLK, CLKB, CLKDIV, DDLY, RST, output Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8); assign {Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8} = 0;
  parameter DATA_RATE = "", DATA_WIDTH = 0, INTERFACE_TYPE = "", IOBDELAY = "", NUM_CE = 0, SERDES_MODE = "";
endmodule
module OSERDESE2 (input CLK, CLKDIV, D1, D2, D3, D4, D5, D6, D7, D8, OCE, RST, T1, TCE, output OQ, OFB, TQ); assign {OQ, TQ, OFB} = {D1, T1, 1'b0};
  parameter DATA_RATE_OQ = "", DATA_RATE_TQ = "", DATA_WIDTH = 0, SERDES_MODE = "", TRISTATE_WIDTH = 0;
endmodule
module bench (input clk, input rst);
  reg [7:0] count = 0;
  reg [1:0] first, second;
  wire reset_n, cke, write = count >= 60 && count < 64;
  core core (.clk(clk), .rst(rst), .ddram_reset_n(reset_n), .ddram_cke(cke), .wb_ctrl_adr(30'dADDRESS), .wb_ctrl_dat_w(0), .wb_ctrl_cyc(write),
      .wb_ctrl_stb(write), .wb_ctrl_we(1'b1), .wb_ctrl_sel(4'hf), .wb_ctrl_bte(0), .wb_ctrl_cti(0), .user_port_0_awvalid(1'b0),
      .user_port_0_wvalid(1'b0), .user_port_0_arvalid(1'b0), .user_port_0_rready(1'b1), .user_port_0_bready(1'b1));
  always @(posedge clk) begin
    count <= count + 1;
    if (count == 50) first <= {reset_n, cke};
    if (count == 80) second <= {reset_n, cke};
    if (count == 100) $display("SEEN %d %d %d %d", first[1], first[0], second[1], second[0]);
  end
endmodule
V
cat > try.py <<'PY'
import re
import subprocess
import sys

header = open("made/software/include/generated/sdram_phy.h").read()
rows = [line.split(",") for line in open("csr.csv").read().splitlines()]
address = next(int(row[2], 16) for row in rows if row[:2] == ["csr_register", "sdram_dfii_control"])
sequence = re.search(r"void init_sequence\(void\)\n\{(.*?)^\}", header, re.DOTALL | re.MULTILINE)[1]
written = re.findall(r"sdram_dfii_control_write\((.*)\);", sequence)
low = [words for words in written if "DFII_CONTROL_RESET_N" not in words]
open("run.v", "w").write(open("bench.v").read().replace("ADDRESS", str(address // 4)))
passes = ("read_verilog run.v made/gateware/core.v", "hierarchy -top bench", "proc", "flatten", "opt_clean", "memory -nomap", "async2sync",
          "sim -clock clk -reset rst -rstlen 4 -n 110")
code = f"from pyosys import libyosys as y\ndesign = y.Design()\nfor each in {passes}:\n    y.run_pass(each, design)\n"
text = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
seen = [int(word) for word in re.findall(r"\d+", re.search(r"SEEN (.*)", text)[1])]
print(f"init_sequence writes sdram_dfii_control {len(written)} times, {len(low)} of them without DFII_CONTROL_RESET_N")
print(f"behind the reset, before any register is written: reset_n {seen[0]}, cke {seen[1]}")
print(f"behind sdram_dfii_control = 0: reset_n {seen[2]}, cke {seen[3]}")
sys.exit(not (written and not low and seen == [1, 1, 0, 0]))
PY
venv/bin/python try.py
