"""GGUF files: shape and tokenizer from the metadata, tensors of any type that the gguf package dequantizes.

What a field means that is missing, or stands beside others, is as in llama.cpp.
"""
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..params.checks import shown
from ..params.model import DivisorRopeScaling, LayerType, LinearRopeScaling, Llama3RopeScaling, ModelShape
from .checkpoint import Checkpoint, ModelError, check_tensors, tensor_shapes
from .families.rope import yarn
from .families.tensors import attention_factor
from .gguf_architectures import ARCHITECTURES, MISSING
from .gguf_header import check_header
from .gguf_tokenizer import build_tokenizer, end_tokens, start_token
from .options import About, Options

__all__ = ["load_gguf"]

# Fields that describe the file, and the tokenizer's, which its reader looks after.
_OTHER_TRADES = ("GGUF.", "general.", "quantize.", "imatrix.", "tokenizer.")

# Fields behind the architecture's name that change nothing of a model that is read here, and fields of the file.
_HARMLESS = ("tensor_data_layout", "rope.scaling.finetuned", "rope.scaling.yarn_ext_factor",
             "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow")
_HARMLESS_OF_FILES = dict.fromkeys(("split.no", "split.tensors.count"), ...)


_CHUNK = 1 << 20    # numbers that are dequantized at once


class _Values(Mapping):
    """The file's fields as plain values, each made when it is first asked for: a vocabulary takes a while."""

    def __init__(self, fields, path):
        self._fields, self._path, self._made = fields, path, {}

    def __getitem__(self, key):
        if key not in self._made:
            self._made[key] = self._make(key)
        return self._made[key]

    def _make(self, key):
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
    """The file's fields; those of the architecture by their names behind it."""

    def __init__(self, fields: Mapping[str, Any], path: Path) -> None:
        super().__init__(_Values(fields, path), noun="Metadata")
        self._path = path
        self.architecture = None

    def __call__(self, key: str, *default: Any) -> Any:
        """A field's value as it is; ModelError if it is missing and there is no default."""
        if key not in self and not default:
            raise ModelError(f"{self._path}: Metadata {key} is missing: convert the model again")
        return self.raw(key, *default)

    def key(self, name: str) -> str:
        """The whole name of a field of the architecture."""
        return f"{self.architecture}.{name}"

    def of_model(self, name: str, kind: type, *default: Any, **limits: Any) -> Any:
        return self.take(self.key(name), kind, *default, **limits)

    def of_layers(self, name: str, *default: int) -> int:
        """A number that the file may give for each layer: it must be the same in all."""
        key = self.key(name)
        if not isinstance(self.raw(key), list):
            return self.of_model(name, int, *default, low=1)
        numbers = self.take(key, list, of=int, low=1)
        if len(set(numbers)) != 1:
            raise ValueError(f"Metadata {key} must be the same in all layers, not {shown(numbers)}")
        return numbers[0]


def _read(path):
    import gguf

    class Reader(gguf.GGUFReader):
        """Its parts of the file are plain arrays: np.memmap takes most of the time that a large vocabulary needs."""
        data = property(lambda self: self._whole, lambda self, whole: self.take(whole))

        def take(self, whole):
            self._whole, self.pages = whole.view(np.ndarray), whole._mmap

    check_header(path)
    try:
        return Reader(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    # what the reader raises depends on what is wrong
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{path}: File must be whole GGUF: it is truncated or damaged, fetch it again "
                         f"({shown(str(error).partition(chr(10))[0])})") from None


