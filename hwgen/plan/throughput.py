"""Utilization of a machine's engines, and the lanes that keep its array busy: from the cycle model, for any shape."""
import dataclasses
from collections.abc import Sequence
from typing import Any

from ..golden.decode_loop import GAP
from ..golden.sequencer import pass_timeline
from ..params.design import Design
from ..params.hardware import HwShape

__all__ = ["TARGET", "decode_counts", "decode_cycles", "engine_use", "fewest_lanes", "traffic"]

TARGET = 0.95       # of the cycles in which the array shall be busy


def decode_cycles(design: Design, texts: int = 1, **more: Any) -> float:
    """Cycles of a pass in which each of ``texts`` decodes a token, to the next one's begin: the mean over the positions
    that all of them have room for. ``more`` is for the cycle model (`pass_timeline`)."""
    return decode_counts(design, texts, "cycles", **more) + GAP


def decode_counts(design: Design, texts: int, counter: str, **more: Any) -> float:
    """A counter of such passes, the mean."""
    last = design.room(texts) - 1
    # attention takes a time that is linear in the position
    positions = sorted({round(k * last / 8) for k in range(9)})
    passes = (pass_timeline(design, [p] * texts, [True] * texts, **more).counters[counter] for p in positions)
    return sum(passes) / len(positions)


def traffic(hw: HwShape, position: int) -> dict[str, tuple[list[int], list[bool]]]:
    """Kind of pass -> (positions, wants) of its entries, for full passes near ``position``.

    decode: a token for each of T slots. prefill: a chunk of one prompt. mixed: such a chunk, and one token of another
    slot.
    """
    chunk = range(max(0, position - hw.entries + 1), max(0, position - hw.entries + 1) + hw.entries)
    n = hw.entries
    return {"decode": ([position] * n, [True] * n), "prefill": (list(chunk), [False] * n),
            "mixed": ([*chunk][:n - 1] + [position], [False] * (n - 1) + [True])}


def engine_use(design: Design, positions: Sequence[int], wants: Sequence[bool]) -> dict[str, float]:
    """Cycles of a pass, and the part of them in which each engine is at work.

    Returns a dict: ``cycles``; ``array`` (busy), ``starved`` (an operation and no tile), ``norm``, ``attention`` (with
    the KV write), ``weights`` (a beat taken), each 0 to 1.
    """
    counters = pass_timeline(design, positions, wants).counters
    names = {"array": "mac_busy", "starved": "mac_starved", "norm": "norm", "attention": "attention",
             "weights": "weight_beats"}
    return {"cycles": counters["cycles"], **{name: counters[event] / counters["cycles"]
                                             for name, event in names.items()}}


def fewest_lanes(design: Design, position: int, target: float = TARGET) -> tuple[int, int, float]:
    """The smallest vector and attention lanes with which the array is busy for ``target`` of a decode pass at
    ``position``, with a row of K and V a cycle.

    Returns (vector_lanes, attention_lanes, utilization); where none suffice, those with which it is busiest. Few vector
    lanes come first: each costs more than an attention lane.
    """
    hw, best = design.hw, (0, 0, 0.0)
    most = min(hw.lanes, hw.columns, hw.beat_bytes // 2)
    for vector in (1 << k for k in range(1, most.bit_length())):
        for attention in (1 << k for k in range(vector.bit_length() - 1, 9)):
            shape = dataclasses.replace(hw, vector_lanes=vector, attention_lanes=attention, attention_rows=1)
            tried = dataclasses.replace(design, hw=shape)
            use = engine_use(tried, *traffic(shape, position)["decode"])["array"]
            if use >= target:
                return vector, attention, use
            if use > best[2] + 1e-4:
                best = vector, attention, use
            if attention >= design.model.head_dim:
                break
    return best
