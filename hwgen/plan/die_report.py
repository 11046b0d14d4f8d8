"""A planned die in words, and beside the chip that is published."""
import math
from collections.abc import Iterator
from typing import Any

from ..params.model import LLAMA3_70B, PRESETS
from .assumed import listed
from .die import Plan, read
from .published import ARITHMETIC, HC1, Arithmetic, Published, chips_for, matrix_units
from .summary import formats

__all__ = ["as_json", "bits_of", "of_bits", "operations_a_second", "report", "rows_beside"]


def of_bits(found: Plan, bits: float) -> float:
    """Transistors of the same die, if all weights of the ROM had so many bits."""
    die = found.die
    return (found.total - found.transistors["ROM"] + die.model.parameter_count * bits * die.rom_transistors
            * (1 + die.rom_overhead))


def bits_of(found: Plan, transistors: float) -> float:
    """Bits a weight with which the same die has so many transistors."""
    die, left = found.die, transistors - found.total + found.transistors["ROM"]
    return left / (die.model.parameter_count * die.rom_transistors * (1 + die.rom_overhead))


def rows_beside(found: Plan, chip: Published = HC1) -> list[tuple[str, float | None, float, str]]:
    """[(name, published, planned, how the published one is known)], numbers; None: not known."""
    weights, read_now, read_there = found.die.model.parameter_count, found.speed * found.read, chip.tokens * found.read
    rest = found.total - found.transistors["ROM"]
    their_rest = chip.transistors - weights * chip.low_bits / chip.bits_per_transistor
    said = f"at most: {chip.low_bits:g} bits a weight, {chip.bits_per_transistor:g} bits a transistor, as it says"
    return [("tokens/s of a user", chip.tokens, found.speed, "published"),
            ("weights, 1e9", weights / 1e9, weights / 1e9, "its model's"),
            ("transistors, 1e9", chip.transistors / 1e9, found.total / 1e9, "published"),
            ("transistors a weight", chip.transistors / weights, found.per_weight, "derived"),
            ("area, mm2", chip.mm2, found.mm2, "published"),
            ("million transistors a mm2", chip.transistors / chip.mm2 / 1e6, found.die.density, "derived"),
            ("weights read a second, 1e12", read_there / 1e12, read_now / 1e12, "derived"),
            ("weights read a second and million transistors, 1e6", read_there / chip.transistors,
             read_now / found.total, "derived"),
            ("bits a weight", None, sum(found.rom.values()) / weights,
             f"a mix of {chip.low_bits:g} and {chip.high_bits:g}"),
            ("transistors a weight without the ROM", their_rest / weights, rest / weights, said)]


def operations_a_second(found: Plan, of: Arithmetic = ARITHMETIC) -> dict[str, float]:
    """{chip: operations a second that it does}: two for each multiplication that counts."""
    return {"H100": of.gpu_flops * of.gpu_used, "Sohu": of.sohu_tokens * 2 * LLAMA3_70B.parameter_count / of.sohu_chips,
            "HC1": HC1.tokens * 2 * read(PRESETS[HC1.model]),
            "this die": found.speed * found.die.users * 2 * found.read}


def as_json(found: Plan) -> dict[str, Any]:
    """All of it, for programs."""
    rows = [dict(zip(("name", "value", "source"), row)) for of in (found.die, HC1, ARITHMETIC) for row in listed(of)]
    die, hw, (engines, heads, parts) = found.die, found.design.hw, found.engines
    return {
        "kind": "projected",
        "asked": {"model": die.model.name, "tokens_per_second": die.tokens, "users": die.users, "context": die.context,
                  "formats": formats(found.design.recipe)},
        "assumptions": rows,
        "planned": {
            "lanes": hw.lanes, "columns": hw.columns, "multipliers": found.multipliers, "tiles": found.tiles,
            "engines": {"all": engines, "groups": heads, "parts": parts}, "cycles": found.cycles,
            "tokens_per_second": found.speed, "weights_read_per_token": found.read, "rom_bits": found.rom,
            "sram_bits": found.sram, "transistors": found.transistors,
            "transistors_all": found.total, "transistors_per_weight": found.per_weight, "mm2": found.mm2,
            "binds": dict(zip(("time", "size"), found.binds))}}


def _count(number, noun):
    return f"{number:,} {noun}{'s' * (number > 1)}"


def _billions(count):
    return f"{count / 1e9:,.3f}" if count < 1e9 else f"{count / 1e9:,.2f}"


def _gbit(bits):
    return (f"{sum(bits.values()) / 1e9:,.4g} Gbit ("
            + ", ".join(f"{what} {count / 1e9:,.3g}" for what, count in bits.items()) + ")")


