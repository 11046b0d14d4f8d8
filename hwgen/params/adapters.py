"""Addresses in the machine's memory for adapters (docs/adapters.md). No other module computes them."""
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .block import Project

if TYPE_CHECKING:
    from .design import Design, Matmul

__all__ = ["MAX_SHIFT", "AdapterMap", "AdapterPlace"]

#: The largest shift of B's sums to the left, before they are added to W's.
MAX_SHIFT = 15


class AdapterPlace(NamedTuple):
    """An adapter's numbers for a `Project` of a layer: a beat whose first word is the exponent, then the tiles of A,
    then those of B.

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
    one of them."""

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
        self.beats = address

    def __iter__(self) -> Iterator[AdapterPlace]:
        return iter(self._places.values())

    def __getitem__(self, key: tuple[str, int]) -> AdapterPlace:
        return self._places[key]
