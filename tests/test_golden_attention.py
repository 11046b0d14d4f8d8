"""The golden attention against float64 softmax, and against its definition in exact rational arithmetic."""
from fractions import Fraction
import math

import ml_dtypes
import numpy as np
import pytest

from hwgen.golden.attention import attention, attention_cycles, attention_entries, exp2_int, k_stages, scores
from hwgen.golden.kv_cache import kv_arrays, kv_write
from hwgen.golden.numbers import bf16, fp8_ints
from hwgen.golden.vector_buffer import READ_LATENCY, quantize
from hwgen.params.formats import E3M4, E4M3
from hwgen.params.limits import check_padding
from hwgen.params.tables import SCORE_BITS, SCORE_FRACTION, reciprocal_table
from sim.designs import small_design

SHAPES = {
    "group": dict(num_attention_heads=6, num_key_value_heads=2, head_dim=16, context=64),
    "mha": dict(num_attention_heads=3, num_key_value_heads=3, head_dim=24, hidden_size=24, kv_format="e4m3",
                context=64),
    "p_e3m4": dict(num_attention_heads=4, num_key_value_heads=1, head_dim=8, p_format="e3m4", context=64),
}


def random_heads(design, shape, rng, scale=1.0):
    return quantize(bf16(rng.normal(size=(*shape, design.padded_head_dim)) * scale), design.recipe.kv_format)


def values(codes, exps, fmt):
    return fp8_ints(codes, fmt) * 2.0 ** (fmt.unit_exp + np.asarray(exps)[..., None])


