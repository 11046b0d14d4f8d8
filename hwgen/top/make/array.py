"""The MAC array and what stands in its place, as a design has them."""
from ...units.array_grid import WEIGHTS, ArrayGrid, GridParams
from ...units.mac_array import ArrayParams, MacArray
from ...units.rom_grid import RomGrid, RomGridParams
from ...units.wired import Wired

__all__ = ["array_grid", "array_params", "grid_params", "mac_array", "rom_grid", "rom_grid_params", "wired"]


def array_params(design):
    """The `ArrayParams` of a design's array."""
    hw = design.hw
    return ArrayParams(weight=design.array_format, activation=design.recipe.activation_format, lanes=hw.lanes,
                       columns=hw.columns, vector_lanes=hw.vector_lanes, entries=hw.entries, acc_bits=design.acc_bits,
                       row_offsets=design.scaled, with_adapters=hw.adapters > 0, dsp_columns=hw.dsp_columns,
                       dsp_pairs=hw.dsp_pairs)


def mac_array(design):
    return MacArray(array_params(design))


def grid_params(design):
    """The `GridParams` of arrays that are each as the design's. ValueError if it has weights in E2M1."""
    if design.narrow:
        raise ValueError(WEIGHTS)
    return GridParams(array=array_params(design), tile_beats=design.hw.tile_beats)


def array_grid(design, rows, tiles):
    """A grid of arrays that are each as the design's: R rows of H."""
    return ArrayGrid(grid_params(design), rows=rows, tiles=tiles)


def rom_grid_params(design, words):
    """The `RomGridParams` of arrays that are each as the design's, whose ROMs have so many words."""
    if design.hw.tile_beats != 1:
        raise ValueError(f"Beats per tile must be 1 where a ROM has a tile in each word, not {design.hw.tile_beats}")
    return RomGridParams(array=array_params(design), words=words, narrow=design.narrow,
                         largest_block=design.largest_block)


def rom_grid(design, rows, tiles, words, images="slice_"):
    """A grid of arrays that are each as the design's, with ROMs: R rows of H."""
    return RomGrid(rom_grid_params(design, words), rows=rows, tiles=tiles, images=images)


def wired(design, matrices):
    """What takes the array's place for ``matrices`` {name: FixedMatrix} that are logic."""
    hw = design.hw
    return Wired(matrices, activation=design.recipe.activation_format, lanes=hw.lanes, columns=hw.columns,
                 vector_lanes=hw.vector_lanes, entries=hw.entries, acc_bits=design.acc_bits, row_offsets=design.scaled)
