"""The golden model behind the same interface as the hardware: tokens, signatures and the cycles they should take."""
from ..golden.decoder import GoldenDecoder
from ..golden.sequencer import pass_timeline
from .link import Link, PassResult

__all__ = ["GoldenLink"]


class GoldenLink(Link):
    """Runs passes on a `GoldenDecoder`; phases, cycles and counters are the cycle model's prediction."""

    def __init__(self, design, quantized):
        self.design = design
        self.decoder = GoldenDecoder(design, quantized)

    def configure(self, inv_temperature, seed):
        self.decoder.inv_temperature, self.decoder.seed = inv_temperature, seed

    def reset(self):
        self.decoder.reset()

    def run_pass(self, entries):
        tokens, signatures = self.decoder.run_pass([(e.slot, e.position, e.token, e.want) for e in entries])
        time = pass_timeline(self.design, [e.position for e in entries], [e.want for e in entries])
        return PassResult(tokens=tokens, signatures=signatures, phases=time.phases, outcome_cycles=time.outcomes,
                          cycles=time.outcomes[-1], counters=time.counters)
