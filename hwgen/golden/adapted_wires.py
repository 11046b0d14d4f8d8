"""The cycles of a matrix that is logic in a machine with adapters: what an adapter adds comes from the array
(docs/adapters.md)."""
from collections.abc import Sequence
from typing import NamedTuple

from ..params.design import Design, Matmul
from .adapters import FIRST_BEAT, SUMS_LATENCY, behind_a_gap
from .mac_array import latency
from .wired import WiredTimes

__all__ = ["AdaptedWires", "adapted_wired_cycles", "behind_adder"]


class AdaptedWires(NamedTuple):
    """When the sums of a matrix that is logic leave with what an adapter adds to them: the cycle of each granule. And
    in how many cycles logic or array are busy; the array is starved; one of the two is blocked."""
    granules: tuple[int, ...]
    busy: int
    starved: int
    blocked: int

    def granule(self, index: int, entry: int = -1) -> int:
        """Cycle in which a granule leaves; -1 is the last."""
        return self.granules[index]


def behind_adder(times: WiredTimes) -> WiredTimes:
    """The same of a pass without an adapter: a granule is in the adder's register for a cycle."""
    return times._replace(first=times.first + 1, last=times.last + 1)


def adapted_wired_cycles(design: Design, wired: WiredTimes, matmuls: Sequence[Matmul], command: int, ops: int,
                         read_latency: int) -> AdaptedWires:
    """`AdaptedWires` of a matrix whose sums alone have the times ``wired``.

    ``matmuls``: `Matmul` s of A and B. ``command``: cycle in which the feeder takes it; ``ops``: that in which the
    first slice comes; ``read_latency``: from a request of the feeder to the operation.
    """
    a, b = matmuls
    array, groups = _Array(design, command, wired.taken + 1), design.hw.columns // design.hw.vector_lanes
    for _ in range(a.n_tiles):
        for k in range(a.k_tiles):
            array.fire(last=k == a.k_tiles - 1)
        for _ in range(groups):
            of_a = array.output.enter(array.finished)
            array.output.leave(of_a)
        array.free_row()
    # the skid has room when logic takes a slice; an operation of A waits in the array's register, the next one in the
    # skid
    free = [0, *range(wired.taken + 2 - a.k_tiles, wired.taken + 2), 0, *(fire + 1 for fire in array.fires[:-2])]
    array.x = behind_a_gap(free[:a.k_tiles + len(array.fires)], ops, of_a + SUMS_LATENCY, read_latency)

    logic, there, granules = _Output(), wired.first - 1, []
    blocked: set[int] = set()
    for _ in range(b.n_tiles):
        for k in range(b.k_tiles):
            array.fire(last=k == b.k_tiles - 1)
        for _ in range(groups):
            both = max(logic.enter(there), array.output.enter(array.finished))
            blocked.update(range(there, logic.entered))
            there = logic.entered + 1
            logic.leave(both)
            array.output.leave(both)
            granules.append(both + 1)
        array.free_row()
    busy = {*range(wired.taken + 1, wired.taken + 1 + wired.busy), *array.fires}
    return AdaptedWires(tuple(granules), len(busy), array.starved, len(blocked | array.blocked))


class _Output:
    """The register of a unit's results, with a place before it: granule after granule.

    entered         cycle in which the latest one came into one of the two
    left, before    those in which it, and the one before it, were taken
    """

    def __init__(self) -> None:
        self.entered = self.left = self.before = -1

    def enter(self, there: int) -> int:
        """The next granule is there; the cycle in which it is offered."""
        self.entered = max(there, self.entered + 1, self.before + 1)
        return max(self.entered, self.left) + 1

    def leave(self, cycle: int) -> None:
        """It is taken."""
        self.before, self.left = self.left, cycle


class _Array:
    """The array on the tiles of an adapter that a command brings, an operation to a tile: what is not held up fires as
    `golden.mac_array` has it.

    x           cycle in which the first of the operations that follow each other is there
    fires       of the operations
    finished    cycle in which the latest finished row is in the ring
    """

    def __init__(self, design: Design, command: int, x: int) -> None:
        self._latency, self._beats = latency(design), design.hw.tile_beats
        self._tile, self.x, self._end = command + FIRST_BEAT + self._beats, x, x
        self._left = [-1] * max(2, design.hw.entries)       # the last granules of the latest rows left the ring
        self.output, self.finished, self.starved = _Output(), -1, 0
        self.fires: list[int] = []
        self.blocked: set[int] = set()

    def fire(self, last: bool) -> None:
        """The next operation, on the next tile of the memory."""
        take = max(self._tile, self._end) if self.fires else self._tile
        self.starved += max(0, take - max(self._end, self.x))
        self._end = max(take, self._end, self.x)
        if last:
            free = self._left.pop(0)
            self.blocked.update(range(self._end + 1, free + 1))
            self._end = max(self._end, free)
        self._end += 1
        self.fires.append(self._end)
        self._tile = take + self._beats
        self.finished = self._end + self._latency - 1

    def free_row(self) -> None:
        """The row's last granule has left the ring."""
        self._left.append(self.output.entered)
