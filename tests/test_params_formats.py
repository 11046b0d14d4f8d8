import ml_dtypes
import numpy as np
import pytest

from hwgen.params.formats import E2M1, E2M5, E3M1, E3M4, E4M1, E4M3, WEIGHTS, Fp8, fp8
from hwgen.params.hardware import block_ranges

ORACLES = {E3M4: ml_dtypes.float8_e3m4, E4M3: ml_dtypes.float8_e4m3fn, E2M1: ml_dtypes.float4_e2m1fn}


def oracle(fmt):
    """What ml_dtypes says of every code: float64 [2**bits]."""
    return np.arange(1 << fmt.bits, dtype=np.uint8).view(ORACLES[fmt]).astype(np.float64)


@pytest.mark.parametrize("fmt", ORACLES, ids=str)
def test_all_codes(fmt):
    values = oracle(fmt)
    finite = np.isfinite(values)
    assert [fmt.is_finite(c) for c in range(1 << fmt.bits)] == finite.tolist()
    assert (np.where(finite, fmt.values() * 2.0 ** fmt.unit_exp, 0) == np.where(finite, values, 0)).all()
    assert fmt.max_value == values[finite].max() == values[fmt.max_code]
    assert [fmt.int_value(c) for c in range(fmt.max_code + 1)] == fmt.values()[:fmt.max_code + 1].tolist()


@pytest.mark.parametrize("weight", ORACLES, ids=str)
@pytest.mark.parametrize("activation", [E3M4, E4M3], ids=str)
def test_all_products(weight, activation):
    """Of all codes that are numbers: whole in units of the products', and of the width that is said."""
    w, x = (oracle(fmt)[[fmt.is_finite(c) for c in range(1 << fmt.bits)]] for fmt in (weight, activation))
    exact = np.outer(w, x)
    whole = np.outer(*(fmt.values()[[fmt.is_finite(c) for c in range(1 << fmt.bits)]] for fmt in (weight, activation)))
    assert (whole * 2.0 ** weight.product_exp(activation) == exact).all()
    assert int(whole.max()).bit_length() == weight.product_bits(activation)


def test_all_codes_of_e2m5():
    """Of which ml_dtypes has none: multiples of 1/32 below 2, of 1/16 below 4, of 1/8 below 8; all codes are
    numbers."""
    values = np.concatenate([np.arange(0, 2, 1 / 32), np.arange(2, 4, 1 / 16), np.arange(4, 8, 1 / 8)])
    assert (E2M5.values() * 2.0 ** E2M5.unit_exp
            == np.concatenate([values, -values])).all() and all(map(E2M5.is_finite, range(256)))
    assert (E2M5.max_value, E2M5.max_code, E2M5.max_shift, E2M5.int_bits) == (7.875, 127, 2, 8)
    assert (E2M5.product_bits(E3M4), E2M5.accumulator_bits(E3M4, 1536)) == (18, 30)


@pytest.mark.parametrize("fmt", [E2M1, E3M1, E4M1, E3M4, E4M3, E2M5], ids=str)
def test_formats_that_hold_e2m1_and_its_blocks(fmt):
    """Every E2M1 value times 2**0 ... 2**range is one of the format's, in its units; and times more is not."""
    small, own = E2M1.values()[:8], set(fmt.values().tolist())
    most = block_ranges()[fmt]
    assert all({int(x) << offset for x in small} <= own for offset in range(most + 1))
    assert not {int(x) << most + 1 for x in small} <= own
    assert (fmt.bits == 8) or (fmt.unit_exp, fmt.bits) == (E2M1.unit_exp, 4 + fmt.exp_bits - 2)


def test_derived_numbers():
    assert (E2M1.bits, E2M1.unit_exp, E2M1.max_value, E2M1.max_shift, E2M1.int_bits) == (4, -1, 6, 2, 4)
    assert (E2M1.product_bits(E3M4), E2M1.accumulator_bits(E3M4, 1536)) == (14, 26)
    assert (E3M4.unit_exp, E3M4.max_value, E3M4.max_exp, E3M4.int_bits) == (-6, 15.5, 3, 10)
    assert (E4M3.unit_exp, E4M3.max_value, E4M3.max_exp, E4M3.int_bits) == (-9, 448, 8, 18)
    assert (E3M4.product_exp(E3M4), E3M4.product_bits(E3M4), E3M4.accumulator_bits(E3M4, 1536)) == (-12, 20, 32)
    assert (E4M3.product_exp(E4M3), E4M3.product_bits(E4M3), E4M3.accumulator_bits(E4M3, 1536)) == (-18, 36, 48)
    assert E3M4.product_exp(E4M3) == -15
    assert (E3M4.max_shift, E4M3.max_shift) == (5, 14)


@pytest.mark.parametrize("fmt", ORACLES, ids=str)
@pytest.mark.parametrize("k", [1, 3, 1536])
def test_accumulator_is_as_wide_as_needed(fmt, k):
    largest = k * fmt.max_int ** 2
    bits = fmt.accumulator_bits(fmt, k)
    assert largest < 1 << (bits - 1) and largest >= 1 << (bits - 2)


def test_names():
    assert fp8("e3m4") is E3M4 and fp8("e4m3") is E4M3 and fp8("e2m1", WEIGHTS) is E2M1
    with pytest.raises(ValueError, match="^FP8 format must be one of e3m4, e4m3, not 'int8'$"):
        fp8("int8")


def test_refusals():
    with pytest.raises(ValueError, match="^Exponent and mantissa must be at least 1 bit each and at most 7 together, "
                                         "not 5 \\+ 4$"):
        Fp8("e5m4", 5, 4, 15, True)
    with pytest.raises(ValueError, match="^FP8 code must be finite in e4m3, not 0x7f$"):
        E4M3.int_value(0x7F)
    with pytest.raises(ValueError, match="^FP8 code must be between 0 and 255, not 256$"):
        E4M3.decode(256)
    with pytest.raises(ValueError, match="^FP8 code must be between 0 and 15, not 16$"):
        E2M1.decode(16)
