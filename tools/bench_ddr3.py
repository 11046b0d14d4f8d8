#!/usr/bin/env python3
"""Read long streams of weights through LiteDRAM's own Verilog from a simulated chip of DDR3: how much of the
controller's bandwidth the machine's reader gets, with refreshes and row misses.

Every word is compared, and the chip must have no complaint. The FPGA's cells at the pins are models. Beside the
settings that are taken: refreshes each alone, or eight together. It needs the extra `dram`.

``--decode``: instead, the board's whole top through its UART pins, with the demo model in the chip from the beginning;
each token must be golden's. Its own counters say how much of the bandwidth a pass uses. ``--outside``: with keys and
values in the chip too; how long attention takes, beside the cycle model's memory.

``--smollm2``: instead, tokens a second of SmolLM2-135M on the board, and the time to load it: from the board's clock,
the cycle model and the bound of a stream. Nothing is simulated, and nothing has run on hardware.

``--board``: another board with DDR3.
"""
import argparse
import json
import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from hwgen.fpga.boards import board
from hwgen.params.dram import MT41K256M16, POSTPONED
from hwgen.plan.loading import load_seconds, read_time, reading
from sim.ddr3_memory import ddr3_reader
from sim.designs import small_design
from sim.runner import run
from tools import ledger
from tools.board_text import decode
from tools.smollm2_boards import SHAPES, design_of

BOARD = "ecpix-5-85f"
#: Board -> what the names of its rows begin with, and those of SmolLM2-135M.
NAMES = {BOARD: ("ddr3", "smollm2_board"), "arty-a7-100": ("arty_ddr3", "smollm2_arty")}
#: Positions over which SmolLM2's speeds are the mean.
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


def of_decode(name, tokens):
    """The ledger's rows of a text that the board's top writes."""
    text, passes, bound, _ = decode(tokens, shape=DECODES, held=True, name=name)
    cycles, words = (sum(counts[count] for counts in passes) for count in ("cycles", "axi_words"))
    chosen = board(name)
    memory = chosen.memory
    used = words * memory.port_width / memory.cycle_bits / (cycles * chosen.memory_mhz / chosen.clock)
    print(f"{text!r}: {cycles / tokens:,.0f} cycles a token (at most {bound:,} for its weights, by the model), "
          f"{used:.4f} of the controller's bandwidth")
    how, prefix = {"kind": "measured", "command": _command(name, f"--decode {tokens}")}, NAMES[name][0]
    return [{"name": f"{prefix}_decode_utilization", "value": round(used, 4), "unit": "", **how},
            {"name": f"{prefix}_cycles_per_token", "value": round(cycles / tokens), "unit": "cycles", **how}]


def of_outside(name, tokens):
    """The ledger's rows of such a text with keys and values in the chip."""
    text, passes, bound, _ = decode(tokens, shape=OUTSIDE, held=True, name=name)
    cycles, took, model = (sum(counts[count] for counts in passes)
                           for count in ("cycles", "attention", "attention_model"))
    told = bound * tokens + model
    print(f"{text!r}: {cycles / tokens:,.0f} cycles a token, {cycles / told:.4f} of what the planner says "
          f"({bound:,} for its weights, {model / tokens:,.0f} for attention); attention took {took / tokens:,.0f}, "
          "as weights came meanwhile")
    how, prefix = {"kind": "measured", "command": _command(name, f"--outside {tokens}")}, NAMES[name][0]
    return [{"name": f"{prefix}_kv_cycles_per_token", "value": round(cycles / tokens), "unit": "cycles", **how},
            {"name": f"{prefix}_kv_cycles_ratio", "value": round(cycles / told, 4), "unit": "", **how}]


def _command(name, words):
    return f"python -m tools.bench_ddr3 {words}" + f" --board {name}" * (name != BOARD)


