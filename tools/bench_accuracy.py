#!/usr/bin/env python3
"""The accuracy tables of docs/accuracy.md: the demo model and SmolLM2-135M-Instruct, part by part and as whole
machines, and models with outliers."""
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwgen.commands.models import RECIPES
from hwgen.models import DEMO, load, quantize
from hwgen.params.hardware import HwShape
from hwgen.params.presets import recipe
from hwgen.plan.accuracy import PartlyFp8, compare, golden, variants
from hwgen.plan.compensate import calibration_texts, kept_in
from tools import get_smollm2, ledger

WINDOW = 256
E2M1 = "weights=e2m1,head=e3m4"
QKV = "weights=e2m1,qkv=e3m4,head=e3m4"
#: SmolLM2 under 5 bits a weight, all counted: what `tools.spend_bits` finds.
MIXED = "weights=e2m1,head=e3m4,layers.11.down=e3m4,layers.28.down=e3m4"
KEPT = Path("build/quantized")      # codes that were made before
FIVE, FIVE_KV, ROW_KV = "weights=e2m5", "weights=e2m5,kv=e2m5", "scales=row,kv=e2m5"
TABLE = ("e3m4", "scales=row", FIVE, E2M1)
COMPENSATED = ("e3m4", "scales=row", FIVE, E2M1, QKV)
ENTRY = {"kind": "measured", "command": "python -m tools.bench_accuracy"}


def outlier(checkpoint, factor=100.0, channels=(7, 20, 33)):
    """The same function in float32: some channels of norms' gains, of values and of "up" are ``factor`` times as large,
    and what reads them so much smaller."""
    heads, size = checkpoint.shape.group_size, checkpoint.shape.head_dim
    values = [channel % size for channel in channels]
    readers = [(head * size + value) for value in values for head in range(heads)]      # of the first K/V head

    def read(name):
        tensor, by = checkpoint.tensor(name).copy(), np.float32(factor)
        if name.endswith("layernorm.weight"):
            tensor[list(channels)] *= by
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
            tensor[:, list(channels)] /= by
        for rows, columns, some, others in (("v_proj.weight", "o_proj.weight", values, readers),
                                            ("up_proj.weight", "down_proj.weight", channels, channels)):
            if name.endswith(rows):
                tensor[list(some)] *= by
            elif name.endswith(columns):
                tensor[:, list(others)] /= by
        return tensor

    return checkpoint.with_tensors(read)


def bits(quantized):
    """Of a weight, offsets of rows and blocks included, over all matrices; a tied table counts once."""
    tables = [quantized.head] + [quantized.embedding] * (quantized.embedding is not quantized.head)
    matrices = [matrix for layer in quantized.layers for matrix in layer.matrices().values()] + tables
    total = sum(matrix.codes.size * matrix.fmt.bits * (2 if matrix.lo is not None else 1)
                + 4 * sum(part.size for part in (matrix.rows, matrix.blocks) if part is not None)
                for matrix in matrices)
    return total / sum(matrix.codes.size for matrix in matrices)


class Integers(PartlyFp8):
    """Weights as integers of so many bits, symmetric, a float32 scale for each row; inputs of matrices as 8-bit ones, a
    scale for each vector."""

    def __init__(self, checkpoint, count):
        super().__init__(checkpoint, recipe(), ())
        for name, tensor in self._weights.items():
            if tensor.ndim == 2 and (count == 8 or ".layers." in name):
                self._weights[name] = self._whole(tensor, count)
            elif tensor.ndim == 2:
                self._weights[name] = self._whole(tensor, 8)

    def _rounded(self, operand, x):
        return self._whole(x, 8) if operand == "activations" else x

    @staticmethod
    def _whole(x, count):
        most = np.float32(2 ** (count - 1) - 1)
        scale = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-30)) / most
        return np.clip(np.rint(x / scale), -most, most) * scale


def tokens_of(checkpoint, count):
    return checkpoint.tokenizer.encode((DEMO / "valid.txt").read_text(encoding="utf-8"), special=False)[:count]


def rows_of(checkpoint, tokens, models, label):
    """label -> `Agreement`."""
    rows = compare(checkpoint, tokens, models, window=WINDOW, prefix=checkpoint.tokenizer.encode(""),
                   progress=lambda done, total: print(f"\r{label}: {done} of {total}", end="", flush=True))
    print()
    for name, row in rows.items():
        print(f"{name:50} KL {row.kl:.5f}  perplexity {row.perplexity_increase:+.2%} +- {row.increase_error:.2%}  "
              f"top-1 {row.top1:.2%}",
              flush=True)
    return rows


def compensated(checkpoint, name, text):
    print(f"{name}: {text}, compensated", flush=True)
    folder = KEPT / f"{name}-{text.replace(',', '-').replace('=', '_')}"
    return kept_in(folder, checkpoint, recipe(text), calibration_texts(checkpoint))[0]


