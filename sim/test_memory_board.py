"""The top of a board with a memory, through its UART pins: empty, loaded, loaded halfway, with a bad line, a bad
memory, and none."""
import contextlib

import pytest

from hwgen.cli import main
from hwgen.fpga.boards import BOARDS
from hwgen.host.links.board import build_pins, buses, pins_link
from hwgen.host.driver import CheckedLink, Mismatch, selftest
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry, LinkError
from hwgen.host.links.loader import load_weights
from hwgen.host.links.verilated import cache_folder
from hwgen.models.pack import pack
from hwgen.params.errors import ErrorCode
from hwgen.params.loader import SILENT_BITS
from sim.boards import CHANGES, DIVISOR
from sim.designs import small_design
from sim.memory_board import memory_board
from sim.passes import History, random_model, run_step

BOARD = memory_board()
DESIGN = small_design(**CHANGES | dict(source="stream"))
MODEL = random_model(DESIGN, 49)
STREAM = pack(MODEL, DESIGN).tobytes()


@pytest.fixture(scope="module")
def executable():
    return build_pins(BOARD, DESIGN, MODEL, divisor=DIVISOR)


@pytest.fixture
def machine(executable, tmp_path):
    """Links to a machine whose memory begins with some bytes, or with those that are there."""
    @contextlib.contextmanager
    def link(content=b"", **more):
        file = tmp_path / "memory.bin"
        if content is not None:
            file.write_bytes(content)
        with pins_link(executable, DESIGN, MODEL, axi=buses(BOARD), memory=file, **more) as opened:
            opened.file = file
            yield opened
    return link


def refused(link):
    """The code with which a pass is refused."""
    (_, error), = link.run_pass([Entry(0, 0, 3, True), Entry(1, 0, 4, True)]).errors.items()
    return error.code


def test_empty_loaded_and_equal_to_golden(machine):
    with machine(loaded=False) as link:
        with pytest.raises(LinkError, match="memory holds no weights that were loaded .*hwgen load"):
            link.check_weights()
        assert refused(link) == ErrorCode.NO_WEIGHTS
        sizes = []
        outcome = load_weights(link, STREAM, found=lambda *counts: sizes.append(counts))
        assert sizes == [(1, 1)] and (outcome.size, outcome.sent, outcome.failed) == (len(STREAM), 1, 0)
        assert link.file.read_bytes()[:len(STREAM)] == STREAM
        link.check_weights()
        checked = CheckedLink(link, GoldenLink(DESIGN, MODEL), values_only=True)
        for step in History(DESIGN, wrong=0.1).steps(6):
            run_step(checked, step)


def test_a_memory_that_is_not_there_yet(machine):
    """A pass is refused by a code, and a block at once; a pass that waits begins with the weights that are there
    then."""
    with machine(STREAM) as link:
        assert link.run_pass([Entry(0, 0, 3, True)]).errors == {}
        link.control("memory ready 0")
        assert refused(link) == ErrorCode.MEMORY
        with pytest.raises(LinkError, match="register 0x0b8 was refused"):
            link.check_block(0, 4)
        link.control("memory failed 1")
        assert refused(link) == ErrorCode.MEMORY_FAILED
        with pytest.raises(LinkError, match="start-up has failed"):
            link.memory()
        link.control("memory failed 0")
        link.control("memory ready 1")
        assert link.run_pass([Entry(0, 1, 4, True)]).errors == {}


