"""Hugging Face folders: config.json, safetensors (one file or shards), tokenizer.json."""
import json
from pathlib import Path

import numpy as np

from ..params.model import LinearRopeScaling, Llama3RopeScaling, ModelShape
from .checkpoint import Checkpoint, ModelError, check_tensors
from .safetensors_file import SafetensorsFile
from .tokenizer import Tokenizer

__all__ = ["folder_shape", "load_folder", "shape_from_config"]

# The quantization methods whose scales are read below.
_FP8_METHODS = ("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt")


def _json(path, default=None):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not None:
            return default
        raise ModelError(f"{path} is missing: a model folder has config.json, model.safetensors and "
                         "tokenizer.json") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: File must be JSON ({error})") from None


def _rope_scaling(rope):
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return LinearRopeScaling(factor=rope["factor"])
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        return Llama3RopeScaling(**{name: rope[name] for name in names})
    raise ValueError(f"RoPE type must be default, linear or llama3, not {kind!r}")


def shape_from_config(config, generation=None, *, name="model"):
    """The ModelShape that config.json describes; ``generation`` is generation_config.json, whose end tokens win.

    Raises ValueError, TypeError or KeyError for what is not a Llama model.
    """
    kind = config.get("model_type", "llama")
    architectures = config.get("architectures") or ["LlamaForCausalLM"]
    known = ("LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM")
    if architectures[0] not in known:
        raise ValueError(f"Architecture must be LlamaForCausalLM or MistralForCausalLM, not {architectures[0]!r}")
    if kind not in ("llama", "mistral"):
        raise ValueError(f"Model type must be llama or mistral, not {kind!r}")
    if config.get("hidden_act", "silu") != "silu":
        raise ValueError(f"Activation must be silu, not {config['hidden_act']!r}")
    for flag in ("attention_bias", "mlp_bias"):
        if config.get(flag):
            raise ValueError(f"Option {flag} must be false: this hardware has no biases")
    context = config.get("max_position_embeddings", 2048)
    window = config.get("sliding_window", 4096) if kind == "mistral" else None
    if window is not None and window < context:
        raise ValueError(f"Sliding window must be off or at least the context {context}, not {window}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    partial = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if partial != 1:
        raise ValueError(f"Partial rotary factor must be 1, not {partial}")

    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim")
    if head_dim is None:
        if config["hidden_size"] % heads:
            raise ValueError(f"Hidden size {config['hidden_size']} must be a multiple of head count {heads}, "
                             "or head_dim be given")
        head_dim = config["hidden_size"] // heads
    ends = (generation or {}).get("eos_token_id")
    ends = config.get("eos_token_id") if ends is None else ends
    kv_heads = config.get("num_key_value_heads", 8 if kind == "mistral" else None)
    return ModelShape(
        name=name,
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_hidden_layers=config["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=heads if kv_heads is None else kv_heads,
        head_dim=head_dim,
        rms_norm_eps=config.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        rope_scaling=_rope_scaling(rope),
        max_position_embeddings=context,
        tie_word_embeddings=config.get("tie_word_embeddings", False),
        bos_token_id=config.get("bos_token_id"),
        eos_token_ids=() if ends is None else tuple(ends) if isinstance(ends, list) else (ends,))


class _Folder:
    """The tensors of one file or of all shards, FP8 ones times their scales."""

    def __init__(self, folder, quantization):
        single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
        if not single.exists() and not index.exists():
            raise ModelError(f"{single} is missing, and so is {index.name}: "
                             "save the model with safetensors (save_pretrained of transformers does)")
        if single.exists():
            names = [single.name]
        else:
            names = sorted(set(_json(index).get("weight_map", {}).values()))
        self._files = {}  # tensor name -> file
        for name in names:
            file = SafetensorsFile(folder / name)
            self._files |= dict.fromkeys(file.shapes, file)
        method = quantization.get("quant_method")
        if method is not None and method not in _FP8_METHODS:
            raise ModelError(f"{folder / 'config.json'}: Quantization method must be one of "
                             f"{', '.join(_FP8_METHODS)}, not {method!r}: use the unquantized model")
        self._method = method
        self._block = tuple(quantization.get("weight_block_size") or (128, 128))
        self.shapes = {name: file.shapes[name] for name, file in self._files.items()}

    def read(self, name):
        file = self._files[name]
        values = file.read(name)
        for suffix in ("_scale", "_scale_inv"):  # both multiply, whatever the second one's name says
            if name + suffix in self._files:
                return self._scaled(name, values, name + suffix)
        if self._method and file.is_fp8(name):
            raise ModelError(f"{file.path}: tensor {name}_scale is missing: "
                             f"{name} is FP8, and its scale must be in the file")
        return values

    def _scaled(self, name, values, scale_name):
        file = self._files[scale_name]
        scale = file.read(scale_name)
        n, k = values.shape
        rows, columns = self._block
        if scale.size == 1:
            return values * scale.reshape(1, 1)
        if scale.size == n and scale.shape in ((n,), (n, 1)):
            return values * scale.reshape(n, 1)
        if scale.shape == (-(-n // rows), -(-k // columns)):
            return values * np.repeat(np.repeat(scale, rows, 0)[:n], columns, 1)[:, :k]
        raise ModelError(f"{file.path}: tensor {scale_name} must be one number, {n} (one per row), or one per block "
                         f"of {rows} x {columns}, not of shape {list(scale.shape)}")


def _ignored(name):
    """Tensors that are no weights and that some checkpoints carry: derived tables, scales."""
    return name.endswith(("rotary_emb.inv_freq", "_scale", "_scale_inv", "_scale_ub"))


def folder_shape(folder):
    """The ModelShape of a folder that has config.json, if nothing else; ModelError if it is none of a Llama model."""
    folder = Path(folder)
    path = folder / "config.json"
    config = _json(path)
    generation = _json(folder / "generation_config.json", {})
    try:
        return shape_from_config(config, generation, name=folder.resolve().name)
    except KeyError as error:
        raise ModelError(f"{path}: Option {error.args[0]} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: {error}") from None


def load_folder(folder, *, need_tokenizer=True):
    """The Checkpoint of a folder in Hugging Face's layout; ModelError if it is none, or none of a Llama model."""
    folder = Path(folder)
    shape = folder_shape(folder)
    files = _Folder(folder, _json(folder / "config.json").get("quantization_config") or {})
    check_tensors(shape, files.shapes, folder, _ignored)
    tokenizer = None
    if need_tokenizer or (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_folder(folder)
        tokenizer.check_vocabulary(shape.vocab_size, folder / "tokenizer.json")
    return Checkpoint(shape, str(folder), files.read, tokenizer)
