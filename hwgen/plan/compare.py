"""Shapes of a model's machine on one chip: which of many fit, and which of those no other beats."""
import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..params.design import Design
from ..params.dram import Sdram
from .costs import ALONE, PAIRED, Around
from .fit import Fit, fit
from .loading import reading

__all__ = ["Point", "VARIED", "candidates", "compared", "front", "size"]

#: Fields of `HwShape` that are tried -> the values that are tried.
VARIED = {
    "lanes": (2, 4, 8, 16, 32, 64), "columns": (2, 4, 8, 16, 32, 64), "vector_lanes": (2, 4, 8, 16),
    "attention_lanes": (2, 4, 8, 16, 32, 64), "halves": (1, 2),
    "entries": (),          # as many as texts
    "dsp_columns": (),      # none, or what the chip's multipliers are enough for ...
    "dsp_pairs": (),        # ... or as many pairs, and columns that have their own if there are more than for all pairs
    "tile_beats": ()}       # as many as the array does not wait for: the memory of the weights is narrower so
#: An array that is more oblong has more of what goes with its lanes, or its columns, than multipliers.
OBLONG = 4


@dataclass(frozen=True, kw_only=True)
class Point:
    """A shape that fits.

    fit         its `Fit`
    texts       texts that are decoded at once
    mhz         clock of the speed: what place and route may reach, or what was asked for
    cycles      a token, the mean over the positions that all texts have room for
    """
    fit: Fit
    texts: int
    mhz: float
    cycles: float

    @property
    def speed(self) -> float:
        """Tokens per second; of a family whose clock is not known, per million cycles."""
        return 1e6 * (self.mhz or 1) / self.cycles


def candidates(design: Design, family: str, capacity: dict[str, int], texts: int,
               fixed: Collection[str] = ()) -> Iterator[Design]:
    """Designs like this one in all but the fields of `VARIED` that are not ``fixed``, for so many texts at once, with a
    slot for each unless ``slots`` is fixed."""
    hw, fixed = design.hw, {*fixed}
    slots = hw.slots if "slots" in fixed else texts
    blocks = hw.kv_blocks if "kv_blocks" in fixed else min(hw.kv_blocks, slots * hw.blocks_per_slot)
    hw = dataclasses.replace(hw, slots=slots, kv_blocks=blocks)

    @functools.cache
    def spare(vector: int) -> int:
        """Multipliers that the vector engines leave."""
        one = dataclasses.replace(hw, lanes=max(vector, 2), columns=max(vector, 2), attention_lanes=max(vector, 2),
                                  attention_rows=1, vector_lanes=vector, tile_beats=1, dsp_columns=0, dsp_pairs=0)
        return max(0, capacity.get("DSP", 0) - fit(dataclasses.replace(design, hw=one), family, capacity).used["DSP"])

    values = {name: tried if tried and name not in fixed else (getattr(hw, name),) for name, tried in VARIED.items()}
    first = [values[name] for name in ("lanes", "columns", "vector_lanes", "attention_lanes", "halves")]
    for lanes, columns, vector, attention, halves in itertools.product(*first):
        if not {"lanes", "columns"} <= fixed and max(lanes, columns) > OBLONG * min(lanes, columns):
            continue
        if "attention_lanes" not in fixed and attention > max(2, design.model.head_dim):
            continue
        entries = hw.entries if "entries" in fixed else texts
        if "halves" not in fixed and halves == 2 and entries < 4:
            continue
        enough = min(columns, spare(vector) // lanes)
        own = max(0, 2 * enough - columns)
        kinds = {(0, 0), (enough, 0), *([(own, enough - own)] if family in PAIRED else [])}
        kinds = {(hw.dsp_columns if "dsp_columns" in fixed else of, hw.dsp_pairs if "dsp_pairs" in fixed else pairs)
                 for of, pairs in kinds}
        for dsp_columns, dsp_pairs in sorted(kinds):
            for beats in (hw.tile_beats,) if "tile_beats" in fixed else (4, 2, 1):
                if "tile_beats" not in fixed and beats > max(1, entries // halves):
                    continue
                try:
                    found = dataclasses.replace(design, hw=dataclasses.replace(
                        hw, lanes=lanes, columns=columns, vector_lanes=vector, attention_lanes=attention,
                        entries=entries, halves=halves, tile_beats=beats, dsp_columns=dsp_columns, dsp_pairs=dsp_pairs))
                except ValueError:      # there is no such shape
                    continue
                yield found
                break


def size(design: Design) -> tuple[int, ...]:
    """A key that sorts designs by size, the smallest first."""
    hw = design.hw
    return hw.lanes * hw.columns, hw.vector_lanes, hw.attention_lanes, hw.entries, -hw.dsp_columns - hw.dsp_pairs


def compared(designs: Sequence[Design], family: str, capacity: dict[str, int], texts: int, mhz: float | None = None,
             progress: Callable[[int, int], object] = lambda done, total: None,
             memory: Sdram | None = None, memory_clock: float | None = None,
             around: Around = ALONE) -> list[Point]:
    """[`Point`] of those that fit, at their own clock or at ``mhz``. ``progress`` is called with (done, all).
    ``memory``: a board's, which the weights are read from, and its ``memory_clock`` if that is not the machine's;
    ``around`` as in `Fit`."""
    designs, points, too_large = list(designs), [], {}
    designs.sort(key=size)
    for done, design in enumerate(designs):
        progress(done, len(designs))
        hw, key = design.hw, (design.recipe, design.hw.dsp_columns > 0, design.hw.dsp_pairs > 0)
        if any(small.lanes <= hw.lanes and small.columns <= hw.columns and small.vector_lanes <= hw.vector_lanes
               and small.entries <= hw.entries
               and small.attention_lanes <= hw.attention_lanes and small.halves <= hw.halves
               for small in too_large.get(key, ())):
            continue
        found = fit(design, family, capacity, around=around)
        if {"LUT", "FF"} & set(found.over):
            too_large.setdefault(key, []).append(hw)
        if found.over or mhz and found.mhz and mhz > found.mhz:
            continue
        at_once = min(texts, hw.entries)
        clock = mhz or found.mhz
        cycles = reading(design, memory, clock, at_once, memory_clock).cycles if memory else found.cycles(at_once)
        points.append(Point(fit=found, texts=at_once, mhz=clock, cycles=cycles))
    progress(len(designs), len(designs))
    return points


def front(points: Iterable[Point], gain: float = 0.0) -> list[Point]:
    """The points that are faster than all points with no more LUTs, the smallest first. The next is faster by the part
    ``gain`` at least; the fastest is always among them."""
    best = []
    for point in sorted(points, key=lambda p: (p.fit.used["LUT"], -p.speed)):
        if not best or point.speed > best[-1].speed:
            best.append(point)
    chosen = best[:1]
    for point in best[1:-1]:
        if point.speed >= (1 + gain) * chosen[-1].speed:
            chosen.append(point)
    return chosen + best[1:][-1:]
