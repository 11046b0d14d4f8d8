"""The MAC array, what stands in its place, and what feeds it, as a design has them."""
from ...params.block import Project
from ...units.adapters import AdapterSums, AdapterTiles
from ...units.array_grid import WEIGHTS, ArrayGrid, GridParams
from ...units.feeder import AdaptedFeeder, Feeder
from ...units.mac_array import ArrayParams, MacArray
from ...units.rom_grid import RomGrid, RomGridParams
from ...units.wired import Wired

__all__ = ["adapter_sums", "adapter_tiles", "array_grid", "array_params", "feeder", "grid_params",
           "mac_array", "rom_grid", "rom_grid_params", "wired"]


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


def _logic(design, matmuls):
    """Names of those that are logic."""
    return [matmul.name for matmul in matmuls if design.hw.is_logic(matmul.name)]


def feeder(design):
    """The feeder: where there are adapters, the one that knows their runs."""
    block, entries = design.block, design.hw.entries
    matmuls = (*design.layer_matmuls, design.head_matmul)
    logic = _logic(design, matmuls)
    if design.hw.adapters:
        return AdaptedFeeder(block=block, matmuls=matmuls, entries=entries, wired=logic,
                             adapter_matmuls=[design.adapter_matmuls(project) for project in block.of(Project)])
    return Feeder(block=block, matmuls=matmuls, entries=entries, wired=logic)


def adapter_tiles(design):
    """``design`` is that of the whole pass."""
    return AdapterTiles(array_params(design.half_batch()), block=design.block, layers=design.layers,
                        adapters=design.hw.adapters, adapter_map=design.adapter_map, tile_beats=design.hw.tile_beats,
                        halves=design.hw.halves, wired=_logic(design, design.layer_matmuls))


def adapter_sums(design):
    return AdapterSums(array_params(design), block=design.block, adapter_map=design.adapter_map)
