#!/usr/bin/env python3
"""Read long streams of weights through LiteDRAM's own Verilog from a simulated chip of DDR3: how much of the
controller's bandwidth the machine's reader gets, with refreshes and row misses.

Every word is compared, and the chip must have no complaint. The FPGA's cells at the pins are models. Beside the
settings that are taken: refreshes each alone. It needs the extra `dram`.

``--decode``: instead, the board's whole top through its UART pins, with the demo model in the chip from the beginning;
each token must be golden's. Its own counters say how much of the bandwidth a pass uses. ``--outside``: with keys and
values in the chip too; how long attention takes, beside the cycle model's memory.

``--smollm2``: instead, tokens a second of SmolLM2-135M on the board, and the time to load it: from the board's clock,
the cycle model and the bound of a stream. Nothing is simulated, and nothing has run on hardware.
"""
import argparse
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from hwgen.fpga.boards import board
from hwgen.golden.dram import read_cycles
from hwgen.params.design import Design
from hwgen.params.dram import MT41K256M16
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan.loading import load_seconds, reading
from sim.ddr3_memory import ddr3_reader
from sim.designs import small_design
from sim.runner import run
from tools import ledger
from tools.board_text import decode

BOARD = "ecpix-5-85f"
#: Of SmolLM2-135M there (fpga/ecpix-5-85f/README.md).
SHAPE = ("lanes=8,columns=8,vector_lanes=2,attention_lanes=8,entries=8,slots=8,tile_beats=4,context=2048,kv_block=128,"
         "dsp_columns=8,kv_port=128,attention_hold=0,sampler=greedy,source=stream")
#: Positions over which its speeds are the mean.
LENGTHS = {"": 256, "_2048": 2048}
#: A machine that its memory keeps waiting.
DECODES = "tiny,lanes=8,columns=8,tile_beats=4,entries=1,slots=1,sampler=greedy,source=stream,context=64"
#: The same with keys and values outside.
OUTSIDE = f"{DECODES},attention_lanes=4,kv_block=16,kv_port=128"
#: Streams of 170,720 bytes in beats of 16.
CHANGES = dict(source="stream", hidden_size=64, intermediate_size=256, vocab_size=1024, num_hidden_layers=2, lanes=8,
               columns=8, vector_lanes=4, tile_beats=4)


def measure(*, clock, machine=None, streams=3, memory=MT41K256M16, **settings):
    """What the bench counted of some streams: ``cycles`` from the first request to the last beat, for ``bytes``;
    ``words`` of a cycle's bits in ``steady`` cycles, behind the first beat. ``settings`` are LiteDRAM's; ``clock``
    is the memory's in MHz, whose cycles these are, and ``machine`` that of the reader if it is another one."""
    design, axi = small_design(**CHANGES), memory.axi()
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "counts.json"
        # a whole number of ps in half of the reader's cycle, and 10 ns in a cycle of the chip
        more = {"machine": 2 * round(clock / machine * memory.phy.phases * 5_000)} if machine else {}
        run(ddr3_reader(memory, clock, design, axi, "ddr3_bandwidth", crossing=bool(machine), **settings),
            "ddr3_bandwidth", "bench_ddr3_bandwidth", sim="verilator",
            params={"chip": memory.name, "changes": CHANGES, "axi": asdict(axi), "base": 0x40000, "streams": streams,
                    "out": str(out), **more})
        return json.loads(out.read_text()) | {"bytes": streams * design.stream_beats * design.hw.beat_bytes}


def of_decode(tokens):
    """The ledger's rows of a text that the board's top writes."""
    text, passes, bound, _ = decode(tokens, shape=DECODES, held=True, name=BOARD)
    cycles, words = (sum(counts[name] for counts in passes) for name in ("cycles", "axi_words"))
    chosen = board(BOARD)
    used = words * MT41K256M16.port_width / MT41K256M16.cycle_bits / (cycles * chosen.memory_mhz / chosen.clock)
    print(f"{text!r}: {cycles / tokens:,.0f} cycles a token (at most {bound:,} for its weights, by the model), "
          f"{used:.4f} of the controller's bandwidth")
    how = {"kind": "measured", "command": f"python -m tools.bench_ddr3 --decode {tokens}"}
    return [{"name": "ddr3_decode_utilization", "value": round(used, 4), "unit": "", **how},
            {"name": "ddr3_cycles_per_token", "value": round(cycles / tokens), "unit": "cycles", **how}]


