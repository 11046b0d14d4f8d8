#!/usr/bin/env python3
"""The accuracy tables of docs/accuracy.md: the demo model and SmolLM2-135M-Instruct, part by part and as whole machines."""
import argparse

from hwgen.commands.models import RECIPES
from hwgen.models import DEMO, load
from hwgen.params.hardware import HwShape
from hwgen.params.presets import recipe
from hwgen.plan.accuracy import compare, variants
from tools import get_smollm2, ledger

WINDOW = 256


def measure(checkpoint, name, count):
    text = (DEMO / "valid.txt").read_text(encoding="utf-8")
    tokens = checkpoint.tokenizer.encode(text, special=False)[:count]
    models = variants(checkpoint, {text: recipe(text) for text in RECIPES}, HwShape(context=WINDOW), parts=True)
    rows = compare(checkpoint, tokens, models, window=WINDOW, prefix=checkpoint.tokenizer.encode(""),
                   progress=lambda done, total: print(f"\r{name}: {done} of {total}", end="", flush=True))
    print()
    entry = {"kind": "measured", "command": "python -m tools.bench_accuracy"}
    first = next(iter(rows.values()))
    entries = [{"name": f"{name} tokens", "value": first.tokens, "unit": "tokens", **entry},
               {"name": f"{name} float32 perplexity", "value": round(first.reference_perplexity, 3), "unit": "", **entry}]
    for label, row in rows.items():
        kind = "machine" if label in RECIPES else "part"
        for column, value, unit in (("KL", round(row.kl, 5), ""), ("perplexity above float32", round(100 * row.perplexity_increase, 2), "%"),
                                    ("standard error", round(100 * row.increase_error, 2), "%"), ("top-1", round(100 * row.top1, 2), "%")):
            entries.append({"name": f"{name} {kind} {label}/{column}", "value": value, "unit": unit, **entry})
        print(f"{label:34} KL {row.kl:.4f}  perplexity {row.perplexity_increase:+.2%} +- {row.increase_error:.2%}  top-1 {row.top1:.2%}")
    ledger.record("accuracy.json", entries)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=3000, help="of the text, for SmolLM2 (default: 3000); the demo model reads all of it")
    options = parser.parse_args()
    measure(load("demo"), "demo", None)
    get_smollm2.main()
    measure(load(get_smollm2.TARGET), "smollm2-135m", options.tokens)


if __name__ == "__main__":
    main()
