"""The start-up of a memory whose reads must be levelled, at plans of few steps."""
import pytest

from hwgen.units.ddr3_start import Ddr3Start
from sim.ddr3_units import plan_of
from sim.runner import run, simulators


def simulate(name, simulator, table=False, **params):
    run(Ddr3Start(plan_of(**params), table=table), name, "bench_ddr3_start", params=params | {"table": table},
        sim=simulator)


@pytest.mark.parametrize("table", [False, True], ids=["logic", "table"])
def test_ddr3_start(simulator, table):
    simulate("ddr3_start", simulator, table)


@pytest.mark.parametrize("params", [dict(lanes=1, bitslips=2, delays=4, tries=2),
                                    dict(lanes=4, bitslips=2, delays=16, tries=5)])
def test_other_counts(params):
    simulate("ddr3_start_" + "_".join(map(str, params.values())), simulators()[-1], **params)
