"""The image of a card, byte by byte; what a machine says of its card; and the commands that write an image."""
import zlib

import pytest

from hwgen.cli import main
from hwgen.fpga import files
from hwgen.fpga.boards import board
from hwgen.host.links.board import buses
from hwgen.host.links.card import CardState, card_image
from hwgen.host.links.link import LinkError
from hwgen.host.links.register_link import RegisterLink
from hwgen.params.axi import AxiShape, CardShape, LoaderShape
from hwgen.params.card import CARD_MEANINGS, CardError
from hwgen.params.registers import design_id, register_map
from hwgen.plan.loading import card_seconds, check_seconds
from hwgen.top.board import memory_buses
from sim.designs import small_design

BOARD = board("ulx3s-85f-sdram-card")
DESIGN = small_design(source="stream")
AXI = memory_buses(AxiShape(), card=True)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 5000])
def test_an_image(size):
    data = bytes(k * 7 & 0xFF for k in range(size))
    image, name = card_image(DESIGN, AXI, data), DESIGN.model.name.encode()
    words = [int.from_bytes(image[at:at + 4], "little") for at in (8, 12, 16, 20)]
    assert image[:8] == b"HWGNCARD" and words == [1, design_id(DESIGN, AXI), size, zlib.crc32(data)]
    assert image[24:24 + len(name)] == name and not any(image[24 + len(name):512])
    assert image[512:512 + size] == data and not any(image[512 + size:]) and len(image) == (1 + -(-size // 512)) * 512


def test_machines_with_and_without_a_card_are_different_ones():
    assert isinstance(AXI, CardShape) and type(memory_buses(AxiShape())) is LoaderShape
    assert design_id(DESIGN, AXI) != design_id(DESIGN, memory_buses(AxiShape()))
    assert "CARD" in register_map(DESIGN, AXI) and "CARD" not in register_map(DESIGN, memory_buses(AxiShape()))


@pytest.mark.parametrize("words, said", [
    ((1, 7), "block 7 is read"), ((0, 500), "weights came from it, 500 blocks"), ((0x100, 0), "no card answers"),
    ((0x500, 1234), "a block's CRC was wrong each time, at block 1,234"),
    ((0x800, 0), "the image is for another machine")])
def test_what_a_card_is_in_words(words, said):
    assert str(CardState.of(words)) == said


def test_every_error_has_words_and_others_are_refused():
    assert all(CARD_MEANINGS[error] in str(CardState(False, error, 3)) for error in CardError if error)
    with pytest.raises(LinkError, match="error 11, which must be below 11"):
        CardState.of((11 << 8, 0))


class Port:
    """Registers of which the card's change from read to read."""

    def __init__(self, *cards):
        self.map, self.cards = register_map(DESIGN, AXI), list(cards)

    def read(self, address, count=1):
        if address == self.map["LOAD_STATUS"].offset:
            return [0b10, 0, 0, 0, 0]
        assert (address, count) == (self.map["CARD"].offset, 2)
        return self.cards.pop(0) if len(self.cards) > 1 else self.cards[0]


def link(*cards):
    made = RegisterLink.__new__(RegisterLink)
    made._port, made._patience = Port(*cards), 0.05
    made._map = made._port.map
    return made


def test_a_card_is_waited_for():
    seen = []
    assert link((1, 0), (1, 0), (1, 3), (1, 3), (1, 8), (0, 9)).card(seen.append) == (False, CardError.NONE, 9)
    assert seen == [0, 3, 8, 9]
    with pytest.raises(LinkError, match="has not ended the reading of its card in 0.05 s"):
        link((1, 4)).card()


def test_a_top_with_a_card():
    text = files.top(BOARD, "machine")
    assert "assign wifi_en = 1'b0;" in text and ".card_miso(card_miso)" in text
    assert "card" not in files.top(board("ulx3s-85f-sdram"), "machine")
    assert {port: [pin.name for pin in pins] for port, pins in BOARD.pins().items() if port.startswith("card")} == {
        "card_cs_n": ["K2"], "card_sck": ["H2"], "card_mosi": ["J1"], "card_miso": ["J3"]}


def test_seconds():
    """135 MB at 45 MHz: 516 bytes of 18 cycles for each block, one of them the card's own; or a tenth of a
    millisecond."""
    axi, size = BOARD.memory.axi(), 135_000_000
    quick = -(-size // 512) * (516 * 18 + 1) / 45e6 + check_seconds(size, 45, axi)
    assert card_seconds(size, 45, axi, wait=0) == pytest.approx(quick)
    assert card_seconds(size, 45, axi) - quick == pytest.approx(size / 512 * 100e-6, rel=0.01)
    assert card_seconds(size, 45, axi) < 90


def test_the_command_writes_an_image(tmp_path, capsys):
    file = tmp_path / "card.img"
    line = f"load mini --board {BOARD.name} --shape tiny,context=64,source=stream --card"
    assert main([*line.split(), str(file)]) == 0
    shown = capsys.readouterr()
    assert f"dd if={file} of=DEVICE" in shown.out and "the board takes about" in shown.err
    image = file.read_bytes()
    size = int.from_bytes(image[16:20], "little")
    assert zlib.crc32(image[512:512 + size]) == int.from_bytes(image[20:24], "little") and image[24:28] == b"mini"
    assert main([*line.split(), str(tmp_path)]) == 2
    assert f"Image of a card must be a file, not {tmp_path}: dd copies it onto the card" in capsys.readouterr().err


@pytest.mark.parametrize("line, said", [
    ("load mini --board ulx3s-85f-sdram --card x",
     "Board must be one that reads an SD card (ulx3s-85f-sdram-card), not ulx3s-85f-sdram"),
    ("load mini --board ulx3s-85f-sdram-card", "one of the arguments --link --card is required"),
    ("load mini --board ulx3s-85f-sdram-card --link sim-uart --card x", "not allowed with argument")])
def test_commands_that_are_refused(line, said, capsys):
    try:
        assert main(line.split()) == 2
    except SystemExit as end:
        assert end.code == 2
    assert said in capsys.readouterr().err


def test_the_plan_says_both(capsys):
    assert main(f"plan mini --board {BOARD.name} --shape tiny,context=64,source=stream".split()) in (0, 3)
    out = capsys.readouterr().out
    assert "s to load them, at 3,000,000 baud, or " in out and "s from an SD card" in out
    assert isinstance(buses(BOARD), CardShape)
