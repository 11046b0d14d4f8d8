"""Golden twin of hwgen/units/residual.py: the fixed-point residual, what is added to it, and its signature."""
from collections.abc import Iterable, Iterator
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design
from .numbers import clip_to_fixed, fp8_ints, saturate

# from the cycle that takes a granule (of sums or of an embedding) to the first whose reads see it
ADD_LATENCY = 5
DONE_LATENCY = 6       # from the cycle that takes the last granule to the one of `done`
SIGNATURE_LATENCY = 6  # from the cycle that takes an entry's last granule to the one that offers its signature
SATURATED_LATENCY = 5  # from the cycle that takes a granule to the one that says whether numbers of it were clipped
# from the cycle that takes a granule of a bias to the first that takes sums to which that is added
BIAS_LATENCY = 2
READ_LATENCY = 2       # from the cycle that takes an address to the first that offers the granule


def embed(codes: ArrayLike, exponent: np.ndarray | int, design: Design, clipped: list[np.ndarray] | None = None,
          x: np.ndarray | None = None) -> np.ndarray:
    """FP8 codes of embedding rows -> residual. codes uint8 [n, codes per weight, hidden] (hi, then lo) -> int64 [n,
    hidden].

    ``exponent`` of the table, or of each row, [n, 1].
    ``x``: rows to which they are added, as those of learned positions are. Appends to ``clipped``, for hi and for lo
    codes, which numbers were: bool [n, hidden].
    """
    fmt = design.recipe.weight_format
    x = np.zeros(np.shape(codes)[::2], np.int64) if x is None else x
    for hi_or_lo in np.moveaxis(np.asarray(codes), 1, 0):
        x = _sum(x, clip_to_fixed(fp8_ints(hi_or_lo, fmt), exponent + fmt.unit_exp + design.hw.residual_fraction),
                 clipped=clipped)
    return x


def add(x: np.ndarray, acc: ArrayLike, exponents: ArrayLike, weight_exponent: int, design: Design,
        clipped: list[np.ndarray] | None = None, bias: ArrayLike | None = None,
        rows: np.ndarray | None = None) -> np.ndarray:
    """Residual int64 [n, hidden] + sums int64 [n, hidden] in the array's units, exponents [n] of the activations (+
    bias, bf16 [hidden]).

    ``rows``: offsets of the weights' rows, int64 [hidden]. Appends to ``clipped`` which numbers were: bool [n, hidden].
    """
    left = (np.asarray(exponents, np.int64) + weight_exponent + design.acc_unit + design.hw.residual_fraction)[:, None]
    left = left if rows is None else left + rows
    biases = [] if bias is None else [_fixed(bias, design)]
    return _sum(x, clip_to_fixed(acc, left), *biases, clipped=clipped)


def set_sums(acc: ArrayLike, exponents: ArrayLike, weight_exponent: int, design: Design,
             clipped: list[np.ndarray] | None = None, bias: ArrayLike | None = None,
             rows: np.ndarray | None = None) -> np.ndarray:
    """The rows of the unit that keeps sums for a norm: as those of a residual of zeros after an `add`."""
    return add(np.zeros(np.shape(acc), np.int64), acc, exponents, weight_exponent, design, clipped, bias, rows)


def add_values(x: np.ndarray, values: np.ndarray, design: Design,
               clipped: list[np.ndarray] | None = None) -> np.ndarray:
    """Residual int64 [n, hidden] + bf16 values [n, hidden], results of a norm. Appends to ``clipped`` as `add`."""
    return _sum(x, _fixed(values, design), clipped=clipped)


def _fixed(values, design):
    """`clip_to_fixed` of bf16 values."""
    mantissa, exponent = np.frexp(values)
    return clip_to_fixed(np.ldexp(mantissa, 8).astype(np.int64),
                         exponent.astype(np.int64) - 8 + design.hw.residual_fraction)


def _sum(x, *addends, clipped):
    """x + all addends, each (fixed-point numbers, whether they were clipped). The sum is limited once."""
    exact = x + sum(addend for addend, _ in addends)
    limited = saturate(exact, 32)
    if clipped is not None:
        clipped.append(np.logical_or.reduce([np.broadcast_to(beyond, exact.shape) for _, beyond in addends])
                       | (limited != exact))
    return limited


def saturated(clipped: Iterable[np.ndarray], design: Design) -> int:
    """The count of the event ``saturated``: granules with a clipped number, from the arrays that were appended to
    ``clipped``."""
    v = design.hw.vector_lanes
    pad = [(0, 0), (0, -design.model.hidden_size % v)]
    return sum(int(np.pad(c[:, :design.model.hidden_size], pad).reshape(len(c), -1, v).any(axis=-1).sum())
               for c in clipped)


def magnitude(x: ArrayLike) -> np.ndarray:
    """OR over a row of x ^ (x >> 31): int64 [n, hidden] -> int64 [n]. Its bit length is that of the largest
    magnitude."""
    return np.bitwise_or.reduce(np.asarray(x) ^ (np.asarray(x) >> 31), axis=-1)


def signature(x: ArrayLike) -> list[int]:
    """CRC-32 of each row as little-endian 32-bit words: int64 [n, hidden] -> list of n ints."""
    return [crc32(row.astype("<i4").tobytes()) for row in np.asarray(x)]


def granules(design: Design, n: int) -> Iterator[tuple[int, int, int]]:
    """(n-tile, entry, group) of each granule of an add, in order. Rows have whole tiles: nothing is padding."""
    v, columns = design.hw.vector_lanes, design.hw.columns
    return ((tile, entry, group) for tile in range(design.layer_hidden() // columns) for entry in range(n)
            for group in range(columns // v))


def value_granules(design: Design, n: int) -> Iterator[tuple[int, int]]:
    """(entry, part) of each granule of an add of a norm's results, in order."""
    return ((entry, part) for entry in range(n) for part in range(design.padded_hidden_size // design.hw.vector_lanes))
