"""Golden twin of hwgen/units/memory_loader.py: bursts and their cycles, and the CRC of the bytes."""
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from ..params.axi import AxiShape

__all__ = ["BURST", "Block", "bursts", "checked", "checksum", "loaded"]

BURST = 16      # words of a burst, at most
_PAGE = 4096


@dataclass
class Block:
    """The outcome of a block. Cycle 0 begins it.

    addresses   [(cycle, byte address, words)]: when each burst's address is taken
    words       cycle of each word on the bus
    end         first cycle in which the loader is not busy
    """
    addresses: list[tuple[int, int, int]]
    words: list[int]
    end: int


def bursts(axi: AxiShape, address: int, length: int) -> list[tuple[int, int]]:
    """[(byte address, words)] of a block: each burst ends where the block does, or at a multiple of the longest."""
    size = axi.data_width // 8
    longest = min(BURST, axi.burst, _PAGE // size) * size
    start, found = address // size * size, []
    end = start + -(-length // size) * size
    while start < end:
        stop = min(end, (start // longest + 1) * longest)
        found.append((start, (stop - start) // size))
        start = stop
    return found


def loaded(axi: AxiShape, address: int, came: Sequence[int], latency: int) -> Block:
    """`Block` of bytes that come in the cycles ``came``, into a memory that takes all at once and answers ``latency``
    cycles after a burst's last word."""
    size = axi.data_width // 8
    whole = [*came[size - 1::size]]                     # cycle in which each word is
    if len(came) % size:
        whole.append(came[-1] + size - len(came) % size)
    found, gather = Block([], [], 0), 2
    for start, count in bursts(axi, address, len(came)):
        taken = max(gather, whole[len(found.words) + count - 1] + 2) + 1
        found.addresses.append((taken, start, count))
        found.words += [taken + 1 + k for k in range(count)]
        gather = found.words[-1] + latency + 2
    found.end = gather + 1
    return found


def checked(axi: AxiShape, address: int, length: int, latency: int) -> Block:
    """`Block` that is read from a memory that has an address' first word ``latency`` cycles later, and then one a
    cycle."""
    size = axi.data_width // 8
    longest = min(BURST, axi.burst, _PAGE // size)
    found, gather, leaves = Block([], [], 0), 2, []     # ``leaves``: when each word leaves the FIFO
    for start, count in bursts(axi, address, length):
        if len(leaves) > longest:
            gather = max(gather, leaves[-longest - 1] + 1)
        found.addresses.append((gather + 1, start, count))
        for k in range(count):
            found.words.append(gather + 1 + latency + k)
            leaves.append(max(found.words[-1] + 1, leaves[-1] + size if leaves else 0))
        gather = max(gather + 3, found.words[-1] + 1)
    found.end = leaves[-1] + length - size * (len(leaves) - 1) + 1
    return found


def checksum(data: bytes) -> int:
    """The loader's CRC of some bytes."""
    return zlib.crc32(data)
