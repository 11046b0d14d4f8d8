"""The cycle model's result for a pass."""
from dataclasses import dataclass

__all__ = ["Timeline"]


@dataclass
class Timeline:
    """Cycles of a pass without stalls; cycle 0 accepts its first entry and the others follow without a gap.

    phases      [(cycle, phase, layer)]: when each phase begins, as the ports ``phase`` and ``layer`` show it
    outcomes    cycle of each outcome
    counters    {event: cycles}
    """
    phases: list[tuple[int, int, int]]
    outcomes: list[int]
    counters: dict[str, int]
