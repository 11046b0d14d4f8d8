"""Weights on an SD card: the image that goes onto it, and what a machine says of its card."""
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ...params.axi import CardShape
from ...params.card import BLOCK_BYTES, CARD_MEANINGS, CardError, card_blocks, image_head
from ...params.design import Design
from ...params.registers import design_id
from .link import LinkError

__all__ = ["CardState", "card_image"]

_NAME_BYTES = 64        # of the model's name, for people
_WHILE_READING = (CardError.SILENT, CardError.REFUSED, CardError.CRC, CardError.MEMORY)


def card_image(design: Design, axi: CardShape, data: bytes | memoryview) -> bytes:
    """The bytes of a card, from its first block on, with ``data``, the stream of weights, for a machine of ``design``
    and a `CardShape`."""
    data = bytes(data)
    name = design.model.name.encode("ascii", "replace")[:_NAME_BYTES]
    head = image_head(design_id(design, axi), len(data)) + zlib.crc32(data).to_bytes(4, "little") + name
    return head.ljust(BLOCK_BYTES, b"\0") + data.ljust(card_blocks(len(data)) * BLOCK_BYTES, b"\0")


class CardState(NamedTuple):
    """What a machine says of its card.

    busy : bool             it is read
    error : CardError       that ended it
    block : int             of the card, which is read, or was the last
    """
    busy: bool
    error: CardError
    block: int

    @classmethod
    def of(cls, words: Sequence[int]) -> "CardState":
        status, block = words       # CARD and CARD_BLOCK
        code = status >> 8 & 15
        if code not in list(CardError):
            raise LinkError(f"The machine's card reader gave error {code}, which must be below {len(CardError)}")
        return cls(bool(status & 1), CardError(code), block)

    def __str__(self):
        """In a line."""
        if self.busy:
            return f"block {self.block:,} is read"
        if self.error == CardError.NONE:
            return f"weights came from it, {self.block:,} blocks"
        where = f", at block {self.block:,}" if self.error in _WHILE_READING else ""
        return CARD_MEANINGS[self.error] + where
