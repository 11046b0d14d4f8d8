"""Twin of `hwgen.units.array_grid`: sums, the order of beats and operations, and the cycle of every granule."""
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..params.design import Design
from . import mac_array

__all__ = ["array_grid", "grid_beats", "grid_cycles", "grid_ops", "rounds"]


def rounds(design: Design, rows: int, tiles: int, outputs: int, inputs: int) -> tuple[int, int]:
    """(n-rounds, k-rounds) of a matrix of so many outputs and inputs."""
    return -(-outputs // (tiles * design.hw.columns)), -(-inputs // (rows * design.hw.lanes))


def _padded(array, size):
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])])


def array_grid(design: Design, rows: int, tiles: int, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sums of a matrix, int64 [n-rounds, n, tiles, columns]: the columns' results. weights uint8 [N, K], x uint8 [n,
    K]."""
    n_rounds, _ = rounds(design, rows, tiles, *weights.shape)
    sums = mac_array.mac_array(design, weights, x)                                                      # [n, N]
    width = tiles * design.hw.columns
    return _padded(sums, n_rounds * width).reshape(len(x), n_rounds, tiles, -1).swapaxes(0, 1)


def grid_beats(design: Design, rows: int, tiles: int, weights: np.ndarray) -> list[list[int]]:
    """Beats of each row, ints [rows][...]: n-round by n-round, k-round by k-round, tile by tile. Row r has the r-th
    part of the inputs."""
    hw = design.hw
    n_rounds, k_rounds = rounds(design, rows, tiles, *weights.shape)
    padded = np.zeros((n_rounds * tiles * hw.columns, rows * k_rounds * hw.lanes), np.uint8)
    padded[:weights.shape[0], :weights.shape[1]] = weights
    slices = padded.reshape(n_rounds, tiles, hw.columns, rows, k_rounds, hw.lanes).transpose(3, 0, 4, 1, 2, 5)
    return [[int.from_bytes(beat.tobytes(), "little") for beat in tile.reshape(-1, hw.beat_bytes)] for tile in slices]


def grid_ops(design: Design, rows: int, tiles: int, outputs: int, x: np.ndarray,
             exps: Sequence[int] | np.ndarray) -> list[list[dict[str, Any]]]:
    """Operations of each row, dicts of `op_layout` [rows][...]. x uint8 [n, K], exps [n]."""
    hw = design.hw
    n_rounds, k_rounds = rounds(design, rows, tiles, outputs, x.shape[1])
    slices = _padded(x, rows * k_rounds * hw.lanes).reshape(len(x), rows, k_rounds, hw.lanes)
    return [[{"codes": slices[entry, r, k].tolist(), "entry": entry, "exp": int(exps[entry]), "first": int(k == 0),
              "last": int(k == k_rounds - 1),
              "tile_end": int(entry == len(x) - 1)}
             for _ in range(n_rounds) for k in range(k_rounds) for entry in range(len(x))] for r in range(rows)]


def grid_cycles(design: Design, tiles: int, n_rounds: int, k_rounds: int, n: int) -> list[list[int]]:
    """Cycle in which each granule is valid at ``o``, int [tiles][n-rounds * n * C/V], if beats and operations are
    offered from cycle 0 on and nothing is stalled. All rows do the same at the same time.

    A tile's register is free for its next beats in the cycle in which the array takes what is in it; an operation goes
    to all tiles in a cycle in which the one before fires in the last of them, or later. The rest is
    `golden.mac_array`'s.
    """
    hw, each = design.hw, range(tiles)
    ring, groups = max(2, hw.entries), hw.columns // hw.vector_lanes
    beat, accepted = -1, -1
    take, fire = [0] * tiles, [-1] * tiles
    left, out = [[] for _ in each], [[] for _ in each]
    for q in range(n_rounds * k_rounds):
        for h in each:
            beat = max(beat + 1, take[h] if q else 0) + hw.tile_beats - 1
            take[h] = max(beat + 1, fire[h]) if q else beat + 1
        for _ in range(n):
            accepted = max(accepted + 1, *fire)
            for h in each:
                fire[h] = max(accepted, take[h]) + 1
                if q % k_rounds == k_rounds - 1:
                    if len(left[h]) >= ring:
                        fire[h] = max(fire[h], left[h][-ring] + 1)
                    start = max(fire[h] + mac_array.latency(design) - 1, left[h][-1] + 1 if left[h] else 0)
                    left[h].append(start + groups - 1)
                    out[h] += [start + 2 + group for group in range(groups)]
    return out
