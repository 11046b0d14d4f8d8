import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest

from hwgen.models import ModelError, load, random_checkpoint
from hwgen.models.families import family
from hwgen.models.hf import shape_from_config
from hwgen.models.options import About
from hwgen.params.model import DEMO, LinearRopeScaling, Llama3RopeScaling
from model_files import ODD, config_of, refusal, write_folder, write_safetensors

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
Q1 = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize("dtype, stored", [("F32", np.float32), ("F16", np.float16), ("BF16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("shards", [1, 3])
def test_tensors(tmp_path, dtype, stored, shards):
    tensors = write_folder(tmp_path / "odd", dtype=dtype, shards=shards)
    checkpoint = load(tmp_path / "odd")
    assert checkpoint.shape == ODD
    assert set(checkpoint.names()) == set(tensors)
    for name, values in tensors.items():
        read = checkpoint.tensor(name)
        assert read.dtype == np.float32 and (read == values.astype(stored).astype(np.float32)).all()


def test_tokenizer_and_template(tmp_path):
    write_folder(tmp_path)
    checkpoint = load(tmp_path)
    ids = checkpoint.tokenizer.encode("the thé")
    assert checkpoint.tokenizer.decode(ids) == "the thé"
    assert checkpoint.tokenizer.render_chat("hi") == "<|user|>hi<|assistant|>"
    assert "message" in checkpoint.chat_template


def test_tied(tmp_path):
    tied = dataclasses.replace(ODD, tie_word_embeddings=True)
    write_folder(tmp_path, tied)
    checkpoint = load(tmp_path)
    assert (checkpoint.tensor("lm_head.weight") == checkpoint.tensor("model.embed_tokens.weight")).all()


def tables(folder, tied, **changes):
    """A folder whose configuration ties head and embedding or not; ``changes`` are tensors, None leaves one out. Its
    Checkpoint, and tensors."""
    tensors = write_folder(folder, config={"tie_word_embeddings": tied})
    tensors |= {EMBEDDING: tensors[EMBEDDING].astype(np.float32)}
    for name, values in changes.items():
        tensors[{"head": HEAD, "embedding": EMBEDDING}[name]] = values
    tensors = {name: values for name, values in tensors.items() if values is not None}
    write_folder(folder, tensors=tensors, config={"tie_word_embeddings": tied})
    return load(folder), tensors


def test_tied_with_another_head(tmp_path):
    """transformers 5.24 says so and takes both (4.57 drops the head)."""
    checkpoint, tensors = tables(tmp_path, True)
    assert not checkpoint.shape.tie_word_embeddings
    assert (checkpoint.tensor(HEAD) == tensors[HEAD]).all() and (checkpoint.tensor(EMBEDDING)
                                                                 == tensors[EMBEDDING]).all()
    assert checkpoint.warnings == [f"{tmp_path / 'config.json'}: tie_word_embeddings is true, but lm_head.weight "
                                   f"differs from "
                                   "model.embed_tokens.weight: both are taken, as transformers 5 does"]


def test_tied_with_the_same_head(tmp_path):
    same = random_checkpoint(ODD).tensor(EMBEDDING)
    checkpoint, _ = tables(tmp_path, True, head=same, embedding=same)
    assert checkpoint.shape.tie_word_embeddings and checkpoint.warnings == []


def test_tied_with_the_head_alone(tmp_path):
    checkpoint, tensors = tables(tmp_path, True, embedding=None)
    assert checkpoint.shape.tie_word_embeddings and checkpoint.warnings == []
    assert (checkpoint.tensor(EMBEDDING) == tensors[HEAD]).all() and (checkpoint.tensor(HEAD) == tensors[HEAD]).all()


def test_untied_lacks_a_table(tmp_path):
    for name, tensor in (("head", HEAD), ("embedding", EMBEDDING)):
        with pytest.raises(ModelError, match=f"tensor {tensor} is missing"):
            tables(tmp_path, False, **{name: None})


def blocks(values, rows, columns, scale):
    """Each element's scale of a block layout."""
    n, k = values.shape
    return scale[np.arange(n)[:, None] // rows, np.arange(k) // columns]


@pytest.mark.parametrize("layout", ["tensor", "channel", "column", "block", "small block", "block of a group"])
def test_fp8_with_scales(tmp_path, layout):
    tensors = write_folder(tmp_path)
    weight = tensors[Q1]
    n, k = weight.shape
    rng = np.random.default_rng(5)
    suffix, size = {"tensor": ("_scale", ()), "channel": ("_scale", (n,)), "column": ("_scale", (n, 1)),
                    "block": ("_scale_inv", (1, 1)), "small block": ("_scale_inv", (-(-n // 16), -(-k // 32))),
                    "block of a group": ("_scale", (-(-n // 16), -(-k // 32)))}[layout]
    scale = rng.uniform(0.5, 2, size).astype(np.float32)
    more = {"small block": {"weight_block_size": [16, 32]}, "block of a group": {"config_groups": {
        "group_0": {"weights": {"strategy": "block", "block_structure": [16, 32]}}}}}.get(layout, {})
    config = {"quantization_config": {"quant_method": "fp8"} | more}
    write_folder(tmp_path, tensors=tensors | {Q1 + suffix: scale, Q1.replace("weight", "input_scale"): scale},
                 dtype=lambda name: "F8_E4M3" if name == Q1 else "F32", config=config)
    each = blocks(weight, 16, 32, scale) if more else scale.reshape(-1, 1)
    expected = weight.astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * each
    assert (load(tmp_path).tensor(Q1) == expected).all()


def config(**changes):
    return config_of(ODD) | changes


@pytest.mark.parametrize("rope, theta, scaling", [
    ({"rope_theta": 5e5}, 5e5, None),
    ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, 5e5, None),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 1e4, LinearRopeScaling(factor=2.0)),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                       "original_max_position_embeddings": 8192}}, 1e4,
     Llama3RopeScaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)),
])
def test_rope(rope, theta, scaling):
    base = config()
    del base["rope_theta"]
    shape = shape_from_config(base | rope)
    assert (shape.rope_theta, shape.rope_scaling) == (theta, scaling)


def about(config, generation=None):
    """(shape, notes, warnings without the file) of a configuration."""
    found = About()
    shape = shape_from_config(config, generation, about=found)
    return shape, found.notes, [line.partition(": ")[2] for line in found.warnings]


def test_rope_scaling_beside_rope_parameters():
    """transformers 5.24 takes the old name, and loses the new one's theta."""
    base = config(rope_scaling={"type": "linear", "factor": 4.0},
                  rope_parameters={"rope_theta": 5e5, "rope_type": "default"})
    shape, notes, warnings = about(base | {"rope_theta": 2e4})
    assert (shape.rope_theta, shape.rope_scaling) == (2e4, LinearRopeScaling(factor=4.0))
    assert (notes["RoPE theta"], notes["RoPE scaling"]) == ("20000.0 (rope_theta)", "linear, factor 4 (rope_scaling)")
    assert warnings == ["rope_scaling is taken and rope_parameters is not, as transformers does where both are given"]
    del base["rope_theta"]
    assert about(base)[0].rope_theta == 1e4 and about(base)[1]["RoPE theta"] == "10000.0 (transformers' default)"


@pytest.mark.parametrize("empty", [None, {}])
def test_rope_scaling_that_is_empty(empty):
    shape, _, warnings = about(config(rope_scaling=empty, rope_parameters={"rope_theta": 5e5, "rope_type": "default"}))
    assert shape.rope_theta == 5e5 and warnings == ["rope_parameters.rope_theta 500000.0 is taken and rope_theta "
                                                    "10000.0 is not, "
                                                    "as transformers does"]


def test_rope_keys_without_effect():
    _, _, warnings = about(config(rope_scaling={"type": "linear", "factor": 2.0, "attention_factor": 1.5}))
    assert warnings == ["rope_scaling.attention_factor changes nothing of a linear RoPE, in transformers neither"]


def test_llama3_without_its_original_context():
    """It is max_position_embeddings then."""
    factors = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling = about(config(rope_scaling={"rope_type": "llama3", **factors}))[0].rope_scaling
    assert scaling == Llama3RopeScaling(**factors, original_max_position_embeddings=128)
    inner = {"rope_type": "llama3", **factors, "original_max_position_embeddings": 32}
    scaling = about(config(rope_scaling=inner, original_max_position_embeddings=64))[0].rope_scaling
    # the top level's goes first
    assert scaling == Llama3RopeScaling(**factors, original_max_position_embeddings=64)


@pytest.mark.parametrize("changes, window", [({}, 4096), ({"sliding_window": None}, None),
                                             ({"sliding_window": 64}, 64)])
def test_windows(changes, window):
    shape, notes, _ = about(config(model_type="mistral", architectures=["MistralForCausalLM"]) | changes)
    assert shape.sliding_window == window and shape.longest_context == 128
    assert ("window" in notes) == (window is not None)


def test_layers_of_a_mistral():
    mistral = config(model_type="mistral", architectures=["MistralForCausalLM"], sliding_window=64)
    with pytest.raises(TypeError, match="^Option layer_types must be a list, not 'full_attention'"):
        about(mistral | {"layer_types": "full_attention"})


def test_defaults_of_transformers():
    """Of options that a configuration may lack: LlamaConfig's and MistralConfig's of transformers 5.24."""
    few = {key: value for key, value in config().items() if key in (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
    llama = about(few | {"model_type": "llama"})[0]
    assert llama == dataclasses.replace(ODD, name="model", num_key_value_heads=3, max_position_embeddings=2048)
    with pytest.raises(ValueError, match="^Head count 3 must be a multiple of KV head count 8$"):
        about(few | {"model_type": "mistral"})
    mistral = about(few | {"architectures": ["MistralForCausalLM"], "num_key_value_heads": None})[0]
    assert mistral == dataclasses.replace(llama, max_position_embeddings=131072, sliding_window=4096)


def test_options_that_are_none():
    shape, _, warnings = about(config(hidden_act="swish", logit_scale=0.5, num_experts=8, use_cache=False,
                                      torch_dtype="bfloat16",
                                      pretraining_tp=2, rope_interleaved=False, repetition_penalty=1.3,
                                      temperature=0.6))
    assert shape == dataclasses.replace(ODD, name="model")
    assert warnings == ["not known for a llama model, and without effect here: logit_scale, num_experts, "
                        "repetition_penalty"]
    assert about(config(rope_interleaved=True))[2] == [
        "not known for a llama model, and without effect here: rope_interleaved"]


def test_options_of_generation():
    _, notes, warnings = about(config(), {"temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.1, "num_beams": 1,
                                          "eos_token_id": 7})
    assert warnings == ["the sampler does not do: repetition_penalty"]
    assert notes["sampling"] == "temperature 0.6, top_p 0.9 is suggested (generation_config.json); see --temperature"
    assert notes["end tokens"] == "7 (generation_config.json)"


def test_defaults_and_end_tokens():
    old = config(head_dim=None, eos_token_id=2)
    del old["num_key_value_heads"]
    assert (shape_from_config(old).num_key_value_heads, shape_from_config(old).head_dim) == (3, 24)
    assert shape_from_config(old).eos_token_ids == (2,)
    assert shape_from_config(old, {"eos_token_id": [2, 7]}).eos_token_ids == (2, 7)
    assert shape_from_config(config(eos_token_id=None)).eos_token_ids == ()
    mistral = config(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=None)
    assert shape_from_config(mistral) == dataclasses.replace(ODD, name="model")


ACTIVATIONS = "one of " + ", ".join(family._ACTIVATIONS)
ROPES = "one of default, linear, llama3, dynamic, yarn, longrope"


@pytest.mark.parametrize("changes, message", [
    ({"architectures": ["BertModel"]},
     "Architecture must be LlamaForCausalLM for model type llama, not 'BertModel'"),
    ({"model_type": "mixtral"}, "Model type must be one that this hardware runs, not 'mixtral': it has no experts"),
    ({"model_type": "gemma3"}, "Model type must be one that this hardware runs, not 'gemma3': it has no part that "
                               "sees or hears"),
    ({"model_type": "openai-gpt"}, "Model type must be one that this hardware runs, not 'openai-gpt': "
     "it has no norm that replaces the residual"),
    ({"hidden_act": "relu6"}, f"Activation must be {ACTIVATIONS}, not 'relu6'"),
    ({"attention_bias": 1}, "Option attention_bias must be true or false, not 1"),
    # transformers follows these in any model, also in those whose own classes do not know them
    ({"is_causal": False}, "Option is_causal must be missing, not False: this hardware's attention is causal"),
    ({"is_causal": None}, "Option is_causal must be missing, not None: this hardware's attention is causal"),
    ({"per_layer_config": {"1": {"rms_norm_eps": 0.5}}},
     "Option per_layer_config must be missing, not {'1': {'rms_norm_eps': 0.5}}: "
     "this hardware's layers are all alike"),
    ({"configuration_files": ["config.json", "config.4.0.0.json"]}, "Option configuration_files must be missing, "
     "not ['config.json', 'config.4.0.0.json']: leave the configuration that is meant, as config.json"),
    ({"transformers_weights": "other.safetensors"},
     "Option transformers_weights must be missing, not 'other.safetensors': "
     "call the file of weights that is meant model.safetensors"),
    ({"rope_scaling": {"rope_type": "su", "factor": 4.0}}, f"RoPE type must be {ROPES}, not 'su'"),
    ({"partial_rotary_factor": 0.5}, "Partial rotary factor must be 1, not 0.5"),
    ({"model_type": None, "architectures": None}, "Model type must be there, not missing"),
    ({"rope_scaling": {"rope_type": "su"}, "rope_parameters": {"rope_type": "default"}},
     f"RoPE type must be {ROPES}, not 'su'"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
     "Option rope_parameters must be one for all layers, not one for 'full_attention'"),
    ({"rope_scaling": {"rope_type": "linear"}}, "Option rope_scaling.factor is missing"),
    ({"rope_scaling": {"rope_type": "linear", "factor": "2"}}, "Option rope_scaling.factor must be a number, not '2'"),
    ({"rope_scaling": "linear"}, "Option rope_scaling must be an object, not 'linear'"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "Partial rotary factor must be 1, not 0.5"),
    ({"rope_theta": None}, "RoPE theta must be a number, not None"),
    ({"architectures": "LlamaForCausalLM"}, "Option architectures must be a list, not 'LlamaForCausalLM'"),
    ({"architectures": [["LlamaForCausalLM"]]}, "Option architectures[0] must be a string, not ['LlamaForCausalLM']"),
    ({"num_attention_heads": 0}, "Option num_attention_heads must be at least 1, not 0"),
    ({"head_dim": [24]}, "Option head_dim must be an integer, not [24]"),
    ({"eos_token_id": [2, "3"]}, "Option eos_token_id[1] must be an integer, not '3'"),
    ({"tie_word_embeddings": "yes"}, "Option tie_word_embeddings must be true or false, not 'yes'"),
    ({"num_hidden_layers": 10**6}, "Option num_hidden_layers must be 1 to 1000, not 1000000"),
    ({"model_type": "mistral", "sliding_window": "64"}, "Option sliding_window must be an integer, not '64'"),
    ({"quantization_config": [8]}, "Option quantization_config must be an object, not [8]"),
    ({"quantization_config": {"bits": 8}}, "Option quantization_config.quant_method is missing"),
    ({"quantization_config": {"quant_method": "compressed-tensors", "transform_config": {"a": 1}}},
     "Option quantization_config.transform_config must be empty: this hardware has no transforms of activations"),
    ({"text_config": {}}, "Option text_config must not be there: a model of several parts is not supported"),
    ({"hidden_act": None}, f"Activation must be {ACTIVATIONS}, not None"),
    ({"tie_word_embeddings": None}, "Option tie_word_embeddings must be true or false, not None"),
    ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}},
     "Option quantization_config.weight_block_size must be two numbers, not 1"),
    ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [0, 128]}},
     "Option quantization_config.weight_block_size[0] must be at least 1, not 0"),
    ({"num_key_value_heads": 2}, "Head count 3 must be a multiple of KV head count 2"),
    ({"head_dim": None, "hidden_size": 73}, "Hidden size 73 must be a multiple of head count 3, or head_dim be given"),
    ({"vocab_size": "277"}, "Vocabulary size must be an integer, not '277'"),
    ({"quantization_config": {"quant_method": "gptq"}},
     "Quantization method must be one of fp8, fbgemm_fp8, compressed-tensors, modelopt, mxfp4, not 'gptq': "
     "use the unquantized model"),
])
def test_refused_configs(tmp_path, changes, message):
    write_folder(tmp_path, config=changes)
    assert refusal(tmp_path) == f"{tmp_path / 'config.json'}: {message}"


def test_not_a_model(tmp_path):
    assert refusal(tmp_path / "nowhere") == (
        f"{tmp_path / 'nowhere'}: Model must be a folder in Hugging Face's layout or a .gguf file, not missing")
    assert refusal(tmp_path) == (
        f"{tmp_path / 'config.json'} is missing: a model folder has config.json, model.safetensors and tokenizer.json")
    (tmp_path / "config.json").write_text("{")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'config.json'}: File must be JSON (")
    (tmp_path / "config.json").write_text("{}")
    assert refusal(tmp_path) == f"{tmp_path / 'config.json'}: Model type must be there, not missing"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert refusal(tmp_path) == f"{tmp_path / 'config.json'}: Option num_attention_heads is missing"


def test_messages_are_one_printable_line(tmp_path):
    """Names come from files."""
    tensors = write_folder(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", tensors | {"a\nb\x1b[2J" + "x" * 2000: np.ones(2)})
    line = refusal(tmp_path)
    assert "tensor a\\nb\\x1b[2Jxxx" in line and line.isprintable() and len(line) < 1010


def test_adapters(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text("{}")
    advice = "merge it into the model that it is for (merge_and_unload of peft)"
    assert load(tmp_path).warnings == [f"{path}: the adapter is not applied (transformers does it where peft is "
                                       f"installed): {advice}"]
    (tmp_path / "config.json").unlink()
    assert refusal(tmp_path) == f"{path}: Folder must be that of a model, not of an adapter alone: {advice}"


def test_no_weights(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert refusal(tmp_path) == (f"{tmp_path / 'model.safetensors'} is missing, and so is "
                                 f"model.safetensors.index.json: "
                                 "save the model with safetensors (save_pretrained of transformers does)")


@pytest.mark.parametrize("index, message", [
    ({}, "Option weight_map is missing"),
    ({"weight_map": {}}, "Option weight_map must name at least one file: fetch the model again"),
    ({"weight_map": ["a"]}, "Option weight_map must be an object, not ['a']"),
    ({"weight_map": {Q1: 3}}, "Option weight_map['model.layers.1.self_attn.q_proj.weight'] must be a string, not 3"),
    ({"weight_map": {Q1: "../a.safetensors"}},
     "File of weights must be a .safetensors file in the same folder, not '../a.safetensors'"),
])
def test_index_that_is_wrong(tmp_path, index, message):
    write_folder(tmp_path, shards=2)
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    assert refusal(tmp_path) == f"{path}: {message}"


def test_tensor_in_two_shards(tmp_path):
    tensors = write_folder(tmp_path, shards=2)
    write_safetensors(tmp_path / "model-00002-of-00002.safetensors", tensors)
    assert "must stand in one file, and it is in model-00001-of-00002.safetensors too" in refusal(tmp_path)


def test_scale_of_weights_that_are_not_fp8(tmp_path):
    write_folder(tmp_path, tensors=write_folder(tmp_path) | {Q1 + "_scale": np.full(1, 2.0)})
    assert refusal(tmp_path) == (f"{tmp_path / 'model.safetensors'}: tensor {Q1}_scale must scale FP8 weights of a "
                                 "model whose config.json has a quantization_config, "
                                 f"and {Q1} is none: use the unquantized model")


def test_missing_shard(tmp_path):
    write_folder(tmp_path, shards=2)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert refusal(tmp_path) == f"{tmp_path / 'model-00002-of-00002.safetensors'}: No such file or directory"


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated(tmp_path, keep):
    write_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    line = refusal(tmp_path)
    assert line.startswith((f"{path}: File must be at", f"{path}: File must be {len(whole)} bytes long"))
    assert "truncated" in line and "fetch it again" in line


def test_no_safetensors(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"[]")
    assert refusal(tmp_path) == f"{path}: Header must be that of a safetensors file: fetch the file again"


def test_missing_tensor(tmp_path):
    tensors = write_folder(tmp_path)
    del tensors[Q1]
    write_safetensors(tmp_path / "model.safetensors", tensors)
    assert refusal(tmp_path) == f"{tmp_path}: tensor {Q1} is missing: fetch the model again"


@pytest.mark.parametrize("other", ["qweight", "weight_packed", "base_layer.weight"])
def test_weight_that_is_packed(tmp_path, other):
    tensors = write_folder(tmp_path)
    name = Q1.replace("weight", other)
    write_safetensors(tmp_path / "model.safetensors",
                      {name if key == Q1 else key: value for key, value in tensors.items()})
    assert refusal(tmp_path) == (f"{tmp_path}: tensor {Q1} must be there, not {name} in its place: "
                                 "use the model with plain weights, neither packed nor with an adapter")


def test_shape_that_disagrees(tmp_path):
    write_folder(tmp_path, config={"intermediate_size": 100})
    assert refusal(tmp_path) == (f"{tmp_path}: tensor model.layers.0.mlp.gate_proj.weight must be [100, 72] "
                                 "by the configuration, not [200, 72]")


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_norm.weight",
                                  "model.layers.0.self_attn.q_proj.pre_quant_scale",
                                  "model.embed_scale", "other.weight_scale"])
def test_foreign_tensor(tmp_path, name):
    tensors = write_folder(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", tensors | {name: np.ones(24)})
    assert refusal(tmp_path) == (f"{tmp_path}: tensor {name} is none of this model: "
                                 "its architecture is not supported")
    write_safetensors(tmp_path / "model.safetensors", tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": [1.0]})
    load(tmp_path)


@pytest.mark.parametrize("value, word", [(np.nan, "nan"), (-np.inf, "-inf")])
def test_weight_that_is_no_number(tmp_path, value, word):
    tensors = write_folder(tmp_path)
    tensors[Q1] = tensors[Q1].copy()
    tensors[Q1][5, 7] = value
    write_safetensors(tmp_path / "model.safetensors", tensors, "BF16")
    assert refusal(tmp_path, Q1) == (f"{tmp_path}: tensor {Q1} must be finite, not {word} at [5, 7]: "
                                     "the file is damaged or overflowed")


def test_fp8_nan_code(tmp_path):
    tensors = write_folder(tmp_path)
    tensors[Q1] = np.where(np.eye(72) == 1, np.nan, tensors[Q1])
    write_safetensors(tmp_path / "model.safetensors", tensors, lambda name: "F8_E4M3" if name == Q1 else "F32")
    assert f"tensor {Q1} must be finite, not nan at [0, 0]" in refusal(tmp_path, Q1)


def test_integer_tensor(tmp_path):
    write_folder(tmp_path, dtype=lambda name: "I64" if name == Q1 else "F32")
    assert refusal(tmp_path, Q1) == (f"{tmp_path / 'model.safetensors'}: tensor {Q1} must be one of "
                                     "F64, F32, F16, BF16, F8_E4M3, not I64")


def test_fp8_without_its_scale(tmp_path):
    write_folder(tmp_path, dtype=lambda name: "F8_E4M3" if name == Q1 else "F32",
                 config={"quantization_config": {"quant_method": "compressed-tensors"}})
    assert refusal(tmp_path, Q1) == (f"{tmp_path / 'model.safetensors'}: tensor {Q1}_scale is missing: "
                                     f"{Q1} is FP8, and its scale must be in the file")


def test_fp8_scale_of_no_layout(tmp_path):
    write_folder(tmp_path, tensors=write_folder(tmp_path) | {Q1 + "_scale": np.ones(5)},
                 dtype=lambda name: "F8_E4M3" if name == Q1 else "F32",
                 config={"quantization_config": {"quant_method": "fp8"}})
    assert ("must be one number, 72 (one per row), or one per block of 128 x 128, not of shape [5]"
            in refusal(tmp_path, Q1))


def test_tokenizer_refusals(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": 1}))
    assert refusal(tmp_path).startswith(f"{path}: File must be a tokenizer of the tokenizers library (")
    path.unlink()
    assert refusal(tmp_path) == (f"{path} is missing: save the model's tokenizer there "
                                 "(AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers)")
    assert load(tmp_path, need_tokenizer=False).tokenizer is None


def test_tokenizer_of_another_model(tmp_path):
    write_folder(tmp_path, dataclasses.replace(ODD, vocab_size=200))
    assert refusal(tmp_path) == (f"{tmp_path / 'tokenizer.json'}: Token ids must be below the model's vocabulary size "
                                 "200, not up to 264: tokenizer and model do not belong together")


def test_demo_is_the_preset():
    checkpoint = load("demo")
    assert checkpoint.shape == DEMO
    assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("It is a truth")) == "It is a truth"
    assert all(checkpoint.tensor(name).size for name in checkpoint.names())
