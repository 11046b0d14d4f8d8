"""Random codes of numbers, for benches of the array."""
import numpy as np


def codes(rng, fmt, shape):
    """Finite codes of all kinds; half of them large."""
    magnitudes = np.where(rng.random(shape) < 0.5, fmt.max_code - rng.integers(0, 3, shape),
                          rng.integers(0, fmt.max_code + 1, shape))
    return (magnitudes | rng.integers(0, 2, shape) << fmt.bits - 1).astype(np.uint8)
