"""The golden norm of keys and queries against float64."""
import math
from fractions import Fraction

import numpy as np
import pytest

from hwgen.golden.numbers import BF16_MAX, BF16_MIN, bf16
from hwgen.golden.qk_norm import cycles, norm_factor, norm_vectors, order, qk_norm
from hwgen.params.block import QkNorm, dense
from hwgen.params.tables import floating_epsilon
from sim.designs import small_design

# Two roundings to bf16 (2**-8 each, and what they make of each other), the table (2**-12) and the mantissa that it gets
# (2**-15). The squares lose less than k / 2**30 of their sum.
BOUND = 2 * 2**-8 + 2**-16 + 2**-12 + 2**-15


def ideal(x, gain, length, epsilon):
    return x / np.sqrt((x**2).sum(axis=-1, keepdims=True) / length + epsilon) * gain


def shaped(span, **changes):
    return small_design(**changes, block=dense(qk_norm=QkNorm(span)))


def drawn(rng, shape, spread=1):
    return bf16(rng.normal(size=shape) * 2.0**rng.integers(0, spread, shape))


@pytest.mark.parametrize("length", [2, 20, 128, 4096])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-6, 1e-12])
def test_error_bound(length, epsilon):
    """Of rows of all sizes that do not leave bf16's range, elements alike or not."""
    rng = np.random.default_rng(length)
    scale = 2.0**np.linspace(-60, 60, 200).astype(int)[:, None]
    x, gain = bf16(drawn(rng, (200, length), spread=12) * scale), bf16(rng.normal(1, 0.3, length))
    y, want = norm_vectors(x, gain, length, epsilon), ideal(x, gain, length, epsilon)
    assert (np.abs(y - want) <= BOUND * np.abs(want))[np.abs(want) > 2 * BF16_MIN].all()
    assert np.abs(y - want).max() > 0


@pytest.mark.parametrize("exponent", [-126, -100, -64, 0, 100, 127])
def test_ends_of_the_range(exponent):
    """Rows of the smallest and of the largest numbers: epsilon decides below, and above nothing saturates before the
    end."""
    x = bf16(np.ldexp([[1.0, 1.5, -1.25, 1.0]], exponent))
    want = ideal(np.longdouble(x), 1, 4, 1e-6).astype(float)
    assert np.allclose(norm_vectors(x, np.ones(4), 4, 1e-6), want, rtol=BOUND, atol=BF16_MIN)


def test_zeros_and_what_is_flushed():
    gain = np.array([1.0, 1.0, BF16_MAX, BF16_MIN])
    assert (norm_vectors(np.zeros((2, 4)), gain, 4, 1e-6) == 0).all()
    y = norm_vectors(np.array([[BF16_MAX, BF16_MIN, BF16_MAX, 1.0]]), gain, 4, 1e-6)[0]
    assert y[0] == pytest.approx(math.sqrt(2), rel=BOUND) and y[1] == 0 and y[2] == BF16_MAX and y[3] == 0


@pytest.mark.parametrize("length", [1, 2, 6, 64, 96, 256, 1536, 16384])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5, 1e-6, 1e-30, 1e-100])
def test_epsilon_as_an_integer(length, epsilon):
    e, value = floating_epsilon(length, epsilon)
    exact = Fraction(epsilon) * length / Fraction(4)**(e - 142)
    assert abs(value - exact) <= Fraction(1, 2) or (e, value) == (0, 1)
    assert 2**30 <= value <= 2**32 if e else value < 2**30


def test_an_epsilon_beyond_the_range_is_the_largest_of_exponents():
    e, value = floating_epsilon(64, 1e90)
    assert e == 254 and value == round(Fraction(1e90) * 64 / 4**112)


def test_factor_has_the_range_that_hardware_has():
    """r after its table is within 15 bits, and large enough to be normalized by two places."""
    rng = np.random.default_rng(0)
    for length in (2, 4, 12, 20, 64, 128, 256, 1280, 4096):
        r, _ = norm_factor(drawn(rng, (50, length), spread=30), length, 1e-6)
        assert 1 << 12 <= r.min() and r.max() < 1 << 15


def test_heads_by_themselves():
    """Every K and Q head is normed as a vector of its own, V heads are as they were, padding counts for nothing."""
    design = shaped("head", head_dim=12, attention_lanes=8, num_attention_heads=4, num_key_value_heads=2)
    rng = np.random.default_rng(1)
    x, gains = drawn(rng, (3, 8, 16)), drawn(rng, (2, 16))
    x[..., 12:] = 0
    y = qk_norm(design, x, *gains)
    assert (y[:, 2:4] == x[:, 2:4]).all()
    for heads, gain in ((slice(0, 2), gains[1]), (slice(4, 8), gains[0])):
        assert np.allclose(y[:, heads], ideal(x[:, heads], gain, 12, 1e-5), rtol=BOUND)


def test_whole_projections():
    design = shaped("projection", head_dim=12, attention_lanes=8, num_attention_heads=4, num_key_value_heads=2)
    rng = np.random.default_rng(2)
    x, q_gain, k_gain = drawn(rng, (3, 8, 16)), drawn(rng, 64), drawn(rng, 32)
    x[..., 12:] = 0
    y = qk_norm(design, x, q_gain, k_gain)
    assert (y[:, 2:4] == x[:, 2:4]).all()
    for heads, gain, length in ((slice(0, 2), k_gain, 24), (slice(4, 8), q_gain, 48)):
        want = ideal(x[:, heads].reshape(3, -1), gain, length, 1e-5)
        assert np.allclose(y[:, heads].reshape(3, -1), want, rtol=BOUND)


def test_order_and_cycles():
    head, whole = (shaped(span, head_dim=8, vector_lanes=4) for span in ("head", "projection"))
    assert order(head, 2) == [(e, h, p) for e in range(2) for h in (0, 2, 3) for p in range(2)]
    assert cycles(head, 1) == 6 + 2 + 19 and cycles(head, 3) - cycles(head, 1) == 2 * 6
    assert cycles(whole, 1) == 6 + 4 + 19
