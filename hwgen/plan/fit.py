"""Whether a machine fits on an FPGA, how fast it would be, and the smallest change with which it fits."""
import itertools
import math
from dataclasses import dataclass, fields, replace

from ..params.design import Design
from ..params.hardware import HwShape
from ..params.presets import TINY
from . import costs
from .throughput import decode_cycles
from .wired import WAY, Rows, expected

__all__ = ["FULL", "Fit", "cycles_with", "fit", "largest", "smallest_change", "spelled"]

#: Part of a resource that can be used: with more of its LUTs a chip is hardly routed.
FULL = {"LUT": 0.95, "FF": 1.0, "BRAM": 1.0, "DSP": 1.0}
#: What may shrink, and how far.
SHRINKING = {"lanes": 2, "columns": 2, "vector_lanes": 2, "attention_lanes": 2, "context": 16, "slots": 1, "entries": 1,
             "dsp_columns": 0, "dsp_pairs": 0, "attention_rows": 1}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A machine on a chip.

    units       {unit: {kind: how many}}, before placement
    used, capacity     {kind: how many}; of kinds without capacity there is enough. LUTs are those whose places are
                       taken (`costs.Built`)
    mhz         what place and route may reach; 0 where nothing of the family was built
    rows        of matrices that are logic, those that differ (`wired.expected`), or None: nothing is known of weights
    around      what the board has beside the chip
    """
    design: Design
    family: str
    units: dict[str, dict[str, float]]
    used: dict[str, int]
    capacity: dict[str, int]
    mhz: float
    rows: Rows | None = None
    around: costs.Around = costs.ALONE

    @property
    def over(self) -> dict[str, int]:
        """{kind: how many more than can be used}"""
        limit = {kind: int(FULL[kind] * count) for kind, count in self.capacity.items()}
        return {kind: self.used[kind] - most for kind, most in limit.items() if self.used[kind] > most}

    def cycles(self, texts: int = 1) -> float:
        """Cycles of a decoded token with that many texts at once, the mean over the positions that all of them have
        room for. The cycle model is exact, except for matrices that are logic, whose times depend a little on their
        weights."""
        return decode_cycles(self.design, texts, wires=_wires(self.design)) / texts


def cycles_with(design: Design, number: int) -> float:
    """Cycles of a decoded token of one text with the adapter of that number, or with none if it is 0; as
    `Fit.cycles`."""
    return decode_cycles(design, adapters=[number], wires=_wires(design))


def _wires(design):
    """Matrices that are logic, as the cycle model takes them."""
    return expected(design) if design.hw.wired else None


def fit(design: Design, family: str, capacity: dict[str, int], rows: Rows | None = None,
        around: costs.Around = costs.ALONE) -> Fit:
    """`Fit` of a board's machine on a chip of a family with {kind: how many}; kinds are `costs.KINDS`. ``rows`` and
    ``around`` as in `Fit`."""
    units = costs.estimate(design, family, rows, around)
    built = costs.BUILT[family]
    needed: dict[str, float] = {kind: sum(unit[kind] for unit in units.values()) for kind in costs.KINDS}
    needed["LUT"] = built.luts * needed["LUT"] + built.alone * needed["FF"]
    used = {kind: round(count) for kind, count in needed.items()}
    far = used["LUT"] - (1 - WAY) * built.luts * units.get("wired", {"LUT": 0})["LUT"]
    mhz = built.mhz * max(0.1, 1 - built.way * (far / 100_000) ** 0.5) * around.faster
    if design.hw.source == "stream" and not around.crossed:
        mhz = min(mhz, costs.MEMORY_MHZ)
    return Fit(design=design, family=family, units=units, used=used, capacity=capacity, mhz=mhz,
               rows=rows, around=around)


def _changed(design, **changes):
    """The design with another shape, or None if there is no such shape."""
    try:
        return replace(design, hw=replace(design.hw, **changes))
    except ValueError:
        return None


def smallest_change(design: Design, family: str, capacity: dict[str, int], rows: Rows | None = None,
                    around: costs.Around = costs.ALONE) -> Fit | None:
    """The `Fit` of the shape that fits with the fewest halvings of fields that may shrink; of several the fastest. None
    if none fits.

    Before anything shrinks, more of the array's columns may take multipliers instead of LUTs: pairs first, of which a
    multiplier saves most.
    """
    hw = design.hw
    for more in range(1, hw.columns + 1) if hw.has_array else ():
        for pairs in range(more if family in costs.PAIRED else 0, -1, -1):
            changed = _changed(design, dsp_columns=hw.dsp_columns + more - pairs, dsp_pairs=hw.dsp_pairs + pairs)
            if changed is not None and not (tried := fit(changed, family, capacity, rows, around)).over:
                return tried
    steps = {name: list(dict.fromkeys(getattr(hw, name) >> k for k in range(16) if k == 0
                                      or getattr(hw, name) >> k >= least))
             for name, least in SHRINKING.items()}
    if hw.halves == 2:
        steps["entries"] = [count for count in steps["entries"] if count % 2 == 0]
    if fit(_changed(design, **{name: values[-1] for name, values in steps.items()}, kv_blocks=0, tile_beats=1), family,
           capacity, rows, around).over:
        return None
    for halvings in range(1, sum(len(values) - 1 for values in steps.values()) + 1):
        found = []
        for chosen in itertools.product(*(range(min(len(values), halvings + 1)) for values in steps.values())):
            if sum(chosen) != halvings:
                continue
            changes = {name: values[k] for (name, values), k in zip(steps.items(), chosen)}
            if changes["dsp_columns"] + 2 * changes["dsp_pairs"] > changes["columns"]:
                continue
            smaller = _changed(design, **changes, kv_blocks=0, tile_beats=min(hw.tile_beats, changes["columns"]))
            if smaller is not None and not (tried := fit(smaller, family, capacity, rows, around)).over:
                found.append(tried)
        if found:
            return min(found, key=lambda tried: (tried.cycles() / (tried.mhz or 1), -tried.design.hw.context))
    return None


def largest(found: Fit, field: str, most: int, room: float = math.inf) -> int:
    """The largest value of ``context`` or ``slots`` up to ``most`` with which a machine that fits still does, in a
    memory beside the FPGA, if it has one, of ``room`` bytes."""
    low, high = getattr(found.design.hw, field), most
    while low < high:
        middle = (low + high + 1) // 2
        changed = _changed(found.design, **{field: middle}, kv_blocks=0)
        if changed is not None and changed.memory_bytes <= room and not fit(
                changed, found.family, found.capacity, found.rows, found.around).over:
            low = middle
        else:
            high = middle - 1
    return low


def spelled(hw: HwShape) -> str:
    """A shape as for --shape."""
    changes = [f"{field.name}={int(value) if isinstance(value, bool) else value}" for field in fields(HwShape)
               if (value := getattr(hw, field.name)) != getattr(TINY.shape, field.name)]
    return ",".join([TINY.name, *changes])
