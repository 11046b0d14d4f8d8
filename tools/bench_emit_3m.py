#!/usr/bin/env python3
"""Emit the arrays of a chip of 3.2 million multipliers: 28 x 28 arrays of 64 x 64, each module once. How long, how
large, and lint of all of it.

Lint goes module by module, each with what it instantiates as ports only, so that no part is looked at twice: at full
size. Flat, as simulation would have it, Verilator needs memory in proportion to the arrays; ``--flat N`` lints N x N of
them so.
"""
import argparse
import re
import resource
import tempfile
import time
from pathlib import Path

from hwgen.lib import verilator
from hwgen.lib.verilog import emit_design
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import LLAMA3_70B
from hwgen.top import make
from tools import ledger
from tools.benches import children, interfaces

ROWS = TILES = 28
DESIGN = Design(model=LLAMA3_70B, recipe=Recipe(), hw=HwShape(
    lanes=64, columns=64, entries=1024, vector_lanes=16, attention_lanes=128, tile_beats=64, context=2176,
    source="stream"))
PARTS = ("mac_column", "grid_tile", "grid_row", "grid_sum")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flat", type=int, metavar="N",
                        help="lint N x N arrays flat instead; records nothing at other N than 2")
    options = parser.parse_args()
    entry = {"kind": "measured", "command": "python -m tools.bench_emit_3m"}
    macs = DESIGN.hw.lanes * DESIGN.hw.columns
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "grid.v"
        if options.flat:
            file.write_text(emit_design(make.array_grid(DESIGN, options.flat, options.flat), "grid"))
            verilator.lint(file, "grid")
            seconds, size = children(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            print(f"{options.flat**2 * macs:,} MACs flat: lint of {seconds:.1f} s of CPU and {size:,.0f} MB")
            if options.flat == 2:
                entry["command"] += " --flat 2"
                ledger.record("emit_3m.json", [
                    {"name": "emit_3m_flat_2x2_lint_seconds", "value": round(seconds, 1), "unit": "s of CPU", **entry},
                    {"name": "emit_3m_flat_2x2_lint_memory", "value": round(size), "unit": "MB", **entry}])
            return
        start, cpu = time.perf_counter(), time.process_time()
        text = emit_design(make.array_grid(DESIGN, ROWS, TILES), "grid")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        names = re.findall(r"^module (\S+?) *\(", text, re.MULTILINE)
        assert len(names) == len(set(names))
        print(f"{ROWS * TILES * macs:,} MACs: {seconds:.1f} s ({cpu:.1f} s of CPU), {len(text):,} bytes, "
              f"{len(names)} modules", flush=True)
        for name in (n for n in names if n == "grid" or n.isidentifier() and any(f"_{part}_" in n for part in PARTS)):
            file.write_text(interfaces(text, name, PARTS))
            verilator.lint(file, name)
            print(f"lint of {name}: {children():.1f} s of CPU so far", flush=True)
    ledger.record("emit_3m.json", [
        {"name": "emit_3m_macs", "value": ROWS * TILES * macs, "unit": "multipliers", **entry, "kind": "derived"},
        {"name": "emit_3m_macs_seconds", "value": round(seconds, 1), "unit": "s", **entry},
        {"name": "emit_3m_macs_cpu_seconds", "value": round(cpu, 1), "unit": "s of CPU", **entry},
        {"name": "emit_3m_macs_bytes", "value": len(text), "unit": "bytes", **entry},
        {"name": "emit_3m_macs_lint_seconds", "value": round(children(), 1), "unit": "s of CPU", **entry},
        {"name": "emit_3m_macs_lint_memory",
         "value": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
         "unit": "MB", **entry}])


if __name__ == "__main__":
    main()
