"""Designs for benches: any model shape and any hardware shape, without a checkpoint."""
import dataclasses
import json
from pathlib import Path
import random

from hwgen.params import presets
from hwgen.params.block import Attend, Block, Matrix, Norm, Project, QkNorm, Store, dense
from hwgen.params.design import Design
from hwgen.params.formats import WEIGHTS, WIDE, fp8
from hwgen.params.hardware import HwShape, Override, Recipe, block_ranges
from hwgen.params.model import DivisorRopeScaling, LayerType, LinearRopeScaling, Llama3RopeScaling, ModelShape

MODEL = dict(name="tiny", vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
             num_attention_heads=2,
             num_key_value_heads=1, head_dim=8, rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=64,
             tie_word_embeddings=True)
HW = dict(lanes=8, columns=8, entries=2, slots=2, context=32, vector_lanes=4, attention_lanes=8, kv_block=8)


def small_design(**changes):
    """A `Design`; keywords override fields of `ModelShape`, `HwShape` or `Recipe` (formats may be given by name).

    ``block`` may be a dictionary of `hwgen.params.block.dense`'s parameters, its ``qk_norm`` one of `QkNorm`'s, or a
    manifest's block; and ``layer_types`` a list of dictionaries of `LayerType`'s: as JSON has them. ``formats`` is a
    recipe as a command line spells it.
    """
    model, hw, recipe, formats = dict(MODEL), dict(HW), {}, None
    for key, value in changes.items():
        if key == "formats":
            formats = value
        elif key == "block" and isinstance(value, dict):
            model[key] = block_of(value) if "steps" in value else dense(**value
                                                                        | ({"qk_norm": QkNorm(**value["qk_norm"])}
                                                                                   if value.get("qk_norm") else {}))
        elif key == "layer_types":
            model[key] = tuple(LayerType(**_with_scaling(of)) if isinstance(of, dict) else of for of in value)
        elif key == "rope_scaling":
            model |= _with_scaling({key: value})
        elif key == "eos_token_ids":
            model[key] = tuple(value)
        elif key in ModelShape.__dataclass_fields__:
            model[key] = value
        elif key in HwShape.__dataclass_fields__:
            hw[key] = value
        elif key in Recipe.__dataclass_fields__:
            recipe[key] = fp8(value, WIDE) if key.endswith("_format") and isinstance(value, str) else value
            if key == "overrides":      # as a manifest has them
                recipe[key] = tuple(Override(fp8(of["format"], WEIGHTS), of["project"],
                                             of["layers"] and tuple(of["layers"]))
                                    if isinstance(of, dict) else of for of in value)
        else:
            raise TypeError(f"{key} is a field of neither ModelShape, HwShape nor Recipe")
    return Design(model=ModelShape(**model), hw=HwShape(**hw),
                  recipe=dataclasses.replace(presets.recipe(formats), **recipe))


