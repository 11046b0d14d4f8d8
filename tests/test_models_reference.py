import dataclasses
import math

import numpy as np
import pytest

from hwgen.models import load, random_checkpoint
from hwgen.models.reference import _ACTIVATIONS, Reference
from hwgen.params.block import ACTIVATIONS, QkNorm, dense
from hwgen.params.hardware import Recipe
from hwgen.params.model import LayerType, LinearRopeScaling, Llama3RopeScaling
from hwgen.plan.accuracy import PartlyFp8
from model_files import ODD

LLAMA3 = Llama3RopeScaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
TOKENS = np.random.default_rng(4).integers(0, ODD.vocab_size, 50).tolist()


def test_steps_equal_the_whole():
    reference = Reference.of(random_checkpoint(ODD))
    whole = reference.logits(TOKENS)
    assert whole.shape == (50, 277) and whole.dtype == np.float32
    cache = reference.cache(1)
    parts = [reference.logits(TOKENS[a:b], cache) for a, b in [(0, 7), (7, 8), (8, 9), (9, 40), (40, 50)]]
    assert cache.length == 50
    assert np.allclose(np.concatenate(parts), whole, atol=2e-5)


def test_causal():
    reference = Reference.of(random_checkpoint(ODD))
    assert np.allclose(reference.logits(TOKENS[:20]), reference.logits(TOKENS)[:20], atol=2e-5)


def test_large_activations_give_no_warning():
    checkpoint = random_checkpoint(ODD)
    reference = Reference(ODD, lambda name: checkpoint.tensor(name) * np.float32(100 if "mlp" in name else 1))
    assert np.isfinite(reference.logits(TOKENS)).all()


@pytest.mark.parametrize("changes", [
    {},
    {"num_hidden_layers": 5, "vocab_size": 777, "rope_scaling": LLAMA3},
    {"tie_word_embeddings": True, "rope_scaling": LinearRopeScaling(factor=2.0), "rope_theta": 5e5},
    {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10},
], ids=["odd", "llama3", "tied linear", "wide heads"])
def test_equals_transformers(tmp_path, changes):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shape = dataclasses.replace(ODD, name=tmp_path.name, **changes)
    rope = {"rope_type": "default", "rope_theta": shape.rope_theta}
    if shape.rope_scaling is not None:
        kind = type(shape.rope_scaling).__name__.removesuffix("RopeScaling").lower()
        rope |= {"rope_type": kind, **dataclasses.asdict(shape.rope_scaling)}
    fields = dataclasses.asdict(shape)
    for name in ("name", "rope_scaling", "rope_theta", "eos_token_ids"):
        del fields[name]
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields, eos_token_id=2, rope_parameters=rope,
                                                                   initializer_range=0.3))
    for norm in [m for m in model.modules() if "RMSNorm" in type(m).__name__]:
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
    model.save_pretrained(tmp_path)
    checkpoint = load(tmp_path, need_tokenizer=False)
    assert checkpoint.shape == shape
    with torch.no_grad():
        theirs = model(torch.tensor([TOKENS])).logits[0].numpy()
    ours = Reference.of(checkpoint).logits(TOKENS)
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


# What other families have, against the formulas in float64: a token and a head at a time.

SHARP = 0.5         # of scores: attention is not flat
_FORMULAS = {
    "silu": lambda x: x / (1 + math.exp(-x)), "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x / (1 + math.exp(-1.702 * x)), "relu": lambda x: max(x, 0),
    "relu2": lambda x: max(x, 0) ** 2}


def rms(x, gain):
    return x / math.sqrt((x * x).mean() + ODD.rms_norm_eps) * gain


