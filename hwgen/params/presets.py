"""Hardware shapes by name, smallest first, and how a command line spells a shape and a recipe."""
import dataclasses
import re
from dataclasses import dataclass

from .formats import fp8
from .hardware import HwShape, Recipe

__all__ = ["SHAPES", "Preset", "hw_shape", "recipe"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named hardware shape.

    Parameters
    ----------
    purpose : str           the one thing that it is for
    supported : bool        whether tests run a decoder of that shape; otherwise it is experimental
    shape : HwShape         its context is an upper limit: a shorter model gets its own
    """
    name: str
    purpose: str
    supported: bool
    shape: HwShape

    @property
    def status(self):
        return "supported" if self.supported else "experimental"


TINY = Preset(
    name="tiny", purpose="read its Verilog: the smallest that runs a model", supported=True,
    shape=HwShape(lanes=4, columns=4, vector_lanes=2, attention_lanes=4, context=64))

DEMO = Preset(
    name="demo", purpose="make demo: simulates the shipped model in seconds", supported=True,
    shape=HwShape(lanes=8, columns=16, entries=4, slots=4, vector_lanes=4, attention_lanes=8, sampler="gumbel"))

LATENCY_16X16 = Preset(
    name="latency-16x16", purpose="one user, an FPGA of medium size", supported=True,
    shape=HwShape(lanes=16, columns=16, vector_lanes=8, attention_lanes=16))

BATCH_16X16 = Preset(
    name="batch-16x16", purpose="several users: a weight is fetched once for eight entries", supported=True,
    shape=HwShape(lanes=16, columns=16, entries=8, slots=4, tile_beats=8, vector_lanes=8, attention_lanes=16, source="stream"))

LATENCY_32X32 = Preset(
    name="latency-32x32", purpose="one user, a model of 100 million parameters and more", supported=True,
    shape=HwShape(lanes=32, columns=32, vector_lanes=16, attention_lanes=64, source="stream"))

BATCH_32X32 = Preset(
    name="batch-32x32", purpose="sixteen users: two half-batches keep the array busy", supported=True,
    shape=HwShape(lanes=32, columns=32, entries=16, halves=2, slots=16, tile_beats=2, vector_lanes=16, attention_lanes=64, source="stream"))

LATENCY_64X64 = Preset(
    name="latency-64x64", purpose="one user, the latency end", supported=False,
    shape=HwShape(lanes=64, columns=64, vector_lanes=32, attention_lanes=64, source="stream"))

SHAPES = {preset.name: preset for preset in
          (TINY, DEMO, LATENCY_16X16, BATCH_16X16, LATENCY_32X32, BATCH_32X32, LATENCY_64X64)}


def _pairs(text, noun, known):
    """``a=1,b=2`` -> {"a": "1", "b": "2"}; a word without ``=`` is the value of ""."""
    found = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            raise ValueError(f"{noun.split()[0]} must be a name or field=value, with commas between them and nothing left out, not {text!r}")
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            key, value = "", part
        elif not key or not value:
            raise ValueError(f"{noun.split()[0]} must be a name or field=value, not {part!r}")
        if key not in known and key:
            raise ValueError(f"{noun} must be one of {', '.join(known)}, not {key!r}")
        if key in found:
            raise ValueError(f"{noun} {key or value!r} must be given once")
        found[key] = value
    return found


def _integer(key, text):
    """Plain decimal digits: int() would also take those of other scripts, and underscores."""
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"Shape field {key} must be an integer, not {text[:20]!r}")
    return int(text)


def hw_shape(text, model, default="demo"):
    """The HwShape that ``text`` spells: a preset's name, ``field=value`` pairs that override it, or both, with commas.

    Without a ``context`` it is the preset's, or the model's if that is shorter.

    Raises
    ------
    ValueError              for an unknown name or field, one that is there twice, nothing where one should be, or a value
                            that HwShape refuses
    """
    fields = {field.name: field.type for field in dataclasses.fields(HwShape)}
    found = _pairs(text, "Shape field", fields)
    name = found.pop("", default)
    if name not in SHAPES:
        raise ValueError(f"Shape must be one of {', '.join(SHAPES)}, or field=value, not {name!r}")
    shape = SHAPES[name].shape
    for key, value in found.items():
        if fields[key] is int:
            found[key] = _integer(key, value)
        elif fields[key] is bool:
            if value not in ("0", "1"):
                raise ValueError(f"Shape field {key} must be 0 or 1, not {value!r}")
            found[key] = value == "1"
    if "context" not in found:
        found["context"] = min(shape.context, model.longest_context)
    return dataclasses.replace(shape, **found)


def recipe(text=None, head=None):
    """The Recipe that ``text`` spells (None: the default's): one format for weights, activations, K and V, and ``field=value`` pairs after it.

    ``e4m3``, ``weights=e4m3,kv=e3m4``, ``e3m4,head=pair``. ``head``, if given, wins.
    """
    names = {"weights": "weight_format", "activations": "activation_format", "kv": "kv_format", "p": "p_format"}
    found = {} if text is None else _pairs(text, "Format of", [*names, "head"])
    changes = {}
    if "" in found:
        every = fp8(found.pop(""))
        changes = dict.fromkeys(("weight_format", "activation_format", "kv_format"), every)
    if head or "head" in found:
        changes["head"] = head or found["head"]
    changes |= {names[key]: fp8(value) for key, value in found.items() if key in names}
    return Recipe(**changes)
