#!/usr/bin/env python3
"""Read long streams of weights through LiteDRAM's own Verilog from a simulated chip of SDRAM: how much of its bandwidth
the machine's reader gets.

Every word is compared, and the chip must have no complaint. Beside the settings that are taken: refreshes each alone,
and a port of 64 bits.

``--decode``: instead, a board's whole top through its UART pins: the demo model is loaded over the line, and writes;
each token must be golden's. Its own counters say how much of the chip's bandwidth a pass uses. The array is small: the
memory is the limit. ``--model`` and ``--shape`` take another machine; with ``--held`` the chip has the weights from the
beginning (over the line those of millions of parameters would take hours), and they are checked all the same. Of these
nothing is recorded. It needs the extra `dram`.
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
from tools.board_text import decode

#: Streams of 44,544 bytes in beats of 32.
CHANGES = dict(source="stream", hidden_size=64, intermediate_size=128, vocab_size=256, num_hidden_layers=1,
               lanes=8, columns=8,
               vector_lanes=4, tile_beats=2)


#: A machine that its memory keeps waiting.
SHAPE = "tiny,entries=1,slots=1,sampler=greedy,source=stream,context=64"


def measure(*, clock, streams=2, port_width=MT48LC16M16.port_width, **settings):
    """What the bench counted of some streams: ``cycles`` from the first request to the last beat, for ``bytes``;
    ``words`` of the chip in ``steady`` cycles, behind the first beat. ``settings`` are LiteDRAM's."""
    memory, design = replace(MT48LC16M16, port_width=port_width), small_design(**CHANGES)
    axi = memory.axi(burst=min(256, 4096 // port_width))
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "counts.json"
        run(reader_and_memory(memory, clock, design, axi, "dram_bandwidth", **settings), "dram_bandwidth",
            "bench_dram_bandwidth",
            params={"changes": CHANGES, "axi": asdict(axi), "base": 0x40000, "streams": streams, "out": str(out)})
        return json.loads(out.read_text()) | {"bytes": streams * design.stream_beats * design.hw.beat_bytes}


def of_decode(tokens, *, shape=SHAPE, **more):
    """The ledger's rows of a text that a board's top writes."""
    text, passes, bound, loaded = decode(tokens, shape=shape, **more, progress=lambda done, total: print(
        f"\r{done:,} of {total:,} bytes", end="", flush=True))
    cycles, words = (sum(counts[name] for counts in passes) for name in ("cycles", "axi_words"))
    print(f"\n{text!r}: {cycles / tokens:,.0f} cycles a token (at most {bound:,} for its weights, by the model), "
          f"{words / cycles:.4f} of the chip's bandwidth; {loaded.size:,} bytes, {loaded.sent} blocks sent")
    how = {"kind": "measured", "command": f"python -m tools.bench_dram --decode {tokens}"}
    return [{"name": "sdram_decode_utilization", "value": round(words / cycles, 4), "unit": "", **how},
            {"name": "sdram_cycles_per_token", "value": round(cycles / tokens), "unit": "cycles", **how}]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clock", type=int, default=45, help="MHz (default: 45)")
    parser.add_argument("--streams", type=int, default=4, help="one behind the other (default: 4)")
    parser.add_argument("--decode", type=int, metavar="N", help="only the board's top, for a text of N tokens")
    parser.add_argument("--model", default="demo", help="of --decode (default: demo)")
    parser.add_argument("--shape", default=SHAPE, help="of --decode (default: %(default)s)")
    parser.add_argument("--prompt", default="She was", help="of --decode (default: %(default)s)")
    parser.add_argument("--held", action="store_true", help="of --decode: the chip has the weights already")
    options = parser.parse_args()
    if options.decode:
        others = {name: getattr(options, name) for name in ("model", "shape", "prompt", "held")}
        rows = of_decode(options.decode, **others)
        if all(value == parser.get_default(name) for name, value in others.items()):
            ledger.record("dram.json", rows)
        return
    words = "".join(f" --{name} {value}" for name, value in vars(options).items() if value != parser.get_default(name))
    how = {"unit": "", "command": f"python -m tools.bench_dram{words}"}
    entries = []
    for name, settings in (("sdram_bandwidth_utilization", {}),
                           ("sdram_bandwidth_utilization_refreshes_alone", {"refresh_postponing": 1}),
                           ("sdram_bandwidth_utilization_64", {"port_width": 64})):
        counts = measure(clock=options.clock, streams=options.streams, **settings)
        used = counts["words"] / counts["steady"]
        print(f"{name}: {used:.4f}: {counts['words']:,} words in {counts['steady']:,} cycles, {counts['activates']} "
              f"rows opened, "
              f"{counts['refreshes']} refreshes", flush=True)
        entries.append({"name": name, "value": round(used, 4), "kind": "measured", **how})
        if not settings:
            bound = read_cycles(MT48LC16M16, options.clock, counts["bytes"])
            print(f"at most {bound:,} cycles for {counts['bytes']:,} bytes by the model: {counts['cycles']:,}, "
                  f"{counts['cycles'] / bound:.2%} of that")
            entries.append({"name": "sdram_bound_reached", "value": round(counts["cycles"] / bound, 4),
                            "kind": "measured", **how})
    ledger.record("dram.json", entries)


if __name__ == "__main__":
    main()
