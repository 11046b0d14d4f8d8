"""The start-up with levelling by hand, and what the unit and the reading of LiteDRAM's files refuse."""
from dataclasses import replace
from itertools import repeat

import pytest

from hwgen.fpga.dram_start import PATTERNS, artix_plan, start_plan
from hwgen.fpga.tools import ToolError
from hwgen.golden.ddr3_start import Answer, level
from hwgen.params.dram import CheckStep, LaneStep, StartPlan, StartStep
from hwgen.units.ddr3_start import Ddr3Start

PLAN = StartPlan(lanes=1, bitslips=2, delays=2, tries=2, first=(StartStep(0, 7, 3),), reset=(LaneStep(4, 0, 0),),
                 delay=(StartStep(8, 1, 0),), bitslip=(StartStep(12, 1, 0),), test=(CheckStep(16, 5, 0, (15,)),),
                 last=(StartStep(20, 1, 0),), failure=(StartStep(24, 1, 0),))
OK, RIGHT, WRONG = Answer(0, False, 0), Answer(0, False, 0xA5), Answer(0, False, 0xA4)


def test_by_hand():
    # first: offered in 1, paused in 2 to 4, 5 chooses. Then each step takes 3 cycles: looked up, offered, chosen
    sweep = [OK, WRONG, OK, RIGHT, OK, OK, WRONG, OK, WRONG, OK, OK]         # reset, and twice two tests
    found = level(PLAN, [OK, *sweep, OK, OK, RIGHT, OK])        # it is set with one delay
    assert found.places == [(0, 1)] and not found.failed
    assert [address for _, address, _ in found.steps] == [0, 4, 16, 8, 16, 8, 12, 16, 8, 16, 8, 12, 4, 8, 16, 20]
    assert found.steps[:3] == [(1, 0, 7), (7, 4, 1), (10, 16, None)]
    assert found.cycle == 6 + 3 * 15
    slower = level(PLAN, [OK, *sweep, OK, OK, RIGHT, OK], table=True)       # each of 16 steps
    assert slower.places == found.places and slower.cycle == found.cycle + 16
    assert slower.steps[:3] == [(2, 0, 7), (9, 4, 1), (13, 16, None)]


def test_nothing_works_or_not_twice():
    sweep = [OK, WRONG, OK, WRONG, OK, OK, WRONG, OK, WRONG, OK, OK]
    none = level(PLAN, [OK, *sweep, OK])
    assert none.failed and none.steps[-1][1:] == (24, 1) and none.places == []
    sweep[1] = RIGHT
    spotty = level(PLAN, [OK, *sweep, OK, WRONG, OK, WRONG, OK])
    assert spotty.failed and len(spotty.steps) == 1 + 11 + 4 + 1
    assert not level(PLAN, [OK, *sweep, OK, WRONG, OK, RIGHT, OK]).failed
    assert level(PLAN, [OK, Answer(2, True, 0)]) == ([(1, 0, 7), (7, 4, 1)], 10, True, [])


def test_the_longest_run_and_the_first():
    plan = replace(PLAN, delays=8)

    def places(works):
        sweep = [OK]
        for bitslip in range(2):
            for delay in range(8):
                sweep += [RIGHT if (bitslip, delay) in works else WRONG, OK]
            sweep.append(OK)
        return level(plan, [OK, *sweep, *repeat(RIGHT, 20)]).places
    assert places({(0, 1), (0, 2), (1, 4), (1, 5), (1, 6), (1, 7)}) == [(1, 5)]
    assert places({(0, 1), (0, 2), (0, 4), (0, 5), (1, 0), (1, 1)}) == [(0, 1)]
    assert places({(1, delay) for delay in range(8)}) == [(1, 3)]


@pytest.mark.parametrize("changes, complaint", [
    (dict(test=()), "at least one step of each kind, not none in test"),
    (dict(last=(StartStep(6, 0, 0),)), "multiple of 4, not 0x6"),
    (dict(delays=6), "Number of delays must be a power of two from 2 on, not 6"),
    (dict(bitslips=1), "Number of bitslips must be a power of two from 2 on, not 1")])
def test_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        Ddr3Start(replace(PLAN, **changes))


HEADER = """\
#define DFII_CONTROL_SEL 0x01
#define DFII_CONTROL_RESET_N 0x08
#define DFII_COMMAND_CS 0x01
#define DFII_COMMAND_WE 0x02
#define DFII_COMMAND_CAS 0x04
#define DFII_COMMAND_RAS 0x08
#define DFII_COMMAND_WRDATA 0x10
#define DFII_COMMAND_RDDATA 0x20
#define SDRAM_PHY_DFI_DATABITS 64
#define SDRAM_PHY_PHASES 2
#define SDRAM_PHY_RDPHASE 0
#define SDRAM_PHY_WRPHASE 1
#define SDRAM_PHY_MODULES 2
#define SDRAM_PHY_DELAYS 8
#define SDRAM_PHY_BITSLIPS 4
static inline void init_sequence(void)
{
	/* Release reset */
	sdram_dfii_control_write(DFII_CONTROL_RESET_N);
	cdelay(50000);
}
"""
NAMES = ("ddrctrl_init_done", "ddrctrl_init_error", "ddrphy_dly_sel", "ddrphy_rdly_dq_rst", "ddrphy_rdly_dq_inc",
         "ddrphy_rdly_dq_bitslip_rst", "ddrphy_rdly_dq_bitslip", "ddrphy_burstdet_clr", "ddrphy_burstdet_seen",
         "sdram_dfii_control", *(f"sdram_dfii_pi{phase}_{name}" for phase in range(2)
                                 for name in ("command", "command_issue", "address", "baddress", "wrdata", "rddata")))
