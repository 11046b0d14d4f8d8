"""Hardware shapes by name, smallest first, and how a command line spells a shape and a recipe."""
import dataclasses
import inspect
import re
from dataclasses import dataclass
from typing import Any

from .block import LLAMA, Project
from .formats import E2M1, E2M5, FORMATS, WEIGHTS, WIDE, fp8
from .hardware import HwShape, Override, Recipe
from .model import ModelShape
from .stream import HEAD

__all__ = ["SHAPES", "Preset", "field_meanings", "fraction_is_auto", "hw_shape", "named_fields", "recipe"]


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
    def status(self) -> str:
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
    shape=HwShape(lanes=16, columns=16, entries=8, slots=4, tile_beats=8, vector_lanes=8, attention_lanes=16,
                  source="stream"))

LATENCY_32X32 = Preset(
    name="latency-32x32", purpose="one user, a model of 100 million parameters and more", supported=True,
    shape=HwShape(lanes=32, columns=32, vector_lanes=16, attention_lanes=64, source="stream"))

BATCH_32X32 = Preset(
    name="batch-32x32", purpose="sixteen users: two half-batches keep the array busy", supported=True,
    shape=HwShape(lanes=32, columns=32, entries=16, halves=2, slots=16, tile_beats=2, vector_lanes=16,
                  attention_lanes=64, source="stream"))

LATENCY_64X64 = Preset(
    name="latency-64x64", purpose="one user, the latency end", supported=False,
    shape=HwShape(lanes=64, columns=64, vector_lanes=32, attention_lanes=64, source="stream"))

SHAPES = {preset.name: preset for preset in
          (TINY, DEMO, LATENCY_16X16, BATCH_16X16, LATENCY_32X32, BATCH_32X32, LATENCY_64X64)}


def _pairs(text, noun, known, pattern=None):
    """``a=1,b=2`` -> {"a": "1", "b": "2"}; a word without ``=`` is the value of "". Keys may also be of a ``pattern``
    (text for messages, expression)."""
    found = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            raise ValueError(f"{noun.split()[0]} must be a name or field=value, with commas between them and "
                             f"nothing left out, not {text!r}")
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            key, value = "", part
        elif not key or not value:
            raise ValueError(f"{noun.split()[0]} must be a name or field=value, not {part!r}")
        if key not in known and key and not (pattern and re.fullmatch(pattern[1], key)):
            raise ValueError(f"{noun} must be one of {', '.join((*known, *([pattern[0]] if pattern else [])))}, "
                             f"not {key!r}")
        if key in found:
            raise ValueError(f"{noun} {key or value!r} must be given once")
        found[key] = value
    return found


_AUTO = "residual_fraction"


def _integer(key, text):
    """Plain decimal digits: int() would also take those of other scripts, and underscores."""
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"Shape field {key} must be an integer{' or auto' if key == _AUTO else ''}, not {text[:20]!r}")
    return int(text)


def fraction_is_auto(text: str) -> bool:
    """Whether a spelled shape leaves residual_fraction to the model."""
    return _pairs(text, "Shape field", HwShape.__dataclass_fields__).get(_AUTO, "auto") == "auto"


def field_meanings() -> dict[str, tuple[Any, str]]:
    """{field of `HwShape`: (its default, its meaning)}, from the docstring of the class."""
    said = re.split(r"^(?=\w)", (inspect.getdoc(HwShape) or "").partition("----------\n")[2], flags=re.MULTILINE)
    found = {}
    for paragraph in filter(str.strip, said):
        names, text = re.findall(r"\A((?:\w+, )*\w+) {2,}(.*)", paragraph, re.DOTALL)[0]
        for name in names.split(", "):
            found[name] = HwShape.__dataclass_fields__[name].default, " ".join(text.split())
    return found


def named_fields(text: str) -> set[str]:
    """The fields that a spelled shape names, without its preset's name."""
    return {*_pairs(text, "Shape field", HwShape.__dataclass_fields__)} - {""}


