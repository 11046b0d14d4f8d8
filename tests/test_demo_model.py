"""The shipped models are what their cards say."""
import hashlib
import math
import re

import numpy as np
import pytest

from hwgen.models import DEMO, MINI, WIRE, load
from hwgen.models.reference import Reference
from hwgen.params import model as shapes

pytestmark = pytest.mark.parametrize("folder", [DEMO, MINI, WIRE], ids=lambda folder: folder.name)


def card(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def test_folder(folder):
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size <= {"demo": 700_000, "mini": 250_000, "wire": 150_000}[folder.name]
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    shape = load(folder.name).shape
    assert f"`{digest}`" in card(folder) and f"A Llama of {shape.parameter_count:,} parameters" in card(folder)
    assert shape.name == folder.name and (folder != DEMO or shape == shapes.DEMO)


def test_tokenizer(folder):
    tokenizer = load(folder.name).tokenizer
    text = (folder / "valid.txt").read_text(encoding="utf-8")
    tokens = tokenizer.encode(text)
    assert tokens[0] == 0 and 0 not in tokens[1:]
    assert tokenizer.decode(tokens[1:]) == text
    for odd in ("", " ", "\n\n  x", "\u00a320,000 \u2014 \U0001f600", "\t\0"):
        assert tokenizer.decode(tokenizer.encode(odd)[1:]) == odd


def test_loss(folder):
    """The float32 reference finds the loss that training found: names, layout and arithmetic agree with
    transformers."""
    nats, bits = map(float, re.search(r"([\d.]+) nats per token, ([\d.]+) bits per byte", card(folder)).groups())
    checkpoint = load(folder.name)
    reference = Reference.of(checkpoint)
    text = (folder / "valid.txt").read_bytes()
    tokens = checkpoint.tokenizer.encode(text.decode("utf-8"))[1:]
    length, total = checkpoint.shape.max_position_embeddings, 0.0
    for start in range(0, len(tokens), length):
        piece = np.array(tokens[start:start + length])
        logits = reference.logits([0, *piece[:-1]]).astype(np.float64)
        total += (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(piece)), piece]).sum()
    assert total / len(tokens) == pytest.approx(nats, abs=2e-4)
    assert total / math.log(2) / len(text) == pytest.approx(bits, abs=2e-4)
