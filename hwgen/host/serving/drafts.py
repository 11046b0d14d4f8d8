"""Draft tokens: guesses that a pass verifies all at once. A wrong one costs an entry, and no draft changes what is
answered."""
from typing import TYPE_CHECKING

from ...params.errors import ErrorCode
from ..links.link import Entry, KvError, Link

if TYPE_CHECKING:
    from .scheduler import Sequence

__all__ = ["Drafter", "LinkDrafter", "NgramDrafter"]


class Drafter:
    """Proposes what may come next."""

    def propose(self, sequence: "Sequence", count: int) -> list[int]:
        """At most ``count`` tokens that may follow ``sequence.tokens``."""
        raise NotImplementedError

    def forget(self, sequence: "Sequence") -> None:
        """A sequence has ended."""


class NgramDrafter(Drafter):
    """What followed the last few tokens where they stood before ("prompt lookup"): for text that repeats itself, and
    free.

    The longest match of at most ``longest`` tokens counts, and of several the latest.
    """

    def __init__(self, longest: int = 3) -> None:
        self.longest = longest

    def propose(self, sequence: "Sequence", count: int) -> list[int]:
        tokens = sequence.tokens
        for n in range(min(self.longest, len(tokens) - 1), 0, -1):
            end = tokens[-n:]
            for start in range(len(tokens) - n - 1, -1, -1):
                if tokens[start:start + n] == end:
                    return tokens[start + n:start + n + count]
        return []


class LinkDrafter(Drafter):
    """A draft model on a link of its own, greedy. Its design has at least as many slots, and a context as long.

    ``passes`` counts what it ran: its time is not the verifying machine's, and is not counted there.
    """

    def __init__(self, link: Link) -> None:
        self.link, self.passes = link, 0
        self._free = list(range(link.design.hw.slots))
        self._kept = {}         # sequence -> (slot, tokens whose keys and values are there)

    def propose(self, sequence: "Sequence", count: int) -> list[int]:
        if sequence not in self._kept:
            if not self._free:
                return []
            self.link.free(self._free[0])
            self._kept[sequence] = self._free.pop(0), []
        slot, kept = self._kept[sequence]       # the slot's length is len(kept)
        tokens, drafts = list(sequence.tokens), []
        same = next((i for i, (a, b) in enumerate(zip(kept, tokens)) if a != b), min(len(kept), len(tokens) - 1))
        if same < len(kept):
            try:
                self.link.truncate(slot, same)
            except KvError as error:
                if error.code != ErrorCode.WINDOW:
                    raise
                self.link.free(slot)        # what is seen from there was given back: all over again
                same = 0
            del kept[same:]
        count = min(count, self.link.design.hw.context - len(tokens) + 1)
        while len(drafts) < count:
            part = tokens[len(kept):][:self.link.design.hw.entries]
            last = len(kept) + len(part) == len(tokens)
            result = self.link.run_pass([Entry(slot, p, token, last and p == len(tokens) - 1)
                                         for p, token in enumerate(part, len(kept))]).check()
            self.passes += 1
            kept += part
            if last:
                drafts.append(result.tokens[len(part) - 1])
                tokens.append(drafts[-1])
        return drafts

    def forget(self, sequence: "Sequence") -> None:
        if sequence in self._kept:
            self._free.append(self._kept.pop(sequence)[0])
