"""Golden twin of hwgen/units/card_reader.py: which bytes go to the card when, and what becomes of what comes."""
from collections.abc import Callable
from dataclasses import dataclass, field

from ..params.card import (ANSWER_BYTES, BLOCK_BYTES, CRC_AT, RESETS, TRIES, WAKE_BYTES, CardError, CardTiming,
                           card_blocks, head_error)

__all__ = ["Boot", "boot", "byte_cycles", "card_cycles", "crc16", "crc7", "frame"]


def _crc(data, width, polynomial):
    value, top = 0, 1 << width - 1
    for byte in data:
        for bit in range(7, -1, -1):
            value = ((value << 1) ^ (polynomial if bool(value & top) ^ (byte >> bit & 1) else 0)) & 2 * top - 1
    return value


def crc7(data: bytes) -> int:
    """Of a command: x^7 + x^3 + 1 (the specification's 4.5)."""
    return _crc(data, 7, 0x09)


def crc16(data: bytes) -> int:
    """Of a block: x^16 + x^12 + x^5 + 1."""
    return _crc(data, 16, 0x1021)


def frame(command: int, argument: int) -> bytes:
    """The six bytes of a command."""
    head = bytes([0x40 | command]) + argument.to_bytes(4, "big")
    return head + bytes([crc7(head) << 1 | 1])


def byte_cycles(half: int) -> int:
    """Cycles for a byte, when half a period of the card's clock takes ``half``."""
    return 16 * half + 2


def card_cycles(size: int, timing: CardTiming, wait: int) -> int:
    """Cycles for all blocks of ``size`` bytes of weights, each of which comes ``wait`` bytes after the one before: a
    byte that says so, its CRC, and a cycle for the loader."""
    return card_blocks(size) * ((wait + 1 + BLOCK_BYTES + 2) * byte_cycles(timing.fast) + 1)


@dataclass
class Boot:
    """What became of it. Cycle 0 is the first without reset.

    sent        [(cycle, byte, whether the card is selected)]
    loads       [(cycle, address, length)] of the loader's blocks, with the bytes that it gets in ``bytes``
    check       cycle of the read-back, or None
    error       `CardError`
    block       at which it ended
    end         first cycle in which the unit is not busy
    """
    sent: list = field(default_factory=list)
    loads: list = field(default_factory=list)
    bytes: list = field(default_factory=list)
    check: int | None = None
    error: int = CardError.NONE
    block: int = 0
    end: int = 0


class _Over(Exception):
    """The card has an error, which ends it: nothing more is said to it."""


class _Again(Exception):
    """A block did not come."""


