import dataclasses

import ml_dtypes
import numpy as np
import pytest

from hwgen.golden.decoder import GoldenDecoder
from hwgen.models import random_checkpoint
from hwgen.models.checkpoint import Checkpoint
from hwgen.models.pack import pack
from hwgen.models.quantize import (Matrix, bf16, bf16_values, encode, quantize, quantize_head, quantize_matrix,
                                   scale_exponent)
from hwgen.params.block import dense
from hwgen.params.formats import E2M1, E2M5, E3M4, E4M3
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import ModelShape
from hwgen.params.presets import recipe
from hwgen.plan.accuracy import PartlyFp8
from hwgen.plan.rounded import Rounded

ORACLES = {E3M4: ml_dtypes.float8_e3m4, E4M3: ml_dtypes.float8_e4m3fn, E2M1: ml_dtypes.float4_e2m1fn}
ODD = ModelShape(name="odd", vocab_size=77, hidden_size=72, intermediate_size=20, num_hidden_layers=2,
                 num_attention_heads=3, num_key_value_heads=1, head_dim=24)


def every_bf16():
    values = bf16_values(np.arange(1 << 16))
    return values[np.isfinite(values)].astype(np.float64)


@pytest.mark.parametrize("fmt", ORACLES, ids=str)
def test_encode_equals_ml_dtypes(fmt):
    table = fmt.values() * 2.0 ** fmt.unit_exp
    ties = ((table[:fmt.max_code] + table[1:fmt.max_code + 1]) / 2).astype(np.float32)  # ml_dtypes rounds float64 twice
    values = np.concatenate([every_bf16(), ties, -ties, np.nextafter(ties, np.float32(0)),
                             np.nextafter(ties, np.float32(999))])
    values = values[np.abs(values) <= fmt.max_value]
    assert (encode(values, fmt) == values.astype(ORACLES[fmt]).view(np.uint8)).all()


def test_encode_of_e2m5():
    """Nearest multiple of 1/32 below 2, of 1/16 below 4, of 1/8 from there on; ties to even."""
    values = np.concatenate([every_bf16(), np.arange(-600, 600) / 64])
    values = values[np.abs(values) <= E2M5.max_value]
    step = np.where(np.abs(values) < 2, 1 / 32, np.where(np.abs(values) < 4, 1 / 16, 1 / 8))
    assert (E2M5.values()[encode(values, E2M5)] / 32 == np.rint(values / step) * step).all()


@pytest.mark.parametrize("fmt", [*ORACLES, E2M5], ids=str)
def test_encode_saturates(fmt):
    values = np.array([fmt.max_value, fmt.max_value * 1.01, 1e30, np.inf])
    assert (encode(values, fmt) == fmt.max_code).all()
    assert (encode(-values, fmt) == fmt.max_code | 1 << fmt.bits - 1).all()


@pytest.mark.parametrize("fmt", [*ORACLES, E2M5], ids=str)
def test_codes_encode_to_themselves(fmt):
    # no negative zero
    codes = np.array([c for c in range(1 << fmt.bits) if fmt.is_finite(c) and c != 1 << fmt.bits - 1], np.uint8)
    assert (encode(fmt.values()[codes] * 2.0 ** fmt.unit_exp, fmt) == codes).all()


def test_encode_keeps_shape_across_chunks():
    values = np.random.default_rng(1).normal(size=(3, 500_001)).astype(np.float32)
    assert (encode(values, E3M4) == values.astype(ml_dtypes.float8_e3m4).view(np.uint8)).all()


def test_bf16():
    values = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    assert (bf16(values) == values.astype(ml_dtypes.bfloat16).view(np.uint16)).all()
    assert (bf16(bf16_values(bf16(values))) == bf16(values)).all()
    assert (bf16([-0.0, 1e-39, -1e-39, 2.0 ** -126, -3.0]) == [0, 0, 0, 0x80, 0xC040]).all()


@pytest.mark.parametrize("fmt", [*ORACLES, E2M5], ids=str)
def test_scale_exponent_is_the_smallest_that_holds(fmt):
    for largest in (1e-9, 0.3, fmt.max_value, np.nextafter(fmt.max_value, 1e9), 12345.0):
        e = scale_exponent(largest, fmt)
        assert fmt.max_value * 2.0 ** (e - 1) < largest <= fmt.max_value * 2.0 ** e
    assert scale_exponent(0.0, fmt) == 0


