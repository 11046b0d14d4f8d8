"""The shape of a dense decoder, under Hugging Face's names."""
import math
from dataclasses import dataclass

import numpy as np

from .block import LLAMA, Block, Norm, Project
from .checks import check_int, check_number, later as _later, shown, without_unused

__all__ = ["DivisorRopeScaling", "HEAD_BIAS_COLUMNS", "LayerType", "LinearRopeScaling", "Llama3RopeScaling",
           "ModelShape", "DEMO", "SMOLLM2_135M", "LLAMA3_8B", "LLAMA3_70B", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class LinearRopeScaling:
    """Every rotary frequency divided by ``factor``."""

    factor: float

    def __post_init__(self) -> None:
        check_number("RoPE scaling factor", self.factor)

    def apply(self, frequencies: np.ndarray) -> np.ndarray:  # [head_dim/2] -> [head_dim/2]
        return frequencies / self.factor


@dataclass(frozen=True, kw_only=True)
class DivisorRopeScaling:
    """Each rotary frequency divided by a number of its own, as GGUF's tensor ``rope_freqs`` has them, and all by
    ``factor``."""

    divisors: tuple[float, ...]     # head_dim / 2 of them
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.divisors, tuple):
            raise TypeError(f"RoPE divisors must be a tuple, not {shown(self.divisors)}")
        for divisor in self.divisors:
            check_number("RoPE divisor", divisor)
        check_number("RoPE scaling factor", self.factor)

    def apply(self, frequencies: np.ndarray) -> np.ndarray:  # [head_dim/2] -> [head_dim/2]
        if len(self.divisors) != len(frequencies):
            raise ValueError(f"RoPE divisors must be half the head dimension, {len(frequencies)}, not "
                             f"{len(self.divisors)}")
        return frequencies / np.array(self.divisors) / self.factor


