"""The fixed-point residual against exact fractions, and its signature against its definition."""
from fractions import Fraction
import struct
from zlib import crc32

import numpy as np
import pytest

from hwgen.golden.numbers import bf16, fp8_ints
from hwgen.golden.residual import (add, add_values, embed, granules, magnitude, saturated, set_sums, signature,
                                   value_granules)
from sim.designs import small_design


@pytest.mark.parametrize("formats", [{}, dict(weight_format="e4m3", activation_format="e4m3", residual_fraction=12)])
def test_error_bound(formats):
    """An add is off by half a unit at most, or saturated."""
    design = small_design(**formats)
    rng, bits = np.random.default_rng(7), design.acc_bits
    shape = (40, design.padded_hidden_size)
    x = rng.integers(-2**31, 2**31, shape) >> rng.integers(0, 31, shape)
    acc = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), x.shape) >> rng.integers(0, bits, x.shape)
    exponents = rng.integers(-30, 20, 40)
    got, beyond = add(x, acc, exponents, -3, design, clipped := []), 0
    for (row, k), value in np.ndenumerate(got):
        addend = int(acc[row, k]) * Fraction(2) ** int(exponents[row] - 3 + design.acc_unit
                                                       + design.hw.residual_fraction)
        exact = int(x[row, k]) + addend
        assert clipped[0][row, k] == (not -2**31 < addend or not round(addend) < 2**31 or not -2**31 <= int(x[row, k])
                                      + round(addend) < 2**31)
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
    # what is added may be too much by itself
    x[1, [0, 4, 8]], acc[1, [0, 4, 8]] = (-5, -5, 5), (2**31 - 1, 2**31, -2**31)
    y = add(x, acc, [0, 0], unit, design, clipped := [])
    assert saturated(clipped, design) == 2 + 2
    assert y[0, [0, 1, 5, 15]].tolist() == [2**31 - 1, 2**31 - 1, -2**31, 2**31 - 1] and y[1, 4] == 2**31 - 6
    add(y, np.zeros_like(acc), [0, 0], unit, design, clipped := [])
    assert saturated(clipped, design) == 0                      # at a limit, but not clipped
    add(y, acc, [-99, -99], unit, design, clipped := [])
    assert saturated(clipped, design) == 0


def test_bias_is_one_more_number_of_the_sum():
    """Each number to be added is rounded and limited by itself, and their sum is limited once."""
    design = small_design()
    rng, unit = np.random.default_rng(10), -design.acc_unit - design.hw.residual_fraction
    x, acc = (rng.integers(-2**31, 2**31, (50, 16)) >> rng.integers(0, 31, (50, 16)) for _ in range(2))
    bias = bf16(np.ldexp(rng.standard_normal(16), rng.integers(-28, 18, 16)))
    bias[:2] = 2.0**-20, -3 * 2.0**14
    got = add(x, acc, [0] * 50, unit, design, clipped := [], bias)
    rounded = [round(Fraction(value) * 2**design.hw.residual_fraction) for value in bias.tolist()]
    limited = [min(max(value, -2**31), 2**31 - 1) for value in rounded]
    for (row, k), value in np.ndenumerate(got):
        exact = int(x[row, k]) + int(acc[row, k]) + limited[k]
        assert value == min(max(exact, -2**31), 2**31 - 1)
        assert clipped[0][row, k] == (value != exact or rounded[k] != limited[k])
    assert 0 in rounded and rounded != limited and 0 < clipped[0].mean() < 0.5


def test_bias_may_bring_a_sum_back():
    design = small_design()
    unit = -design.acc_unit - design.hw.residual_fraction
    x, acc, bias = np.array([[2**31 - 1]]), np.array([[5]]), np.array([-5.0 / 2**design.hw.residual_fraction])
    assert add(x, acc, [0], unit, design, clipped := [], bias) == 2**31 - 1 and not clipped[0].any()
    assert add(x, acc + 1, [0], unit, design, clipped := [], bias) == 2**31 - 1 and clipped[0].all()


def test_values_are_rounded_to_nearest_even():
    design = small_design(residual_fraction=4)
    values = np.array([[0, 1, -2.5, 1 / 32, 3 / 32, -1 / 32, -3 / 32, 5 / 128, 2.0**27, -2.0**27, 2.0**26 * 1.9921875,
                        2.0**-126]])
    got = add_values(np.ones(values.shape, np.int64), values, design, clipped := [])
    assert (got - 1).tolist() == [[0, 16, -40, 0, 2, 0, -2, 1, 2**31 - 2, -2**31, 2**30 * 255 // 128, 0]]
    assert np.flatnonzero(clipped[0]).tolist() == [8, 9]


def test_sums_that_are_set_do_not_depend_on_what_was_there():
    design = small_design()
    acc = np.random.default_rng(11).integers(-2**20, 2**20, (2, 16))
    unit, bias = -design.acc_unit - design.hw.residual_fraction, np.full(16, 0.5)
    assert (set_sums(acc, [0, 1], unit, design, bias=bias) == acc * [[1], [2]]
            + 2**(design.hw.residual_fraction - 1)).all()


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
    codes = np.random.default_rng(8).integers(0, 0x70, (3, 2, design.padded_hidden_size))
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
    assert signature(np.array([row, row[::-1]])) == [crc32(struct.pack("<5i", *row)),
                                                     crc32(struct.pack("<5i", *row[::-1]))]


def test_granules_are_the_rows():
    design = small_design(entries=3, columns=16, hidden_size=40)
    taken = list(granules(design, 3))
    v = design.hw.vector_lanes
    assert len(taken) == len(set(taken)) == 3 * design.padded_hidden_size // v
    assert [tile * 16 // v + group for tile, entry, group in taken
            if entry == 1] == list(range(design.padded_hidden_size // v))
    assert list(value_granules(design, 2)) == [(entry, part) for entry in range(2)
                                               for part in range(design.padded_hidden_size // v)]
