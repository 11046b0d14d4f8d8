"""Families of transformers, against its logits for the tiny models of family_cases.py."""
import json
from pathlib import Path

import numpy as np
import pytest

from family_cases import CASES, POSITIONS, TOKENS, read_records, weights, write_folder
from hwgen.models import ModelError, load
from hwgen.models.families import FAMILIES
from hwgen.models.reference import Reference
from model_files import write_safetensors
from tools import check_families

RECORDS = read_records()
MEASURED = json.loads((Path(__file__).parents[1] / "docs" / "families.json").read_text())


def folder(path, name, case=(), **changes):
    """The folder of a case, with something else in ``case`` and some options changed, or removed (...)."""
    record = RECORDS[name]
    config = {key: value for key, value in (record["config"] | changes).items() if value is not ...}
    return write_folder(path / "model", CASES[name] | dict(case), config, record["sizes"])


def loaded(path, name, **changes):
    return load(folder(path, name, **changes), need_tokenizer=False)


def difference(path, name, **changes):
    """Largest difference of the float32 logits from the recorded ones, of the largest."""
    found, expected = Reference.of(loaded(path, name,
                                          **changes)).logits(TOKENS)[list(POSITIONS)], RECORDS[name]["logits"]
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_logits(tmp_path, name):
    assert difference(tmp_path, name) < 1e-4
    assert MEASURED[name]["float32"] < 1e-4


def test_every_family_is_recorded():
    assert {case["model_type"] for case in CASES.values()} == set(FAMILIES)
    assert list(RECORDS) == list(CASES) == list(MEASURED)
    assert all(name.partition(",")[0] == case["model_type"] for name, case in CASES.items())


def test_results_are_kept_beside_those_of_others(tmp_path, monkeypatch):
    """Comparisons take long: a family that was added while they ran stays in the file."""
    file = tmp_path / "families.json"
    monkeypatch.setattr(check_families, "RESULTS", file)
    for text in ('{"a": {"rtl": ""}}', '{"a": {"rtl": ""}, "b": {"rtl": "3 + 4 passes"}}'):
        file.write_text(text)
        check_families.keep("a", "1 + 2 passes")
    assert json.loads(file.read_text()) == {"a": {"rtl": "1 + 2 passes"}, "b": {"rtl": "3 + 4 passes"}}


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
    "qwen2, window": {"max_window_layers": 2, "layer_types": ...},
    "stablelm": {"partial_rotary_factor": 0.8, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "hunyuan_v1_dense": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 300.0, "factor": 1.0}},
    "nanochat": {"final_logit_softcapping": None},
    "smollm3": {"no_rope_layers": [1, 1, 1, 1]},
    "exaone4": {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
    "gemma3_text": {"query_pre_attn_scalar": 30},
    "gemma2": {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    "vaultgemma": {"attn_logit_softcapping": 50.0},
    "gemma": {"hidden_act": "relu2"},
    "cohere": {"logit_scale": 0.25},
    "gptj": {"rotary_dim": 10},
    "gpt_neo": {"window_size": 8},
    "opt": {"activation_function": "gelu"},
    "xglm": {"pad_token_id": 1},
    "biogpt": {"scale_embedding": False},
    "ctrl": {"n_head": 2},
    "codegen": {"n_head": 2},
    "gpt_neox": {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.8}},
    "falcon": {"layer_norm_epsilon": 0.1},
    "gpt2": {"n_head": 2},
    "gpt_bigcode": {"scale_attn_weights": False},
    "gpt2, scores not scaled": {"scale_attn_weights": True},
}


@pytest.mark.parametrize("name", MATTERS)
def test_options_matter(tmp_path, name):
    assert difference(tmp_path, name, **MATTERS[name]) > 1e-3


@pytest.mark.parametrize("name, option", [("gemma2", "attn_logit_softcapping"), ("gemma2", "final_logit_softcapping"),
                                          ("gemma3_text, softcap", "final_logit_softcapping")])
def test_softcaps_matter(tmp_path, name, option):
    """Each of the two, and null is none."""
    assert difference(tmp_path, name, **{option: None}) > 1e-3


def refusal(*arguments, **changes):
    with pytest.raises(ModelError) as error:
        loaded(*arguments, **changes)
    line = str(error.value)
    assert "\n" not in line
    return line.partition("model/")[2] or line.partition("model: ")[2]


