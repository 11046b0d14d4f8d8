"""A proof: a unit at a shape, what is asked of it, and for each property a broken unit that has it not."""
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import engine
from .broken import Break, broken
from .harness import Harness

__all__ = ["Proof", "ProofFailed", "prove", "refute"]

FOLDER = Path("build/formal")


class ProofFailed(AssertionError):
    """A property does not hold, or is not proved in time, or holds of the broken unit; the message says which, and
    where the waveform is."""


@dataclass(frozen=True)
class Proof:
    """Properties of a unit at one shape.

    Parameters
    ----------
    unit, shape : str       its names in reports
    make : () -> Harness
    method : str            see `engine.solve`
    breaks : dict           property -> `Break` of the unit, which makes it fail
    depth : int             cycles in which a broken unit fails
    abstract : tuple        see `engine.solve`
    quick : bool            it takes a second and is one of `make test`
    """
    unit: str
    shape: str
    make: Callable[[], Harness]
    method: str = "pdr"
    breaks: dict[str, Break] = field(default_factory=dict)
    depth: int = 20
    abstract: tuple[str, ...] = ()
    quick: bool = False

    @property
    def name(self):
        return f"{self.unit}, {self.shape}" if self.shape else self.unit

    def folder(self, what):
        return FOLDER / re.sub(r"\W+", "_", f"{self.name} {what}").strip("_")


def prove(proof, timeout=600):
    """Prove all properties. Returns the `engine.Verdict` and their number; raises `ProofFailed`."""
    harness = proof.make()
    verdict = engine.solve(harness, proof.folder("proof"), proof.method, abstract=proof.abstract, timeout=timeout)
    if verdict.kind == "refuted":
        raise ProofFailed(f"{proof.name}: property {verdict.property!r} does not hold in cycle {verdict.depth}; "
                          f"waveform: {verdict.waves}")
    if verdict.kind == "open":
        raise ProofFailed(f"{proof.name}: not proved by {proof.method} in {timeout} s (see {proof.folder('proof')})")
    return verdict, len(harness.properties)


def refute(proof, name):
    """Have a property fail of the broken unit. Returns the `engine.Verdict`; raises `ProofFailed`."""
    with broken(proof.breaks[name]):
        verdict = engine.solve(proof.make(), proof.folder(f"without {name}"), f"bounded {proof.depth}", only=name,
                               abstract=proof.abstract)
    if verdict.kind != "refuted":
        raise ProofFailed(f"{proof.name}: property {name!r} holds of a broken unit for {proof.depth} cycles (see "
                          f"{proof.folder(f'without {name}')})")
    return verdict
