"""The phases of a pass, by number: RTL, golden model and traces name them alike."""
from enum import IntEnum

__all__ = ["Phase", "LAYER_PHASES", "EVENTS"]


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


LAYER_PHASES = (Phase.NORM_1, Phase.QKV, Phase.KV_WRITE, Phase.ATTENTION, Phase.O, Phase.NORM_2, Phase.GATE_UP, Phase.DOWN)

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
