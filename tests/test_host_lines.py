"""Serial ports that are none, that go away, and at whose other end something else answers: on pseudo terminals."""
import os
import threading
import time

import pytest

from hwgen.cli import main
from hwgen.golden.uart_bridge import UartBridge
from hwgen.host.links.frames import FramePort, Read
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.inputs import InputError
from hwgen.host.links.lines import SerialLine
from hwgen.host.links.link import Entry, LinkError

GONE = "The board's serial port is gone"


class Terminal:
    """A pseudo terminal: ``device`` is ours to open, and ``answer(bytes) -> bytes or None`` is at the other end; None
    pulls the plug."""

    def __init__(self, answer):
        self.far, near = os.openpty()
        self.device, self._answer, self._near = os.ttyname(near), answer, near
        self._pulled = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        try:
            while (data := self._answer(os.read(self.far, 4096))) is not None:
                os.write(self.far, data)
        except OSError:
            pass
        self._pulled = True
        os.close(self.far)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._near)
        self._thread.join()


@pytest.fixture
def line():
    """Of the first terminal that a test opens."""
    opened = []

    def make(answer):
        terminal = Terminal(answer)
        opened.append(terminal)
        opened.append(SerialLine(terminal.device, 115200))
        return opened[-1]
    yield make
    for thing in reversed(opened):
        thing.close() if isinstance(thing, SerialLine) else thing.__exit__()


def bridge(requests=10**9):
    """What a machine's bridge says to so many requests; then the plug is pulled."""
    golden = UartBridge(lambda address: (0, 0), lambda address, word: 0, read_cycles=3, write_cycles=3)
    left = [requests]

    def answer(data):
        left[0] -= 1
        return None if left[0] < 0 else golden.receive(data)[0]
    return answer


def test_reads_over_a_terminal(line):
    assert FramePort(line(bridge())).read(0, 3) == [0, 0, 0]


@pytest.mark.parametrize("operation", ["write", "read", "transact"])
def test_a_port_that_goes_away(line, operation):
    here = line(bridge(1))
    port = FramePort(here)
    with pytest.raises(LinkError, match=f"^/dev/.*: {GONE} .unplugged"):
        for _ in range(1000):       # the first write wakes the thread that pulls, which takes a while on a busy machine
            time.sleep(0.005)
            {"write": lambda: here.write(b"x"), "read": lambda: (here.write(b"x"), here.read(1)),
             "transact": lambda: port.read(0)}[operation]()
    here.close()


ECHO = "The line sends back what is written to it.*check the wiring"
TEXT = "What answers writes text, as a console or a modem does"


@pytest.mark.parametrize("answer, complaint", [
    (lambda data: data, ECHO), (lambda data: b"\r\nERROR\r\n", TEXT + ".*'ERROR"),
    (lambda data: b"^E^@\r\nboard login: ", TEXT + ".*board login:"),
    (lambda data: b"\xfe\x00\x80\x01\xf0", "bytes that are none, first fe 00 80 01 f0"),
    (lambda data: b"", "no answer in 2 attempts of 0.2 s .is it the right port")])
def test_something_else_at_the_other_end(line, answer, complaint):
    with pytest.raises(LinkError, match=f"^/dev/.*: .*{complaint}"):
        FramePort(line(answer), timeout=0.2, attempts=2).transact([Read(0, 2)])


def test_an_adapter_that_hears_itself_is_no_harm(line):
    """A half-duplex one: the request comes back, and then the answer."""
    answer = bridge()
    assert FramePort(line(lambda data: data + answer(data))).read(0, 2) == [0, 0]


def test_ports_that_are_none(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for device, complaint in (("", "Link serial: must name its device"),
                              (tmp_path / "nowhere", "must be one that is there, not missing .there are: "),
                              (tmp_path / "file", "not to another file"), (tmp_path, "not to another file"),
                              (tmp_path / "pipe", "not to another"),
                              ("/dev/null", "not to another file")):
        with pytest.raises(InputError, match=complaint):
            SerialLine(str(device), 115200)


def test_a_busy_port(line):
    with pytest.raises(InputError, match="^/dev/.*: Serial port is in use by another program: end it first"):
        SerialLine(line(bridge()).name, 115200)


class Following(GoldenLink):
    """A board that goes on by itself, and whose port is pulled before it can be told to stop."""

    def follow(self, entries, count, stop=None):
        try:
            for position in range(entries[0].position, entries[0].position + count):
                entries = [Entry(0, position + 1, self.run_pass(entries).tokens[0], True)]
                yield 0, entries[0].token
        finally:
            raise LinkError(f"/dev/board: {GONE}")


def test_a_port_that_goes_away_when_it_is_told_to_stop(capsys, monkeypatch):
    """At Ctrl-C, in what the text's generator does at its end: not dropped by the garbage collector."""
    pieces = []

    def write(text):
        pieces.append(text)
        if len(pieces) == 4:
            raise KeyboardInterrupt
    monkeypatch.setattr("hwgen.host.terminal.write", write)
    monkeypatch.setattr("hwgen.commands.links.board_link",
                        lambda screen, options, design, quantized, faults: Following(design, quantized))
    monkeypatch.setattr("hwgen.commands.links.check_simulator", lambda: None)
    assert main("run demo --prompt x --link sim-uart".split()) == 1
    err = capsys.readouterr().err
    assert err.endswith(f"\nhwgen run: failed: /dev/board: {GONE}\n") and "Exception ignored" not in err


@pytest.mark.parametrize("command", ["run demo --prompt x", "selftest demo", "counters demo"])
def test_a_missing_port_is_noticed_before_the_work(capsys, command):
    assert main([*command.split(), "--link", "serial:/dev/nothing"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "/dev/nothing: Serial port must be one that is there, not missing (there are: " in err
