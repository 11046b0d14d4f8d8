"""An adapter in codes: what the golden model computes with, and what the machine's memory for adapters holds."""
from dataclasses import dataclass

import numpy as np

from ..params.adapters import MAX_SHIFT
from ..params.block import Project
from ..params.design import Design
from ..params.formats import E2M1, Fp8
from .adapters import Adapter
from .checkpoint import ModelError
from .pack import matrix_rows, tile_beats, tiled_inputs
from .quantize import QuantizedModel, encode, scale_exponent, score_factor

__all__ = ["QuantizedAdapter", "QuantizedPart", "beat_exponent", "check_rank", "exponent_beat", "pack_adapter",
           "quantize_adapter", "random_adapter"]

#: Of B's codes and A's sums together, bits that stay free where the sums are as large as they can be: those of a text
#: are so much smaller.
_HEADROOM = 6
#: In E2M1, whose codes have fewer bits to give (measured: `tools/adapter_formats.py`).
_HEADROOM_E2M1 = 4


@dataclass(frozen=True, eq=False)
class QuantizedPart:
    """What an adapter has for a `Project` of a layer, in codes of the array's format.

    Row j of B has the scale of row j of the base's matrix, times 2**exponent; A has the scale 1, for its own is in
    ``exponent`` too.

    a, b : dict         name of a matrix -> uint8 [rank, inputs], uint8 [outputs, rank]
    exponent : int
    """
    a: dict
    b: dict
    exponent: int


@dataclass(frozen=True, eq=False)
class QuantizedAdapter:
    """``parts``: (project, layer) -> `QuantizedPart`. ``source``: for messages."""
    source: str
    parts: dict


def check_rank(adapter: Adapter, design: Design) -> None:
    """Refuse an `hwgen.models.adapters.Adapter` for which a machine has no room: ModelError, or ValueError if it has
    none for any."""
    rank = design.hw.adapter_rank
    if not design.hw.adapters:
        raise ValueError("Shape must have room for adapters: add adapters=1 to --shape")
    if adapter.rank > rank:
        raise ModelError(f"{adapter.source}: Rank of an adapter must be at most the machine's {rank}, not "
                         f"{adapter.rank}: add adapter_rank={adapter.rank} to --shape")


def quantize_adapter(adapter: Adapter, quantized: QuantizedModel, design: Design) -> QuantizedAdapter:
    """An `hwgen.models.adapters.Adapter` in codes, for a machine with adapters and its `QuantizedModel`.

    ModelError if its rank is too large for the machine, or what it adds is.
    """
    check_rank(adapter, design)
    parts = {}
    for layer, codes in enumerate(quantized.layers):
        for project in design.block.of(Project):
            found = {name: part for name in project.matrices
                     if (part := adapter.parts.get(f"model.layers.{layer}.{design.block.matrix(name).tensor}"))}
            if found:
                parts[project.name, layer] = _quantized(adapter, design, codes, project, layer, found)
    return QuantizedAdapter(adapter.source, parts)


def _quantized(adapter, design, codes, project, layer, found):
    fmt, act = design.array_format, design.recipe.activation_format
    a, b, scales = {}, {}, {}
    for name, part in found.items():
        factor = score_factor(design.model) if name == design.block.queries.name and not design.block.qk_norm else 1.0
        # rows of A alike, so that one scale suits A's sums; powers of two change nothing
        size = np.linalg.norm(part.a.astype(np.float64), axis=1)
        power = np.where(size > 0, np.frexp(size)[1], 0)
        a[name] = np.ldexp(part.a.astype(np.float64), -power[:, None])
        b[name] = np.ldexp(part.b.astype(np.float64) * part.scale * factor, power)
        matrix = getattr(codes, name)
        scales[name] = (design.stored_exponent(matrix)
                        + (0 if matrix.rows is None else matrix.rows.astype(np.int64)[:, None]))
    own = _scale(a, fmt)
    a = {name: encode(np.ldexp(values, -own), fmt) for name, values in a.items()}
    bound = _largest_sum(a, fmt) * act.max_value       # of A's sums
    # B's exponent is to those of the base's rows
    relative = {name: np.ldexp(part, -scales[name]) for name, part in b.items()}
    of_b = _scale(relative, fmt, scales)
    largest = _scale_of_sums(bound, act)
    headroom = _HEADROOM_E2M1 if fmt == E2M1 else _HEADROOM
    of_b += max(0, headroom - (of_b + own + largest)) // 2
    if of_b + own + largest > MAX_SHIFT:
        raise _too_large(adapter, project, layer)
    b = {name: encode(np.ldexp(part, -of_b), fmt) for name, part in relative.items()}
    if _part_of_room(design, project, _largest_sum(b, fmt) * bound) * 2.0 ** (of_b + own) > 1:
        raise _too_large(adapter, project, layer)
    return QuantizedPart(a, b, of_b + own)


