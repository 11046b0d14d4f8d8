#!/usr/bin/env python3
"""Compare hwgen's float32 reference of Gemma 3 270M with transformers on prompts: logits, and greedy tokens.

    python -m tools.check_gemma3                              # five prompts
    python -m tools.check_gemma3 "The first men on the moon"  # yours

transformers reads the same GGUF file (`tools.get_gemma3`) by its own loader. Needs the extra `reference`, and `pip
install accelerate gguf`; some minutes and 4 GB of memory. Exit code 1 if a token differs.
"""
import argparse
import sys

import numpy as np

from hwgen.models import load
from hwgen.models.reference import Reference
from tools import get_gemma3

PROMPTS = ("The capital of France is", "Once upon a time there was a", "def fibonacci(n):",
           "Die Hauptstadt von Österreich ist",
           "1, 2, 3, 5, 8, 13,")


def ours(reference, tokens, count):
    """(logits after ``tokens``, the ``count`` greedy tokens behind them)"""
    cache, found = reference.cache(len(tokens) + count), []
    first = logits = reference.logits(tokens, cache)[-1]
    while len(found) < count:
        found.append(int(logits.argmax()))
        logits = reference.logits(found[-1:], cache)[-1]
    return first, found


def theirs(model, tokens, count):
    """The same of transformers."""
    import torch
    with torch.no_grad():
        given = torch.tensor([tokens])
        logits = model(given).logits[0, -1].numpy()
        text = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=count, do_sample=False,
                              eos_token_id=None)
    return logits, text[0, len(tokens):].tolist()


def main():
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="*", default=PROMPTS, help="texts to go on with")
    parser.add_argument("--tokens", type=int, default=24, metavar="N", help="behind each (default: 24)")
    options = parser.parse_args()
    get_gemma3.main()
    checkpoint = load(get_gemma3.TARGET)
    reference = Reference.of(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(get_gemma3.TARGET.parent,
                                                              gguf_file=get_gemma3.TARGET.name,
                                                              dtype=torch.float32)
    differ = 0
    for prompt in options.prompts:
        tokens = checkpoint.tokenizer.encode(prompt)
        (logits, found), (expected, right) = ours(reference, tokens,
                                                  options.tokens), theirs(model, tokens, options.tokens)
        equal = sum(a == b for a, b in zip(found, right))
        differ += found != right
        print(f"{equal} of {options.tokens} tokens equal, logits within {np.abs(logits - expected).max():.1e} of "
              f"{np.abs(expected).max():.1f}: "
              f"{prompt!r} ->{checkpoint.tokenizer.decode(found)!r}", flush=True)
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
