"""Adapters (docs/adapters.md): their part of a matrix's sums, exact and in the sums' own units, and the cycles of their
tiles."""
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ..params.adapters import MAX_SHIFT
from ..params.design import Design, Matmul
from ..params.stream import Tiling
from .mac_array import MatmulTimes, latency
from .numbers import acc_to_bf16, bf16_bits, fp8_codes, fp8_ints, scale_exponent

__all__ = ["FIRST_BEAT", "SUMS_LATENCY", "added", "adapted_cycles", "behind_a_gap", "codes_of", "runs"]

FIRST_BEAT = 3      # from the cycle that takes a command to the one that offers the first beat of the memory
SUMS_LATENCY = 6    # from the cycle that takes a granule of A's sums to the first whose requests see it


def codes_of(design: Design, sums: np.ndarray, exponents: np.ndarray, own: int) -> tuple[np.ndarray, np.ndarray]:
    """A's sums as activation codes: float64 [n, R], exponents of the activations [n], the adapter's exponent ->
    (codes uint8 [n, R], how far B's sums are shifted to the left, int64 [n])."""
    fmt = design.recipe.activation_format
    values = acc_to_bf16(sums, exponents[:, None] + design.acc_unit)
    magnitude = (bf16_bits(values) & 0x7FFF).max(axis=-1)
    # with which the shift is 0
    least = np.clip(exponents - own, scale_exponent(0, fmt), scale_exponent(0x7F80, fmt))
    exponent = np.maximum(scale_exponent(magnitude, fmt), least)
    return fp8_codes(values, exponent[:, None], fmt), np.clip(own + exponent - exponents, 0, MAX_SHIFT)


def added(design: Design, x_codes: np.ndarray, exponents: np.ndarray, a: np.ndarray, b: np.ndarray,
          own: int) -> np.ndarray:
    """An adapter's part of the sums: activation codes uint8 [n, inputs], their exponents [n], integers of A float64 [R,
    inputs] and of B [outputs, R], the adapter's exponent -> float64 [n, outputs], integers."""
    fmt = design.recipe.activation_format
    codes, shift = codes_of(design, fp8_ints(x_codes, fmt).astype(np.float64) @ a.T, exponents, own)
    return np.ldexp(fp8_ints(codes, fmt).astype(np.float64) @ b.T, shift[:, None].astype(np.int32))


def runs(numbers: Iterable[int]) -> tuple[int, ...]:
    """How many rows each run of rows with the same adapter has: adapters of rows (0: none) -> tuple."""
    return tuple(len(list(rows)) for number, rows in groupby(numbers) if number)


def adapted_cycles(design: Design, matmul: Matmul, matmuls: Sequence[Matmul], n: int, rows: tuple[int, ...],
                   command: int, ops: int, tile: int, tiling: Tiling, read_latency: int) -> MatmulTimes:
    """`MatmulTimes` of a layer's matrix for n entries, of which ``rows`` (from `runs`) have adapters.

    ``matmuls``: `Matmul` s of A and B. ``command``: cycle in which the feeder takes it; ``ops`` and ``tile`` as
    `matmul_cycles`.
    ``read_latency``: from a request of the feeder to the operation.
    """
    groups = design.hw.columns // design.hw.vector_lanes
    times = _cycles(latency=latency(design), ring=max(2, design.hw.entries), groups=groups,
                    beats=design.hw.tile_beats, waits=tuple(tiling.waits(j) for j in range(tiling.row_tiles or 1)),
                    n_tiles=matmul.n_tiles, a_tiles=matmuls[0].n_tiles, b_tiles=matmuls[1].k_tiles, n=n, rows=rows,
                    ops=ops - command, tile=tile - command, read_latency=read_latency)
    return MatmulTimes(first_fire=command + times.first_fire, last_fire=command + times.last_fire,
                       last_take=command + times.last_take, busy=times.busy, starved=times.starved,
                       blocked=times.blocked, start=command, n_tiles=matmul.n_tiles, groups=groups, rows=times.rows,
                       repeat=(1, 0))


