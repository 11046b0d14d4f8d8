"""Twin of `hwgen.units.attention`: scores, softmax and weighted sums, bit for bit, and the cycles they take."""
from functools import lru_cache

import numpy as np

from ..params.tables import SCORE_BITS, SCORE_FRACTION, exp2_thresholds, reciprocal_table
from .numbers import acc_to_bf16, bf16, fp8_ints, saturate, table

__all__ = ["attention", "attention_entries", "exp2_int", "scores"]


def attention(design, q_codes, q_exp, k_codes, k_exp, v_codes, v_exp):
    """One entry at position p: its query heads over the rows 0..p of its slot.

    q_codes : uint8 [heads, head], q_exp [heads]; k_codes, v_codes : uint8 [p + 1, kv_heads, head]; k_exp, v_exp [p + 1, kv_heads]
    -> bf16 values [heads, head]
    """
    return attention_entries(design, q_codes[None], q_exp[None], [len(k_codes) - 1], k_codes, k_exp, v_codes, v_exp)[0]


def attention_entries(design, q_codes, q_exp, positions, k_codes, k_exp, v_codes, v_exp):
    """n entries of one slot, each at its position over the rows up to that: a chunk of prefill (n = 1: decode).

    q_codes : uint8 [n, heads, head], q_exp [n, heads], positions [n]; K and V as in `attention`, at least max(positions) + 1 rows
    -> bf16 values [n, heads, head]

    Matrix products are float64: every sum of magnitudes stays below 2**53 (dot products by far, numerators up to a context of
    2**17 even where P and V are both E4M3), so they are exact whatever the order.
    """
    kv, p_fmt = design.recipe.kv_format, design.recipe.p_format
    if p_fmt.max_int * kv.max_int * len(k_codes) >= 2**53:
        raise ValueError(f"Context must keep sums below 2**53, not {len(k_codes)}")
    n, heads, head = q_codes.shape
    rows, kv_heads = np.asarray(k_exp).shape
    q = fp8_ints(q_codes, kv).astype(np.float64).reshape(n, kv_heads, heads // kv_heads, head).transpose(1, 0, 2, 3)
    k = fp8_ints(k_codes, kv).astype(np.float64).transpose(1, 2, 0)                                 # [kv_heads, head, rows]
    v = fp8_ints(v_codes, kv).astype(np.float64).transpose(1, 0, 2)                                 # [kv_heads, rows, head]
    k_exp, v_exp = (np.asarray(e, np.int64).T[:, None, None, :] for e in (k_exp, v_exp))           # [kv_heads, 1, 1, rows]
    q_exp = np.asarray(q_exp, np.int64).reshape(n, kv_heads, -1, 1).transpose(1, 0, 2, 3)           # [kv_heads, n, group, 1]
    seen = (np.arange(rows) <= np.asarray(positions)[:, None])[None, :, None, :]                    # [1, n, 1, rows]

    dot = (q.reshape(kv_heads, -1, head) @ k).reshape(kv_heads, n, -1, rows)
    s = np.where(seen, scores(dot, q_exp + k_exp, kv), -(1 << (SCORE_BITS - 1)))
    top = np.where(seen, v_exp, -(1 << 30)).max(-1, keepdims=True)                                   # EV [kv_heads, n, 1, 1]
    d = s.max(-1, keepdims=True) - s                                                                # [kv_heads, n, group, rows]
    z = np.where(seen, exp2_int(d, p_fmt), 0).sum(-1, keepdims=True)
    p = np.where(seen, exp2_int(d + (np.maximum(top - v_exp, 0) << SCORE_FRACTION), p_fmt), 0)
    numerator = p.reshape(kv_heads, -1, rows).astype(np.float64) @ v                                # [kv_heads, n * group, head]

    h = np.frexp(z.astype(np.float64))[1].astype(np.int64) - 1                                      # z = (1 + x / 2**15) * 2**h
    x = np.floor(np.ldexp(z.astype(np.float64), 15 - h)).astype(np.int64) - (1 << 15)
    reciprocal = np.ldexp(table(reciprocal_table(), x).astype(np.float64), -14 - h)
    o = bf16(acc_to_bf16(numerator.reshape(*h.shape[:-1], head), top + kv.unit_exp) * reciprocal)   # 8 by 15 bits: exact
    return o.transpose(1, 0, 2, 3).reshape(n, heads, head)


def scores(dot, exponent, fmt):
    """Exact dot products in units of ``2**(2 * fmt.unit_exp)``, times ``2**exponent`` -> scores, rounded half up and saturated.

    float64: dot has at most 45 bits, so adding one half is exact wherever it can change the floor.
    """
    left = np.clip(exponent + 2 * fmt.unit_exp + SCORE_FRACTION, -200, 200)    # beyond these all is 0 or saturated
    return saturate(np.floor(np.ldexp(dot, left) + 0.5), SCORE_BITS).astype(np.int64)


def exp2_int(d, fmt):
    """``2**(fmt.max_exp - d)`` for d >= 0 in units of 2**-SCORE_FRACTION, rounded to ``fmt``, in units of ``2**fmt.unit_exp``."""
    values = _exp2_table(fmt)
    return values[np.minimum(d, len(values) - 1)]


@lru_cache
def _exp2_table(fmt):
    """The result of every d up to the first for which it is 0."""
    thresholds = np.array(exp2_thresholds(fmt))
    steps = np.searchsorted(thresholds, np.arange(thresholds[-1] + 1), side="right")
    return fmt.values()[len(thresholds) - steps]
