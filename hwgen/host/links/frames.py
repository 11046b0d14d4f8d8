"""Registers over a line that loses, breaks and repeats bytes: the host's end of `hwgen.units.uart_bridge`.

One request at a time. A request whose answer does not come is sent again with the same number, so that it is executed
once; an answer with another number is an old one.
"""
import binascii
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...params.frames import FIRST, FIXED, MALFORMED, MAX_BYTES, MAX_WORDS, START, WRITE
from .lines import Line
from .link import LinkError

__all__ = ["FramePort", "Read", "Write"]

_RESPONSES = {1: "EXOKAY", 2: "SLVERR: no such register, or it cannot take this now", 3: "DECERR: nothing there",
              MALFORMED: "the request was cut off"}


_HEARD = 1000       # bytes of what comes that are kept, to say what is wrong


@dataclass(frozen=True)
class Read:
    """``count`` words (1 to 63) from a byte address on; all from the same one if ``fixed``."""
    address: int
    count: int = 1
    fixed: bool = False

    @property
    def request(self) -> bytes:
        return bytes([FIXED * self.fixed | self.count - 1]) + self.address.to_bytes(2, "little")

    @property
    def answer_bytes(self) -> int:
        return 1 + 4 * self.count


@dataclass(frozen=True)
class Write:
    """``words`` (1 to 62) to a byte address and those behind it; all to the same one if ``fixed``."""
    address: int
    words: tuple
    fixed: bool = False

    @property
    def request(self) -> bytes:
        return (bytes([WRITE | FIXED * self.fixed | len(self.words) - 1]) + self.address.to_bytes(2, "little")
                + b"".join(word.to_bytes(4, "little") for word in self.words))

    @property
    def answer_bytes(self) -> int:
        return 1


class FramePort:
    """Reads and writes of a machine's registers over a byte line.

    Parameters
    ----------
    line                    has ``write(bytes)``, ``read(seconds) -> bytes`` (what has come, at least one byte unless
                            the time is over), and a ``name`` for messages
    timeout : float         seconds for an answer before the request is sent again
    attempts : int          how often it is sent in all

    Attributes
    ----------
    repeats : int           requests that were sent again
    dropped : int           frames that came and were broken or old
    """

    def __init__(self, line: Line, *, timeout: float = 0.25, attempts: int = 8) -> None:
        self._line, self._timeout, self._attempts = line, timeout, attempts
        self._sequence, self._buffer, self._heard = FIRST, bytearray(), b""
        self.repeats = self.dropped = 0
        self.transact([])           # a request numbered FIRST begins anew, whatever the bridge has seen before

    def transact(self, operations: Sequence[Read | Write]) -> list[Any]:
        """Execute reads and writes in order: a list with the words of each read and None for each write.

        Operations that do not fit into one frame go in several. LinkError if no answer comes, or one is refused.
        """
        results, batch, request, answer = [], [], 0, 0
        for operation in operations:
            more, back = len(operation.request), operation.answer_bytes
            if batch and (request + more > MAX_BYTES or answer + back > MAX_BYTES):
                results += self._exchange(batch)
                batch, request, answer = [], 0, 0
            batch.append(operation)
            request, answer = request + more, answer + back
        return results + (self._exchange(batch) if batch or not operations else [])

    def read(self, address: int, count: int = 1) -> list[int]:
        """Words from an address on, in as many operations as they need."""
        parts = [Read(address + 4 * i, min(MAX_WORDS - 1, count - i)) for i in range(0, count, MAX_WORDS - 1)]
        return [word for part in self.transact(parts) for word in part]

    def write(self, address: int, *words: int) -> None:
        """Words to an address and those behind it."""
        self.transact([Write(address, words)])

    def send(self, data: bytes) -> None:
        """Bytes that are no frame: a block of weights, which the request before has begun."""
        self._line.write(data)

    def close(self) -> None:
        self._line.close()

    def _exchange(self, batch):
        data = b"".join(operation.request for operation in batch)
        body = bytes([self._sequence, len(data)]) + data
        frame = bytes([START]) + body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")
        self._heard, echo = b"", data or None       # a request for nothing is its own answer
        for attempt in range(self._attempts):
            self.repeats += attempt > 0
            self._line.write(frame)
            answer = self._answer(time.monotonic() + self._timeout, echo)
            if answer is not None:
                self._sequence = self._sequence % 255 + 1       # never FIRST again
                return self._results(batch, answer)
        raise LinkError(f"{self._line.name}: {self._silence(frame)}")

    def _silence(self, frame):
        """What is wrong where no answer comes, by what comes instead."""
        heard = bytes(self._heard)
        if heard and (frame in heard or frame.startswith(heard)):
            return ("The line sends back what is written to it, and nothing answers: check the wiring (TX and RX must "
                    "not be joined), and that the board's bitstream is loaded")
        letters = sum(32 <= byte < 127 or byte in b"\r\n\t\x1b" for byte in heard)
        if len(heard) >= 4 and letters >= 0.8 * len(heard):
            words = " ".join("".join(chr(byte) if 32 <= byte < 127 else " " for byte in heard).split())
            return ("What answers writes text, as a console or a modem does, and is no machine of hwgen: "
                    f"{words[:60]!r} (is it the right port?)")
        tries = f"no answer in {self._attempts} attempts of {self._timeout:g} s"
        if heard:
            return (f"{tries}, only {len(heard)} bytes that are none, first {heard[:8].hex(' ')} (is the baud rate "
                    "right, and the board's --mhz, is it the right port?)")
        return f"{tries} (is it the right port, is the machine configured, is the baud rate right?)"

    def _answer(self, deadline, echo):
        """The bytes of the answer to the current request, or None if it does not come in time. The request itself is
        not its answer."""
        while True:
            while (found := self._next_frame()) is not None:
                sequence, data = found
                if sequence == self._sequence and data != echo:
                    return data
                self.dropped += 1
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            came = self._line.read(left)
            self._buffer += came
            self._heard = (self._heard + came)[:_HEARD]

    def _next_frame(self):
        """(sequence, bytes) of the first whole frame of what has come, or None. What cannot be one's start is
        dropped."""
        buffer = self._buffer
        while True:
            start = buffer.find(START)
            del buffer[:len(buffer) if start < 0 else start]
            if len(buffer) < 3 or len(buffer) < 5 + buffer[2]:
                return None
            body, crc = bytes(buffer[1:3 + buffer[2]]), bytes(buffer[3 + buffer[2]:5 + buffer[2]])
            if binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big") == crc:
                del buffer[:len(body) + 3]
                return body[0], body[2:]
            self.dropped += 1
            del buffer[0]           # perhaps the START was another byte's

    def _results(self, batch, answer):
        """What an answer says. LinkError for one that is refused, or that is not as long as this request's."""
        results: list[list[int] | None] = []
        at = 0
        for operation in batch:
            status = answer[at] if at < len(answer) else MALFORMED
            if status:
                kind = "Write to" if isinstance(operation, Write) else "Read of"
                raise LinkError(f"{self._line.name}: {kind} register {operation.address:#05x} was refused: "
                                f"{_RESPONSES.get(status, status)}")
            if isinstance(operation, Read):
                data = answer[at + 1:at + operation.answer_bytes]
                results.append([int.from_bytes(data[i:i + 4], "little") for i in range(0, len(data), 4)])
            else:
                results.append(None)
            at += operation.answer_bytes
        if at != len(answer):
            raise LinkError(f"{self._line.name}: Answer must be {at} bytes long, not {len(answer)}: what answers is "
                            "no machine of hwgen")
        return results
