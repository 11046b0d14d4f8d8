"""The shape of a Llama-family model, under Hugging Face's names."""
import math
from dataclasses import dataclass

import numpy as np

from .checks import check_int, check_number, shown

__all__ = ["DivisorRopeScaling", "LinearRopeScaling", "Llama3RopeScaling", "ModelShape",
           "DEMO", "SMOLLM2_135M", "LLAMA3_8B", "LLAMA3_70B", "PRESETS"]


@dataclass(frozen=True, kw_only=True)
class LinearRopeScaling:
    """Every rotary frequency divided by ``factor``."""

    factor: float

    def __post_init__(self):
        check_number("RoPE scaling factor", self.factor)

    def apply(self, frequencies):  # [head_dim/2] -> [head_dim/2]
        return frequencies / self.factor


@dataclass(frozen=True, kw_only=True)
class DivisorRopeScaling:
    """Each rotary frequency divided by a number of its own, as GGUF's tensor ``rope_freqs`` has them, and all by ``factor``."""

    divisors: tuple      # of float, head_dim / 2 of them
    factor: float = 1.0

    def __post_init__(self):
        if not isinstance(self.divisors, tuple):
            raise TypeError(f"RoPE divisors must be a tuple, not {shown(self.divisors)}")
        for divisor in self.divisors:
            check_number("RoPE divisor", divisor)
        check_number("RoPE scaling factor", self.factor)

    def apply(self, frequencies):  # [head_dim/2] -> [head_dim/2]
        if len(self.divisors) != len(frequencies):
            raise ValueError(f"RoPE divisors must be half the head dimension, {len(frequencies)}, not {len(self.divisors)}")
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

    def __post_init__(self):
        check_number("RoPE scaling factor", self.factor)
        check_number("RoPE low frequency factor", self.low_freq_factor)
        check_number("RoPE high frequency factor", self.high_freq_factor)
        check_int("RoPE original context", self.original_max_position_embeddings, 1)
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(f"RoPE high frequency factor {self.high_freq_factor} must be above "
                             f"low frequency factor {self.low_freq_factor}")

    def apply(self, frequencies):  # [head_dim/2] -> [head_dim/2]
        turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
        keep = np.clip((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor), 0, 1)
        return keep * frequencies + (1 - keep) * frequencies / self.factor


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
    sliding_window : int or None      positions that a token sees, itself included; None: all before it. The machine's attention has no
                                      window, so a context of at most that many positions is the same
    tie_word_embeddings : bool        whether the embedding table is the LM head
    bos_token_id : int or None
    eos_token_ids : tuple of int      any of them ends a text

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
    rope_scaling: None | LinearRopeScaling | Llama3RopeScaling | DivisorRopeScaling = None
    max_position_embeddings: int = 2048
    sliding_window: int | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple = ()

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"Model name must be a string, not {self.name!r}")
        for noun, value, low, high in (
                ("Vocabulary size", self.vocab_size, 1, 1 << 24), ("Hidden size", self.hidden_size, 1, 1 << 20),
                ("Intermediate size", self.intermediate_size, 1, 1 << 22), ("Layer count", self.num_hidden_layers, 1, 1000),
                ("Head count", self.num_attention_heads, 1, 1 << 12), ("KV head count", self.num_key_value_heads, 1, 1 << 12),
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
        if not (self.rope_scaling is None or isinstance(self.rope_scaling, (LinearRopeScaling, Llama3RopeScaling,
                                                                              DivisorRopeScaling))):
            raise TypeError("RoPE scaling must be None, LinearRopeScaling, Llama3RopeScaling or DivisorRopeScaling, "
                            f"not {shown(self.rope_scaling)}")
        if not isinstance(self.eos_token_ids, tuple):
            raise TypeError(f"End tokens must be a tuple, not {shown(self.eos_token_ids)}")

        if self.head_dim % 2:
            raise ValueError(f"Head dimension must be even, not {self.head_dim}")
        with np.errstate(all="ignore"):
            if not np.isfinite(self.rope_frequencies()).all():
                raise ValueError(f"RoPE theta {self.rope_theta} must give finite frequencies, with its scaling")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(f"Head count {self.num_attention_heads} must be a multiple of "
                             f"KV head count {self.num_key_value_heads}")
        for noun, token in [("Start token", self.bos_token_id), *(("End token", t) for t in self.eos_token_ids)]:
            if token is None and noun == "Start token":
                continue
            check_int(noun, token, 0)
            if token >= self.vocab_size:
                raise ValueError(f"{noun} {token} must be below vocabulary size {self.vocab_size}")

    @property
    def longest_context(self):
        """Positions that a machine without a window may have: with more it would be another model."""
        return min(self.max_position_embeddings, self.sliding_window or self.max_position_embeddings)

    @property
    def q_size(self):
        """Rows of the query matrix: all heads."""
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self):
        """Rows of the key matrix, and of the value matrix: all KV heads."""
        return self.num_key_value_heads * self.head_dim

    @property
    def group_size(self):
        """Query heads that share one KV head."""
        return self.num_attention_heads // self.num_key_value_heads

    def matrices(self):
        """Name -> (outputs, inputs) of one layer's matrices, in the order a pass uses them."""
        h, f = self.hidden_size, self.intermediate_size
        return {"q": (self.q_size, h), "k": (self.kv_size, h), "v": (self.kv_size, h), "o": (h, self.q_size),
                "gate": (f, h), "up": (f, h), "down": (h, f)}

    @property
    def parameter_count(self):
        """Weights of the checkpoint; a tied table counts once."""
        layer = sum(n * k for n, k in self.matrices().values()) + 2 * self.hidden_size
        tables = 1 if self.tie_word_embeddings else 2
        return self.num_hidden_layers * layer + tables * self.vocab_size * self.hidden_size + self.hidden_size

    def rope_frequencies(self):
        """Radians per position of each rotary pair, float64 [head_dim/2]; pair i is elements i and i + head_dim/2."""
        frequencies = self.rope_theta ** (-np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim)
        return frequencies if self.rope_scaling is None else self.rope_scaling.apply(frequencies)


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
