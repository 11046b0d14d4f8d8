"""Rotary position embedding: twin of `hwgen.units.rope`.

Heads are in the stored order: elements 2i and 2i+1 of a head are elements i and i + head_dim/2 of the model's.
"""
import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design
from ..params.tables import ROPE_BLOCK, rope_factors
from .numbers import acc_to_bf16, bf16_bits, shift_round

__all__ = ["ROPE_LATENCY", "angle_cycles", "rope", "rope_angles", "rotate", "turned"]

ANGLE_FRACTION = 14     # the product of two table entries is at most 2**14 then, and its rows need no clip
ROPE_LATENCY = 8      # cycles from a granule's acceptance to its offer at the output


# int [n] -> int [n, head_dim/2, 2]
def rope_angles(design: Design, positions: ArrayLike, rope: int | None = 0) -> np.ndarray | None:
    """(cos, sin) in Q1.14 of each pair of a head; padding pairs have (0, 0).

    ``rope`` is a layer's `ModelShape.rope_of`. Where it is None there are no angles: None.
    """
    if rope is None:
        return None
    pairs = slice(rope * (design.model.head_dim // 2), (rope + 1) * (design.model.head_dim // 2))
    low, high = (np.array(t, np.int64)[:, pairs] for t in rope_factors(design.model, design.hw.context))
    positions = np.asarray(positions, np.int64)
    cl, sl = np.moveaxis(low[positions % ROPE_BLOCK], -1, 0)                      # [n, pairs]
    ch, sh = np.moveaxis(high[positions // ROPE_BLOCK], -1, 0)
    angles = np.stack([shift_round(ch * cl - sh * sl, -18), shift_round(sh * cl + ch * sl, -18)], axis=-1)
    pad = design.padded_head_dim // 2 - angles.shape[1]
    return np.pad(angles, [(0, 0), (0, pad), (0, 0)])


# bf16 [..., 2 * pairs], int [..., pairs, 2] -> bf16 [..., 2 * pairs]
def rotate(x: ArrayLike, angles: np.ndarray) -> np.ndarray:
    """Neighbours (a, b) turned by the angle of their pair."""
    bits = bf16_bits(x).astype(np.int64).reshape(*np.shape(x)[:-1], -1, 2)        # [..., pairs, 2]
    exponent = bits >> 7 & 0xFF
    largest = exponent.max(axis=-1, keepdims=True)
    significand = np.where(exponent > 0, bits & 0x7F | 0x80, 0)
    value = (significand << 8) >> np.minimum(largest - exponent, 16)              # truncates the magnitude
    value = np.where(bits >> 15 == 1, -value, value)
    a, b = value[..., 0], value[..., 1]
    c, s = angles[..., 0], angles[..., 1]
    turned = np.stack([a * c - b * s, b * c + a * s], axis=-1)                    # below 2**32
    return acc_to_bf16(turned, largest - 127 - 15 - ANGLE_FRACTION).reshape(np.shape(x))


# bf16 [n, qkv_heads, head_dim], int [n] -> bf16 [n, qkv_heads, head_dim]
def rope(design: Design, x: ArrayLike, positions: ArrayLike, rope: int | None = 0) -> np.ndarray:
    """All head vectors of the entries (K heads, V heads, Q heads): K and Q turned, V as it is; all as they are if
    ``rope`` is None."""
    return turned(design, x, rope_angles(design, positions, rope))


# bf16 [n, qkv_heads, head_dim], int [n, head_dim/2, 2] -> bf16 [n, qkv_heads, head_dim]
def turned(design: Design, x: ArrayLike, angles: np.ndarray | None) -> np.ndarray:
    """As `rope`, with the entries' angles, or None."""
    x = np.asarray(x, np.float64)
    if angles is None:
        return x
    out = rotate(x, angles[:, None])
    values = design.heads_of(design.block.values)
    out[:, values] = x[:, values]
    return out


def angle_cycles(design: Design, n: int = 1) -> int:
    """Cycles from the acceptance of the first of ``n`` angle commands offered back to back to ``angle_done``."""
    ropes = len(design.model.ropes())
    return n * ropes * (design.model.head_dim // 2) + 6 if ropes else n
