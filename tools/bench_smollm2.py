#!/usr/bin/env python3
"""SmolLM2-135M-Instruct answers a question through RTL simulation: its tokens against golden, and how long a token takes."""
import argparse
import os
import tempfile
import time
from pathlib import Path

from hwgen.host.driver import CheckedLink, Totals, generate
from hwgen.host.golden_link import GoldenLink
from hwgen.host.link import Link
from hwgen.host.machine import simulated
from hwgen.models import load, quantize
from hwgen.params.design import Design
from hwgen.params.presets import hw_shape, recipe
from tools import get_smollm2, ledger
from tools.bench_utilization import stage

TRANSCRIPT = Path(__file__).resolve().parent.parent / "docs" / "transcript-smollm2.md"
QUESTION = "What is the capital of France?"
SHAPE = "latency-32x32"
COMMAND = "python -m tools.bench_smollm2"


class Timed(Link):
    """A link, and the seconds of each of its passes."""

    def __init__(self, link):
        self.link, self.design, self.seconds = link, link.design, []

    def run_pass(self, entries):
        start = time.perf_counter()
        result = self.link.run_pass(entries)
        self.seconds.append(time.perf_counter() - start)
        return result

    def operate(self, *operation):
        return self.link.operate(*operation)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--formats", help="recipe; another than the default records nothing")
    options = parser.parse_args()
    get_smollm2.main()
    checkpoint = load(get_smollm2.TARGET)
    design = Design(model=checkpoint.shape, hw=hw_shape(SHAPE, checkpoint.shape), recipe=recipe(options.formats))
    prompt = checkpoint.tokenizer.encode_chat(QUESTION)
    quantized = quantize(checkpoint, design.recipe)
    prefill, decode, tokens, built = Totals(), Totals(), [], 0.0

    with tempfile.TemporaryDirectory() as cache:
        os.environ["HWGEN_CACHE"] = cache       # so that the build is measured
        start = time.perf_counter()
        with simulated(design, quantized, stage) as link, GoldenLink(design, quantized) as golden:
            built = time.perf_counter() - start
            print(f"emitted and built in {built:.0f} s; {len(prompt)} tokens of prompt")
            timed = Timed(link)
            for token in generate(CheckedLink(timed, golden), prompt, options.max_tokens, stop=checkpoint.shape.eos_token_ids,
                                  prefilled=lambda done, total: print(f"\rprefill {done} of {total}", end="", flush=True),
                                  prefill=prefill, decode=decode):
                tokens.append(token)
                print(f"\n{checkpoint.tokenizer.decode(tokens)}", end="", flush=True)
    answer = checkpoint.tokenizer.decode(tokens)
    seconds = timed.seconds[prefill.passes:]    # of the passes that decode
    per_token = sum(seconds) / len(seconds)
    print(f"\n{per_token:.2f} s per decoded token")
    if options.formats:
        return
    entry = {"kind": "measured", "command": COMMAND}
    ledger.record("smollm2.json", [
        {"name": "smollm2_seconds_per_token", "value": round(per_token, 3), "unit": "s", **entry},
        {"name": "smollm2_prefill_seconds_per_token", "value": round(sum(timed.seconds[:prefill.passes]) / prefill.tokens, 3), "unit": "s", **entry},
        {"name": "smollm2_build_seconds", "value": round(built), "unit": "s", **entry},
        {"name": "smollm2_cycles_per_token", "value": round(decode.counters["cycles"] / decode.tokens), "unit": "cycles", **entry},
        {"name": "smollm2_mac_utilization", "value": round(decode.counters["mac_busy"] / decode.counters["cycles"], 4), "unit": "", **entry},
        {"name": "smollm2_tokens_per_second_100mhz", "value": round(1e8 * decode.tokens / decode.counters["cycles"]), "unit": "tokens/s",
         **entry, "kind": "projected"}])
    TRANSCRIPT.write_text(transcript(checkpoint, design, prompt, tokens, answer))


def transcript(checkpoint, design, prompt, tokens, answer):
    hw = design.hw
    return f"""# SmolLM2-135M-Instruct through the generated RTL

Written by `{COMMAND}`. The file `{Path(checkpoint.source).name}` (4-bit GGUF, fetched by `python -m tools.get_smollm2`), quantized to
{design.recipe.weight_format}, on the Verilog of `--shape {SHAPE}` ({hw.lanes} lanes x {hw.columns} columns), simulated with Verilator. Every
token, every layer's signature, and every cycle and counter of all {len(prompt) + len(tokens) - 1} passes equals the golden model's.

The prompt, in the model's chat template ({len(prompt)} tokens):

```
{checkpoint.tokenizer.decode(prompt, special=True).rstrip()}
```

The answer ({len(tokens)} tokens, greedy):

```
{answer}
```

Token ids: {", ".join(map(str, tokens))}

<!-- ledger:smollm2.json:smollm2_* -->
<!-- end -->
"""


if __name__ == "__main__":
    main()