BLOCK = 16
BLOCKS = -(-len(STREAM) // BLOCK)


def test_an_interrupted_load_goes_on(machine):
    def interrupted(done, total):
        if done > len(STREAM) // 2:
            raise KeyboardInterrupt
    counts = []
    with machine(loaded=False) as link, pytest.raises(KeyboardInterrupt):
        load_weights(link, STREAM, block=BLOCK, progress=interrupted)
    with machine(None, loaded=False) as link:
        outcome = load_weights(link, STREAM, block=BLOCK, found=lambda *found: counts.append(found))
        link.check_weights()
    (wrong, blocks), = counts
    assert blocks == BLOCKS and outcome.sent == wrong and BLOCKS // 2 - 2 <= wrong <= BLOCKS // 2 + 1


def test_a_bit_that_flips_in_the_memory(machine):
    """The read-back finds its block, and the self-test its place; other weights are refused by name."""
    place = DESIGN.body_address * DESIGN.hw.beat_bytes + 9
    with machine(STREAM, loaded=False) as link:
        assert load_weights(link, STREAM, block=BLOCK).sent == 0
        link.check_weights()
        link.control(f"memory flip {place} 6")
        with GoldenLink(DESIGN, MODEL) as golden, pytest.raises(Mismatch, match="is the first whose signature differs"):
            selftest(link, golden)
        assert not link.check_block(0, len(STREAM)).error
        link.reset()
        counts = []
        outcome = load_weights(link, STREAM, block=BLOCK, found=lambda *found: counts.append(found))
        assert counts == [(1, BLOCKS)] and outcome.sent == 1
        with GoldenLink(DESIGN, MODEL) as golden:
            selftest(link, golden)
        load_weights(link, pack(random_model(DESIGN, 5), DESIGN).tobytes())
        with pytest.raises(LinkError, match="runs with weights 0x.* has 0x.*: hwgen load MODEL"):
            link.check_weights()


def test_a_seal_is_of_what_was_read_back(machine):
    with machine(STREAM, loaded=False) as link:
        state = link.check_block(0, len(STREAM) - 1)
        for crc in (state.crc, link.check_block(0, len(STREAM)).crc ^ 1):
            with pytest.raises(LinkError, match="register 0x0c8 was refused"):
                link.seal(crc)
        assert not link.memory().loaded
        link.seal(crc ^ 1)
        assert link.memory().weights == crc ^ 1 and link.memory().loaded
        link.load_block(len(STREAM), b"behind it")
        assert not link.memory().loaded and refused(link) == ErrorCode.NO_WEIGHTS


def test_a_memory_that_cannot_be_read(machine):
    with machine(STREAM) as link:
        link.control(f"memory refuse {DESIGN.body_address * DESIGN.hw.beat_bytes + 4}")
        with pytest.raises(LinkError, match="could not read its weights"):
            link.run_pass([Entry(0, 0, 3, True)])
        with pytest.raises(LinkError, match="memory cannot be read at 0x0: the memory answered SLVERR"):
            load_weights(link, STREAM)
        link.control("memory refuse 1000000")
        link.reset()
        load_weights(link, STREAM)
        assert link.run_pass([Entry(0, 0, 3, True)]).errors == {}


class LossyLine:
    """A line that loses some bytes of a block, once, and on which time passes behind whatever is written then."""

    def __init__(self, pins, lost):
        self._pins, self._lost, self._late, self.name = pins, lost, False, pins.name
        self.read, self.close = pins.read, pins.close

    def write(self, data):
        if len(data) == len(STREAM) and self._lost:
            data, self._lost, self._late = data[:50] + data[50 + self._lost:], 0, True
        if self._late:      # a fast simulation would stand still before the loader has noticed a silence, or the second
            self._pins.control(f"time {2 * SILENT_BITS * DIVISOR}")
        self._pins.write(data)


@pytest.mark.nightly
@pytest.mark.parametrize("lost", [3, 200])
def test_a_line_that_loses_bytes(machine, lost):
    """Few are made up for by the question behind the block, many by the silence."""
    with machine(loaded=False, line=lambda pins: LossyLine(pins, lost), timeout=4.0, attempts=30) as link:
        outcome = load_weights(link, STREAM)
        assert (outcome.sent, outcome.failed) == (2, 1)
        link.check_weights()


@pytest.mark.nightly
def test_commands(monkeypatch, tmp_path, capsys):
    """hwgen load, interrupted and again; then a text, and a bit that flips."""
    monkeypatch.setitem(BOARDS, BOARD.name, BOARD)
    file = cache_folder() / f"memory-{BOARD.name}.bin"
    file.unlink(missing_ok=True)

    def said(line):
        code = main([*line.split(), "--board", BOARD.name, "--link", "sim-uart"])
        return code, *capsys.readouterr()
    assert said("load mini") [0] == 0
    with open(file, "r+b") as memory:
        memory.seek(20_000)
        memory.write(b"other bytes")
    code, out, err = said("load mini")
    assert code == 0 and "0 of 1 blocks are there already" in err and "1 of 1 blocks sent, all read back" in out
    code, out, err = said("load mini")
    assert code == 0 and "all of 1 blocks are there already" in err and "0 of 1 blocks sent, all read back" in out
    code, out, err = said("run mini --prompt She --max-tokens 8 --check")
    assert code == 0 and "every token and signature" in err and out.strip()
    code, out, err = said("selftest mini --inject weight:900:3:6")
    assert code == 1 and "unit: weights" in out and "weight beat 900, byte 3, bit 6" in out
