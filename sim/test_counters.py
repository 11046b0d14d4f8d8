"""Event counters on simulators."""
import pytest

from hwgen.units.counters import Counters
from sim.runner import run


@pytest.mark.parametrize("n, width", [(9, 32), (3, 6), (1, 5)])
def test_counters(simulator, n, width):
    run(Counters([f"event{i}" for i in range(n)], width), "counters", "bench_counters", params={"n": n, "width": width},
        sim=simulator)


def test_no_names():
    with pytest.raises(ValueError, match="Event names must be at least one"):
        Counters([])
