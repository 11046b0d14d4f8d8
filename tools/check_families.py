"""The machine of each recorded family on the Verilator model, against golden: tokens, signatures, cycles and counters
of random passes.

    python -m tools.check_families                  # all families, one and two half-batches: half an hour on two cores
    python -m tools.check_families gemma qwen       # only those whose names start so
    python -m tools.check_families --stale          # only those that docs/families.json has nothing of

What was compared goes into docs/families.json, from which `python -m tools.tables` writes docs/models.md.
"""
import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import family_cases  # noqa: E402
from hwgen.host.driver import CheckedLink  # noqa: E402
from hwgen.host.links.golden_link import GoldenLink  # noqa: E402
from hwgen.host.links.verilated import VerilatedLink, build_model  # noqa: E402
from hwgen.lib.verilog import emit_design  # noqa: E402
from hwgen.models import load  # noqa: E402
from hwgen.models.pack import pack  # noqa: E402
from hwgen.models.quantize import quantize  # noqa: E402
from hwgen.params.design import Design  # noqa: E402
from hwgen.params.hardware import HwShape, Recipe  # noqa: E402
from hwgen.top.decoder import Decoder  # noqa: E402
from sim.passes import History, Operation, run_step  # noqa: E402

RESULTS = ROOT / "docs" / "families.json"
STEPS = 10
#: Odd on purpose: heads of 10 and 12 elements are padded to 12 and 16, the hidden 40 to 48, and windows begin inside KV
#: blocks.
SHAPES = {1: HwShape(lanes=8, columns=16, entries=3, slots=2, context=40, kv_block=8, vector_lanes=4, attention_lanes=4,
                     source="stream"),
          2: HwShape(lanes=16, columns=8, entries=4, halves=2, slots=3, context=36, kv_block=4, vector_lanes=2,
                     attention_lanes=8,
                     tile_beats=2, source="stream")}


def check(name, halves):
    """How many passes were equal. An exception says what was not."""
    case, record = family_cases.CASES[name], family_cases.read_records()[name]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = load(family_cases.write_folder(Path(folder) / "model", case, record["config"], record["sizes"]),
                          need_tokenizer=False)
        quantized = quantize(checkpoint, Recipe())
        context = min(SHAPES[halves].context, checkpoint.shape.longest_context)
        design = Design(model=checkpoint.shape, hw=replace(SHAPES[halves], context=context), recipe=Recipe())
        weights = Path(folder) / "weights.bin"
        weights.write_bytes(pack(quantized, design).tobytes())
        model = build_model(emit_design(Decoder(design), "decoder"), "decoder", design, opt="-O0")
        passes = 0
        with CheckedLink(VerilatedLink(design, model, weights=weights), GoldenLink(design, quantized)) as link:
            for step in History(design, 1, wrong=0.1).steps(STEPS):
                run_step(link, step)
                passes += not isinstance(step, Operation)
    return passes


def keep(name, rtl):
    """Put the result of a family into the file, as it is by now: others may have written in the meantime."""
    results = json.loads(RESULTS.read_text())
    if name in results:
        results[name]["rtl"] = rtl
    rows = (f"{json.dumps(key)}: {json.dumps(row)}" for key, row in results.items())
    RESULTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="starts of names (default: all)")
    parser.add_argument("--stale", action="store_true", help="only those that were never compared")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at a time (default: 2)")
    options = parser.parse_args()
    results, failed = json.loads(RESULTS.read_text()), []
    chosen = [name for name in family_cases.CASES if (not options.cases or name.startswith(tuple(options.cases)))
              and not (options.stale and results[name]["rtl"])]
    with ProcessPoolExecutor(options.jobs) as pool:
        found = {name: [pool.submit(check, name, halves) for halves in SHAPES] for name in chosen}
        for name, futures in found.items():
            try:
                passes = [future.result() for future in futures]
            except Exception as error:      # whatever went wrong, the others are tried too
                failed.append(name)
                keep(name, "")
                print(f"DIFFERS  {name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                      flush=True)
            else:
                equal = " + ".join(map(str, passes)) + " passes"
                keep(name, equal)
                print(f"equal    {name}: {equal}", flush=True)
    sys.exit(f"{len(failed)} of {len(chosen)} differ: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