def _scale(matrices, fmt, scales=None):
    """The exponent of matrices, name -> float64, with which no code clips; in fewer than 8 bits, or one less if the
    squared error is then the less. ``scales``: exponents to which they are, name -> of its rows."""
    holds = scale_exponent(max(float(np.abs(values).max(initial=0)) for values in matrices.values()), fmt)
    if fmt.bits == 8:
        return holds
    table, errors = fmt.values() * 2.0 ** fmt.unit_exp, []
    for e in (holds, holds - 1):
        errors.append(0.0)
        for name, values in matrices.items():
            off = np.ldexp(table[encode(np.ldexp(values, -e), fmt)], e) - values
            errors[-1] += float(np.square(np.ldexp(off, scales[name] if scales else 0)).sum())
    return holds - (errors[1] < errors[0])


def _largest_sum(codes, fmt):
    """The largest sum of a row's magnitudes in matrices of codes."""
    values = np.ldexp(np.abs(fmt.values().astype(np.float64)), fmt.unit_exp)
    return max(float(values[part].sum(axis=1).max()) for part in codes.values())


def _scale_of_sums(bound, act):
    """The exponent of A's sums as codes, where none is above ``bound`` before they are rounded to bf16."""
    return scale_exponent(bound * (1 + 2.0 ** -8), act)


def _part_of_room(design, project, product):
    """How much of the room of a step's accumulators its sums of B take, which are at most ``product`` in units of the
    base's sums.

    A's sums as codes are off by at most half of the last of their 5 (or 4) bits.
    """
    act = design.recipe.activation_format
    return product * (1 + 2.0 ** -act.man_bits) / (3 * design.matmul(project.name).cols * design.array_format.max_value
                                                   * act.max_value)


def random_adapter(design: Design, seed: int, whole: bool = True) -> QuantizedAdapter:
    """A `QuantizedAdapter` of any codes, for tests: as large as `quantize_adapter` lets in, with all ranks of all
    matrices, or if it is not ``whole`` with some of them, and smaller."""
    fmt, act, sizes = design.array_format, design.recipe.activation_format, design.model.matrices()
    rng, parts, rank = np.random.default_rng(seed), {}, design.hw.adapter_rank

    def codes(*shape):
        magnitudes = rng.integers(0, fmt.max_code + 1, shape).astype(np.uint8)
        return magnitudes | rng.integers(0, 2, shape).astype(np.uint8) << fmt.bits - 1

    for layer in range(design.layers):
        for project in design.block.of(Project):
            ranks = {name: rank if whole else int(rng.integers(1, rank + 1)) for name in project.matrices if whole
                     or rng.random() < 0.8}
            if not ranks:
                continue
            a, b = ({name: codes(*(count, sizes[name][1]) if of_a else (sizes[name][0], count))
                     for name, count in ranks.items()}
                    for of_a in (True, False))
            bound = _largest_sum(a, fmt) * act.max_value
            room = _part_of_room(design, project, _largest_sum(b, fmt) * bound)
            # frexp's mantissa is below 1
            most = min(MAX_SHIFT - _scale_of_sums(bound, act) if bound else 0, -int(np.frexp(room)[1]))
            parts[project.name, layer] = QuantizedPart(a, b, most - (0 if whole else int(rng.choice([0, 0, 1, 3, 8]))))
    return QuantizedAdapter("random adapter", parts)


def _too_large(adapter, project, layer):
    return ModelError(f"{adapter.source}: What an adapter adds must be small enough for the base's units, not as in "
                      f"{project.name} of layer {layer}: "
                      "is this the adapter's base?")


def exponent_beat(exponent: int, fmt: Fp8, beat_bytes: int) -> np.ndarray:
    """The beat of an exponent, in codes of a format: uint8 [beat_bytes]."""
    count, codes = -(-16 // fmt.bits), np.zeros(beat_bytes, np.uint8)
    codes[:count] = (exponent & 0xFFFF) >> fmt.bits * np.arange(count) & (1 << fmt.bits) - 1
    return codes


def beat_exponent(codes: np.ndarray, fmt: Fp8) -> int:
    """The exponent of such a beat."""
    word = sum(int(code) << i * fmt.bits for i, code in enumerate(codes[:-(-16 // fmt.bits)]))
    return (word + 0x8000 & 0xFFFF) - 0x8000


def pack_adapter(adapter: QuantizedAdapter, design: Design) -> np.ndarray:
    """The machine's memory of an adapter: uint8 [design.adapter_map.beats, beat_bytes]."""
    hw, rank = design.hw, design.hw.adapter_rank
    beats = np.zeros((design.adapter_map.beats, hw.beat_bytes), np.uint8)
    projects = {project.name: project for project in design.block.of(Project)}
    for place in design.adapter_map:
        part, project = adapter.parts.get((place.project, place.layer)), projects[place.project]
        if part is None:
            continue
        beats[place.address] = exponent_beat(part.exponent, design.array_format, hw.beat_bytes)
        sizes, count = design.model.matrices(), rank * len(project.matrices)
        a, b = np.zeros((count, sizes[project.matrices[0]][1]), np.uint8), {}
        for i, name in enumerate(project.matrices):
            b[name] = np.zeros((sizes[name][0], count), np.uint8)
            if name in part.a:
                rows = slice(i * rank, i * rank + len(part.a[name]))
                a[rows], b[name][:, rows] = part.a[name], part.b[name]
        beats[place.a_address:place.b_address] = tile_beats(design, place.a, tiled_inputs(a, design, project))
        beats[place.b_address:place.end] = tile_beats(design, place.b, matrix_rows(b, design, project))
    return beats
