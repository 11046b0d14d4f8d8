"""A board's DDR3 memory path: LiteDRAM's own Verilog, with models of the FPGA's cells and a chip behind its pins. It
needs the extra `dram`. Verilator alone: half a million cycles pass before the memory is there."""
import pytest

from hwgen.host.links.ddr3 import SKEW
from hwgen.params.dram import MT41K128M16, MT41K256M16
from hwgen.plan.loading import read_time

pytest.importorskip("litedram", reason="the extra dram is not installed")

from sim.ddr3_memory import ddr3_and_chip
from sim.runner import run
from tools.bench_ddr3 import measure

CLOCK = 60
#: Of an ECP5, and of an Artix-7.
CHIPS = {"ecp5": (MT41K256M16, CLOCK), "artix7": (MT41K128M16, 100)}


def simulate(testcase, which="ecp5", **params):
    memory, clock = CHIPS[which]
    run(ddr3_and_chip(memory, clock, "ddr3"), "ddr3", "bench_ddr3", testcase=testcase,
        params=dict(chip=memory.name, bursts=30, skew=SKEW, mute=0) | params, sim="verilator")


@pytest.mark.parametrize("which", CHIPS)
def test_ddr3(which):
    """Long enough for a refresh."""
    simulate("bursts", which, bursts=200 if which == "artix7" else 30)


#: MHz of a memory with a clock of its own and of the machine, of which neither is a multiple.
CLOCKS = {"slower_machine": (95.8333, 56), "faster_machine": (60, 131)}


@pytest.mark.parametrize("clocks", ["slower_machine", pytest.param("faster_machine", marks=pytest.mark.nightly)])
def test_ddr3_with_a_clock_of_its_own(clocks):
    memory, machine = CLOCKS[clocks]
    run(ddr3_and_chip(MT41K256M16, memory, "ddr3", crossing=True), "ddr3", "bench_ddr3", testcase="bursts",
        params=dict(chip=MT41K256M16.name, bursts=80, skew=SKEW, machine=2 * round(10_000 * memory / machine)),
        sim="verilator")


@pytest.mark.parametrize("params", [dict(mute=1), dict(mute=2), dict(skew=0b100_001), dict(skew=0b001_101)])
def test_a_lane_that_cannot_be_levelled(params):
    simulate("levelling_fails", **params)


@pytest.mark.parametrize("params", [dict(mute=2), pytest.param(dict(skew=0b001_111), marks=pytest.mark.nightly),
                                    pytest.param(dict(skew=0b111_001), marks=pytest.mark.nightly)])
def test_a_lane_of_an_artix_that_cannot_be_levelled(params):
    simulate("levelling_fails", "artix7", **params)


@pytest.mark.nightly
@pytest.mark.parametrize("which, skew", [("ecp5", 0b000_000), ("ecp5", 0b010_000), ("ecp5", 0b001_010),
                                         ("artix7", 0b000_000), ("artix7", 0b101_011), ("artix7", 0b001_100)])
def test_other_ways_to_the_chip(which, skew):
    simulate("bursts", which, skew=skew, bursts=200 if which == "artix7" else 10)


@pytest.mark.nightly
@pytest.mark.parametrize("which, memory, machine", [
    ("ecp5", CLOCK, None), *(("ecp5", *clocks) for clocks in CLOCKS.values()), ("artix7", 100, None),
    ("artix7", 83.3333, None), ("artix7", 100, 64), ("artix7", 75, 120)])
def test_a_stream_is_within_its_bound(which, memory, machine):
    """With a crossing the port between the clocks may bind."""
    chip, _ = CHIPS[which]
    counts = measure(clock=memory, machine=machine, memory=chip)
    clocks = (machine, counts["bytes"], memory) if machine else (memory, counts["bytes"])
    bound = read_time(chip, *clocks) * memory / (machine or memory)
    assert 0.95 * bound < counts["cycles"] <= bound
