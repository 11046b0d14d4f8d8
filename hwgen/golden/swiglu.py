"""Golden twin of hwgen/units/swiglu.py: h = g * sigmoid(g) * u, each product rounded to bf16."""
import numpy as np

from ..params.tables import sigmoid_table
from .numbers import bf16, table

LATENCY = 9          # from the cycle that takes a granule to the first one that offers the result


def sigmoid(g):
    """bf16 values -> integers in units of 2**-14: the table of |g|, mirrored below 0."""
    # |g| * 2**10 has 18 significant bits at most where it is not clipped: exact in float64.
    z = np.minimum(np.floor(np.abs(g) * 2.0**10), 2**14 - 1).astype(np.int64)
    t = table(sigmoid_table(), z)
    return np.where(np.asarray(g) < 0, 2**14 - t, t)


def swiglu(x):
    """bf16 values of gate and up in turn [..., 2K] -> bf16 values [..., K]."""
    g, u = np.asarray(x)[..., 0::2], np.asarray(x)[..., 1::2]
    # 8 + 15 and 8 + 8 significant bits: the products are exact before their one rounding.
    return bf16(bf16(g * (sigmoid(g) * 2.0**-14)) * u)
