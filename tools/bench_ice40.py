#!/usr/bin/env python3
"""How many cells of an iCE40 the smallest machine takes: a model of 257 tokens and one layer of 4, on 2 x 2 multipliers
with 2 attention lanes.

Yosys alone, each unit for itself (their borders are kept). The multipliers of an UP5K are used without asking how many
there are.
"""
import dataclasses
import json
import re
import tempfile
from pathlib import Path

from hwgen.emit import emit
from hwgen.fpga.tools import run_tool
from hwgen.lib.verilog import hierarchy
from hwgen.models import quantize, random_checkpoint
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import DEMO
from hwgen.top.board import BoardMachine
from tools import ledger

MODEL = dataclasses.replace(DEMO, name="smallest", vocab_size=257, hidden_size=4, intermediate_size=4,
                            num_hidden_layers=1,
                            num_attention_heads=1,
                            num_key_value_heads=1, head_dim=2, max_position_embeddings=16)
SHAPE = HwShape(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, context=16, kv_block=2)
WHOLE = {("machine",), ("machine", "decoder")}


def main():
    design = Design(model=MODEL, hw=SHAPE, recipe=Recipe())
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        emit(design, quantize(random_checkpoint(MODEL), design.recipe), work / "out", name="machine",
             component=lambda d: BoardMachine(d, divisor=12))
        work = work / "out"
        places = hierarchy((work / "machine.v").read_text(), "machine")
        units = {place.module: place.path[-1] for place in places if place.path
                 and (len(place.path) == 1 or place.path[:-1] in WHOLE)
                 and place.path not in WHOLE}
        kept = (f"setattr -mod -set keep_hierarchy 1 \\{name}" for name in units)
        (work / "synth.ys").write_text("\n".join(["read_verilog machine.v", *kept, "synth_ice40 -dsp -top machine",
                                                  "tee -o stat.json stat -json", ""]))
        run_tool("yosys", "-q", "synth.ys", folder=work, log="log")
        text = (work / "stat.json").read_text()
    found = json.loads(text[text.index("{"):])

    def count(module, pattern):
        return sum(n for cell, n in module["num_cells_by_type"].items() if re.fullmatch(pattern, cell))

    rows = [("parameters", MODEL.parameter_count)]
    rows += [(name, count(found["design"], pattern)) for name, pattern in
             (("lut4", "SB_LUT4"), ("ff", r"SB_DFF\w*"), ("multipliers", "SB_MAC16"),
              ("block_rams", r"SB_RAM40_4K\w*"))]
    rows += [(f"{name}_lut4", count(found["modules"][f"\\{module}"], "SB_LUT4")) for module, name in units.items()]
    rows = sorted(rows[:5]) + sorted(rows[5:], key=lambda row: -row[1])[:6]
    ledger.record("boards.json", [{"name": f"ice40_smallest_{name}", "value": value, "unit": "", "kind": "measured",
                                   "command": "python -m tools.bench_ice40"}
                                  for name, value in rows])
    for name, value in rows:
        print(f"ice40_smallest_{name:24}{value:>9,}")


if __name__ == "__main__":
    main()
