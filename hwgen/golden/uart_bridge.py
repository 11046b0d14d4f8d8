"""Golden twin of hwgen/units/uart_bridge.py: the answer to each request, and its cycles."""
import binascii
from collections.abc import Callable

from ..params.frames import FIRST, FIXED, MALFORMED, MAX_BYTES, START, WRITE

__all__ = ["UartBridge", "frame", "offer_cycles"]


def frame(sequence: int, data: bytes) -> bytes:
    """The bytes of a frame."""
    body = bytes([sequence, len(data), *data])
    return bytes([START]) + body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")


def offer_cycles(length: int) -> list[int]:
    """When each byte of an answer of ``length`` bytes is offered, if each is taken at once: cycles from the first on.

    A byte of data is read from the memory when the one before it has gone, which takes two cycles; the CRC takes one.
    """
    data = [5 + 3 * k for k in range(length - 5)]
    return [0, 1, 2, *data, *((data or [2])[-1] + k for k in (2, 3))]


class UartBridge:
    """A bridge in front of registers.

    Parameters
    ----------
    read : callable             address -> (word, response)
    write : callable            (address, word) -> response
    read_cycles, write_cycles   of the bus: from the first cycle of the address to that of the response, both included
    """

    def __init__(self, read: Callable[[int], tuple[int, int]], write: Callable[[int, int], int], *, read_cycles: int,
                 write_cycles: int) -> None:
        self._read, self._write, self._read_cycles, self._write_cycles = read, write, read_cycles, write_cycles
        self._sequence: int | None = None
        self._answer: bytes | None = None

    def receive(self, data: bytes) -> tuple[bytes, int] | None:
        """The answer to a whole frame, and the cycles from its last byte to the offer of the answer's first; or None.

        ``data`` starts with START. What is no frame is not answered.
        """
        body, crc = data[1:-2], data[-2:]
        if len(body) < 2 or len(body) != 2 + body[1] or binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big") != crc:
            return None
        sequence, cycles = body[0], 1
        if self._answer is None or sequence != self._sequence or sequence == FIRST:
            data, executing = self._execute(body[2:])
            self._sequence, self._answer, cycles = sequence, frame(sequence, data), cycles + executing
        return self._answer, cycles

    def _execute(self, request):
        """(bytes of the answer, cycles)."""
        # the first byte of the request takes a cycle more than those of later operations
        answer, at, cycles = bytearray(), 0, 1
        while at < len(request):
            kind, count = request[at] & (WRITE | FIXED), (request[at] & 63) + 1
            address = request[at + 1:at + 3]
            at, cycles = at + 1 + len(address), cycles + 1 + 2 * len(address)
            if len(address) < 2:
                cycles += 1
                break
            address = int.from_bytes(address, "little")
            cycles += 1
            room = MAX_BYTES - len(answer)
            if len(request) - at < 4 * count or room < 1 if kind & WRITE else room < 1 + 4 * count:
                break
            status, words = 0, bytearray()
            for _ in range(count):
                if kind & WRITE:
                    response = self._write(address, int.from_bytes(request[at:at + 4], "little"))
                    at, cycles = at + 4, cycles + 7 + self._write_cycles + 1
                else:
                    word, response = self._read(address)
                    words += word.to_bytes(4, "little")
                    cycles += 1 + self._read_cycles + 4 + 1
                status = status or response
                if not kind & FIXED:
                    address += 4
            answer += bytes([status]) + words
        else:
            return bytes(answer), cycles + (1 if request else 0)
        return bytes(answer + bytes([MALFORMED])[:MAX_BYTES - len(answer)]), cycles + 1
