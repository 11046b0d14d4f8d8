import dataclasses

import numpy as np
import pytest

from hwgen.models import load, random_checkpoint
from hwgen.models.reference import Reference
from hwgen.params.model import LinearRopeScaling, Llama3RopeScaling
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
