"""RMSNorm of fixed-point rows: twin of `hwgen.units.rmsnorm`."""
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design
from ..params.tables import norm_epsilon, rsqrt_exponent, rsqrt_table
from .numbers import acc_to_bf16, bf16, table

__all__ = ["inverse_root", "norm_cycles", "norm_factor", "rms_norm", "tree_stages"]


def norm_factor(design: Design, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:  # int [n, hidden] -> int [n], int [n]
    """(r, e) of each row: its elements are multiplied by ``r * 2**e``."""
    k, fraction = design.model.hidden_size, design.hw.residual_fraction
    x = np.asarray(x, np.int64)
    magnitude = np.bitwise_or.reduce(x ^ (x >> 31), axis=-1)                      # [n]
    s = np.maximum([int(m).bit_length() - 15 for m in magnitude], 0)              # [n]
    squares = ((x >> s[:, None]) ** 2).sum(axis=-1)     # at most hidden * 2**30: exact in int64
    epsilon = norm_epsilon(k, design.model.rms_norm_eps, fraction)
    # Python integers: epsilon may be wide. A total is above 0: epsilon >= 1, and q >= 2**14 somewhere if s > 0
    return inverse_root(k, [total + (epsilon >> 2 * shift) for shift, total in zip(s.tolist(), squares.tolist())],
                        fraction - s)


# ints [n] above 0, ints [n] -> int [n], int [n]
def inverse_root(length: int, totals: Sequence[int], exponents: ArrayLike,
                 unit: str = "rmsnorm") -> tuple[np.ndarray, np.ndarray]:
    """(r, e): ``r * 2**e`` is ``sqrt(length / total) * 2**exponent``. ``unit`` names the unit of the `rsqrt_table`."""
    tops = [total.bit_length() - 1 for total in totals]
    index = [(top & 1) << 15 | (total << 15 >> top) & 0x7FFF for top, total in zip(tops, totals)]
    return (table(rsqrt_table(length, unit), index), rsqrt_exponent(length)
            + np.asarray(exponents, np.int64) - np.array(tops) // 2 - 14)


def rms_norm(design: Design, x: ArrayLike, gain: ArrayLike, plain: bool = False,
             bias: ArrayLike | None = None) -> np.ndarray:  # int [n, hidden], bf16 [hidden] -> bf16 [n, hidden]
    """Rows of the residual, normalized, plus ``bias``; or, ``plain``, as they are. ``gain``, ``bias`` and padding
    elements of ``x`` are 0 beyond hidden_size."""
    xb = acc_to_bf16(x, -design.hw.residual_fraction)
    if plain:
        return xb
    r, e = norm_factor(design, x)
    # 8 + 15 and 8 + 8 significant bits, with exponents far from float64's ends: both products are exact
    y = bf16(bf16(xb * np.ldexp(r.astype(np.float64), e)[:, None]) * np.asarray(gain, np.float64))
    # where float64 rounds a sum, the smaller number is too small to change the larger one in bf16
    return y if bias is None else bf16(y + np.asarray(bias, np.float64))


def tree_stages(lanes: int) -> int:
    """Pipeline stages of the adder tree, two levels each."""
    return ((lanes - 1).bit_length() + 1) // 2


def norm_cycles(design: Design, n: int = 1, *, read_latency: int = 1) -> int:
    """Cycles from the acceptance of the first of ``n`` commands offered back to back to the last one's ``done``.

    ``read_latency``: cycles from a read's acceptance to its granule. Each command alone takes ``norm_cycles(design)``.
    Where the final norm has a bias, every norm takes the 6 cycles of its sum.
    """
    parts = design.padded_hidden_size // design.hw.vector_lanes
    return read_latency + 2 * parts * n + tree_stages(design.hw.vector_lanes) + 16 + 6 * design.block.final_bias