class _Reader:
    def __init__(self, head, size, timing, answer, ready, held, checked):
        self.head, self.size, self.timing = head, size, timing
        self.answer, self.ready, self.held, self.checked = answer, ready, held, checked
        self.boot, self.now, self.half, self.selected, self.crc = Boot(), 0, timing.slow, False, b""

    def byte(self, out: int = 0xFF) -> int:
        """Exchange a byte; ``late`` then says whether the card has been waited for long enough."""
        self.boot.sent.append((self.now, out, self.selected))
        done = self.now + byte_cycles(self.half) - 1
        self.late = done - self.since >= self.timing.patience
        self.now = done + 1
        return self.answer(out)

    def command(self, number: int, argument: int) -> int | None:
        """R1, or None."""
        self.byte()
        for out in frame(number, argument):
            self.byte(out)
        for count in range(ANSWER_BYTES + 1):
            came = self.byte()
            if came < 0x80 and not (number == 12 and count == 0):
                return came
        return None

    def progress(self) -> None:
        """The card is waited for from the cycle before this one on."""
        self.since = self.now

    def start(self) -> None:
        for count in range(WAKE_BYTES - 1):
            self.byte()
        for _ in range(RESETS):
            self.selected = False
            self.byte()
            self.selected = True
            if self.command(0, 0) != 1:
                continue
            answer = self.command(8, 0x1AA)
            if answer == 5:
                raise _Over(CardError.KIND)
            if answer == 1:
                break
        else:
            raise _Over(CardError.NO_CARD)
        self.rest(lambda place, came: (place == 2 and came & 15 != 1) or (place == 3 and came != 0xAA))
        self.expect(59, 1, 1)
        while True:
            self.expect(55, 0, 1)
            answer = self.command(41, 1 << 30)
            if answer is None or (answer == 1 and self.late):
                raise _Over(CardError.SILENT)
            if answer not in (0, 1):
                raise _Over(CardError.REFUSED)
            if answer == 0:
                break
        self.half = self.timing.fast
        self.expect(58, 0, 0)
        self.rest(lambda place, came: place == 0 and came >> 6 != 3)

    def expect(self, number: int, argument: int, wanted: int) -> None:
        answer = self.command(number, argument)
        if answer != wanted:
            raise _Over(CardError.SILENT if answer is None else CardError.REFUSED)

    def rest(self, wrong: Callable[[int, int], bool]) -> None:
        found = [wrong(place, self.byte()) for place in range(4)]       # all of them come in any case
        if any(found):
            raise _Over(CardError.KIND)

    def read_block(self) -> None:
        """A block, which goes on with the next if nothing is wrong."""
        boot = self.boot
        while (came := self.byte()) != 0xFE:
            if came != 0xFF:
                raise _Again(CardError.REFUSED)
            if self.late:
                raise _Again(CardError.SILENT)
        length = min(BLOCK_BYTES, self.size - (boot.block - 1) * BLOCK_BYTES)
        if boot.block:
            boot.loads.append((self.now - 1, (boot.block - 1) * BLOCK_BYTES, length))
        data = bytes(self.byte() for _ in range(BLOCK_BYTES))
        if boot.block:
            boot.bytes.append(data[:length])
        crc = bytes(self.byte() for _ in range(2))
        error: int = CardError.NONE
        if boot.block:
            self.now, error = self.held(self.now)
        self.now += 1
        self.progress()
        if crc16(data + crc):
            raise _Again(CardError.CRC)
        if not boot.block:
            self.crc = data[CRC_AT:CRC_AT + 4]
            for place, (came, wanted) in enumerate(zip(data, self.head)):
                if came != wanted:
                    boot.error = head_error(place)
                    return
        elif error:
            raise _Again(CardError.MEMORY)
        boot.block += 1

    def stop(self) -> None:
        self.command(12, 0)
        self.progress()
        while self.byte() != 0xFF:
            if self.late:
                raise _Over(CardError.SILENT)

    def blocks(self) -> None:
        boot, last, tries = self.boot, card_blocks(self.size), 0
        while True:
            try:
                answer = self.command(18, boot.block)
                if answer != 0:
                    raise _Again(CardError.SILENT if answer is None else CardError.REFUSED)
                self.progress()
                while boot.block <= last and not boot.error:
                    self.read_block()
                    tries = 0
                boot.block = min(boot.block, last)
                self.stop()
                return
            except _Again as why:
                tries += 1
                if tries == TRIES:
                    boot.error = why.args[0]
                self.stop()
                if boot.error:
                    return

    def run(self) -> Boot:
        boot, self.since = self.boot, 0
        self.now = self.ready + 1
        self.since = self.now
        try:
            self.start()
            self.blocks()
            if not boot.error:
                boot.check = self.now
                self.now, error, crc = self.checked(self.now + 1)
                self.now += 1
                if error:
                    boot.error = CardError.MEMORY
                elif crc != int.from_bytes(self.crc, "little"):
                    boot.error = CardError.CHECKSUM
        except _Over as why:
            boot.error = why.args[0]
        self.selected = False
        self.byte()
        boot.end = self.now
        return boot


def boot(head: bytes, size: int, timing: CardTiming, answer: Callable[[int], int], *, ready: int = 0,
         held: Callable[[int], tuple[int, int]] = lambda now: (now, 0),
         checked: Callable[[int], tuple[int, int, int]]) -> Boot:
    """`Boot` of a reader with these parameters.

    Parameters
    ----------
    answer : callable       a byte that goes to the card -> the byte that comes from it meanwhile
    ready : int             cycle in which the memory is ready
    held : callable         a cycle -> (the first from there on in which the loader has ended its block, its error)
    checked : callable      the same of the read-back, with its CRC
    """
    return _Reader(head, size, timing, answer, ready, held, checked).run()
