"""Adapters (docs/adapters.md): their part of a matrix's sums, exact and in the sums' own units, and the cycles of their
tiles."""
from functools import lru_cache
from itertools import groupby

import numpy as np

from ..params.adapters import MAX_SHIFT
from .mac_array import MatmulTimes, latency
from .numbers import acc_to_bf16, bf16_bits, fp8_codes, fp8_ints, scale_exponent

__all__ = ["added", "adapted_cycles", "codes_of", "runs"]

FIRST_BEAT = 3      # from the cycle that takes a command to the one that offers the first beat of the memory
SUMS_LATENCY = 6    # from the cycle that takes a granule of A's sums to the first whose requests see it


def codes_of(design, sums, exponents, own):
    """A's sums as activation codes: float64 [n, R], exponents of the activations [n], the adapter's exponent ->
    (codes uint8 [n, R], how far B's sums are shifted to the left, int64 [n])."""
    fmt = design.recipe.activation_format
    values = acc_to_bf16(sums, exponents[:, None] + design.acc_unit)
    magnitude = (bf16_bits(values) & 0x7FFF).max(axis=-1)
    # with which the shift is 0
    least = np.clip(exponents - own, scale_exponent(0, fmt), scale_exponent(0x7F80, fmt))
    exponent = np.maximum(scale_exponent(magnitude, fmt), least)
    return fp8_codes(values, exponent[:, None], fmt), np.clip(own + exponent - exponents, 0, MAX_SHIFT)


def added(design, x_codes, exponents, a, b, own):
    """An adapter's part of the sums: activation codes uint8 [n, inputs], their exponents [n], integers of A float64 [R,
    inputs] and of B [outputs, R], the adapter's exponent -> float64 [n, outputs], integers."""
    fmt = design.recipe.activation_format
    codes, shift = codes_of(design, fp8_ints(x_codes, fmt).astype(np.float64) @ a.T, exponents, own)
    return np.ldexp(fp8_ints(codes, fmt).astype(np.float64) @ b.T, shift[:, None].astype(np.int32))


def runs(numbers):
    """How many rows each run of rows with the same adapter has: adapters of rows (0: none) -> tuple."""
    return tuple(len(list(rows)) for number, rows in groupby(numbers) if number)


def adapted_cycles(design, matmul, matmuls, n, rows, command, ops, tile, tiling, read_latency):
    """`MatmulTimes` of a layer's matrix for n entries, of which ``rows`` (from `runs`) have adapters.

    ``matmuls``: `Matmul` s of A and B. ``command``: cycle in which the feeder takes it; ``ops`` and ``tile`` as
    `matmul_cycles`.
    ``read_latency``: from a request of the feeder to the operation.
    """
    times = _cycles(latency(design), max(2, design.hw.entries), design.hw.columns // design.hw.vector_lanes,
                    design.hw.tile_beats,
                    tuple(tiling.waits(j) for j in range(tiling.row_tiles or 1)), matmul.n_tiles, matmuls[0].n_tiles,
                    matmuls[1].k_tiles, n, rows,
                    ops - command, tile - command, read_latency)
    last_take, busy, starved, blocked, first, last, arrivals = times
    return MatmulTimes(first_fire=command + first, last_fire=command + last, last_take=command + last_take, busy=busy,
                       starved=starved,
                       blocked=blocked,
                       start=command, n_tiles=matmul.n_tiles, groups=design.hw.columns // design.hw.vector_lanes,
                       rows=arrivals,
                       repeat=(1, 0))


@lru_cache(maxsize=4096)
def _cycles(latency, ring, groups, beats, waits, n_tiles, a_tiles, b_tiles, n, rows, ops, tile, read_latency):
    """Tile by tile, from the command in cycle 0: (the base's last take, busy, starved, blocked, first fire, last fire,
    arrivals of the base's rows)."""
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
                z = _behind_a_gap(fires, ops, sums, read_latency) if z is None else z
                for count in rows:
                    for _ in range(b_tiles):
                        memory = step(memory, count, False, z)[0] + beats
            if taken is not None:
                base = taken + waits[j % len(waits)][k]
            taken, found = step(base, n, k == k_tiles - 1, ops)
        arrivals.append(found)
    return taken, busy, starved, blocked, fires[0], end, tuple(arrivals)


def _behind_a_gap(fires, ops, request, latency):
    """Cycle in which an operation comes to the array whose request the feeder cannot give before cycle ``request``, of
    the fires of those before it.

    Those came through the buffer's pipeline without a gap, the first one in cycle ``ops``; the pipeline stands still
    while what is at its
    end cannot leave, and gaps in it stay: so one that opened while the array waited is still there behind it.
    """
    at_end, leaves = [ops], []          # of each operation; it leaves when the skid behind the pipeline is free
    for j in range(len(fires)):
        leaves.append(max(at_end[j], fires[j - 2] + 1) if j > 1 else at_end[j])
        at_end.append(leaves[j] + 1)
    last, still = len(fires) - 1, set()
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
