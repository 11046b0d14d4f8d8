"""The error-correcting code of the KV memory: single errors are corrected, double errors detected.

Hsiao's code (M. Y. Hsiao, A Class of Optimal Minimum Odd-weight-column SEC-DED Codes, IBM Journal of Research and
Development 14(4), 1970). The column of a bit is the syndrome that its flip makes: all columns are different and of odd
weight, so two flips make a syndrome of even weight, which is nobody's. The columns of least weight, spread evenly over
the check bits, make the smallest and fastest circuit.
"""
from functools import lru_cache
from itertools import combinations

__all__ = ["PIECE_BITS", "check_bits", "columns", "pieces"]

PIECE_BITS = 64     # data bits under one set of check bits: (72, 64) as in memory modules


@lru_cache
def check_bits(width: int) -> int:
    """Check bits of ``width`` data bits: the fewest r with enough columns of odd weight, 2**(r - 1), for data and check
    bits."""
    r = 2
    while (1 << (r - 1)) < width + r:
        r += 1
    return r


@lru_cache
def columns(width: int) -> tuple[int, ...]:
    """The column of each data bit, of weight 3 or more; check bit i has the column ``1 << i``."""
    r = check_bits(width)
    found, load = [], [0] * r
    for weight in range(3, r + 1, 2):
        left = list(combinations(range(r), weight))
        while left and len(found) < width:
            # the least growth of the sum of squares
            best = min(left, key=lambda rows: (sum(2 * load[i] + 1 for i in rows), rows))
            left.remove(best)
            for i in best:
                load[i] += 1
            found.append(sum(1 << i for i in best))
    return tuple(found)


def pieces(width: int) -> tuple[tuple[int, int], ...]:
    """A word's pieces as (first bit, data bits), each with check bits of its own."""
    return tuple((low, min(PIECE_BITS, width - low)) for low in range(0, width, PIECE_BITS))
