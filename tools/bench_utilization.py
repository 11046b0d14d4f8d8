#!/usr/bin/env python3
"""Decode with one entry through the RTL of a 32 x 32 array, SmolLM2-135M's shape, with the smallest engines beside it
that keep it 93 % busy at a context below 64: how busy its MACs are, and what else takes time.

Weights are random: no cycle depends on them. Every token, signature, cycle and counter is compared with the golden
model.
"""
import argparse

from hwgen.host.driver import CheckedLink
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry
from hwgen.host.links.machine import simulated
from hwgen.models import quantize, random_checkpoint
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.phases import phases
from hwgen.params.presets import hw_shape
from tools import ledger
from tools.benches import stage

CONTEXT = 64
#: Of `tools.bench_lost`'s machines.
SHAPE = "latency-32x32,vector_lanes=32,attention_rows=4"


def phase_cycles(Phase, result):
    """Phase -> cycles of a pass."""
    spent = dict.fromkeys(Phase, 0)
    ends = [start for start, *_ in result.phases[1:]] + [result.cycles + 1]
    for (start, phase, _), end in zip(result.phases, ends):
        spent[Phase(phase)] += end - start
    return spent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default=SHAPE, help=f"another shape than {SHAPE}: prints, and records nothing")
    parser.add_argument("--position", type=int, default=56,
                        help="positions before the first measured one (default: 56)")
    parser.add_argument("--tokens", type=int, default=4, help="decoded tokens to measure (default: 4)")
    options = parser.parse_args()
    design = Design(model=SMOLLM2_135M, hw=hw_shape(f"{options.shape},context={CONTEXT}", SMOLLM2_135M),
                    recipe=Recipe())
    quantized = quantize(random_checkpoint(SMOLLM2_135M), design.recipe)
    results = []
    with simulated(design, quantized, stage) as link, GoldenLink(design, quantized) as golden:
        checked = CheckedLink(link, golden)
        for position in range(options.position + options.tokens):
            want = position >= options.position
            result = checked.run_pass([Entry(0, position, 1009 * position % design.model.vocab_size, want)])
            if want:
                results.append(result)
            print(f"position {position}: {result.cycles:,} cycles, {result.counters['mac_busy']:,} of them "
                  "with the MACs busy", flush=True)
    n, Phase = len(results), phases(design.block)
    cycles = sum(r.counters["cycles"] for r in results)
    busy = sum(r.counters["mac_busy"] for r in results)
    spent = {phase: sum(phase_cycles(Phase, r)[phase] for r in results) / n for phase in Phase}
    print(f"utilization {busy / cycles:.1%}, {cycles / n:,.0f} cycles per token")
    for phase, count in spent.items():
        print(f"  {phase.name:10} {count:10,.0f}")
    if options.shape != SHAPE:
        return
    entry = {"kind": "measured", "command": "python -m tools.bench_utilization"}
    ledger.record("utilization.json", [
        {"name": "decode_mac_utilization", "value": round(busy / cycles, 4), "unit": "", **entry},
        {"name": "decode_cycles_per_token", "value": round(cycles / n), "unit": "cycles", **entry},
        {"name": "decode_tokens_per_second_100mhz", "value": round(1e8 * n / cycles), "unit": "tokens/s", **entry,
         "kind": "projected"},
        *({"name": f"decode cycles of phase {phase.name}", "value": round(count), "unit": "cycles", **entry}
          for phase, count in spent.items() if count)])


if __name__ == "__main__":
    main()
