"""Number formats in numpy: every rounding that the machine does, bit for bit.

Values in bf16 are carried as float64 arrays whose elements are exact bf16 values; integers as int64. The vector format
is bf16 without subnormals, infinities or NaN: tiny values become 0 and large ones the largest finite value.
"""
import numpy as np
from numpy.typing import ArrayLike

from ..params.formats import Fp8
from ..params.tables import Pwl

BF16_MAX = float(np.float32(np.uint32(0x7F7F0000).view(np.float32)))
BF16_MIN = 2.0 ** -126


def bf16(x: ArrayLike) -> np.ndarray:
    """float64 -> nearest bf16 (ties to even), flushed below 2**-126 and saturated. Exact as long as x is."""
    m, e = np.frexp(x)                                    # 0.5 <= |m| < 1
    y = np.ldexp(np.rint(np.ldexp(m, 8)), e - 8)          # np.rint: half to even
    y = np.where(np.abs(y) < BF16_MIN, 0.0, y)
    return np.clip(y, -BF16_MAX, BF16_MAX)


def bf16_bits(x: ArrayLike) -> np.ndarray:
    """Exact bf16 values -> uint16 bit patterns. Zero is always +0."""
    return ((np.asarray(x) + 0.0).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def bf16_value(bits: ArrayLike) -> np.ndarray:
    """uint16 bit patterns -> float64."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def acc_to_bf16(acc: ArrayLike, exponent: np.ndarray | int) -> np.ndarray:
    """Integers of at most 53 bits, in units of 2**exponent -> bf16."""
    m, e = np.frexp(np.asarray(acc, np.float64))
    m, e = np.rint(np.ldexp(m, 8)), e - 8 + exponent      # round once, before any scale can underflow float64
    y = np.ldexp(m, np.maximum(e, -300))
    y = np.where(np.abs(y) < BF16_MIN, 0.0, y)
    return np.clip(y, -BF16_MAX, BF16_MAX)


def shift_round(value: ArrayLike, left: ArrayLike) -> np.ndarray:
    """Integers times 2**left (either sign), rounded to nearest even. The result must fit int64; left <= 62."""
    value, left = np.broadcast_arrays(np.asarray(value, np.int64), np.asarray(left, np.int64))
    right = np.clip(-left, 0, 62)
    floor = value >> right
    rest = value - (floor << right)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    up = (rest > half) | ((rest == half) & (right > 0) & (floor & 1 == 1))
    return np.where(left > 0, value << np.clip(left, 0, 62), floor + up)


def saturate(value: ArrayLike, bits: int) -> np.ndarray:
    """Clip to a signed integer of ``bits`` bits."""
    return np.clip(value, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def acc_to_fixed(acc: ArrayLike, left: ArrayLike, bits: int = 32) -> np.ndarray:
    """acc * 2**left, rounded to nearest even, saturated to ``bits`` bits: an addend of the fixed-point residual."""
    return clip_to_fixed(acc, left, bits)[0]


def clip_to_fixed(acc: ArrayLike, left: ArrayLike, bits: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """(`acc_to_fixed`, whether the number was beyond the limits: rounded more than the largest, or before that not
    above the least)."""
    acc = np.asarray(acc, np.int64)
    # beyond these shifts the answer is 0 or saturated whatever the exact amount, and float64 knows the magnitude
    left = np.broadcast_to(np.asarray(left, np.int64), acc.shape)
    big = np.ldexp(np.abs(acc).astype(np.float64), np.clip(left, -1000, 1000)) >= 2.0 ** (bits - 1)
    small = shift_round(np.where(big, 0, acc), np.where(big, 0, np.minimum(left, bits)))
    limit = np.where(acc < 0, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return saturate(np.where(big, limit, small), bits), big | (small >= 1 << (bits - 1))


def scale_exponent(magnitude: ArrayLike, fmt: Fp8) -> np.ndarray:
    """Smallest e with max|x| <= fmt.max_value * 2**e, for the largest bf16 magnitude of a vector (15-bit patterns).

    This is the scale by *ceil*: nothing clips. A zero vector has the exponent that the formula gives for pattern 0.
    """
    magnitude = np.asarray(magnitude, np.int64)
    top, fraction = _top(fmt)
    return (magnitude >> 7) - 127 - top + ((magnitude & 127) > fraction)


def _top(fmt):
    """(exponent, 7-bit fraction) of the format's largest value."""
    m, e = np.frexp(fmt.max_value)
    return int(e) - 1, int((2 * m - 1) * 128)


def fp8_codes(x: ArrayLike, exponent: ArrayLike, fmt: Fp8) -> np.ndarray:
    """bf16 values / 2**exponent -> FP8 codes (uint8), nearest even, saturating. -0 becomes +0."""
    x = np.asarray(x, np.float64)
    exponent = np.asarray(exponent, np.int64)
    mag = np.abs(x)
    e = np.frexp(mag)[1].astype(np.int64) - 1 - exponent  # exponent of the scaled value
    e_min = 1 - fmt.bias                                  # of the smallest normal
    step = np.maximum(e, e_min) - fmt.man_bits            # exponent of its unit in the last place
    q = np.rint(np.ldexp(mag, np.clip(-exponent - step, -2000, 2000)))
    # q counts units of 2**step; q == 2**(man_bits+1) carries into the next exponent, which the sum below gives by
    # itself
    biased = np.maximum(e, e_min) + fmt.bias
    code = np.where(mag > 0, ((biased - 1) << fmt.man_bits) + q.astype(np.int64), 0)
    code = np.minimum(code, fmt.max_code)
    return np.where((x < 0) & (code > 0), code | 0x80, code).astype(np.uint8)


def fp8_ints(codes: ArrayLike, fmt: Fp8) -> np.ndarray:
    """FP8 codes -> int64 in units of 2**fmt.unit_exp."""
    return fmt.spelled()[np.asarray(codes)]


def table(pwl: Pwl, x: ArrayLike) -> np.ndarray:
    """A `hwgen.params.tables.Pwl` over an array."""
    x = np.asarray(x, np.int64)
    index, f = x >> pwl.fraction_bits, x & ((1 << pwl.fraction_bits) - 1)
    return np.asarray(pwl.base, np.int64)[index] + ((np.asarray(pwl.slope, np.int64)[index] * f) >> pwl.fraction_bits)
