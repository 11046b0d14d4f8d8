#!/usr/bin/env bash
# litedram_gen 2024.12 writes different bytes for the same configuration in each run, and PYTHONHASHSEED does not help.
#
# The generated Verilog has two comments that differ. One is the date, which one expects and strips. The other is the tree of modules at
# the top of the file: it ends with one line for each primitive of the PHY (`└─── [OFS1P3BX]`), in an order that is new in each process.
# The usual cure for a Python generator, PYTHONHASHSEED=0, changes nothing: these objects are hashed by their addresses. The code below
# the comments is the same. So a build that is named by a digest of its sources is never found again, and two people who compare
# digests of "the same" core see two cores.
#
# The configuration is a single-data-rate SDRAM on an ECP5, without a CPU: seven runs with PYTHONHASHSEED=0.
#
# Seen with litedram 2024.12, litex 2024.12, migen 0.10.0 (Python 3.11):
#   7 runs, PYTHONHASHSEED=0: 6 texts without dates; 1 without comments; 1 without the lines of primitives
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "litedram==2024.12" "litex==2024.12" "migen==0.10.0" "pyyaml==6.0.3" "setuptools<81"
cat > "$work/core.yml" <<'YML'
cpu: "None"
device: LFE5U-85F-6BG381C
memtype: SDR
sdram_module: MT48LC16M16
sdram_module_nb: 2
sdram_phy: GENSDRPHY
sys_clk_freq: 50e6
input_clk_freq: 50e6
user_ports: {"0": {type: axi, id_width: 4, data_width: 16}}
YML
cd "$work"
for run in 1 2 3 4 5 6 7; do
    PYTHONHASHSEED=0 "$work/venv/bin/litedram_gen" core.yml --name core --output-dir "run$run" > log 2>&1 || { cat log; exit 1; }
done
cat > try.py <<'PY'
import re
from pathlib import Path

texts = [Path(f"run{run}/gateware/core.v").read_text() for run in range(1, 8)]
undated = {re.sub(r"^//.*(Date|LiteX on).*\n", "", text, flags=re.MULTILINE) for text in texts}
bare = {re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL) for text in texts}
trees = {re.sub(r"^[│└─ ]+\[\w+\]\n", "", text, flags=re.MULTILINE) for text in undated}
print(f"7 runs, PYTHONHASHSEED=0: {len(undated)} texts without dates; {len(bare)} without comments; {len(trees)} without the lines of primitives")
raise SystemExit(not (len(undated) > 1 and len(bare) == len(trees) == 1))
PY
"$work/venv/bin/python" try.py
