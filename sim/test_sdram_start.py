"""The start-up of a memory, at steps that are chosen for it."""
from dataclasses import asdict

from hwgen.params.dram import StartStep
from hwgen.units.sdram_start import SdramStart
from sim.runner import run, simulators

STEPS = [StartStep(0x0, 0xFFFFFFFF, 0), StartStep(0x804, 0, 1), StartStep(0xFFFFFFFC, 0xA5, 17), StartStep(0x808, 1, 0),
         StartStep(0x808, 1, 2)]


def simulate(steps, name, simulator):
    run(SdramStart(steps), name, "bench_sdram_start", params={"steps": [asdict(step) for step in steps]}, sim=simulator)


def test_sdram_start(simulator):
    simulate(STEPS, "sdram_start", simulator)


def test_one_step():
    simulate(STEPS[:1], "sdram_start_1", simulators()[-1])
