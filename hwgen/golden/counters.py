"""Golden twin of hwgen/units/counters.py: counts of events."""
from collections.abc import Sequence

import numpy as np

__all__ = ["READ_LATENCY", "counts"]

READ_LATENCY = 1    # cycles from address to data


def counts(events: np.ndarray, clears: Sequence[bool] | np.ndarray, width: int = 32) -> np.ndarray:
    """The result of a read with its address in each cycle: events [cycles, n], clears [cycles] (bool) -> int64 [cycles,
    n]."""
    total = np.zeros(events.shape, np.int64)
    for cycle in range(1, len(events)):
        total[cycle] = 0 if clears[cycle - 1] else total[cycle - 1] + events[cycle - 1]
    return total % (1 << width)
