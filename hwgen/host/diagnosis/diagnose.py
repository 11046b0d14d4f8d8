"""Which unit of a machine is wrong, from nothing but the signatures that a self-test has read.

Up to the first wrong residual the golden model knows every number in the machine. So each single wrong bit that can
reach that residual (in the weights of its layer, in the KV rows that it reads, in the tables of constants) is tried on
the golden model: what it would make of it is compared with what the machine has made of it, 32 bits of CRC. What passes
is then run as a whole, against all that the machine gave.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...models.quantize import QuantizedModel
from ..links.golden_link import GoldenLink
from .faults import KvFault, rewired
from ..links.link import Link, LinkError
from ..probes import PROBES, Case

if TYPE_CHECKING:
    from ..driver import Mismatch

__all__ = ["Diagnosis", "diagnose"]


@dataclass
class Diagnosis:
    """What can be said: ``suspects`` explain most passes, ``again`` says whether a second run was the same."""
    suspects: list
    passes: int
    tried: int
    untried: list
    again: bool
    hint: str       # if nobody is suspect

    @property
    def unit(self) -> str:
        """The unit, or what it cannot be told from."""
        units = list(dict.fromkeys(suspect.unit for suspect in self.suspects))
        if not units:
            return "cannot tell the unit"
        return ("cannot tell between " if len(units) > 1 else "") + " and ".join(units)

    def lines(self) -> Iterator[str]:
        found = self.suspects
        yield f"unit: {self.unit}"
        yield from (f"  {suspect.where}" for suspect in found[:4])
        if len(found) > 4:
            yield f"  or {len(found) - 4} other bits with the same effect"
        yield f"because: {self._reason() if found else self.hint}"
        if self.untried:
            yield f"not tried: {', '.join(self.untried)}"
        yield ("a second run gave the same: the fault stays" if self.again else
               "a second run gave something else: a bit flipped once, or timing is not met")

    def _reason(self):
        """Why the suspects are those that are left."""
        explained = self.suspects[0].explained
        only = "only this gives" if len(self.suspects) == 1 else "only these give"
        passes = (f"all {self.passes} passes" if explained == self.passes else
                  f"the first {explained} passes; then something else is wrong too")
        return f"of {self.tried:,} wrong bits tried on the golden model, {only} what the machine gave in {passes}"


def diagnose(link: Link, quantized: QuantizedModel, golden: GoldenLink, mismatch: "Mismatch") -> Diagnosis:
    """A `Diagnosis` of the machine behind ``link``, from a `Mismatch` of `driver.selftest` with the same golden model.
    """
    design, runs, number = link.design, mismatch.runs, mismatch.number
    layer, row = mismatch.layer, mismatch.row
    assert runs is not None and number is not None      # a self-test says them
    try:
        link.reset()
        again = all(_same(link.run_pass(entries), result) for entries, result in runs[:number + 1])
    except LinkError:
        again = False
    if layer is None:
        hint = "all residuals are right, so it is the final norm, the LM head's weights, or the sampler"
        return Diagnosis([], len(runs), 0, [], again, hint)
    entry = runs[number][0][row]
    search = _Search(design, quantized, golden, runs, number, layer, entry, mismatch.adapter)
    suspects, case = search.suspects(again), search.case
    return Diagnosis(suspects, len(runs), case.tried, case.untried, again, _hint(entry, case.tried))


def _same(a, b):
    return a.signatures == b.signatures and a.tokens == b.tokens


def _hint(entry, tried):
    """What is left if no single wrong bit explains it."""
    where = ("Position 0 was right in all layers, where rope, the scores of attention and all that makes queries and "
             "keys do nothing: look there first" if entry.position else
             "It is not rope or the scores of attention, which do nothing at position 0")
    return (f"none of {tried:,} wrong bits tried on the golden model gives what the machine gave, so several are "
            f"wrong, or logic or timing. {where}")


class _Search:
    """Wrong bits that the probes find for the first wrong signature, and what they do to the rest of the signatures."""

    def __init__(self, design, quantized, golden, runs, number, layer, entry, adapter):
        self.design, self.runs, self.number = design, runs, number
        of = [(e, signature) for entries, result in runs for e, signature in zip(entries, result.signatures[layer])
              if e.slot == entry.slot]
        n, tokens, positions = entry.position + 1, np.array([e.token for e, _ in of]), np.arange(len(of))
        d = golden.decoder.adapted(entry.adapter)
        d.reset()
        x = d.embedded(tokens, positions)
        for i in range(layer):
            x = d.layer(i, x, np.full_like(positions, entry.slot), positions)
        self.whole = x, [crc for _, crc in of]
        old = min(e.position for e in runs[number][0] if e.slot == entry.slot)
        self.case = Case(quantized, d, golden.decoder.blocks, index=layer, slot=entry.slot, seen=of[n - 1][1], x=x[:n],
                         token=int(tokens[n - 1]), old=old, adapter=adapter)

    def suspects(self, again):
        """Of the wrong bits that give what the machine gave, those that do so in most passes.

        ``again``: a second run was as the first.
        """
        found = [suspect for probe in PROBES for suspect in probe(self.case)]
        if not again:                       # weights and constants stay wrong
            found = [s for s in found if isinstance(s.fault, KvFault)] or found
        # Many bits have the same effect on one entry. Those of the layer alone must have it on the slot's others too,
        # before a whole machine is tried.
        for end in range(len(self.case.x) + 1, len(self.whole[0]) + 1):
            left = [s for s in found if not s.local or self._continues(s, end)]
            if not any(s.local for s in left):
                break
            found = left
        for suspect in found:
            suspect.explained = self._explained(suspect)
        most = max((s.explained for s in found), default=0)
        return [s for s in found if s.explained == most > self.number]

    def _continues(self, suspect, end):
        """Whether a wrong bit in this layer does to the last of ``end`` entries of the slot what happened to it."""
        flips, (x, seen), case = isinstance(suspect.fault, KvFault), self.whole, self.case
        d = case.altered(None if flips else suspect.alter)
        for first, after in ((0, case.old), (case.old, end)) if flips else ((0, end),):
            if first:
                suspect.alter(d)
            positions = np.arange(first, after)
            x_after = d.layer(case.index, x[first:after], np.full_like(positions, case.slot), positions)
        return d.signature(x_after[-1:]) == [seen[end - 1]]

    def _explained(self, suspect):
        """How many passes from the first on a whole machine with that bit wrong gives what this one gave."""
        flips = isinstance(suspect.fault, KvFault)
        decoder = self.case.altered(None if flips else suspect.alter)
        with rewired(self.design, [suspect.fault]):
            for number, (entries, result) in enumerate(self.runs):
                if flips and number == self.number:
                    suspect.alter(decoder)
                plain = [(e.slot, e.position, e.token, e.want, e.key, e.adapter) for e in entries]
                tokens, signatures, _ = decoder.run_pass(plain)
                if (tokens, signatures) != (result.tokens, result.signatures):
                    return number
        return len(self.runs)
