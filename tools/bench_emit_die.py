#!/usr/bin/env python3
"""Emit the grid of the die that `hwgen plan die` plans for Llama-3.1-8B at 17,000 tokens a second: each tile with its
ROM, each module once. How long, how large, and lint.

Lint goes module by module, as in `tools.bench_emit_3m`, at full size, but the memory's wrapper with its default of a
few bits. There are no
weights: the memories are initialized from files by name, which are not written. In the ROMs are the matrices of all
layers and the LM head; the embedding, norms' gains and tables are not the grid's.
"""
import argparse
import dataclasses
import re
import resource
import tempfile
import time
from pathlib import Path

from hwgen.golden.array_grid import rounds
from hwgen.lib import verilator
from hwgen.lib.verilog import emit_design
from hwgen.params.block import Project
from hwgen.params.model import PRESETS
from hwgen.plan.die import die, plan
from hwgen.plan.published import HC1
from hwgen.top import make
from tools import ledger
from tools.benches import children, interfaces

PARTS = ("mac_column", "column_codes", "rom_tile", "grid_sum", "slice")


def shapes(model):
    """(outputs, inputs) of all matrices in the ROMs, in the order of a pass."""
    sizes = model.matrices()
    layer = [(sum(sizes[name][0] for name in step.matrices), sizes[step.matrices[0]][1])
             for step in model.block.of(Project)]
    return layer * model.num_hidden_layers + [(model.vocab_size, model.head_inputs)]


def grid(found):
    """(rows, tiles, words of a ROM, design of a tile) of a `Plan`."""
    hw, lanes, columns = found.design.hw, found.die.tile_lanes, found.die.tile_columns
    rows, tiles = hw.lanes // lanes, hw.columns // columns
    shape = dataclasses.replace(hw, lanes=lanes, columns=columns, vector_lanes=hw.vector_lanes // tiles)
    design = dataclasses.replace(found.design, hw=shape)
    return rows, tiles, sum(n * k for n, k in (rounds(design, rows, tiles, *shape)
                                               for shape in shapes(design.model))), design


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows, tiles, words, design = grid(plan(die(PRESETS[HC1.model], tokens=HC1.tokens)))
    hw, width = design.hw, make.rom_grid_params(design, words).word_layout.size
    entry = {"kind": "measured", "command": "python -m tools.bench_emit_die"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "die.v"
        start, cpu = time.perf_counter(), time.process_time()
        text = emit_design(make.rom_grid(design, rows, tiles, words), "die")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        names = re.findall(r"^module (\w+)", text, re.MULTILINE)
        assert len(names) == len(set(names)) and text.count("FILE(\"") == rows * tiles
        print(f"{rows} x {tiles} tiles of {hw.lanes} x {hw.columns}, ROMs of {words:,} words of {width:,} bits: "
              f"{seconds:.1f} s "
              f"({cpu:.1f} s of CPU), {len(text):,} bytes, {len(names)} modules", flush=True)
        for name in (n for n in names if n == "die" or any(f"_{part}_" in f"{n}_" for part in PARTS)):
            file.write_text(interfaces(text, name, PARTS))
            verilator.lint(file, name)
            print(f"lint of {name}: {children():.1f} s of CPU so far", flush=True)
    memory = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
    ledger.record("emit_die.json", [
        {"name": "emit_die_multipliers", "value": rows * tiles * hw.lanes * hw.columns, "unit": "multipliers", **entry,
         "kind": "derived"},
        {"name": "emit_die_tiles", "value": rows * tiles, "unit": "tiles", **entry, "kind": "derived"},
        {"name": "emit_die_rom_words", "value": words, "unit": "words", **entry, "kind": "derived"},
        {"name": "emit_die_rom_width", "value": width, "unit": "bits", **entry, "kind": "derived"},
        {"name": "emit_die_rom_gbit", "value": round(rows * tiles * words * width / 1e9, 2), "unit": "Gbit", **entry,
         "kind": "derived"},
        {"name": "emit_die_bits_per_cycle", "value": rows * tiles * width, "unit": "bits a cycle", **entry,
         "kind": "derived"},
        {"name": "emit_die_seconds", "value": round(seconds, 1), "unit": "s", **entry},
        {"name": "emit_die_cpu_seconds", "value": round(cpu, 1), "unit": "s of CPU", **entry},
        {"name": "emit_die_bytes", "value": len(text), "unit": "bytes", **entry},
        {"name": "emit_die_modules", "value": len(names), "unit": "modules", **entry},
        {"name": "emit_die_lint_seconds", "value": round(children(), 1), "unit": "s of CPU", **entry},
        {"name": "emit_die_lint_memory", "value": memory, "unit": "MB", **entry}])


if __name__ == "__main__":
    main()