class _Times(NamedTuple):
    """As `MatmulTimes`, from the command in cycle 0. ``last_take``, ``rows``: of the base's tiles and rows."""
    last_take: int
    busy: int
    starved: int
    blocked: int
    first_fire: int
    last_fire: int
    rows: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=4096)
def _cycles(*, latency: int, ring: int, groups: int, beats: int, waits: tuple[tuple[int, ...], ...], n_tiles: int,
            a_tiles: int, b_tiles: int, n: int, rows: tuple[int, ...], ops: int, tile: int,
            read_latency: int) -> _Times:
    """Tile by tile, from the command in cycle 0."""
    k_tiles = len(waits[0])
    # the latest operation fired; the latest tile of the base was taken
    end, taken, left = ops, None, [-1] * ring
    busy = starved = blocked = 0
    # when the next tiles of memory and base are there; the first operation of A's sums
    memory, base, z = FIRST_BEAT + beats, tile, None
    arrivals, fires = [], []                                # fires: of the operations before that

    def step(there, count, last, x):
        """A tile with its operations: the cycle in which it is taken, and when the first granule of each row is at
        ``o``."""
        nonlocal end, busy, starved, blocked
        take = max(there, end if busy else there)
        starved += max(0, take - max(end, x))
        end, found = max(take, end, x), []
        for _ in range(count):
            if last:
                free = left.pop(0)
                blocked += max(0, free - end)
                end = max(end, free) + 1
                found.append(max(end + latency, left[-1] + 2))
                left.append(found[-1] + groups - 2)
            else:
                end += 1
            if z is None:
                fires.append(end)
        busy += count
        return take, tuple(found)

    for index, count in enumerate(rows):
        memory += index > 0             # the beat with the exponent
        for _ in range(a_tiles):
            for k in range(k_tiles):
                take, found = step(memory, count, k == k_tiles - 1, ops)
                memory = take + beats
    sums = found[-1] + groups - 1 + SUMS_LATENCY
    for j in range(n_tiles):
        for k in range(k_tiles):
            if k == k_tiles - 1:
                if z is None:       # an operation waits in the array's register, and the next one in the skid
                    z = behind_a_gap([0, 0, *(fire + 1 for fire in fires[:-2])], ops, sums, read_latency)
                for count in rows:
                    for _ in range(b_tiles):
                        memory = step(memory, count, False, z)[0] + beats
            if taken is not None:
                base = taken + waits[j % len(waits)][k]
            taken, found = step(base, n, k == k_tiles - 1, ops)
        arrivals.append(found)
    assert taken is not None
    return _Times(taken, busy, starved, blocked, fires[0], end, tuple(arrivals))


def behind_a_gap(free: Sequence[int], ops: int, request: int, latency: int) -> int:
    """Cycle in which an operation comes to the array whose request the feeder cannot give before cycle ``request``.
    ``free``: of each operation before it, the first cycle in which the skid behind the buffer's pipeline has room.

    Those came through the pipeline without a gap, the first one in cycle ``ops``; the pipeline stands still while what
    is at its end cannot leave, and gaps in it stay: so one that opened while the array waited is still there behind it.
    """
    at_end, leaves = [ops], []          # of each operation; it leaves when the skid is free
    for j, room in enumerate(free):
        leaves.append(max(at_end[j], room))
        at_end.append(leaves[j] + 1)
    last, still = len(free) - 1, set()
    for j in reversed(range(last)):
        still.update(range(at_end[j], leaves[j]))
    entered, moves = at_end[last], 0    # when the last one before the gap came into the pipeline
    while moves < latency:
        entered -= 1
        moves += entered not in still
    still.update(range(at_end[last], leaves[last]))
    enters = max(request, entered + 1)
    while enters in still:
        enters += 1
    if enters > leaves[last]:
        return enters + latency
    return leaves[last] + sum(cycle not in still for cycle in range(entered, enters))
