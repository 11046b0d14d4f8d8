"""Twin of `hwgen.units.mac_array`: exact sums, and the cycle of every operation and granule.

Time in the array, for operation m on tile q, with D = `latency`, R rows of the ring, and last operations counted by r:

- tile q becomes active in cycle ``take(q) = max(valid(q), fire(last operation on tile q-1))``;
- operation m fires in cycle ``max(fire(m-1), take(q), cycle at x) + 1``; if last, not before ``left(r-R) + 1``;
- the granules of row r leave the ring from cycle ``max(fire + D - 1, left(r-1) + 1)`` on, one per cycle, the last one
  in ``left(r)``, and each is at ``o`` one cycle later.
"""
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design, Matmul
from ..params.stream import Tiling
from .numbers import fp8_ints

__all__ = ["MatmulTimes", "latency", "mac_array", "matmul_cycles", "matmul_trace"]


def mac_array(design: Design, weights: ArrayLike, x: ArrayLike) -> np.ndarray:
    """Sums of products in units of ``2**design.acc_unit``.

    weights : uint8 [N, K]; x : uint8 [n, K] -> int64 [n, N]

    float64 is exact here: products are integers, and the magnitudes of K of them sum to less than 2**53, so no partial
    sum is ever rounded, in whatever order they are added.
    """
    w_fmt, x_fmt = design.array_format, design.recipe.activation_format
    weights = np.asarray(weights)
    if w_fmt.accumulator_bits(x_fmt, weights.shape[1]) > 54:
        raise ValueError(f"Sums must stay below 2**53 to be exact in float64, which those of {weights.shape[1]} "
                         "products may not")
    w, a = fp8_ints(weights, w_fmt).astype(np.float64), fp8_ints(x, x_fmt).astype(np.float64)
    return (a @ w.T).astype(np.int64)


