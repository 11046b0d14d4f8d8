"""GGUF files: shape and tokenizer from the metadata, tensors of any type that the gguf package dequantizes."""
import numpy as np

from ..params.model import LinearRopeScaling, Llama3RopeScaling, ModelShape
from .checkpoint import Checkpoint, ModelError, check_tensors
from .gguf_tokenizer import build_tokenizer

__all__ = ["load_gguf"]

_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def _hf_name(name):
    """GGUF's name of a tensor -> Hugging Face's; a name that is not a Llama tensor's stays."""
    stem, dot, suffix = name.rpartition(".")
    if stem.startswith("blk."):
        _, layer, part = stem.split(".", 2)
        return f"model.layers.{layer}.{_LAYER_NAMES[part]}{dot}{suffix}" if part in _LAYER_NAMES else name
    return _NAMES.get(stem, stem) + dot + suffix


class _Metadata:
    """The file's fields as plain values, with a sentence for one that is missing."""

    def __init__(self, fields, path):
        self._fields, self._path = fields, path

    def __call__(self, key, *default):
        if key in self._fields:
            value = self._fields[key].contents()
            # the shortest number that rounds to the stored float32 is the one that was meant: 1e-05, not 9.99999974e-06
            return float(str(np.float32(value))) if isinstance(value, float) else value
        if default:
            return default[0]
        raise ModelError(f"{self._path}: Metadata {key} is missing: convert the model again")


def _read(path):
    import gguf
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{path}: File must be GGUF, or a folder in Hugging Face's layout be given instead")
        return gguf.GGUFReader(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    # what the reader raises depends on where the file ends
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{path}: File must be whole GGUF: it is truncated or damaged, fetch it again "
                         f"({str(error).splitlines()[0]})") from None


def _rope_scaling(meta, factors, plain):
    """The scaling that the metadata, or the tensor of divisors of each frequency, speaks of.

    GGUF keeps of a llama3 scaling only these divisors; the other parameters have been the same in every release.
    """
    kind = meta("llama.rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise ValueError(f"RoPE scaling must be none, linear or llama3, not {kind!r}")
    if factors is None:
        factor = meta("llama.rope.scaling.factor", 1.0)
        return LinearRopeScaling(factor=factor) if kind == "linear" and factor != 1 else None
    scaling = Llama3RopeScaling(
        factor=float(factors.max()), low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=meta("llama.rope.scaling.original_context_length", 8192))
    if factors.shape != plain.shape or not np.allclose(plain / scaling.apply(plain), factors, rtol=1e-4, atol=0):
        raise ValueError("Tensor rope_freqs.weight must be Llama 3.1's scaling, not another one: "
                         "use the model's Hugging Face folder")
    return scaling


def _shape(meta, tensors, path, dequantize):
    architecture = meta("general.architecture")
    if architecture != "llama":
        raise ValueError(f"Architecture must be llama, not {architecture!r}")
    if meta("llama.expert_count", 0):
        raise ValueError(f"Expert count must be 0, not {meta('llama.expert_count')}: mixtures are not supported")
    if meta("split.count", 1) > 1:
        raise ValueError(f"Model must be in one file, not {meta('split.count')}: merge the parts")
    hidden, heads = meta("llama.embedding_length"), meta("llama.attention.head_count")
    context = meta("llama.context_length")
    window = meta("llama.attention.sliding_window", 0) or context
    if window < context:
        raise ValueError(f"Sliding window must be off or at least the context {context}, not {window}")
    head_dim = meta("llama.attention.key_length", hidden // heads if isinstance(heads, int) and heads else 0)
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if meta(key, head_dim) != head_dim:
            raise ValueError(f"Metadata {key} must be the head dimension {head_dim}, not {meta(key)}")
    if "model.embed_tokens.weight" not in tensors:
        raise ValueError("tensor token_embd.weight is missing: fetch the model again")
    ends = [meta(f"tokenizer.ggml.{kind}_token_id", None) for kind in ("eos", "eot", "eom")]
    options = {
        "name": path.stem,
        "vocab_size": int(tensors["model.embed_tokens.weight"].shape[-1]),
        "hidden_size": hidden,
        "intermediate_size": meta("llama.feed_forward_length"),
        "num_hidden_layers": meta("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": meta("llama.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": meta("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": meta("llama.rope.freq_base", 10000.0),
        "max_position_embeddings": context,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "bos_token_id": meta("tokenizer.ggml.bos_token_id", None),
        "eos_token_ids": tuple(dict.fromkeys(end for end in ends if end is not None)),
    }
    plain = ModelShape(**options).rope_frequencies()
    factors = tensors.get("rope_freqs.weight")
    return ModelShape(**options, rope_scaling=_rope_scaling(meta, factors and dequantize(factors), plain))


def load_gguf(path, *, need_tokenizer=True):
    """The Checkpoint of a .gguf file; ModelError if it is none, or none of a Llama model."""
    from gguf.quants import dequantize
    reader = _read(path)
    meta = _Metadata(reader.fields, path)
    tensors = {_hf_name(tensor.name): tensor for tensor in reader.tensors}

    def values(tensor):
        try:
            return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except (NotImplementedError, KeyError):
            raise ModelError(f"{path}: tensor {tensor.name} must have a type that the gguf package dequantizes, "
                             f"not {tensor.tensor_type.name}") from None

    try:
        shape = _shape(meta, tensors, path, values)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: {error}") from None
    # GGUF lists dimensions innermost first
    sizes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    check_tensors(shape, sizes, path, ignored=lambda name: name == "rope_freqs.weight")

    def read(name):
        weights = values(tensors[name])
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            # GGUF stores the two elements of a rotary pair next to each other
            n, k = weights.shape
            weights = weights.reshape(-1, shape.head_dim // 2, 2, k).swapaxes(1, 2).reshape(n, k)
        return weights

    tokenizer = None
    if need_tokenizer or "tokenizer.ggml.tokens" in reader.fields:
        tokenizer = build_tokenizer(meta, path)
        tokenizer.check_vocabulary(shape.vocab_size, path)
    return Checkpoint(shape, str(path), read, tokenizer)
