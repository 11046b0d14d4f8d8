"""Twin of `hwgen.units.axi_reader`: its bursts and beats and their cycles, with a memory that never stalls.

Cycle 0 offers the first request, and the next ones follow without a gap. The memory takes every address at once, and
has the words of an address taken in cycle a from a + latency on, one a cycle, in order. Beats are taken as they come.
"""
from collections.abc import Generator, Iterable
from dataclasses import dataclass

from ..params.axi import AxiShape
from ..params.design import Design

__all__ = ["Burst", "DESCRIPTORS", "Reading", "Reads", "beats_of_words", "bursts",
           "piece_bursts", "reading"]

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
    """The `Burst`s of a request."""
    return piece_bursts(axi, _pieces(design, address, count, stride))


def piece_bursts(axi: AxiShape, pieces: Iterable[tuple[int, int]]) -> list[Burst]:
    """The `Burst`s of pieces [(first byte, bytes)]: each ends where its piece does, or at a multiple of the longest
    burst."""
    word, longest = axi.data_width // 8, min(axi.burst * axi.data_width // 8, _PAGE)
    found = []
    for first, size in pieces:
        start, end = first // word * word, -(-(first + size) // word) * word
        while start < end:
            stop = min(end, (start // longest + 1) * longest)
            found.append(Burst(start, (stop - start) // word))
            start = stop
    return found


def beats_of_words(axi: AxiShape, size: int, pieces: Iterable[tuple[int, int]]) -> list[int]:
    """How many beats of so many bytes end with each word of pieces [(first byte, bytes)]."""
    word, beats = axi.data_width // 8, []
    for first, length in pieces:
        start, end = first // word, -(-(first + length) // word)
        if size > word:
            beats += [int((w + 1) * word % size == 0) for w in range(start, end)]
        else:
            beats += [(min(first + length, (w + 1) * word) - max(first, w * word)) // size for w in range(start, end)]
    return beats


class Reads:
    """The same, request by request, for one that takes beats when it can.

    addresses, words    as those of `Reading`
    taken               cycle in which the latest request was
    """

    def __init__(self, axi: AxiShape, beat_bytes: int, latency: int) -> None:
        self._axi, self._size, self._latency = axi, beat_bytes, latency
        self._longest, self._wide = axi.burst_words, axi.word_bytes > beat_bytes
        self.addresses: list[tuple[int, Burst]] = []
        self.words: list[int] = []
        self.taken = 0
        self._left = []         # cycle in which each word leaves the memory of the FIFO
        self._last_words = []   # index of each burst's last word
        self._ends = []         # cycle of each request's last beat
        self._free, self._used = 0, -1

    def request(self, offered: int, burst_list: list[Burst], beats_of: list[int]) -> Generator[int, int, None]:
        """A request that is offered from a cycle on: its bursts, and how many beats end with each of their words. Gives
        the cycle from which each beat is offered, and is sent that in which it is taken."""
        axi, index = self._axi, 0
        self.taken = asked = max(offered, self._free)
        if self._wide and len(self._ends) >= DESCRIPTORS:
            self.taken = asked = max(asked, self._ends[-DESCRIPTORS] + 1)
        for burst in burst_list:
            asked += 1
            if len(self.addresses) >= axi.outstanding:
                asked = max(asked, self.words[self._last_words[-axi.outstanding]] + 1)
            must_have_left = len(self.words) + self._longest - axi.fifo_words
            if must_have_left > 0:
                asked = max(asked, self._left[must_have_left - 1] + 1)
            self.addresses.append((asked + 1, burst))
            self._last_words.append(len(self.words) + burst.words - 1)
            self._free = asked + 1
            for _ in range(burst.words):
                self.words.append(max(self.words[-1] + 1 if self.words else 0, asked + 1 + self._latency))
                # a word leaves when it has been written, and the one before it is used up
                left = max(self.words[-1] + 1, self._used)
                self._left.append(left)
                if not beats_of[index]:
                    self._used = left + 1
                offered = left + 1
                for _ in range(beats_of[index]):
                    self._used = yield offered
                    offered = self._used + 1
                index += 1
        self._ends.append(self._used)


def reading(design: Design, axi: AxiShape, requests: Iterable[tuple[int, int, int]], latency: int) -> Reading:
    """`Reading` of requests [(address, count, stride)]."""
    reads, beats = Reads(axi, design.hw.beat_bytes, latency), []
    for request in requests:
        pieces = _pieces(design, *request)
        given = reads.request(0, piece_bursts(axi, pieces), beats_of_words(axi, design.hw.beat_bytes, pieces))
        try:
            beats.append(next(given))
            while True:
                beats.append(given.send(beats[-1]))
        except StopIteration:
            pass
    return Reading(reads.addresses, reads.words, beats)
