"""Twin of `hwgen.units.attention`: scores, softmax and weighted sums, bit for bit, and the cycles they take."""
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design
from ..params.formats import Fp8
from ..params.tables import SCORE_BITS, SCORE_FRACTION, exp2_thresholds, reciprocal_table
from .kv_cache import read_latency as kv_latency
from .kv_port import KvReads
from .numbers import acc_to_bf16, bf16, fp8_ints, saturate, table
from .softcap import SOFTCAP_STAGES, softcap
from .vector_buffer import READ_LATENCY as QUERY_LATENCY

__all__ = ["attention", "attention_cycles", "attention_entries", "exp2_int", "scores"]


def attention(design: Design, q_codes: np.ndarray, q_exp: np.ndarray, k_codes: np.ndarray, k_exp: np.ndarray,
              v_codes: np.ndarray, v_exp: np.ndarray, window: int | None = None) -> np.ndarray:
    """One entry at position p: its query heads over the rows 0..p of its slot, or the last ``window`` of them.

    q_codes : uint8 [heads, head_dim], q_exp [heads]; k_codes, v_codes : uint8 [p + 1, kv_heads, head_dim];
        k_exp, v_exp [p + 1, kv_heads]
    -> bf16 values [heads, head_dim]
    """
    return attention_entries(design, q_codes[None], q_exp[None], [len(k_codes) - 1], k_codes, k_exp, v_codes,
                             v_exp, window)[0]


