#!/usr/bin/env python3
"""What an adapter of rank 8 on all matrices of the demo model costs: cycles of a token, seconds to load it over a UART.

Cycles are the cycle model's, which equal the RTL's. Seconds are derived of the whole; a small machine's adapter goes
through the UART pins of its simulated top, at the board's cycles per bit. What the host's serial driver adds is assumed
(`hwgen.params.loader.ROUND_TRIP`). Nothing has run on hardware.
"""
import tempfile
from pathlib import Path

from hwgen.fpga import files
from hwgen.fpga.boards import board
from hwgen.golden.sequencer import pass_timeline
from hwgen.host.links.board import build_pins, pins_link
from hwgen.models import quantize, random_checkpoint
from hwgen.models.adapter_codes import random_adapter
from hwgen.params.design import Design
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan.loading import adapter_seconds
from sim.designs import small_design
from tools import ledger
from tools.benches import cycles_so_far

BOARD, SHAPE, POSITION = "ulx3s-85f", "demo,adapters=1", 128
SMALL = dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, entries=2, slots=2, tile_beats=1, context=16,
             kv_block=2, hidden_size=6, intermediate_size=6, num_attention_heads=1, num_key_value_heads=1, head_dim=4,
             vocab_size=11, num_hidden_layers=2, adapters=1, adapter_rank=32)


def simulated(chosen):
    """(cycles that an adapter takes through the pins, the `Design`)"""
    design = small_design(**SMALL)
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    executable = build_pins(chosen, design, quantized, divisor=files.divisor(chosen))
    with tempfile.TemporaryDirectory() as folder, pins_link(executable, design, quantized, timeout=600) as link:
        def cycles():
            return cycles_so_far(link, Path(folder) / "cycles", link.counters)
        before = cycles()
        none = cycles() - before
        link.load_adapter(1, random_adapter(design, 1))
        return cycles() - before - 2 * none, design


def main():
    chosen = board(BOARD)
    design = Design(model=DEMO, hw=hw_shape(SHAPE, DEMO), recipe=recipe(None, None))
    without, more = (pass_timeline(design, [POSITION], [True], adapters=[number]).counters["cycles"]
                     for number in (0, 1))
    cycles, small = simulated(chosen)
    rows = [("adapter_cycle_overhead", 100 * (more / without - 1), "%", "derived"),
            ("adapter_bytes", design.adapter_map.beats * design.hw.beat_bytes, "bytes", "derived"),
            ("adapter_uart_baud", chosen.baud, "baud", "derived"),
            ("adapter_uart_load_seconds", adapter_seconds(design, chosen.baud), "s", "derived"),
            ("adapter_uart_part_bytes", small.adapter_map.beats * small.hw.beat_bytes, "bytes", "derived"),
            ("adapter_uart_part_seconds", cycles / chosen.clock / 1e6, "s", "measured"),
            ("adapter_uart_part_seconds_derived", adapter_seconds(small, chosen.baud, round_trip=0), "s", "derived")]
    for name, value, unit, _ in rows:
        print(f"{name:34} {value:,.6g} {unit}")
    ledger.record("adapters.json", [{"name": name, "value": round(value, 4), "unit": unit, "kind": kind,
                                     "command": "python -m tools.bench_adapters"} for name, value, unit, kind in rows])


if __name__ == "__main__":
    main()
