"""Golden twin of hwgen/units/vector_buffer.py: rows of bf16 that are read as FP8 with a scale per row."""
import numpy as np

from ..params.formats import Fp8
from .numbers import bf16_bits, fp8_codes, scale_exponent

READ_LATENCY = 4     # from the cycle that takes a request to the first one that offers the slice
# from the cycle that takes a granule to the first one whose requests see it: engines are done a cycle before, as a
# request comes later
WRITE_LATENCY = 2


def quantize(x: np.ndarray, fmt: Fp8) -> tuple[np.ndarray, np.ndarray]:
    """Rows of bf16 values [..., K] -> (FP8 codes uint8 [..., K], scale exponents int64 [...]).

    The scale is the smallest power of two with which nothing clips; a row of zeros has that of pattern 0.
    """
    magnitude = (bf16_bits(x) & 0x7FFF).max(axis=-1)
    exponent = scale_exponent(magnitude, fmt)
    return fp8_codes(x, exponent[..., None], fmt), exponent


def slices(codes: np.ndarray, lanes: int) -> np.ndarray:
    """Codes of rows [..., K] -> [..., K/lanes, lanes], as they are read."""
    return np.asarray(codes).reshape(*codes.shape[:-1], -1, lanes)
