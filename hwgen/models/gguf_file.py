"""GGUF files: shape and tokenizer from the metadata, tensors of any type that the gguf package dequantizes.

What a field means that is missing, or stands beside others, is as in llama.cpp.
"""
import math
import re
from collections.abc import Mapping

import numpy as np

from ..params.checks import shown
from ..params.model import DivisorRopeScaling, LinearRopeScaling, Llama3RopeScaling, ModelShape
from .checkpoint import Checkpoint, ModelError, check_tensors
from .gguf_header import check_header
from .gguf_tokenizer import build_tokenizer, end_tokens, start_token
from .options import About, Options

__all__ = ["load_gguf"]

_ARCHITECTURE = "llama"

# Fields behind "llama." that change what a model computes, in llama.cpp or in what its converters write them for, and the values at which
# they do not.
_NEUTRAL = {
    "attention.causal": (True,), "use_parallel_residual": (False,),
    **dict.fromkeys((
        "attention.clamp_kqv", "attention.max_alibi_bias", "attn_logit_softcapping", "final_logit_softcapping",
        "attention.temperature_length", "expert_used_count", "expert_shared_count", "leading_dense_block_count",
        "nextn_predict_layers", "interleave_moe_layer_step", "pooling_type", "attention.q_lora_rank",
        "attention.kv_lora_rank", "attention.shared_kv_layers", "rope.scaling.yarn_log_multiplier", "rope.scaling.alpha"), (0,)),
    **dict.fromkeys(("logit_scale", "residual_scale", "embedding_scale", "attention.output_scale", "attention.value_scale",
                     "attention.temperature_scale"), (1, 0)),
    "rope.scaling.attn_factor": (1,), "hidden_activation": ("silu", "swiglu")}

# Fields that describe the file, and the tokenizer's, which its reader looks after.
_OTHER_TRADES = ("GGUF.", "general.", "quantize.", "imatrix.", "tokenizer.")

# Fields that change nothing of a model that is read here.
_HARMLESS = dict.fromkeys((
    "llama.tensor_data_layout", "llama.rope.scaling.finetuned",
    "llama.rope.scaling.yarn_ext_factor", "llama.rope.scaling.yarn_attn_factor", "llama.rope.scaling.yarn_beta_fast",
    "llama.rope.scaling.yarn_beta_slow", "split.no", "split.tensors.count"), ...)

_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head", "rope_freqs": "rope_freqs"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def _hf_name(name):
    """GGUF's name of a tensor -> Hugging Face's; what no Llama model has is marked, for it could be called as one of Hugging Face's."""
    layer = re.fullmatch(r"blk\.(0|[1-9][0-9]{0,5})\.(\w+)\.(\w+)", name)
    if layer and layer[2] in _LAYER_NAMES:
        return f"model.layers.{layer[1]}.{_LAYER_NAMES[layer[2]]}.{layer[3]}"
    stem, _, suffix = name.rpartition(".")
    return f"{_NAMES[stem]}.{suffix}" if stem in _NAMES else f"GGUF {name}"


class _Values(Mapping):
    """The file's fields as plain values, each made when it is asked for: a vocabulary takes a while."""

    def __init__(self, fields, path):
        self._fields, self._path = fields, path

    def __getitem__(self, key):
        import gguf
        field = self._fields[key]
        try:
            value = field.contents()
        except (UnicodeDecodeError, IndexError):
            raise ModelError(f"{self._path}: Metadata {key} must be UTF-8: convert the model again") from None
        # the shortest number that rounds to the stored float32 is the one that was meant: 1e-05, not 9.99999974e-06
        return float(str(np.float32(value))) if field.types == [gguf.GGUFValueType.FLOAT32] else value

    def __iter__(self):
        return iter(self._fields)

    def __len__(self):
        return len(self._fields)