REFUSED = [
    ("olmo", {"clip_qkv": 0.5}, "config.json: Option clip_qkv must be None, not 0.5: this hardware does not clip "
                                "queries, keys and values"),
    ("phi3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
     "config.json: RoPE type must be one of default, longrope, not 'linear'"),
    ("helium", {"attention_bias": False},
     "tensor model.layers.0.self_attn.k_proj.bias is none of this model: its architecture is not supported"),
    ("mistral", {"layer_types": ["full_attention"] * 2},
     "config.json: Option layer_types must be sliding_attention for each layer of a mistral model, or not be there"),
    ("gptj", {"hidden_size": 41}, "config.json: Options n_embd and hidden_size must be the same, not 40 and 41"),
    ("llama, yarn", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1, "factor": 4.0}},
     "config.json: RoPE theta must be above 1 with yarn, not 1"),
    ("glm", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1e308}},
     "config.json: Partial rotary factor must be 0 to 1, not 1e+308"),
    ("hunyuan_v1_dense", {"head_dim": 2}, "config.json: Head dimension must be above 2 with RoPE's alpha, not 2"),
    ("stablelm", {"qk_layernorm": True}, "config.json: Option qk_layernorm must be False, not True: "
     "this hardware has no LayerNorm of queries and keys"),
    ("stablelm", {"head_dim": 12}, "config.json: Option head_dim must be 40 / 4 in a stablelm model, not 12"),
    ("qwen2", {"layer_types": ["sliding_attention"] * 2},
     "config.json: Option sliding_window must be a number of positions "
     "where layer_types has sliding_attention, not None"),
    ("qwen3", {"layer_types": ["full_attention"]},
     "config.json: Option layer_types must be one for each of 2 layers, not 1"),
    ("qwen3", {"layer_types": ["chunked_attention"] * 2},
     "config.json: Option layer_types must be of full_attention and sliding_attention, not 'chunked_attention'"),
    ("hunyuan_v1_dense", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0,
                                              "original_max_position_embeddings": 16}},
     "config.json: Attention factor of RoPE must be 1, not 1.13863: the norm after RoPE would undo it"),
    ("smollm3", {"no_rope_layers": [1, 0]},
     "config.json: Option no_rope_layers must be one for each of 4 layers, not 2"),
    ("exaone4", {"layer_types": None, "sliding_window": None},
     "config.json: Option layer_types must be there where sliding_window is null"),
    ("falcon", {"alibi": True}, "config.json: Option alibi must be False, not True: this hardware has no ALiBi"),
    ("cohere", {"use_qk_norm": True}, "config.json: Option use_qk_norm must be False, not True: "
     "this hardware has no LayerNorm of queries and keys"),
    ("opt", {"do_layer_norm_before": False}, "config.json: Option do_layer_norm_before must be True, not False: "
     "this hardware has no norm that replaces the residual"),
    ("opt", {"_remove_final_layer_norm": True}, "config.json: Option _remove_final_layer_norm must be False, not True: "
     "this hardware has a final norm"),
    ("opt", {"word_embed_proj_dim": 20}, "config.json: Option word_embed_proj_dim must be the hidden size 40, not 20: "
     "this hardware has no projection of embeddings"),
    ("gpt_neo", {"attention_types": [[["global", "sparse"], 2]]},
     "config.json: Option attention_types must be pairs of a list of global "
     "and local and of a number, not [['global', 'sparse'], 2]"),
    ("gpt_neo", {"attention_types": None}, "config.json: Option attention_types must be of 3 layers, not 24"),
    ("xglm", {"d_model": 2, "attention_heads": 1},
     "config.json: Hidden size must be even and at least 4 in an xglm model, not 2"),
    ("ctrl", {"layer_norm_epsilon": 1e-5}, "config.json: Option layer_norm_epsilon must be 1e-06, not 1e-05: "
     "the layers' is 1e-06, and this hardware has one for all norms"),
    ("xglm", {"add_cross_attention": True}, "config.json: Option add_cross_attention must be False, not True: "
     "this hardware has no cross-attention"),
    ("gptj", {"rotary_dim": None}, "config.json: Option rotary_dim must be a number of elements, not None"),
    ("codegen", {"n_embd": 42, "n_head": 3},
     "config.json: Hidden size must be a multiple of 4 in a codegen model, not 42"),
    ("falcon", {"num_ln_in_parallel_attn": 2}, "config.json: Option num_ln_in_parallel_attn must be 1 or 2 with "
     "new_decoder_architecture and parallel_attn, or not be there, not 2"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True},
     "config.json: Option scale_attn_by_inverse_layer_idx must be False, not True: "
     "this hardware scales the scores of all layers alike"),
    ("gpt2", {"reorder_and_upcast_attn": True}, "config.json: Option reorder_and_upcast_attn must be False, not True: "
     "this hardware has no attention of another precision"),
    ("gpt2", {"add_cross_attention": True}, "config.json: Option add_cross_attention must be False, not True: "
     "this hardware has no cross-attention"),
    ("gpt_bigcode", {"add_cross_attention": True}, "config.json: Option add_cross_attention must be False, not True: "
     "this hardware has no cross-attention"),
    ("gemma2", {"attn_logit_softcapping": 0.0},
     "config.json: Softcap of scores must be a positive finite number, not 0.0"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0},
     "config.json: Option attn_logit_softcapping must be None, not 50.0: "
     "transformers has the option in Gemma 3 and leaves the softcap out"),
    ("gemma3_text", {"final_logit_softcapping": 1e7},
     "config.json: Softcap of logits must be from 1/64 to 1048576, not 10000000.0"),
    ("gemma2", {"sliding_window": None}, "config.json: Option sliding_window must be a number of positions "
     "where layer_types has sliding_attention, not None"),
    ("gemma3_text", {"use_bidirectional_attention": True},
     "config.json: Option use_bidirectional_attention must be False, not True: "
     "this hardware's attention is causal"),
]


