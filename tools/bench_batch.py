#!/usr/bin/env python3
"""Sixteen entries a pass through the RTL of a 32 x 32 array with two half-batches: how busy its MACs are, and why not always.

SmolLM2-135M's shape, and Llama 3.1 8B's with two layers and a vocabulary of 8,192. Weights and what stands in the KV memory before the
first pass are arbitrary: no cycle depends on them. Every cycle and counter is compared with the cycle model.
"""
import argparse
import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np

from hwgen.golden.sequencer import pass_timeline
from hwgen.host.link import Entry
from hwgen.host.verilated import VerilatedLink, build_model
from hwgen.lib.verilog import emit_design
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import LLAMA3_8B, SMOLLM2_135M
from hwgen.params.presets import hw_shape
from hwgen.top.decoder import Decoder
from tools import ledger

SHAPE = "batch-32x32"
LLAMA = dataclasses.replace(LLAMA3_8B, name="llama-3.1-8b-2-layers", num_hidden_layers=2, vocab_size=8192, bos_token_id=0, eos_token_ids=())
MODELS = {"smollm2": SMOLLM2_135M, "llama": LLAMA}
PASSES = {"smollm2": {"decode": 2, "prefill": 1, "mixed": 3}, "llama": {"decode": 1, "mixed": 1}}
RATIO = 16      # prompt tokens for each generated one


def decode(design, number):
    """One generated token for each slot, at positions that are spread over the context."""
    hw = design.hw
    first = hw.context // 4
    return [Entry(i, first + (i * (hw.context - first) // hw.entries + number) % (hw.context - first), 17 * i + number, True)
            for i in range(hw.entries)]


def prefill(design, number):
    """A chunk of one slot's prompt in the later half of the context; its last entry wants output."""
    hw = design.hw
    start = hw.context // 2 + number * hw.entries % (hw.context // 2)
    return [Entry(number % hw.slots, start + i, 31 * i + number, i == hw.entries - 1) for i in range(hw.entries)]


def mixed(design, number):
    """Prompt tokens of one slot, and after each 16 of them, counted over the passes, a generated token of another slot."""
    hw = design.hw
    entries, start = [], hw.context // 2 + number * hw.entries % (hw.context // 2)
    for i in range(hw.entries):
        if (number * hw.entries + i) % (RATIO + 1) == RATIO:
            entries.append(Entry((number + 1) % hw.slots, hw.context - 1 - i, i, True))
        else:
            entries.append(Entry(number % hw.slots, start, 29 * i + number, False))
            start += 1
    return entries


KINDS = {"decode": decode, "prefill": prefill, "mixed": mixed}


def write_weights(path, design):
    """A stream of random bytes."""
    block = np.random.default_rng(1).integers(0, 256, 1 << 24, np.uint8) & 0xBF      # finite codes
    left = design.stream_beats * design.hw.beat_bytes
    with open(path, "wb") as file:
        while left:
            left -= file.write(block[:left].data)


def difference(design, result, entries):
    """The largest difference between the RTL's cycles and counters and the model's."""
    time = pass_timeline(design, [e.position for e in entries], [e.want for e in entries])
    if len(time.outcomes) != len(result.outcome_cycles) or len(time.phases) != len(result.phases):
        raise SystemExit("the RTL has other phases or outcomes than the cycle model")
    return max(*(abs(a - b) for a, b in zip(time.outcomes, result.outcome_cycles)),
               *(abs(a - b[0]) for a, b in zip((x[0] for x in time.phases), result.phases)),
               *(abs(time.counters[name] - result.counters[name]) for name in time.counters))


def measure(name, model, counts, shape, stack):
    """{kind: summed counters}, and the largest difference."""
    design = Design(model=model, hw=hw_shape(shape, model), recipe=Recipe())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ.get("HWGEN_CACHE"))))
    write_weights(folder / "weights.bin", design)
    print(f"{name}: emitting and building", flush=True)
    executable = build_model(emit_design(Decoder(design), "decoder"), "decoder", design)
    link = stack.enter_context(VerilatedLink(design, executable, weights=folder / "weights.bin"))
    sums, worst = {}, 0
    for kind, count in counts.items():
        total = sums[kind] = {}
        for number in range(1, count + 1):
            entries = KINDS[kind](design, number)
            result = link.run_pass(entries)
            worst = max(worst, difference(design, result, entries))
            for counter, value in result.counters.items():
                total[counter] = total.get(counter, 0) + value
            print(f"{name} {kind} {number}: {result.counters['mac_busy'] / result.counters['cycles']:.4f} of {result.cycles:,} cycles, "
                  f"difference {worst}", flush=True)
    return sums, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default=SHAPE, help="another shape: prints, and records nothing")
    parser.add_argument("--models", default=",".join(MODELS), help="some of the models: prints, and records what it can")
    options = parser.parse_args()
    found, worst = {}, {}
    for name in options.models.split(","):
        with contextlib.ExitStack() as stack:
            found[name], worst[name] = measure(name, MODELS[name], PASSES[name], options.shape, stack)
    if options.shape != SHAPE:
        return
    entry = {"kind": "measured", "command": "python -m tools.bench_batch"}
    busy = {(name, kind): c["mac_busy"] / c["cycles"] for name, kinds in found.items() for kind, c in kinds.items()}
    rows = []
    for name, kinds in found.items():
        for kind, c in kinds.items():
            parts = {"MACs busy": c["mac_busy"], "starved of weights": c["mac_starved"], "blocked by results": c["mac_blocked"]}
            parts["without an operation"] = c["cycles"] - sum(parts.values())
            parts |= {"norm": c["norm"], "attention": c["attention"], "weight beats": c["weight_beats"]}
            rows += [{"name": f"{name} {kind}/{part}", "value": round(100 * value / c["cycles"], 2), "unit": "%", **entry}
                     for part, value in parts.items()]
    if set(found) == set(MODELS):
        rows += [{"name": "decode_t16_mac_utilization", "value": round(min(v for (_, kind), v in busy.items() if kind == "decode"), 4),
                  "unit": "", **entry},
                 {"name": "mixed_mac_utilization", "value": round(min(v for (_, kind), v in busy.items() if kind == "mixed"), 4),
                  "unit": "", **entry},
                 {"name": "model_cycle_difference", "value": max(worst.values()), "unit": "cycles", **entry}]
    ledger.record("batch.json", rows)
    for row in rows:
        print(f"{row['name']:45} {row['value']}")


if __name__ == "__main__":
    main()
