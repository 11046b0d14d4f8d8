#!/usr/bin/env python3
"""How long it takes to load weights into the memory of a board, over its line or from an SD card: derived of the whole,
and simulated on a part.

The part is a block that goes through the UART pins of the simulated top of a small machine, at the board's cycles per
bit; the cycles are the simulation's. What the host's serial driver adds is assumed (`hwgen.params.loader.ROUND_TRIP`),
and so is how long a card takes between blocks (`hwgen.params.card.BLOCK_WAIT`): the simulated one takes none, so that
its cycles are the machine's. Nothing has run on hardware.
"""
import argparse
import dataclasses
import random
import tempfile
import time
import zlib
from pathlib import Path

from hwgen.fpga import files
from hwgen.fpga.boards import board
from hwgen.golden.card_reader import card_cycles
from hwgen.host.links.board import build_pins, buses, pins_link
from hwgen.host.links.card import card_image
from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import pack
from hwgen.params.card import CardError, card_timing
from hwgen.params.design import Design
from hwgen.params.loader import BLOCK, ROUND_TRIP
from hwgen.params.model import DEMO, SMOLLM2_135M
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan.loading import card_seconds, check_seconds, load_seconds
from sim.designs import small_design
from sim.memory_board import Memory
from tools import ledger
from tools.benches import cycles_so_far

BOARD, CARD_BOARD = "ulx3s-85f-sdram", "ulx3s-85f-sdram-card"
#: Of a machine that has no part in it.
SMALL = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, entries=2, slots=2, tile_beats=1, context=16,
             kv_block=2, hidden_size=4,
             intermediate_size=3, num_attention_heads=1, num_key_value_heads=1, head_dim=2, vocab_size=11,
             num_hidden_layers=2,
             source="stream")


def simulated(chosen, size):
    """(cycles that a block of ``size`` bytes takes, cycles of reading it back), through the pins."""
    small = dataclasses.replace(chosen, memory=Memory())
    design = small_design(**SMALL)
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    executable = build_pins(small, design, quantized, divisor=files.divisor(chosen))
    with tempfile.TemporaryDirectory() as folder:
        memory, report = Path(folder) / "memory.bin", Path(folder) / "cycles"
        memory.touch()
        with pins_link(executable, design, quantized, axi=buses(small), memory=memory, loaded=False,
                       timeout=600) as link:
            def cycles():
                return cycles_so_far(link, report, link.memory)
            data = random.Random(1).randbytes(size)
            counts = [cycles()]
            for block, words in ((link.load_block, data), (link.check_block, size)):
                state = block(0, words)
                assert not state.error and state.crc == zlib.crc32(data)
                counts.append(cycles())
            assert memory.read_bytes()[:size] == data
    return tuple(later - before for before, later in zip(counts, counts[1:]))


def from_card(chosen):
    """(Blocks of weights that a small machine of the board reads from its card, cycles of each), at the board's
    clocks."""
    small = dataclasses.replace(chosen, memory=Memory())
    design = small_design(**SMALL | dict(vocab_size=2000))
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    executable = build_pins(small, design, quantized)
    with tempfile.TemporaryDirectory() as folder:
        memory, card, report = (Path(folder) / name for name in ("memory.bin", "card.img", "cycles"))
        memory.touch()
        card.write_bytes(card_image(design, buses(small), pack(quantized, design)))
        with pins_link(executable, design, quantized, axi=buses(small), memory=memory, loaded=False, card=(card,),
                       timeout=600) as link:
            assert link.card().error == CardError.NONE
            link.control(f"report {report}")
            link.memory()
            while not report.exists() or not report.read_text().count("\n") == 2:
                time.sleep(0.01)
        blocks, first, last = map(int, report.read_text().splitlines()[1].split())
    return blocks - 1, (last - first) / (blocks - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=BLOCK, help="of the part that is simulated (default: a block)")
    options = parser.parse_args()
    chosen = board(BOARD)
    command = "python -m tools.bench_load" + (f" --bytes {options.bytes}" if options.bytes != BLOCK else "")
    rows = []
    for name, model in (("load_seconds", SMOLLM2_135M), ("load_seconds_demo", DEMO)):
        design = Design(model=model, hw=hw_shape(chosen.shape, model), recipe=recipe(chosen.formats))
        size = design.stream_beats * design.hw.beat_bytes
        kind = "projected" if size > chosen.memory.size else "derived"
        rows += [(name, card_seconds(size, chosen.clock, chosen.memory.axi()), "s", kind),
                 (f"{name}_quick_card", card_seconds(size, chosen.clock, chosen.memory.axi(), wait=0), "s", kind),
                 (f"{name}_uart", load_seconds(size, chosen.baud), "s", "derived"),
                 (name.replace("seconds", "bytes"), size, "bytes", "derived"),
                 (name.replace("load", "check"), check_seconds(size, chosen.clock, chosen.memory.axi()),
                  "s", "derived")]
    sent, read = simulated(chosen, options.bytes)
    blocks, each = from_card(board(CARD_BOARD))
    rows += [("load_baud", chosen.baud, "baud", "derived"), ("load_part_bytes", options.bytes, "bytes", "derived"),
             ("load_part_seconds", sent / chosen.clock / 1e6, "s", "measured"),
             ("load_part_seconds_derived", load_seconds(options.bytes, chosen.baud) - 2 * ROUND_TRIP, "s", "derived"),
             ("load_card_part_blocks", blocks, "blocks", "measured"),
             ("load_card_part_block_cycles", each, "cycles", "measured"),
             ("load_card_part_block_cycles_derived", card_cycles(512, card_timing(chosen.clock), 0),
              "cycles", "derived"),
             ("check_part_cycles_per_byte", read / options.bytes, "cycles", "measured")]
    for name, value, unit, _ in rows:
        print(f"{name:28} {value:,.6g} {unit}")
    ledger.record("load.json", [{"name": name, "value": round(value, 4), "unit": unit, "kind": kind, "command": command}
                                for name, value, unit, kind in rows])


if __name__ == "__main__":
    main()
