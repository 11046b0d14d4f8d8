"""The hardware's counters of a pass (`hwgen.units.counters`): RTL, golden model and hosts share their numbers."""

__all__ = ["EVENTS"]

#: Hardware counters, by number: cycles of the pass in which ...
EVENTS: dict[str, str] = {
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