def of_outside(tokens):
    """The ledger's rows of such a text with keys and values in the chip."""
    text, passes, bound, _ = decode(tokens, shape=OUTSIDE, held=True, name=BOARD)
    cycles, took, model = (sum(counts[name] for counts in passes)
                           for name in ("cycles", "attention", "attention_model"))
    told = bound * tokens + model
    print(f"{text!r}: {cycles / tokens:,.0f} cycles a token, {cycles / told:.4f} of what the planner says "
          f"({bound:,} for its weights, {model / tokens:,.0f} for attention); attention took {took / tokens:,.0f}, "
          "as weights came meanwhile")
    how = {"kind": "measured", "command": f"python -m tools.bench_ddr3 --outside {tokens}"}
    return [{"name": "ddr3_kv_cycles_per_token", "value": round(cycles / tokens), "unit": "cycles", **how},
            {"name": "ddr3_kv_cycles_ratio", "value": round(cycles / told, 4), "unit": "", **how}]


def smollm2():
    """The ledger's rows of SmolLM2-135M on the board, of its shape there in 8 bits, and in 4 bits, the LM head too:
    over the first 256 positions, and over all."""
    chosen, rows = board(BOARD), []
    for suffix, formats in (("", None), ("_4_bits", "weights=e2m1")):
        design = Design(model=SMOLLM2_135M, hw=hw_shape(SHAPE, SMOLLM2_135M), recipe=recipe(formats))
        size = design.stream_beats * design.hw.beat_bytes
        for name, texts in (("smollm2_board_tokens_per_second", 1), ("smollm2_board_batch_tokens_per_second", 8)):
            for length, context in LENGTHS.items():
                of = replace(design, hw=replace(design.hw, context=context))
                found = reading(of, chosen.memory, chosen.clock, texts, chosen.memory_clock)
                print(f"{name}{length}{suffix}: {found.memory:,.0f} cycles of a pass for what it reads, "
                      f"{found.machine:,.0f} for the rest")
                rows.append((f"{name}{length}{suffix}", round(1e6 * chosen.clock / found.cycles, 2), "tokens/s"))
        rows += [(f"smollm2_board_bytes{suffix}", size, "bytes"),
                 (f"smollm2_board_load_seconds{suffix}", round(load_seconds(size, chosen.baud), 1), "s")]
    for name, value, unit in rows:
        print(f"{name:44} {value:,} {unit}")
    # of 4 bits no machine has been built
    return [{"name": name, "value": value, "unit": unit,
             "kind": "projected" if unit == "tokens/s" and name.endswith("_bits") else "derived",
             "command": "python -m tools.bench_ddr3 --smollm2"} for name, value, unit in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=3, help="one behind the other (default: 3)")
    parser.add_argument("--decode", type=int, metavar="N", help="only the board's top, for a text of N tokens")
    parser.add_argument("--outside", type=int, metavar="N", help="the same with keys and values in the chip")
    parser.add_argument("--smollm2", action="store_true", help="only the speeds of SmolLM2-135M")
    options = parser.parse_args()
    if options.smollm2 or options.decode or options.outside:
        ledger.record("ddr3.json", smollm2() if options.smollm2 else of_decode(options.decode) if options.decode
                      else of_outside(options.outside))
        return
    chosen = board(BOARD)
    clocks = {"clock": chosen.memory_mhz, "machine": chosen.clock if chosen.memory_clock else None}
    words = f" --streams {options.streams}" if options.streams != parser.get_default("streams") else ""
    how = {"unit": "", "kind": "measured", "command": f"python -m tools.bench_ddr3{words}"}
    entries = []
    for name, settings in (("ddr3_bandwidth_utilization", {}),
                           ("ddr3_bandwidth_utilization_refreshes_alone", {"refresh_postponing": 1})):
        counts = measure(**clocks, streams=options.streams, **settings)
        used = counts["words"] / counts["steady"]
        print(f"{name}: {used:.4f}: {counts['words']:,} words in {counts['steady']:,} cycles, {counts['activates']} "
              f"rows opened, {counts['refreshes']} refreshes", flush=True)
        entries.append({"name": name, "value": round(used, 4), **how})
        if not settings:
            bound = read_cycles(MT41K256M16, chosen.memory_mhz, counts["bytes"])
            print(f"at most {bound:,} cycles for {counts['bytes']:,} bytes by the model: {counts['cycles']:,}, "
                  f"{counts['cycles'] / bound:.2%} of that")
            entries.append({"name": "ddr3_bound_reached", "value": round(counts["cycles"] / bound, 4), **how})
    ledger.record("ddr3.json", entries)


if __name__ == "__main__":
    main()