def random_formats(seed, changes):
    """A recipe with offsets of rows, matrices in E2M1, or both, as a command line spells it, for the shape that
    ``changes`` make."""
    rng = random.Random(f"formats {seed}")
    base = random.Random(f"base {seed}").choice(["e2m5", changes.get("weight_format", "e3m4")])
    layers, projects = changes.get("num_hidden_layers", MODEL["num_hidden_layers"]), ("qkv", "o", "gate_up", "down")
    kind = rng.choice(["rows", "all", "mixed", "mixed"])
    found = [f"weights={'e2m1' if kind == 'all' else base}"]
    if kind == "mixed":
        found += [f"{name}=e2m1" for name in projects if rng.random() < 0.4]
        if rng.random() < 0.7:
            first = rng.randrange(layers)
            last, part = rng.randrange(first, layers), rng.choice(["", *("." + name for name in projects)])
            found.append(f"layers.{first}-{last}{part}={rng.choice(['e2m1', base])}")
    if (changes.get("head") == "pair" or changes.get("head_bias")
            or kind != "rows" and rng.random() < 0.3):
        found.append(f"head={base}")
    elif kind == "mixed":
        found.append("head=e2m1")
    found.append(f"scales={'row' if kind == 'rows' or rng.random() < 0.7 else 'matrix'}")
    if any("=e2m1" in word for word in found):
        stored = -(-changes["head_dim"] // changes["attention_lanes"]) * changes["attention_lanes"]
        if stored != changes["head_dim"] and (stored % 32 or changes["head_dim"] % 32):
            found.append("block_range=0")
        elif rng.random() < 0.3:
            found.append(f"block_range={min(rng.randrange(7), block_ranges()[fp8(base, WEIGHTS)])}")
    return ",".join(found)


def with_formats(seed, changes):
    """The same shape with `random_formats`."""
    return {key: value for key, value in changes.items()
            if key != "weight_format"} | {"formats": random_formats(seed, changes)}


def changes_of(folder):
    """(manifest, changes): what an emitted design's manifest says, and what makes `small_design` that design."""
    file = Path(folder) / "manifest.json"
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        about = None
    parts = ("model", "hardware", "recipe", "derived")
    if not isinstance(about, dict) or not all(isinstance(about.get(part), dict) for part in parts):
        raise ValueError(f"Manifest must be JSON with {', '.join(parts)}, as `hwgen emit` writes it, not {file}")
    changes = {**about["model"], **about["hardware"], **about["recipe"]}
    design = small_design(**changes)
    wrong = [name for name, value in about["derived"].items() if isinstance(value, int)
             and getattr(design, name, value) != value]
    if wrong:
        raise ValueError(f"Design must be one that this version emits: {', '.join(wrong)} must be as derived here, "
                         f"not as in {folder}")
    return about, changes


def block_of(value):
    """The `Block` that a manifest has as a dictionary."""
    plain = iter((Store, Attend))       # have nothing but a name, and come in this order
    steps = [(Norm if "gain" in step else Project if "sink" in step else next(plain))(
        **step | ({"matrices": tuple(step["matrices"])} if "sink" in step else {})) for step in value["steps"]]
    return Block(**value | {"matrices": tuple(Matrix(**matrix) for matrix in value["matrices"]), "steps": tuple(steps),
                            "qk_norm": QkNorm(**value["qk_norm"]) if value["qk_norm"] else None})


def _with_scaling(of):
    """The same, with its RoPE scaling made from a dictionary of its fields, if it has one."""
    values = of.get("rope_scaling")
    if not isinstance(values, dict):
        return of
    for kind in (LinearRopeScaling, Llama3RopeScaling, DivisorRopeScaling):
        if set(values) == {field.name for field in dataclasses.fields(kind)}:
            fields = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            return of | {"rope_scaling": kind(**fields)}
    raise TypeError(f"RoPE scaling must have the fields of one kind, not {', '.join(values)}")


def random_changes(seed):
    """A valid shape, from a seed."""
    rng = random.Random(seed)
    vector = rng.choice([2, 4])
    kv_heads = rng.randint(1, 3)
    changes = dict(
        vector_lanes=vector, lanes=vector * rng.choice([1, 2, 4]), columns=vector * rng.choice([1, 2, 4]),
        attention_lanes=vector * rng.choice([1, 2]), entries=rng.randint(1, 5), hidden_size=rng.randint(1, 30),
        intermediate_size=rng.randint(1, 30), num_key_value_heads=kv_heads,
        num_attention_heads=kv_heads * rng.randint(1, 3),
        head_dim=2 * rng.randint(1, 8), head=rng.choice(["single", "pair"]), weight_format=rng.choice(["e3m4", "e4m3"]),
        activation_format=rng.choice(["e3m4", "e4m3"]), residual_fraction=rng.randint(8, 24))
    return changes | dict(dsp_columns=rng.randint(0, changes["columns"]))
