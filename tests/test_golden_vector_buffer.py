"""Rows as FP8 with a power-of-two scale, against real numbers and ml_dtypes."""
import ml_dtypes
import numpy as np
import pytest

from hwgen.golden.numbers import bf16, bf16_value, fp8_ints
from hwgen.golden.vector_buffer import quantize, slices
from hwgen.params.formats import E3M4, E4M3

DTYPES = {E3M4: ml_dtypes.float8_e3m4, E4M3: ml_dtypes.float8_e4m3fn}


def rows(rng):
    size = rng.integers(-100, 100, (400, 1)).astype(float)
    return bf16(rng.normal(size=(400, 64)) * 2.0 ** (size - rng.integers(0, 12, (400, 64))))


@pytest.mark.parametrize("fmt", DTYPES)
def test_error_bound(fmt):
    """At most half a place: of the number where it is normal in the format, of the smallest place elsewhere."""
    x = rows(np.random.default_rng(1))
    codes, exponent = quantize(x, fmt)
    y = fp8_ints(codes, fmt) * 2.0 ** (exponent[:, None] + fmt.unit_exp)
    bound = np.maximum(np.abs(x) * 2.0 ** -(fmt.man_bits + 1), 2.0 ** (exponent[:, None] + fmt.unit_exp - 1))
    assert (np.abs(y - x) <= bound).all() and (y != x).any()


@pytest.mark.parametrize("fmt", DTYPES)
def test_scale_is_the_smallest(fmt):
    x = rows(np.random.default_rng(2))
    _, exponent = quantize(x, fmt)
    top = np.abs(x).max(axis=1)
    assert (top <= fmt.max_value * 2.0**exponent).all()
    assert (top > fmt.max_value * 2.0 ** (exponent - 1)).all()


@pytest.mark.parametrize("fmt", DTYPES)
def test_codes_are_those_of_ml_dtypes(fmt):
    x = rows(np.random.default_rng(3))
    codes, exponent = quantize(x, fmt)
    # float32 of a bf16 times a power of two is exact where the code is not 0
    want = (x * 2.0 ** -exponent[:, None]).astype(np.float32).astype(DTYPES[fmt]).view(np.uint8)
    assert (codes == np.where(want == 0x80, 0, want)).all()


def test_row_of_zeros():
    codes, exponent = quantize(np.zeros((1, 8)), E3M4)
    assert not codes.any() and exponent.tolist() == [-130]


def test_largest_values_do_not_clip():
    x = bf16_value(np.array([[0x7F7F, 0xFF7F], [0x0080, 0x8080]]))
    for fmt in DTYPES:
        codes, exponent = quantize(x, fmt)
        y = fp8_ints(codes, fmt) * 2.0 ** (exponent[:, None] + fmt.unit_exp)
        assert (np.abs(y / x - 1) <= 2.0 ** -(fmt.man_bits + 1)).all()


def test_slices():
    assert slices(np.arange(8)[None], 4).tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
