"""Golden twin of hwgen/units/swiglu.py: the activation of the MLP, each product rounded to bf16."""
import numpy as np
from numpy.typing import ArrayLike

from ..params.block import Block
from ..params.tables import SIGMOID_FRACTION, sigmoid_table
from .numbers import bf16, table

__all__ = ["activate", "latency", "sigmoid"]


def latency(block: Block) -> int:
    """Cycles from taking a granule to first offering its result."""
    return {"relu": 1, "relu2": 2}.get(block.activation, 8) + 2 * block.gated


def sigmoid(g: ArrayLike, activation: str = "silu") -> np.ndarray:
    """bf16 values -> integers in units of 2**-14: the table of |g|, mirrored below 0."""
    # |g| * 2**12 has 20 significant bits at most where it is not clipped: exact in float64.
    z = np.minimum(np.floor(np.abs(g) * 2.0**SIGMOID_FRACTION[activation]), 2**14 - 1).astype(np.int64)
    t = table(sigmoid_table(activation), z)
    return np.where(np.asarray(g) < 0, 2**14 - t, t)


def activate(block: Block, x: ArrayLike) -> np.ndarray:
    """bf16 values of gate and up in turn [..., 2K] -> bf16 values [..., K]. Without a gate: of up [..., K] -> [...,
    K]."""
    x = np.asarray(x)
    g = x[..., 0::2] if block.gated else x
    # 8 + 15 and 8 + 8 significant bits: the products are exact before their one rounding.
    if block.activation in ("relu", "relu2"):
        a = bf16(np.maximum(g, 0) ** (2 if block.activation == "relu2" else 1))
    else:
        a = bf16(g * (sigmoid(g, block.activation) * 2.0**-14))
    return bf16(a * x[..., 1::2]) if block.gated else a
