"""SwiGLU against float64."""
import numpy as np

from hwgen.golden.numbers import bf16, bf16_bits, bf16_value
from hwgen.golden.swiglu import sigmoid, swiglu


def all_bf16():
    bits = np.arange(1 << 16)
    field = bits >> 7 & 255
    return bf16_value(bits[(field != 0) & (field != 255) | (bits == 0)])


def ideal_sigmoid(g):
    return 1 / (1 + np.exp(-np.clip(g, -700, 700)))


def test_sigmoid():
    """Absolute: the table's 2**-11.5, and 2**-12 for the input cut to 2**-10 where the slope is a quarter."""
    g = all_bf16()
    error = np.abs(sigmoid(g) * 2.0**-14 - ideal_sigmoid(g))
    assert error.max() <= 2**-11.5 + 2**-12
    assert (sigmoid(g) >= 0).all() and (sigmoid(g) <= 2**14).all()
    assert (sigmoid(g) + sigmoid(-g))[g != 0].tolist() == [2**14] * np.count_nonzero(g)


def test_error_bound():
    """The sigmoid's error times the product, and two roundings of 2**-8."""
    rng = np.random.default_rng(5)
    g = bf16(rng.normal(size=100_000) * 2.0 ** rng.integers(-20, 8, 100_000))
    u = bf16(rng.normal(size=100_000) * 2.0 ** rng.integers(-20, 12, 100_000))
    x = np.stack([g, u], axis=-1).reshape(100, -1)
    ideal = g * ideal_sigmoid(g) * u
    error = np.abs(swiglu(x).reshape(-1) - ideal)
    bound = np.abs(g * u) * (2**-11.5 + 2**-12) * 1.01 + np.abs(ideal) * 2.02 * 2**-8
    assert (error <= bound).all() and error.max() > 0


def test_results_are_bf16():
    g = all_bf16()
    u = np.random.default_rng(6).permutation(g)
    h = swiglu(np.stack([g, u], axis=-1).reshape(-1))
    assert (bf16_value(bf16_bits(h)) == h).all()
