"""Times of a memory beside the FPGA: loading the weights into it, and reading them in a pass."""
import math
from dataclasses import dataclass

from ..golden.card_reader import byte_cycles, card_cycles
from ..golden.dram import port_cycles, read_cycles
from ..golden.weights import request_list
from ..params.axi import AxiShape
from ..params.card import BLOCK_WAIT, card_timing
from ..params.design import Design
from ..params.dram import Sdram
from ..params.frames import FRAME_BYTES, MOST_WRITTEN
from ..params.loader import BLOCK, BURST, ROUND_TRIP
from .throughput import decode_counts, decode_cycles

__all__ = ["Reading", "adapter_seconds", "card_seconds", "check_seconds", "kv_bytes", "load_seconds", "pass_bytes",
           "read_time", "reading"]

#: Bytes of a block's frames, there and back: that it comes (two writes, and their answer), and what became of it (a
#: read of five words, and its answer).
_FRAMES = (FRAME_BYTES + 7 + 7) + (FRAME_BYTES + 2) + (FRAME_BYTES + 3) + (FRAME_BYTES + 21)
#: Until a stream's address is on a memory's clock, and its first word back: three edges each way.
CROSSING_CYCLES = 6
#: Of the wire, for a byte: start, 8 data, stop.
_BITS = 10


def load_seconds(size: int, baud: float) -> float:
    """Seconds for ``size`` bytes over a UART, in blocks, each with its frames and two round trips of the host's serial
    driver."""
    blocks = -(-size // BLOCK)
    return (size + blocks * _FRAMES) * _BITS / baud + 2 * blocks * ROUND_TRIP


def adapter_seconds(design: Design, baud: float, round_trip: float = ROUND_TRIP) -> float:
    """Seconds for an adapter over a UART: a frame that begins it, frames of its words, and a read of its status, each
    with its answer and a round trip of the host's serial driver."""
    words = design.adapter_map.beats * design.hw.beat_bytes // 4
    frames = -(-words // MOST_WRITTEN)
    begin, each, status = ((FRAME_BYTES + there) + (FRAME_BYTES + back) for there, back in ((7, 1), (3, 1), (3, 5)))
    size = 4 * words + begin + frames * each + status
    return size * _BITS / baud + (frames + 2) * round_trip


def check_seconds(size: int, clock: float, axi: AxiShape, latency: int = 20) -> float:
    """Seconds in which the loader reads ``size`` bytes back, at a clock in MHz (`hwgen.golden.memory_loader.checked`):
    a byte a cycle, or a burst in the cycles that a memory takes for its first word and the others."""
    words = min(BURST, axi.burst_words)
    burst = words * axi.word_bytes
    return size / burst * max(burst, latency + words + 1) / (clock * 1e6)


def card_seconds(size: int, clock: float, axi: AxiShape, wait: float = BLOCK_WAIT) -> float:
    """Seconds for ``size`` bytes from an SD card (`hwgen.golden.card_reader`) and to read them back, at a clock in MHz,
    when each block comes ``wait`` seconds after the one before. Without the card's own start, which takes a second at
    most."""
    timing = card_timing(clock)
    bytes_ = max(1, round(wait * clock * 1e6 / byte_cycles(timing.fast)))
    return card_cycles(size, timing, bytes_) / (clock * 1e6) + check_seconds(size, clock, axi)


def pass_bytes(design: Design, texts: int) -> int:
    """Bytes of weights that a pass reads in which each of so many texts gets a token."""
    head: bool | tuple[bool, bool] = (True, texts > design.hw.entries // 2) if design.hw.halves == 2 else True
    return design.hw.beat_bytes * sum(count for _, count, _ in request_list(design, [0] * texts, head, [0] * texts))


@dataclass(frozen=True)
class Reading:
    """A decoded token of ``texts`` at once.

    machine, memory     cycles that the machine takes where weights are never late, the mean over the positions that all
                        texts have room for; and those that the memory takes for a pass' weights, at most, and for
                        keys and values if it has them
    """
    texts: int
    machine: float
    memory: float

    @property
    def binds(self) -> str:
        return "the memory" if self.memory > self.machine else "the machine"

    @property
    def cycles(self) -> float:
        """Of a token. The memory is read ahead, but for what one of the two does while the other waits: so at least
        these."""
        return max(self.machine, self.memory) / self.texts


def kv_bytes(design: Design, texts: int) -> float:
    """Bytes of keys and values that such a pass reads, the mean over positions."""
    places, rows = design.kv_places, design.room(texts) / 2
    return texts * places.lines * rows * (places.k_beats + places.v_beats) * places.beat_bytes


def read_time(memory: Sdram, clock: float, size: int, memory_clock: float | None = None) -> int:
    """Cycles of a machine at ``clock`` MHz, at most, in which it reads so many bytes from a memory whose controller has
    its clock or one of its own: that binds which is slower, the memory or the port between them."""
    if not memory_clock:
        return read_cycles(memory, clock, size)
    there = math.ceil(read_cycles(memory, memory_clock, size) * clock / memory_clock)
    return max(port_cycles(memory, memory_clock, clock, size), there) + CROSSING_CYCLES


def reading(design: Design, memory: Sdram, clock: float, texts: int, memory_clock: float | None = None) -> Reading:
    """`Reading` of a design whose weights are in a board's memory, at ``clock`` MHz, and ``memory_clock`` if the
    memory's is another one. All cycles are the machine's.

    While attention reads keys and values from the same memory, weights wait: the reader's places for them are soon
    full. Without a window: all positions are counted.
    """
    needs = read_time(memory, clock, pass_bytes(design, texts), memory_clock)
    if design.hw.kv_port:
        needs += max(round(decode_counts(design, texts, "attention")),
                     read_time(memory, clock, round(kv_bytes(design, texts)), memory_clock))
    return Reading(texts, decode_cycles(design, texts), needs)
