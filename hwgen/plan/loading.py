"""How long it takes to get weights into a board's memory over its line."""
from ..params.frames import FRAME_BYTES
from ..params.loader import BLOCK, ROUND_TRIP

__all__ = ["check_seconds", "load_seconds"]

#: Bytes of a block's frames, there and back: that it comes (two writes, and their answer), and what became of it (two reads, and theirs).
_FRAMES = (FRAME_BYTES + 7 + 7) + (FRAME_BYTES + 2) + (FRAME_BYTES + 3 + 3) + (FRAME_BYTES + 13 + 5)
#: Of the wire, for a byte: start, 8 data, stop.
_BITS = 10


def load_seconds(size, baud):
    """Seconds for ``size`` bytes over a UART, in blocks, each with its frames and two round trips of the host's serial driver."""
    blocks = -(-size // BLOCK)
    return (size + blocks * _FRAMES) * _BITS / baud + 2 * blocks * ROUND_TRIP


def check_seconds(size, clock):
    """Seconds in which the loader reads ``size`` bytes back: a byte a cycle of a clock in MHz (`hwgen.golden.memory_loader.checked`)."""
    return size / (clock * 1e6)
