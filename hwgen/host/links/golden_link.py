"""The golden model behind the same interface as the hardware: tokens, signatures and the cycles they should take."""
from collections.abc import Sequence

from ...golden.decoder import GoldenDecoder
from ...golden.sequencer import pass_timeline
from ...models.adapter_codes import QuantizedAdapter
from ...models.quantize import QuantizedModel
from ...models.wires import fixed_matrices
from ...params.counters import EVENTS
from ...params.design import Design
from ...params.phases import phases
from .link import Entry, KvAnswer, Link, PassResult, check_fits, check_loaded, checked_adapter, entry_errors

__all__ = ["GoldenLink"]


class GoldenLink(Link):
    """Runs passes on a `GoldenDecoder`; phases, cycles and counters are the cycle model's prediction."""

    def __init__(self, design: Design, quantized: QuantizedModel) -> None:
        self.design = design
        self.decoder = GoldenDecoder(design, quantized)
        self._wires = fixed_matrices(quantized, design) if design.hw.wired else None
        self._loaded = set()

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        checked_adapter(self.design, number, quantized)
        self.decoder.load_adapter(number, quantized)
        self._loaded.add(number)

    def configure(self, inv_temperature: int, seed: int) -> None:
        self.decoder.inv_temperature, self.decoder.seed = inv_temperature, seed

    def reset(self) -> None:
        self.decoder.reset()

    def run_pass(self, entries: Sequence[Entry]) -> PassResult:
        check_fits(self.design, entries)
        check_loaded(entries, self._loaded)
        before = self.decoder.saturated
        plain = [(e.slot, e.position, e.token, e.want, e.key, e.adapter) for e in entries]
        tokens, signatures, admitted = self.decoder.run_pass(plain)
        rows, refused = [entries[i] for i in admitted.rows], [answer.cycle for answer in admitted.answers]
        errors = entry_errors(entries, admitted.errors)
        if not rows:
            idle = int(phases(self.design.block).IDLE)
            return PassResult(tokens=tokens, signatures=signatures, phases=[(0, idle, 0)], outcome_cycles=refused,
                              cycles=refused[-1], counters={**dict.fromkeys(EVENTS, 0), "cycles": refused[-1]},
                              errors=errors)
        time = pass_timeline(self.design, [e.position for e in rows], [e.want for e in rows], admitted.closed,
                             [e.adapter for e in rows], self._wires)
        return PassResult(tokens=tokens, signatures=signatures, phases=time.phases,
                          outcome_cycles=refused + time.outcomes, cycles=time.outcomes[-1],
                          counters={**time.counters, "saturated": self.decoder.saturated - before}, errors=errors)

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> KvAnswer:
        check_fits(self.design, slots=(slot, other), length=length)
        return KvAnswer(*self.decoder.operate(op, slot, other, length))