def _rope_scaling(meta, arch, divisors, plain, context, about):
    """(The scaling that the metadata, or the tensor of divisors of each frequency, speaks of, its factor of cosines and
    sines, the context that it is for, or None), as llama.cpp takes it.

    A factor without a type is a linear one; of type none it counts for nothing; divisors count beside it. Of a llama3
    scaling GGUF keeps only the divisors: where they are those of Llama 3.1 with another factor, its parameters are
    found again.
    """
    kind = meta.of_model("rope.scaling.type", str, "linear")
    if kind not in ("none", "linear", "yarn") and not (kind == "longrope" and arch.longrope):
        raise ValueError(f"RoPE scaling must be none, linear, yarn or llama3, not {shown(kind)}")
    old = meta.of_model("rope.scale_linear", float, 0.0)
    factor = meta.of_model("rope.scaling.factor", float, old)
    if factor == 0 or kind == "none":       # as llama.cpp: 0 is not given
        factor = 1.0
    original = meta.of_model("rope.scaling.original_context_length", int, None)
    if divisors is not None and divisors.shape != plain.shape:
        raise ValueError(f"Tensor {arch.divisors} must have {len(plain)} numbers, not {list(divisors.shape)}")
    if kind == "yarn":
        if divisors is not None:
            raise ValueError(f"RoPE scaling must be none or linear beside tensor {arch.divisors}, not yarn")
        return *_yarn(meta, factor, plain, original or context, about), None
    attention, longest = 1.0, None
    if arch.longrope:       # the short factors, which hold up to the original context
        attention = meta.of_model("rope.scaling.attn_factor", float, 1.0)
        longest = original if divisors is not None else None
    if divisors is not None:
        more = f", and {factor:g} for all" if factor != 1 else ""
        about.notes["RoPE scaling"] = f"tensor {arch.divisors.removesuffix('.weight')}{more}"
        exact = DivisorRopeScaling(divisors=tuple(float(d) for d in divisors), factor=factor)
        return (_llama3(divisors, plain, original) if factor == 1 else None) or exact, attention, longest
    about.notes["RoPE scaling"] = "none" if factor == 1 else f"linear {factor:g} ({meta.key('rope.scaling')})"
    return LinearRopeScaling(factor=factor) if factor != 1 else None, attention, longest


def _yarn(meta, factor, plain, original, about):
    """(Scaling, factor of cosines and sines) of YaRN.

    Its own fields must be at their defaults: llama.cpp reads them for few architectures, though its converters write
    them for all.
    """
    for name, neutral in (("ext_factor", 1.0), ("attn_factor", 1.0), ("beta_fast", 32.0), ("beta_slow", 1.0)):
        value = meta.of_model(f"rope.scaling.yarn_{name}", float, neutral)
        if value != neutral:
            raise ValueError(f"Metadata {meta.key('rope.scaling')}.yarn_{name} must be {neutral:g} or missing, not "
                             f"{shown(value)}")
    theta = meta.of_model("rope.freq_base", float, 10000.0)
    rope, words = yarn(Options({"factor": factor}), theta, 2 * len(plain), original, lambda: original)
    about.notes["RoPE scaling"] = f"{words} ({meta.key('rope.scaling')})"
    return rope.scaling, rope.factor


def _llama3(divisors, plain, context):
    """The Llama3RopeScaling that has these divisors, or None."""
    for original in (context, 8192):
        if original and divisors.max() > 1:
            scaling = Llama3RopeScaling(factor=float(divisors.max()), low_freq_factor=1.0, high_freq_factor=4.0,
                                        original_max_position_embeddings=original)
            if np.allclose(plain / scaling.apply(plain), divisors, rtol=1e-5, atol=0):
                return scaling
    return None


def _check_neutral(meta, arch, head_dim):
    """Refuse what changes a model and has no part in this hardware."""
    for name, neutral in arch.neutral.items():
        if name == "attention.scale":
            neutral = (*neutral, 1 / math.sqrt(head_dim))
        value = meta.raw(meta.key(name), neutral[0])
        same = any(value == n or isinstance(n, float) and isinstance(value, float)
                   and math.isclose(value, n, rel_tol=1e-6)
                   for n in neutral)
        if not same or isinstance(value, bool) != isinstance(neutral[0], bool):
            raise ValueError(f"Metadata {meta.key(name)} must be {neutral[0]} or missing, not {shown(value)}: "
                             "this hardware has nothing for it")


def _architecture(meta, found):
    """The `Architecture` of a file with these tensors."""
    name = meta("general.architecture")
    if name in MISSING:
        raise ValueError(f"Architecture must be one of {', '.join(ARCHITECTURES)}, not {name}: this hardware has no "
                         f"{MISSING[name]}")
    if name not in ARCHITECTURES:
        raise ValueError(f"Architecture must be one of {', '.join(ARCHITECTURES)}, not {shown(name)}")
    meta.architecture = name
    if meta.raw("general.type", "model") != "model":
        raise ValueError(f"Metadata general.type must be model, not {shown(meta.raw('general.type'))}")
    if meta.of_model("expert_count", int, 0):
        raise ValueError(f"Expert count must be 0, not {meta.of_model('expert_count', int)}: mixtures are "
                         "not supported")
    if meta.take("split.count", int, 1) > 1:
        raise ValueError(f"Model must be in one file, not {meta.take('split.count', int)}: merge the parts")
    return ARCHITECTURES[name].of(meta, found)