class _Metadata(Options):
    """The file's fields; those of the architecture by their names behind ``llama.``"""

    def __init__(self, fields, path):
        super().__init__(_Values(fields, path), noun="Metadata")
        self._path = path

    def __call__(self, key, *default):
        """A field's value as it is; ModelError if it is missing and there is no default."""
        if key not in self and not default:
            raise ModelError(f"{self._path}: Metadata {key} is missing: convert the model again")
        return self.raw(key, *default)

    def of_model(self, name, kind, *default, **limits):
        return self.take(f"{_ARCHITECTURE}.{name}", kind, *default, **limits)

    def of_layers(self, name, *default):
        """A number that the file may give for each layer: it must be the same in all."""
        key = f"{_ARCHITECTURE}.{name}"
        if not isinstance(self.raw(key), list):
            return self.of_model(name, int, *default, low=1)
        numbers = self.take(key, list, of=int, low=1)
        if len(set(numbers)) != 1:
            raise ValueError(f"Metadata {key} must be the same in all layers, not {shown(numbers)}")
        return numbers[0]


def _read(path):
    import gguf
    check_header(path)
    try:
        return gguf.GGUFReader(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    # what the reader raises depends on what is wrong
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{path}: File must be whole GGUF: it is truncated or damaged, fetch it again "
                         f"({shown(str(error).partition(chr(10))[0])})") from None


def _rope_scaling(meta, divisors, plain, about):
    """The scaling that the metadata, or the tensor of divisors of each frequency, speaks of, as llama.cpp takes it.

    A factor without a type is a linear one; of type none it counts for nothing; divisors count beside it. Of a llama3 scaling GGUF keeps
    only the divisors: where they are those of Llama 3.1 with another factor, its parameters are found again.
    """
    kind = meta.of_model("rope.scaling.type", str, "linear")
    if kind not in ("none", "linear"):
        raise ValueError(f"RoPE scaling must be none, linear or llama3, not {shown(kind)}")
    old = meta.of_model("rope.scale_linear", float, 0.0)
    factor = meta.of_model("rope.scaling.factor", float, old)
    if factor == 0 or kind == "none":       # as llama.cpp: 0 is not given
        factor = 1.0
    context = meta.of_model("rope.scaling.original_context_length", int, None)
    if divisors is not None:
        if divisors.shape != plain.shape:
            raise ValueError(f"Tensor rope_freqs.weight must have {len(plain)} numbers, not {list(divisors.shape)}")
        about.notes["RoPE scaling"] = "tensor rope_freqs" + (f", and {factor:g} for all" if factor != 1 else "")
        exact = DivisorRopeScaling(divisors=tuple(float(d) for d in divisors), factor=factor)
        return (_llama3(divisors, plain, context) if factor == 1 else None) or exact
    about.notes["RoPE scaling"] = "none" if factor == 1 else f"linear {factor:g} (llama.rope.scaling)"
    return LinearRopeScaling(factor=factor) if factor != 1 else None


def _llama3(divisors, plain, context):
    """The Llama3RopeScaling that has these divisors, or None."""
    for original in (context, 8192):
        if original and divisors.max() > 1:
            scaling = Llama3RopeScaling(factor=float(divisors.max()), low_freq_factor=1.0, high_freq_factor=4.0,
                                        original_max_position_embeddings=original)
            if np.allclose(plain / scaling.apply(plain), divisors, rtol=1e-5, atol=0):
                return scaling
    return None


def _check_neutral(meta, head_dim):
    """Refuse what changes a model and has no part in this hardware."""
    for name, neutral in (_NEUTRAL | {"attention.scale": (0, 1 / math.sqrt(head_dim))}).items():
        value = meta.raw(f"{_ARCHITECTURE}.{name}", neutral[0])
        same = any(value == n or isinstance(n, float) and isinstance(value, float) and math.isclose(value, n, rel_tol=1e-6) for n in neutral)
        if not same or isinstance(value, bool) != isinstance(neutral[0], bool):
            raise ValueError(f"Metadata {_ARCHITECTURE}.{name} must be {neutral[0]} or missing, not {shown(value)}: "
                             "this hardware has nothing for it")


