import pytest

from hwgen.params.axi import AxiShape
from hwgen.units.axi_writer import AxiWriter
from sim.runner import run, simulators

#: Words that are narrower than beats, as wide, and wider.
SHAPES = {
    "narrow": dict(axi=dict(data_width=16, address_width=25), beat_bytes=8, beats=300),
    "equal": dict(axi=dict(data_width=32, address_width=34), beat_bytes=4, beats=77),
    "wide": dict(axi=dict(data_width=128, address_width=29), beat_bytes=4, beats=1000),
}


@pytest.mark.parametrize("shape, sim", [("narrow", simulators()[-1]), *(("wide", sim) for sim in simulators()),
                                        ("equal", simulators()[-1])])
def test_axi_writer(shape, sim):
    params = SHAPES[shape]
    unit = AxiWriter(AxiShape(**params["axi"]), beats=params["beats"], beat_bytes=params["beat_bytes"])
    run(unit, f"axi_writer_{shape}", "bench_axi_writer", params=params, sim=sim,
        internals=["silent"])
