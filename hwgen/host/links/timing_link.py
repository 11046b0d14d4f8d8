"""Time without values: for traces that would take the golden model too long, and models of which there are no
weights."""
from collections.abc import Sequence

from ...golden.admission import admit_pass
from ...golden.kv_cache import KvBlocks
from ...golden.sequencer import pass_timeline
from ...models.adapter_codes import QuantizedAdapter
from ...params.design import Design
from ...params.wired import FixedMatrix
from .link import Entry, KvAnswer, Link, PassResult, check_fits, entry_errors

__all__ = ["TimingLink"]


class TimingLink(Link):
    """The cycle model as a link. Cycles and counters are those of the golden model; the tokens mean nothing (they
    depend on key and token only) and there are no signatures. ``wires`` as of `golden.sequencer.pass_timeline`."""

    def __init__(self, design: Design, wires: dict[tuple[str, int | None], FixedMatrix] | None = None) -> None:
        self.design, self._wires = design, wires
        self.reset()

    def configure(self, inv_temperature: int, seed: int) -> None:
        pass

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        pass

    def reset(self) -> None:
        self.blocks = KvBlocks(self.design)

    def run_pass(self, entries: Sequence[Entry]) -> PassResult:
        check_fits(self.design, entries)
        admitted = admit_pass(self.design, self.blocks, [(e.slot, e.position, e.token) for e in entries])
        for error in entry_errors(entries, admitted.errors).values():
            raise error
        time = pass_timeline(self.design, [e.position for e in entries], [e.want for e in entries], admitted.closed,
                             [e.adapter for e in entries], self._wires)
        size = self.design.model.vocab_size
        return PassResult(tokens={i: (e.key * 2654435761 + e.token) % 2**32 % size
                                  for i, e in enumerate(entries) if e.want},
                          signatures=[], phases=time.phases, outcome_cycles=time.outcomes, cycles=time.outcomes[-1],
                          counters=time.counters)

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> KvAnswer:
        check_fits(self.design, slots=(slot, other), length=length)
        return KvAnswer(*self.blocks.operate(op, slot, other, length))
