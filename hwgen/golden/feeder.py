"""Golden twin of hwgen/units/feeder.py: the order in which slices of activations go to the array."""
from collections.abc import Iterator

from ..params.design import Matmul

REQUEST_LATENCY = 1   # from the cycle that takes a command to the one that offers its first request


def requests(matmul: Matmul, n: int) -> Iterator[dict[str, int | dict[str, int]]]:
    """Dicts {row, part, meta} of one matrix and ``n`` entries, in order."""
    for _ in range(matmul.n_tiles):
        for k in range(matmul.k_tiles):
            for code in range(matmul.codes):
                for entry in range(n):
                    first = k == 0 and code == 0
                    last = k == matmul.k_tiles - 1 and code == matmul.codes - 1
                    yield {"row": entry, "part": k, "meta": {"entry": entry, "first": int(first), "last": int(last),
                                                             "tile_end": int(entry == n - 1)}}


def duration(matmul: Matmul, n: int) -> int:
    """Cycles from taking a command to being ready for the next: one per request, and one."""
    return REQUEST_LATENCY + matmul.tiles * n
