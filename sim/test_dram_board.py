"""The whole top of a board with SDRAM, as it goes into the bitstream, and a chip behind its pins: through its UART
pins. It needs the extra `dram`."""
import dataclasses
import zlib

import pytest

from hwgen.fpga.boards import board
from hwgen.host.links.board import build_with_chip, buses, pins_link
from hwgen.host.driver import CheckedLink, Mismatch, selftest
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry, LinkError
from hwgen.host.links.loader import load_weights
from hwgen.models.pack import pack
from hwgen.params.errors import ErrorCode
from hwgen.params.loader import LoadError
from sim.boards import CHANGES, DIVISOR
from sim.designs import small_design
from sim.passes import History, random_model, run_step

pytest.importorskip("litedram", reason="the extra dram is not installed")

BOARD = board("ulx3s-85f-sdram")
DESIGN = small_design(**CHANGES | dict(source="stream"))
MODEL = random_model(DESIGN, 49)
STREAM = pack(MODEL, DESIGN).tobytes()


@pytest.fixture(scope="module")
def executable():
    return build_with_chip(BOARD, DESIGN, MODEL, divisor=DIVISOR)


#: A board of which the memory has the machine's clock, and one of which it has not: the line's bits are as long there
#: as on the board.
DDR3, ARTIX = board("ecpix-5-85f"), board("arty-a7-100")
CASES = {"sdram": (BOARD, False), "sdram_keys_too": (BOARD, True), "ddr3": (DDR3, False), "ddr3_keys_too": (DDR3, True),
         "ddr3_one_clock": (dataclasses.replace(DDR3, memory_clock=None), True), "artix7": (ARTIX, False),
         "artix7_keys_too": (ARTIX, True)}


@pytest.mark.parametrize("case", [case if case in ("ddr3_keys_too", "artix7_keys_too") else
                                  pytest.param(case, marks=pytest.mark.nightly) for case in CASES])
def test_empty_then_loaded_and_equal_to_golden(case):
    """An empty memory is answered with an error, not with text; behind the load every pass is golden's, refreshes or
    not; a bit that flips is found. The same where keys and values are in that memory too. The FPGA's own cells at the
    pins of DDR3 are models (ecp5_ddr_cells.v, artix7_ddr_cells.v)."""
    chosen, outside = CASES[case]
    design = dataclasses.replace(DESIGN, hw=dataclasses.replace(DESIGN.hw, kv_port=chosen.memory.port_width * outside))
    executable = build_with_chip(chosen, design, MODEL, divisor=None if chosen.memory_clock else DIVISOR)
    with pins_link(executable, design, MODEL, axi=buses(chosen), loaded=False) as machine:
        with pytest.raises(LinkError, match="memory holds no weights that were loaded .*hwgen load"):
            machine.check_weights()
        (_, error), = machine.run_pass([Entry(0, 0, 3, True), Entry(1, 0, 4, True)]).errors.items()
        assert error.code == ErrorCode.NO_WEIGHTS
        assert load_weights(machine, STREAM).sent == 1
        machine.check_weights()
        checked = CheckedLink(machine, GoldenLink(design, MODEL), values_only=True)
        for step in History(design, wrong=0.1).steps(6):
            run_step(checked, step)
        machine.reset()
        machine.control(f"memory flip {DESIGN.body_address * DESIGN.hw.beat_bytes + 9} 6")
        with GoldenLink(DESIGN, MODEL) as golden, pytest.raises(Mismatch, match="is the first whose signature differs"):
            selftest(machine, golden)


@pytest.mark.nightly
def test_a_chip_that_has_the_weights_already(executable, tmp_path):
    """Large models are simulated so: over the line their weights would take hours. They are checked like any others."""
    held, last, end = tmp_path / "memory.bin", bytes(range(200)), BOARD.memory.size
    held.write_bytes(STREAM.ljust(end - len(last), b"\0") + last)
    with pins_link(executable, DESIGN, MODEL, axi=buses(BOARD), memory=held, loaded=False) as machine:
        machine.memory()        # waits for the start-up; then to the end of the chip
        assert machine.check_block(end - 200, 200).crc == zlib.crc32(last)
        assert machine.load_block(end - 200, last[::-1]).error == LoadError.NONE
        assert machine.check_block(end - 200, 200).crc == zlib.crc32(last[::-1])
        assert load_weights(machine, STREAM).sent == 0
        machine.check_weights()
        run_step(CheckedLink(machine, GoldenLink(DESIGN, MODEL), values_only=True), next(History(DESIGN).steps(1)))
