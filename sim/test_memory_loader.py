"""The loader of a memory on simulators: words of one byte and of many, short bursts and long ones."""
import pytest

from hwgen.params.axi import AxiShape
from hwgen.units.memory_loader import MemoryLoader
from sim.runner import run, simulators

SILENCE = 40


def simulate(simulator, brief=False, testcase=None, **axi):
    run(MemoryLoader(AxiShape(**axi), SILENCE), "memory_loader", "bench_memory_loader",
        params={"axi": axi, "silence": SILENCE, "brief": brief}, sim=simulator, testcase=testcase)


def test_memory_loader(simulator):
    simulate(simulator, brief=True, testcase=None if simulator == simulators()[0] else "cycles/latency=9",
             data_width=32, burst=4)


@pytest.mark.nightly
@pytest.mark.parametrize("axi", [dict(data_width=64), dict(data_width=128, burst=8),
                                 dict(data_width=32, burst=2, address_width=20),
                                 dict(data_width=8, burst=1), dict(data_width=16, burst=64)])
def test_widths(axi):
    simulate(simulators()[-1], **axi)
