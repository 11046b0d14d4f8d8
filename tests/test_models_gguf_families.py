"""Architectures of GGUF, against llama.cpp's logits for the tiny models of gguf_families.py, and against the same
models as folders."""
import dataclasses
import math

import gguf
import numpy as np
import pytest

import family_cases as folders
from differential_cases import write_gguf
from gguf_families import CASES, FF, HIDDEN, POSITIONS, VOCAB, converted, read_records
from hwgen.models import ModelError, load
from hwgen.models.families import FAMILIES
from hwgen.models.gguf_architectures import ARCHITECTURES, MISSING
from hwgen.models.reference import Reference

RECORDS = read_records()


def loaded(folder, case, tensors=(), drop=(), **fields):
    """The checkpoint of a case with other fields (None: without), more tensors, and without some."""
    case = dataclasses.replace(case, fields=case.fields | fields)
    return load(case.write(folder, tensors=dict(tensors), drop=drop), need_tokenizer=False)


def logits(folder, case, **changes):
    return Reference.of(loaded(folder, case, **changes)).logits(case.tokens())[list(POSITIONS)]


def off(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", CASES)
def test_logits_are_llama_cpps(tmp_path, name):
    assert off(logits(tmp_path, CASES[name]), RECORDS[name]["logits"]) < CASES[name].off


def test_records_are_of_these_models():
    assert {name: case.digest() for name, case in CASES.items()} == {
        name: record["digest"] for name, record in RECORDS.items()}, "run python -m tools.record_gguf"
    # of llama is the differential test
    assert {"llama"} | {case.arch for case in CASES.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left(tmp_path, name):
    assert loaded(tmp_path, CASES[name]).warnings == []


#: Fields that change a model: a case, a field and another value than the case's.
MATTERS = [
    ("gemma2", "attention.sliding_window", 3), ("gemma2", "attn_logit_softcapping", 2.0),
    ("gemma2", "final_logit_softcapping", 1.0),
    ("gemma3", "attention.sliding_window", 3), ("gemma3 fields", "attention.sliding_window_pattern", 3),
    ("gemma3 fields", "attention.sliding_window_pattern", [True, True]), ("gemma3 fields", "rope.freq_base_swa", 100.0),
    ("gemma3 fields", "rope.scaling.factor", 4.0),
    ("olmo3", "rope.scaling.factor", 2.0), ("qwen3 yarn", "rope.scaling.original_context_length", 256),
    ("phi3", "rope.dimension_count", 4),
    ("phi3", "attention.sliding_window", 4), ("phi3 longrope", "rope.scaling.attn_factor", 1.1),
    ("granite", "attention.scale", 0.3),
    ("granite", "embedding_scale", 2.0), ("granite", "residual_scale", 0.5), ("granite", "logit_scale", 4.0),
    ("command-r", "logit_scale", 0.5), ("gptneox", "use_parallel_residual", False)]


@pytest.mark.parametrize("name, field, value", MATTERS)
def test_fields_matter(tmp_path, name, field, value):
    assert off(logits(tmp_path, CASES[name], **{field: value}), RECORDS[name]["logits"]) > 2 * CASES[name].off


def refusal(*arguments, **changes):
    with pytest.raises(ModelError) as error:
        loaded(*arguments, **changes)
    line = str(error.value)
    assert "\n" not in line
    return line.partition("model.gguf: ")[2]


NOTHING = "or missing, not {}: this hardware has nothing for it"
REFUSED = [
    ("gemma2", {"attn_logit_softcapping": 0.0}, "Softcap of scores must be a positive finite number, not 0.0"),
    ("gemma3", {"final_logit_softcapping": 30.0}, "Metadata gemma3.final_logit_softcapping must be 0 "
     + NOTHING.format("30.0")),
    ("gemma3", {"attention.sliding_window_pattern": 1},
     "Metadata gemma3.attention.sliding_window_pattern must be at least 2, not 1"),
    ("gemma3", {"attention.sliding_window_pattern": [True]},
     "Metadata gemma3.attention.sliding_window_pattern must be one for each of 7 layers, not 1"),
    ("qwen3", {"attention.sliding_window": 5}, "Metadata qwen3.attention.sliding_window must be 0 "
     + NOTHING.format(5)),
    ("qwen3", {"attention.scale": 0.5}, "Metadata qwen3.attention.scale must be 0 " + NOTHING.format("0.5")),
    ("qwen3", {"rope.dimension_count": 8}, "Metadata qwen3.rope.dimension_count must be the head dimension 16, not 8"),
    ("qwen3 yarn", {"rope.scaling.yarn_ext_factor": 0.5},
     "Metadata qwen3.rope.scaling.yarn_ext_factor must be 1 or missing, not 0.5"),
    ("qwen3 yarn", {"rope.scaling.yarn_beta_fast": 8.0},
     "Metadata qwen3.rope.scaling.yarn_beta_fast must be 32 or missing, not 8.0"),
    ("olmo2", {"rope.freq_base_swa": 50.0}, "Metadata olmo2.rope.freq_base_swa must be 0 " + NOTHING.format("50.0")),
    ("olmo", {"attention.clamp_kqv": 8.0}, "Metadata olmo.attention.clamp_kqv must be 0 " + NOTHING.format("8.0")),
    ("falcon", {"use_parallel_residual": False}, "Metadata falcon.use_parallel_residual must be True "
     + NOTHING.format("False")),
    ("granite", {"logit_scale": None}, "Metadata granite.logit_scale is missing"),
    ("cohere2", {"attention.sliding_window": None}, "Metadata cohere2.attention.sliding_window is missing"),
    ("command-r", {"attention.layer_norm_epsilon": None}, "Metadata command-r.attention.layer_norm_epsilon is missing"),
]


@pytest.mark.parametrize("name, fields, message", REFUSED)
def test_refused_fields(tmp_path, name, fields, message):
    assert refusal(tmp_path, CASES[name], **fields) == message


TENSORS = [
    ("qwen3", {"output.bias": np.ones(VOCAB)},
     "tensor output.bias is none of this model: its architecture is not supported"),
    ("qwen3", {"rope_freqs.weight": np.ones(8)}, "tensor rope_freqs.weight is none of this model: its architecture is "
                                                 "not supported"),
    ("phi3", {"rope_factors_short.weight": np.ones(4)},
     "Tensor rope_factors_short.weight must have 3 numbers, not [4]"),
    ("command-r", {"blk.0.attn_q_norm.weight": np.ones((4, 8))},
     "tensor blk.0.attn_q_norm.weight is none of this model: its architecture is not supported"),
    ("granite", {"blk.0.ffn_up.bias": np.ones(FF)}, "tensor blk.1.ffn_up.bias is missing: fetch the model again"),
    ("phi3", {"blk.1.ffn_up.weight": np.ones((FF, HIDDEN))},
     f"tensor blk.1.ffn_up.weight must be [{2 * FF}, {HIDDEN}] by the configuration, not [{FF}, {HIDDEN}]"),
]


@pytest.mark.parametrize("name, tensors, message", TENSORS)
def test_refused_tensors(tmp_path, name, tensors, message):
    assert refusal(tmp_path, CASES[name], tensors=tensors) == message


@pytest.mark.parametrize("name", ["starcoder2", "nemotron", "falcon two norms", "gptneox"])
def test_final_norms_bias_is_added_before_the_head(tmp_path, name):
    """In the recorded models it is 0."""
    bias, checkpoint = np.linspace(-1, 1, HIDDEN, dtype=np.float32), loaded(tmp_path, CASES[name])
    added = checkpoint.tensor("lm_head.weight") @ bias
    assert np.abs(added).max() > 0.1
    found = logits(tmp_path, CASES[name], tensors={"output_norm.bias": bias})
    assert off(found, RECORDS[name]["logits"] + added) < CASES[name].off


@pytest.mark.parametrize("name", ["phi2", "qwen2", "qwen2 yarn"])
def test_bias_of_the_head(tmp_path, name):
    """Behind a final norm with a bias and one without, and of a head that is the embedding table in the file. In the
    records it is 0."""
    bias = np.linspace(-1, 1, VOCAB, dtype=np.float32)
    found = logits(tmp_path, CASES[name], tensors={"output.bias": bias})
    assert off(found, RECORDS[name]["logits"] + bias) < CASES[name].off


@pytest.mark.parametrize("name, gone, message", [
    ("gemma3", "blk.6.post_ffw_norm.weight", "tensor blk.6.post_ffw_norm.weight is missing: fetch the model again"),
    ("phi3", "blk.1.attn_qkv.weight", "tensor blk.1.attn_qkv.weight is missing: fetch the model again"),
    ("falcon", "output_norm.bias", "tensor output_norm.bias is missing: fetch the model again")])
def test_missing_tensors(tmp_path, name, gone, message):
    assert refusal(tmp_path, CASES[name], drop=(gone,)) == message


@pytest.mark.parametrize("name, said", [
    ("granite", "rows of queries and keys reordered; embedding times 3, residual times 0.4, logits times 0.2"),
    ("phi3", "q, k, v from one matrix; gate, up from one matrix"),
    ("command-r",
     "rows of queries and keys reordered; mean of LayerNorm; logits times 0.3; the head is a table of its own"),
    ("gptneox", "q, k, v from one matrix; gains and biases of two norms of one residual; mean of LayerNorm")])
def test_what_was_folded_is_said(tmp_path, name, said):
    assert loaded(tmp_path, CASES[name]).notes["folded"] == said


@pytest.mark.parametrize("name, said", [
    ("gemma3", "4 positions (gemma3.attention.sliding_window), in 6 of 7 layers"),
    ("exaone4 of 64 layers without a window", "4096 positions (default of llama.cpp), in 48 of 64 layers")])
def test_what_was_taken_is_said(tmp_path, name, said):
    assert loaded(tmp_path, CASES[name]).notes["window"] == said


def test_longrope_is_of_the_original_context(tmp_path):
    assert loaded(tmp_path, CASES["phi3 longrope"]).shape.max_position_embeddings == 512


def test_what_is_missing_is_named_as_llama_cpp_does():
    assert set(MISSING) < set(gguf.MODEL_ARCH_NAMES.values()) and not set(MISSING) & set(ARCHITECTURES)


# The models of family_cases.py, converted.

FOLDERS = folders.read_records()
#: model_type -> architecture, where it is another.
ARCHITECTURE = {"mistral": "llama", "olmo3": "olmo2", "gemma3_text": "gemma3", "cohere": "command-r",
                "gpt_neox": "gptneox", "phi": "phi2",
                "glm": "chatglm", "hunyuan_v1_dense": "hunyuan-dense", "gpt_bigcode": "starcoder"}
_YARN = {"rope_type": "yarn", "rope_theta": 900.0, "factor": 4.0, "original_max_position_embeddings": 600}
#: Options that GGUF has no field for, at what is meant there.
MEANT = {
    "llama, yarn": {"rope_parameters": _YARN}, "qwen3, yarn": {"rope_parameters": _YARN},
    "olmo3": {"rope_parameters": {"full_attention": _YARN,
                                  "sliding_attention": {"rope_type": "default", "rope_theta": 900.0}}},
    "phi3": {"rope_parameters": folders.CASES["phi3"]["options"]["rope_parameters"] | {
        "original_max_position_embeddings": 32, "short_factor": [1.0, 1.25, 1.875, 2.5]}},      # which are float32
    "gemma2": {"query_pre_attn_scalar": 12}, "gemma3_text": {"query_pre_attn_scalar": 12},
    "starcoder2": {"sliding_window": None}, "mistral": {"sliding_window": None},
    "hunyuan_v1_dense": {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}}
#: What GGUF, or its converter, has nothing for.
NOT_IN_GGUF = ("gemma2, no softcaps", "gemma3_text, softcap", "qwen2, window", "smollm3, window and yarn",
               "falcon, sequential",
               "gpt2, scores not scaled", "gpt_bigcode, all KV heads")


def fields(arch, config):
    """Fields of a configuration, as the converters of llama.cpp write them."""
    config = FAMILIES[config["model_type"]].names_in(config)
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    kv_heads = config.get("num_key_value_heads", config.get("num_kv_heads", heads))
    kv_heads = 1 if arch == "falcon" and not config["new_decoder_architecture"] else kv_heads
    kv_heads = 1 if arch == "starcoder" else kv_heads
    head_dim, rope = config.get("head_dim", hidden // heads), config.get("rope_parameters",
                                                                         {"rope_type": "default",
                                                                          "rope_theta": 10000.0})
    local, rope = rope.get("sliding_attention"), rope.get("full_attention", rope)
    eps = next((value for key, value in config.items() if key.endswith(("norm_eps", "norm_epsilon"))), 1e-5)
    found = {
        "context_length": config["max_position_embeddings"], "embedding_length": hidden,
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": next(config[key] for key in ("ffn_hidden_size", "n_inner", "intermediate_size")
                                    if config.get(key)),
        "attention.head_count": heads, "attention.head_count_kv": kv_heads,
        "attention.key_length": head_dim, "attention.value_length": head_dim,
        f"attention.layer_norm_{'' if ARCHITECTURES[arch].layer_norm else 'rms_'}epsilon": eps,
        "rope.freq_base": rope["rope_theta"],
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1)),
        "use_parallel_residual": config.get("use_parallel_residual"), "logit_scale": config.get("logit_scale"),
        "attention.sliding_window": config.get("sliding_window")}
    if rope["rope_type"] in ("linear", "yarn"):
        found |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"],
                  "rope.scaling.original_context_length": rope.get("original_max_position_embeddings")}
    if rope["rope_type"] == "longrope":
        original, longest = rope["original_max_position_embeddings"], config["max_position_embeddings"]
        found |= {"rope.scaling.attn_factor": math.sqrt(1 + math.log(longest / original) / math.log(original)),
                  "rope.scaling.original_context_length": original}
    if arch in ("gemma2", "gemma3", "exaone4", "cohere2"):
        found["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in config["layer_types"]]
    if arch == "gemma2":
        found |= {name: config[name] for name in ("attn_logit_softcapping", "final_logit_softcapping")}
    if arch == "gemma3":
        found["rope.freq_base_swa"] = local["rope_theta"]
    if arch == "granite":
        found |= {"attention.scale": config["attention_multiplier"], "embedding_scale": config["embedding_multiplier"],
                  "residual_scale": config["residual_multiplier"], "logit_scale": config["logits_scaling"]}
    return {name: value for name, value in found.items() if value is not None}


def both(folder, name):
    """(The checkpoint of a model as a folder, as a GGUF file.)"""
    record, case = FOLDERS[name], folders.CASES[name]
    config = record["config"] | MEANT.get(name, {})
    arch = ARCHITECTURE.get(config["model_type"], config["model_type"])
    metadata = fields(arch, config)
    tensors = converted(arch, folders.weights(case, record["sizes"]), metadata["block_count"],
                        metadata["attention.key_length"],
                        metadata["attention.head_count_kv"])
    for part in ("short", "long"):
        if f"{part}_factor" in config.get("rope_parameters", ()):
            tensors[f"rope_factors_{part}.weight"] = np.array(config["rope_parameters"][f"{part}_factor"], np.float32)
    path = write_gguf(folder / "model.gguf", {"general.architecture": arch, "tokenizer.ggml.model": "no_vocab"} | {
        f"{arch}.{key}": value for key, value in metadata.items()}, tensors)
    return (load(source, need_tokenizer=False) for source in (folders.write_folder(folder / "folder", case, config,
                                                                                   record["sizes"]), path))


def converted_names():
    known = {name: ARCHITECTURE.get(record["config"]["model_type"], record["config"]["model_type"])
             for name, record in FOLDERS.items()}
    return [name for name, arch in known.items() if arch in ARCHITECTURES and name not in NOT_IN_GGUF]


@pytest.mark.parametrize("name", converted_names())
def test_same_as_the_folder(tmp_path, name):
    ours, theirs = both(tmp_path, name)
    about = {"name": "", "bos_token_id": None, "eos_token_ids": ()}
    shapes = [dataclasses.replace(found.shape, **about, score_scale=found.shape.score_scale
                                  or found.shape.head_dim ** -0.5)
              for found in (ours, theirs)]
    assert repr(shapes[0]) == repr(shapes[1])
    assert theirs.names() == ours.names() and theirs.warnings == []
    for tensor in ours.names():
        assert np.allclose(ours.tensor(tensor), theirs.tensor(tensor), rtol=1e-6, atol=1e-7), tensor


def test_every_architecture_has_a_folder():
    types = {FOLDERS[name]["config"]["model_type"] for name in converted_names()}
    assert {ARCHITECTURE.get(name, name) for name in types} | {"internlm2", "minicpm"} == set(ARCHITECTURES)
