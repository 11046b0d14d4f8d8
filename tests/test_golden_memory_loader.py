"""The loader's twin: bursts cover the block and nothing else, cycles that are counted by hand, and the checksum that
hosts know."""
import random

import pytest

from hwgen.golden.memory_loader import bursts, checked, checksum, loaded
from hwgen.params.axi import AxiShape
from hwgen.params.loader import BURST
from hwgen.units.memory_loader import MemoryLoader


@pytest.mark.parametrize("width, burst", [(8, 1), (8, 256), (64, 8), (64, 256), (1024, 16)])
def test_bursts(width, burst):
    axi, rng = AxiShape(data_width=width, burst=burst), random.Random(width)
    for _ in range(50):
        address, length = rng.randrange(1 << 20), rng.randint(1, 9000)
        found = bursts(axi, address, length)
        start = address - address % axi.word_bytes
        assert found[0][0] == start and [a + n * axi.word_bytes for a, n in found[:-1]] == [a for a, _ in found[1:]]
        assert 0 <= found[-1][0] + found[-1][1] * axi.word_bytes - start - length < axi.word_bytes
        assert all(1 <= n <= min(burst, BURST) and a // 4096 == (a + n * axi.word_bytes - 1) // 4096 for a, n in found)


def test_cycles_by_hand():
    axi = AxiShape(data_width=16, burst=2)
    # two words and a half: the last byte is moved to its place for a cycle; the burst of the first two begins 3 cycles
    # after they are there
    block = loaded(axi, 4, [10, 20, 30, 40, 50], 1)
    assert block.addresses == [(43, 4, 2), (54, 8, 1)] and block.words == [44, 45, 55] and block.end == 55 + 1 + 2 + 1
    # the second burst is asked for when the first has come, and the byte before the last is taken two cycles after its
    # word came
    block = checked(axi, 4, 5, 4)
    assert block.addresses == [(3, 4, 2), (10, 8, 1)] and block.words == [7, 8, 14] and block.end == 15 + 1 + 1


def test_a_checksum():
    assert checksum(b"123456789") == 0xCBF43926      # CRC-32/ISO-HDLC's check value


def test_silence_that_cannot_be():
    with pytest.raises(ValueError, match="Silence must be at least 2 cycles, not 1"):
        MemoryLoader(AxiShape(), 1)
