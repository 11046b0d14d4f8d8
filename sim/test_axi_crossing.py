import pytest

from hwgen.params.axi import AxiShape
from hwgen.units.axi_crossing import CHANNELS, AxiCrossing
from sim.runner import run, simulators

AXI = dict(data_width=16, address_width=14)
#: ps: the period of the memory's clock, where the machine's is 10,000, and its first edge behind the machine's. Of
#: equal periods an edge is just behind or just before the other clock's; the others have any distance.
CLOCKS = {"equal_behind": (10_000, 1), "equal_before": (10_000, 9_999), "a_little_more": (9_990, 3),
          "3_to_1": (30_000, 7), "1_to_3": (3_334, 11), "root_2": (14_142, 1), "half_root_2": (7_070, 5),
          "ecpix_5_85f": (5_844, 2), "arty_a7_100": (6_400, 2),
          "slow": (97_002, 13)}
QUICK = ("equal_before", "1_to_3", "root_2", "ecpix_5_85f")


def simulate(clocks, sim, words=16, requests=8, **axi):
    period, late = CLOCKS[clocks]
    run(AxiCrossing(AxiShape(**AXI | axi), words=words, requests=requests), f"axi_crossing_{words}_{requests}",
        "bench_axi_crossing", params=dict(words=words, requests=requests, period=period, late=late), sim=sim,
        internals=[f"{channel}.{count}_cdc__i" for channel in CHANNELS for count in ("produce", "consume")])


@pytest.mark.parametrize("clocks", [clocks if clocks in QUICK else pytest.param(clocks, marks=pytest.mark.nightly)
                                    for clocks in CLOCKS])
def test_axi_crossing(clocks):
    simulate(clocks, simulators()[-1])


@pytest.mark.parametrize("words, requests", [(4, 16), pytest.param(8, 4, marks=pytest.mark.nightly)])
def test_other_depths(words, requests):
    simulate("root_2", simulators()[-1], words, requests, data_width=8, id_width=3)


def test_the_other_simulator():
    simulate("half_root_2", simulators()[0])


@pytest.mark.parametrize("depth", [3, 12, 2])
def test_depths_that_are_refused(depth):
    with pytest.raises(ValueError, match=f"^Depth of a crossing must be a power of two, 4 or more, not {depth}$"):
        AxiCrossing(AxiShape(), requests=depth)
