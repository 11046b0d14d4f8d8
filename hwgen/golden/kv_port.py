"""Twin of `hwgen.units.kv_port`: the bytes of rows, and the cycles of reads, writes and copies.

The memory is that of `hwgen.params.kv_port`: it takes every address and word at once, and has the words of an address
after `READ_CYCLES`, one a cycle.
"""
from collections import deque
from collections.abc import Generator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..params.design import Design
from ..params.kv_port import EXPONENT_BYTES, READ_CYCLES, kv_axi
from .axi_reader import Reads, beats_of_words, piece_bursts
from .axi_writer import write_period

__all__ = ["KvReads", "copy_cycles", "k_row", "v_row", "row_beat", "write_cycles"]


# -- bytes

def k_row(codes: np.ndarray, exp: int, v_exp: int, beat_bytes: int) -> bytes:
    """A K row as it is in the memory: its exponent and that of the V row of its position, to a whole number of beats,
    and its codes."""
    head = b"".join(int(e).to_bytes(EXPONENT_BYTES, "little", signed=True) for e in (exp, v_exp))
    return head + bytes(-len(head) % beat_bytes) + codes.astype(np.uint8).tobytes()


def v_row(codes: np.ndarray) -> bytes:
    """A V row as it is in the memory."""
    return codes.astype(np.uint8).tobytes()


def row_beat(design: Design, line: int, block: int, position: int, value: int) -> int:
    """The first beat of a K row, or V row (``value``), of a position that is in a physical block."""
    places, offset = design.kv_places, position % design.hw.kv_block
    start = (line * places.blocks + block) * places.block_beats
    return start + (places.kv_block * places.k_beats + offset * places.v_beats if value else offset * places.k_beats)


# -- cycles

class KvReads:
    """Beats of jobs, in the cycle from which each is there, for one that takes them when it can.

    ``settled``: the first cycle in which all writes before are in the memory.
    """

    def __init__(self, design: Design, settled: int = 0) -> None:
        axi = kv_axi(design.hw)
        self._places, self._axi, self._settled = design.kv_places, axi, settled
        self._reads = Reads(axi, design.hw.attention_lanes, READ_CYCLES)
        self._requests: deque[tuple[int | None, int, int]] = deque()    # (cycle or None, first beat, beats)
        self._idle = 0          # from when on jobs are taken
        self._entered, self._given = -1, -1
        self._beats = self._all()
        self._now: int | None = None

    def job(self, offered: int, first: int, last: int) -> None:
        """A job that is offered from a cycle on, of positions ``first`` to ``last``. All K rows of the one before have
        been taken."""
        places, start = self._places, offered
        for value, beats, offset in ((0, places.k_beats, 0), (1, places.v_beats, places.v_offset)):
            position = first
            while position <= last:
                within = position % places.kv_block
                rows = min(places.kv_block - within, last + 1 - position)
                self._requests.append((start if start >= 0 else None, offset + within * beats, rows * beats))
                position, start = position + rows, -1

    def copy(self, offered: int, value: int, rows: int) -> None:
        """A request of a copy, which is offered in a cycle."""
        places = self._places
        beats, offset = (places.v_beats, places.v_offset) if value else (places.k_beats, 0)
        self._requests.append((offered - _ASK, offset, rows * beats))

    def peek(self) -> int:
        """From when on the next beat is there."""
        if self._now is None:
            self._now = next(self._beats)
        return self._now

    def take(self, cycle: int) -> None:
        """The next beat is taken in a cycle."""
        self.peek()
        self._given = cycle
        self._now = None

    def _all(self) -> Generator[int, None, None]:
        """The beats of all requests behind the register, which holds one, and one more while it is not taken."""
        reads, axi, size = self._reads, self._axi, self._places.beat_bytes
        while True:
            start, beat, count = self._requests.popleft()
            offered = reads.taken + _ASK if start is None else max(start, self._idle) + _ASK
            pieces = [(beat * size, count * size)]
            offered = max(offered, self._settled)
            given = reads.request(offered, piece_bursts(axi, pieces), beats_of_words(axi, size, pieces))
            try:
                cycle = next(given)
                self._idle = reads.taken + 1
                while True:
                    came = max(cycle, self._entered + 1)
                    self._entered = max(came, self._given)
                    yield self._entered + 1
                    cycle = given.send(came)
            except StopIteration:
                pass


#: From the state that takes a job, or from a request that is taken, to the next request.
_ASK = 3


class Written(NamedTuple):
    """Cycles from the accept of the first of some commands: of `done` of `KvWriter`, and from when on all is in the
    memory."""
    done: int
    settled: int


@lru_cache(256)
def write_cycles(design: Design, entries: int, first: int) -> Written:
    """When ``entries`` commands that follow each other are written, whose first word is there in cycle ``first``.

    A word is taken when the one three before it goes out, and goes out when the beat before it has been taken: a row's
    first word behind its exponent.
    """
    words = design.padded_head_dim // design.hw.attention_lanes
    period = write_period(kv_axi(design.hw), design.hw.attention_lanes)
    out = [-1, -1, -1]      # cycles in which the latest three words left the last stage
    taken, put = first - 1, -period
    for word in range(entries * 2 * design.kv_heads * words):
        taken = max(taken + 1, out[0])
        ready = max(taken + 3, out[2] + 1)
        if word % words == 0:
            loaded = max(ready, put)
            put = max(loaded + 1, put + period)
            ready = loaded + 1
        loaded = max(ready, put)
        put = max(loaded + 1, put + period)
        out = [*out[1:], loaded]
    return Written(taken + 1, put + period)


@lru_cache(1024)
def copy_cycles(design: Design, rows: int) -> int:
    """Cycles of a copy of a block's first ``rows`` positions, from the one in which it is asked for to its last."""
    places, reads = design.kv_places, KvReads(design)
    period, put, done = write_period(kv_axi(design.hw), design.hw.attention_lanes), -1000, 0
    for _ in range(places.lines):
        for value, beats in ((0, places.k_beats), (1, places.v_beats)):
            reads.copy(max(done + 5, put + period), value, rows)
            for _ in range(rows * beats):
                done = max(reads.peek(), put)
                reads.take(done)
                put = max(done + 1, put + period)
    return done + 1