REGISTERS = {name: 16 * i for i, name in enumerate(NAMES)}


def test_what_is_read_of_litedrams_files():
    plan = start_plan(HEADER, REGISTERS)
    assert (plan.lanes, plan.bitslips, plan.delays) == (2, 4, 8)
    assert plan.first[0] == StartStep(REGISTERS["sdram_dfii_control"], 8, 100_000)
    assert plan.delay == (LaneStep(32, 0, 0), StartStep(REGISTERS["ddrphy_rdly_dq_inc"], 1, 0), StartStep(32, 0, 0),
                          StartStep(32, 3, 0), StartStep(32, 0, 0))
    read = [step for step in plan.test if isinstance(step, CheckStep)]
    assert [step.data for step in read[:4]] == list(PATTERNS[0]) and read[4].masks == (1, 2)
    assert all(not step.masks[0] & step.masks[1] for step in read)
    # every beat of a burst differs from the others in the lane's bits, or another bitslip would look right
    for words in PATTERNS:
        beats = [word >> shift & 0xFFFF for word in (words[1], words[0], words[3], words[2]) for shift in (0, 16)]
        for lane in range(2):
            bytes_ = [beat >> 8 * lane & 0xFF for beat in beats]
            assert all(bytes_[n:] != bytes_[:-n] for n in range(1, 4))


A7_HEADER = HEADER.replace("DATABITS 64", "DATABITS 32").replace("PHASES 2", "PHASES 4") \
    .replace("RDPHASE 0", "RDPHASE 2").replace("WRPHASE 1", "WRPHASE 3") \
    .replace("DELAYS 8", "DELAYS 32").replace("BITSLIPS 4", "BITSLIPS 8")
A7_REGISTERS = {name: 16 * i for i, name in enumerate(
    [*(name for name in NAMES if "burstdet" not in name and "_pi" not in name), "ddrphy_rst", "ddrphy_rdphase",
     "ddrphy_wrphase", *(f"sdram_dfii_pi{phase}_{name}" for phase in range(4)
                         for name in ("command", "command_issue", "address", "baddress", "wrdata", "rddata"))])}


def test_what_is_read_of_an_artixs_files():
    plan, at = artix_plan(A7_HEADER, A7_REGISTERS), A7_REGISTERS
    assert (plan.lanes, plan.bitslips, plan.delays) == (2, 8, 32)
    # RESET# is low for 200 us at least, the PHY is reset, and the phases are those of its reads and writes
    assert plan.first[:6] == (
        StartStep(at["sdram_dfii_control"], 0, 50_000), StartStep(at["ddrphy_rst"], 1, 2000),
        StartStep(at["ddrphy_rst"], 0, 2000), StartStep(at["ddrphy_rdphase"], 2, 0),
        StartStep(at["ddrphy_wrphase"], 3, 0), StartStep(at["sdram_dfii_control"], 8, 100_000))
    assert plan.delay == (LaneStep(at["ddrphy_dly_sel"], 0, 0), StartStep(at["ddrphy_rdly_dq_inc"], 1, 0),
                          StartStep(at["ddrphy_dly_sel"], 0, 30))
    read = [step for step in plan.test if isinstance(step, CheckStep)]
    assert [step.data for step in read] == [word for words in PATTERNS for word in words]
    assert [step.address for step in read[:4]] == [at[f"sdram_dfii_pi{phase}_rddata"] for phase in range(4)]
    # every beat of a burst differs from the others in the lane's bits, or another bitslip would look right
    for words in PATTERNS:
        beats = [word >> shift & 0xFFFF for word in words for shift in (0, 16)]
        for lane in range(2):
            bytes_ = [beat >> 8 * lane & 0xFF for beat in beats]
            assert all(bytes_[n:] != bytes_[:-n] for n in range(1, 8))


def test_a_phy_whose_writes_are_levelled_is_refused():
    for name in ("WRITE_LEVELING", "WRITE_LATENCY_CALIBRATION", "WRITE_DQ_DQS_TRAINING"):
        with pytest.raises(ToolError, match=f"must have no {name.lower().replace('_', ' ')}, and this one has"):
            artix_plan(f"#define SDRAM_PHY_{name}_CAPABLE\n{A7_HEADER}", A7_REGISTERS)
    with pytest.raises(ToolError, match="2 lanes and 4 phases of 32 bits, and this one has others"):
        artix_plan(HEADER, A7_REGISTERS)


@pytest.mark.parametrize("old, new, complaint", [
    ("SDRAM_PHY_MODULES 2", "SDRAM_PHY_MODULES 4", "2 lanes and 2 phases of 64 bits, and this one has others"),
    ("SDRAM_PHY_DELAYS", "SDRAM_PHY_TAPS", "must have names that it defines, not SDRAM_PHY_DELAYS")])
def test_another_header_is_refused(old, new, complaint):
    with pytest.raises(ToolError, match=complaint):
        start_plan(HEADER.replace(old, new), REGISTERS)
