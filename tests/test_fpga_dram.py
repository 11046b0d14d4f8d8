"""What is read of LiteDRAM's files, and what is refused of them; chips by their data sheets."""
import importlib.util
import re
import subprocess
import sys

import pytest

from hwgen.fpga.dram import controller
from hwgen.fpga.dram_phys import PHYS, check_clock
from hwgen.fpga.dram_start import start_steps
from hwgen.fpga.tools import ToolError
from hwgen.params.dram import MT41K128M16, MT48LC16M16, StartStep

HEADER = """\
#define DFII_CONTROL_SEL 0x01
#define DFII_CONTROL_CKE 0x02
#define DFII_CONTROL_ODT 0x04
#define DFII_COMMAND_CS 0x01
#define DFII_COMMAND_RAS 0x08
static inline void init_sequence(void)
{
	/* Bring CKE high */
	sdram_dfii_pi0_address_write(0x400);
	sdram_dfii_control_write(DFII_CONTROL_CKE|DFII_CONTROL_ODT);
	cdelay(20000);

	command_p0(DFII_COMMAND_RAS|DFII_COMMAND_CS);
	cdelay(4);
}
"""
REGISTERS = {"ddrctrl_init_done": 0, "sdram_dfii_control": 0x800, "sdram_dfii_pi0_command": 0x804,
             "sdram_dfii_pi0_command_issue": 0x808,
             "sdram_dfii_pi0_address": 0x80C}


def test_the_sequence_and_what_is_behind_it():
    assert start_steps(HEADER, REGISTERS) == (
        StartStep(0x80C, 0x400, 0), StartStep(0x800, 6, 20000), StartStep(0x804, 9, 0), StartStep(0x808, 1, 4),
        StartStep(0x800, 1, 0),
        StartStep(0, 1, 0))


@pytest.mark.parametrize("old, new, complaint", [
    ("cdelay(4);", "levelling();", "must be writes, commands and delays, not levelling\\(\\);"),
    ("CKE|DFII_CONTROL_ODT", "CKE|DFII_CONTROL_NEW", "must have names that it defines, not DFII_CONTROL_NEW"),
    ("pi0_address_write", "pi1_address_write", "must have registers that the core has, not sdram_dfii_pi1_address"),
    ("init_sequence", "start_sequence", "must have a function init_sequence"),
])
def test_another_header_is_refused(old, new, complaint):
    with pytest.raises(ToolError, match=complaint):
        start_steps(HEADER.replace(old, new), REGISTERS)


def test_what_a_controller_needs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolError, match=re.escape("LiteDRAM is not installed: pip install 'hwgen[dram]'")):
        controller(MT48LC16M16, 45)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(ToolError, match="must be at most 200 MHz, not 201: LiteDRAM leaves it 20000 cycles"):
        controller(MT48LC16M16, 201)


def test_a_chip_by_its_data_sheet():
    assert (MT48LC16M16.size, MT48LC16M16.address_width, MT48LC16M16.row_bytes) == (32 << 20, 25, 1024)
    assert [MT48LC16M16.cycles(name, 100) for name in ("rcd", "rp", "ras", "rc", "rrd", "rfc", "wr",
                                                       "refi")] == [2, 2, 5, 7, 2, 7, 2, 781]
    assert [MT48LC16M16.cycles(name, 50) for name in ("rcd", "refi")] == [1, 390]      # 20 ns are a cycle
    assert MT48LC16M16.axi().data_width == 16 and MT48LC16M16.axi().address_width == 25


@pytest.mark.parametrize("clock", [25, 45, 50, 83, 100, 133])
def test_litedram_keeps_what_the_data_sheet_says(clock):
    """LiteDRAM's own numbers of the chip are no laxer than ours, but for the refreshes' interval, which `controller`
    tells it."""
    modules = pytest.importorskip("litedram.modules", reason="the extra dram is not installed")
    chip = getattr(modules, MT48LC16M16.name)(clock * 1e6, "1:1")
    theirs = chip.timing_settings
    assert (chip.geom_settings.colbits, chip.geom_settings.rowbits, chip.geom_settings.bankbits) == (9, 13, 2)
    for name in ("rcd", "rp", "ras", "rrd", "rfc", "wr"):
        assert getattr(theirs, f"t{name.upper()}") >= MT48LC16M16.cycles(name, clock)
    assert theirs.tRC >= MT48LC16M16.cycles("rc", clock)


@pytest.mark.parametrize("clock", [75, 83.3333, 100])
def test_litedram_keeps_what_the_data_sheet_says_of_an_artixs_chip(clock):
    """But for the time of a refresh, too, which `controller` tells it."""
    modules = pytest.importorskip("litedram.modules", reason="the extra dram is not installed")
    theirs = getattr(modules, MT41K128M16.name)(clock * 1e6, "1:4")
    assert (theirs.geom_settings.colbits, theirs.geom_settings.rowbits, theirs.geom_settings.bankbits) == (10, 14, 3)
    assert MT41K128M16.size == 256 << 20 and MT41K128M16.cycle_bits == 128
    for name in ("rcd", "rp", "ras", "rrd", "wr"):
        assert getattr(theirs.timing_settings, f"t{name.upper()}") >= MT41K128M16.cycles(name, clock)


PLL = """\
	.CLKFBOUT_MULT  (5'd16),
	.CLKOUT0_DIVIDE (4'd8),
	.CLKOUT1_DIVIDE (5'd16),
	.CLKOUT2_DIVIDE (3'd4),
	.CLKOUT3_DIVIDE (3'd4),
	.CLKOUT3_PHASE  (7'd90),
	.DIVCLK_DIVIDE  (1'd1),
"""


@pytest.mark.parametrize("old, new, complaint", [
    ("", "", "can be 100 MHz of 100 MHz, not 99.5: take 100"),
    ("CLKOUT2_DIVIDE (3'd4", "CLKOUT2_DIVIDE (3'd5", "has no PLL of the kind that is known"),
    ("CLKOUT3_DIVIDE (3'd4", "CLKOUT3_DIVIDE (3'd8", "has no PLL of the kind that is known"),
    ("CLKOUT0_DIVIDE (4'd8", "CLKOUT0_DIVIDE (4'd9", "has no PLL of the kind that is known"),
    ("7'd90", "7'd45", "has no PLL of the kind that is known"),
    (".DIVCLK_DIVIDE", ".DIVIDE", "has no PLL of the kind that is known")])
def test_the_clocks_that_an_artixs_pll_makes(old, new, complaint):
    """The pins' clock must be four of the controller's, the strobes' a quarter of a cycle behind it, and the reference
    of the delays 200 MHz."""
    assert PHYS["A7DDRPHY"].made(PLL, 100) == 100
    check_clock(MT41K128M16, PLL, 100, 100)
    with pytest.raises(ToolError, match=complaint):
        check_clock(MT41K128M16, PLL.replace(old, new), 99.5, 100)


@pytest.mark.skipif(importlib.util.find_spec("litedram") is None, reason="needs the extra dram")
def test_a_controller_is_the_same_bytes_each_time():
    """LiteX 2024.12 lists a design's primitives in another order in each process."""
    program = ("from hwgen.fpga.dram import controller; from hwgen.params.dram import MT48LC16M16 as chip; "
               "print(controller(chip, 45).verilog)")
    made = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
            for _ in range(2)]
    assert made[0] == made[1] and "module memory_controller" in made[0]
