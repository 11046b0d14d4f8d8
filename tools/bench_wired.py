#!/usr/bin/env python3
"""A real matrix as logic: what a weight takes on an ECP5 and in CMOS, beside the fully parallel circuit that da4ml
writes for the same matrix; and how long a million weights take.

The matrix is gate and up of the demo model's first layer as the machine stores it (320 x 64), weights in E2M1 with
offsets of blocks, activations in E3M4; beside da4ml it is o of the model wire (32 x 32), whose parallel circuit a
synthesis tool ends in minutes. All goes through the boards' script: LUT4 are with two for each CCU2C. Transistors are
those of the gates that `abc -g cmos4` makes: of Yosys' estimate what it has for plain flip-flops is taken off; all
flip-flops are counted beside.

Needs da4ml (`pip install 'hwgen[wired]'`); ``--only network,formats,unit,parallel,emit,named,adapted`` leaves the rest
out. ``named`` is of the board's machine of the model wire, with other matrices as logic: cycles of golden, LUTs of the
plan; ``adapted`` is of that machine with room for an adapter of rank 8, with one and without.
"""
import argparse
import itertools
import json
import re
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwgen.fpga.boards import board
from hwgen.fpga.tools import run_tool
from hwgen.golden.decoder import GoldenDecoder
from hwgen.golden.sequencer import pass_timeline
from hwgen.lib.verilog import emit_design
from hwgen.lib.wires import wires_text
from hwgen.models import load
from hwgen.models.hf import load_folder
from hwgen.models.quantize import quantize
from hwgen.models.wires import different_rows, fixed_matrices
from hwgen.params import presets
from hwgen.params.design import Design
from hwgen.params.formats import E2M1, E2M5, E3M4, E4M3
from hwgen.params.hardware import HwShape
from hwgen.params.wired import FixedMatrix
from hwgen.plan.fit import fit
from hwgen.top import make
from tools import ledger, synth

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python -m tools.bench_wired"
FORMATS = "weights=e2m1,head=e3m4"
PLAIN_FLIP_FLOP = 16        # transistors, in Yosys' estimate


def real(model, project, formats):
    """(design, integers of a project's matrices, their rows' offsets) of a shipped model's first layer."""
    checkpoint = load_folder(ROOT / "hwgen" / "models" / model, need_tokenizer=False)
    design = Design(model=checkpoint.shape, hw=HwShape(), recipe=presets.recipe(formats))
    layer = GoldenDecoder(design, quantize(checkpoint, design.recipe)).weights[0]
    return design, getattr(layer, project).astype(np.int64), layer.rows[project]


def ecp5(text):
    """(LUT4 with two for each CCU2C, flip-flops) of Verilog whose top is ``top``."""
    found = synth.synthesize(synth.Unit("wired", text), "ecp5")
    return found["LUT"] - 0.6 * found["carry"] - 6 * found["LUTRAM"], found["FF"]


