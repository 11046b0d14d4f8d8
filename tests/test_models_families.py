"""Families of transformers, against its logits for the tiny models of family_cases.py."""
import json
from pathlib import Path

import numpy as np
import pytest

from family_cases import CASES, POSITIONS, TOKENS, read_records, write_folder
from hwgen.models import ModelError, load
from hwgen.models.families import FAMILIES
from hwgen.models.reference import Reference

RECORDS = read_records()
MEASURED = json.loads((Path(__file__).parents[1] / "docs" / "families.json").read_text())


def folder(path, name, sizes=(), **changes):
    """The folder of a case with some options changed, or removed (...), and tensors added."""
    record = RECORDS[name]
    config = {key: value for key, value in (record["config"] | changes).items() if value is not ...}
    return write_folder(path / "model", CASES[name], config, record["sizes"] | dict(sizes))


def loaded(path, name, **changes):
    return load(folder(path, name, **changes), need_tokenizer=False)


def difference(path, name, **changes):
    """Largest difference of the float32 logits from the recorded ones, of the largest."""
    found, expected = Reference.of(loaded(path, name, **changes)).logits(TOKENS)[list(POSITIONS)], RECORDS[name]["logits"]
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_logits(tmp_path, name):
    assert difference(tmp_path, name) < 1e-4
    assert MEASURED[name]["float32"] < 1e-4


def test_every_family_is_recorded():
    assert {case["model_type"] for case in CASES.values()} == set(FAMILIES)
    assert list(RECORDS) == list(CASES) == list(MEASURED)
    assert all(name.partition(",")[0] == case["model_type"] for name, case in CASES.items())


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left(tmp_path, name):
    """transformers' own configuration, and all tensors, are accounted for."""
    assert loaded(tmp_path, name).warnings == []


#: A case, options that matter in it, and other values.
MATTERS = {
    "llama, yarn": {"rope_parameters": {"rope_type": "default", "rope_theta": 900.0}},
    "mistral": {"sliding_window": 8},
    "phi3": {"partial_rotary_factor": ..., "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
    "ernie4_5": {"rms_norm_eps": 0.1},
    "granite": {"residual_multiplier": 0.4},
    "granite, untied": {"logits_scaling": 4.0},
}


@pytest.mark.parametrize("name", MATTERS)
def test_options_matter(tmp_path, name):
    assert difference(tmp_path, name, **MATTERS[name]) > 1e-3


def refusal(*arguments, **changes):
    with pytest.raises(ModelError) as error:
        loaded(*arguments, **changes)
    line = str(error.value)
    assert "\n" not in line
    return line.partition("model/")[2] or line.partition("model: ")[2]


REFUSED = [
    ("olmo", {"clip_qkv": 0.5}, "config.json: Option clip_qkv must be None, not 0.5: this hardware does not clip queries, keys and values"),
    ("phi3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
     "config.json: RoPE type must be one of default, longrope, not 'linear'"),
    ("helium", {"attention_bias": False}, "tensor model.layers.0.self_attn.k_proj.bias is none of this model: its architecture is not supported"),
]


@pytest.mark.parametrize("name, changes, message", REFUSED, ids=lambda value: value if isinstance(value, str) else None)
def test_refused(tmp_path, name, changes, message):
    assert refusal(tmp_path, name, **changes) == message


@pytest.mark.parametrize("name, said", [
    ("granite", "embedding times 7, residual times 0.3, logits times 0.2"), ("olmo", "mean of LayerNorm"),
    ("phi3", "q, k, v from one matrix; gate, up from one matrix; attention factor 1.09545 squared into the queries"),
    ("ernie4_5", "rows of queries and keys reordered")])
def test_what_was_folded_is_said(tmp_path, name, said):
    assert loaded(tmp_path, name).notes["folded"] == said


def test_longrope_is_of_the_original_context(tmp_path):
    checkpoint = loaded(tmp_path, "phi3")
    assert checkpoint.shape.max_position_embeddings == 32
    assert "the context is at most 32" in checkpoint.notes["RoPE scaling"]
