"""The shipped model is what its card says."""
import hashlib
import math
import re

import numpy as np
import pytest

from hwgen.models import DEMO, load
from hwgen.models.reference import Reference
from hwgen.params import model as shapes

CARD = (DEMO / "README.md").read_text(encoding="utf-8")


def test_folder():
    assert sum(path.stat().st_size for path in DEMO.iterdir()) <= 700_000
    digest = hashlib.sha256((DEMO / "model.safetensors").read_bytes()).hexdigest()
    assert f"`{digest}`" in CARD
    assert load("demo").shape == shapes.DEMO


def test_tokenizer():
    tokenizer = load("demo").tokenizer
    text = (DEMO / "valid.txt").read_text(encoding="utf-8")
    tokens = tokenizer.encode(text)
    assert tokens[0] == 0 and 0 not in tokens[1:]
    assert tokenizer.decode(tokens[1:]) == text
    for odd in ("", " ", "\n\n  x", "\u00a320,000 \u2014 \U0001f600", "\t\0"):
        assert tokenizer.decode(tokenizer.encode(odd)[1:]) == odd


def test_loss():
    """The float32 reference finds the loss that training found: names, layout and arithmetic agree with transformers."""
    nats, bits = map(float, re.search(r"([\d.]+) nats per token, ([\d.]+) bits per byte", CARD).groups())
    checkpoint = load("demo")
    reference = Reference.of(checkpoint)
    text = (DEMO / "valid.txt").read_bytes()
    tokens = checkpoint.tokenizer.encode(text.decode("utf-8"))[1:]
    length, total = checkpoint.shape.max_position_embeddings, 0.0
    for start in range(0, len(tokens), length):
        piece = np.array(tokens[start:start + length])
        logits = reference.logits([0, *piece[:-1]]).astype(np.float64)
        total += (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(piece)), piece]).sum()
    assert total / len(tokens) == pytest.approx(nats, abs=2e-4)
    assert total / math.log(2) / len(text) == pytest.approx(bits, abs=2e-4)
