"""The fixed-point residual against exact fractions, and its signature against its definition."""
from fractions import Fraction
import struct
from zlib import crc32

import numpy as np
import pytest

from hwgen.golden.numbers import fp8_ints
from hwgen.golden.residual import add, embed, granules, magnitude, saturated, signature
from sim.designs import small_design


@pytest.mark.parametrize("formats", [{}, dict(weight_format="e4m3", activation_format="e4m3", residual_fraction=12)])
def test_error_bound(formats):
    """An add is off by half a unit at most, or saturated."""
    design = small_design(**formats)
    rng, bits = np.random.default_rng(7), design.acc_bits
    x = rng.integers(-2**31, 2**31, (40, design.hidden)) >> rng.integers(0, 31, (40, design.hidden))
    acc = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), x.shape) >> rng.integers(0, bits, x.shape)
    exponents = rng.integers(-30, 20, 40)
    got, beyond = add(x, acc, exponents, -3, design, clipped := []), 0
    for (row, k), value in np.ndenumerate(got):
        addend = int(acc[row, k]) * Fraction(2) ** int(exponents[row] - 3 + design.acc_unit + design.hw.residual_fraction)
        exact = int(x[row, k]) + addend
        assert clipped[0][row, k] == (not -2**31 < addend or not round(addend) < 2**31 or not -2**31 <= int(x[row, k]) + round(addend) < 2**31)
        if abs(addend) >= 2**31 or not -2**31 <= exact <= 2**31 - 1:
            beyond += 1                                   # of the addend, then of the sum
            addend = min(max(round(addend), -2**31), 2**31 - 1)
            assert value == min(max(int(x[row, k]) + addend, -2**31), 2**31 - 1)
        else:
            assert abs(value - exact) <= Fraction(1, 2)
    assert 0 < beyond < got.size / 2


def test_granules_with_clipped_numbers_are_counted():
    """By hand: rows of four granules of four numbers."""
    design = small_design()
    unit = -design.acc_unit - design.hw.residual_fraction       # sums in units of the residual's
    x, acc = np.zeros((2, 2, 16), np.int64)
    x[0, [0, 1, 5, 15]] = 2**31 - 1, 2**31 - 1, -2**31, 2**31 - 10
    acc[0, [0, 1, 5, 15]] = 1, 2, -1, 9                         # a granule, the same, another; the last just fits
    x[1, [0, 4, 8]], acc[1, [0, 4, 8]] = (-5, -5, 5), (2**31 - 1, 2**31, -2**31)        # what is added may be too much by itself
    y = add(x, acc, [0, 0], unit, design, clipped := [])
    assert saturated(clipped, design) == 2 + 2
    assert y[0, [0, 1, 5, 15]].tolist() == [2**31 - 1, 2**31 - 1, -2**31, 2**31 - 1] and y[1, 4] == 2**31 - 6
    add(y, np.zeros_like(acc), [0, 0], unit, design, clipped := [])
    assert saturated(clipped, design) == 0                      # at a limit, but not clipped
    add(y, acc, [-99, -99], unit, design, clipped := [])
    assert saturated(clipped, design) == 0


def test_embeddings_clip_by_hi_and_by_lo_codes():
    """1 is 2**16 units: 2**14 of it fit, and not twice. Of a row of two and a half granules."""
    design = small_design(head="pair", hidden_size=10)
    fmt = design.recipe.weight_format
    one = next(code for code in range(128) if fp8_ints(code, fmt) == 1 << -fmt.unit_exp)
    codes = np.zeros((1, 2, 10), np.uint8)
    codes[0, :, 0], codes[0, 0, 9] = one, one
    for exponent, expected in ((13, 0), (14, 1), (15, 3)):
        embed(codes, exponent, design, clipped := [])
        assert saturated(clipped, design) == expected, exponent


def test_embedding_is_hi_plus_lo():
    design = small_design(head="pair")
    codes = np.random.default_rng(8).integers(0, 0x70, (3, 2, design.hidden))
    fmt = design.recipe.weight_format
    scale = 2 + fmt.unit_exp + design.hw.residual_fraction
    assert scale > 0
    assert (embed(codes, 2, design) == fp8_ints(codes, fmt).sum(axis=1) << scale).all()


def test_magnitude_has_the_length_of_the_largest():
    rng = np.random.default_rng(9)
    x = rng.integers(-2**31, 2**31, (200, 8)) >> rng.integers(0, 32, (200, 1))
    for m, row in zip(magnitude(x).tolist(), x.tolist()):
        assert m.bit_length() == max((v if v >= 0 else ~v).bit_length() for v in row)
    assert magnitude(np.array([[-2**31, 0]])) == 2**31 - 1


def test_signature_is_of_the_words():
    row = [0, 1, -1, -2**31, 2**31 - 1]
    assert signature(np.array([row, row[::-1]])) == [crc32(struct.pack("<5i", *row)), crc32(struct.pack("<5i", *row[::-1]))]


def test_granules_are_the_rows():
    design = small_design(entries=3, columns=16, hidden_size=40)
    taken = list(granules(design, 3))
    v = design.hw.vector_lanes
    assert len(taken) == len(set(taken)) == 3 * design.hidden // v
    assert [tile * 16 // v + group for tile, entry, group in taken if entry == 1] == list(range(design.hidden // v))
