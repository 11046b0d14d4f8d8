"""Function tables against math, each with the bound that its docstring states."""
import dataclasses
import math

import numpy as np
import pytest

from hwgen.params.model import DEMO, LLAMA3_8B, SMOLLM2_135M, LayerType
from hwgen.params.tables import (GUMBEL_OFFSET, NOISE_FRACTION, ROPE_BLOCK, SIGMOID_FRACTION, gumbel_table,
                                 neg_log_octaves, neg_log_table,
                                 norm_epsilon, rope_factors, rsqrt_exponent, rsqrt_table, sigmoid_table, softcap_table)


def values(table):
    """All inputs of a table, and its results as real numbers."""
    x = np.arange(len(table.base) << table.fraction_bits)
    index, f = x >> table.fraction_bits, x & ((1 << table.fraction_bits) - 1)
    y = np.array(table.base)[index] + (np.array(table.slope)[index] * f >> table.fraction_bits)
    assert y.min() >= 0 and y.max() < 1 << table.out_bits
    assert [table.compute(int(i)) for i in x[::997]] == y[::997].tolist()
    return x, y / 2.0**table.out_fraction


@pytest.mark.parametrize("length", [1, 3, 16, 63, 64, 576, 2048, 4095, 4096, 8192])
def test_rsqrt(length):
    x, y = values(rsqrt_table(length))
    f = np.where(x >> 15, 2, 1) * (1 + (x & 0x7FFF) / 2**15)
    ideal = math.sqrt(length) / 2.0**rsqrt_exponent(length) / np.sqrt(f)
    assert 1 <= ideal[0] < 2
    assert np.abs(y / ideal - 1).max() < 2**-12


def test_norm_epsilon():
    assert norm_epsilon(576, 1e-5, 16) == round(1e-5 * 576 * 2.0**32)
    assert norm_epsilon(1, 1e-30, 4) == 1


#: By other formulas than the tables'.
SIGMOIDS = {"silu": lambda z: 0.5 + np.tanh(z / 2) / 2, "quick_gelu": lambda z: 0.5 + np.tanh(0.851 * z) / 2,
            "gelu": np.vectorize(lambda z: 1 - math.erfc(z * math.sqrt(0.5)) / 2),
            "gelu_tanh": lambda z: 1 / (1 + np.exp(-math.sqrt(8 / math.pi) * (z + 0.044715 * z**3)))}


@pytest.mark.parametrize("activation", SIGMOID_FRACTION)
def test_sigmoid(activation):
    x, y = values(sigmoid_table(activation))
    assert len(x) == 1 << 14 and y[-1] == y.max() == 1
    assert np.abs(y - SIGMOIDS[activation](x / 2.0**SIGMOID_FRACTION[activation])).max() < 2**-12.5


@pytest.mark.parametrize("cap", [1 / 64, 3.7, 30.0, 50 * math.log2(math.e), 400.0, 1700.0, 2.0**20])
def test_softcap(cap):
    x, y = values(softcap_table(cap))
    ideal = cap * np.tanh(x / 2**10 / cap)
    assert np.abs(y - ideal).max() < cap * 2**-13 + 1.5 * 2**-10
    assert y[0] == 0 and (np.diff(y) >= 0).all() and len(x) <= 1 << 23
    limit = softcap_table(cap).base[-1] + softcap_table(cap).slope[-1]
    assert y[-1] * 2**10 <= limit < 2**23
    assert limit == round(cap * 2**10) if len(x) < 1 << 23 else abs(limit / 2**10 - cap
                                                                    * math.tanh(2**13 / cap)) < cap * 2**-13


def test_neg_log():
    x, y = values(neg_log_table())
    assert np.abs(y - np.log(2 / (1 + x / 2**15))).max() < 2**-10.8
    assert np.abs(np.array(neg_log_octaves()) / 2**NOISE_FRACTION - np.arange(1, 33) * math.log(2)).max() <= 2**-13


def test_gumbel():
    x, y = values(gumbel_table())
    w, n = x[1:8 << 10] / 2**14, np.ldexp(8 + (x[8 << 10:] & 0x1FFF) / 2**10, (x[8 << 10:] >> 13) - 5)
    ideal = np.concatenate([[GUMBEL_OFFSET], GUMBEL_OFFSET - np.log(-np.log1p(-w) / w), GUMBEL_OFFSET - np.log(n)])
    assert n[0] == 0.5 and n[-1] < 32
    assert np.abs(y - ideal).max() < 2**-9.6


@pytest.mark.parametrize("shape, context", [(SMOLLM2_135M, 200), (LLAMA3_8B, 131072)])
def test_rope_factors(shape, context):
    low, high = (np.array(t) for t in rope_factors(shape, context))
    assert low.shape == (ROPE_BLOCK, shape.head_dim // 2, 2) and len(high) == -(-context // ROPE_BLOCK)
    for table, step in ((low, 1), (high, ROPE_BLOCK)):
        angle = np.arange(len(table))[:, None] * step * shape.rope_frequencies()
        assert np.abs(table - 2**16 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)).max() <= 0.5 + 1e-6


def test_rope_factors_of_layers():
    """Those of one RoPE, then those of the next, in each row; none where no layer turns."""
    types = (LayerType(rope_theta=1e6), LayerType(rotary=False), LayerType(), LayerType(rope_theta=1e6), LayerType())
    both = rope_factors(dataclasses.replace(DEMO, layer_types=types), 200)
    each = [rope_factors(dataclasses.replace(DEMO, rope_theta=theta), 200) for theta in (1e6, 10000.0)]
    for which in range(2):
        assert both[which] == tuple(first + second for first, second in zip(each[0][which], each[1][which]))
    assert set(rope_factors(dataclasses.replace(DEMO, rotary_dim=0), 200)[0]) == {()}
