"""Matrices for the bench of `Wired`, made of a bench's parameters."""
import numpy as np

from hwgen.params.wired import FixedMatrix
from hwgen.units.wired import Wired
from sim.designs import small_design

__all__ = ["codes", "matrices", "wired"]


def codes(rng, fmt, shape):
    """Finite codes of all kinds; a quarter of them large, and some 0."""
    magnitudes = np.where(rng.random(shape) < 0.25, fmt.max_code - rng.integers(0, 3, shape), rng.integers(0, fmt.max_code + 1, shape))
    return (magnitudes * (rng.random(shape) < 0.9)).astype(np.uint8) | (rng.integers(0, 2, shape) << fmt.bits - 1).astype(np.uint8)


def matrices(design, sizes, levels):
    """{name: (codes, FixedMatrix)} of sizes [(outputs, slices)]; the first has a row of zeros, one of negative codes, and two rows alike."""
    fmt, rng, found = design.array_format, np.random.default_rng(7), {}
    for number, (outputs, slices) in enumerate(sizes):
        w = codes(rng, fmt, (outputs, slices * design.hw.lanes))
        if not number:
            w[0], w[-1] = 0, w[1]
            w[outputs // 2] |= 1 << fmt.bits - 1
        rows = rng.integers(0, 16, outputs) if design.scaled else None
        found[f"m{number}"] = w, FixedMatrix(fmt.values()[w], design.recipe.activation_format, levels, rows)
    return found


def wired(changes, sizes, levels):
    """(the design, its matrices, the unit)."""
    design = small_design(**changes)
    found = matrices(design, sizes, levels)
    return design, found, Wired(design, {name: matrix for name, (_, matrix) in found.items()})
