"""Sums to bf16, against exact fractions."""
from fractions import Fraction

import numpy as np
import pytest

from hwgen.golden.convert import convert_gate_up, convert_qkv, granules, latency
from hwgen.golden.numbers import BF16_MAX, BF16_MIN, bf16
from sim.designs import small_design

DESIGNS = [small_design(entries=3, columns=16, num_attention_heads=5, hidden_size=40),
           small_design(entries=2, head_dim=6, num_attention_heads=3, num_key_value_heads=3, weight_format="e4m3",
                        activation_format="e4m3"),
           small_design(columns=16, block=dict(gated=False))]


def sums(rng, n, rows, bits):
    return rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (n, rows)) >> rng.integers(0, bits, (n, rows))


@pytest.mark.parametrize("design", DESIGNS)
def test_error_bound(design):
    """Relative 2**-8: eight significant bits, rounded to nearest; flushed and saturated beyond bf16's range."""
    rng = np.random.default_rng(4)
    acc, exponents = sums(rng, 2, design.matmul("qkv").rows, design.acc_bits), [-3, 100]
    exps = {"q": 5, "k": 0, "v": -2}
    got = convert_qkv(acc, exponents, exps, design)
    kinds = "k" * design.kv_heads + "v" * design.kv_heads + "q" * design.heads
    for entry in range(2):
        for head, kind in enumerate(kinds):
            for k in range(design.padded_head_dim):
                scale = exponents[entry] + exps[kind] + design.acc_unit
                exact = int(acc[entry, head * design.padded_head_dim + k]) * Fraction(2) ** scale
                value = Fraction(float(got[entry, head, k]))
                if abs(exact) > BF16_MAX:
                    assert abs(value) == BF16_MAX
                elif abs(exact) >= BF16_MIN or exact == 0:
                    assert abs(value - exact) <= abs(exact) / 2**8


@pytest.mark.parametrize("gate_up", [False, True])
def test_bias_is_added_to_the_rounded_sums(gate_up):
    """Relative 2**-8 of the sum of both, however much of them cancels."""
    rng, convert = np.random.default_rng(5), convert_gate_up if gate_up else convert_qkv
    design = small_design(columns=16, block=dict(biased=["k", "up"]))
    rows = design.matmul("gate_up" if gate_up else "qkv").rows
    acc, exps = sums(rng, 2, rows, design.acc_bits), dict.fromkeys(["q", "k", "v", "gate", "up"], 0)
    x = convert(acc, [0, 1], exps, design)
    bias = bf16(np.resize(-x[1], rows) * rng.choice([1, 1 + 2.0**-7, 2.0**-12, 2.0**30, 0], rows))
    exact = x.reshape(2, -1) + bias[:x[0].size]
    got = convert(acc, [0, 1], exps, design, bias).reshape(2, -1)
    assert (np.abs(got - exact) <= np.abs(exact) / 2**8).all() and (got == bf16(got)).all()
    assert (got[1] == 0).any() and (got != x.reshape(2, -1)).any()


def test_latency_grows_with_a_bias():
    assert [latency(small_design(block=dict(biased=biased)))
            for biased in ([], ["o", "down"], ["v"], ["up"])] == [4, 4, 10, 10]


def test_gate_and_up_alternate():
    design = DESIGNS[0]
    acc = np.ones((1, design.matmul("gate_up").rows), int)
    x = convert_gate_up(acc, [2], {"gate": 1, "up": -5}, design)
    assert x.shape == (1, 2 * design.padded_intermediate_size)
    assert (x[0, 0::2] == 2.0 ** (3 + design.acc_unit)).all() and (x[0, 1::2] == 2.0 ** (-3 + design.acc_unit)).all()


def test_ups_alone():
    design = DESIGNS[2]
    x = convert_gate_up(np.ones((1, design.matmul("gate_up").rows), int), [2], {"up": -5}, design)
    assert x.shape == (1, design.padded_intermediate_size) and (x == 2.0 ** (-3 + design.acc_unit)).all()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("gate_up", [False, True])
def test_granules_are_the_matrix(design, gate_up):
    n, v = design.hw.entries, design.hw.vector_lanes
    taken = list(granules(design, gate_up, n))
    matmul = design.matmul("gate_up" if gate_up else "qkv")
    assert len(taken) == n * matmul.rows // v
    real = [(entry, head, part) for _, entry, _, head, part, _ in taken if head is not None]
    shape = (1, (1 + design.block.gated) * design.padded_intermediate_size
             // v) if gate_up else (design.qkv_heads, design.padded_head_dim // v)
    assert sorted(real) == [(e, h, p) for e in range(n) for h in range(shape[0]) for p in range(shape[1])]
    assert [granule[3:5] for granule in taken if granule[5]] == [(shape[0] - 1, shape[1] - 1)]
    assert max(i for i, granule in enumerate(taken) if granule[3] is not None) == [g[5] for g in taken].index(True)
