import dataclasses

import pytest

from hwgen.params import model as models
from hwgen.params.design import Design
from hwgen.params.formats import E2M1, E2M5, E3M4, E4M3
from hwgen.params.hardware import HwShape, Override, Recipe
from hwgen.params.presets import SHAPES, field_meanings, hw_shape, recipe


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


def test_recipe_with_e2m1():
    assert recipe("scales=row") == Recipe(scales="row") and recipe("e3m4,head=e3m4") == recipe("down=e3m4") == Recipe()
    mixed = recipe("weights=e2m1,head=e4m3,layers.0-1=e4m3,layers.1.down=e2m1,block_range=2")
    assert (mixed.weight_format, mixed.activation_format, mixed.scales, mixed.block_range) == (E4M3, E3M4, "row", 2)
    found = {(name, layer): str(mixed.format_of(name, layer)) for name in ("qkv", "down") for layer in range(3)}
    assert found == {("qkv", 0): "e4m3", ("down", 0): "e4m3", ("qkv", 1): "e4m3", ("down", 1): "e2m1",
                     ("qkv", 2): "e2m1",
                     ("down", 2): "e2m1"}
    assert mixed.format_of("head") == E4M3 and recipe("weights=e2m1").format_of("head") == E2M1
    assert recipe("layers.3-5=e2m1").format_of("head") == recipe("layers.3-5=e2m1").format_of("o", 2) == E3M4
    assert recipe("e4m3,down=e2m1,scales=matrix") == Recipe(weight_format=E4M3, activation_format=E4M3, kv_format=E4M3,
                                                            overrides=(Override(E2M1, "down"),))
    assert recipe("layers.0-1=e3m4").scales == "matrix"
    assert recipe("head=e2m1,layers.0-1=e2m1,down=e3m4").format_of("down", 1) == E3M4
    assert repr(Recipe()).count("=") == 5 + 4 * 5 and "overrides" in repr(mixed)


def test_recipe_with_e2m5():
    """Of weights, with offsets of rows, and of keys and values."""
    assert recipe("weights=e2m5") == Recipe(weight_format=E2M5, scales="row")
    assert recipe("weights=e2m5,scales=matrix") == Recipe(weight_format=E2M5)
    mixed = recipe("weights=e2m1,head=e2m5,layers.1.down=e2m5")
    assert (mixed.weight_format, mixed.format_of("down", 1), mixed.format_of("down", 0),
            mixed.scales) == (E2M5, E2M5, E2M1, "row")
    assert recipe("kv=e2m5") == Recipe(kv_format=E2M5)
    with pytest.raises(TypeError, match="^p_format must be one of the FP8 formats e3m4 and e4m3, not Fp8"):
        Recipe(p_format=E2M5)


