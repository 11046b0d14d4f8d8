"""The constants of a machine that a wrong bit may be in: tables of units, with what they are when a bit is flipped."""
import dataclasses
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ...params.design import Design
from ...params.tables import (SCORE_FRACTION, SIGMOID_FRACTION, changed, exp2_thresholds, reciprocal_table,
                              rope_factors, rsqrt_table, sigmoid_table, softcap_table)

__all__ = ["Constant", "constants", "rope_entry"]


@dataclass(frozen=True)
class Constant:
    """A table of a unit.

    unit                    whose it is
    function, args          name of what gives it, in `hwgen.params.tables`, and for which arguments it is the unit's
                            (for all, if there are none)
    entries, bits, signed   its numbers
    replaced                callable: (entry, number) -> the table with that number instead
    valid                   callable: (such a table, entry) -> whether the circuits behind it are made for that entry
    """
    unit: str
    function: str
    entries: tuple
    bits: int
    signed: bool
    replaced: Callable[[int, int], Any]
    valid: Callable[[Any, int], bool]
    args: tuple = ()

    def flipped(self, entry: int, bit: int) -> Any:
        """The table with a bit of an entry wrong, or None where its unit is not made for that number."""
        value = self.entries[entry] & (1 << self.bits) - 1 ^ 1 << bit
        table = self.replaced(entry, value - (self.signed * (value >> self.bits - 1) << self.bits))
        return table if self.valid(table, entry) else None

    def changed(self, table: Any) -> AbstractContextManager[None]:
        """Context manager: within it the unit has that table."""
        return changed(self.function, table, *self.args)


def constants(design: Design) -> dict[str, Constant]:
    """{name: Constant} of the machine's tables that a wrong bit may be in; those of the sampler's noise and softcap are
    not among them."""
    found = {}
    lines: list[tuple] = [("rmsnorm", "rsqrt", rsqrt_table, (design.model.hidden_size, "rmsnorm"))]
    lines += [("qk_norm", name, rsqrt_table, (length, "qk_norm")) for name, length in _qk_lengths(design).items()]
    if design.block.activation in SIGMOID_FRACTION:
        lines.append(("swiglu", "sigmoid", sigmoid_table, (design.block.activation,)))
    for unit, name, function, args in [*lines, ("attention", "reciprocal", reciprocal_table, ())]:
        table = function(*args)
        for field, bits in (("base", table.base_bits), ("slope", table.slope_bits)):
            found[f"{name}_{field}"] = _line(unit, function.__name__, table, field, bits, args)
    if design.model.score_cap is not None:
        table = softcap_table(design.model.score_cap)
        for field, bits in (("base", table.base_bits), ("slope", table.slope_bits)):
            found[f"softcap_{field}"] = _capped(table, field, bits, design.model.score_cap)
    # only bits below the octave: what is compared in hardware
    steps = exp2_thresholds(design.recipe.p_format)
    found["exp2"] = Constant("attention", "exp2_thresholds", steps, SCORE_FRACTION, False,
                             lambda i, v: _with(steps, i, v + (steps[i] >> SCORE_FRACTION << SCORE_FRACTION)),
                             lambda other, i: all(a < b for a, b in zip(other, other[1:])))
    if design.model.ropes():
        both = rope_factors(design.model, design.hw.context)
        for which, name in enumerate(("rope_low", "rope_high")):
            found[name] = _angles(both, which)
    return found


def _qk_lengths(design):
    """{name of the table: length of the vectors that it is for} of the unit that norms queries and keys."""
    norm, model = design.block.qk_norm, design.model
    if norm is None:
        return {}
    if norm.span == "head" or model.q_size == model.kv_size:
        return {"qk_rsqrt": model.kv_size if norm.span == "projection" else model.head_dim}
    return {"q_rsqrt": model.q_size, "k_rsqrt": model.kv_size}


def _with(values, index, value):
    return *values[:index], value, *values[index + 1:]


def _line(unit, function, table, field, bits, args):
    """Bases or slopes of a `Pwl`."""
    # what comes behind has bits for these octaves
    entries, high = getattr(table, field), 1 << table.out_bits
    low = 1 << max(0, min(min(b, b + s) for b, s in zip(table.base, table.slope)).bit_length() - 1)
    return Constant(unit, function, entries, bits, field == "slope",
                    lambda i, v: dataclasses.replace(table, **{field: _with(entries, i, v)}),
                    lambda other, i: all(low <= y < high for y in (other.base[i], other.base[i] + other.slope[i])),
                    args)


def _capped(table, field, bits, cap):
    """Bases or slopes of the scores' softcap."""
    def end(other):
        # bits of the largest result, which is that of all beyond the table
        return (other.base[-1] + other.slope[-1]).bit_length()

    found = _line("attention", "softcap_table", table, field, bits, (cap,))
    return dataclasses.replace(found, valid=lambda other, i: end(other) == end(table) and all(
        0 <= y < 1 << end(table) for y in (other.base[i], other.base[i] + other.slope[i])))


def rope_entry(design: Design, entry: int) -> tuple[int, int, int, int]:
    """(row, index in `ModelShape.ropes`, pair, 0 for its cosine or 1 for its sine) of an entry of rope_low or
    rope_high."""
    pairs = design.model.head_dim // 2
    row, at = divmod(entry, 2 * pairs * len(design.model.ropes()))
    return row, *divmod(at // 2, pairs), at % 2


def _angles(both, which):
    """Cosines and sines, in turn, of the low or high part of positions."""
    rows, pairs = both[which], len(both[which][0])

    def replaced(index, value):
        row, pair = divmod(index // 2, pairs)
        other = _with(rows, row, _with(rows[row], pair, _with(rows[row][pair], index % 2, value)))
        return _with(both, which, other)

    # what a pointer longer than this turns has no bits
    return Constant("rope", "rope_factors", tuple(v for row in rows for pair in row for v in pair), 18, True, replaced,
                    lambda other, i: math.hypot(*other[which][i // 2 // pairs][i // 2 % pairs]) <= 2**16.5)
