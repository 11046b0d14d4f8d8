"""Compensated rounding: what its results are, and that they are better than the nearest ones."""
import ml_dtypes
import numpy as np
import pytest

from hwgen.models.quantize import encode, quantize_matrix
from hwgen.models.rounding import compensated, nearest
from hwgen.params.formats import E2M1, E2M5, E3M4, E4M3

ORACLES = {E3M4: ml_dtypes.float8_e3m4, E4M3: ml_dtypes.float8_e4m3fn, E2M1: ml_dtypes.float4_e2m1fn}


def matrix_and_inputs(inputs=70, outputs=90):
    """(weights, H of correlated inputs)."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((500, inputs)) @ (rng.standard_normal((inputs, inputs))
                                              * np.exp(rng.standard_normal(inputs)))
    weights = rng.standard_normal((outputs, inputs)) * np.exp2(rng.integers(-2, 3, (outputs, 1)))
    return weights.astype(np.float32), (x.T @ x).astype(np.float32)


def cost(matrix, weights, hessian):
    """What the rounding changes of the outputs, of their size."""
    off = matrix.values().astype(np.float64) - weights
    return ((off @ hessian) * off).sum() / ((weights @ hessian) * weights).sum()


@pytest.mark.parametrize("fmt", [*ORACLES, E2M5], ids=str)
def test_nearest_is_what_encode_does(fmt):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(20_000) * np.exp2(rng.integers(-12, 10, 20_000))).astype(np.float32)
    halves = np.arange(0, 200, dtype=np.float32) * np.float32(fmt.max_value / 96)       # ties
    for values in (x, halves, -halves):
        codes = encode(values, fmt)
        if fmt in ORACLES:
            exact = codes.view(ORACLES[fmt]).astype(np.float32)
        else:
            exact = fmt.values()[codes] * 2.0 ** fmt.unit_exp
        assert (nearest(values, fmt) == exact).all()


@pytest.mark.parametrize("options, share", [
    (dict(fmt=E3M4), 0.4), (dict(fmt=E4M3), 0.4), (dict(fmt=E3M4, max_row=15), 0.4), (dict(fmt=E3M4, pair=True), 0.063),
    (dict(fmt=E2M5, max_row=15), 0.4),
    (dict(fmt=E2M1, max_row=15, block_range=4), 0.11), (dict(fmt=E2M1, max_row=15), 0.11)], ids=str)
def test_outputs_change_less(options, share):
    """Than with the nearest codes; offsets are in their range, and codes are numbers of the format."""
    weights, hessian = matrix_and_inputs()
    made = compensated(weights, hessian, **options)
    plain = quantize_matrix(weights, options["fmt"], pair="pair" in options)
    assert cost(made, weights, hessian) < share * cost(plain, weights, hessian)
    assert all(made.fmt.is_finite(code) for code in np.unique(made.codes).tolist())
    assert (made.rows is None) == ("max_row" not in options) and (made.blocks is None) == ("block_range" not in options)
    assert made.rows is None or (made.rows.min(), made.rows.max() <= 15) == (0, True)
    assert made.blocks is None or (made.blocks.shape == (90, 3) and made.blocks.max() <= 4)


def test_finer_scales_help():
    weights, hessian = matrix_and_inputs()
    costs = [cost(compensated(weights, hessian, E2M1, **options), weights, hessian)
             for options in (dict(max_row=15, block_range=4), dict(max_row=15), dict())]
    assert costs == sorted(costs)


@pytest.mark.parametrize("fmt", [E3M4, E4M3], ids=str)
def test_inputs_without_correlation_need_nothing_but_the_nearest(fmt):
    weights = np.random.default_rng(7).standard_normal((90, 70)).astype(np.float32)
    made, plain = compensated(weights, np.eye(70), fmt), quantize_matrix(weights, fmt)
    assert made.exponent == plain.exponent and (made.values() == plain.values()).all()


@pytest.mark.parametrize("options", [dict(), dict(max_row=15), dict(max_row=15, block_range=4)], ids=str)
def test_zeros(options):
    """Rows of zeros, inputs of zeros, and nothing but zeros: what they are stays."""
    weights, hessian = matrix_and_inputs(64, 8)
    weights[3], hessian[:, 5], hessian[5] = 0, 0, 0
    some = compensated(weights, hessian, E2M1 if "block_range" in options else E3M4, **options)
    assert not some.values()[3].any() and np.isfinite(some.values()).all() and some.values()[2].any()
    assert not compensated(np.zeros((4, 64)), np.zeros((64, 64)), E3M4).values().any()