def _planned(found):
    """{what: how it is said}"""
    die, design, hw = found.die, found.design, found.design.hw
    (engines, heads, parts), (time, size) = found.engines, found.binds
    reads, dies = found.read * found.speed, math.ceil(found.mm2 / die.field_mm2)
    return {
        "multipliers": f"{found.multipliers:,} of {design.array_format} x {design.recipe.activation_format}: "
                       f"{hw.lanes} lanes x {hw.columns} columns in {_count(found.tiles, 'tile')}, each with its ROM",
        "attention": f"{_count(engines, 'engine')} of {hw.attention_lanes} lanes: "
                     f"K/V heads in {_count(heads, 'group')}, positions in {_count(parts, 'part')}",
        "cycles a pass": f"{found.pass_cycles:,} at position {die.at:,} ("
                         + ", ".join(f"{what} {count:,}" for what, count in found.cycles.items()) + ")",
        "speed": f"{found.speed:,.0f} tokens/s for each user"
                 + f", {100 * die.adapter_time:g} % of the time left to adapters" * bool(die.adapters),
        "weight reads": f"{reads / die.clock_ghz / 1e9:,.0f} a cycle on average, {found.multipliers:,} while the "
                        f"array works; {reads:.3g} a second",
        "ROM": _gbit(found.rom),
        "SRAM": _gbit(found.sram),
        "area": f"{found.mm2:,.0f} mm2" + f": more than a field of {die.field_mm2:g} mm2, {dies} dies" * (dies > 1),
        "binds": f"time: {time} ({found.cycles[time] / found.pass_cycles:.0%}); "
                 f"size: {size} ({found.transistors[size] / found.total:.0%})"}


def report(found: Plan) -> Iterator[str]:
    """Lines to print: assumptions, then results, then the published chip, then other arithmetic."""
    die, weights = found.die, found.die.model.parameter_count
    yield (f"asked    {die.model.name}, {weights:,} weights: {die.tokens:,.0f} tokens/s for each of "
           f"{_count(die.users, 'user')}, {die.context:,} positions, {formats(found.design.recipe)}")
    yield "assumed"
    for name, value, source in listed(die):
        yield f"  {name:18}{value:36}{source}"
    yield "planned (projected)"
    for name, value in _planned(found).items():
        yield f"  {name:18}{value}"
    yield f"{'transistors':28}{'1e9':>10}{'a weight':>10}{'share':>8}"
    for part, count in found.transistors.items():
        yield f"  {part:26}{_billions(count):>10}{count / weights:10.3f}{count / found.total:8.1%}"
    yield f"  {'all':26}{_billions(found.total):>10}{found.per_weight:10.3f}"
    yield from _beside(found)
    yield from _other(found)


def _beside(found):
    if found.die.model.parameter_count != PRESETS[HC1.model].parameter_count:
        return
    yield f"{'beside ' + HC1.name:52}{'published':>12}{'this die':>12}"
    for what, published, planned, how in rows_beside(found):
        yield f"  {what:50}{'' if published is None else f'{published:,.4g}':>12}{planned:12,.4g}  {how}"
    bits = bits_of(found, HC1.transistors)
    low, high = (of_bits(found, bits) / 1e9 for bits in (HC1.low_bits, HC1.high_bits))
    yield (f"  this die with {HC1.low_bits:g} bits a weight: {low:.1f} billion transistors; with "
           f"{HC1.high_bits:g}: {high:.1f}"
           + f"; {HC1.transistors / 1e9:g} are those of {bits:.2f} bits" * (bits > 0))
    for name, value, source in listed(HC1):
        yield f"  {name:20}{value:20}{source}"


def _other(found):
    of, (units, share) = ARITHMETIC, matrix_units()
    ours = found.transistors["multipliers"]
    each, tokens = ours / found.multipliers, of.people * of.words / 60 * of.tokens_a_word
    yield "other arithmetic"
    yield (f"  a GPU's matrix units: {of.tensor_cores} x {of.core_macs} multiply-adds x {of.macs_transistors:,.0f} "
           f"transistors = {units / 1e9:.2f} billion, {share:.1%} of {of.gpu_transistors / 1e9:g} (its source says 3.3 "
           "%)")
    yield (f"  the same transistors are {units / each:,.0f} multipliers of this die, {each:,.0f} each, all added; "
           f"its own are {ours / found.total:.1%} of it")
    yield (f"  {of.people:,.0f} users at {of.words:,.0f} words a minute: {tokens:.3g} tokens/s; chips at 3e9 and 3e12 "
           "operations a token:")
    for chip, rate in operations_a_second(found).items():
        yield f"    {chip:18}{rate:10.3g} operations/s{chips_for(3e9, rate):12,}{chips_for(3e12, rate):16,}"
    for name, value, source in listed(of):
        yield f"  {name:20}{value:38}{source}"
