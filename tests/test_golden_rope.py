"""The golden RoPE against the rotation as Hugging Face's models define it, in float64."""
import numpy as np
import pytest

from hwgen.golden.numbers import BF16_MAX, bf16
from hwgen.golden.rope import angle_cycles, rope, rope_angles, rotate
from hwgen.params.model import LayerType, LinearRopeScaling, Llama3RopeScaling
from sim.designs import small_design

LLAMA3 = dict(rope_theta=500000.0, max_position_embeddings=131072, context=131072, head_dim=128, attention_lanes=32,
              rope_scaling=Llama3RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                             original_max_position_embeddings=8192))
SHAPES = {
    "plain": dict(head_dim=16, context=64),
    "smollm2": dict(head_dim=64, rope_theta=1e5, max_position_embeddings=8192, context=8192),
    "padded": dict(head_dim=20, num_attention_heads=4, num_key_value_heads=2),
    "linear": dict(head_dim=16, rope_scaling=LinearRopeScaling(factor=4.0)),
    "llama3": LLAMA3,
}


def inverse_frequencies(model):
    """As transformers computes them (modeling_rope_utils), wavelength by wavelength."""
    inv = [1 / model.rope_theta ** (i / model.head_dim) for i in range(0, model.head_dim, 2)]
    scaling = model.rope_scaling
    if isinstance(scaling, LinearRopeScaling):
        return np.array(inv) / scaling.factor
    if scaling is None:
        return np.array(inv)
    out = []
    old = scaling.original_max_position_embeddings
    for f in inv:
        wavelength = 2 * np.pi / f
        if wavelength < old / scaling.high_freq_factor:
            out.append(f)
        elif wavelength > old / scaling.low_freq_factor:
            out.append(f / scaling.factor)
        else:
            smooth = (old / wavelength - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
            out.append((1 - smooth) * f / scaling.factor + smooth * f)
    return np.array(out)


def rotate_half(x, positions, model):  # [n, heads, head_dim], [n]
    angle = positions[:, None] * inverse_frequencies(model)
    cos, sin = (np.concatenate([f(angle)] * 2, axis=-1)[:, None] for f in (np.cos, np.sin))
    half = model.head_dim // 2
    return x * cos + np.concatenate([-x[..., half:], x[..., :half]], axis=-1) * sin


def stored(x, design):  # [..., head_dim] -> [..., head], pairs side by side
    half = design.model.head_dim // 2
    pairs = np.stack([x[..., :half], x[..., half:]], axis=-1).reshape(x.shape)
    return np.pad(pairs, [(0, 0)] * (x.ndim - 1) + [(0, design.padded_head_dim - design.model.head_dim)])


@pytest.mark.parametrize("name", SHAPES)
def test_angles(name):
    """Within 0.86 of a unit of 2**-14: half of one, and a quarter of sqrt(2) of the factors' units of 2**-16."""
    design = small_design(**SHAPES[name])
    positions = np.unique(np.linspace(0, design.hw.context - 1, 2000).astype(int))
    angles = rope_angles(design, positions)
    want = positions[:, None] * inverse_frequencies(design.model)
    pairs = design.model.head_dim // 2
    assert np.abs(angles[:, :pairs] - 2**14 * np.stack([np.cos(want), np.sin(want)], axis=-1)).max() < 0.86
    assert (angles[:, pairs:] == 0).all()
    assert angles[0, 0].tolist() == [1 << 14, 0]


@pytest.mark.parametrize("name", SHAPES)
def test_rotation(name):
    """One rounding to bf16, and 2**-13 of the pair's length for angles and alignment."""
    design = small_design(**SHAPES[name])
    rng = np.random.default_rng(0)
    positions = rng.integers(0, design.hw.context, 40)
    x = bf16(rng.normal(size=(40, design.qkv_heads, design.model.head_dim)) * 2.0**rng.integers(-20, 20, (40, 1, 1)))
    y = rope(design, stored(x, design), positions)
    want, before = stored(rotate_half(x, positions, design.model), design), stored(x, design)
    length = np.hypot(before[..., ::2], before[..., 1::2]).repeat(2, axis=-1)
    kv = design.kv_heads
    turned = np.r_[:kv, 2 * kv:design.qkv_heads]
    assert (np.abs(y - want) <= 2**-8 * np.abs(want) + 2**-13 * length)[:, turned].all()
    assert (y[:, kv:2 * kv] == before[:, kv:2 * kv]).all()
    assert (y[..., design.model.head_dim:] == 0).all()


def test_a_part_of_a_head():
    """The first rotary_dim elements are turned as a head of that size would be, the others not at all."""
    part = small_design(head_dim=10, rotary_dim=6, attention_lanes=4)
    whole = small_design(head_dim=6, attention_lanes=4)
    angles, positions = rope_angles(part, np.arange(32)), np.arange(32)
    assert np.array_equal(angles[:, :3], rope_angles(whole, positions)[:, :3])
    assert (angles[:, 3:5] == [1 << 14, 0]).all() and (angles[:, 5:] == 0).all()


@pytest.mark.parametrize("apart, exact", [(8, True), (9, False)])
def test_what_no_turn_does(apart, exact):
    """The larger element of a pair comes through as it is, and the other one up to 8 places below; from then on it
    loses bits."""
    large, small = bf16(1.9921875), bf16(-1.9921875 * 2.0**-apart)
    got = rotate(np.array([large, small]), np.array([[1 << 14, 0]]))
    assert got[0] == large and (got[1] == small) == exact and 0 <= got[1] - small < 2.0**-15


def test_ropes_of_layers():
    types = (LayerType(rope_theta=100.0), LayerType(rotary=False), LayerType(), LayerType(rope_theta=100.0))
    design = small_design(layer_types=types, num_hidden_layers=4, context=64)
    positions = np.arange(64)
    one, other = (rope_angles(small_design(rope_theta=theta, context=64), positions) for theta in (100.0, 10000.0))
    of = [rope_angles(design, positions, design.model.rope_of(layer)) for layer in range(4)]
    assert np.array_equal(of[0], one) and np.array_equal(of[2], other) and np.array_equal(of[3], one) and of[1] is None
    x = bf16(np.random.default_rng(0).normal(size=(64, design.qkv_heads, design.padded_head_dim)))
    assert np.array_equal(rope(design, x, positions, None), x)
    assert np.array_equal(rope(design, x, positions, 1)[:, 0], rotate(x, other[:, None])[:, 0])
    assert angle_cycles(design, 3) == 3 * 2 * 4 + 6 and angle_cycles(small_design(rotary_dim=0), 3) == 3


def test_angles_need_no_clip():
    """Even the largest table entries give at most 2**14."""
    limit = (2**16 + np.sqrt(0.5)) ** 2
    assert np.floor(limit / 2**18 + 0.5) == 2**14


def test_corners():
    diagonal = np.array([[11585, 11585]])                                        # 45 degrees
    assert rotate(np.array([BF16_MAX, -BF16_MAX]), diagonal).tolist() == [BF16_MAX, 0]        # saturates
    assert rotate(np.array([2.0**-126, 2.0**-126]), np.array([[8192, 0]])).tolist() == [0, 0]  # flushes
    assert rotate(np.array([0.0, 0.0]), diagonal).tolist() == [0, 0]
    # 16 places below the other, nothing is left of an element; 15 places below, its highest bit
    assert rotate(np.array([1.0, 1.9921875 * 2.0**-16]), np.array([[0, 1 << 14]])).tolist() == [0, 1.0]
    assert rotate(np.array([1.0, 1.9921875 * 2.0**-15]), np.array([[0, 1 << 14]])).tolist() == [-(2.0**-15), 1.0]


def test_cycles():
    design = small_design(head_dim=64, max_position_embeddings=64)
    assert angle_cycles(design) == 38 and angle_cycles(design, 3) == 102
