import ml_dtypes
import numpy as np
import pytest

from hwgen.models import quantize, random_checkpoint
from hwgen.models.reference import Reference
from hwgen.params.formats import E3M4, E4M3
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import ModelShape
from hwgen.params.presets import recipe
from hwgen.plan.accuracy import PARTS, PartlyFp8, compare, fp8_rounded, golden, report, variants

SHAPE = ModelShape(name="tiny", vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                   num_attention_heads=2, num_key_value_heads=1, head_dim=12, max_position_embeddings=64,
                   tie_word_embeddings=True)
TOKENS = np.random.default_rng(1).integers(0, 61, 90).tolist()
ALL = ("weights", "activations", "heads", "p")


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(SHAPE)


@pytest.mark.parametrize("fmt, oracle", [(E3M4, ml_dtypes.float8_e3m4), (E4M3, ml_dtypes.float8_e4m3fn)])
def test_rounding(fmt, oracle):
    x = np.random.default_rng(2).normal(size=(50, 30)).astype(np.float32) * 10
    x[:, 0] = fmt.max_value  # so that the scale is 1
    x = np.clip(x, -fmt.max_value, fmt.max_value)
    assert (fp8_rounded(x, fmt) == x.astype(oracle).astype(np.float32)).all()
    assert (fp8_rounded(x * 0.25, fmt) == fp8_rounded(x, fmt) * 0.25).all()
    assert (fp8_rounded(np.zeros((2, 3), np.float32), fmt) == 0).all()


def test_nothing_in_fp8_is_the_reference(checkpoint):
    ours = PartlyFp8(checkpoint, Recipe(), ()).logits(TOKENS)
    assert np.allclose(ours, Reference.of(checkpoint).logits(TOKENS), atol=1e-4)


def test_table(checkpoint):
    models = {label: lambda operands=operands: PartlyFp8(checkpoint, Recipe(), operands).logits
              for label, operands in (PARTS | {"all": ALL}).items()}
    models["machine"] = lambda: golden(checkpoint, Recipe(), HwShape(context=32))
    seen = []
    rows = compare(checkpoint, TOKENS, models, window=32, prefix=[0], progress=lambda *at: seen.append(at))
    assert list(rows) == list(models) and seen[-1] == (21, 21)
    assert all(row.tokens == len(TOKENS) for row in rows.values())  # 31 + 31 + 28, all with something before them
    assert all(0 < rows[label].kl < rows["all"].kl for label in PARTS)
    # the machine is those roundings and some much smaller ones
    assert rows["machine"].kl == pytest.approx(rows["all"].kl, rel=0.5)


def test_parts_are_those_of_the_recipe(checkpoint):
    """Those of weights have each matrix in its own format, with its offsets."""
    text = "weights=e2m1,head=e3m4,layers.1.down=e3m4"
    models = variants(checkpoint, {"e3m4": recipe("e3m4"), text: recipe(text)}, HwShape(context=32), parts=True)
    assert [label for label in models if "weights only" in label] == ["e3m4, weights only", f"{text}, weights only"]
    made = quantize(checkpoint, recipe(text))
    name = "model.layers.{}.mlp.down_proj.weight".format
    found = PartlyFp8(checkpoint, recipe(text), ("weights",))
    assert all((found._weights[name(i)] == made.layers[i].down.values()).all() for i in range(2))


def test_text_without_prefix(checkpoint):
    row = compare(checkpoint, TOKENS[:9], {"m": lambda: Reference.of(checkpoint).logits}, window=4)["m"]
    assert row.tokens == 6 and row.kl == pytest.approx(0, abs=1e-6)
    first, _, short, long = report({"m": row, "m" * 40: row})
    assert len(first) == len(long) == len(short)
    with pytest.raises(ValueError, match="at least 2 tokens"):
        compare(checkpoint, TOKENS[:1], {}, window=4)
