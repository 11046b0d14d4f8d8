"""A board's memory path: LiteDRAM's own Verilog with a chip behind its pins. It needs the extra `dram`."""
import pytest

from hwgen.params.dram import MT48LC16M16

pytest.importorskip("litedram", reason="the extra dram is not installed")

from sim.dram_units import memory_and_chip  # noqa: E402
from sim.runner import run  # noqa: E402

CLOCK = 45


def test_dram():
    run(memory_and_chip(MT48LC16M16, CLOCK, "dram"), "dram", "bench_dram", params={"bursts": 40, "clock": CLOCK})
