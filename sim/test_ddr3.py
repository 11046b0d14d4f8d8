"""A board's DDR3 memory path: LiteDRAM's own Verilog, with models of the FPGA's cells and a chip behind its pins. It
needs the extra `dram`. Verilator alone: half a million cycles pass before the memory is there."""
import pytest

from hwgen.golden.dram import read_cycles
from hwgen.host.links.ddr3 import SKEW
from hwgen.params.dram import MT41K256M16

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


@pytest.mark.parametrize("params", [dict(mute=1), dict(mute=2), dict(skew=0b100_001), dict(skew=0b001_101)])
def test_a_lane_that_cannot_be_levelled(params):
    simulate("levelling_fails", **params)


@pytest.mark.nightly
@pytest.mark.parametrize("skew", [0b000_000, 0b010_000, 0b001_010])
def test_other_ways_to_the_chip(skew):
    simulate("bursts", skew=skew, bursts=10)


@pytest.mark.nightly
def test_a_stream_is_within_its_bound():
    counts = measure(clock=CLOCK)
    bound = read_cycles(MT41K256M16, CLOCK, counts["bytes"])
    assert 0.95 * bound < counts["cycles"] <= bound