def _layers(meta, arch, made, local, about):
    """(sliding_window, layer_types) of a `ModelShape` with the fields ``made``. ``local``: theta and scaling of layers
    with a window."""
    count = made["num_hidden_layers"]
    window = (meta.of_model("attention.sliding_window", int, arch.window(count)) or None) if arch.layers else None
    windowed = arch.layers(meta, count) if window else (False,) * count
    rotary = arch.rotary(meta, windowed)
    if any(windowed):
        said = meta.key("attention.sliding_window")
        about.notes["window"] = f"{window} positions ({said if said in meta else 'default of llama.cpp'})" + (
            "" if all(windowed) else f", in {sum(windowed)} of {count} layers")
    if not all(rotary):
        about.notes["layers without RoPE"] = f"{count - sum(rotary)} of {count}"
    other = ({} if local == (made["rope_theta"], made["rope_scaling"])
             else {"rope_theta": local[0], "rope_scaling": local[1]})
    types = tuple(LayerType(window=window if here else None, rotary=turned, **(other if here and turned else {}))
                  for here, turned in zip(windowed, rotary))
    if len(set(types)) == 1 and types[0].rotary and types[0].rope_theta is None:
        return types[0].window, ()
    return None, types


def _shape(meta, arch, sizes, own, path, divisors, about):
    """(ModelShape, factor of cosines and sines of each layer.) ``own``: matrices with a bias; ``divisors``: of
    frequencies, or None."""
    hidden, heads = meta.of_model("embedding_length", int, low=1), meta.of_layers("attention.head_count")
    context = meta.of_model("context_length", int)
    if arch.layers is None and (window := meta.of_model("attention.sliding_window", int, 0)):
        # llama.cpp reads none for this architecture: in a context of that many positions both are right
        context = min(context, window)
        about.notes["window"] = f"{window} positions ({meta.key('attention.sliding_window')})"
    head_dim = meta.of_model("attention.key_length", int, hidden // heads)
    turned = meta.of_model("rope.dimension_count", int, head_dim)
    for name in ("attention.value_length", *(() if arch.partial else ("rope.dimension_count",))):
        if meta.of_model(name, int, head_dim) != head_dim:
            raise ValueError(f"Metadata {meta.key(name)} must be the head dimension {head_dim}, not "
                             f"{shown(meta.of_model(name, int))}")
    if arch.positions:
        turned, about.notes["positions"] = 0, f"a table of {context}"
    _check_neutral(meta, arch, head_dim)
    theta = meta.of_model("rope.freq_base", float, 10000.0)
    key = meta.key("rope.freq_base")
    about.notes["RoPE theta"] = f"{theta} ({key if key in meta else 'default of llama.cpp'})"
    tied, head_bias = "output.weight" not in sizes, arch.head_bias and "output.bias" in sizes
    about.notes["LM head"] = "the embedding table (there is no tensor output)" if tied else "tensor output"
    vocab_size = sizes["token_embd.weight"][0]
    if meta.of_model("vocab_size", int, vocab_size) != vocab_size:
        raise ValueError(f"Metadata {meta.key('vocab_size')} must be the rows of token_embd.weight, {vocab_size}, not "
                         f"{shown(meta.of_model('vocab_size', int))}")
    made = {
        "name": path.stem,
        "vocab_size": vocab_size,
        "hidden_size": hidden,
        "intermediate_size": meta.of_layers("feed_forward_length"),
        "num_hidden_layers": meta.of_model("block_count", int, low=1, high=1000),
        "num_attention_heads": heads,
        "num_key_value_heads": meta.of_layers("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": meta.of_model("attention.layer_norm_epsilon" if arch.layer_norm
                                      else "attention.layer_norm_rms_epsilon", float),
        "rope_theta": theta,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied and not (arch.untied or head_bias),
        "bos_token_id": start_token(meta, path),
        "eos_token_ids": end_tokens(meta, path),
        "rotary_dim": None if turned == head_dim else turned,
        "learned_positions": arch.positions,
        "head_bias": head_bias,
        "block": arch.make_block(own, head_bias),
    }
    plain = ModelShape(**made).rope_frequencies()[:turned // 2]
    made["rope_scaling"], factor, longest = _rope_scaling(meta, arch, divisors, plain, context, about)
    made["max_position_embeddings"] = min(context, longest or context)
    local = (meta.of_model("rope.freq_base_swa", float, arch.local_theta or theta),
             made["rope_scaling"] if arch.local_scaling else None)
    window, types = _layers(meta, arch, made, local, about)
    for name, default in arch.softcaps.items():
        made[name] = meta.of_model(name, float, default)
    shape = ModelShape(**made, score_scale=arch.scale(meta, made), sliding_window=window, layer_types=types)
    whole = (shape.rope_theta, shape.rope_scaling)
    ropes = (shape.rope_of(i) for i in range(shape.num_hidden_layers))
    return shape, [factor if rope is not None and shape.ropes()[rope] == whole else 1.0 for rope in ropes]


def _dequantized(tensor, size):
    """A tensor as float32, of a new array, some rows at a time: the package has all in memory twice."""
    from gguf.quants import dequantize
    values = np.empty(size, np.float32)
    step = max(1, _CHUNK // size[-1]) if len(size) > 1 else max(1, *size)
    for start in range(0, size[0], step):
        values[start:start + step] = dequantize(tensor.data[start:start + step], tensor.tensor_type)
    return values


def load_gguf(path: Path, *, need_tokenizer: bool = True) -> Checkpoint:
    """The Checkpoint of a .gguf file; ModelError if it is none, or none of an architecture that is supported."""
    reader, about = _read(path), About()
    meta = _Metadata(reader.fields, path)
    tensors, pages = {tensor.name: tensor for tensor in reader.tensors}, reader.pages

    def read(name):
        tensor = tensors[name]
        try:
            return _dequantized(tensor, sizes[name])
        except (NotImplementedError, KeyError):
            raise ModelError(f"{path}: tensor {tensor.name} must have a type that the gguf package dequantizes, "
                             f"not {tensor.tensor_type.name}") from None
        finally:
            pages.madvise(mmap.MADV_DONTNEED)       # or they are this process's from when they are read on

    # GGUF lists dimensions innermost first
    sizes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    try:
        arch = _architecture(meta, sizes)
        if "token_embd.weight" not in tensors:
            raise ValueError("tensor token_embd.weight is missing: fetch the model again")
        own = arch.own_biases(sizes)
        shape, factors = _shape(meta, arch, sizes, own, path, read(arch.divisors) if arch.divisors in tensors
                                else None, about)
        plan, folded = arch.plan(shape, tensor_shapes(shape), own, sizes, meta)
        folded += filter(None, [attention_factor(plan, factors)])
    except (ValueError, TypeError) as error:
        raise ModelError(f"{path}: {error}") from None
    if folded:
        about.notes["folded"] = "; ".join(folded)
    check_tensors(shape, sizes, path, ignored=lambda name: name == arch.divisors or name in arch.ignored,
                  wanted=plan.needs())

    tokenizer = None
    if need_tokenizer or "tokenizer.ggml.tokens" in reader.fields:
        tokenizer = build_tokenizer(meta, path, reader.fields)
        tokenizer.check_vocabulary(shape.vocab_size, path)
    about.notes["end tokens"] = f"{', '.join(map(str, shape.eos_token_ids)) or 'none'} (tokenizer.ggml)"
    harmless = _HARMLESS_OF_FILES | {meta.key(name): ... for name in _HARMLESS}
    unknown = [key for key in meta.left(harmless) if not key.startswith(_OTHER_TRADES)]
    if unknown:
        about.warnings.append(f"{path}: metadata that this reader does not know has no effect: {', '.join(unknown)}")
    checkpoint = Checkpoint(shape, str(path), lambda name: plan.recipes[name].make(read), tokenizer, about)
    checkpoint.in_blocks = plan.made_of({name for name, tensor in tensors.items() if tensor.tensor_type.name
                                         == "MXFP4"})
    return checkpoint
