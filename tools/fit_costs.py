"""Straight lines through the figures of units: the weights of `hwgen.plan.costs.FEATURES`."""
import numpy as np

from hwgen.plan import costs
from hwgen.plan.memory import memories, place

__all__ = ["changes", "fit", "scaled"]

FITTED = ("LUT", "FF", "DSP")


def _logic(design, unit, found, family):
    """A unit's figures without its clocked memories'."""
    placed = [place(memory, family) for memory in memories(design) if memory.unit == unit]
    taken = {"LUT": sum(p.luts for p in placed), "FF": sum(p.ffs for p in placed)} if unit != "weights" else {}
    return {kind: found.get(kind, 0) - taken.get(kind, 0) for kind in FITTED}


def _weights(rows, values):
    """Weights >= 0 with the least relative squares: least squares without the features whose weight would be below
    0."""
    rows, values = np.array(rows, float), np.array(values, float)
    scale = 1 / np.maximum(np.abs(values), 16)
    kept = [k for k in range(rows.shape[1]) if rows[:, k].any()]
    while kept:
        found = np.linalg.lstsq(rows[:, kept] * scale[:, None], values * scale, rcond=None)[0]
        if found.min() >= -1e-9:
            break
        kept.pop(int(np.argmin(found * np.abs(rows[:, kept]).max(axis=0))))
    weights = np.zeros(rows.shape[1])
    if kept:
        weights[kept] = found
    return [round(float(weight), 3) for weight in weights]


def fit(figures, family):
    """{unit: {kind: weights}} from [(design, {unit: {kind: count}})]."""
    units = sorted({unit for _, found in figures for unit in found})
    out = {}
    for unit in units:
        seen = [(design, _logic(design, unit, found[unit], family)) for design, found in figures if unit in found]
        out[unit] = {kind: _weights([costs.features(unit, design, kind) for design, _ in seen],
                                    [logic[kind] for _, logic in seen])
                     for kind in FITTED if any(logic[kind] for _, logic in seen)}
    return out


def scaled(base, base_figures, figures, family, base_family="ecp5"):
    """The weights of another family, which was synthesized at fewer shapes: each of ``base``'s units times what it
    takes there, on average."""
    own, out = fit(figures, family), {}
    for unit, kinds in own.items():
        out[unit] = {}
        for kind, weights in kinds.items():
            here = sum(_logic(d, unit, found[unit], family)[kind] for d, found in figures)
            there = sum(_logic(d, unit, found[unit], base_family)[kind] for d, found in base_figures
                        if any(d == other for other, _ in figures))
            out[unit][kind] = [round(weight * here / there, 3)
                               for weight in base[unit][kind]] if there > 0 and kind in base.get(unit, {}) else weights
    return out


def changes(base, figures):
    """Rows of what blocks change, {"UNIT, WHAT": {kind: weights}}, and of the units that Llama has not, from [(design,
    {unit: {kind: count}})] of ECP5. A design may change a unit in one way."""
    own = {unit: [(design, found) for design, found in figures if unit in found and not costs.changes(unit, design)]
           for unit in costs.OWN}
    out = {unit: fit([(design, {unit: found[unit]}) for design, found in seen], "ecp5")[unit]
           for unit, seen in own.items() if seen}
    known = base | out
    rows = {}
    for design, found in figures:
        for unit in found:
            for row in costs.changes(unit, design) if unit in known else ():
                logic = _logic(design, unit, found[unit], "ecp5")
                plain = {kind: sum(w * f for w, f in zip(known[unit].get(kind, ()), costs.features(unit, design, kind)))
                         for kind in FITTED}
                rows.setdefault(row, []).append((costs.growth(row, design),
                                                 {kind: logic[kind] - plain[kind] for kind in FITTED}))
    for row, seen in rows.items():
        weights = {kind: np.linalg.lstsq(np.array([line for line, _ in seen], float),
                                         np.array([logic[kind] for _, logic in seen]),
                                         rcond=None)[0] for kind in FITTED}
        out[row] = {kind: [round(float(w), 3) for w in found] for kind, found in weights.items()
                    if np.abs(found).max() > 0.01}
    return out