def cmos(text):
    """Transistors of the gates."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "unit.v").write_text(text)
        Path(folder, "synth.ys").write_text("\n".join(["read_verilog unit.v", *synth.TARGETS["cmos"](),
                                                       "tee -q -o stat.json stat -json -tech cmos", ""]))
        run_tool("yosys", "-q", "synth.ys", folder=Path(folder), log="yosys.log")
        found = json.loads(Path(folder, "stat.json").read_text())["modules"]["\\top"]
    flip_flops = found["num_cells_by_type"].get("$_DFF_P_", 0)
    return int(str(found["estimated_num_transistors"]).rstrip("+")) - PLAIN_FLIP_FLOP * flip_flops


def parallel(ints, low, high):
    """Verilog of da4ml's circuit, inputs in steps of 1 from low to high: combinational, ``top``."""
    import da4ml
    from da4ml.cmvm import solve
    from da4ml.codegen.rtl.verilog import comb_logic_gen

    # in C's order: da4ml 0.6 takes a square matrix in Fortran's order for its transpose
    solved = solve(np.ascontiguousarray(ints.T, np.float32), qintervals=[(low, high, 1.0)] * ints.shape[1])
    stages = solved.solutions
    x = np.random.default_rng(1).integers(low, high + 1, ints.shape[1])
    if not (np.asarray(solved(x), float) == ints @ x).all():
        raise SystemExit("da4ml's circuit must be the matrix")
    texts = [comb_logic_gen(stage, f"stage{i}") for i, stage in enumerate(stages)]
    sources = Path(da4ml.__file__).parent / "codegen/rtl/verilog/source"
    parts = [(sources / f"{name}.v").read_text() for name in ("shift_adder", "negative")]
    widths = [[int(width) + 1 for width in re.findall(r"(?:input|output) \[(\d+):0\]", text)] for text in texts]
    wires = "".join(f"  wire [{width[0] - 1}:0] w{i};\n"
                    for i, width in enumerate(widths)) + f"  wire [{widths[-1][1] - 1}:0] w{len(widths)};\n"
    calls = "".join(f"  stage{i} s{i} (w{i}, w{i + 1});\n" for i in range(len(texts)))
    top = (f"module top (input [{widths[0][0] - 1}:0] x, output [{widths[-1][1] - 1}:0] y);\n"
           f"{wires}{calls}  assign w0 = x;\n  assign y = w{len(texts)};\nendmodule\n")
    return "\n".join([*parts, *texts, top])


