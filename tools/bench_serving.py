#!/usr/bin/env python3
"""Policies of continuous batching on the cycle model: SmolLM2-135M's shape on the shape batch-32x32, 256 tokens in and
16 out on average.

48 requests arrive in a Poisson process that takes about three quarters of what the machine can do.
"""
import argparse

from hwgen.host.serving.policies import Policy
from hwgen.host.serving.scheduler import Scheduler
from hwgen.host.serving.report import Report, play
from hwgen.host.links.timing_link import TimingLink
from hwgen.host.serving.trace import Synthetic, requests_of
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.presets import hw_shape
from tools import ledger

TRACE = "requests=48,prompt=128:384,output=8:24,rate=2.6"
POLICIES = ("decode-first", "decode-first,budget=8", "prefill-first", "fcfs", "fair")
CLOCK = 100.0


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    design = Design(model=SMOLLM2_135M, hw=hw_shape("batch-32x32,context=512", SMOLLM2_135M), recipe=Recipe())
    requests = requests_of(Synthetic.parse(TRACE).lines(), SMOLLM2_135M, CLOCK)
    entries = []
    for policy in POLICIES:
        scheduler = Scheduler(TimingLink(design), Policy.parse(policy))
        facts = Report(scheduler, play(scheduler, requests), CLOCK).facts()
        first, each = facts["time_to_first_token"], facts["time_per_output_token"]
        values = {"first token, mean": (first["mean"], "s"), "first token, p99": (first["p99"], "s"),
                  "per token, mean": (1e3 * each["mean"], "ms"),
                  "per token, p99": (1e3 * each["p99"], "ms"), "entries a pass": (facts["entries_per_pass"], ""),
                  "MACs busy": (100 * facts["utilization"]["MAC array"], "%"),
                  "tokens in and out": (facts["tokens_per_second"], "tokens/s")}
        print(policy, ", ".join(f"{name} {value:,.4g} {unit}" for name, (value, unit) in values.items()), flush=True)
        entries += [{"name": f"{policy.replace(',', ' ')}/{name.replace(',', '')}", "value": float(f"{value:.4g}"),
                     "unit": unit,
                     "kind": "projected",
                     "command": "python -m tools.bench_serving"} for name, (value, unit) in values.items()]
    ledger.record("serving.json", entries)


if __name__ == "__main__":
    main()
