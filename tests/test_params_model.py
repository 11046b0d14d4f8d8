import dataclasses

import numpy as np
import pytest

from hwgen.params.design import Design
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import (DEMO, LLAMA3_8B, LLAMA3_70B, PRESETS, SMOLLM2_135M, DivisorRopeScaling, LayerType,
                                LinearRopeScaling, Llama3RopeScaling)


def test_parameter_counts():
    assert SMOLLM2_135M.parameter_count == 134_515_008
    assert LLAMA3_8B.parameter_count == 8_030_261_248
    assert LLAMA3_70B.parameter_count == 70_553_706_496
    assert DEMO.parameter_count == 256_704


def test_sizes():
    assert (SMOLLM2_135M.q_size, SMOLLM2_135M.kv_size, SMOLLM2_135M.group_size) == (576, 192, 3)
    assert SMOLLM2_135M.matrices()["down"] == (576, 1536)


@pytest.mark.parametrize("change, message", [
    ({"vocab_size": 0}, "Vocabulary size must be at least 1, not 0"),
    ({"num_attention_heads": 6, "num_key_value_heads": 4}, "Head count 6 must be a multiple of KV head count 4"),
    ({"head_dim": 25}, "Head dimension must be even, not 25"),
    ({"rms_norm_eps": 0}, "RMSNorm epsilon must be a positive finite number, not 0"),
    ({"rope_theta": float("nan")}, "RoPE theta must be a positive finite number, not nan"),
    ({"bos_token_id": 640}, "Start token 640 must be below vocabulary size 640"),
    ({"eos_token_ids": (1, 700)}, "End token 700 must be below vocabulary size 640"),
    ({"num_hidden_layers": 10**6}, "Layer count must be at most 1000, not 1000000"),
    ({"vocab_size": 10**5000}, "Vocabulary size must be at most 16777216, not a huge number"),
    ({"rope_theta": 10**400}, "RoPE theta must be a positive finite number, not 1" + "0" * 17 + "..." + "0" * 19),
    ({"rope_theta": 1e-308, "head_dim": 64, "rope_scaling": LinearRopeScaling(factor=1e-300)},
     "RoPE theta 1e-308 must give finite frequencies, with its scaling"),
    ({"sliding_window": 0}, "Sliding window must be at least 1, not 0"),
    ({"rope_scaling": DivisorRopeScaling(divisors=(1.0, 2.0))},
     "RoPE divisors must be half the head dimension, 8, not 2"),
])
def test_wrong_values(change, message):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(DEMO, **change)
    assert str(error.value) == message


@pytest.mark.parametrize("change, message", [
    ({"hidden_size": 64.0}, "Hidden size must be an integer, not 64.0"),
    ({"num_hidden_layers": True}, "Layer count must be an integer, not True"),
    ({"rope_theta": "1e4"}, "RoPE theta must be a number, not '1e4'"),
    ({"tie_word_embeddings": 1}, "Tied embeddings must be True or False, not 1"),
    ({"eos_token_ids": 2}, "End tokens must be a tuple, not 2"),
    ({"rope_scaling": {"factor": 8}},
     "RoPE scaling must be None, LinearRopeScaling, Llama3RopeScaling or DivisorRopeScaling, not {'factor': 8}"),
])
def test_wrong_kinds(change, message):
    with pytest.raises(TypeError) as error:
        dataclasses.replace(DEMO, **change)
    assert str(error.value) == message


def test_rope_frequencies():
    f = DEMO.rope_frequencies()
    assert f.dtype == np.float64 and f.shape == (8,)
    assert f[0] == 1 and np.allclose(f, [10000 ** (-i / 8) for i in range(8)], rtol=1e-15)
    halved = dataclasses.replace(DEMO, rope_scaling=LinearRopeScaling(factor=2.0)).rope_frequencies()
    assert (halved == f / 2).all()


def test_divisors():
    plain = DEMO.rope_frequencies()
    scaling = DivisorRopeScaling(divisors=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0), factor=10.0)
    assert np.allclose(dataclasses.replace(DEMO, rope_scaling=scaling).rope_frequencies(), plain / np.arange(1, 9) / 10)


def _windows(context, **changes):
    design = Design(model=dataclasses.replace(DEMO, **changes), hw=HwShape(context=context), recipe=Recipe())
    return [design.window(layer) for layer in range(design.layers)], design.rows_seen()


def test_windows():
    """A window of the whole context is none."""
    assert dataclasses.replace(DEMO, sliding_window=64).longest_context == 256
    assert _windows(65, sliding_window=64) == ([64] * 5, 64) and _windows(64, sliding_window=64) == ([None] * 5, 64)
    types = tuple(LayerType(window=window) for window in (64, 80, 81, 1, 5))
    assert _windows(81, layer_types=types) == ([64, 80, None, 1, 5], 81)
    assert _windows(256, layer_types=types) == ([64, 80, 81, 1, 5], 81)


def test_llama3_scaling_ends():
    plain = dataclasses.replace(LLAMA3_8B, rope_scaling=None).rope_frequencies()
    scaled = LLAMA3_8B.rope_frequencies()
    assert (scaled[:20] == plain[:20]).all()           # short wavelengths stay
    assert np.allclose(scaled[-20:], plain[-20:] / 8)  # long ones are stretched whole
    assert (np.diff(scaled) < 0).all()
    with pytest.raises(ValueError, match="^RoPE high frequency factor 1.0 must be above low frequency factor 4.0$"):
        Llama3RopeScaling(factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0, original_max_position_embeddings=8)


@pytest.mark.parametrize("scaling", [
    None, LinearRopeScaling(factor=3.0),
    Llama3RopeScaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)])
@pytest.mark.parametrize("shape", PRESETS.values(), ids=PRESETS)
def test_rope_frequencies_equal_transformers(shape, scaling):
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    parameters = {"rope_theta": shape.rope_theta, "rope_type": "default"}
    if scaling is not None:
        parameters |= {"rope_type": type(scaling).__name__.removesuffix("RopeScaling").lower(),
                       **dataclasses.asdict(scaling)}
    config = transformers.LlamaConfig(head_dim=shape.head_dim, hidden_size=shape.hidden_size,
                                      num_attention_heads=shape.num_attention_heads,
                                      max_position_embeddings=131072, rope_parameters=parameters)
    ours = dataclasses.replace(shape, rope_scaling=scaling).rope_frequencies()
    assert np.allclose(LlamaRotaryEmbedding(config).inv_freq.numpy(), ours, rtol=2e-6, atol=0)