def smollm2(name):
    """The ledger's rows of SmolLM2-135M on the board, of its shape there in 8 bits, and in 4 bits, the LM head too:
    over the first 256 positions, and over all."""
    chosen, rows, prefix = board(name), [], NAMES[name][1]
    for suffix, formats in (("", None), ("_4_bits", "weights=e2m1")):
        design = design_of(name, formats)
        size = design.stream_beats * design.hw.beat_bytes
        for what, texts in ((f"{prefix}_tokens_per_second", 1), (f"{prefix}_batch_tokens_per_second", 8)):
            for length, context in LENGTHS.items():
                # of the blocks that such a context has, if its memory has no room for all slots'
                blocks = min(design.hw.kv_blocks, design.hw.slots * context // design.hw.kv_block)
                of = replace(design, hw=replace(design.hw, context=context, kv_blocks=blocks))
                found = reading(of, chosen.memory, chosen.clock, texts, chosen.memory_clock)
                print(f"{what}{length}{suffix}: {found.memory:,.0f} cycles of a pass for what it reads, "
                      f"{found.machine:,.0f} for the rest")
                rows.append((f"{what}{length}{suffix}", round(1e6 * chosen.clock / found.cycles, 2), "tokens/s"))
        rows += [(f"{prefix}_bytes{suffix}", size, "bytes"),
                 (f"{prefix}_load_seconds{suffix}", round(load_seconds(size, chosen.baud), 1), "s")]
    for what, value, unit in rows:
        print(f"{what:44} {value:,} {unit}")
    # of 4 bits no machine has been built, and of a board without a bitstream none
    return [{"name": what, "value": value, "unit": unit, "kind": "projected" if unit == "tokens/s" and (
                what.endswith("_bits") or name != BOARD) else "derived", "command": _command(name, "--smollm2")}
            for what, value, unit in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=3, help="one behind the other (default: 3)")
    parser.add_argument("--decode", type=int, metavar="N", help="only the board's top, for a text of N tokens")
    parser.add_argument("--outside", type=int, metavar="N", help="the same with keys and values in the chip")
    parser.add_argument("--smollm2", action="store_true", help="only the speeds of SmolLM2-135M")
    parser.add_argument("--board", choices=SHAPES, default=BOARD)
    options = parser.parse_args()
    name = options.board
    if options.smollm2 or options.decode or options.outside:
        ledger.record("ddr3.json", smollm2(name) if options.smollm2 else of_decode(name, options.decode)
                      if options.decode else of_outside(name, options.outside))
        return
    chosen, prefix = board(name), NAMES[name][0]
    clocks = {"clock": chosen.memory_mhz, "machine": chosen.clock if chosen.memory_clock else None}
    words = f"--streams {options.streams}" if options.streams != parser.get_default("streams") else ""
    how = {"unit": "", "kind": "measured", "command": _command(name, words).replace("  ", " ").strip()}
    entries, other = [], {"alone": 1} if chosen.memory.phy.postponed > 1 else {"together": POSTPONED}
    for what, settings in ((f"{prefix}_bandwidth_utilization", {}),
                           *((f"{prefix}_bandwidth_utilization_refreshes_{how_many}", {"refresh_postponing": number})
                             for how_many, number in other.items())):
        counts = measure(**clocks, streams=options.streams, memory=chosen.memory, **settings)
        used = counts["words"] / counts["steady"]
        print(f"{what}: {used:.4f}: {counts['words']:,} words in {counts['steady']:,} cycles, {counts['activates']} "
              f"rows opened, {counts['refreshes']} refreshes", flush=True)
        entries.append({"name": what, "value": round(used, 4), **how})
        if not settings:
            bound = math.ceil(read_time(chosen.memory, chosen.clock, counts["bytes"], chosen.memory_clock)
                              * chosen.memory_mhz / chosen.clock)
            print(f"at most {bound:,} cycles for {counts['bytes']:,} bytes by the model: {counts['cycles']:,}, "
                  f"{counts['cycles'] / bound:.2%} of that")
            entries.append({"name": f"{prefix}_bound_reached", "value": round(counts["cycles"] / bound, 4), **how})
    ledger.record("ddr3.json", entries)


if __name__ == "__main__":
    main()
