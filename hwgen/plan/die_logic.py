"""Transistors of the logic of a die that holds its model, by part.

They are measured ones (docs/results/column.json, synth.json) in hwgen/plan/transistors.json, which `python -m
tools.bench_die --costs` writes; beyond the measured sizes they go on in a straight line.
"""
import dataclasses
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..params.adapters import SUM_BITS
from ..params.design import Design
from . import costs

if TYPE_CHECKING:
    from .die import Die

__all__ = ["TABLE", "logic", "measured"]

TABLE = Path(__file__).with_name("transistors.json")


@functools.cache
def measured() -> dict[str, dict[str, dict[str, Any]]]:
    """{"multipliers": {format: {"transistors", "FF", "expander"}}, "adapters": {part: {"transistors", "FF"}}, "units":
    {unit: {"transistors", "FF"}}}.

    An expander makes a format's code of an E2M1 code and its block's offset. Of a unit: (base, for each of ECP5's LUTs,
    or flip-flops); of what adapters add (base, for each bit of a sum or of a tile, or for each lane).
    """
    return json.loads(TABLE.read_text())


#: Units of the tiles, of attention's engines; and of the link to the host, which are in ``other``.
_TILE, _ENGINE = ("array",), ("attention", "dot", "numerators", "kv_cache")
_LINK = ("axi", "board", "bridge", "commands", "results", "receiver", "transmitter", "registers")


def _units(die, design, names):
    """Transistors of those units, flip-flops with them, of one machine."""
    known, total = measured()["units"], 0.0
    for unit, found in costs.logic(design, "ecp5", names).items():
        count = costs.counts(unit, design)
        # registers between units, of which there are no transistors yet
        like = known.get(unit) or known[costs.OWN.get(unit, "residual_skid")]
        for kind, each in (("LUT", 1), ("FF", die.ff_transistors)):
            base, slope = like["transistors" if kind == "LUT" else "FF"]
            total += each * max(0.0, count * base + slope * found[kind])
    return total


def _adapters(die, design, tiles):
    """Transistors of what adapters add, flip-flops with them: each tile of the grid has its slice of their memory, and
    each of its columns shifts its sums."""
    hw, tile, total = design.hw, die.tile_lanes * die.tile_columns * design.array_format.bits, 0.0
    grown = {"column": (tiles * die.tile_columns, design.acc_bits + SUM_BITS), "tiles": (tiles, tile),
             "sums": (1, hw.vector_lanes), "xz": (1, hw.lanes), "feeder": (1, 1), "decoder": (1, hw.vector_lanes)}
    for part, (count, size) in grown.items():
        for kind, (base, slope) in measured()["adapters"][part].items():
            total += count * (die.ff_transistors if kind == "FF" else 1) * max(0.0, base + slope * size)
    return total


def logic(die: "Die", design: Design, tiles: int, engines: int) -> dict[str, float]:
    """{part: transistors} of all that is no memory, of a grid of tiles and so many engines of attention."""
    hw, margin = design.hw, 1 + die.logic_margin
    multiplier = measured()["multipliers"][str(design.array_format)]
    each = (multiplier["transistors"] + die.ff_transistors * multiplier["FF"]
            + multiplier.get("expander", 0) * bool(design.largest_block))

    def shaped(**shape):
        return dataclasses.replace(design, hw=dataclasses.replace(hw, **shape))
    lanes, columns, vector = die.tile_lanes, die.tile_columns, hw.vector_lanes
    tile = shaped(lanes=lanes, columns=columns, vector_lanes=min(vector, lanes, columns))
    # of the stream there is left what is read in granules: embedding rows and records
    narrow = shaped(lanes=vector, columns=vector)
    stream = ("dispatcher", "weights")
    rest = {*costs.table()["ecp5"], *costs.OWN} - {*_TILE, *_ENGINE, *_LINK, *stream, "column", *costs.ALIKE}
    return {
        "multipliers": margin * hw.lanes * hw.columns * each,
        "tiles' control": margin * tiles * _units(die, tile, _TILE),
        "attention": margin * engines * _units(die, design, _ENGINE),
        "vectors and control": margin * (_units(die, design, rest) + _units(die, narrow, stream)),
        **({"adapters' logic": margin * _adapters(die, design, tiles)} if die.adapters else {}),
        "other": die.other,
    }
