"""The reader's twin against a card of bytes that is written from the specification, CRCs against Python's own and the
specification's examples, and cycles that are counted by hand."""
import binascii
import random
import zlib

import pytest

from hwgen.golden.card_reader import boot, byte_cycles, crc16, crc7, frame, read_cycles
from hwgen.params.card import BLOCK_BYTES, RESETS, TRIES, CardError, CardTiming, card_timing, image_head
from hwgen.units.card_reader import CardReader

SIZE = 700
WEIGHTS = random.Random(4).randbytes(SIZE)
HEAD = image_head(77, SIZE)
IMAGE = ((HEAD + zlib.crc32(WEIGHTS).to_bytes(4, "little")).ljust(BLOCK_BYTES, b"\0") + WEIGHTS).ljust(3 * BLOCK_BYTES, b"\0")
TIMING = CardTiming(4, 1, 100_000)


class Card:
    """What an SDHC card answers. ``spoil(block, time)`` changes the bytes of a block."""

    def __init__(self, image=IMAGE, spoil=lambda block, time, data: data):
        self.image, self.spoil = image, spoil
        self.command, self.out, self.commands, self.reads, self.block = b"", [], [], {}, None

    def __call__(self, byte):
        said = self.out.pop(0) if self.out else 0xFF
        self.command = (self.command + bytes([byte]))[-6:] if self.command or byte != 0xFF else b""
        if len(self.command) == 6:
            self.execute(self.command[0] & 0x3F, int.from_bytes(self.command[1:5], "big"))
            self.command = b""
        elif not self.out and self.block is not None:
            data = self.image[self.block * BLOCK_BYTES:][:BLOCK_BYTES]
            time = self.reads[self.block] = self.reads.get(self.block, 0) + 1
            sent = self.spoil(self.block, time, data)
            self.out = [0xFF, 0xFE, *sent, *binascii.crc_hqx(data, 0).to_bytes(2, "big")] if sent else [0xFF, 0x08]
            self.block += 1
        return said

    def execute(self, number, argument):
        self.commands.append(number)
        starting = self.commands.count(41) < 3 and 18 not in self.commands
        answers = {0: [1], 8: [1, 0, 0, 1, 0xAA], 59: [1], 55: [1], 41: [int(starting)], 58: [0, 0xC0, 0xFF, 0x80, 0],
                   18: [0], 12: [0x33, 0xFF, 0, 0, 0]}
        self.out, self.block = [0xFF] * (number != 12) + answers[number], argument if number == 18 else None


def run(card, error=0, flip=0):
    """(`Boot`, the weights that the loader has)"""
    found = boot(HEAD, SIZE, TIMING, card, ready=3, held=lambda now: (now + 5, 0),
                 checked=lambda now: (now + 100, error, zlib.crc32(WEIGHTS) ^ flip))
    kept = bytearray(SIZE)
    for (_, address, length), data in zip(found.loads, found.bytes):
        kept[address:address + length] = data
    return found, bytes(kept)


def test_checksums():
    assert frame(0, 0)[-1] == 0x95 and frame(8, 0x1AA)[-1] == 0x87      # 7.2.2, and what everybody's code has
    assert crc7(b"") == 0 and all(crc16(data) == binascii.crc_hqx(data, 0) for data in (b"", b"123456789", WEIGHTS))
    assert crc16(bytes([0xFF]) * 512) == 0x7FA1         # 4.5's example


def test_weights_arrive():
    card = Card()
    found, kept = run(card)
    assert (found.error, found.block) == (CardError.NONE, 2) and kept == WEIGHTS
    assert card.commands == [0, 8, 59, *[55, 41] * 3, 58, 18, 12]
    assert [(address, length) for _, address, length in found.loads] == [(0, 512), (512, 188)]
    assert sum(not selected for _, _, selected in found.sent) * 8 >= 74 + 8     # before, and behind


@pytest.mark.parametrize("times", [1, TRIES - 1, TRIES])
@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("data, error", [(lambda data: data[:-1] + bytes([data[-1] ^ 1]), CardError.CRC),
                                         (lambda data: b"", CardError.REFUSED)])
def test_a_block_again(times, block, data, error):
    card = Card(spoil=lambda which, time, right: data(right) if which == block and time <= times else right)
    found, kept = run(card)
    if times == TRIES:
        assert (found.error, found.block) == (error, block) and found.check is None
    else:
        assert found.error == CardError.NONE and kept == WEIGHTS
    assert card.commands.count(18) == card.commands.count(12) == min(times + 1, TRIES)


@pytest.mark.parametrize("place, error", [(0, CardError.NO_IMAGE), (8, CardError.VERSION), (12, CardError.MACHINE),
                                          (16, CardError.MACHINE)])
def test_another_image(place, error):
    image = bytearray(IMAGE)
    image[place] ^= 4
    found, _ = run(Card(bytes(image)))
    assert (found.error, found.block, found.loads) == (error, 0, [])


def test_a_memory_that_fails():
    assert run(Card(), error=2)[0].error == CardError.MEMORY and run(Card(), flip=1)[0].error == CardError.CHECKSUM


def test_cycles_by_hand():
    """No card: bytes at the slow clock, of 66 cycles, from the cycle in which the memory is ready; 63 of clocks, then for each
    reset one more, a gap, six and eleven; and one at the end."""
    found, _ = run(lambda byte: 0xFF)
    count = 63 + RESETS * (1 + 1 + 6 + 11) + 1
    assert found.error == CardError.NO_CARD and found.end == 4 + count * 66
    assert [cycle for cycle, _, _ in found.sent] == [4 + 66 * k for k in range(count)]
    found, _ = run(Card())
    first, second = (cycle for cycle, _, _ in found.loads)
    assert second - first == (512 + 2 + 1 + 1) * byte_cycles(1) + 6     # bytes, CRC, a byte of nothing, token; five cycles for the loader
    assert read_cycles(2 * 512, TIMING, 1) == 2 * (516 * 18 + 1)


def test_clocks():
    for clock in (25, 45, 50, 51, 100):
        timing = card_timing(clock)
        assert all(clock * 1e6 / 2 / half <= most for half, most in ((timing.slow, 400e3), (timing.fast, 25e6)))
        assert all(half == 1 or clock * 1e6 / 2 / (half - 1) > most for half, most in ((timing.slow, 400e3), (timing.fast, 25e6)))


@pytest.mark.parametrize("head, size, timing, error", [
    (b"", 5, TIMING, "Head of an image must be 20 bytes, not 0"),
    (HEAD, 0, TIMING, "Weights on a card must be 1 to 65535 bytes, not 0"),
    (HEAD, 1 << 16, TIMING, "Weights on a card must be 1 to 65535 bytes, not 65536"),
    (HEAD, 5, CardTiming(0, 0, 5), "must be 1 cycle at least, and not shorter at first, not 0 and 0"),
    (HEAD, 5, CardTiming(1, 2, 5), "not 1 and 2")])
def test_readers_that_cannot_be(head, size, timing, error):
    with pytest.raises(ValueError, match=error):
        CardReader(head, size, timing, 16)
