"""Model files made by hand, for the tests of the readers."""
import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from hwgen.models import ModelError, load, random_checkpoint
from hwgen.params.model import ModelShape

#: No dimension is a power of two, and none is another's multiple without need.
ODD = ModelShape(name="odd", vocab_size=277, hidden_size=72, intermediate_size=200, num_hidden_layers=2,
                 num_attention_heads=3, num_key_value_heads=1, head_dim=24, rms_norm_eps=1e-6,
                 max_position_embeddings=128, bos_token_id=1, eos_token_ids=(2,))

TEMPLATE = ("{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}")

_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
           "I64": np.int64, "F64": np.float64}


def byte_tokenizer():
    """A tokenizers.Tokenizer of 3 special tokens, the 256 bytes and a few merges: ids below 270."""
    special = ["<unk>", "<s>", "</s>"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("e", "r"), ("i", "n"), ("Ã", "©")]
    tokens = special + sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(pair) for pair in merges]
    core = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    return core


def config_of(shape):
    """config.json of a shape, as a dictionary."""
    config = dataclasses.asdict(shape)
    for name in ("name", "eos_token_ids", "rope_scaling", "block", "score_scale", "rotary_dim", "layer_types",
                 "attn_logit_softcapping",
                 "final_logit_softcapping", "learned_positions", "head_bias",
                 *(["sliding_window"] if shape.sliding_window is None else [])):
        del config[name]
    return config | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                     "eos_token_id": list(shape.eos_token_ids)}


def write_safetensors(path, tensors, dtype="F32"):
    """A file of arrays; ``dtype`` is one name, or a function of the tensor's name."""
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(values).astype(_DTYPES[dtype(name) if callable(dtype) else dtype])
         for name, values in tensors.items()}, path)


def write_folder(folder, shape=ODD, *, seed=0, dtype="F32", shards=1, config=(), tensors=None, tokenizer=True):
    """A model folder; returns its tensors as they were before they were stored."""
    folder.mkdir(exist_ok=True)
    if tensors is None:
        checkpoint = random_checkpoint(shape, seed)
        tensors = {name: checkpoint.tensor(name) for name in checkpoint.names()}
    (folder / "config.json").write_text(json.dumps(config_of(shape) | dict(config)))
    if tokenizer:
        byte_tokenizer().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"chat_template": TEMPLATE, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return tensors
    names = list(tensors)
    files = {name: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        write_safetensors(folder / file, {n: tensors[n] for n in names if files[n] == file}, dtype)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return tensors


def refusal(path, *names):
    """The one line with which loading a path, or reading tensors of it, is refused."""
    with pytest.raises(ModelError) as error:
        checkpoint = load(path)
        for name in names:
            checkpoint.tensor(name)
    line = str(error.value)
    assert "\n" not in line
    return line
