#!/usr/bin/env python3
"""The planner at scale for two models: throughput counted both ways, utilization, and what binds. Everything is
projected."""
import argparse

from hwgen.params.model import PRESETS
from hwgen.plan.scale import outcome, parse
from tools import ledger

CASES = {
    "llama-3-70b": ["", "link_tb_s=4", "link_tb_s=4,entries=4096", "split=pipeline", "split=pipeline,entries=4096",
                    "split=pipeline,entries=4096,attention_engines=128",
                    "split=pipeline,entries=4096,halves=1", "split=pipeline,hbm_tb_s=8"],
    "llama-3.1-8b": ["", "split=pipeline", "split=pipeline,entries=4096,attention_engines=128",
                     "split=pipeline,entries=4096,attention_engines=128,hbm_tb_s=8"],
}


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    entries = []
    for name, cases in CASES.items():
        for case in cases:
            found = outcome(parse(PRESETS[name], case))
            command = f"hwgen plan scale --model {name}" + (f" --set {case}" if case else "")
            label = f"{name} {case or '(as assumed)'}".replace(",", " ")
            busy = dict(found.busy)
            for column, value, unit in (("in and out", round(found.in_out), "tokens/s"),
                                        ("out", round(found.out), "tokens/s"),
                                        ("MACs", round(100 * found.mac_utilization, 1), "%"),
                                        ("HBM", round(100 * busy["HBM"], 1), "%"),
                                        ("links", round(100 * busy.get("links", 0), 1), "%"),
                                        ("attention", round(100 * busy["attention"], 1), "%")):
                entries.append({"name": f"{label}/{column}", "value": value, "unit": unit, "kind": "projected",
                                "command": "python -m tools.bench_scale"})
            print(f"{label:80}{found.in_out:12,.0f}{found.out:10,.0f}{found.mac_utilization:8.1%}  {found.binds}  "
                  f"({command})", flush=True)
    ledger.record("scale.json", entries)


if __name__ == "__main__":
    main()