def figures(only, levels, project):
    """Rows of the ledger, as they come."""
    design, ints, rows = real("demo", project, FORMATS)
    weights, activation = ints.size, design.recipe.activation_format
    command = COMMAND

    def row(name, value, unit, digits=3):
        return {"name": f"wired_{name}", "value": round(value, digits), "unit": unit, "kind": "measured",
                "command": command}

    matrix = FixedMatrix(ints, activation, levels, rows)
    if "network" in only:
        text = wires_text(matrix.plan).replace("{module}", "top")
        yield row("adders_per_weight", len(matrix.plan.network.adders) / weights, "adders")
        lut4, ff = ecp5(text)
        yield row("lut4_per_weight", lut4 / weights, "LUT4")
        yield row("ff_per_weight", ff / weights, "flip-flops")
        yield row("transistors_per_weight", cmos(text) / weights, "transistors", 1)
        few = FixedMatrix(ints, activation, 4, rows)
        yield row("levels4_ff_per_weight", sum(few.plan.registers().values()) / weights, "flip-flops")
    if "formats" in only:       # what hwgen/plan/wired.py expects is fitted to such
        for fmt in (E2M1, E3M4, E4M3, E2M5):
            normal = np.random.default_rng(1).normal(size=(128, 32))
            values = np.unique(fmt.values())
            scaled = normal / np.abs(normal).max(axis=1 if fmt is E2M1 else None, keepdims=True) * values.max()
            made = FixedMatrix(values[np.abs(values - scaled[..., None]).argmin(-1)], activation, 4)
            yield row(f"{fmt}_128_adders_per_weight", len(made.plan.network.adders) / normal.size, "adders")
    if "unit" in only:
        lut4, ff = ecp5(emit_design(make.wired(design, {project: matrix}), "top"))
        yield row("unit_lut4_per_weight", lut4 / weights, "LUT4")
        yield row("unit_ff_per_weight", ff / weights, "flip-flops")
    if "parallel" in only:
        _, small, _ = real("wire", "o", "weights=e2m1")
        lut4, _ = ecp5(wires_text(FixedMatrix(small, activation, levels).plan).replace("{module}", "top"))
        yield row("o_lut4_per_weight", lut4 / small.size, "LUT4")
        for name, low, high in (("da4ml", -activation.max_int, activation.max_int), ("da4ml_int8", -128, 127)):
            lut4, _ = ecp5(parallel(small, low, high))
            yield row(f"o_{name}_lut4_per_weight", lut4 / small.size, "LUT4", 2)
    if "emit" in only:
        begun, size = time.process_time(), 1024
        random = E2M1.values()[np.random.default_rng(1).integers(0, 16, (size, size))]
        million = FixedMatrix(random, activation, levels)
        yield row("million_adders_per_weight", len(million.plan.network.adders) / random.size, "adders")
        text = wires_text(million.plan)
        yield row("million_seconds", time.process_time() - begun, "s of CPU", 0)
        yield row("million_bytes", len(text) / 1e6, "MB", 1)
        yield row("million_memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "GB", 2)


def of_board():
    """(design, quantized model, its matrices as logic) of the machine of ulx3s-85f-wired."""
    chosen = board("ulx3s-85f-wired")
    checkpoint = load(chosen.model)
    whole = Design(model=checkpoint.shape, recipe=presets.recipe(chosen.formats),
                   hw=presets.hw_shape(chosen.shape, checkpoint.shape))
    quantized = quantize(checkpoint, whole.recipe)
    return whole, quantized, fixed_matrices(quantized, whole)


def adapted():
    """Rows of that machine with room for an adapter: a text without one, and with one of all matrices. ``board``: its
    memory has a tile in 8 cycles, as the board's ROM; the others have one in each."""
    whole, quantized, _ = of_board()
    for name, changes in {"board": {}, "all": {"tile_beats": 1}, "all, array 4 x 4": {"tile_beats": 1, "lanes": 4,
                                                                                     "columns": 4},
                          "none": {"tile_beats": 1, "source": "rom", "wire_levels": 1}}.items():
        design = replace(whole, hw=replace(whole.hw, adapters=1, **changes))
        wires = fixed_matrices(quantized, design) if design.hw.wired else None
        cycles = [pass_timeline(design, [31], [True], wires=wires, adapters=[number]).counters["cycles"]
                  for number in (0, 1)]
        rows = different_rows(quantized, design) if design.hw.wired else None
        for what, value, unit, kind in (("without", cycles[0], "cycles", "derived"),
                                        ("with", cycles[1], "cycles", "derived"),
                                        ("more", round(100 * (cycles[1] / cycles[0] - 1), 1), "%", "derived"),
                                        ("size", fit(design, "ecp5", {}, rows).used["LUT"], "LUT4", "projected")):
            yield {"name": f"adapted {name}/{what}", "value": value, "unit": unit, "kind": kind,
                   "command": f"{COMMAND} --only adapted"}


def named():
    """Rows of that machine, but for a ROM that has a tile in each cycle, with other matrices as logic."""
    whole, quantized, wires = of_board()
    whole = replace(whole, hw=replace(whole.hw, tile_beats=1))
    for name, changes in {"none": {"source": "rom", "wire_levels": 1}, "head": {"wire_matrices": "head"},
                          "layers": {"wire_matrices": "qkv+o+gate_up+down"}, "all": {}}.items():
        design = replace(whole, hw=replace(whole.hw, **changes))
        cycles = pass_timeline(design, [31], [True], wires=wires).counters["cycles"]
        rows = different_rows(quantized, design) if design.hw.wired else None
        for what, value, unit, kind in (("cycles", cycles, "cycles", "derived"),
                                        ("lut4", fit(design, "ecp5", {}, rows).used["LUT"], "LUT4", "projected")):
            yield {"name": f"named_{name}_{what}", "value": value, "unit": unit, "kind": kind,
                   "command": f"{COMMAND} --only named"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="network,formats,unit,parallel,emit,named,adapted",
                        help="what to measure (default: all)")
    options = parser.parse_args()
    only = options.only.split(",")
    for item in itertools.chain(figures(only, 1, "gate_up"), named() if "named" in only else (),
                                adapted() if "adapted" in only else ()):
        ledger.record("wired.json", [item])
        print(f"{item['name']:32} {item['value']:10} {item['unit']}", flush=True)
    known = {item["name"]: item["value"] for item in ledger.load("wired.json")}
    if "parallel" in only and "wired_o_da4ml_lut4_per_weight" in known:
        ratio = known["wired_o_da4ml_lut4_per_weight"] / known["wired_o_lut4_per_weight"]
        ledger.record("wired.json", [{"name": "wired_density_vs_da4ml", "value": round(ratio, 1), "unit": "times",
                                      "kind": "derived",
                                      "command": COMMAND}])
        print(f"wired_density_vs_da4ml {ratio:.1f}")


if __name__ == "__main__":
    main()
