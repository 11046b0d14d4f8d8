"""Golden twin of hwgen/units/residual.py: the fixed-point residual, what is added to it, and its signature."""
from zlib import crc32

import numpy as np

from .numbers import acc_to_fixed, fp8_ints, saturate

ADD_LATENCY = 5        # from the cycle that takes a granule (of sums or of an embedding) to the first whose reads see it
DONE_LATENCY = 6       # from the cycle that takes the last granule to the one of `done`
SIGNATURE_LATENCY = 6  # from the cycle that takes an entry's last granule to the one that offers its signature
READ_LATENCY = 2       # from the cycle that takes an address to the first that offers the granule


def embed(codes, exponent, design):
    """FP8 codes of embedding rows -> residual. codes uint8 [n, codes per weight, hidden] (hi, then lo) -> int64 [n, hidden]."""
    fmt = design.recipe.weight_format
    x = np.zeros(np.shape(codes)[::2], np.int64)
    for part in np.moveaxis(np.asarray(codes), 1, 0):
        x = saturate(x + acc_to_fixed(fp8_ints(part, fmt), exponent + fmt.unit_exp + design.hw.residual_fraction), 32)
    return x


def add(x, acc, exponents, weight_exponent, design):
    """Residual int64 [n, hidden] + sums int64 [n, hidden] in the array's units, exponents [n] of the activations."""
    left = np.asarray(exponents, np.int64) + weight_exponent + design.acc_unit + design.hw.residual_fraction
    return saturate(x + acc_to_fixed(acc, left[:, None]), 32)


def magnitude(x):
    """OR over a row of x ^ (x >> 31): int64 [n, hidden] -> int64 [n]. Its bit length is that of the largest magnitude."""
    return np.bitwise_or.reduce(np.asarray(x) ^ (np.asarray(x) >> 31), axis=-1)


def signature(x):
    """CRC-32 of each row as little-endian 32-bit words: int64 [n, hidden] -> list of n ints."""
    return [crc32(row.astype("<i4").tobytes()) for row in np.asarray(x)]


def granules(design, n):
    """(n-tile, entry, group) of each granule of an add, in order. Rows have whole tiles: nothing is padding."""
    v, columns = design.hw.vector_lanes, design.hw.columns
    return ((tile, entry, group) for tile in range(design.hidden // columns) for entry in range(n)
            for group in range(columns // v))
