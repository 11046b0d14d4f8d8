"""The golden RMSNorm against float64."""
import numpy as np
import pytest

from hwgen.golden.numbers import BF16_MAX, bf16
from hwgen.golden.rmsnorm import norm_cycles, norm_factor, rms_norm
from sim.designs import small_design


def ideal(design, x, gain):
    k = design.model.hidden_size
    x = x / 2.0**design.hw.residual_fraction
    return x / np.sqrt((x**2).sum(axis=-1, keepdims=True) / k + design.model.rms_norm_eps) * gain


@pytest.mark.parametrize("hidden", [1, 16, 37, 576, 2048])
@pytest.mark.parametrize("fraction", [8, 16, 24])
def test_error_bound(hidden, fraction):
    """Three roundings to bf16 (2**-8 each), the table (2**-12), and 15 bits of q and of f (together below 2**-11)."""
    design = small_design(hidden_size=hidden, residual_fraction=fraction)
    rng = np.random.default_rng(hidden)
    x = np.zeros((200, design.padded_hidden_size), np.int64)
    size = rng.uniform(8, 30, (200, 1))
    x[:, :hidden] = np.clip(rng.normal(size=(200, hidden)) * 2**size, -2**31, 2**31 - 1)
    gain = np.zeros(design.padded_hidden_size)
    gain[:hidden] = bf16(rng.normal(1, 0.3, hidden))
    y, want = rms_norm(design, x, gain), ideal(design, x, gain)
    assert np.abs(y - want).max() > 0
    assert (np.abs(y - want) <= (3 * 2**-8 + 2**-12 + 2**-11) * np.abs(want)).all()
    assert (y[:, hidden:] == 0).all()


def test_corners():
    design = small_design(hidden_size=16)
    one = np.ones(16)
    zero, lowest, ones, minus = np.zeros((1, 16), int), np.full((1, 16), -2**31), np.ones((1, 16),
                                                                                          int), np.full((1, 16), -1)
    assert (rms_norm(design, zero, one) == 0).all()
    assert np.allclose(rms_norm(design, lowest, one), -1, rtol=2**-7)
    # the shift is 0: nothing is floored
    assert (rms_norm(design, ones, one) == -rms_norm(design, minus, one)).all()
    assert (rms_norm(design, lowest, np.full(16, 2.0**-126)) <= 0).all()
    assert rms_norm(design, lowest, np.full(16, -BF16_MAX)).max() <= BF16_MAX
    # epsilon decides for the smallest of rows: its sum of squares is 16, epsilon's 16 * 1e-5 * 2**32
    assert np.allclose(rms_norm(design, ones, one), ideal(design, ones, one), rtol=2**-6)


def test_factor_has_the_range_that_hardware_has():
    """r after its table is within 15 bits, and large enough to be normalized by two places."""
    for hidden in (1, 2, 3, 5, 15, 16, 64, 960, 8192):
        design = small_design(hidden_size=hidden)
        rng = np.random.default_rng(0)
        r, _ = norm_factor(design, rng.integers(-2**31, 2**31, (50, hidden)) >> rng.integers(0, 31, (50, 1)))
        assert 1 << 12 <= r.min() and r.max() < 1 << 15


def test_plain_is_the_residual_in_bf16():
    design = small_design(hidden_size=16)
    x = np.random.default_rng(2).integers(-2**31, 2**31, (4, 16)) >> np.arange(16)
    y, exact = rms_norm(design, x, np.full(16, 3.0), plain=True), x / 2.0**design.hw.residual_fraction
    assert (np.abs(y - exact) <= np.abs(exact) / 2**8).all() and (y == bf16(y)).all()


def test_bias_is_added_to_what_was_rounded():
    design = small_design(hidden_size=16, block=dict(final_bias=True))
    rng = np.random.default_rng(3)
    x, gain = rng.integers(-2**20, 2**20, (5, 16)), bf16(rng.normal(size=16))
    bias = bf16(rng.normal(size=16))
    y = rms_norm(design, x, gain)
    exact = y + bias
    with_bias = rms_norm(design, x, gain, bias=bias)
    assert (with_bias == bf16(exact)).all() and (np.abs(with_bias - exact) <= np.abs(exact) / 2**8).all()
    assert (rms_norm(design, x, gain, bias=-y[2])[2] == 0).all()
    assert norm_cycles(design, 3) == norm_cycles(small_design(hidden_size=16), 3) + 6


def test_rows_do_not_depend_on_each_other():
    design = small_design(hidden_size=16)
    rng = np.random.default_rng(1)
    x, gain = rng.integers(-2**20, 2**20, (5, 16)), bf16(rng.normal(size=16))
    assert (rms_norm(design, x, gain) == np.concatenate([rms_norm(design, row[None], gain) for row in x])).all()


def test_cycles():
    design = small_design(hidden_size=576, lanes=64, columns=64, vector_lanes=4)
    assert norm_cycles(design) == 1 + 2 * 144 + 1 + 16
    assert norm_cycles(design, 5) - norm_cycles(design) == 4 * 2 * 144
    assert norm_cycles(design, read_latency=3) - norm_cycles(design) == 2
