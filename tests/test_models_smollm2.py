"""A real model, where `python tools/get_smollm2.py` has fetched it."""
from pathlib import Path

import pytest

from hwgen.models import load
from hwgen.models.reference import Reference
from hwgen.params.model import SMOLLM2_135M

PATH = Path(__file__).parent.parent / "models" / "smollm2-135m-instruct.gguf"

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not PATH.exists(), reason="run tools/get_smollm2.py first")]


def test_answers_a_question():
    checkpoint = load(PATH)
    # end tokens as llama.cpp finds them by their texts: <|im_end|>, <file_sep>, <|endoftext|>
    assert vars(checkpoint.shape) == vars(SMOLLM2_135M) | {"name": PATH.stem, "eos_token_ids": (2, 4, 0)}
    reference = Reference.of(checkpoint)
    tokens = checkpoint.tokenizer.encode_chat("What is the capital of France?")
    cache, stream, text = reference.cache(), checkpoint.tokenizer.stream(), ""
    for _ in range(20):
        token = int(reference.logits(tokens, cache)[-1].argmax())
        if token in checkpoint.shape.eos_token_ids:
            break
        text += stream.push(token)
        tokens = [token]
    assert text + stream.end() == "The capital of France is Paris."
