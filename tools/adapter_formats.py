#!/usr/bin/env python3
"""What the codes of each array leave of an adapter: the demo model with the one in hwgen/models/devil, on entries of
the dictionary that it was not trained on, in nats a token as the golden model says.

The demo model's LM head is its table of embeddings, and so in 8 bits, as the whole array then is. Here the head is a
copy of it, so that all matrices can be in E2M1.
"""
import dataclasses
import itertools

import numpy as np

from hwgen.golden.decoder import GoldenDecoder
from hwgen.models import DEMO, load, quantize
from hwgen.models.adapter_codes import quantize_adapter
from hwgen.models.adapters import Adapted, read_adapter
from hwgen.models.checkpoint import Checkpoint
from hwgen.models.reference import Reference
from hwgen.params.design import Design
from hwgen.params.presets import hw_shape, recipe
from tools import ledger
from tools.devil_text import texts

SHAPE, LENGTH = "demo,adapters=1", 255
FORMATS = ("e3m4", "weights=e2m1,layers.0-0=e3m4", "weights=e2m1,block_range=12", "weights=e2m1",
           "weights=e2m1,block_range=0")


def untied(base):
    """The checkpoint with a copy of its table as the LM head."""
    return Checkpoint(dataclasses.replace(base.shape, tie_word_embeddings=False), base.source,
                      lambda name: base.tensor("model.embed_tokens.weight" if name == "lm_head.weight" else name))


def nats(logits, tokens):
    """Per token, in pieces that each begin with <|endoftext|> (id 0)."""
    total = 0.0
    for start in range(0, len(tokens), LENGTH):
        piece = tokens[start:start + LENGTH]
        found = np.asarray(logits([0, *piece[:-1]]), np.float64)
        found -= found.max(axis=-1, keepdims=True)
        total += float((np.log(np.exp(found).sum(axis=-1)) - found[np.arange(len(piece)), piece]).sum())
    return total / len(tokens)


def machines(base, adapter):
    """(a name, {"without", "with": a function of tokens that gives logits}) of each."""
    checkpoint = untied(base)
    for text in FORMATS:
        design = Design(model=checkpoint.shape, hw=hw_shape(SHAPE, checkpoint.shape), recipe=recipe(text))
        quantized = quantize(checkpoint, design.recipe)
        golden = GoldenDecoder(design, quantized)
        golden.load_adapter(1, quantize_adapter(adapter, quantized, design))

        def logits(number, golden=golden):
            def of(tokens):
                acc, exponents = golden.head(golden.layers([(0, i, token, True, 0, number)
                                                            for i, token in enumerate(tokens)]))
                return np.ldexp(acc, (exponents + golden.design.acc_unit)[:, None])
            return of
        yield f"{text}, array {design.array_format}", {"without": logits(0), "with": logits(1)}


def main():
    base = load(DEMO)
    adapter, (_, held) = read_adapter("devil", base), texts(base.tokenizer.encode)
    of_float = {"without": Reference.of(base).logits, "with": Adapted(base, adapter).logits}
    rows = []
    for name, logits in itertools.chain([("float32", of_float)], machines(base, adapter)):
        found = {column: nats(of, held) for column, of in logits.items()}
        found["less"] = found["without"] - found["with"]
        rows += [(f"devil {name}/{column}", round(value, 4), "nats a token") for column, value in found.items()]
        print(f"{name:45}" + "".join(f"{column} {value:.4f}  " for column, value in found.items()), flush=True)
    ledger.record("adapters.json", [{"name": name, "value": value, "unit": unit, "kind": "measured",
                                     "command": "python -m tools.adapter_formats"} for name, value, unit in rows])


if __name__ == "__main__":
    main()