def hw_shape(text: str, model: ModelShape, default: str = "demo") -> HwShape:
    """The HwShape that ``text`` spells: a preset's name, ``field=value`` pairs that override it, or both, with commas.

    ``residual_fraction=auto`` is its default, which `plan.ranges.fitting_fraction` may change. Without a ``context`` it
    is the preset's, or the model's if that is shorter.

    Raises
    ------
    ValueError              for an unknown name or field, one that is there twice, nothing where one should be, or a
                            value that HwShape refuses
    """
    fields = {field.name: field.type for field in dataclasses.fields(HwShape)}
    found = _pairs(text, "Shape field", fields)
    name = found.pop("", default)
    if name not in SHAPES:
        raise ValueError(f"Shape must be one of {', '.join(SHAPES)}, or field=value, not {name!r}")
    shape = SHAPES[name].shape
    if found.get(_AUTO) == "auto":
        del found[_AUTO]
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


#: Names of the projects of a layer, which are those of every block.
_PROJECTS = tuple(step.name for step in LLAMA.of(Project))
_LAYERS = ("layers.N, layers.FIRST-LAST or layers.FIRST-LAST.PROJECT",
           rf"layers\.([0-9]{{1,4}})(?:-([0-9]{{1,4}}))?(?:\.({'|'.join(_PROJECTS)}))?")


def recipe(text: str | None = None, head: str | None = None) -> Recipe:
    """The Recipe that ``text`` spells (None: the default's): one format for weights, activations, K and V, and
    ``field=value`` pairs after it.

    ``e4m3``, ``weights=e4m3,kv=e3m4``, ``e3m4,head=pair``. ``head``, if given, wins.

    Keys and values may be in e2m5 too. Weights may be in e2m5, instead of the other formats of 8 bits, and in e2m1:
    ``weights=`` (all matrices; tables of embeddings have 8 bits), ``head=`` (the LM head), a project's name
    (``down=``), ``layers.2-5=``, ``layers.3.down=``; what comes later counts, and must leave something of what came
    before. ``scales=row`` or ``matrix``: with e2m1 or e2m5 somewhere it is row if it is not said. ``block_range=N``.
    """
    names = {"weights": "weight_format", "activations": "activation_format", "kv": "kv_format", "p": "p_format"}
    found = {} if text is None else _pairs(text, "Format field",
                                           [*names, "head", "scales", "block_range", *_PROJECTS], _LAYERS)
    changes: dict[str, Any] = {}
    overrides = []
    if "" in found:
        every = fp8(found.pop(""))
        changes = dict.fromkeys(("weight_format", "activation_format", "kv_format"), every)
    for key, value in found.items():
        if key == "scales":
            changes[key] = value
        elif key == "block_range":
            changes[key] = _integer(key, value)
        elif key == "head" and value not in WEIGHTS:
            changes[key] = value
        elif key in names and key != "weights":
            changes[names[key]] = fp8(value, WIDE if key == "kv" else FORMATS)
        else:
            overrides.append(_override(key, fp8(value, WEIGHTS)))
    if head:
        changes["head"] = head
    wide = [override.format for override in overrides if override.format != E2M1]
    if first := found.get("weights"):
        if first != E2M1.name:
            changes["weight_format"] = fp8(first, WEIGHTS)
        elif wide:      # all that is not said is in e2m1
            changes["weight_format"] = wide[0]
    if other := set(wide) - {changes.get("weight_format", Recipe().weight_format)}:
        raise ValueError("Format of 8 bits must be the same for all weights that are not in e2m1 "
                         f"(weights={other.pop()})")
    for i, earlier in enumerate(overrides):
        if later := next((later for later in overrides[i + 1:] if later.replaces(earlier)), None):
            raise ValueError(f"Format {earlier} must stand behind {later}, which is of all that it is of, and what "
                             "comes later counts")
    while overrides and overrides[0].format != E2M1 and overrides[0].layers is None:    # it says what holds anyway
        del overrides[0]
    fine = changes.get("weight_format") == E2M5 or any(override.format == E2M1 for override in overrides)
    scales = {"scales": "row"} if fine else {}
    fields: dict[str, Any] = scales | {"overrides": tuple(overrides)} | changes
    return Recipe(**fields)


def _override(key, fmt):
    """The `Override` of a key of a recipe."""
    if key == "weights":
        return Override(fmt)
    if not key.startswith("layers"):
        return Override(fmt, HEAD if key == "head" else key)
    first, last, project = re.findall(rf"\A(?:{_LAYERS[1]})\Z", key)[0]
    return Override(fmt, project or "", (int(first), int(last or first)))
