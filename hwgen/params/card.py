"""Weights on an SD card: what its image is, how the card is read, and what may go wrong.

Facts of cards are from the SD Association's Physical Layer Simplified Specification, chapter 7 (SPI mode).
"""
import math
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["ANSWER_BYTES", "BLOCK_BYTES", "BLOCK_WAIT", "CARD_MEANINGS", "CRC_AT", "CardError", "CardStep",
           "CardTiming", "RESETS", "TRIES", "WAKE_BYTES", "card_blocks", "card_timing", "head_error", "image_head"]

BLOCK_BYTES = 512       # of SDHC and SDXC cards, whatever CMD16 says (7.2.3)
#: Of clocks before the first command: at 400 kHz 1.3 ms, of which the card wants 1 ms and 74 clocks (6.4.1).
WAKE_BYTES = 64
ANSWER_BYTES = 10       # that an answer may be late: N_CR is 8 at most (7.5.1)
#: Times that CMD0 is sent. A card that was reading when the FPGA was configured anew goes on with its block: 515 bytes,
#: of 19 a time.
RESETS = 64
TRIES = 4               # times that a block is read
#: Seconds from a block to the next, that the card takes while its clock runs: assumed. It may take 0.1 (4.6.2.1).
BLOCK_WAIT = 100e-6

_SLOW, _FAST = 400_000, 25_000_000      # Hz at most, before the card is ready and behind it (6.6.5, 6.6.6)
_PATIENCE = 1.0         # s: a card's start takes that long at most (4.2.3), a block's first byte 100 ms (4.6.2.1)

_MAGIC, _VERSION = b"HWGNCARD", 1
#: Where in the first block the CRC-32 of all weights is, 4 bytes, lowest first, behind what the machine knows.
CRC_AT = 20


class CardStep(IntEnum):
    """The commands, in the order in which they come (7.2.1)."""
    RESET = 0       # CMD0: SPI mode
    CHECK = 1       # CMD8: 3.3 V, and a pattern
    PROTECT = 2     # CMD59: CRC on
    PREFIX = 3      # CMD55: a command of the application
    START = 4       # ACMD41: the card's own start, with HCS; it and the one before are repeated
    KIND = 5        # CMD58: the OCR, with CCS
    READ = 6        # CMD18: blocks, until ...
    STOP = 7        # ... CMD12


class CardError(IntEnum):
    """Why weights did not come from the card."""
    NONE = 0
    NO_CARD = 1
    KIND = 2
    SILENT = 3
    REFUSED = 4
    CRC = 5
    NO_IMAGE = 6
    VERSION = 7
    MACHINE = 8
    MEMORY = 9
    CHECKSUM = 10


#: The same, in words.
CARD_MEANINGS = {
    CardError.NONE: "nothing",
    CardError.NO_CARD: "no card answers",
    CardError.KIND: "the card is not one of SDHC or SDXC",
    CardError.SILENT: "the card gave no answer in time",
    CardError.REFUSED: "the card refused a command, or could not read",
    CardError.CRC: "a block's CRC was wrong each time",
    CardError.NO_IMAGE: "the card has no image of weights in its first block",
    CardError.VERSION: "the image is of another version",
    CardError.MACHINE: "the image is for another machine",
    CardError.MEMORY: "the memory failed",
    CardError.CHECKSUM: "what the memory has is not what the image says",
}


@dataclass(frozen=True)
class CardTiming:
    """How fast a card is read.

    slow, fast      cycles of half a period of its clock, before it is ready and behind it
    patience        cycles for which it may be late
    """
    slow: int
    fast: int
    patience: int


def card_timing(clock: float) -> CardTiming:
    """`CardTiming` of a machine with a clock of so many MHz."""
    slow, fast = (math.ceil(clock * 1e6 / 2 / most) for most in (_SLOW, _FAST))
    return CardTiming(slow, fast, round(clock * 1e6 * _PATIENCE))


def card_blocks(size: int) -> int:
    """Blocks of weights of ``size`` bytes, which come behind the first."""
    return -(-size // BLOCK_BYTES)


def image_head(machine: int, size: int) -> bytes:
    """The bytes with which an image begins: magic, version, `registers.design_id` of the machine, bytes of weights."""
    head = _MAGIC + b"".join(number.to_bytes(4, "little") for number in (_VERSION, machine, size))
    assert len(head) == CRC_AT
    return head


def head_error(place: int) -> CardError:
    """What it means when the byte at ``place`` is the first that is another one."""
    if place < len(_MAGIC):
        return CardError.NO_IMAGE
    return CardError.VERSION if place < len(_MAGIC) + 4 else CardError.MACHINE
