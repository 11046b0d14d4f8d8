"""Addresses in the machine's memory for adapters (docs/adapters.md). No other module computes them."""
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .block import Project

if TYPE_CHECKING:
    from .design import Design, Matmul

__all__ = ["MAX_SHIFT", "SUM_BITS", "AdapterMap", "AdapterPlace"]

#: The largest shift of B's sums to the left, before they are added to W's.
MAX_SHIFT = 15
#: So many bits more do sums have: what an adapter adds is at most three times the base's largest sum.
SUM_BITS = 2


class AdapterPlace(NamedTuple):
    """An adapter's numbers for a `Project` of a layer: a beat with the exponent, then the tiles of A, then those of B.

    Row r of A, and column r of B, are of the project's matrix ``r // rank``.
    """
    project: str
    layer: int
    address: int
    a: "Matmul"
    b: "Matmul"
    a_address: int
    b_address: int
    end: int


class AdapterMap:
    """The places of an adapter's numbers, in the order of layers and of a layer's projects. ``map[project, layer]`` is
    one of them.

    A byte of a beat is a code of the array's format, which the machine keeps without the bits above it: ``kept_bits``
    of a beat. An exponent is in as many of the first codes as hold its 16 bits, the lowest first.
    """

    def __init__(self, design: "Design") -> None:
        self._places, address = {}, 0
        beats = design.hw.tile_beats
        for layer in range(design.layers):
            for project in design.block.of(Project):
                a, b = design.adapter_matmuls(project)
                starts = address, address + 1, address + 1 + a.tiles * beats
                address = starts[2] + b.tiles * beats
                self._places[project.name, layer] = AdapterPlace(project.name, layer, starts[0], a, b, *starts[1:],
                                                                 address)
        self.beats, self.code_bits = address, design.array_format.bits
        self.kept_bits = self.code_bits * design.hw.beat_bytes
        self.kept_bytes = self.beats * self.kept_bits // 8      # of an adapter

    def __iter__(self) -> Iterator[AdapterPlace]:
        return iter(self._places.values())

    def __getitem__(self, key: tuple[str, int]) -> AdapterPlace:
        return self._places[key]
