"""Softcap of scores and logits: twin of `hwgen.lib.softcap`."""
import numpy as np

from ..params.tables import softcap_table
from .numbers import table

__all__ = ["SOFTCAP_STAGES", "softcap"]

SOFTCAP_STAGES = 4      # of a pipeline that has one


def softcap(cap: float | None, values: np.ndarray) -> np.ndarray:
    """``cap * tanh(values / cap)`` as `softcap_table` has it, odd: int [...] of SCORE_BITS bits -> the same; as they
    are if ``cap`` is None."""
    if cap is None:
        return values
    pwl, size = softcap_table(cap), np.abs(values)
    beyond = size >> pwl.index_bits + pwl.fraction_bits > 0
    return np.sign(values) * np.where(beyond, pwl.base[-1] + pwl.slope[-1], table(pwl, np.where(beyond, 0, size)))
