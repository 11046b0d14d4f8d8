#!/usr/bin/env python3
"""Read long streams of weights through LiteDRAM's own Verilog from a simulated chip of SDRAM: how much of its bandwidth the machine's reader gets.

Every word is compared, and the chip must have no complaint. Beside the settings that are taken: refreshes each alone, and a port of 64 bits. It needs the extra `dram`.
"""
import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from hwgen.golden.dram import read_cycles
from hwgen.params.dram import MT48LC16M16
from sim.designs import small_design
from sim.dram_units import reader_and_memory
from sim.runner import run
from tools import ledger

#: Streams of 44,544 bytes in beats of 32.
CHANGES = dict(source="stream", hidden_size=64, intermediate_size=128, vocab_size=256, num_hidden_layers=1, lanes=8, columns=8, vector_lanes=4, tile_beats=2)


def measure(*, clock, streams=2, port_width=MT48LC16M16.port_width, **settings):
    """What the bench counted of some streams: ``cycles`` from the first request to the last beat, for ``bytes``; ``words`` of the chip in ``steady`` cycles, behind
    the first beat. ``settings`` are LiteDRAM's."""
    memory, design = replace(MT48LC16M16, port_width=port_width), small_design(**CHANGES)
    axi = memory.axi(burst=min(256, 4096 // port_width))
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "counts.json"
        run(reader_and_memory(memory, clock, design, axi, "dram_bandwidth", **settings), "dram_bandwidth", "bench_dram_bandwidth",
            params={"changes": CHANGES, "axi": asdict(axi), "base": 0x40000, "streams": streams, "out": str(out)})
        return json.loads(out.read_text()) | {"bytes": streams * design.stream_beats * design.hw.beat_bytes}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clock", type=int, default=45, help="MHz (default: 45)")
    parser.add_argument("--streams", type=int, default=4, help="one behind the other (default: 4)")
    options = parser.parse_args()
    words = "".join(f" --{name} {value}" for name, value in vars(options).items() if value != parser.get_default(name))
    how = {"unit": "", "command": f"python -m tools.bench_dram{words}"}
    entries = []
    for name, settings in (("sdram_bandwidth_utilization", {}), ("sdram_bandwidth_utilization_refreshes_alone", {"refresh_postponing": 1}),
                           ("sdram_bandwidth_utilization_64", {"port_width": 64})):
        counts = measure(clock=options.clock, streams=options.streams, **settings)
        used = counts["words"] / counts["steady"]
        print(f"{name}: {used:.4f}: {counts['words']:,} words in {counts['steady']:,} cycles, {counts['activates']} rows opened, {counts['refreshes']} refreshes", flush=True)
        entries.append({"name": name, "value": round(used, 4), "kind": "measured", **how})
        if not settings:
            bound = read_cycles(MT48LC16M16, options.clock, counts["bytes"])
            print(f"at most {bound:,} cycles for {counts['bytes']:,} bytes by the model: {counts['cycles']:,}, {counts['cycles'] / bound:.2%} of that")
            entries.append({"name": "sdram_bound_reached", "value": round(counts["cycles"] / bound, 4), "kind": "measured", **how})
    ledger.record("dram.json", entries)


if __name__ == "__main__":
    main()
