"""Weights into a board's memory: what is there already is found by its checksums, the rest is sent, and all of it read
back."""
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...params.loader import BLOCK, LOAD_MEANINGS, LoadError
from .link import LinkError
from .register_link import RegisterLink

__all__ = ["Loaded", "load_weights"]

GROUP = 16          # blocks that are checked at once, and singly if one is wrong
ROUNDS = 3          # times that what is wrong is sent
TRIES = 5           # times that a block is sent before the line is given up


@dataclass
class Loaded:
    """What came of it.

    size, blocks    bytes and blocks of the weights
    sent            blocks that were written, more than once if they had to be
    failed          of these, those that did not arrive whole
    seconds         of all
    """
    size: int
    blocks: int
    sent: int = 0
    failed: int = 0
    seconds: float = 0.0


def load_weights(link: RegisterLink, data: bytes | memoryview | np.ndarray, *, block: int = BLOCK,
                 progress: Callable[[int, int], None] = lambda done, total: None,
                 found: Callable[[int, int], None] = lambda wrong, blocks: None) -> Loaded:
    """Make the memory of a `RegisterLink`'s machine hold ``data``, the stream of its weights, from address 0 on, and
    say so to the machine. Returns `Loaded`.

    Blocks that are there already are not sent, so an interrupted load goes on where it was. ``found(wrong, blocks)`` is
    called when it is known how many are to be sent, ``progress(done, total)`` with bytes of those. ``block`` is how
    many bytes are written and checked at once. LinkError if the line or the memory does not do it.
    """
    data = (data.data if isinstance(data, np.ndarray) else memoryview(data)).cast("B")
    began, parts = time.monotonic(), [(start, data[start:start + block]) for start in range(0, len(data), block)]
    outcome = Loaded(len(data), len(parts))
    link.memory()
    wrong = [] if _right(link, 0, data) else _wrong(link, data, parts)
    found(len(wrong), len(parts))
    for _ in range(ROUNDS):
        total, done = sum(len(part) for _, part in wrong), 0
        for start, part in wrong:
            _send(link, start, part, outcome, lambda count, done=done, total=total: progress(done + count, total))
            done += len(part)
        if not wrong or _right(link, 0, data):
            link.seal(zlib.crc32(data))
            outcome.seconds = time.monotonic() - began
            return outcome
        wrong = _wrong(link, data, parts)
    where = f", at {wrong[0][0]:#x} for one" if wrong else ""
    raise LinkError(f"The board's memory does not keep what is written to it{where}: it is faulty, or its timing is "
                    "not met")


def _right(link, start, part):
    """Whether the memory has bytes at an address."""
    state = link.check_block(start, len(part))
    if state.error:
        raise LinkError(f"The board's memory cannot be read at {start:#x}: {LOAD_MEANINGS[state.error]}")
    return state.count == len(part) and state.crc == zlib.crc32(part)


def _wrong(link, data, parts):
    """(address, bytes) of the blocks that the memory has not: it is asked for groups of them, and for each of a group
    that is wrong."""
    wrong = []
    for first in range(0, len(parts), GROUP):
        group = parts[first:first + GROUP]
        if not _right(link, group[0][0], data[group[0][0]:group[-1][0] + len(group[-1][1])]):
            wrong += [part for part in group if not _right(link, *part)]
    return wrong


def _send(link, start, part, outcome, sent):
    """Write a block, as often as it takes to arrive."""
    for _ in range(TRIES):
        state = link.load_block(start, bytes(part), sent)
        outcome.sent += 1
        if state.error == LoadError.NONE and state.count == len(part) and state.crc == zlib.crc32(part):
            return
        outcome.failed += 1
    why = LOAD_MEANINGS[state.error] if state.error else "what arrived is not what was sent"
    raise LinkError(f"The weights at {start:#x} did not arrive in {TRIES} attempts: {why} (is the baud rate right, "
                    "the cable good?)")
