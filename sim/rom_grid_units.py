"""Matrices of a grid with ROMs, and the images of these, the same for a bench and its runner."""
import hashlib

import numpy as np

from hwgen.golden.rom_grid import slices
from hwgen.lib.rom import hex_lines
from hwgen.params.formats import E2M1
from hwgen.params.hardware import MAX_ROW
from sim.runner import ROOT

#: Outputs and inputs, in parts of the grid's: one round, several, padding on both sides, one in the last word.
SIZES = ((1, 1, 0), (2, 3, 0), (2, 2, -1), (1, 4, 0), (1, 1, -1))


def matrices(design, rows, tiles):
    """[(codes, offsets of blocks or None, offsets of rows or None)], random, of finite codes."""
    rng, hw, fmt = np.random.default_rng(7), design.hw, E2M1 if design.narrow else design.recipe.weight_format
    found = []
    for wide, deep, less in SIZES:
        outputs, inputs = wide * tiles * hw.columns + less, deep * rows * hw.lanes + less
        codes = rng.integers(0, fmt.max_code + 1, (outputs, inputs)) | rng.integers(0, 2,
                                                                                    (outputs, inputs)) << fmt.bits - 1
        blocks = rng.integers(0, design.largest_block + 1,
                              (outputs, -(-inputs // 32))).astype(np.uint8) if design.largest_block else None
        found.append((codes.astype(np.uint8), blocks, rng.integers(0, MAX_ROW + 1, outputs).astype(np.uint8)
                      if design.scaled else None))
    return found


def images(design, rows, tiles):
    """(The words of a ROM, where the images are: what their names begin with.)"""
    found = slices(design, rows, tiles, matrices(design, rows, tiles)).words
    start = ROOT / "build" / "sim" / "images" / f"{hashlib.sha256(found.tobytes()).hexdigest()[:16]}_"
    start.parent.mkdir(parents=True, exist_ok=True)
    for r in range(rows):
        for h in range(tiles):
            start.with_name(f"{start.name}r{r}_h{h}.hex").write_bytes(hex_lines(found[r, h]))
    return found.shape[2], str(start)