def softmax_attention(q, k, v):  # [heads, head], [rows, kv_heads, head]; scores are in log2 units
    q = q.reshape(k.shape[1], -1, q.shape[-1])
    s = np.einsum("kgd,nkd->kgn", q, k)
    p = 2.0 ** (s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return (np.einsum("kgn,nkd->kgd", p, v).reshape(-1, q.shape[-1]),
            np.einsum("kgn,nkd->kgd", p, np.abs(v)).reshape(-1, q.shape[-1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 13, 64])
def test_ideal(shape, rows):
    """Weights are off by half a step of P's mantissa, in numerator and denominator, and by half its smallest value;
    then the score's 2**-11 each in log2 units, the reciprocal's 2**-11, and two roundings to bf16."""
    design = small_design(**SHAPES[shape])
    rng = np.random.default_rng(rows)
    kv, p = design.recipe.kv_format, design.recipe.p_format
    q, k, v = (random_heads(design, s, rng, scale) for s, scale in
               (((design.heads,), 0.7), ((rows, design.kv_heads), 1),
                ((rows, design.kv_heads), np.exp(rng.normal(size=(rows, 1, 1))))))
    got = attention(design, *q, *k, *v)
    ideal, spread = softmax_attention(values(*q, kv), values(*k, kv), values(*v, kv))
    relative = 2 * 2.0 ** -(p.man_bits + 1) + 3 * math.log(2) * 2 ** -11 + 2 ** -11 + 2 * 2 ** -9
    absolute = rows * 2.0 ** (p.unit_exp - 1 - p.max_exp) * np.abs(values(*v, kv)).max()
    assert np.all(np.abs(got - ideal) <= 1.1 * relative * spread + 3 * absolute)
    # far better on average
    assert np.abs(got - ideal).mean() <= relative * spread.mean() / 3 + absolute


def test_one_row_is_its_value():
    """At position 0 there is nothing to weigh: the V row, rounded to bf16, off by the table's 2**-12 at most."""
    design = small_design(**SHAPES["group"])
    rng = np.random.default_rng(0)
    q, k, v = (random_heads(design, shape, rng) for shape in ((design.heads,), (1, design.kv_heads),
                                                              (1, design.kv_heads)))
    got = attention(design, *q, *k, *v).reshape(design.kv_heads, -1, design.padded_head_dim)
    expected = values(*v, design.recipe.kv_format)[0][:, None, :]
    assert np.all(np.abs(got - expected) <= np.abs(expected) * (2 ** -8 + 2 ** -11))


# The definition, literally, with fractions

def rne(x):
    """A fraction to a bf16, as a fraction."""
    if x == 0:
        return x
    e = math.floor(math.log2(abs(x)))
    e += (abs(x) >= Fraction(2) ** (e + 1)) - (abs(x) < Fraction(2) ** e)
    y = round(x / Fraction(2) ** (e - 7)) * Fraction(2) ** (e - 7)       # round() of a fraction: half to even
    if abs(y) < Fraction(2) ** -126:
        return Fraction(0)
    largest = Fraction(255, 128) * Fraction(2) ** 127
    return max(-largest, min(largest, y))


def nearest_code(x, fmt):
    """The value of the nearest code to a positive float, ties to even codes, in units."""
    units = [fmt.int_value(c) for c in range(fmt.max_code + 1)]
    x = x / 2.0 ** fmt.unit_exp
    return units[min(range(len(units)), key=lambda c: (abs(units[c] - x), c & 1))]


def defined(design, q, q_exp, k, k_exp, v, v_exp):
    kv, p = design.recipe.kv_format, design.recipe.p_format
    out = []
    for head in range(design.heads):
        g, one = head // design.group, [kv.int_value(int(c)) for c in q[head]]
        s = []
        for row in range(len(k)):
            dot = sum(a * kv.int_value(int(c)) for a, c in zip(one, k[row, g]))
            exponent = int(q_exp[head]) + int(k_exp[row, g]) + 2 * kv.unit_exp + SCORE_FRACTION
            score = math.floor(dot * Fraction(2) ** exponent + Fraction(1, 2))
            s.append(max(-(1 << SCORE_BITS - 1), min((1 << SCORE_BITS - 1) - 1, score)))
        top = max(int(e) for e in v_exp[:, g])
        d = [max(s) - x for x in s]
        z = sum(nearest_code(2.0 ** (p.max_exp - x / 2 ** SCORE_FRACTION), p) for x in d)
        w = [nearest_code(2.0 ** (p.max_exp - x / 2 ** SCORE_FRACTION - (top - int(e))), p)
             for x, e in zip(d, v_exp[:, g])]
        h = z.bit_length() - 1
        r = reciprocal_table().compute((z << 15 >> h) - (1 << 15))
        for i in range(design.padded_head_dim):
            n = sum(a * kv.int_value(int(c)) for a, c in zip(w, v[:, g, i]))
            out.append(rne(rne(n * Fraction(2) ** (top + kv.unit_exp)) * r / Fraction(2) ** (14 + h)))
    return np.array([float(x) for x in out]).reshape(design.heads, design.padded_head_dim)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("low, high", [(-3, 3), (-20, 20), (-512, 511)])
def test_definition(shape, low, high):
    design = small_design(**SHAPES[shape])
    rng, kv = np.random.default_rng(high), design.recipe.kv_format
    for rows in (1, 2, 9):
        args = []
        for heads in ((design.heads,), (rows, design.kv_heads), (rows, design.kv_heads)):
            shape = (*heads, design.padded_head_dim)
            codes = rng.integers(0, kv.max_code + 1, shape) | rng.integers(0, 2, shape) << 7
            args += [codes.astype(np.uint8), rng.integers(low, high + 1, heads)]
        args[3] = args[3] - (12 if high < 100 else 0)      # scores of some units
        assert np.array_equal(attention(design, *args), defined(design, *args))


def test_scores_saturate_and_round_half_up():
    unit = -2 * E3M4.unit_exp - SCORE_FRACTION             # the exponent with which a product's unit is the score's
    assert scores(np.array([3.0, -3, 1, -1]), unit - 1, E3M4).tolist() == [2, -1, 1, 0]
    assert scores(np.array([1.0, -1, 0]), 1000, E3M4).tolist() == [2**23 - 1, -2**23, 0]
    assert scores(np.array([2.0**44, -2.0**44, 0]), -1000, E4M3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("fmt, dtype", [(E3M4, ml_dtypes.float8_e3m4), (E4M3, ml_dtypes.float8_e4m3fn)])
def test_exp2(fmt, dtype):
    d = np.arange(20 << SCORE_FRACTION)
    exact = np.exp2(fmt.max_exp - d / 2**SCORE_FRACTION).astype(np.float32).astype(dtype).astype(np.float64)
    assert np.array_equal(exp2_int(d, fmt) * 2.0 ** fmt.unit_exp, exact)
    assert exp2_int(np.array([1 << 30]), fmt) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_a_chunk_is_its_entries_one_by_one(shape):
    design = small_design(**SHAPES[shape], entries=3, slots=2)
    rng, rows, cache = np.random.default_rng(1), 7, kv_arrays(design)
    k, v = (random_heads(design, (rows, design.kv_heads), rng) for _ in range(2))
    kv_write(cache, 1, 1, np.arange(rows), *k, *v)
    q, q_exp = random_heads(design, (4, design.heads), rng)
    positions = [3, 4, 6, 0]
    chunk = attention_entries(design, q, q_exp, positions, *cache.slot(1, 1, rows))
    for i, p in enumerate(positions):
        assert np.array_equal(chunk[i], attention(design, q[i], q_exp[i], *cache.slot(1, 1, p + 1)))


@pytest.mark.parametrize("window", [1, 4, 7, 20])
def test_a_window_is_the_rows_in_it(window):
    design = small_design(**SHAPES["group"])
    rng = np.random.default_rng(window)
    (q, q_exp), k, v = (random_heads(design, shape, rng) for shape in ((3, design.heads), (7, design.kv_heads),
                                                                       (7, design.kv_heads)))
    rows = *k, *v
    chunk = attention_entries(design, q, q_exp, [6, 0, 4], *rows, window)
    for got, one, exp, position in zip(chunk, q, q_exp, (6, 0, 4)):
        seen = [row[max(0, position - window + 1):position + 1] for row in rows]
        assert np.array_equal(got, defined(design, one, exp, *seen))
        assert np.array_equal(got, attention(design, one, exp, *(row[:position + 1] for row in rows), window))


def test_largest_sums_are_exact():
    """Numerators where every bit counts: equal weights and the largest codes."""
    design = small_design(**SHAPES["mha"])
    codes, exps = np.full((64, 3, 24), E4M3.max_code, np.uint8), np.zeros((64, 3), int)
    o = attention(design, codes[0], exps[0], codes, exps, codes, exps)
    z = 64 << 17                                           # equal scores: all weights are 2**8
    assert np.all(o == bf16(bf16(448.0 * z) * reciprocal_table().compute(0) * 2.0 ** -14 / z))


def test_too_long_a_context_is_refused():
    design = small_design(kv_format="e4m3")
    rows = (1 << 53) // (E4M3.max_int ** 2) + 1
    with pytest.raises(ValueError, match="Context must keep sums below"):
        attention_entries(design, None, None, None, range(rows), None, None, None)


# Cycles

@pytest.mark.parametrize("position", [0, 5, 31])
def test_one_job_alone(position):
    """Queries, K words, their pipeline, V words, their pipeline, division: nothing overlaps in a single job."""
    design = small_design()                                # one K/V head, two query heads, one word in a row
    granules, done = attention_cycles(design, [position])
    queries = 2
    first = (queries + READ_LATENCY + 1) + (position + 1) + k_stages(design) + 1 + (position + 1) + 1 + 6 + 8
    assert granules == list(range(first, first + 4)) and done == first + 4


def test_steady_state():
    """A job takes a cycle for each word, and one; short ones as long as their queries or granules take."""
    design = small_design(head_dim=16, attention_lanes=8, context=64, num_attention_heads=4, num_key_value_heads=2)
    done = [attention_cycles(design, [63] * n)[1] for n in range(1, 6)]
    assert set(np.diff(done[1:])) == {2 * (64 * 2 + 1)}
    done = [attention_cycles(design, [0] * n)[1] for n in range(1, 9)]
    assert set(np.diff(done[3:])) == {2 * (2 * 16 // 4 + 1)}


@pytest.mark.parametrize(("rows", "more"), [(2, 1 + 1), (4, 2 + 1), (8, 3 + 2)])
def test_rows_at_once(rows, more):
    """A group of rows takes a cycle; the maximum takes one more for each doubling, and sums for each second one."""
    one, many = small_design(context=64), small_design(context=64, attention_rows=rows)
    for groups in (1, 3, 8):
        found, same = (attention_cycles(design, [length - 1]) for design, length in (
            (many, groups * rows), (one, groups)))
        assert [cycle - more for cycle in found[0]] == same[0] and found[1] == same[1] + more
        assert attention_cycles(many, [groups * rows - rows]) == found      # the group's first alone
    # a window that begins and ends in groups: as many as its rows touch
    for position, window, groups in ((63, 1, 1), (rows, 2, 2), (2 * rows, rows + 1, 2), (2 * rows, rows + 2, 3)):
        assert attention_cycles(many, [position], window) == attention_cycles(many, [groups * rows - 1])


@pytest.mark.parametrize(("shape", "why"), [
    (dict(attention_rows=3), "Attention row count must be a power of two"),
    (dict(attention_rows=16), "Attention row count must be at most the KV block size 8, not 16"),
    (dict(attention_rows=2, kv_ecc=True), "KV ECC must be 0 where attention reads several rows a cycle"),
    (dict(attention_rows=2, kv_port=64, source="stream"), "KV port must be 0 where attention reads several rows"),
    (dict(attention_rows=2, attention_lanes=4), "Attention lane count must be that of a whole head, 8 or more, where")])
def test_rows_at_once_that_are_refused(shape, why):
    with pytest.raises(ValueError, match=why):
        small_design(**shape)


def test_padding_behind_the_last_head_is_refused_where_it_lasts_too_long():
    """It would be taken for results of the next matrix."""
    few = dict(num_attention_heads=1, num_key_value_heads=1, head_dim=2, attention_lanes=2, vector_lanes=2,
               hidden_size=4)
    check_padding(small_design(**few, columns=64))
    with pytest.raises(ValueError, match="^Column count must leave at most 62 columns without a head behind the 6 "
                                         "outputs of qkv, not 128: take fewer columns or more vector lanes$"):
        check_padding(small_design(**few, columns=128))


def test_a_window_takes_the_cycles_of_its_rows():
    design = small_design(context=64)
    assert attention_cycles(design, [63, 3], 8) == attention_cycles(design, [7, 3])
    assert attention_cycles(design, [63, 63, 2], [8, None, 1]) == attention_cycles(design, [7, 63, 0])
