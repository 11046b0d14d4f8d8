"""Twin of `hwgen.units.axi_reader`: its bursts and beats and their cycles, with a memory that never stalls.

Cycle 0 offers the first request, and the next ones follow without a gap. The memory takes every address at once, and
has the words of an address taken in cycle a from a + latency on, one a cycle, in order. Beats are taken as they come.
"""
from collections.abc import Iterable
from dataclasses import dataclass

from ..params.axi import AxiShape
from ..params.design import Design

__all__ = ["Burst", "DESCRIPTORS", "Reading", "bursts", "reading"]

DESCRIPTORS = 4     # requests under way, where a word holds several beats
_PAGE = 4096


@dataclass(frozen=True)
class Burst:
    """``words`` words from byte ``offset`` of the stream."""
    offset: int
    words: int


@dataclass
class Reading:
    """The bus's transfers, the beats and their cycles, for some requests.

    addresses   [(cycle, Burst)]: when each burst's address is taken
    words       cycle in which each word comes
    beats       cycle in which each beat is handed out
    """
    addresses: list[tuple[int, Burst]]
    words: list[int]
    beats: list[int]


def _pieces(design, address, count, stride):
    """(first byte, bytes) of what lies side by side."""
    size = design.hw.beat_bytes
    if not stride:
        return [(address * size, count * size)]
    return [((address + i * design.hw.tile_beats) * size, size) for i in range(count)]


def bursts(design: Design, axi: AxiShape, address: int, count: int, stride: int) -> list[Burst]:
    """The `Burst`s of a request: each ends where its piece does, or at a multiple of the longest burst."""
    word, longest = axi.data_width // 8, min(axi.burst * axi.data_width // 8, _PAGE)
    found = []
    for first, size in _pieces(design, address, count, stride):
        start, end = first // word * word, -(-(first + size) // word) * word
        while start < end:
            stop = min(end, (start // longest + 1) * longest)
            found.append(Burst(start, (stop - start) // word))
            start = stop
    return found


def _beats_of_words(design, axi, address, count, stride):
    """How many beats end with each word of a request."""
    word, size = axi.data_width // 8, design.hw.beat_bytes
    beats = []
    for first, length in _pieces(design, address, count, stride):
        start, end = first // word, -(-(first + length) // word)
        ends = [(first + length_so_far - 1) // word for length_so_far in range(size, length + 1, size)]
        beats += [sum(1 for e in ends if e == w) for w in range(start, end)] if size <= word else \
            [int((w + 1) * word % size == 0) for w in range(start, end)]
    return beats


def reading(design: Design, axi: AxiShape, requests: Iterable[tuple[int, int, int]], latency: int) -> Reading:
    """`Reading` of requests [(address, count, stride)]."""
    depth, longest = axi.fifo_words, min(axi.burst, _PAGE * 8 // axi.data_width)
    wide = axi.data_width // 8 > design.hw.beat_bytes
    addresses, words, beats = [], [], []
    left = []           # cycle in which each word leaves the memory of the FIFO
    last_words = []     # index of each burst's last word
    ends = []           # cycle of each request's last beat
    promised = 0        # words asked for
    free_from, shown_until = 0, -1
    for index, request in enumerate(requests):
        taken = free_from
        if wide and index >= DESCRIPTORS:
            taken = max(taken, ends[index - DESCRIPTORS] + 1)
        asked = taken
        beats_of = _beats_of_words(design, axi, *request)
        first = promised
        for burst in bursts(design, axi, *request):
            asked += 1
            if len(addresses) >= axi.outstanding:
                asked = max(asked, words[last_words[-axi.outstanding]] + 1)
            must_have_left = promised + longest - depth
            if must_have_left > 0:
                asked = max(asked, left[must_have_left - 1] + 1)
            addresses.append((asked + 1, burst))
            for i in range(burst.words):
                words.append(max(words[-1] + 1 if words else 0, asked + 1 + latency))
                # a word leaves when it has been written, and the one before it is used up
                left.append(max(words[-1] + 1, shown_until))
                ending = beats_of[promised + i - first]
                beats += [left[-1] + 1 + k for k in range(ending)]
                shown_until = left[-1] + max(1, ending)
            promised += burst.words
            last_words.append(promised - 1)
        free_from = asked + 1
        ends.append(beats[-1])
    return Reading(addresses, words, beats)
