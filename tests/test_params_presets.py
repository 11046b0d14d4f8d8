import dataclasses

import pytest

from hwgen.params import model as models
from hwgen.params.design import Design
from hwgen.params.formats import E3M4, E4M3
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.presets import SHAPES, hw_shape, recipe


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("model", [models.DEMO, models.SMOLLM2_135M], ids=str)
def test_every_preset_fits_every_model(name, model):
    preset = SHAPES[name]
    assert preset.name == name and preset.purpose and preset.status in ("supported", "experimental")
    Design(model=model, hw=hw_shape(name, model), recipe=Recipe())


def test_presets_are_sorted():
    sizes = [preset.shape.lanes * preset.shape.columns for preset in SHAPES.values()]
    assert sorted(sizes) == sizes


def test_shape():
    model = models.DEMO
    assert hw_shape("tiny", model) == SHAPES["tiny"].shape
    assert hw_shape("tiny, entries=4,source=stream", model) == dataclasses.replace(
        SHAPES["tiny"].shape, entries=4, source="stream")
    assert hw_shape("lanes=16,columns=32", model, default="demo") == dataclasses.replace(
        SHAPES["demo"].shape, lanes=16, columns=32)


def test_context():
    short = dataclasses.replace(models.DEMO, max_position_embeddings=100)
    assert hw_shape("demo", short).context == 100
    assert hw_shape("demo", models.SMOLLM2_135M).context == HwShape().context == 256
    assert hw_shape("demo,context=512", models.SMOLLM2_135M).context == 512


def test_recipe():
    assert recipe() == Recipe()
    assert recipe("e4m3") == Recipe(weight_format=E4M3, activation_format=E4M3, kv_format=E4M3)
    assert recipe("weights=e4m3", head="pair") == Recipe(weight_format=E4M3, head="pair")
    assert recipe("e4m3,head=pair") == recipe("e4m3", "pair") == recipe("e4m3,head=single", "pair")
    assert recipe("e4m3,kv=e3m4,p=e3m4") == Recipe(weight_format=E4M3, activation_format=E4M3, p_format=E3M4)


@pytest.mark.parametrize("text, complaint", [
    ("huge", "Shape must be one of tiny, .*, not 'huge'"), ("lane=8", "Shape field must be one of lanes, .*, not 'lane'"),
    ("lanes=many", "Shape field lanes must be an integer, not 'many'"), ("lanes=0", "at least 1, not 0"),
    ("lanes=12", "power of two, at least 1, not 12"), ("lanes=8,lanes=8", "'lanes' must be given once"),
    ("tiny,halves=2", "even where two half-batches alternate, not 1"), ("tiny,halves=3,entries=6", "Half-batch count must be 1 or 2, not 3"),
    ("tiny,demo", "'demo' must be given once"), ("", "Shape must be a name or field=value"), (" ", "Shape must be"), (",", "Shape must be"),
    ("demo,", "nothing left out, not 'demo,'"), ("demo,,lanes=8", "nothing left out"), ("lanes=", "field=value, not 'lanes='"), ("=8", "not '=8'"),
    ("lanes=0x10", "an integer, not '0x10'"), ("lanes=٨", "not '٨'"), ("lanes=1_6", "not '1_6'"), ("slots=" + "9" * 5000, "an integer, not '99999999999999999999'"),
    ("kv_ecc=maybe", "kv_ecc must be 0 or 1, not 'maybe'"), ("source=disk", "'rom' or 'stream', not 'disk'"),
])
def test_wrong_shapes(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        hw_shape(text, models.DEMO)


@pytest.mark.parametrize("text, head, complaint", [
    ("int8", None, "one of e3m4, e4m3, not 'int8'"), ("gate=e3m4", None, "one of weights, .*, not 'gate'"),
    ("", None, "Format must be a name"), ("weights=e3m4,weights=e4m3", None, "'weights' must be given once"), (None, "triple", "'single' or 'pair', not 'triple'")])
def test_wrong_recipes(text, head, complaint):
    with pytest.raises(ValueError, match=complaint):
        recipe(text, head)
