"""Golden twin of hwgen/units/wired.py: the array's exact sums, and the cycles that they take a bit at a time."""
from typing import NamedTuple

from .mac_array import mac_array as sums

__all__ = ["WiredTimes", "sums", "wired_cycles"]


class WiredTimes(NamedTuple):
    """When an entry goes through a matrix: cycles.

    taken       of the last slice
    busy        how many, beginning with the one after that
    first       the first granule is at ``o``; the others follow, one a cycle
    last        the last one is
    ready       the next entry's first slice is taken
    """
    taken: int
    busy: int
    first: int
    last: int
    ready: int

    def granule(self, index, entry=-1):
        """Cycle in which a granule is at ``o``; -1 is the last."""
        return self.first + index if index >= 0 else self.last + 1 + index


def wired_cycles(design, matrix, bits, ops):
    """`WiredTimes` of a `hwgen.params.wired.FixedMatrix` in a unit whose sums have ``bits``, the largest of its matrices'.

    ``ops``: the first slice is at ``x``, and the unit takes it; the others follow without a gap. Nothing stalls ``o``.
    """
    hw = design.hw
    granules = -(-matrix.size[0] // hw.columns) * (hw.columns // hw.vector_lanes)
    taken = ops + matrix.size[1] // hw.lanes - 1
    busy = matrix.latency + bits
    drain = taken + 1 + busy        # a granule is selected, then it is in the output's register
    return WiredTimes(taken, busy, drain + 2, drain + 1 + granules, drain + granules)
