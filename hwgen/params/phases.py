"""The phases of a pass, by number: RTL, golden model and traces name them alike."""
from enum import IntEnum

__all__ = ["EVENTS", "NORMS", "Phase", "phase_of", "phases"]


class Phase(IntEnum):
    IDLE = 0
    EMBED = 1
    NORM_1 = 2
    QKV = 3
    KV_WRITE = 4
    ATTENTION = 5
    O = 6
    NORM_2 = 7
    GATE_UP = 8
    DOWN = 9
    NORM_F = 10
    HEAD = 11
    FINISH = 12
    POST_1 = 13     # norms of sums, after O and DOWN
    POST_2 = 14


NORMS = (Phase.NORM_1, Phase.POST_1, Phase.NORM_2, Phase.POST_2, Phase.NORM_F)


def phase_of(step):
    """The phase of a block's step: they are called alike."""
    return Phase[step.name.upper()]


def phases(block):
    """The phases of a block's machine, in the order of their numbers."""
    return [phase for phase in Phase if block.post_norms or phase not in (Phase.POST_1, Phase.POST_2)]


#: Hardware counters, by number: cycles of the pass in which ...
EVENTS = {
    "cycles": "the pass was under way, from its first entry to its last result",
    "mac_busy": "the array did useful multiplications",
    "mac_starved": "the array had an activation but no weight tile",
    "mac_blocked": "the array had both but no place for its result",
    "norm": "an RMSNorm phase was under way",
    "attention": "a KV write or attention phase was under way",
    "embed": "the embedding phase was under way",
    "weight_beats": "a weight beat was taken",
    "weight_waits": "a weight beat was wanted and not there",
    "saturated": "a granule of the residual had a number that was clipped",
}
