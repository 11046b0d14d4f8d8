"""The top of a board with a memory and an SD card, through its UART pins and the card's: weights come by themselves,
or it says why not, and the line loads them."""
import contextlib
import dataclasses

import pytest

from hwgen.fpga.boards import board
from hwgen.host.links.board import build_pins, build_with_chip, buses, pins_link
from hwgen.host.links.card import card_image
from hwgen.host.driver import CheckedLink
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry, LinkError
from hwgen.host.links.loader import load_weights
from hwgen.models.pack import pack
from hwgen.params.card import BLOCK_BYTES, TRIES, CardError, card_blocks
from hwgen.params.errors import ErrorCode
from sim.boards import CHANGES, DIVISOR
from sim.designs import small_design
from sim.memory_board import Memory
from sim.passes import History, random_model, run_step

REAL = board("ulx3s-85f-sdram-card")
BOARD = dataclasses.replace(REAL, name="with-card", memory=Memory())
#: Of 2,624 bytes: six blocks, the last a part.
DESIGN = small_design(**CHANGES | dict(source="stream", vocab_size=200, hidden_size=8, intermediate_size=16))
MODEL = random_model(DESIGN, 49)
STREAM = pack(MODEL, DESIGN).tobytes()
BLOCKS = card_blocks(len(STREAM))
#: MHz for which the card's times are: few cycles for its start.
CLOCK = 2

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def executable():
    return build_pins(BOARD, DESIGN, MODEL, divisor=DIVISOR, card_clock=CLOCK)


@pytest.fixture
def machine(executable, tmp_path):
    """Links to a machine with a card of some bytes (or none), which behaves as words say."""
    @contextlib.contextmanager
    def link(image=None, *words, **more):
        memory, card = tmp_path / "memory.bin", ()
        memory.write_bytes(b"")
        if image is not None:
            (tmp_path / "card.img").write_bytes(image)
            card = (tmp_path / "card.img", *words)
        with pins_link(executable, DESIGN, MODEL, axi=buses(BOARD), memory=memory, loaded=False, card=card,
                       **more) as opened:
            opened.file = memory
            yield opened
    return link


IMAGE = card_image(DESIGN, buses(BOARD), STREAM)


def equal_to_golden(link, steps=4):
    checked = CheckedLink(link, GoldenLink(DESIGN, MODEL), values_only=True)
    for step in History(DESIGN, wrong=0.1).steps(steps):
        run_step(checked, step)


def test_weights_come_by_themselves(machine):
    """While they come a pass is refused, and a block; then all is as behind a load, which finds nothing to send."""
    with machine(IMAGE, "seed=5", "starts=3", "waits=40", "deaf=1") as link:
        (_, error), = link.run_pass([Entry(0, 0, 3, True)]).errors.items()
        assert error.code == ErrorCode.MEMORY
        with pytest.raises(LinkError, match="register 0x0b8 was refused"):
            link.check_block(0, 4)
        seen = []
        state = link.card(seen.append)
        assert state == (False, CardError.NONE, BLOCKS) and str(state) == f"weights came from it, {BLOCKS} blocks"
        assert seen == sorted(seen) and len(seen) > 2
        link.check_weights()
        assert link.file.read_bytes()[:len(STREAM)] == STREAM
        equal_to_golden(link)
        assert load_weights(link, STREAM).sent == 0


def other(place, bit):
    image = bytearray(IMAGE)
    image[place] ^= 1 << bit
    return bytes(image)


#: {what: (the card's bytes, what it does, its error, the block, words of it)}
CARDS = {
    "none": (None, (), CardError.NO_CARD, 0, "no card answers"),
    "of another kind": (IMAGE, ("kind=1",), CardError.KIND, 0, "not one of SDHC or SDXC"),
    "without an image": (bytes(4096), (), CardError.NO_IMAGE, 0, "no image of weights"),
    "for another machine": (card_image(DESIGN, buses(REAL), STREAM), (), CardError.MACHINE, 0, "for another machine"),
    "of another version": (other(8, 1), (), CardError.VERSION, 0, "another version"),
    "with a block that fails": (IMAGE, ("fault=1", "fault_block=3", f"fault_times={TRIES}"), CardError.CRC, 3,
                                "CRC was wrong each time, at block 3"),
    "with another bit": (other(BLOCK_BYTES + 700, 4), (), CardError.CHECKSUM, BLOCKS, "not what the image says"),
}


@pytest.mark.parametrize("what", CARDS)
def test_cards_that_do_not_do(machine, what):
    """It says so in a line, and the line of the host does it instead."""
    image, words, error, block, said = CARDS[what]
    with machine(image, *words) as link:
        with pytest.raises(LinkError, match=rf"memory holds no weights .*\(its card: .*{said}.*\): hwgen load MODEL"):
            link.check_weights()
        assert link.card() == (False, error, block)
        (_, refused), = link.run_pass([Entry(0, 0, 3, True)]).errors.items()
        assert refused.code == ErrorCode.NO_WEIGHTS
        assert load_weights(link, STREAM).size == len(STREAM)
        link.check_weights()
        equal_to_golden(link, 1)


@pytest.mark.parametrize("fault", [1, 2, 3])
def test_a_block_again(machine, fault):
    with machine(IMAGE, f"fault={fault}", "fault_block=2", f"fault_times={TRIES - 1}") as link:
        link.check_weights()
        assert link.file.read_bytes()[:len(STREAM)] == STREAM and load_weights(link, STREAM).sent == 0


def test_a_memory_that_starts_late(machine):
    """The card waits for it."""
    with machine(IMAGE) as link:
        link.control("memory ready 0")
        link.control("memory ready 1")
        link.check_weights()


def test_with_litedram_and_a_chip(tmp_path):
    """The whole top as it goes into the bitstream: weights from the card into the chip, then passes, each golden's."""
    pytest.importorskip("litedram", reason="the extra dram is not installed")
    executable = build_with_chip(REAL, DESIGN, MODEL, divisor=DIVISOR, card_clock=CLOCK)
    (tmp_path / "card.img").write_bytes(card_image(DESIGN, buses(REAL), STREAM))
    with pins_link(executable, DESIGN, MODEL, axi=buses(REAL), loaded=False,
                   card=(tmp_path / "card.img", "waits=9", "starts=2")) as link:
        assert link.card() == (False, CardError.NONE, BLOCKS)
        link.check_weights()
        equal_to_golden(link, 6)
