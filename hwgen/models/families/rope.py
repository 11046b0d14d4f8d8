"""RoPE as config.json says it, in any family."""
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...params.checks import check_number, shown
from ...params.model import DivisorRopeScaling, LinearRopeScaling, Llama3RopeScaling
from ..json_file import take
from ..options import Options

if TYPE_CHECKING:
    from .family import Given

__all__ = ["Rope", "nested_rope", "read_rope", "yarn"]

_KINDS = ("default", "linear", "llama3", "dynamic", "yarn", "longrope")


@dataclass(frozen=True)
class Rope:
    """Rotary embeddings of a layer.

    theta, scaling      as in `ModelShape`
    factor              of cosines and sines, or 1
    context             positions for which it is this, or None: no limit of its own
    """
    theta: float
    scaling: LinearRopeScaling | DivisorRopeScaling | Llama3RopeScaling | None = None
    factor: float = 1.0
    context: int | None = None


def read_rope(given: "Given", head_dim: int, context: int) -> tuple[dict[str | None, Rope], int]:
    """(`Rope` by layer type, elements of a head that are turned) of a configuration; the layer type is None where there
    is one for all.

    ``rope_scaling``, the older name, takes the place of ``rope_parameters`` where both are there, theta included: theta
    is then the top level's ``rope_theta``, or the family's own. The original context of the top level goes before that
    in there.
    """
    options, about, where = given.options, given.about, given.where
    old, new = options.take("rope_scaling", dict, {}), options.take("rope_parameters", dict, given.family.rope_default)
    name = "rope_scaling" if old else "rope_parameters"
    if old and new and old != new:
        about.warnings.append(f"{where}: rope_scaling is taken and rope_parameters is not, as transformers does where "
                              "both are given")
    for key, value in (old or new).items():
        if isinstance(value, dict):
            raise ValueError(f"Option {name} must be one for all layers, not one for {shown(key)}")
    rope = Options(old or new, f"{name}.")
    return {None: one_rope(given, rope, name, head_dim, context)}, turned(given, rope, head_dim)


def turned(given: "Given", rope: Options, head_dim: int) -> int:
    """Elements of a head that are turned, of which some families have a part: as transformers rounds it."""
    family, key = given.family, given.family.partial_name
    partial = rope.take("partial_rotary_factor", float, given.options.take(key, float, family.defaults.get(key, 1.0)))
    if key not in family.defaults and partial != 1:
        raise ValueError(f"Partial rotary factor must be 1, not {shown(partial)}")
    if not 0 <= partial <= 1:
        raise ValueError(f"Partial rotary factor must be 0 to 1, not {shown(partial)}")
    return int(head_dim * partial)


def nested_rope(local_theta: float, local_key: str | None = None
                ) -> Callable[["Given", int, int], tuple[dict[str | None, Rope], int]]:
    """Reads one RoPE for layers with a window and one for those without: ``rope_parameters`` has an object for each,
    and ``rope_scaling`` is added to the latter's. A theta that is not there is that of ``local_key`` at the top level,
    or ``local_theta``; of layers without a window ``rope_theta``, or the family's."""
    def read(given, head_dim, context):
        options = given.options
        old, new = (options.take(name, dict, {}) for name in ("rope_scaling", "rope_parameters"))
        ropes = {kind: take(new, kind, dict, {}) for kind in ("full_attention", "sliding_attention")}
        if old and new and "full_attention" not in new:
            raise ValueError("Option rope_parameters must have full_attention where rope_scaling is there too")
        flat = [f"rope_parameters.{key}" for key in new if key not in ropes]
        if flat:
            given.about.warnings.append(f"{given.where}: {', '.join(flat)} changes nothing of the layers' RoPE, in "
                                        "transformers neither")
        ropes["full_attention"] = ropes["full_attention"] | old
        found, own = {}, given.family.defaults["rope_theta"]
        for kind, key, theta in (("full_attention", "rope_theta", own), ("sliding_attention", local_key, local_theta)):
            rope = Options(ropes[kind], f"rope_parameters.{kind}.")
            if "truncate" in rope:
                raise ValueError(f"Option rope_parameters.{kind}.truncate must be missing: transformers does not look "
                                 "for it there")
            found[kind] = one_rope(given, rope, f"rope_parameters.{kind}", head_dim, context, f" of {kind}",
                                   (key, theta))
        return found, head_dim

    return read