def latency(design: Design) -> int:
    """Cycles from the firing of a last operation to its first granule at ``o``."""
    # Operands to the columns, product, first sums, accumulator, output; the tree of more than 8 lanes has a register
    # for every two levels more.
    levels = design.hw.lanes.bit_length() - 2
    return 5 + max(0, (levels + 1) // 2 - 1) + bool(design.hw.adapters)


@dataclass(frozen=True)
class MatmulTimes:
    """When a matrix passes through the array: cycles in which something happens.

    first_fire, last_fire   of operations
    last_take               the last tile becomes active
    busy, starved, blocked  how many of each
    """
    first_fire: int
    last_fire: int
    last_take: int
    busy: int
    starved: int
    blocked: int
    start: int                  # what `rows` counts from
    n_tiles: int
    groups: int                 # granules of a row
    # of the first n-tiles: when the first granule of each entry is at o ...
    rows: tuple[tuple[int, ...], ...]
    # ... and (tiles, cycles): each later one is as the one so many tiles before, plus cycles
    repeat: tuple[int, int]

    def granule(self, index: int, entry: int = -1) -> int:
        """Cycle in which granule ``index`` of an entry (by default the last) is at ``o``; -1 is the matrix's last."""
        tile, group = divmod(index % (self.n_tiles * self.groups), self.groups)
        tiles, cycles = self.repeat
        turns = max(0, -(-(tile + 1 - len(self.rows)) // tiles))
        return self.start + self.rows[tile - turns * tiles][entry] + turns * cycles + group


def _waits(tiling):
    """`Tiling.waits` of the first n-tiles, after which they are repeated."""
    return tuple(tiling.waits(j) for j in range(tiling.row_tiles or 1))


def matmul_cycles(design: Design, matmul: Matmul, n: int, ops: int, tile: int,
                  tiling: Tiling | None = None) -> MatmulTimes:
    """`MatmulTimes` of ``matmul`` for n entries.

    ``ops``: cycle in which the first operation is at ``x``; the others follow without a gap. ``tile``: cycle in which
    the first tile is at ``tile``, when no other is active any more; each of the others is there ``tile_beats`` cycles
    after the one before it was taken, or as many as `Tiling.waits` of ``tiling`` says. Nothing stalls ``o``, and the
    ring is empty in the beginning.
    """
    hw = design.hw
    waits = _waits(tiling or Tiling(matmul, hw.tile_beats))
    times = _cycles(latency(design), max(2, hw.entries), hw.columns // hw.vector_lanes, waits, matmul.n_tiles,
                    n, tile - ops)
    return replace(times, first_fire=times.first_fire + ops, last_fire=times.last_fire + ops,
                   last_take=times.last_take + ops, start=ops)


class _Clock(NamedTuple):
    """Where the array stands between two n-tiles."""
    end: int            # the latest operation fired
    taken: int          # the latest tile became active
    left: tuple[int, ...]         # the last granules of the latest R rows left the ring
    starved: int = 0
    blocked: int = 0

    def state(self) -> tuple[int, ...]:
        """All that decides how it goes on, seen from ``end``."""
        return self.taken - self.end, *(max(x - self.end, 0) for x in self.left)

    def later(self, turns: int, start: "_Clock", end: "_Clock") -> "_Clock":
        """These times, later by ``turns`` times the difference between two clocks."""
        return self._replace(**{field: getattr(self, field) + turns * (getattr(end, field) - getattr(start, field))
                                for field in ("end", "taken", "starved", "blocked")})


@lru_cache(maxsize=4096)
def _cycles(latency, rows, groups, waits, n_tiles, n, tile):
    """n-tile by n-tile, for the first operation at ``x`` in cycle 0, until the state comes again and so all repeats."""
    clocks, arrivals, known = [_Clock(end=min(0, tile), taken=tile - waits[0][0], left=(-1,) * rows)], [], {}
    while len(arrivals) < n_tiles:
        clock, arrival = _n_tile(clocks[-1], latency, groups, waits[len(arrivals) % len(waits)], n)
        arrivals.append(arrival)
        clocks.append(clock)
        first = known.setdefault((clock.state(), len(arrivals) % len(waits)), len(arrivals))
        if first < len(arrivals):
            turns, rest = divmod(n_tiles - first, len(arrivals) - first)
            repeat = len(arrivals) - first, clock.end - clocks[first].end
            last = clocks[first + rest].later(turns, clocks[first], clock)
            break
    else:
        last, repeat = clocks[-1], (1, 0)
    return MatmulTimes(first_fire=max(0, tile) + 1, last_fire=last.end, last_take=last.taken,
                       busy=n_tiles * len(waits[0]) * n, starved=last.starved, blocked=last.blocked, start=0,
                       n_tiles=n_tiles, groups=groups,
                       rows=tuple(arrivals), repeat=repeat)


def _n_tile(clock, latency, groups, waits, n):
    """(the clock after one n-tile, cycle in which the first granule of each of its rows is at ``o``)."""
    end, taken, left, starved, blocked = clock
    left = list(left)
    *firsts, beats = waits
    even = len(set(waits)) == 1
    for wait in firsts[:2] if even else firsts:
        taken = max(taken + wait, end)
        starved += max(0, taken - max(end, 0))
        end = max(taken, end, 0) + n
    if even and len(waits) > 3:     # the others cost the same each, until the last
        more, cost = len(waits) - 3, max(n, beats)
        taken, end, starved = taken + more * cost, end + more * cost, starved + more * (cost - n)
    taken = max(taken + beats, end)
    starved += max(0, taken - max(end, 0))
    end = max(taken, end, 0)
    arrivals = []
    for _ in range(n):
        free = left.pop(0)
        blocked += max(0, free - end)
        end = max(end, free) + 1
        arrivals.append(max(end + latency, left[-1] + 2))
        left.append(arrivals[-1] + groups - 2)
    return _Clock(end, taken, tuple(left), starved, blocked), tuple(arrivals)


def matmul_trace(design: Design, matmul: Matmul, n: int, ops: int, tile: int,
                 tiling: Tiling | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same times one by one, straight from the equations: (takes [tiles], fires [tiles, n], granules [n_tiles, n,
    C/V])."""
    hw = design.hw
    rows, groups, steps = max(2, hw.entries), hw.columns // hw.vector_lanes, matmul.k_tiles * matmul.codes
    tiling = tiling or Tiling(matmul, hw.tile_beats)
    takes, fires, left, granules = [], [], [], []
    for q in range(matmul.tiles):
        takes.append(max(takes[-1] + tiling.waits(q // steps)[q % steps], fires[-1]) if q else tile)
        for _ in range(n):
            fire = max(fires[-1] if fires else ops, takes[-1]) + 1
            if q % steps == steps - 1:
                if len(left) >= rows:
                    fire = max(fire, left[-rows] + 1)
                start = max(fire + latency(design) - 1, left[-1] + 1 if left else 0)
                granules += [start + 1 + group for group in range(groups)]
                left.append(start + groups - 1)
            fires.append(fire)
    return np.array(takes), np.array(fires).reshape(-1, n), np.array(granules).reshape(-1, n, groups)
