"""Models whose matrices are in MXFP4, as gpt-oss's safetensors and GGUF files hold them, to the bit."""
import json

import gguf
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from gguf.quants import dequantize

from hwgen.golden.decoder import GoldenDecoder
from hwgen.models import ModelError, load, random_checkpoint
from hwgen.models.mxfp4 import dequantized
from hwgen.models.pack import pack
from hwgen.models.quantize import quantize, quantize_matrix
from hwgen.params.design import Design
from hwgen.params.formats import E2M1
from hwgen.params.hardware import HwShape
from hwgen.params.model import ModelShape
from hwgen.params.presets import recipe
from hwgen.plan import ranges as module
from hwgen.plan.compensate import compensate
from hwgen.plan.ranges import advice
from model_files import config_of
from sim.designs import MODEL

SHAPE = ModelShape(**MODEL | dict(hidden_size=64, intermediate_size=96, num_attention_heads=2, head_dim=32,
                                  tie_word_embeddings=False))


def random_blocks(rng, rows, inputs, least=120, most=127):
    """Codes of all kinds, and scales of a range."""
    return rng.integers(0, 256, (rows, inputs // 32, 16),
                        np.uint8), rng.integers(least, most, (rows, inputs // 32), np.uint8)


def exact(blocks, scales):
    """The numbers by ml_dtypes, in float64."""
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*scales.shape, 32)
    return (codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
            * scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)[..., None]).reshape(len(scales), -1)


def folder(path, rng, without=()):
    """A model whose matrices of layers are in MXFP4. Returns name -> the numbers."""
    checkpoint = random_checkpoint(SHAPE)
    tensors, want = {}, {}
    for name in checkpoint.names():
        values = checkpoint.tensor(name)
        if "proj" in name:
            blocks, scales = random_blocks(rng, *values.shape)
            tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
            want[name] = exact(blocks, scales)
        else:
            tensors[name] = values
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config_of(SHAPE) | {"quantization_config": {"quant_method": "mxfp4"}}))
    safetensors.numpy.save_file({name: tensor for name, tensor in tensors.items() if name not in without},
                                path / "model.safetensors")
    return want


def test_all_codes_and_scales():
    blocks = np.arange(256, dtype=np.uint8).repeat(255).reshape(-1, 255, 16)[:16]
    scales = np.arange(255, dtype=np.uint8)[None].repeat(16, axis=0)
    with np.errstate(over="ignore"):
        want = exact(blocks, scales).astype(np.float32)
        assert (dequantized(blocks, scales) == want).all()
    assert np.isnan(dequantized(blocks[:1, :1], np.array([[255]], np.uint8))).all()


def test_a_folder_is_read_to_the_bit(tmp_path):
    want = folder(tmp_path / "m", np.random.default_rng(1))
    checkpoint = load(tmp_path / "m", need_tokenizer=False)
    for name, values in want.items():
        assert (checkpoint.tensor(name) == values).all()


def test_without_scales(tmp_path):
    folder(tmp_path / "m", np.random.default_rng(1), without=["model.layers.1.mlp.down_proj.weight_scales"])
    with pytest.raises(ModelError,
                       match="down_proj.weight_scales is missing: model.layers.1.mlp.down_proj.weight is in MXFP4"):
        load(tmp_path / "m", need_tokenizer=False)


@pytest.mark.parametrize("make", [quantize, lambda *of: compensate(*of, [list(range(32)), list(range(30))])[0]],
                         ids=["nearest", "compensated"])
def test_the_machine_has_the_weights_to_the_bit(make, tmp_path):
    """But those of the queries, which have the scale of the scores in them."""
    want = folder(tmp_path / "m", np.random.default_rng(2))
    checkpoint = load(tmp_path / "m", need_tokenizer=False)
    design = Design(model=checkpoint.shape, hw=HwShape(context=32, entries=3), recipe=recipe("weights=e2m1,head=e3m4"))
    quantized = make(checkpoint, design.recipe)
    for name, values in want.items():
        layer, tensor = int(name.split(".")[2]), name.split(".", 3)[3]
        matrix = next(matrix for matrix in SHAPE.block.matrices if matrix.tensor == tensor)
        assert (getattr(quantized.layers[layer], matrix.name).values() == values).all() or matrix == SHAPE.block.queries
    assert len(pack(quantized, design)) == design.stream_beats
    entries = [(0, i, i + 1, 1, 0) for i in range(3)]
    assert len(GoldenDecoder(design, quantized).run_pass(entries)[0]) == 3


@pytest.mark.parametrize("formats, rounded", [("weights=e2m1,head=e3m4", 2),
                                              ("weights=e2m1,head=e3m4,block_range=1", 14)])
def test_what_is_rounded_anew_is_said(tmp_path, monkeypatch, formats, rounded):
    folder(tmp_path / "m", np.random.default_rng(2))
    checkpoint, chosen = load(tmp_path / "m", need_tokenizer=False), recipe(formats)
    ranges, sentences = advice(checkpoint, quantize(checkpoint, chosen), 16)
    said, = [sentence for sentence in sentences if "MXFP4" in sentence]
    assert said.startswith(f"{rounded} of the 14 matrices that are in MXFP4 are rounded anew: of model.layers.")
    kept = [name for name, matrix in ranges.matrices.items() if matrix.anew[1] and not matrix.anew[0]]
    assert len(kept) == 14 - rounded and not any("q_proj" in name for name in kept)
    assert module.rounded_anew(checkpoint, quantize(checkpoint, chosen)) == [said]
    monkeypatch.setattr(module, "_CHUNK", 128)      # a row or two at a time
    assert advice(checkpoint, quantize(checkpoint, chosen), 16)[1] == sentences


@pytest.mark.parametrize("most", [4, 6])
def test_ggufs_type_stays_to_the_bit_where_the_range_of_blocks_is_enough(most):
    """17 bytes a block, the scale first; elements k and k + 16 in a byte."""
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, (40, 3, 17), np.uint8)
    data[..., 0] = 120 + rng.integers(0, 2, (40, 1)) * 9 + rng.integers(0, most - 1, (40, 3))
    values = dequantize(data.reshape(40, -1), gguf.GGMLQuantizationType.MXFP4)
    codes = np.concatenate([data[..., 1:] & 15, data[..., 1:] >> 4], axis=-1)
    scale = np.ldexp(1.0, data[..., :1].astype(int) - 127)
    assert (values.reshape(40, 3, 32) == codes.view(ml_dtypes.float4_e2m1fn).astype(float) * scale).all()
    assert (quantize_matrix(values, E2M1, rows=15, blocks=most).values() == values).all()


def test_blocks_beyond_the_range_are_rounded_anew():
    values = np.ones((2, 64), np.float32)
    values[0, 32:] = 2.0 ** -7 * 1.5
    matrix = quantize_matrix(values, E2M1, rows=15, blocks=4)
    assert (matrix.values()[1] == 1).all() and (matrix.values()[0, :32]
                                                == 1).all() and (matrix.values()[0, 32:] != values[0, 32:]).all()
