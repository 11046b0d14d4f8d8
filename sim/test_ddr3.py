"""A board's DDR3 memory path: LiteDRAM's own Verilog, with models of the FPGA's cells and a chip behind its pins. It
needs the extra `dram`. Verilator alone: half a million cycles pass before the memory is there."""
import pytest

from hwgen.golden.dram import read_cycles
from hwgen.host.links.ddr3 import SKEW
from hwgen.params.dram import MT41K256M16
from hwgen.plan.loading import CROSSING_CYCLES

pytest.importorskip("litedram", reason="the extra dram is not installed")

from sim.ddr3_memory import ddr3_and_chip
from sim.runner import run
from tools.bench_ddr3 import measure

CLOCK = 60


def simulate(testcase, **params):
    run(ddr3_and_chip(MT41K256M16, CLOCK, "ddr3"), "ddr3", "bench_ddr3", testcase=testcase,
        params=dict(bursts=30, skew=SKEW, mute=0) | params, sim="verilator")


def test_ddr3():
    simulate("bursts")


#: MHz of a memory with a clock of its own and of the machine, of which neither is a multiple.
CLOCKS = {"slower_machine": (95.8333, 56), "faster_machine": (60, 131)}


@pytest.mark.parametrize("clocks", ["slower_machine", pytest.param("faster_machine", marks=pytest.mark.nightly)])
def test_ddr3_with_a_clock_of_its_own(clocks):
    memory, machine = CLOCKS[clocks]
    run(ddr3_and_chip(MT41K256M16, memory, "ddr3", crossing=True), "ddr3", "bench_ddr3", testcase="bursts",
        params=dict(bursts=80, skew=SKEW, machine=2 * round(10_000 * memory / machine)), sim="verilator")


@pytest.mark.parametrize("params", [dict(mute=1), dict(mute=2), dict(skew=0b100_001), dict(skew=0b001_101)])
def test_a_lane_that_cannot_be_levelled(params):
    simulate("levelling_fails", **params)


@pytest.mark.nightly
@pytest.mark.parametrize("skew", [0b000_000, 0b010_000, 0b001_010])
def test_other_ways_to_the_chip(skew):
    simulate("bursts", skew=skew, bursts=10)


@pytest.mark.nightly
@pytest.mark.parametrize("memory, machine", [(CLOCK, None), *CLOCKS.values()])
def test_a_stream_is_within_its_bound(memory, machine):
    """With a crossing in cycles of the memory, of which it takes some there and back."""
    counts = measure(clock=memory, machine=machine)
    bound = read_cycles(MT41K256M16, memory, counts["bytes"]) + (CROSSING_CYCLES * 2 if machine else 0)
    assert 0.95 * bound < counts["cycles"] <= bound