def one_rope(given: "Given", rope: Options, name: str, head_dim: int, context: int, label: str = "",
             top: tuple[str | None, float] | None = None) -> Rope:
    """The `Rope` of an object ``name`` of options, ``rope``. ``label`` goes behind the notes' names; ``top`` is the
    name of theta at the top level and its default, of a RoPE that is one of several."""
    options, about, where = given.options, given.about, given.where
    key, default = top or (given.family.theta_name, given.family.defaults["rope_theta"])
    top_theta = options.raw(key, default) if key else default
    theta = rope.raw("rope_theta", top_theta)
    said = f"{name}.rope_theta" if "rope_theta" in rope else key if key in options else "transformers' default"
    if "rope_theta" in rope and key in options and top_theta != theta:
        about.warnings.append(f"{where}: {said} {shown(theta)} is taken and {key} {shown(top_theta)} is not, as "
                              "transformers does")
    old_kind = rope.raw("type", "default")
    kind = rope.raw("rope_type", old_kind)
    kind = given.family.rope_types.get(kind, kind) if isinstance(kind, str) else kind
    if kind not in given.family.rope_types.get("", _KINDS):
        raise ValueError(f"RoPE type must be one of {', '.join(given.family.rope_types.get('', _KINDS))}, not "
                         f"{shown(kind)}")
    size = turned(given, rope, head_dim)

    def original():
        inner = rope.take("original_max_position_embeddings", int, context, low=2)
        if top:
            return inner
        default = given.family.defaults.get("original_max_position_embeddings", inner)
        return options.take("original_max_position_embeddings", int, default, low=2)

    check_number("RoPE theta", theta)
    found, words = (_MAKERS | given.family.rope_makers)[kind](rope, theta, size, context, original)
    about.notes[f"RoPE theta{label}"] = f"{theta} ({said})"
    about.notes[f"RoPE scaling{label}"] = f"{words} ({name})" if words else "none"
    if found.context is not None and found.context < context:
        about.notes[f"RoPE scaling{label}"] += f": the context is at most {found.context}, where the short factors end"
    ignored = rope.left({"finetuned": ..., "original_max_position_embeddings": ... if kind == "default" else ()})
    if ignored:
        about.warnings.append(f"{where}: {', '.join(ignored)} changes nothing of a {kind} RoPE, in "
                              "transformers neither")
    return found


def _default(rope, theta, size, context, original):
    return Rope(theta), ""


def _linear(rope, theta, size, context, original):
    scaling = LinearRopeScaling(factor=rope.take("factor", float))
    return Rope(theta, scaling), f"linear, factor {scaling.factor:g}"


def _dynamic(rope, theta, size, context, original):
    """Up to max_position_embeddings, which no machine exceeds, it is no scaling."""
    factor = rope.take("factor", float)
    return Rope(theta), f"dynamic, factor {factor:g}, which changes nothing within {shown(context)} positions"


def _llama3(rope, theta, size, context, original):
    scaling = Llama3RopeScaling(**{key: rope.take(key, float)
                                   for key in ("factor", "low_freq_factor", "high_freq_factor")},
                                original_max_position_embeddings=original())
    return Rope(theta, scaling), (f"llama3, factor {scaling.factor:g} over {scaling.original_max_position_embeddings} "
                                  f"positions, between {scaling.low_freq_factor:g} and {scaling.high_freq_factor:g} "
                                  "turns")


def yarn(rope: Options, theta: float, size: int, context: int, original: Callable[[], int]) -> tuple[Rope, str]:
    """YaRN (Peng et al. 2023, arXiv 2309.00071) as transformers has it: a ramp from frequencies that stay to those
    divided by the factor."""
    factor, positions = rope.take("factor", float), original()
    check_number("RoPE scaling factor", factor)
    if theta <= 1:
        raise ValueError(f"RoPE theta must be above 1 with yarn, not {shown(theta)}")
    fast, slow = (rope.take(key, float, 0.0) or default for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0)))
    numerator, denominator = (rope.take(key, float, 0.0) for key in ("mscale", "mscale_all_dim"))
    given = rope.take("attention_factor", float, None)
    low, high = (size * math.log(positions / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (fast, slow))
    if rope.take("truncate", bool, True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = np.clip((np.arange(size // 2) - low) / (high - low if high != low else 0.001), 0, 1)
    stay = 1 - ramp + ramp / factor
    if numerator and denominator:
        both = _magnitude(factor, numerator) / _magnitude(factor, denominator)
    else:
        both = _magnitude(factor, 1)
    attention = both if given is None else given
    return (Rope(theta, DivisorRopeScaling(divisors=tuple(map(float, 1 / stay))), attention),
            f"yarn, factor {factor:g} over {positions} positions, attention factor {attention:g}")


def _magnitude(factor, scale):
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1


def _longrope(rope, theta, size, context, original):
    """LongRoPE: a divisor for each frequency, other ones for texts beyond the original context. Here a context is at
    most that long."""
    short, long = (rope.take(f"{key}_factor", list, of=float) for key in ("short", "long"))
    for key, values in (("short", short), ("long", long)):
        if len(values) != size // 2:
            raise ValueError(f"RoPE {key}_factor must be {size // 2} numbers, not {len(values)}")
    positions, factor, attention = original(), rope.take("factor", float,
                                                         None), rope.take("attention_factor", float, None)
    factor = context / positions if factor is None else factor
    check_number("RoPE scaling factor", factor)
    if attention is None:
        attention = math.sqrt(1 + math.log(factor) / math.log(positions)) if factor > 1 else 1.0
    return (Rope(theta, DivisorRopeScaling(divisors=tuple(short)), attention, positions),
            f"longrope, short factors, up to {positions} positions, attention factor {attention:g}")


_MAKERS = {"default": _default, "linear": _linear, "dynamic": _dynamic, "llama3": _llama3, "yarn": yarn,
           "longrope": _longrope}
