"""Golden twin of hwgen/units/ddr3_start.py: what it writes and reads, in which cycles, and what it finds."""
from collections.abc import Iterable
from typing import NamedTuple

from ..params.dram import CheckStep, LaneStep, StartPlan, StartStep

__all__ = ["Answer", "Started", "level"]


class Answer(NamedTuple):
    """What the bus does with a step: cycles from its offer to its end (0: at once), whether it is refused, and the word
    that is read."""
    late: int
    refused: bool
    data: int


class Started(NamedTuple):
    """A start-up.

    steps       [(cycle of the offer, address, word that is written, or None for a read)]
    cycle       in which ``ready`` or ``failed`` is there
    failed      whether it is the latter
    places      [(bitslip, delay)] that each lane was set to
    """
    steps: list[tuple[int, int, int | None]]
    cycle: int
    failed: bool
    places: list[tuple[int, int]]


class _Refused(Exception):
    pass


class _Bus:
    """Steps, one behind the other, from cycle 0 on."""

    def __init__(self, answers: Iterable[Answer], lookup: int) -> None:
        self.answers, self.lookup = iter(answers), lookup
        self.cycle, self.steps = 0, []      # type: int, list[tuple[int, int, int | None]]

    def play(self, steps: Iterable[StartStep], lane: int = 0) -> bool:
        """Whether all that was read is right."""
        right = True
        for step in steps:
            self.cycle += self.lookup       # it is looked up
            reads = isinstance(step, CheckStep)
            answer = next(self.answers)
            written = None if reads else 1 << lane if isinstance(step, LaneStep) else step.data
            self.steps.append((self.cycle, step.address, written))
            self.cycle += answer.late + 1
            if answer.refused:
                raise _Refused
            if isinstance(step, CheckStep):
                right &= not (answer.data ^ step.data) & step.masks[lane]
            self.cycle += step.wait
        self.cycle += 1                     # what follows is chosen
        return right


def _found(plan: StartPlan, bus: _Bus, lane: int) -> tuple[int, int] | None:
    """The middle of a lane's longest run of delays that work at one bitslip, the first of several. None if there are
    none."""
    bus.play(plan.reset, lane)
    best: tuple[int, tuple[int, int] | None] = 0, None
    for bitslip in range(plan.bitslips):
        works = []
        for _ in range(plan.delays):
            works.append(bus.play(plan.test, lane))
            bus.play(plan.delay, lane)
        bus.play(plan.bitslip, lane)
        for first in range(plan.delays):
            end = next((d for d in range(first, plan.delays) if not works[d]), plan.delays)
            if end - first > best[0]:
                best = end - first, (bitslip, (first + end - 1) // 2)
    return best[1]


def _set(plan: StartPlan, bus: _Bus, lane: int, place: tuple[int, int]) -> bool:
    """Whether a lane works where it was set to."""
    bus.play(plan.reset, lane)
    for steps, times in zip((plan.bitslip, plan.delay), place, strict=True):
        for _ in range(times):
            bus.play(steps, lane)
    return bus.play(plan.test, lane)


def level(plan: StartPlan, answers: Iterable[Answer], table: bool = False) -> Started:
    """What the unit does from cycle 0, the first without reset, on a bus with these ``answers``: one for each step, as
    many as it takes. With a ``table`` a step is looked up in two cycles."""
    bus, places = _Bus(answers, 2 if table else 1), []     # type: _Bus, list[tuple[int, int]]
    try:
        bus.play(plan.first)
        for lane in range(plan.lanes):
            place = _found(plan, bus, lane)
            if place is None or not any(_set(plan, bus, lane, place) for _ in range(plan.tries)):
                bus.play(plan.failure, lane)
                return Started(bus.steps, bus.cycle, True, places)
            places.append(place)
        bus.play(plan.last)
    except _Refused:
        return Started(bus.steps, bus.cycle, True, places)
    return Started(bus.steps, bus.cycle, False, places)
