"""Byte lines to a machine: a serial port, the UART pins of a simulated board, and a bad one for tests."""
import contextlib
import errno
import os
import random
import select
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..inputs import InputError
from .link import LinkError

__all__ = ["Line", "NoisyLine", "PinsLine", "SerialLine"]

#: What pyserial raises when a port goes away, in its different operations: its SerialException is an OSError, and a
#: port that it has closed has no number.
_GONE = OSError, TypeError, termios.error


#: errno of an open that fails -> what to do
_OPEN = {errno.EAGAIN: "is in use by another program: end it first",
         errno.EBUSY: "is in use by another program: end it first",
         errno.EACCES: "may not be opened by you: add yourself to its group (often dialout), and log in again"}


def _ports():
    """The serial ports that there are, in words."""
    from serial.tools.list_ports import comports
    return ", ".join(sorted(port.device for port in comports())) or "none is plugged in"


class Line(Protocol):
    """Bytes to and from a machine. ``name`` is for messages."""
    name: str

    def write(self, data: bytes) -> None:
        """Bytes to the machine."""

    def read(self, seconds: float) -> bytes:
        """What has come: at least one byte, unless the time is over."""
        ...

    def close(self) -> None:
        """No more of either."""


class SerialLine:
    """A serial port, by its device. InputError if it cannot be opened, LinkError when it goes away."""

    def __init__(self, device: str, baud: int) -> None:
        import serial
        self.name = device
        if not device:
            raise InputError(f"Link serial: must name its device, as serial:/dev/ttyUSB0 (there are: {_ports()})")
        try:
            # a line that takes nothing for so long is dead: it would be waited for without end
            self._port = serial.Serial(device, baud, exclusive=True, write_timeout=5)
            self._port.reset_input_buffer()
        except (*_GONE, serial.SerialException, ValueError) as error:
            raise InputError(self._refused(error)) from None
        # Otherwise an FTDI bridge keeps an answer for up to 16 ms. Linux alone can be asked, and not for a port that is
        # none.
        with contextlib.suppress(*_GONE, ValueError, NotImplementedError, AttributeError):
            self._port.set_low_latency_mode(True)

    def _refused(self, error):
        """Why it cannot be opened."""
        device, number = self.name, getattr(error, "errno", None)
        if number in _OPEN:
            return f"{device}: Serial port {_OPEN[number]}"
        if not os.path.exists(device):
            return f"{device}: Serial port must be one that is there, not missing (there are: {_ports()})"
        if number in (None, errno.ENOTTY, errno.EISDIR, errno.ENXIO, errno.EINVAL):
            return f"{device}: Link must be to a serial port, not to another file (there are: {_ports()})"
        return f"{device}: Serial port must be one that can be opened: {os.strerror(number)} (there are: {_ports()})"

    @contextlib.contextmanager
    def _there(self):
        import serial
        try:
            yield
        except serial.SerialTimeoutException:
            raise LinkError(f"{self.name}: The line takes no bytes (flow control, or a device that hangs): is it the "
                            "right port?") from None
        except _GONE:
            raise LinkError(f"{self.name}: The board's serial port is gone (unplugged?): plug it in, and start "
                            "again") from None

    def write(self, data: bytes) -> None:
        with self._there():
            self._port.write(data)

    def read(self, seconds: float) -> bytes:
        with self._there():
            self._port.timeout = seconds
            first = self._port.read(1)
            return first + self._port.read(self._port.in_waiting) if first else b""

    def close(self) -> None:
        with contextlib.suppress(*_GONE):
            self._port.close()


class PinsLine:
    """The UART pins of a simulated board: a process whose stdin and stdout are what is on the wires (`uart_main.cpp`).

    ``memory``: the file whose bytes are those of the board's memory, if it has one. ``card``: more words for it.
    """

    def __init__(self, executable: str | Path, memory: str | Path | None = None, card: Sequence[object] = ()) -> None:
        self.name = "simulated UART"
        theirs, self._control = os.pipe()
        # in its own session: Ctrl-C reaches us, and we end it after its files are closed
        words = [str(memory)] * bool(memory) + [str(word) for word in card]
        self._process = subprocess.Popen([str(executable), str(theirs), *words],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         cwd=os.path.dirname(executable), start_new_session=True, pass_fds=[theirs])
        os.close(theirs)
        assert self._process.stdin is not None and self._process.stdout is not None     # they are pipes
        self._in, self._out = self._process.stdin, self._process.stdout

    def write(self, data: bytes) -> None:
        try:
            self._in.write(data)
            self._in.flush()
        except BrokenPipeError:
            raise LinkError(f"The simulation ended with code {self._process.wait()}") from None

    def flip(self, memory: str, word: int, bit: int) -> None:
        """Flip a bit of a word of the KV memory, before anything that is written afterwards arrives."""
        self.control(f"flip {memory} {word} {bit}")

    def control(self, line: str) -> None:
        """Something that happens to the simulation, in the words of `uart_main.cpp`, before anything that is written
        afterwards arrives."""
        os.write(self._control, f"{line}\n".encode())

    def read(self, seconds: float) -> bytes:
        out = self._out.fileno()
        if not select.select([out], [], [], seconds)[0]:
            return b""
        data = os.read(out, 4096)
        if not data:
            raise LinkError(f"The simulation ended with code {self._process.wait()}")
        return data

    def close(self) -> None:
        try:
            self._in.close()
            self._process.wait(timeout=20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._out.close()
        os.close(self._control)


class NoisyLine:
    """A line on which bytes are lost, flipped and late, by chance, in both directions.

    Parameters
    ----------
    line                the line that is disturbed
    drop, flip          probability that a byte is lost, or has a bit flipped
    late                probability that what has come is kept back until something else comes, or ``hold`` seconds are
                        over
    """

    def __init__(self, line: Line, *, drop: float = 0.0, flip: float = 0.0, late: float = 0.0, hold: float = 0.05,
                 seed: int = 1) -> None:
        self._line, self._rng = line, random.Random(seed)
        self._drop, self._flip, self._late, self._hold = drop, flip, late, hold
        self._kept, self._until = b"", 0.0
        self.name = f"{line.name} with noise"
        self.lost = self.flipped = self.delayed = 0

    def _disturb(self, data):
        out = bytearray()
        for byte in data:
            if self._rng.random() < self._drop:
                self.lost += 1
                continue
            if self._rng.random() < self._flip:
                self.flipped += 1
                byte ^= 1 << self._rng.randrange(8)
            out.append(byte)
        return bytes(out)

    def write(self, data: bytes) -> None:
        self._line.write(self._disturb(data))

    def read(self, seconds: float) -> bytes:
        if self._kept and time.monotonic() >= self._until:
            data, self._kept = self._kept, b""
            return data
        data = self._disturb(self._line.read(min(seconds, self._hold) if self._kept else seconds))
        if data and self._rng.random() < self._late:
            self.delayed += 1
            self._kept += data
            self._until = time.monotonic() + self._hold
            return b""
        data, self._kept = self._kept + data, b""
        return data

    def close(self) -> None:
        self._line.close()
