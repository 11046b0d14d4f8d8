"""Golden twin of hwgen/units/sdram_start.py: the register writes and their cycles."""
from collections.abc import Iterable

from ..params.dram import StartStep

__all__ = ["start"]


def start(steps: Iterable[StartStep],
          answers: Iterable[tuple[int, bool]]) -> tuple[list[tuple[int, int, int]], int, bool]:
    """The unit's writes from cycle 0, the first without reset.

    ``answers`` are the cycles from each write's offer to its acknowledge (0: at once), and whether it was refused: one
    (cycles, refused) a step. Returns ([(cycle of the offer, address, data)], cycle in which ``ready`` or ``failed`` is
    there, whether it failed).
    """
    cycle, writes = 0, []
    for step, (late, refused) in zip(steps, answers, strict=True):
        cycle += 1                          # the step is looked up
        writes.append((cycle, step.address, step.data))
        cycle += late + 1                   # it is acknowledged
        if refused:
            return writes, cycle, True
        cycle += step.wait
    return writes, cycle, False