def plain_logits(tensors, tokens, types, *, biased=(), qk_norm=None, norms="pre", parallel=False,
                 activation="silu", gated=True,
                 final_bias=False, rotary_dim=None, score_scale=24**-0.5):
    """Logits in float64 of a model of ODD's sizes, whose `LayerType` s are given with a theta each."""
    part = {"q": "self_attn", "k": "self_attn", "v": "self_attn", "o": "self_attn", "gate": "mlp", "up": "mlp",
            "down": "mlp"}
    f, size = _FORMULAS[activation], 24 if rotary_dim is None else rotary_dim
    residual = [tensors["model.embed_tokens.weight"][token] for token in tokens]

    def turned(head, position, of):
        out = head.copy()
        for i in range(size // 2 if of.rotary else 0):
            z = complex(head[i], head[i + size // 2]) * np.exp(1j * position * of.rope_theta ** (-2 * i / size))
            out[i], out[i + size // 2] = z.real, z.imag
        return out

    for number, of in enumerate(types):
        def w(name):
            return tensors[f"model.layers.{number}.{name}"]

        def times(name, x):
            y = w(f"{part[name]}.{name}_proj.weight") @ x
            return y + w(f"{part[name]}.{name}_proj.bias") if name in biased else y

        def heads(name, x, position):
            if qk_norm is None:
                return [turned(head, position, of) for head in times(name, x).reshape(-1, 24)]
            gain, y = w(f"self_attn.{name}_norm.weight"), times(name, x)
            normed = (lambda y: np.concatenate([rms(head, gain)
                                                for head in y.reshape(-1, 24)])) if qk_norm.span == "head" else (
                lambda y: rms(y, gain))
            if not qk_norm.after_rotary:
                return [turned(head, position, of) for head in normed(y).reshape(-1, 24)]
            return normed(np.concatenate([turned(head, position, of) for head in y.reshape(-1, 24)])).reshape(-1, 24)

        def attention(xs):
            keys = [heads("k", x, p)[0] for p, x in enumerate(xs)]
            values = [times("v", x) for x in xs]
            for p, x in enumerate(xs):
                seen = range(0 if of.window is None else max(0, p - of.window + 1), p + 1)
                out = []
                for q in heads("q", x, p):
                    e = np.array([math.exp(score_scale * q @ keys[s]) for s in seen])
                    out.append(sum(a * values[s] for a, s in zip(e / e.sum(), seen)))
                yield times("o", np.concatenate(out))

        def mlp(xs):
            for x in xs:
                up = times("up", x)
                yield times("down", np.array([f(g) * u for g, u in zip(times("gate", x), up)] if gated
                                             else [f(u) for u in up]))

        def before(name):
            return residual if norms == "post" else [rms(x, w(name + ".weight")) for x in residual]

        def after(name, ys):
            return list(ys) if norms == "pre" else [rms(y, w(name + ".weight")) for y in ys]

        first = before("input_layernorm")
        residual = [x + y for x, y in zip(residual, after("post_self_attn_layernorm", attention(first)))]
        residual = [x + y for x, y in zip(residual, after(
            "post_mlp_layernorm", mlp(first if parallel else before("post_attention_layernorm"))))]
    bias = tensors["model.norm.bias"] if final_bias else 0
    return np.array([tensors["lm_head.weight"] @ (rms(x, tensors["model.norm.weight"]) + bias) for x in residual])


GLOBAL = LayerType(rope_theta=1e4)
FEATURES = {
    "llama": {},
    "biases": {"biased": ("q", "k", "v", "o", "gate", "up", "down")},
    "norms of heads": {"qk_norm": QkNorm("head"), "biased": ("q", "k")},
    "norms of projections": {"qk_norm": QkNorm("projection"), "norms": "post"},
    "norms of heads after rotary": {"qk_norm": QkNorm("head", after_rotary=True), "norms": "sandwich"},
    "norms of projections after rotary": {"qk_norm": QkNorm("projection", after_rotary=True)},
    "parallel": {"parallel": True, "gated": False, "activation": "gelu", "rotary_dim": 10},
    "bias of the final norm": {"final_bias": True},
    "no rotary": {"rotary_dim": 0, "score_scale": SHARP},
    **{name: {"activation": name} for name in ACTIVATIONS},
    **{f"{name} without a gate": {"activation": name, "gated": False} for name in ACTIVATIONS},
}
LAYERS = {"windows": (LayerType(window=3, rope_theta=100.0), LayerType(window=1, rope_theta=1e4)),
          "rotary of layers": (LayerType(rotary=False, rope_theta=1e4),
                               LayerType(window=5, rope_theta=50.0, rope_scaling=None))}


def featured(options, types):
    """A checkpoint with these features."""
    shape = {name: options[name] for name in ("rotary_dim", "score_scale") if name in options}
    block = {name: value for name, value in options.items() if name not in shape}
    return random_checkpoint(dataclasses.replace(ODD, block=dense(**block), layer_types=types, **shape))


@pytest.mark.parametrize("name", [*FEATURES, *LAYERS])
def test_features_are_their_formulas(name):
    options, types = FEATURES.get(name, {"score_scale": SHARP}), LAYERS.get(name, (GLOBAL, GLOBAL))
    checkpoint = featured(options, types)
    want = plain_logits({n: checkpoint.tensor(n).astype(np.float64) for n in checkpoint.names()}, TOKENS[:8],
                        types, **options)
    reference = Reference.of(checkpoint)
    cache = reference.cache(1)
    parts = np.concatenate([reference.logits(TOKENS[a:b], cache) for a, b in [(0, 5), (5, 6), (6, 8)]])
    for logits in (reference.logits(TOKENS[:8]), parts, PartlyFp8(checkpoint, Recipe(), ()).logits(TOKENS[:8])):
        assert logits.dtype == np.float32 and np.abs(logits - want).max() < 3e-6 * np.abs(want).max()


def test_each_feature_is_another_model():
    logits = [Reference.of(featured(FEATURES.get(name, {}), LAYERS.get(name, (GLOBAL, GLOBAL)))).logits(TOKENS[:8])
              for name in [*FEATURES, *LAYERS]]
    assert len({values.round(1).tobytes() for values in logits}) == len(logits) - 1      # "silu" is Llama's


@pytest.mark.parametrize("name, x", [("gelu", np.linspace(-8, 8, 100001)), ("gelu", np.array([-1e30, 1e30])),
                                     ("gelu_tanh", np.array([-1e30, 1e30])), ("quick_gelu", np.array([-1e30, 1e30]))])
def test_activations_everywhere(name, x):
    x = x.astype(np.float32)
    found = _ACTIVATIONS[name](x)
    want = np.array([_FORMULAS["gelu" if "gelu" in name else name](value) for value in x.astype(np.float64)])
    assert found.dtype == np.float32 and (np.abs(found - want) <= 1e-7 * np.maximum(1, want)).all()
    assert np.isnan(_ACTIVATIONS[name](np.float32([np.nan]))).all()