def some_weights(fmt):
    """(weights, the smallest step of their codes)."""
    weights = np.random.default_rng(3).normal(size=(50, 40)).astype(np.float32)
    return weights, 2.0 ** (fmt.unit_exp + scale_exponent(float(np.abs(weights).max()), fmt))


def test_a_pair_must_be_of_8_bits():
    with pytest.raises(ValueError, match="^Format of a pair must be of 8 bits, not e2m1$"):
        quantize_matrix(some_weights(E2M1)[0], E2M1, pair=True)


@pytest.mark.parametrize("fmt", ORACLES, ids=str)
def test_matrix_error(fmt):
    weights, unit = some_weights(fmt)
    assert (np.abs(quantize_matrix(weights, fmt).values()
                   - weights) <= np.maximum(unit / 2, np.abs(weights) * 2.0 ** -fmt.sig_bits)).all()


@pytest.mark.parametrize("fmt", [E3M4, E4M3], ids=str)
def test_error_of_a_pair(fmt):
    weights, unit = some_weights(fmt)
    single, pair = quantize_matrix(weights, fmt), quantize_matrix(weights, fmt, pair=True)
    assert (single.codes == pair.codes).all()
    # the pair's low part has the same smallest step, and a residual's own precision above it
    residual = np.abs(single.values() - weights)
    assert (np.abs(pair.values() - weights) <= np.maximum(unit / 2, residual * 2.0 ** -fmt.sig_bits) * 1.0001).all()


@pytest.mark.parametrize("fmt", [E3M4, E4M3], ids=str)
@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("size", [0, 1e-3, 1, 100])
def test_head_with_a_bias(fmt, pair, size):
    """The columns behind the weights add up to the bias, off by what one weight may be; the weights are as without
    it."""
    rng = np.random.default_rng(4)
    weights, bias, gains = (rng.normal(size=n).astype(np.float32) for n in ((50, 40), 50, 40))
    recipe = Recipe(weight_format=fmt, head="pair" if pair else "single")
    matrix, number = quantize_head(weights, recipe, size * bias, 3 * gains)
    alone, none = quantize_head(weights, recipe)
    assert none == 0 and np.frexp(number)[0] == 0.5 and (number == 4 or size == 100)
    assert matrix.size == (50, 48) and matrix.exponent == alone.exponent and (matrix.values()[:, :40]
                                                                              == alone.values()).all()
    off = matrix.values()[:, 40:].sum(axis=1, dtype=np.float64) * number - size * bias
    assert np.abs(off).max() <= number * 2.0 ** (fmt.unit_exp + matrix.exponent - 1)
    assert not pair or (quantize_head(weights, Recipe(weight_format=fmt), size * bias, 3 * gains)[0].codes
                        == matrix.codes).all()


def test_inputs_of_the_heads_bias_are_made_by_the_final_norm():
    shape = dataclasses.replace(ODD, block=dense(final_bias=True), head_bias=True)
    model, without = (quantize(random_checkpoint(one)) for one in (shape, dataclasses.replace(shape, head_bias=False)))
    assert model.final_gain.tolist() == [*without.final_gain.tolist(), *[0] * 8]
    assert model.final_bias.tolist() == [*without.final_bias.tolist(), *[0x3F80]
                                         * 8] and model.embedding.size == without.embedding.size
    assert model.digest != without.digest


