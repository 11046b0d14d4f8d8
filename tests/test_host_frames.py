"""The host's end of the UART against the golden bridge, over lines of all kinds."""
import random

import pytest

from hwgen.golden.uart_bridge import UartBridge, frame
from hwgen.host.links.frames import FramePort, Read, Write
from hwgen.host.links.link import LinkError
from hwgen.params.frames import START


class Line:
    """A golden bridge at the end of a line that drops, flips and repeats.

    Frames are found as the unit finds them, with a silence after each write.
    """
    name = "line"

    def __init__(self, *, seed=0, drop=0.0, flip=0.0, again=0.0):
        self.rng, self.drop, self.flip, self.again = random.Random(seed), drop, flip, again
        self.words, self.writes, self.late = {}, [], b""
        self.bridge = UartBridge(lambda a: (self.words.get(a, 0), 2 if a >= 0x8000 else 0), self.do_write,
                                 read_cycles=3, write_cycles=3)
        self.out = b""

    def do_write(self, address, word):
        self.words[address] = word
        self.writes.append((address, word))
        return 0

    def noise(self, data):
        kept = [byte ^ (1 << self.rng.randrange(8) if self.rng.random() < self.flip else 0)
                for byte in data if self.rng.random() >= self.drop]
        return bytes(kept)

    def write(self, data):
        for _ in range(1 + (self.rng.random() < self.again)):
            came = self.noise(data)
            start = came.find(START)
            if start >= 0 and len(came) > start + 2:
                found = self.bridge.receive(came[start:start + 5 + came[start + 2]])
                if found:
                    answer = self.noise(found[0])
                    # sometimes an answer is late, and comes before the next one
                    if self.rng.random() < self.again:
                        self.late += answer
                    else:
                        self.out += self.late + answer
                        self.late = b""

    def read(self, seconds):
        data, self.out = self.out[:7], self.out[7:]
        return data


def test_reads_and_writes():
    line = Line()
    port = FramePort(line)
    assert port.transact([Write(0x10, (1, 2, 3)), Read(0x14), Read(0x10, 2, fixed=True)]) == [None, [2], [1, 1]]
    assert port.read(0, 200) == [0] * 4 + [1, 2, 3] + [0] * 193
    port.transact([Write(4 * i, (i,)) for i in range(100)])         # several frames
    assert port.read(0, 100) == list(range(100)) and port.repeats == port.dropped == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_line(seed):
    line = Line(seed=seed, drop=0.01, flip=0.01, again=0.2)
    port = FramePort(line, timeout=0.001, attempts=60)
    rng = random.Random(seed)
    expected, writes = {}, []
    for _ in range(200):
        address, word = 4 * rng.randrange(16), rng.getrandbits(32)
        if rng.random() < 0.5:
            port.write(address, word)
            expected[address] = word
            writes.append((address, word))
        else:
            assert port.read(address) == [expected.get(address, 0)]
    assert line.writes == writes                    # each of them once, in order
    assert port.repeats > 10 and port.dropped > 10


def test_nobody_answers():
    line = Line(drop=1.0)
    with pytest.raises(LinkError, match="line: no answer in 3 attempts of 0.001 s"):
        FramePort(line, timeout=0.001, attempts=3)


def test_refused():
    port = FramePort(Line())
    with pytest.raises(LinkError, match="Read of register 0x8000 was refused: SLVERR"):
        port.transact([Read(0), Read(0x8000)])
    assert port.read(0) == [0]


class Answers:
    """A line on which each request is answered with a frame of its own number and these bytes, after the first
    request."""
    name = "line"

    def __init__(self, data):
        self.data, self.out = data, b""

    def write(self, request):
        self.out = frame(request[1], self.data if request[2] else b"")

    def read(self, seconds):
        data, self.out = self.out, b""
        return data


@pytest.mark.parametrize("data, words", [
    (bytes(4), "Answer must be 5 bytes long, not 4"), (bytes(1), "Answer must be 5 bytes long, not 1"),
    (bytes(6), "Answer must be 5 bytes long, not 6"), (b"", "the request was cut off"),
    (bytes([77]), "was refused: 77")])
def test_an_answer_of_another_length_is_refused(data, words):
    with pytest.raises(LinkError, match=f"^line: .*{words}"):
        FramePort(Answers(data)).read(0x10)


def test_a_new_host_begins_anew():
    line = Line()
    first = FramePort(line)
    first.write(0, 1)
    second = FramePort(line)
    second.write(0, 2)
    assert line.writes == [(0, 1), (0, 2)]
