import ml_dtypes
import numpy as np
import pytest

from hwgen.params.formats import E3M4, E4M3, Fp8, fp8

ORACLES = {E3M4: ml_dtypes.float8_e3m4, E4M3: ml_dtypes.float8_e4m3fn}


@pytest.mark.parametrize("fmt", ORACLES, ids=str)
def test_all_codes(fmt):
    oracle = np.arange(256, dtype=np.uint8).view(ORACLES[fmt]).astype(np.float64)
    finite = np.isfinite(oracle)
    assert [fmt.is_finite(c) for c in range(256)] == finite.tolist()
    assert (np.where(finite, fmt.values() * 2.0 ** fmt.unit_exp, 0) == np.where(finite, oracle, 0)).all()
    assert fmt.max_value == oracle[finite].max() == oracle[fmt.max_code]
    assert [fmt.int_value(c) for c in range(fmt.max_code + 1)] == fmt.values()[:fmt.max_code + 1].tolist()


def test_derived_numbers():
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
    assert fp8("e3m4") is E3M4 and fp8("e4m3") is E4M3
    with pytest.raises(ValueError, match="^FP8 format must be one of e3m4, e4m3, not 'int8'$"):
        fp8("int8")


def test_refusals():
    with pytest.raises(ValueError, match="^Exponent and mantissa must be 7 bits together, not 5 \\+ 4$"):
        Fp8("e5m4", 5, 4, 15, True)
    with pytest.raises(ValueError, match="^FP8 code must be finite in e4m3, not 0x7f$"):
        E4M3.int_value(0x7F)
    with pytest.raises(ValueError, match="^FP8 code must be between 0 and 255, not 256$"):
        E4M3.decode(256)
