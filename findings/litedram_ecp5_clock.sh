#!/usr/bin/env bash
# LiteDRAM 2024.12 on ECP5: a core that is asked for 56 MHz runs at 56.25, and nothing says so.
#
# For DDR3 on an ECP5 the generated core makes its own clock from the board's (`"sdram_phy": "ECP5DDRPHY"`, `sys_clk_freq`, `input_clk_freq`).
# LiteX's ECP5 PLL takes the first dividers that come within 1 % of what was asked for, not the nearest ones, and the generator prints no
# warning. The files beside the Verilog go on with the clock that was asked for: `CONFIG_CLOCK_FREQUENCY` in the CSR map, by which software
# sets its timers and serial ports, and the timings of the controller, such as the cycles between refreshes. Of some clocks the dividers
# are exact. One would guess that the PLL takes the best dividers that there are (95 MHz are 100 / 10 * 57 / 6), or that the files say
# what it makes.
#
# The clock is computed from the parameters of the EHXPLLL in the generated Verilog: input / CLKI_DIV * CLKFB_DIV * its feedback's output
# divider / the output divider; the system's clock is half of the fast one.
#
# Seen with litedram 2024.12, litex 2024.12, migen 0.10.0, input 100 MHz:
#   asked for 56 MHz: makes 56.2500, CSR map says 56.0000
#   asked for 75 MHz: makes 75.0000, CSR map says 75.0000
#   asked for 95 MHz: makes 95.8333, CSR map says 95.0000
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "litedram==2024.12" "litex==2024.12" "migen==0.10.0"
cd "$work"
cat > try.py <<'PY'
import json
import re
import subprocess
import sys


def made(asked):
    """(MHz that the PLL makes, MHz in the CSR map)."""
    config = {"cpu": "None", "device": "LFE5UM5G-85F-8BG554I", "memtype": "DDR3", "sdram_module": "MT41K256M16", "sdram_module_nb": 2,
              "sdram_rank_nb": 1, "sdram_phy": "ECP5DDRPHY", "sys_clk_freq": asked * 1e6, "input_clk_freq": 100e6, "init_clk_freq": 25e6,
              "user_ports": {"0": {"type": "axi", "id_width": 1, "data_width": 128}}}
    open("core.yml", "w").write(json.dumps(config))
    subprocess.run(["venv/bin/litedram_gen", "core.yml", "--name", "core", "--output-dir", "made", "--csr-csv", "csr.csv"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pll = re.search(r"EHXPLLL #\((.*?)\) ", open("made/gateware/core.v").read(), re.DOTALL)[1]
    of = {name: int(value) for name, value in re.findall(r"\.(\w+)\s*\(\s*(?:\d+'d)?(\d+)\)", pll)}
    feedback = {"INT_OP": "CLKOP", "INT_OS": "CLKOS", "INT_OS2": "CLKOS2", "INT_OS3": "CLKOS3"}[re.search(r'FEEDBK_PATH\s*\("(\w+)"\)', pll)[1]]
    oscillator = 100 / of["CLKI_DIV"] * of["CLKFB_DIV"] * of[f"{feedback}_DIV"]
    told = re.search(r"config_clock_frequency,,?(\d+)|clock_frequency,(\d+)", open("csr.csv").read())
    return oscillator / of["CLKOP_DIV"] / 2, int(told[1] or told[2]) / 1e6


found = {asked: made(asked) for asked in (56, 75, 95)}
for asked, (makes, says) in found.items():
    print(f"asked for {asked} MHz: makes {makes:.4f}, CSR map says {says:.4f}")
sys.exit([round(makes, 4) for makes, _ in found.values()] != [56.25, 75, 95.8333] or any(says != asked for asked, (_, says) in found.items()))
PY
PATH="$work/venv/bin:$PATH" venv/bin/python try.py
