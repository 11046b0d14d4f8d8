"""RMSNorm of keys and queries: twin of `hwgen.units.qk_norm`."""
import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design
from ..params.tables import floating_epsilon
from .numbers import bf16, bf16_bits
from .rmsnorm import inverse_root, tree_stages

__all__ = ["PASS_LATENCY", "cycles", "norm_factor", "norm_vectors", "order", "qk_norm"]

PASS_LATENCY = 1    # cycles from the acceptance of a granule of a V head to its offer


# bf16 [n, k] -> int [n], int [n]
def norm_factor(x: np.ndarray, length: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """(r, e) of each vector of ``length`` elements and padding zeros: its elements are multiplied by ``r * 2**e``."""
    bits = bf16_bits(x).astype(np.int64)
    exponent = bits >> 7 & 0xFF
    significand = np.where(exponent > 0, bits & 0x7F | 0x80, 0)
    least, value = floating_epsilon(length, epsilon)
    common = np.maximum(exponent.max(axis=-1), least)                             # [n]
    places = np.minimum(common[:, None] - exponent, 16)
    totals = (significand**2 << 16 >> 2 * places).sum(axis=-1)                    # at most k * 2**32
    totals = [total + (value >> 2 * above) for total, above in zip(totals.tolist(), (common - least).tolist())]
    return inverse_root(length, totals, 142 - common, "qk_norm")


# bf16 [n, k], bf16 [k] -> bf16 [n, k]
def norm_vectors(x: np.ndarray, gain: ArrayLike, length: int, epsilon: float) -> np.ndarray:
    """Vectors of ``length`` elements and padding zeros, normalized."""
    r, e = norm_factor(x, length, epsilon)
    # 8 + 15 and 8 + 8 significant bits, with exponents far from float64's ends: both products are exact
    return bf16(bf16(x * np.ldexp(r.astype(np.float64), e)[:, None]) * np.asarray(gain, np.float64))


# bf16 [n, qkv_heads, head_dim], bf16 [k], bf16 [k] -> bf16 [n, qkv_heads, head_dim]
def qk_norm(design: Design, x: ArrayLike, q_gain: ArrayLike, k_gain: ArrayLike) -> np.ndarray:
    """All head vectors of the entries (K heads, V heads, Q heads): K and Q normalized, V as it is.

    Gains are in the stored order of elements, `Design.padded_head_dim` of them, or of ``span="projection"`` as many for
    each head of the kind.
    """
    model, norm, out = design.model, design.block.qk_norm, np.array(x, np.float64)
    assert norm is not None
    for matrix, gain in ((design.block.keys, k_gain), (design.block.queries, q_gain)):
        heads = design.heads_of(matrix)
        vectors = out[:, heads]
        count = vectors.shape[1] if norm.span == "projection" else 1
        rows = vectors.reshape(-1, count * design.padded_head_dim)
        out[:, heads] = norm_vectors(rows, gain, count * model.head_dim, model.rms_norm_eps).reshape(vectors.shape)
    return out


def order(design: Design, n: int) -> list[tuple[int, int, int]]:
    """(entry, head, part) of each granule that is stored, in the order in which they leave."""
    heads = [head for matrix in (design.block.keys, design.block.queries)
             for head in range(design.qkv_heads)[design.heads_of(matrix)]]
    return [(e, h, p) for e in range(n) for h in heads for p in range(design.padded_head_dim // design.hw.vector_lanes)]


def cycles(design: Design, n: int) -> int:
    """Cycles from the acceptance of the granule with ``last`` of a command of ``n`` entries to the offer of the last
    one that leaves."""
    parts = design.padded_head_dim // design.hw.vector_lanes
    norm = design.block.qk_norm
    assert norm is not None
    longest = parts * (design.heads if norm.span == "projection" else 1)
    return n * (design.kv_heads + design.heads) * parts + longest + 2 * tree_stages(design.hw.vector_lanes) + 17