@pytest.mark.parametrize("inputs", [31, 32, 70])
def test_offsets_of_rows_and_blocks(inputs):
    """A weight is its code's value times 2 to the power of the matrix's exponent, its row's offset and its block's."""
    rng = np.random.default_rng(5)
    codes, rows, blocks = rng.integers(0, 16, (3, inputs),
                                       np.uint8), np.array([0, 15, 3],
                                                           np.uint8), rng.integers(0, 7,
                                                                                   (3, -(-inputs // 32)), np.uint8)
    exact = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    for r, b in ((rows, blocks), (rows, None), (None, blocks), (None, None)):
        want = [[exact[i, j] * 2.0 ** (-9 + (0 if r is None else int(r[i])) + (0 if b is None else int(b[i, j // 32])))
                 for j in range(inputs)] for i in range(3)]
        assert (Matrix(codes, -9, E2M1, rows=r, blocks=b).values() == want).all()


def test_zero_matrix():
    zero = quantize_matrix(np.zeros((2, 3), np.float32), E3M4, pair=True)
    assert not zero.codes.any() and not zero.lo.any() and zero.exponent == 0


def test_model():
    checkpoint = random_checkpoint(ODD)
    steps = []
    model = quantize(checkpoint, Recipe(head="pair"), progress=lambda *step: steps.append(step))
    assert steps == [(i + 1, 2 * 9 + 3) for i in range(21)]
    assert {n: m.size for n, m in model.layers[1].matrices().items()} == ODD.matrices()
    assert model.head is not model.embedding and model.head.lo is not None
    wq = checkpoint.tensor("model.layers.1.self_attn.q_proj.weight") * np.log2(np.e) / 24 ** 0.5
    assert np.abs(model.layers[1].q.values() - wq).max() < 0.01 * np.abs(wq).max() + 1e-9 + 2 ** -6 * np.abs(wq).max()
    tied = quantize(random_checkpoint(dataclasses.replace(ODD, tie_word_embeddings=True)), Recipe(head="single"))
    assert tied.head is tied.embedding and tied.head.lo is None


def test_a_tied_head_with_a_format_of_its_own():
    """It is that of a model whose head is a copy of the table: codes, logits and stream."""
    tied = random_checkpoint(dataclasses.replace(ODD, tie_word_embeddings=True))
    copy = Checkpoint(ODD, "copy", lambda name: tied.tensor(name))
    in_4_bits, steps = recipe("weights=e2m1"), []
    model = quantize(tied, in_4_bits, progress=lambda *step: steps.append(step))
    assert steps[-1] == (len(steps), len(steps)) and model.head.fmt == E2M1 and model.embedding.fmt == E3M4
    other = quantize(copy, in_4_bits)
    designs = [Design(model=shape, recipe=in_4_bits, hw=HwShape(context=32, attention_lanes=8))
               for shape in (tied.shape, ODD)]
    streams = [np.asarray(pack(each, design).data) for each, design in zip((model, other), designs)]
    assert np.argwhere(streams[0] != streams[1]).tolist() == [[0, byte] for byte in range(4, 8)]    # the digest
    assert np.array_equal(*(GoldenDecoder(design, each).logits([3, 70, 8])
                            for design, each in zip(designs, (model, other))))
    assert quantize(tied, recipe("weights=e2m1,head=e3m4")).head.fmt == E3M4
    # and float32 with the machine's roundings is as far from both
    rounded = [Rounded(checkpoint, each, in_4_bits, 16).logits([3, 70, 8])
               for checkpoint, each in ((tied, model), (copy, other))]
    assert np.array_equal(*rounded)
    assert np.array_equal(*(PartlyFp8(checkpoint, in_4_bits, ["weights"]).logits([3, 70, 8])
                            for checkpoint in (tied, copy)))


def test_digest_names_shape_recipe_and_codes():
    def digest(shape=ODD, recipe=Recipe(), seed=0):
        return quantize(random_checkpoint(shape, seed), recipe).digest
    assert digest() == digest() == digest(dataclasses.replace(ODD, name="another name"))
    others = [digest(seed=1), digest(dataclasses.replace(ODD, rms_norm_eps=1e-6)), digest(recipe=Recipe(head="pair")),
              digest(recipe=Recipe(kv_format=E4M3)), digest(recipe=Recipe(weight_format=E4M3))]
    assert len({digest(), *others}) == 6
    model = quantize(random_checkpoint(ODD))
    for offsets in (dict(rows=np.zeros(ODD.vocab_size, np.uint8)),
                    dict(blocks=np.zeros((ODD.vocab_size, 3), np.uint8))):
        assert dataclasses.replace(model, head=dataclasses.replace(model.head, **offsets)).digest != model.digest