def attention_entries(design: Design, q_codes: np.ndarray, q_exp: np.ndarray, positions: ArrayLike,
                      k_codes: np.ndarray, k_exp: np.ndarray, v_codes: np.ndarray, v_exp: np.ndarray,
                      window: int | None = None) -> np.ndarray:
    """n entries of one slot, each at its position over the rows up to that: a chunk of prefill (n = 1: decode).

    q_codes : uint8 [n, heads, head_dim], q_exp [n, heads], positions [n]; K and V as in `attention`, at least
        max(positions) + 1 rows
    window: of so many rows each sees only the last ones (`Design.window` of the layer), None: all
    -> bf16 values [n, heads, head_dim]

    Matrix products are float64: every sum of magnitudes stays below 2**53 (dot products by far, numerators up to a
    context of 2**17 even where P and V are both E4M3), so they are exact whatever the order.
    """
    kv, p_fmt = design.recipe.kv_format, design.recipe.p_format
    if p_fmt.max_int * kv.max_int * len(k_codes) >= 2**53:
        raise ValueError(f"Context must keep sums below 2**53, not {len(k_codes)}")
    n, heads, head_dim = q_codes.shape
    rows, kv_heads = np.asarray(k_exp).shape
    q = fp8_ints(q_codes, kv).astype(np.float64).reshape(n, kv_heads, heads // kv_heads, head_dim).transpose(1, 0, 2, 3)
    # [kv_heads, head_dim, rows]
    k = fp8_ints(k_codes, kv).astype(np.float64).transpose(1, 2, 0)
    # [kv_heads, rows, head_dim]
    v = fp8_ints(v_codes, kv).astype(np.float64).transpose(1, 0, 2)
    # [kv_heads, 1, 1, rows]
    k_exp, v_exp = (np.asarray(e, np.int64).T[:, None, None, :] for e in (k_exp, v_exp))
    # [kv_heads, n, group, 1]
    q_exp = np.asarray(q_exp, np.int64).reshape(n, kv_heads, -1, 1).transpose(1, 0, 2, 3)
    before = np.asarray(positions)[:, None] - np.arange(rows)                                       # [n, rows]
    seen = ((before >= 0) & (before < (window or rows)))[None, :, None, :]                          # [1, n, 1, rows]

    dot = (q.reshape(kv_heads, -1, head_dim) @ k).reshape(kv_heads, n, -1, rows)
    s = np.where(seen, softcap(design.model.score_cap, scores(dot, q_exp + k_exp, kv)), -(1 << (SCORE_BITS - 1)))
    # EV [kv_heads, n, 1, 1]
    top = np.where(seen, v_exp, -(1 << 30)).max(-1, keepdims=True)
    # [kv_heads, n, group, rows]
    d = s.max(-1, keepdims=True) - s
    z = np.where(seen, exp2_int(d, p_fmt), 0).sum(-1, keepdims=True)
    p = np.where(seen, exp2_int(d + (np.maximum(top - v_exp, 0) << SCORE_FRACTION), p_fmt), 0)
    # [kv_heads, n * group, head_dim]
    numerator = p.reshape(kv_heads, -1, rows).astype(np.float64) @ v

    # z = (1 + x / 2**15) * 2**h
    h = np.frexp(z.astype(np.float64))[1].astype(np.int64) - 1
    x = np.floor(np.ldexp(z.astype(np.float64), 15 - h)).astype(np.int64) - (1 << 15)
    reciprocal = np.ldexp(table(reciprocal_table(), x).astype(np.float64), -14 - h)
    # 8 by 15 bits: exact
    o = bf16(acc_to_bf16(numerator.reshape(*h.shape[:-1], head_dim), top + kv.unit_exp) * reciprocal)
    return o.transpose(1, 0, 2, 3).reshape(n, heads, head_dim)


def scores(dot: np.ndarray, exponent: np.ndarray, fmt: Fp8) -> np.ndarray:
    """Exact dot products in units of ``2**(2 * fmt.unit_exp)``, times ``2**exponent`` -> scores, rounded half up and
    saturated.

    float64: dot has at most 45 bits, so adding one half is exact wherever it can change the floor.
    """
    left = np.clip(exponent + 2 * fmt.unit_exp + SCORE_FRACTION, -200, 200)    # beyond these all is 0 or saturated
    return saturate(np.floor(np.ldexp(dot, left) + 0.5), SCORE_BITS).astype(np.int64)


def exp2_int(d: np.ndarray, fmt: Fp8) -> np.ndarray:
    """``2**(fmt.max_exp - d)`` for d >= 0 in units of 2**-SCORE_FRACTION, rounded to ``fmt``, in units of
    ``2**fmt.unit_exp``."""
    values = _exp2_table(fmt, exp2_thresholds(fmt))
    return values[np.minimum(d, len(values) - 1)]


@lru_cache
def _exp2_table(fmt, thresholds):
    """The result of every d up to the first for which it is 0."""
    thresholds = np.array(thresholds)
    steps = np.searchsorted(thresholds, np.arange(thresholds[-1] + 1), side="right")
    return fmt.values()[len(thresholds) - steps]


# Cycles

V_STAGES = 6       # from a word's slot in the V stage to its addition, if rows come one by one ...
V_TAKEN = 4        # ... and to the one in which it is taken
O_STAGES = 7       # from the held sums to a granule


def k_stages(design: Design) -> int:
    """From a K word to the store of its score."""
    levels = (design.hw.attention_lanes - 1).bit_length()             # of the adder tree
    compared = (design.hw.attention_rows - 1).bit_length()            # rows that come at once, two and two
    return 6 + max(0, -(-max(0, levels - 1) // 2) - 1) + (SOFTCAP_STAGES if design.model.score_cap else 0) + compared


def v_stages(design: Design) -> int:
    """From a word's slot in the V stage to its addition: rows that come at once are added first, four in a cycle."""
    return V_STAGES + ((design.hw.attention_rows - 1).bit_length() + 1) // 2


def _row_groups(design, position, window):
    """Groups of rows that come at once, of all rows that an entry at a position sees."""
    rows = design.hw.attention_rows
    return position // rows - max(0, position + 1 - (window or position + 1)) // rows + 1


def attention_cycles(design: Design, positions: Sequence[int],
                     window: int | None | list[int | None] | tuple[int | None, ...] = None,
                     settled: int = 0) -> tuple[list[int], int]:
    """(cycle of each granule, cycle of `done`) of commands at these positions that follow each other, the final one
    with ``last``.

    All are of a layer with this window (`Design.window`), or, where it is a sequence, each of one with its own.

    Counted from the accept of the first command, with nobody waiting at the output. Jobs are an entry's K/V heads, in
    order. A job's queries are asked for one after the other, from cycle 1 on, and loaded while the job before is in the
    K stage; with the ``swap`` they become current. Its K words enter in rows * head_dim / A slots of the K pipeline
    (rows: position + 1, or the window if that is less; with several `HwShape.attention_rows` at once as many as there
    are groups of these), at the end of which its first one waits until the V stage has taken the job before. The V
    stage takes the job when it is complete and that job's last word is on its way; a slot after the last word its sums
    are handed over, if those of the job before have left. Without `attention_hold` they leave from there, and the V
    stage waits.

    Where rows come from a memory outside (`hwgen.golden.kv_port`), a job is asked for a cycle after the ``swap``, or
    when what was written before is there (``settled``), and each word takes a slot when it comes.
    """
    if design.hw.kv_port:
        return _outside_cycles(design, tuple(positions), tuple(window) if isinstance(window, (list, tuple)) else window,
                               settled)
    hw = design.hw
    k_latency = 1 + kv_latency(design)                                # a register, and the cache
    words = design.padded_head_dim // hw.attention_lanes
    queries, granules = design.group * words, design.group * design.padded_head_dim // hw.vector_lanes
    k, v, depth = _Slots(), _Slots(), k_stages(design)
    swap = taken = free = k_last = v_last = -1
    out = []
    windows = window if isinstance(window, (list, tuple)) else [window] * len(positions)
    seen = [_row_groups(design, position, limit) for position, limit in zip(positions, windows)]
    for job, rows in enumerate(rows for rows in seen for _ in range(design.kv_heads)):
        loaded = max(1 + job * queries + QUERY_LATENCY, swap + 1) + queries - 1
        swap = max(loaded + 1, k.cycle(k_last))
        k_first = k.at_least(max(swap + 1, 2 + job * queries + k_latency))
        k_last = k_first + rows * words - 1
        k.delay(k_first + depth, taken + 1)
        take = max(v.at_least(k.cycle(k_last + depth) + 1), v_last + 1)
        taken = v.cycle(take)
        v_last = take + rows * words
        first, free = _hand_over(design, v, v_last + 1 + v_stages(design), granules, free)
        out += range(first, first + granules)
    return out, out[-1] + 1


def _hand_over(design, v, slot, granules, free):
    """(cycle of a job's first granule, from when on the next job's results can be handed over), in the V stage's slot
    in which its sums are final."""
    if design.hw.attention_hold:
        v.delay(slot, free)
        handed = v.cycle(slot)
        return handed + 1 + O_STAGES, handed + granules + 1
    there = v.cycle(slot - 1) + 1
    v.delay(slot, there + granules)
    return there + O_STAGES, free


@lru_cache(1024)
def _outside_cycles(design, positions, window, settled):
    """`attention_cycles` with rows from a memory outside."""
    hw, reads = design.hw, KvReads(design, settled)
    words = design.padded_head_dim // hw.attention_lanes
    queries, granules = design.group * words, design.group * design.padded_head_dim // hw.vector_lanes
    k, v, depth = _Slots(), _Slots(), k_stages(design)
    swap = free = k_last = v_last = -1
    out = []
    windows = window if isinstance(window, tuple) else [window] * len(positions)
    for job, (last, limit) in enumerate(pair for pair in zip(positions, windows) for _ in range(design.kv_heads)):
        first = max(0, last + 1 - (limit or last + 1))
        rows = last + 1 - first
        loaded = max(1 + job * queries + QUERY_LATENCY, swap + 1) + queries - 1
        swap = max(loaded + 1, k.cycle(k_last))
        reads.job(swap + 1, first, last)
        for _ in range(rows):
            for _ in range(design.kv_places.head_beats):
                reads.take(reads.peek())
            for _ in range(words):
                k_last = max(k.at_least(max(swap + 1, reads.peek())), k_last + 1)
                reads.take(k.cycle(k_last))
        take = max(v.at_least(k.cycle(k_last + depth) + 1), v_last + 1)
        for word in range(rows * words):
            v.delay(take + 1 + word + V_TAKEN, reads.peek())
            reads.take(v.cycle(take + 1 + word + V_TAKEN))
        v_last = take + rows * words
        first_out, free = _hand_over(design, v, v_last + 1 + V_STAGES, granules, free)
        out += range(first_out, first_out + granules)
    return out, out[-1] + 1


class _Slots:
    """The cycles of a pipeline's slots, which follow each other but for delays of some. All registers share one
    enable."""

    def __init__(self):
        self._spans = [(-1, 0)]                                       # (first slot, delay from there on)

    def cycle(self, slot: int) -> int:
        return slot + next(delay for first, delay in reversed(self._spans) if first <= slot)

    def at_least(self, cycle: int) -> int:
        """The first slot that is not before a cycle."""
        for first, delay in reversed(self._spans):
            if first + delay <= cycle:
                break
        later = [start for start, _ in self._spans if start > first]
        return min([cycle - delay, *later[:1]])

    def delay(self, slot: int, cycle: int) -> None:
        """Slot, and with it all later ones, come not before a cycle. Slots are given in order."""
        if self.cycle(slot) < cycle:
            self._spans.append((slot, cycle - slot))
