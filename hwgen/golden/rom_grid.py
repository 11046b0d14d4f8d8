"""Twin of `hwgen.units.rom_grid`: the content of each tile's ROM, sums, and the cycle of every granule."""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..params.design import Design, Matmul
from ..params.stream import BLOCK
from . import array_grid, mac_array
from .weights import expanded

__all__ = ["FIRST_TILE", "Slices", "array_codes", "matrix_words", "rom_grid", "rom_grid_cycles", "slices"]

FIRST_TILE = 2      # cycles from a run to its first tile at the arrays


class Slices(NamedTuple):
    """The ROMs of a grid. ``words`` : uint8 [rows, tiles, words, bytes], byte 0 the lowest; ``runs``: (first, last)
    word of each matrix."""
    words: np.ndarray
    runs: list[tuple[int, int]]


def array_codes(design: Design, codes: np.ndarray, blocks: np.ndarray | None = None) -> np.ndarray:
    """The array's codes of a matrix, uint8 [N, K]: as they are, or of E2M1 codes with the offsets of their blocks,
    uint8 [N, blocks]."""
    if not design.largest_block:
        return np.asarray(codes, np.uint8)
    assert blocks is not None
    return expanded(codes, np.repeat(blocks, BLOCK, axis=1)[:, :codes.shape[1]], design.array_format,
                    design.largest_block)


def rom_grid(design: Design, rows: int, tiles: int, codes: np.ndarray, x: np.ndarray,
             blocks: np.ndarray | None = None) -> np.ndarray:
    """Sums of a matrix, int64 [n-rounds, n, tiles, columns]: the results of the columns of tiles. x uint8 [n, K]."""
    return array_grid.array_grid(design, rows, tiles, array_codes(design, codes, blocks), x)


def _parts(array, outer, inner):
    """A matrix, padded to so many rows and columns."""
    return np.pad(array, [(0, outer - array.shape[0]), (0, inner - array.shape[1])])


def _bits(array, bits):
    """The lowest bits of each element, the first one first: uint8 [..., elements * bits] of 0 and 1."""
    return (array[..., None] >> np.arange(bits) & 1).astype(np.uint8).reshape(*array.shape[:-1], -1)


def matrix_words(design: Design, rows: int, tiles: int, codes: np.ndarray, blocks: np.ndarray | None = None,
                 offsets: np.ndarray | None = None) -> np.ndarray:
    """The words of one matrix, uint8 [rows, tiles, words, bytes]: n-round by n-round, k-round by k-round. Row r of
    tiles has the r-th part of the inputs, column h of an n-round the h-th part of the outputs.

    codes uint8 [N, K]; blocks uint8 [N, ceil(K / 32)] where blocks have offsets; offsets uint8 [N] where rows have
    """
    hw, (n_rounds, k_rounds) = design.hw, array_grid.rounds(design, rows, tiles, *codes.shape)
    outputs, inputs = n_rounds * tiles * hw.columns, rows * k_rounds * hw.lanes

    # -> [rows, tiles, n-rounds, k-rounds, columns, width]; ``width`` elements of a tile's column
    def placed(array, width):
        return array.reshape(n_rounds, tiles, hw.columns, rows, k_rounds, width).transpose(3, 1, 0, 4, 2, 5)

    def flat(array):
        return array.reshape(rows, tiles, n_rounds * k_rounds, -1)
    fields = [_bits(flat(placed(_parts(codes, outputs, inputs), hw.lanes)), 4 if design.narrow else 8)]
    if design.largest_block:
        assert blocks is not None
        first = np.arange(0, inputs, min(hw.lanes, BLOCK)) // BLOCK      # the block of each group of lanes
        of_groups = _parts(blocks, outputs, max(blocks.shape[1], first[-1] + 1))[:, first]
        fields.append(_bits(flat(placed(of_groups, max(1, hw.lanes // BLOCK)).swapaxes(-1, -2)), 4))
    if design.scaled:
        assert offsets is not None
        of_rows = np.pad(offsets, (0, outputs - len(offsets))).reshape(n_rounds, tiles, 1, hw.columns).swapaxes(0, 1)
        fields.append(_bits(flat(np.broadcast_to(of_rows, (rows, tiles, n_rounds, k_rounds, hw.columns))), 4))
    return np.packbits(np.concatenate(fields, axis=-1), axis=-1, bitorder="little")


def slices(design: Design, rows: int, tiles: int, matrices: Iterable[Sequence]) -> Slices:
    """`Slices` of matrices, each the arguments of `matrix_words`, in the order in which they stand in the ROMs."""
    words, runs, at = [], [], 0
    for matrix in matrices:
        words.append(matrix_words(design, rows, tiles, *matrix))
        runs.append((at, at + words[-1].shape[2] - 1))
        at += words[-1].shape[2]
    return Slices(np.concatenate(words, axis=2), runs)


def rom_grid_cycles(design: Design, n_rounds: int, k_rounds: int, n: int) -> list[int]:
    """Cycle in which each granule is valid at every ``o``, int [n-rounds * n * C/V], if a run and operations are
    offered from cycle 0 on and nothing is stalled.

    All tiles do the same at the same time: what one array does whose tiles come one in a cycle. Behind it is the
    register of the sums.
    """
    matmul = Matmul(name="", rows=n_rounds * design.hw.columns, cols=k_rounds * design.hw.lanes, n_tiles=n_rounds,
                    k_tiles=k_rounds)
    _, _, granules = mac_array.matmul_trace(design, matmul, n, 0, FIRST_TILE)
    return (granules + 1).reshape(-1).tolist()
