"""A wrong signature, and the wrong bits that are suspected of it."""
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...golden.decoder import GoldenDecoder
from ...golden.kv_cache import KvBlocks
from ...models.adapter_codes import QuantizedAdapter
from ...models.pack import sections as packed
from ...models.quantize import QuantizedModel
from ...params.stream import Section
from ..diagnosis.faults import WeightFault
from .broken import BrokenDecoder
from .stages import Stages

__all__ = ["MOST", "Alter", "Case", "Suspect", "batches"]

_CHUNK = 1_000_000          # numbers at a time in the widest stage
#: Multiplications for the candidates of a matrix: with more it is left out.
MOST = 200e9

#: Puts a wrong bit into a copy of a `GoldenDecoder`.
Alter = Callable[[BrokenDecoder], None]


@dataclass
class Suspect:
    """A wrong bit that gives the first wrong signature.

    alter       puts it into a copy of a `GoldenDecoder`: weights from the start, a bit of the KV memory before the
                pass in which it is felt. None for constants
    local       it is of nothing but the layer
    explained   passes, from the first on, in which the machine gave what a machine with it would give
    """
    fault: object
    unit: str
    where: str
    alter: Alter | None
    local: bool = True
    explained: int = 0


class Case:
    """A wrong signature: of the entry at position p of a slot, after a layer. All before it is right.

    Parameters
    ----------
    decoder : GoldenDecoder         what it holds in its KV memory is lost
    blocks : KvBlocks               who owns the KV memory
    index, slot, seen : ints        the layer, the entry's slot, and the signature
    x : int64 [p + 1, hidden_size]  residuals before the layer of the slot's positions up to the entry's
    token : int                     the entry's
    old : int                       positions that earlier passes have written
    adapter                         (number, `QuantizedAdapter`) of the slot's, which the decoder's rows have, or None

    Attributes
    ----------
    layer, stages   the layer's weights, and what is at each of its stages
    tried, untried  how many bits the probes have tried, and what they have left out
    """

    def __init__(self, quantized: QuantizedModel, decoder: GoldenDecoder, blocks: KvBlocks, *, index: int, slot: int,
                 seen: int, x: np.ndarray, token: int, old: int,
                 adapter: tuple[int, QuantizedAdapter] | None = None) -> None:
        self.design, self.quantized, self.decoder, self.blocks = decoder.design, quantized, decoder, blocks
        self.index, self.slot, self.seen, self.x, self.token, self.old = index, slot, seen, x, token, old
        self.layer, self.stages = decoder.weights[index], Stages(decoder, index, x)
        self.tried, self.adapter = 0, adapter
        self.untried: list[str] = []

    @cached_property
    def stored(self) -> dict[str, np.ndarray]:
        """Bytes of the layer's sections of the weight stream, by their names: uint8 [beats, beat_bytes]."""
        return {section.name: beats for section, beats in zip(self._sections, packed(self.quantized, self.design))
                if section.layer == self.index}

    @property
    def _sections(self):
        """Of the stream, up to the layer's last."""
        sections = list(self.design.stream)
        return sections[:1 + max(i for i, section in enumerate(sections) if section.layer == self.index)]

    def hits(self, x: np.ndarray) -> list[int]:
        """Indices of candidates' residuals after the layer, [n, hidden_size], that have the wrong signature."""
        return [i for i, crc in enumerate(self.decoder.signature(x)) if crc == self.seen]

    def altered(self, alter: Alter | None) -> BrokenDecoder:
        """A copy of the golden decoder with something wrong."""
        return BrokenDecoder.of(self.decoder, alter)

    def replay(self, decoder: GoldenDecoder) -> int:
        """The signature that the whole layer gives on another decoder."""
        decoder.reset()
        positions = self.stages.positions
        return decoder.signature(decoder.layer(self.index, self.x, np.full_like(positions, self.slot),
                                               positions)[-1:])[0]

    def setting(self, attribute: str, value: object) -> Alter:
        """Puts something else into the layer of a decoder."""
        def alter(decoder):
            decoder.weights[self.index] = layer = copy.copy(decoder.weights[self.index])
            setattr(layer, attribute, value)
        return alter

    def weight(self, section: Section, address: int, bit: int, alter: Alter, local: bool = True) -> Suspect:
        """The `Suspect` of a bit of a byte of a section of the stream."""
        beat, byte = divmod(int(address), self.design.hw.beat_bytes)
        fault = WeightFault(section.address + beat, byte, int(bit))
        return Suspect(fault, "weights", fault.where(self.design), alter, local)


def batches(count: int, width: int) -> Iterator[slice]:
    """Slices of ``count`` candidates of ``width`` numbers each, that fit in memory."""
    size = max(1, _CHUNK // width)
    return (slice(start, start + size) for start in range(0, count, size))
