"""Golden twin of hwgen/units/axi_crossing.py: in which cycles of two clocks the beats of a channel are given and
taken."""
from collections.abc import Callable, Iterable

__all__ = ["Queue", "transfers"]


class Queue:
    """A channel between two clocks, edge by edge: counts of beats, each of which the other side knows two of its own
    edges late.

    `ready` and `valid` are those of the cycle behind the last edge. Edges come one behind the other: of two at the same
    time nobody knows which one comes first.
    """

    def __init__(self, depth: int) -> None:
        self.depth, self.given, self.taken = depth, 0, 0
        self._given, self._taken = [0, 0], [0, 0]       # of the edge before, and of the one before that

    @property
    def ready(self) -> bool:
        """Whether the giver finds a place."""
        return self.given - self._taken[1] < self.depth

    @property
    def valid(self) -> bool:
        """Whether the taker finds a beat."""
        return self._given[1] != self.taken

    def give(self, offered: bool) -> None:
        """An edge of the giver's clock, behind a cycle in which it offered a beat or not."""
        took, self._taken = self.ready and offered, [self.taken, self._taken[0]]
        self.given += took

    def take(self, wanted: bool) -> None:
        """An edge of the taker's clock, behind a cycle in which it wanted a beat or not."""
        took, self._given = self.valid and wanted, [self.given, self._given[0]]
        self.taken += took


def transfers(depth: int, edges: Iterable[bool], offered: Callable[[int], bool] = lambda cycle: True,
              wanted: Callable[[int], bool] = lambda cycle: True) -> tuple[list[int], list[int]]:
    """(The giver's cycles in which beats are given, the taker's in which they are taken.)

    ``edges`` are those of both clocks in their order, true for the giver's; cycle n of a clock ends with its edge n.
    """
    queue, given, taken, cycles = Queue(depth), [], [], [0, 0]
    for giver in edges:
        cycle = cycles[giver]
        cycles[giver] += 1
        if giver:
            if queue.ready and offered(cycle):
                given.append(cycle)
            queue.give(offered(cycle))
        else:
            if queue.valid and wanted(cycle):
                taken.append(cycle)
            queue.take(wanted(cycle))
    return given, taken