@dataclass(frozen=True, kw_only=True)
class Llama3RopeScaling:
    """Rotary frequencies rescaled by wavelength, as Llama 3.1 does it.

    Wavelengths below ``original_max_position_embeddings / high_freq_factor`` stay, those above
    ``original_max_position_embeddings / low_freq_factor`` grow by ``factor``, and the ones between are interpolated.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        check_number("RoPE scaling factor", self.factor)
        check_number("RoPE low frequency factor", self.low_freq_factor)
        check_number("RoPE high frequency factor", self.high_freq_factor)
        check_int("RoPE original context", self.original_max_position_embeddings, 1)
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(f"RoPE high frequency factor {self.high_freq_factor} must be above "
                             f"low frequency factor {self.low_freq_factor}")

    def apply(self, frequencies: np.ndarray) -> np.ndarray:  # [head_dim/2] -> [head_dim/2]
        turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
        keep = np.clip((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor), 0, 1)
        return keep * frequencies + (1 - keep) * frequencies / self.factor


RopeScaling = LinearRopeScaling | Llama3RopeScaling | DivisorRopeScaling
#: (theta, scaling)
Rope = tuple[float, RopeScaling | None]
_SCALINGS = (LinearRopeScaling, Llama3RopeScaling, DivisorRopeScaling)


@dataclass(frozen=True, kw_only=True)
class LayerType:
    """The properties that may differ from layer to layer.

    Parameters
    ----------
    window : int or None              positions that a token sees, itself included; None: all before it
    rotary : bool                     queries and keys are turned
    rope_theta : float or None        with its own ``rope_scaling``; None: both are the model's
    """

    window: int | None = None
    rotary: bool = True
    rope_theta: float | None = None
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            check_int("Sliding window", self.window, 1)
        if self.rope_theta is not None:
            check_number("RoPE theta", self.rope_theta)
        elif self.rope_scaling is not None:
            raise ValueError("RoPE scaling of a layer must come with its RoPE theta")


#: Columns of the LM head that its bias is in: see `ModelShape.head_inputs`. As many as the lanes of a small array, so
#: that fewer save nothing; a bias that is larger than weights are needs several.
HEAD_BIAS_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Everything about a model but its weights.

    Parameters
    ----------
    name : str                        what the reports call it
    vocab_size, hidden_size, intermediate_size, num_hidden_layers : int
    num_attention_heads, num_key_value_heads, head_dim : int
    rms_norm_eps, rope_theta : float
    rope_scaling : None, LinearRopeScaling, Llama3RopeScaling or DivisorRopeScaling
    max_position_embeddings : int     the longest context the model was made for
    sliding_window : int or None      positions that a token sees, itself included; None: all before it
    tie_word_embeddings : bool        whether the embedding table is the LM head
    bos_token_id : int or None
    eos_token_ids : tuple of int      any of them ends a text
    block : Block                     what its layers are made of
    score_scale : float or None       what the products of queries and keys are multiplied with; None: 1 /
                                      sqrt(head_dim)
    rotary_dim : int or None          elements of a head that are turned, the first ones; None: all. Their frequencies
                                      are those of a head of that size
    layer_types : tuple of LayerType  of each layer, or () where all are alike: then ``sliding_window`` is that of all
    learned_positions : bool          a row of a table, that of the token's position, is added to its embedding
    attn_logit_softcapping : float or None      a score s is ``c * tanh(s / c)`` before the softmax; None: it stays
    final_logit_softcapping : float or None     the same of a logit
    head_bias : bool                  each logit has a number of its own added, before a softcap

    Raises
    ------
    TypeError, ValueError             if a field, or a pair of them, is not that of a Llama model with RoPE
    """

    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    max_position_embeddings: int = 2048
    sliding_window: int | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    block: Block = _later(LLAMA)
    score_scale: float | None = _later(None)
    rotary_dim: int | None = _later(None)
    layer_types: tuple[LayerType, ...] = _later(())
    learned_positions: bool = _later(False)
    attn_logit_softcapping: float | None = _later(None)
    final_logit_softcapping: float | None = _later(None)
    head_bias: bool = _later(False)

    # names the shape in a machine's registers, so it is as it was where nothing is used that came later
    def __repr__(self) -> str:
        said = (f"{f.name}={getattr(self, f.name)!r}" for f in without_unused(self))
        return f"ModelShape({', '.join(said)})"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"Model name must be a string, not {self.name!r}")
        for noun, value, low, high in (
                ("Vocabulary size", self.vocab_size, 1, 1 << 24), ("Hidden size", self.hidden_size, 1, 1 << 20),
                ("Intermediate size", self.intermediate_size, 1, 1 << 22),
                ("Layer count", self.num_hidden_layers, 1, 1000), ("Head count", self.num_attention_heads, 1, 1 << 12),
                ("KV head count", self.num_key_value_heads, 1, 1 << 12),
                ("Head dimension", self.head_dim, 2, 1 << 12)):
            check_int(noun, value, low)
            if value > high:                        # some ten times what the largest public models have
                raise ValueError(f"{noun} must be at most {high}, not {shown(value)}")
        check_number("RMSNorm epsilon", self.rms_norm_eps)
        check_number("RoPE theta", self.rope_theta)
        check_int("Context length", self.max_position_embeddings, 1)
        if self.sliding_window is not None:
            check_int("Sliding window", self.sliding_window, 1)
        if not isinstance(self.tie_word_embeddings, bool):
            raise TypeError(f"Tied embeddings must be True or False, not {shown(self.tie_word_embeddings)}")
        for noun, value in (("Learned positions", self.learned_positions), ("Head bias", self.head_bias)):
            if not isinstance(value, bool):
                raise TypeError(f"{noun} must be True or False, not {shown(value)}")
        if self.head_bias and (self.tie_word_embeddings or not self.block.final_bias):
            raise ValueError("Head bias must be that of a head of its own, behind a final norm with a bias")
        if not (self.rope_scaling is None or isinstance(self.rope_scaling, _SCALINGS)):
            raise TypeError("RoPE scaling must be None, LinearRopeScaling, Llama3RopeScaling or DivisorRopeScaling, "
                            f"not {shown(self.rope_scaling)}")
        if not isinstance(self.eos_token_ids, tuple):
            raise TypeError(f"End tokens must be a tuple, not {shown(self.eos_token_ids)}")

        if self.head_dim % 2:
            raise ValueError(f"Head dimension must be even, not {self.head_dim}")
        if self.score_scale is not None:
            check_number("Score scale", self.score_scale)
        for noun, cap in (("Softcap of scores", self.attn_logit_softcapping),
                          ("Softcap of logits", self.final_logit_softcapping)):
            if cap is not None:
                check_number(noun, cap)
                if not 1 / 64 <= cap <= 1 << 20:        # there would be nothing left, or nothing to cap
                    raise ValueError(f"{noun} must be from 1/64 to {1 << 20}, not {shown(cap)}")
        if self.rotary_dim is not None:
            check_int("Rotary dimension", self.rotary_dim, 0)
            if self.rotary_dim % 2 or self.rotary_dim > self.head_dim:
                raise ValueError(f"Rotary dimension must be even and at most the head dimension {self.head_dim}, not "
                                 f"{self.rotary_dim}")
        if self.layer_types and (len(self.layer_types) != self.num_hidden_layers or self.sliding_window is not None):
            raise ValueError(f"Layer types must be one for each of {self.num_hidden_layers} layers, which have the "
                             f"sliding window, not {len(self.layer_types)}")
        with np.errstate(all="ignore"):
            if not np.isfinite(self.rope_frequencies()).all():
                raise ValueError(f"RoPE theta {self.rope_theta} must give finite frequencies, with its scaling")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(f"Head count {self.num_attention_heads} must be a multiple of "
                             f"KV head count {self.num_key_value_heads}")
        start = [] if self.bos_token_id is None else [("Start token", self.bos_token_id)]
        for noun, token in [*start, *(("End token", t) for t in self.eos_token_ids)]:
            check_int(noun, token, 0)
            if token >= self.vocab_size:
                raise ValueError(f"{noun} {token} must be below vocabulary size {self.vocab_size}")

    @property
    def longest_context(self) -> int:
        """Positions that a machine may have: with more it would be another model."""
        return self.max_position_embeddings

    @property
    def score_cap(self) -> float | None:
        """The softcap of scores in the machine's unit, log2; or None."""
        return None if self.attn_logit_softcapping is None else self.attn_logit_softcapping * math.log2(math.e)

    @property
    def q_size(self) -> int:
        """Rows of the query matrix: all heads."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Rows of the key matrix, and of the value matrix: all KV heads."""
        return self.num_key_value_heads * self.head_dim

    @property
    def head_inputs(self) -> int:
        """Inputs of the LM head: the elements of the residual, and for a bias some more, which are one number in every
        row. The matrix's last columns times that number are the bias. The gains of these inputs in the final norm are
        0, and their biases there are that number."""
        return self.hidden_size + HEAD_BIAS_COLUMNS * self.head_bias

    @property
    def group_size(self) -> int:
        """Query heads that share one KV head."""
        return self.num_attention_heads // self.num_key_value_heads

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Name -> (outputs, inputs) of one layer's matrices, in the order a pass uses them."""
        sizes = {"hidden": self.hidden_size, "ff": self.intermediate_size, "heads": self.q_size,
                 "kv_heads": self.kv_size}
        inputs = {name: project.inputs for project in self.block.of(Project) for name in project.matrices}
        return {matrix.name: (sizes[matrix.rows], sizes[inputs[matrix.name]]) for matrix in self.block.matrices}

    def layer_tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor of a layer of the checkpoint, in order: matrices, gains of norms, those of
        queries and keys, biases."""
        block, sizes = self.block, self.matrices()
        names: dict[str, tuple[int, ...]] = {matrix.tensor: sizes[matrix.name] for matrix in block.matrices}
        names |= {norm.tensor: (self.hidden_size,) for norm in block.of(Norm) if not norm.plain}
        if block.qk_norm:
            whole = block.qk_norm.span == "projection"
            names |= {block.qk_norm.q_tensor: (self.q_size if whole else self.head_dim,),
                      block.qk_norm.k_tensor: (self.kv_size if whole else self.head_dim,)}
        return names | {matrix.bias: sizes[matrix.name][:1] for matrix in block.matrices if matrix.biased}

    @property
    def parameter_count(self) -> int:
        """Weights of the checkpoint; a tied table counts once."""
        layer = sum(math.prod(size) for size in self.layer_tensors().values())
        tables = 1 if self.tie_word_embeddings else 2
        rows = (tables * self.vocab_size + self.max_position_embeddings * self.learned_positions + 1
                + self.block.final_bias)
        return self.num_hidden_layers * layer + rows * self.hidden_size + self.vocab_size * self.head_bias

    def layer_type(self, layer: int) -> LayerType:
        """The `LayerType` of a layer."""
        return self.layer_types[layer] if self.layer_types else LayerType(window=self.sliding_window)

    def ropes(self) -> tuple[Rope, ...]:
        """The different (theta, scaling) of the layers that turn queries and keys, in the order of their first use."""
        return tuple(dict.fromkeys(rope for rope in map(self._rope, range(self.num_hidden_layers)) if rope is not None))

    def rope_of(self, layer: int) -> int | None:
        """Index of a layer's RoPE in `ropes`, or None if it has none."""
        rope = self._rope(layer)
        return None if rope is None else self.ropes().index(rope)

    def _rope(self, layer: int) -> Rope | None:
        of = self.layer_type(layer)
        if not of.rotary or self.rotary_dim == 0:
            return None
        return (self.rope_theta, self.rope_scaling) if of.rope_theta is None else (of.rope_theta, of.rope_scaling)

    def rope_frequencies(self, rope: Rope | None = None) -> np.ndarray:
        """Radians per position of each rotary pair, float64 [head_dim/2]; pair i is elements i and i + head_dim/2.

        With ``rotary_dim`` R pair i is elements i and i + R/2 for i < R/2; the others are not turned: their frequency
        is 0. ``rope``: one of `ropes`, or the model's own.
        """
        theta, scaling = (self.rope_theta, self.rope_scaling) if rope is None else rope
        turned = self.head_dim if self.rotary_dim is None else self.rotary_dim
        frequencies = theta ** (-np.arange(0, turned, 2, dtype=np.float64) / max(1, turned))
        if scaling is not None:
            frequencies = scaling.apply(frequencies)
        return np.pad(frequencies, (0, (self.head_dim - turned) // 2))

    def rotary_order(self) -> np.ndarray:
        """Elements of a head in the order in which the machine stores them, both of a rotary pair side by side: int
        [head_dim]."""
        turned = self.head_dim if self.rotary_dim is None else self.rotary_dim
        return np.concatenate([np.arange(turned).reshape(2, -1).T.reshape(-1), np.arange(turned, self.head_dim)])


# Presets, smallest first.

#: The model that is shipped: simulates in seconds. Supported.
DEMO = ModelShape(
    name="demo", vocab_size=640, hidden_size=64, intermediate_size=160, num_hidden_layers=5,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=256,
    tie_word_embeddings=True, bos_token_id=0, eos_token_ids=(0,))

#: The smallest real model with good answers: whole-model simulation and accuracy. Supported.
SMOLLM2_135M = ModelShape(
    name="smollm2-135m", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, head_dim=64, rope_theta=100000.0, max_position_embeddings=8192,
    tie_word_embeddings=True, bos_token_id=1, eos_token_ids=(2,))

#: Llama 3.1 8B, the latency end: for the planner. Experimental.
LLAMA3_8B = ModelShape(
    name="llama-3.1-8b", vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8, head_dim=128, rope_theta=500000.0,
    rope_scaling=Llama3RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                   original_max_position_embeddings=8192),
    max_position_embeddings=131072, bos_token_id=128000, eos_token_ids=(128001, 128008, 128009))

#: Llama 3 70B, the throughput end: for the planner. Experimental.
LLAMA3_70B = ModelShape(
    name="llama-3-70b", vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
    num_attention_heads=64, num_key_value_heads=8, head_dim=128, rope_theta=500000.0, max_position_embeddings=8192,
    bos_token_id=128000, eos_token_ids=(128001,))

PRESETS = {shape.name: shape for shape in (DEMO, SMOLLM2_135M, LLAMA3_8B, LLAMA3_70B)}
