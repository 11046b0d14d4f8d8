"""Where keys and values are in a memory outside, and what the port to it is."""
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .axi import AxiShape

if TYPE_CHECKING:
    from .hardware import HwShape

__all__ = ["EXPONENT_BYTES", "KV_PREFIX", "KvPlaces", "READ_CYCLES", "WRITE_CYCLES", "kv_axi"]

#: Of the port's names.
KV_PREFIX = "m_axi_kv_"
#: Of an exponent in front of a K row: a signed number, the lowest byte first.
EXPONENT_BYTES = 2
#: The memory of which the cycle model speaks: cycles from an address to the first word, a word in each cycle behind it;
#: and from a burst's last word that is written to the answer.
READ_CYCLES, WRITE_CYCLES = 8, 1


def kv_axi(hw: "HwShape", axi: AxiShape | None = None) -> AxiShape:
    """The `AxiShape` of the port of a machine whose keys and values are outside, beside the one of its weights, whose
    addresses and identifiers it has. Its FIFO covers a memory's latency, and no more: attention does not rest for
    long."""
    axi = axi or AxiShape()
    return AxiShape(data_width=hw.kv_port, address_width=axi.address_width, id_width=axi.id_width, burst=64,
                    outstanding=4, prefetch=64)


@dataclass(frozen=True, kw_only=True)
class KvPlaces:
    """Addresses in the memory of keys and values, in beats of A codes (`HwShape.attention_lanes`).

    A layer's K/V head is a *line*; a line has all blocks, one after the other. A block has the K rows of its
    positions, then their V rows. In front of the codes of a K row are its exponent and that of the V row of its
    position, two bytes each. A block begins where a longest burst may: so the cycles of a read depend on positions, not
    on blocks.

    Parameters
    ----------
    beat_bytes      A
    words           beats of a row's codes
    kv_block        positions of a block
    blocks, lines   how many
    alignment       bytes: a block begins at a multiple
    """
    beat_bytes: int
    words: int
    kv_block: int
    blocks: int
    lines: int
    alignment: int

    @property
    def head_beats(self) -> int:
        """Beats of the exponents."""
        return -(-2 * EXPONENT_BYTES // self.beat_bytes)

    @property
    def k_beats(self) -> int:
        """Of a K row, with the exponents."""
        return self.head_beats + self.words

    @property
    def v_beats(self) -> int:
        return self.words

    @property
    def v_offset(self) -> int:
        """From a block's first beat to its first V row."""
        return self.kv_block * self.k_beats

    @cached_property
    def block_beats(self) -> int:
        """From a block to the next."""
        size, unit = self.kv_block * (self.k_beats + self.v_beats), max(1, self.alignment // self.beat_bytes)
        return -(-size // unit) * unit

    @property
    def beats(self) -> int:
        return self.lines * self.blocks * self.block_beats

    @property
    def size(self) -> int:
        """Bytes."""
        return self.beats * self.beat_bytes
