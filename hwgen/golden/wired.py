"""Golden twin of hwgen/units/wired.py: the array's exact sums, and their cycles at a bit a cycle."""
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..params.design import Design
from ..params.wired import FixedMatrix
from .mac_array import mac_array as sums

__all__ = ["Effects", "WiredTimes", "sums", "wired_cycles"]


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

    def granule(self, index: int, entry: int = -1) -> int:
        """Cycle in which a granule is at ``o``; -1 is the last."""
        return self.first + index if index >= 0 else self.last + 1 + index


def wired_cycles(design: Design, matrix: FixedMatrix, bits: int, ops: int) -> WiredTimes:
    """`WiredTimes` of a `hwgen.params.wired.FixedMatrix` in a unit whose sums have ``bits``, the largest of its
    matrices'.

    ``ops``: the first slice is at ``x``, and the unit takes it; the others follow without a gap. Nothing stalls ``o``.
    """
    hw = design.hw
    granules = -(-matrix.size[0] // hw.columns) * (hw.columns // hw.vector_lanes)
    taken = ops + matrix.size[1] // hw.lanes - 1
    busy = matrix.latency + bits
    drain = taken + 1 + busy        # a granule is selected, then it is in the output's register
    return WiredTimes(taken, busy, drain + 2, drain + 1 + granules, drain + granules)


class Effects:
    """The effect of registers that are stuck on the sums of a `hwgen.params.wired.FixedMatrix`.

    All behind a register is a sum of what is there, modulo two to the power of the sums' bits, so that a wrong number
    of it gives wrong sums in proportion.

    Registers are ("carry", adder), ("sum", adder), ("shift", node, shift) and ("delay", node, shift, time), as `Plan`
    has them.
    """

    def __init__(self, matrix: FixedMatrix) -> None:
        plan, self._network = matrix.plan, matrix.plan.network
        inputs, (outputs, _) = self._network.inputs, matrix.size
        self._uses = defaultdict(list)      # of a node: (shift, time, its share of each output)
        shares = np.zeros((inputs + len(plan.adders), outputs), np.int64)
        for output, at in enumerate(plan.outputs):
            if at:
                one = np.zeros(outputs, np.int64)
                one[output] = 1
                self._uses[at[0]].append((at[1], at[2], one))
                shares[at[0], output] += 1 << at[1]
        for number in reversed(range(len(plan.adders))):
            mine = shares[inputs + number]
            for sign, (node, shift, time) in zip((1, -1 if self._network.adders[number][4] else 1),
                                                 plan.operands[number]):
                self._uses[node].append((shift, time, sign * mine))
                shares[node] += sign * mine << shift
        self._shares = shares

    def effect(self, register: tuple, value: int, nodes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What a register that is always ``value`` adds to the sums, as the product of int64 [m] and int64
        [outputs]; ``nodes``: those of `Network.nodes`, int64 [m] each."""
        kind, at, *rest = register
        if kind == "carry":
            a, shift_a, b, shift_b, negative = self._network.adders[at]
            node = self._network.inputs + at
            return (nodes[a] << shift_a ^ nodes[b] << shift_b ^ -negative ^ -value) - nodes[node], self._shares[node]
        if kind == "sum":
            node = self._network.inputs + at
            return -value - nodes[node], self._shares[node]
        shift = rest[0]
        zero = np.zeros(self._shares.shape[1], np.int64)
        if kind == "shift":
            share = sum((share << further - shift for further, _, share in self._uses[at] if further >= shift), zero)
        else:
            share = sum((share for same, time, share in self._uses[at] if same == shift and time >= rest[1]), zero)
        return -value - (nodes[at] << shift), share