@pytest.mark.parametrize("text, complaint", [
    ("huge", "Shape must be one of tiny, .*, not 'huge'"),
    ("lane=8", "Shape field must be one of lanes, .*, not 'lane'"),
    ("lanes=many", "Shape field lanes must be an integer, not 'many'"), ("lanes=0", "at least 1, not 0"),
    ("lanes=12", "power of two, at least 1, not 12"), ("lanes=8,lanes=8", "'lanes' must be given once"),
    ("tiny,dsp_columns=1,dsp_pairs=2", "Column pair count with multipliers must be 0 to 1, of the 3 columns without "
                                       "their own, not 2"),
    ("tiny,halves=2", "even where two half-batches alternate, not 1"),
    ("tiny,halves=3,entries=6", "Half-batch count must be 1 or 2, not 3"),
    ("tiny,demo", "'demo' must be given once"), ("", "Shape must be a name or field=value"), (" ", "Shape must be"),
    (",", "Shape must be"),
    ("demo,", "nothing left out, not 'demo,'"), ("demo,,lanes=8", "nothing left out"),
    ("lanes=", "field=value, not 'lanes='"),
    ("=8", "not '=8'"),
    ("lanes=0x10", "an integer, not '0x10'"), ("lanes=٨", "not '٨'"), ("lanes=1_6", "not '1_6'"),
    ("slots=" + "9" * 5000, "an integer, not '99999999999999999999'"),
    ("residual_fraction=AUTO", "an integer or auto, not 'AUTO'"),
    ("kv_ecc=maybe", "kv_ecc must be 0 or 1, not 'maybe'"),
    ("source=disk", "'rom', 'stream' or 'wired', not 'disk'"),
    ("source=wired", "Entry count must be 1 where matrices are logic, not 4"),
    ("tiny,source=wired,halves=2", "Half-batch count must be 1 where"),
    ("tiny,source=wired,dsp_pairs=1", "Column pair count with multipliers must be 0 where"),
    ("tiny,source=wired,adapters=2", "Adapter count must be 0, 1, 3 or 7"),
    ("tiny,wire_levels=2", r"must be 1 where no matrices are logic \(source=wired\), not 2"),
    ("tiny,source=wired,wire_levels=0", "Adders behind each other must be 1 to 64, not 0"),
    ("tiny,wire_matrices=o", r"must be all where none are \(add source=wired\), not 'o'"),
    ("tiny,source=wired,wire_matrices=o+o", r"must be named once each, not 'o\+o'"),
])
def test_wrong_shapes(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        hw_shape(text, models.DEMO)


@pytest.mark.parametrize("text, head, complaint", [
    ("int8", None, "one of e3m4, e4m3, not 'int8'"),
    ("gate=e3m4", None, "Format field must be one of weights, .*, not 'gate'"),
    ("", None, "Format must be a name"), ("weights=e3m4,weights=e4m3", None, "'weights' must be given once"),
    (None, "triple", "'single' or 'pair', not 'triple'"),
    ("e2m1", None, "one of e3m4, e4m3, not 'e2m1'"), ("kv=e2m1", None, "one of e3m4, e4m3, e2m5, not 'e2m1'"),
    ("e2m5", None, "one of e3m4, e4m3, not 'e2m5'"),
    ("weights=e2m5,activations=e2m5", None, "one of e3m4, e4m3, not 'e2m5'"),
    ("weights=e3m4,head=e2m5", None, "the same for all"),
    ("weights=int4", None, "one of e3m4, e4m3, e2m5, e2m1, not 'int4'"),
    ("head=e4m3", None, r"the same for all weights that are not in e2m1 \(weights=e4m3\)"),
    ("weights=e2m1,head=e4m3,down=e3m4", None, "the same for all"),
    ("layers.5-2=e2m1", None, "the first one before the last, not layers.5-2=e2m1"),
    ("layers.x=e2m1", None, "layers.FIRST-LAST.PROJECT, not 'layers.x'"),
    ("layers.5-2=e3m4", None, "the first one before the last, not layers.5-2=e3m4"),
    ("down=e2m1,weights=e3m4", None, "down=e2m1 must stand behind weights=e3m4"),
    ("head=e3m4,weights=e2m1", None, "head=e3m4 must stand behind weights=e2m1"),
    ("layers.1-2.o=e2m1,layers.0-2=e3m4", None, "layers.1-2.o=e2m1 must stand behind layers.0-2=e3m4"),
    ("layers.0=e2m1,layers.0-0=e3m4", None, "must stand behind"),
    ("layers.١=e2m1", None, "not 'layers.١'"), ("scales=column", None, "'matrix' or 'row', not 'column'"),
    ("down=e2m1,block_range=15", None, "Block range must be 0 to 14, not 15"), ("block_range=x", None, "an integer")])
def test_wrong_recipes(text, head, complaint):
    with pytest.raises(ValueError, match=complaint):
        recipe(text, head)


@pytest.mark.parametrize("text, shape, complaint", [
    ("layers.4-5=e2m1", {}, "0 to 4 with demo, not layers.4-5=e2m1"),
    ("layers.99=e3m4", {}, "0 to 4 with demo, not layers.99-99=e3m4"),
    ("block_range=2", {}, "left out where no matrix is in e2m1"),
    ("down=e2m1,block_range=7", {}, "at most 6 in an array of e3m4, not 7"),
    ("o=e2m1", dict(attention_lanes=32), "must be a multiple of 32 attention lanes"),
    ("scales=row", dict(tile_beats=16, columns=64, lanes=4), "Beats per tile 16 must be at most 8")])
def test_formats_that_do_not_fit(text, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        Design(model=models.DEMO, hw=HwShape(**shape), recipe=recipe(text))


def test_a_block_range_for_which_no_array_has_room():
    model = dataclasses.replace(models.DEMO, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="Block range must be at most 12 in an array of e4m1, not 13"):
        Design(model=model, hw=HwShape(), recipe=recipe("weights=e2m1,block_range=13"))


def test_each_field_of_a_shape_is_explained():
    meanings = field_meanings()
    assert {*meanings} == {field.name for field in dataclasses.fields(HwShape)}
    assert all(len(said) > 10 and "----" not in said for _, said in meanings.values())
