"""What every link to a decoder speaks: passes in, results out, whether it is simulated, emulated or on a board."""
from dataclasses import dataclass, field

__all__ = ["Entry", "Link", "LinkError", "PassResult"]


class LinkError(Exception):
    """The other side failed; the message is one line."""


@dataclass(frozen=True)
class Entry:
    """One entry of a pass."""
    slot: int
    position: int
    token: int
    want: bool = False


@dataclass
class PassResult:
    """What a pass gave.

    tokens            {entry index: token} of the entries that wanted output
    signatures        [layers][entries] CRC-32 of the residual after each layer
    phases            [(cycle, phase, layer)]: when each phase began; cycle 0 accepts the first entry
    outcome_cycles    cycle of each outcome
    cycles            cycle of the last outcome
    counters          {event: cycles}
    A link that cannot know a field leaves it None.
    """
    tokens: dict
    signatures: list
    phases: list = None
    outcome_cycles: list = None
    cycles: int = None
    counters: dict = field(default_factory=dict)


class Link:
    """A decoder that takes passes. Use as a context manager, or close()."""

    design = None

    def run_pass(self, entries):
        """Run at most ``design.hw.entries`` entries as one pass: list of Entry -> PassResult."""
        raise NotImplementedError

    def configure(self, inv_temperature, seed):
        """Temperature and seed of the passes that follow; 0 is greedy."""
        raise NotImplementedError

    def reset(self):
        """Forget everything but the weights."""
        raise NotImplementedError

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
