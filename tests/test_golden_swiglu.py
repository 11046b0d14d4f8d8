"""Activations against float64."""
import math

import numpy as np
import pytest

from hwgen.golden.numbers import BF16_MAX, bf16, bf16_bits, bf16_value
from hwgen.golden.swiglu import activate, sigmoid
from hwgen.params.block import ACTIVATIONS, dense
from hwgen.params.tables import SIGMOID_FRACTION

#: t(g) of ``g * t(g)``, by other formulas than the tables': exact also where it is nearly 0.
IDEAL = {
    "silu": lambda g: 0.5 + np.tanh(g / 2) / 2,
    "quick_gelu": lambda g: 0.5 + np.tanh(0.851 * g) / 2,
    "gelu": np.vectorize(lambda g: math.erfc(-g * math.sqrt(0.5)) / 2),
    "gelu_tanh": lambda g: 1 / (1 + np.exp(np.clip(-np.sqrt(8 / np.pi) * (g + 0.044715 * g**3), -700, 700)))}
SIGMOIDS = sorted(IDEAL)


def all_bf16():
    bits = np.arange(1 << 16)
    field = bits >> 7 & 255
    return bf16_value(bits[(field != 0) & (field != 255) | (bits == 0)])


def ideal(activation, g):
    """f(g) in float64."""
    power = {"relu": 1, "relu2": 2}.get(activation)
    return np.maximum(g, 0) ** power if power else g * IDEAL[activation](np.clip(g, -1e6, 1e6))


def error_of_t(activation):
    """Absolute: the table's 2**-12.5, and that of the input cut to 2**-10, times the slope of at most a quarter, or
    less."""
    return 2**-12.5 + 2**-12 if activation in IDEAL else 0


@pytest.mark.parametrize("activation", SIGMOIDS)
def test_sigmoid(activation):
    g = all_bf16()
    t = sigmoid(g, activation)
    error = np.abs(t * 2.0**-14 - IDEAL[activation](np.clip(g, -1e6, 1e6)))
    assert error.max() <= error_of_t(activation)
    assert t.min() == 0 and t.max() == 2**14
    assert (t + sigmoid(-g, activation))[g != 0].tolist() == [2**14] * np.count_nonzero(g)


@pytest.mark.parametrize("activation", SIGMOIDS)
def test_large_inputs_pass_or_become_zero(activation):
    end = 2.0 ** (14 - SIGMOID_FRACTION[activation])
    g = all_bf16()
    g = g[g >= 0.99 * end]
    block = dense(activation=activation, gated=False)
    assert activate(block, g).tolist() == g.tolist() and g.max() == BF16_MAX
    assert not activate(block, -g).any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_error_without_a_gate(activation):
    """Absolute 2**-11 (silu near 6.5 and -6.5), and one rounding of 2**-8."""
    g = all_bf16()
    exact = np.clip(ideal(activation, g), -BF16_MAX, BF16_MAX)
    error = np.abs(activate(dense(activation=activation, gated=False), g) - exact)
    assert (error <= np.abs(exact) * 2**-8 + (2**-11 if activation in IDEAL else 2**-126)).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_error_with_a_gate(activation):
    """The error of t times the product, and two roundings of 2**-8."""
    rng = np.random.default_rng(5)
    g = bf16(rng.normal(size=100_000) * 2.0 ** rng.integers(-20, 8, 100_000))
    u = bf16(rng.normal(size=100_000) * 2.0 ** rng.integers(-20, 12, 100_000))
    x = np.stack([g, u], axis=-1).reshape(100, -1)
    exact = ideal(activation, g) * u
    error = np.abs(activate(dense(activation=activation), x).reshape(-1) - exact)
    bound = np.abs(g * u) * error_of_t(activation) * 1.01 + np.abs(exact) * 2.02 * 2**-8
    assert (error <= bound).all() and error.max() > 0


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_results_are_bf16(activation, gated):
    g = all_bf16()
    u = np.random.default_rng(6).permutation(g)
    h = activate(dense(activation=activation, gated=gated), np.stack([g, u], axis=-1).reshape(-1))
    assert len(h) == len(g) * (1 if gated else 2)
    assert (bf16_value(bf16_bits(h)) == h).all()
