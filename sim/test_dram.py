"""A board's memory path: LiteDRAM's own Verilog with a chip behind its pins. It needs the extra `dram`."""
import pytest

from hwgen.golden.dram import read_cycles
from hwgen.params.dram import MT48LC16M16, POSTPONED

pytest.importorskip("litedram", reason="the extra dram is not installed")

from sim.dram_units import memory_and_chip
from sim.runner import run
from tools.bench_dram import measure

CLOCK = 45


def test_dram():
    run(memory_and_chip(MT48LC16M16, CLOCK, "dram"), "dram", "bench_dram", params={"bursts": 40, "clock": CLOCK})


@pytest.mark.nightly
@pytest.mark.parametrize("clock, postponed", [(CLOCK, POSTPONED), (CLOCK, 1), (25, POSTPONED), (100, POSTPONED)])
def test_a_stream_is_within_its_bound(clock, postponed):
    counts = measure(clock=clock, refresh_postponing=postponed)
    bound = read_cycles(MT48LC16M16, clock, counts["bytes"], postponed)
    assert 0.98 * bound < counts["cycles"] <= bound


@pytest.mark.nightly
@pytest.mark.parametrize("clock", [25, 83, 100])
def test_other_clocks(clock):
    run(memory_and_chip(MT48LC16M16, clock, "dram"), "dram", "bench_dram", params={"bursts": 300, "clock": clock},
        testcase="bursts")
