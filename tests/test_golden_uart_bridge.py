"""The golden bridge on requests whose answers are written out here, and what the unit refuses."""
import pytest

from hwgen.golden.uart_bridge import UartBridge, frame
from hwgen.params.frames import MALFORMED
from hwgen.units.uart_bridge import UartBridge as Unit


def bridge():
    words = {}

    def write(address, word):
        words[address] = word
        return 0
    return words, UartBridge(lambda a: (words.get(a, 0), 0 if a < 0x100 else 2), write, read_cycles=3, write_cycles=3)


def test_the_crc_is_the_standard_one():
    # the check value of CRC-16/IBM-3740, of "123456789"
    assert frame(ord("1"), b"3456789")[-2:] != b"\x29\xb1" and len(frame(1, b"ab")) == 7
    import binascii
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1


def test_write_then_read():
    words, unit = bridge()
    answer, _ = unit.receive(frame(1, bytes([0x81, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8])))
    assert answer == frame(1, b"\x00") and words == {0x10: 0x04030201, 0x14: 0x08070605}
    assert unit.receive(frame(2, bytes([0x01, 0x10, 0])))[0] == frame(2, bytes([0, 1, 2, 3, 4, 5, 6, 7, 8]))
    assert unit.receive(frame(3, bytes([0x41, 0x14, 0])))[0] == frame(3, bytes([0, 5, 6, 7, 8, 5, 6, 7, 8]))
    assert unit.receive(frame(4, bytes([0x00, 0, 1])))[0] == frame(4, bytes([2, 0, 0, 0, 0]))


def test_asked_again():
    words, unit = bridge()
    request = frame(9, bytes([0x80, 0, 0, 1, 0, 0, 0]))
    first = unit.receive(request)[0]
    words[0] = 5
    assert unit.receive(request) == (first, 1) and words[0] == 5


def test_malformed_and_broken():
    words, unit = bridge()
    assert unit.receive(frame(1, bytes([0x80, 0, 0, 1])))[0] == frame(1, bytes([MALFORMED])) and not words
    assert unit.receive(frame(2, bytes([0x80, 0, 0, 1]))[:-1] + b"\xff") is None
    assert unit.receive(b"\xa5\x01") is None


@pytest.mark.parametrize("width", [1, 17])
def test_refused(width):
    with pytest.raises(ValueError, match="Address width must be 2 to 16 bits"):
        Unit(width, 16)
