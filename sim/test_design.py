"""Benches at the shape of an emitted design: ``pytest sim/ --design rtl_out/mine``; only these tests run then, and
without it none of them.

Units are built from the manifest's shape and formats, each with its own bench. The system bench runs on the Verilog of
the folder itself, with the folder's own weights. What has no bench at a given shape: see docs/benches.md.
"""
from amaranth.hdl import Shape
import pytest

from hwgen.params.registers import register_map
from hwgen.top import make
from hwgen.units.axi_registers import AxiRegisters
from hwgen.units.vector_buffer import VectorBuffer
from sim import runner
from sim.design_benches import BUFFERS, BUSES, UNITS, Mine, buffers, run_system, run_unit


@pytest.fixture(scope="module")
def mine(request):
    folder = request.config.getoption("--design")
    if not folder:      # this file was named, which pytest takes even if it is to be left out
        pytest.skip("these benches are of an emitted design: --design must name its folder")
    return Mine(folder)


@pytest.mark.parametrize("unit", UNITS)
def test_unit(mine, unit):
    run_unit(mine, unit)


@pytest.mark.parametrize("name", BUFFERS)
def test_vector_buffer(mine, name):
    shape = buffers(mine.design)[name]
    unit = VectorBuffer(**shape)
    runner.run(unit, f"{mine.top}_{name}", "bench_vector_buffer", params={
        **shape, "fmt": shape["fmt"].name, "meta": Shape.cast(shape["meta"]).width, "zeros": 0.5, "rounds": 2})


@pytest.mark.parametrize("unit", BUSES)
def test_bus(mine, unit):
    if not mine.axi:
        pytest.skip("the machine of this design is not on buses")
    made = make.axi_reader(mine.design,
                     mine.axi) if unit == "axi_reader" else AxiRegisters(register_map(mine.design, mine.axi))
    runner.run(made, f"{mine.top}_{unit}", f"bench_{unit}",
               params={"changes": mine.on_bus, "axi": mine.about["bus"]["axi"], "brief": True})


def test_system(mine):
    """The folder's Verilog with the folder's weights."""
    run_system(mine)