def table(checkpoint, name, count, wanted):
    """Records the model's rows, those that are ``wanted`` or all; label -> `Agreement`."""
    hw = HwShape(context=WINDOW)

    def machine(quantized):
        return lambda: golden(checkpoint, quantized.recipe, hw, quantized)

    models = variants(checkpoint, {text: recipe(text) for text in RECIPES}, hw, parts=True)
    for width in (8, 4):
        models[f"INT{width} rows simulated"] = lambda width=width: Integers(checkpoint, width).logits
    made = {text: lambda text=text: quantize(checkpoint, recipe(text)) for text in TABLE}
    made |= {f"{text} compensated": lambda text=text: compensated(checkpoint, name, text)
             for text in (*COMPENSATED, *[MIXED] * (name != "demo"))}
    # codes of weights that were made for keys and values in E3M4
    for text, of in ((FIVE_KV, FIVE), (ROW_KV, "scales=row")):
        made[f"{text} compensated"] = lambda text=text, of=of: replace(compensated(checkpoint, name, of),
                                                                       recipe=recipe(text))
    if unknown := set(wanted) - {*models, *made}:
        raise SystemExit(f"Rows must be of {'; '.join([*models, *made])}, not {unknown.pop()}")
    models, sizes = {label: model for label, model in models.items() if not wanted or label in wanted}, {}
    for label, make in made.items():
        if not wanted or label in wanted:
            found = make()
            models[label], sizes[label] = machine(found), bits(found)
    rows = rows_of(checkpoint, tokens_of(checkpoint, count), models, name)
    first = next(iter(rows.values()))
    entries = [{"name": f"{name} tokens", "value": first.tokens, "unit": "tokens", **ENTRY},
               {"name": f"{name} float32 perplexity", "value": round(first.reference_perplexity, 3),
                "unit": "", **ENTRY}]
    for label, row in rows.items():
        kind = "part" if " only" in label else "machine"
        columns = [("KL", round(row.kl, 5), ""), ("perplexity above float32",
                                                  round(100 * row.perplexity_increase, 2), "%"),
                   ("standard error", round(100 * row.increase_error, 2), "%"),
                   ("top-1", round(100 * row.top1, 2), "%")]
        if label in sizes:
            columns.append(("bytes per weight", round(sizes[label] / 8, 3), ""))
        entries += [{"name": f"{name} {kind} {label}/{column}", "value": value, "unit": unit, **ENTRY}
                    for column, value, unit in columns]
    ledger.record("accuracy.json", entries)
    return rows


def with_outliers(checkpoint, name, count, plain):
    """Records what outliers cost: compensated, beside the plain model's nearest."""
    model, text, hw = outlier(checkpoint), "scales=row", HwShape(context=WINDOW)
    nearest, found = quantize(model, recipe(text)), compensated(model, f"{name}-outliers", text)
    models = {label: lambda q=q: golden(model, q.recipe, hw, q)
              for label, q in ((text, nearest), (f"{text} compensated", found))}
    rows = rows_of(checkpoint, tokens_of(checkpoint, count), models, f"{name} with outliers")
    ledger.record("accuracy.json", [
        *({"name": f"{name} with outliers {label}/KL", "value": round(row.kl, 5), "unit": "", **ENTRY}
          for label, row in rows.items()),
        *({"name": key, "value": round(rows[f"{text} compensated"].kl / plain.kl, 3), "unit": "", **ENTRY}
          for key in (f"{name} outlier_kl_ratio", *["outlier_kl_ratio"] * (name != "demo")))])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=3000,
                        help="of the text, for SmolLM2 (default: 3000); the demo model reads all of it")
    parser.add_argument("--model", choices=("demo", "smollm2-135m"), help="only this one")
    parser.add_argument("--row", action="append", default=[], metavar="LABEL",
                        help="only this row of the tables, as it is called there; may be repeated")
    options = parser.parse_args()
    if options.model in (None, "demo"):
        demo = load("demo")
        rows = table(demo, "demo", None, options.row)
        if not options.row:
            with_outliers(demo, "demo", None, rows["scales=row compensated"])
    if options.model in (None, "smollm2-135m"):
        get_smollm2.main()
        checkpoint = load(get_smollm2.TARGET)
        rows = table(checkpoint, "smollm2-135m", options.tokens, options.row)
        values = {}
        for key, text in (("smollm2_e3m4", ROW_KV), ("smollm2_e3m4_all", "scales=row"), ("smollm2_e2m5", FIVE),
                          ("smollm2_e2m5_kv", FIVE_KV), ("smollm2_e2m1", E2M1), ("smollm2_mixed", MIXED)):
            if row := rows.get(f"{text} compensated"):
                values |= {f"{key}_perplexity": row.perplexity_increase, f"{key}_kl": row.kl}
        if {E2M1, f"{E2M1} compensated"} <= set(rows):
            values["e2m1_kl_ratio"] = rows[f"{E2M1} compensated"].kl / rows[E2M1].kl
        ledger.record("accuracy.json", [{"name": key, "value": round(value, 5), "unit": "", **ENTRY}
                                        for key, value in values.items()])
        if not options.row:
            with_outliers(checkpoint, "smollm2-135m", options.tokens, rows["scales=row compensated"])


if __name__ == "__main__":
    main()
