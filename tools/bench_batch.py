#!/usr/bin/env python3
"""Sixteen entries a pass through the RTL of a 32 x 32 array with two half-batches: how busy its MACs are, and why not
always.

SmolLM2-135M's shape, and Llama 3.1 8B's with two layers and a vocabulary of 8,192. Weights are arbitrary: no cycle
depends on them. One slot's prompt is read (prefill); forks of it give the other slots their contexts; then all of them
decode, and at last prompt and generated tokens are mixed. Every cycle and counter is compared with the cycle model.
"""
import argparse
import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np

from hwgen.host.links.link import Entry
from hwgen.host.links.timing_link import TimingLink
from hwgen.host.links.verilated import VerilatedLink, build_model
from hwgen.lib.verilog import emit_design
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import DEMO, LLAMA3_8B, SMOLLM2_135M
from hwgen.params.presets import hw_shape
from hwgen.top.decoder import Decoder
from tools import ledger

SHAPE = "batch-32x32"
LLAMA = dataclasses.replace(LLAMA3_8B, name="llama-3.1-8b-2-layers", num_hidden_layers=2, vocab_size=8192,
                            bos_token_id=0, eos_token_ids=())
MODELS = {"smollm2": SMOLLM2_135M, "llama": LLAMA, "demo": DEMO}
#: model: passes of {prefill, decode, mixed}
PASSES = {"smollm2": (12, 2, 3), "llama": (4, 1, 1), "demo": (12, 4, 8)}
RECORDED = ("smollm2", "llama")
RATIO = 16      # prompt tokens for each generated one


class Bench:
    """The RTL and the cycle model, pass by pass.

    ``length`` of each slot, ``sums`` of the counters by kind of pass, and the largest ``difference`` between RTL and
    model so far.
    """

    def __init__(self, name, design, link):
        self.name, self.design, self.link, self.model = name, design, link, TimingLink(design)
        self.length, self.sums, self.difference, self.sent = [0] * design.hw.slots, {}, 0, 0

    def run(self, kind, slots):
        """A pass of one entry for each of ``slots`` (slot, want)."""
        entries = []
        for slot, want in slots:
            self.sent += 1
            entries.append(Entry(slot, self.length[slot], 1009 * self.sent % self.design.model.vocab_size, want))
            self.length[slot] += 1
        got, expected = self.link.run_pass(entries), self.model.run_pass(entries)
        alike = [p[1:] for p in got.phases] == [p[1:] for p in expected.phases]
        if len(got.outcome_cycles) != len(expected.outcome_cycles) or not alike:
            raise SystemExit("the RTL has other phases or outcomes than the cycle model")
        self.difference = max(self.difference, *(abs(a - b)
                                                 for a, b in zip(got.outcome_cycles, expected.outcome_cycles)),
                              *(abs(a[0] - b[0]) for a, b in zip(got.phases, expected.phases)),
                              *(abs(got.counters[c] - value) for c, value in expected.counters.items()))
        total = self.sums.setdefault(kind, dict.fromkeys(got.counters, 0))
        for counter, value in got.counters.items():
            total[counter] += value
        print(f"{self.name} {kind}: {got.counters['mac_busy'] / got.counters['cycles']:.4f} of {got.cycles:,} cycles, "
              f"difference {self.difference}", flush=True)

    def fork(self, slot, length):
        """Slot 0's first positions become another slot's."""
        for link in self.link, self.model:
            link.fork(0, slot, length)
        self.length[slot] = length

    def all(self, prefill, decode, mixed):
        entries, slots = self.design.hw.entries, self.design.hw.slots
        for k in range(prefill):
            self.run("prefill", [(0, k == prefill - 1 and i == entries - 1) for i in range(entries)])
        for slot in range(1, slots):
            self.fork(slot, self.length[0] // 3 + slot * (self.length[0] // 2) // slots)
        for _ in range(decode):
            self.run("decode", [(slot % slots, True) for slot in range(entries)])
        for k in range(mixed):          # a generated token after each RATIO prompt tokens, counted over the passes
            generated = [(k * entries + i) % (RATIO + 1) == entries // 2 for i in range(entries)]
            self.run("mixed", [(1 + k % (slots - 1), True) if g else (0, False) for g in generated])


def write_weights(path, design):
    """A stream of random bytes."""
    block = np.random.default_rng(1).integers(0, 256, 1 << 24, np.uint8) & 0xBF      # finite codes
    left = design.stream_beats * design.hw.beat_bytes
    with open(path, "wb") as file:
        while left:
            left -= file.write(block[:left].data)


def measure(name, shape):
    model = MODELS[name]
    design = Design(model=model, hw=hw_shape(shape, model), recipe=Recipe())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ.get("HWGEN_CACHE"))))
        write_weights(folder / "weights.bin", design)
        print(f"{name}: emitting and building", flush=True)
        executable = build_model(emit_design(Decoder(design), "decoder"), "decoder", design)
        bench = Bench(name, design, stack.enter_context(VerilatedLink(design, executable,
                                                                      weights=folder / "weights.bin")))
        bench.all(*PASSES[name])
        return bench


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default=SHAPE, help="another shape: prints, and records nothing")
    parser.add_argument("--models", default=",".join(RECORDED),
                        help=f"some of {', '.join(MODELS)}; demo is not recorded (default: %(default)s)")
    options = parser.parse_args()
    benches = [measure(name, options.shape) for name in options.models.split(",")]
    more = "" if options.models == ",".join(RECORDED) else f" --models {options.models}"
    entry = {"kind": "measured", "command": f"python -m tools.bench_batch{more}"}
    rows, busy = [], {}
    for bench in benches:
        for kind, c in bench.sums.items():
            parts = {"MACs busy": c["mac_busy"], "starved of weights": c["mac_starved"],
                     "blocked by results": c["mac_blocked"]}
            parts["without an operation"] = c["cycles"] - sum(parts.values())
            parts |= {"norm": c["norm"], "attention": c["attention"], "weight beats": c["weight_beats"]}
            rows += [{"name": f"{bench.name} {kind}/{part}", "value": round(100 * value / c["cycles"], 2),
                      "unit": "%", **entry}
                     for part, value in parts.items()]
            busy[kind] = min(busy.get(kind, 1), c["mac_busy"] / c["cycles"])
    rows += [{"name": name, "value": round(busy[kind], 4), "unit": "", **entry}
             for name, kind in (("decode_t16_mac_utilization", "decode"), ("mixed_mac_utilization", "mixed"))]
    rows.append({"name": "model_cycle_difference", "value": max(bench.difference for bench in benches),
                 "unit": "cycles", **entry})
    for row in rows:
        print(f"{row['name']:45} {row['value']}")
    if options.shape == SHAPE and set(options.models.split(",")) <= set(RECORDED):
        ledger.record("batch.json", rows)


if __name__ == "__main__":
    main()