@pytest.mark.parametrize("name, changes, message", REFUSED, ids=lambda value: value if isinstance(value, str) else None)
def test_refused(tmp_path, name, changes, message):
    assert refusal(tmp_path, name, **changes) == message


@pytest.mark.parametrize("name, said", [
    ("granite", "embedding times 7, residual times 0.3, logits times 0.2"), ("olmo", "mean of LayerNorm"),
    ("phi3", "q, k, v from one matrix; gate, up from one matrix; attention factor 1.09545 squared into the queries"),
    ("ernie4_5", "rows of queries and keys reordered"),
    ("starcoder2", "bias of LayerNorm; mean of LayerNorm; the head is a table of its own"),
    ("nanochat",
     "norm of the embedding; halves of the heads of queries and keys exchanged; the head is a table of its own"),
    ("gemma", "1 added to the gains; embedding times 6.32456")])
def test_what_was_folded_is_said(tmp_path, name, said):
    assert loaded(tmp_path, name).notes["folded"] == said


@pytest.mark.parametrize("name, said", [("phi", "the first 4 of 10 elements of a head"),
                                        ("glm", "the first 6 of 12 elements of a head"),
                                        ("gptj", "the first 6 of 10 elements of a head"), ("gpt2", None),
                                        ("llama", None)])
def test_rope_of_a_part_is_said(tmp_path, name, said):
    assert loaded(tmp_path, name).notes.get("RoPE of a part") == said


def test_gpt2_without_its_prefix(tmp_path):
    """The files of OpenAI's models are those of the model without its head, and have a mask in each layer."""
    path, case, sizes = folder(tmp_path, "gpt2"), CASES["gpt2"], RECORDS["gpt2"]["sizes"]
    tensors = {name.removeprefix("transformer."): values for name, values in weights(case, sizes).items()}
    write_safetensors(path / "model.safetensors", tensors | {"h.0.attn.bias": np.ones((1, 1, 64, 64), np.float32)})
    checkpoint = load(path, need_tokenizer=False)
    found, expected = Reference.of(checkpoint).logits(TOKENS)[list(POSITIONS)], RECORDS["gpt2"]["logits"]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max() and checkpoint.warnings == []


def test_a_number_that_is_none_is_said_by_the_files_name(tmp_path):
    """In one line: numpy's warnings of what the folds make of it would come before."""
    path, tensors = folder(tmp_path, "opt"), weights(CASES["opt"], RECORDS["opt"]["sizes"])
    tensors["model.decoder.layers.0.fc2.weight"][0, 3] = np.inf
    write_safetensors(path / "model.safetensors", tensors)
    with pytest.raises(ModelError) as error:
        Reference.of(load(path, need_tokenizer=False))
    assert str(error.value).partition("model: ")[2] == ("tensor model.decoder.layers.0.fc2.weight must be finite, not "
                                                        "inf at [0, 3]: "
                                                        "the file is damaged or overflowed")


def test_longrope_is_of_the_original_context(tmp_path):
    checkpoint = loaded(tmp_path, "phi3")
    assert checkpoint.shape.max_position_embeddings == 32
    assert "the context is at most 32" in checkpoint.notes["RoPE scaling"]


def test_gemma3_has_its_own_thetas(tmp_path):
    """A flat rope_parameters is kept by transformers and ignored; without any the family's two thetas hold."""
    shape = loaded(tmp_path, "gemma3_text", rope_parameters=...).shape
    assert shape.rope_theta == 1e6 and [kind.rope_theta for kind in shape.layer_types] == [1e4, None, 1e4]
    checkpoint = loaded(tmp_path, "gemma3_text", rope_parameters={"rope_theta": 5.0, "rope_type": "default"},
                        rope_local_base_freq=300.0)
    assert checkpoint.shape.rope_theta == 1e6 and checkpoint.shape.layer_types[0].rope_theta == 300.0
    assert "rope_parameters.rope_theta, rope_parameters.rope_type changes nothing" in checkpoint.warnings[0]


def test_gemma2_without_its_options_is_as_transformers_has_it(tmp_path):
    shape = loaded(tmp_path, "gemma2", **dict.fromkeys(("layer_types", "attn_logit_softcapping",
                                                        "final_logit_softcapping"), ...)).shape
    assert (shape.attn_logit_softcapping, shape.final_logit_softcapping) == (50.0, 30.0)
    assert [kind.window for kind in shape.layer_types] == [7, None, 7]


def test_window_of_all_layers_is_the_models(tmp_path):
    shape = loaded(tmp_path, "ministral", layer_types=...).shape
    assert shape.layer_types == () and shape.sliding_window == 7
    assert loaded(tmp_path, "qwen2, window", use_sliding_window=False, layer_types=...).shape.sliding_window is None
