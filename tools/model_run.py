"""A real model answers through RTL simulation: its tokens against golden, and how long a token takes."""
import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hwgen.host.driver import CheckedLink, Totals, generate
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Link
from hwgen.host.links.machine import simulated
from hwgen.models import load, quantize
from hwgen.params.design import Design
from hwgen.params.presets import hw_shape, recipe
from tools import ledger
from tools.benches import stage

DOCS = Path(__file__).resolve().parent.parent / "docs"


@dataclass(frozen=True)
class Run:
    """A model, what it is asked, and the machine that it runs on. ``name``: of the ledger, the transcript and the
    command."""
    name: str
    title: str
    shape: str
    fetch: object           # module with main() and TARGET
    question: str
    chat: bool

    @property
    def command(self):
        return f"python -m tools.bench_{self.name}"


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


def main(run, doc):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--max-tokens", type=int, default=40 if run.chat else 12)
    parser.add_argument("--formats", help="recipe; another than the default records nothing")
    options = parser.parse_args()
    run.fetch.main()
    checkpoint = load(run.fetch.TARGET)
    design = Design(model=checkpoint.shape, hw=hw_shape(run.shape, checkpoint.shape), recipe=recipe(options.formats))
    encode = checkpoint.tokenizer.encode_chat if run.chat else checkpoint.tokenizer.encode
    prompt = encode(run.question)
    quantized = quantize(checkpoint, design.recipe)
    prefill, decode, tokens, built = Totals(), Totals(), [], 0.0

    with tempfile.TemporaryDirectory() as cache:
        os.environ["HWGEN_CACHE"] = cache       # so that the build is measured
        start = time.perf_counter()
        with simulated(design, quantized, stage) as link, GoldenLink(design, quantized) as golden:
            built = time.perf_counter() - start
            print(f"emitted and built in {built:.0f} s; {len(prompt)} tokens of prompt")
            timed = Timed(link)
            for token in generate(CheckedLink(timed, golden), prompt, options.max_tokens,
                                  stop=checkpoint.shape.eos_token_ids,
                                  prefilled=lambda done, total: print(f"\rprefill {done} of {total}", end="",
                                                                      flush=True),
                                  prefill=prefill, decode=decode):
                tokens.append(token)
                print(f"\n{checkpoint.tokenizer.decode(tokens)}", end="", flush=True)
    answer = checkpoint.tokenizer.decode(tokens)
    seconds = timed.seconds[prefill.passes:]    # of the passes that decode
    per_token = sum(seconds) / len(seconds)
    print(f"\n{per_token:.2f} s per decoded token")
    if options.formats:
        return
    entry = {"kind": "measured", "command": run.command}
    ledger.record(f"{run.name}.json", [
        {"name": f"{run.name}_seconds_per_token", "value": round(per_token, 3), "unit": "s", **entry},
        {"name": f"{run.name}_prefill_seconds_per_token",
         "value": round(sum(timed.seconds[:prefill.passes]) / prefill.tokens, 3),
         "unit": "s", **entry},
        {"name": f"{run.name}_build_seconds", "value": round(built), "unit": "s", **entry},
        {"name": f"{run.name}_cycles_per_token", "value": round(decode.counters["cycles"] / decode.tokens),
         "unit": "cycles", **entry},
        {"name": f"{run.name}_mac_utilization", "value": round(decode.counters["mac_busy"] / decode.counters["cycles"],
                                                               4),
         "unit": "", **entry},
        {"name": f"{run.name}_tokens_per_second_100mhz",
         "value": round(1e8 * decode.tokens / decode.counters["cycles"]),
         "unit": "tokens/s",
         **entry, "kind": "projected"}])
    (DOCS / f"transcript-{run.name}.md").write_text(transcript(run, checkpoint, design, prompt, tokens, answer))


def transcript(run, checkpoint, design, prompt, tokens, answer):
    hw = design.hw
    return f"""# {run.title} through the generated RTL

Written by `{run.command}`. The file `{Path(checkpoint.source).name}` (4-bit GGUF, fetched by `python -m {run.fetch.__name__}`), quantized to
{design.recipe.weight_format}, on the Verilog of `--shape {run.shape}` ({hw.lanes} lanes x {hw.columns} columns), simulated with Verilator. Every
token, every layer's signature, and every cycle and counter of all {len(prompt) + len(tokens) - 1} passes equals the golden model's.

The prompt{", in the model's chat template" if run.chat else ""} ({len(prompt)} tokens):

```
{checkpoint.tokenizer.decode(prompt, special=True).rstrip()}
```

The answer ({len(tokens)} tokens, greedy):

```
{answer}
```

Token ids: {", ".join(map(str, tokens))}

<!-- ledger:{run.name}.json:{run.name}_* -->
<!-- end -->
"""  # noqa: E501 (a line of text is a line of the page)