def _shape(meta, tensors, path, dequantize, about):
    architecture = meta("general.architecture")
    if architecture != _ARCHITECTURE:
        raise ValueError(f"Architecture must be llama, not {shown(architecture)}")
    if meta.raw("general.type", "model") != "model":
        raise ValueError(f"Metadata general.type must be model, not {shown(meta.raw('general.type'))}")
    if meta.of_model("expert_count", int, 0):
        raise ValueError(f"Expert count must be 0, not {meta.of_model('expert_count', int)}: mixtures are not supported")
    if meta.take("split.count", int, 1) > 1:
        raise ValueError(f"Model must be in one file, not {meta.take('split.count', int)}: merge the parts")
    hidden, heads = meta.of_model("embedding_length", int, low=1), meta.of_layers("attention.head_count")
    context = meta.of_model("context_length", int)
    window = meta.of_model("attention.sliding_window", int, 0) or None
    if window:          # llama.cpp reads none for this architecture: in a context of that many positions both are right
        context = min(context, window)
        about.notes["window"] = f"{window} positions (llama.attention.sliding_window)"
    head_dim = meta.of_model("attention.key_length", int, hidden // heads)
    for name in ("rope.dimension_count", "attention.value_length"):
        if meta.of_model(name, int, head_dim) != head_dim:
            raise ValueError(f"Metadata llama.{name} must be the head dimension {head_dim}, not {shown(meta.of_model(name, int))}")
    _check_neutral(meta, head_dim)
    if "model.embed_tokens.weight" not in tensors:
        raise ValueError("tensor token_embd.weight is missing: fetch the model again")
    theta = meta.of_model("rope.freq_base", float, 10000.0)
    about.notes["RoPE theta"] = f"{theta} ({'llama.rope.freq_base' if 'llama.rope.freq_base' in meta else 'default of llama.cpp'})"
    tied = "lm_head.weight" not in tensors
    about.notes["LM head"] = "the embedding table (there is no tensor output)" if tied else "tensor output"
    vocab_size = int(tensors["model.embed_tokens.weight"].shape[-1])
    if meta.of_model("vocab_size", int, vocab_size) != vocab_size:
        raise ValueError(f"Metadata llama.vocab_size must be the rows of token_embd.weight, {vocab_size}, not "
                         f"{shown(meta.of_model('vocab_size', int))}")
    options = {
        "name": path.stem,
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": meta.of_layers("feed_forward_length"),
        "num_hidden_layers": meta.of_model("block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.of_layers("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": meta.of_model("attention.layer_norm_rms_epsilon", float),
        "rope_theta": theta,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "bos_token_id": start_token(meta, path),
        "eos_token_ids": end_tokens(meta, path),
    }
    plain = ModelShape(**options).rope_frequencies()
    divisors = tensors.get("rope_freqs.weight")
    return ModelShape(**options, rope_scaling=_rope_scaling(meta, None if divisors is None else dequantize(divisors), plain, about))


def load_gguf(path, *, need_tokenizer=True):
    """The Checkpoint of a .gguf file; ModelError if it is none, or none of a Llama model."""
    from gguf.quants import dequantize
    reader, about = _read(path), About()
    meta = _Metadata(reader.fields, path)
    tensors = {_hf_name(tensor.name): tensor for tensor in reader.tensors}

    def values(tensor):
        try:
            return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except (NotImplementedError, KeyError):
            raise ModelError(f"{path}: tensor {tensor.name} must have a type that the gguf package dequantizes, "
                             f"not {tensor.tensor_type.name}") from None

    try:
        shape = _shape(meta, tensors, path, values, about)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: {error}") from None
    # GGUF lists dimensions innermost first
    sizes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    check_tensors(shape, sizes, path, ignored=lambda name: name == "rope_freqs.weight", spelled=lambda name: tensors[name].name)

    def read(name):
        weights = values(tensors[name])
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            # GGUF stores the two elements of a rotary pair next to each other
            n, k = weights.shape
            weights = weights.reshape(-1, shape.head_dim // 2, 2, k).swapaxes(1, 2).reshape(n, k)
        return weights

    tokenizer = None
    if need_tokenizer or "tokenizer.ggml.tokens" in reader.fields:
        tokenizer = build_tokenizer(meta, path, reader.fields)
        tokenizer.check_vocabulary(shape.vocab_size, path)
    about.notes["end tokens"] = f"{', '.join(map(str, shape.eos_token_ids)) or 'none'} (tokenizer.ggml)"
    unknown = [key for key in meta.left(_HARMLESS) if not key.startswith(_OTHER_TRADES)]
    if unknown:
        about.warnings.append(f"{path}: metadata that this reader does not know has no effect: {', '.join(unknown)}")
    return Checkpoint(shape, str(path), read, tokenizer, about)
