"""Twin of `hwgen.units.kv_cache`: the keys and values of all slots, and when they are written and read."""
from typing import NamedTuple

import numpy as np

from .vector_buffer import READ_LATENCY as HEAD_LATENCY

__all__ = ["READ_LATENCY", "KvRows", "kv_arrays", "kv_write", "kv_write_cycles"]

#: Cycles from an accepted read request to its row.
READ_LATENCY = 3


class KvRows(NamedTuple):
    """FP8 codes and exponents, indexed [layer, slot, position, K/V head]."""
    k_codes: np.ndarray   # uint8 [layers, slots, context, kv_heads, head]
    k_exp: np.ndarray     # int16 [layers, slots, context, kv_heads]
    v_codes: np.ndarray
    v_exp: np.ndarray

    def slot(self, layer, slot, length):
        """The first ``length`` positions of a slot in a layer, as views: what `golden.attention` reads."""
        return KvRows(*(array[layer, slot, :length] for array in self))


def kv_arrays(design):
    """Empty `KvRows` of a design. (The hardware's memory is not cleared: a slot's positions are written in order.)"""
    shape = design.layers, design.hw.slots, design.hw.context, design.kv_heads
    return KvRows(*(array for _ in range(2)
                    for array in (np.zeros((*shape, design.head), np.uint8), np.zeros(shape, np.int16))))


def kv_write(rows, layer, slot, position, k_codes, k_exp, v_codes, v_exp):
    """One entry's heads [kv_heads, head] and exponents [kv_heads]; arrays of slots and positions write several entries."""
    for array, value in zip(rows, (k_codes, k_exp, v_codes, v_exp)):
        array[layer, slot, position] = value


def kv_write_cycles(design, entries, *, read_latency=2):
    """Cycle of `done` of `KvWriter`, from the accept of the first of ``entries`` commands that follow each other.

    A command's first request goes out in the cycle after it, and the next command is taken with the last request of this one.
    A slice that the buffer answers is taken in the same cycle, and is readable in the next.
    """
    requests = entries * 2 * design.kv_heads * (design.head // design.hw.attention_lanes)
    return requests + HEAD_LATENCY + 1
