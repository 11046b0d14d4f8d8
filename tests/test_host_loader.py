"""What is sent into a board's memory, and how often: against a memory of bytes, and against a port that answers
late."""
import random
import zlib

import pytest

from hwgen.host.links.link import LinkError
from hwgen.host.links.loader import GROUP, TRIES, load_weights
from hwgen.host.links.register_link import MemoryState, RegisterLink
from hwgen.params.axi import AxiShape, LoaderShape
from hwgen.params.loader import BLOCK, LoadError
from hwgen.plan.loading import load_seconds
from hwgen.top.board import memory_buses
from sim.designs import small_design
from tests.register_model import MODEL, Registers

DATA = random.Random(5).randbytes(50 * 100 + 30)        # 51 blocks


class Link:
    """The loader of a machine. ``spoil(start, data)`` is what arrives of a block, and the error that the loader
    says."""

    def __init__(self, content=b"", spoil=lambda start, data: (data, LoadError.NONE)):
        self.bytes, self.spoil = bytearray(content.ljust(len(DATA), b"\0")), spoil
        self.checks, self.sent, self.sealed = 0, [], None

    def memory(self):
        return self._state(b"")

    def check_block(self, address, length):
        self.checks += 1
        return self._state(self.bytes[address:address + length])

    def load_block(self, address, data, sent):
        came, error = self.spoil(address, data)
        self.bytes[address:address + len(came)] = came
        self.sent.append(address)
        sent(len(data))
        return self._state(came, error)

    def seal(self, crc):
        self.sealed = crc

    def _state(self, data, error=LoadError.NONE):
        return MemoryState(False, True, False, False, error, len(data), zlib.crc32(data), 0)


def loaded(link, **more):
    outcome = load_weights(link, DATA, block=100, **more)
    assert link.bytes == DATA and link.sealed == zlib.crc32(DATA)
    return outcome


def test_an_empty_memory():
    link, steps = Link(), []
    outcome = loaded(link, progress=lambda done, total: steps.append((done, total)))
    assert link.sent == [*range(0, len(DATA), 100)] and (outcome.blocks, outcome.sent, outcome.failed) == (51, 51, 0)
    assert steps == [(min(at + 100, len(DATA)), len(DATA)) for at in link.sent]


def test_what_is_there_is_not_sent():
    link = Link(DATA)
    assert loaded(link).sent == 0 and link.checks == 1
    wrong = [0, 17, 50]
    content = bytearray(DATA)
    for block in wrong:
        content[100 * block + 7] ^= 1
    link, counts = Link(bytes(content)), []
    loaded(link, found=lambda *found: counts.append(found))
    assert link.sent == [100 * block for block in wrong] and counts == [(3, 51)]
    assert link.checks == 1 + -(-51 // GROUP) + 16 + 16 + 3 + 1         # all; groups; the blocks of three; all


def test_blocks_that_do_not_arrive_are_sent_again():
    """Bytes were lost, or others came: the loader says so, or its checksum does."""
    bad = iter([(b"", LoadError.SILENCE), (b"x" * 100, LoadError.NONE), (DATA[:50], LoadError.NONE)])
    link = Link(spoil=lambda start, data: next(bad, (data, LoadError.NONE)))
    outcome = loaded(link)
    assert (outcome.sent, outcome.failed) == (54, 3) and link.sent[:4] == [0] * 4


@pytest.mark.parametrize("spoiled, complaint", [
    (lambda data: (data[:-1], LoadError.SILENCE), "at 0x0 did not arrive in 5 attempts: the line fell silent"),
    (lambda data: (data[:-1] + b"?", LoadError.NONE),
     "did not arrive in 5 attempts: what arrived is not what was sent")])
def test_a_line_that_does_not_do_it(spoiled, complaint):
    link = Link(spoil=lambda start, data: spoiled(data))
    with pytest.raises(LinkError, match=complaint):
        loaded(link)
    assert link.sent == [0] * TRIES and link.sealed is None


def test_a_memory_that_forgets():
    link = Link()
    read = link.check_block
    link.check_block = lambda address, length: (link.bytes.__setitem__(217, 0), read(address, length))[1]
    assert DATA[217]
    with pytest.raises(LinkError, match="does not keep what is written to it, at 0xc8 for one"):
        loaded(link)
    assert link.sent == [*range(0, len(DATA), 100), 200, 200] and link.sealed is None


class Port(Registers):
    """A machine with a loader, on a line that loses the answer to what begins a block."""

    def __init__(self, losses):
        self.losses, self.repeats, self.blocks = losses, 0, []
        super().__init__()

    def transact(self, operations):
        if getattr(operations[-1], "words", None) and operations[-1].address == 0x0B4 and self.losses:
            self.losses -= 1
            self.repeats += 1
        return super().transact(operations)

    def send(self, data):
        self.blocks.append(bytes(data))


def test_a_block_whose_beginning_was_asked_for_twice_gets_no_bytes(monkeypatch):
    """They would be taken for frames: the block waits for them no more."""
    design, axi = small_design(source="stream"), memory_buses(AxiShape())
    monkeypatch.setattr("tests.register_model.AXI", axi)
    port = Port(losses=1)
    port.words[0x0BC] = 0b10
    link = RegisterLink(port, design, axi, MODEL, patience=0.05, weights=False)
    link.load_block(0, bytes(5000))
    assert port.blocks == []
    counts = []
    link.load_block(0, bytes(5000), counts.append)
    assert [len(part) for part in port.blocks] == [4096, 904] and counts == [4096, 5000]


def test_another_loader(monkeypatch):
    monkeypatch.setattr("tests.register_model.AXI", memory_buses(AxiShape()))
    port = Port(losses=0)
    for word, complaint in ((0b10 | 7 << 8, "error 7, which must be below 7"), (0b100, "start-up has failed"),
                            (0, "has not ended its memory's start-up in 0.05 s")):
        port.words[0x0BC] = word
        with pytest.raises(LinkError, match=complaint):
            link = RegisterLink.__new__(RegisterLink)
            link._port, link._map, link._patience = port, port.map, 0.05
            link.memory()


def test_seconds():
    assert load_seconds(BLOCK, 1_000_000) == pytest.approx((BLOCK + 60) * 10e-6 + 0.004)
    assert load_seconds(2 * BLOCK + 1, 3_000_000) == pytest.approx((2 * BLOCK + 1 + 3 * 60) * 10 / 3e6 + 0.012)


@pytest.mark.parametrize("changes, complaint", [
    (dict(address_width=33), "AXI address width with a loader must be 13 to 32, not 33"),
    (dict(host="stream"), "Host port with a loader must be 'queue', not 'stream'")])
def test_buses_that_no_loader_has(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        LoaderShape(**changes)


def test_a_loader_of_weights_that_are_in_the_machine():
    with pytest.raises(ValueError, match="Weight source must be 'stream' with a loader, not 'rom'"):
        LoaderShape().check(small_design(source="rom"))
