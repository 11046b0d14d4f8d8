import pytest

from sim.runner import run, simulators
from sim.secded_units import StoredWord


@pytest.mark.parametrize("width", [1, 10, 64, 72])
def test_every_flip(width):
    run(StoredWord(width), f"secded{width}", "bench_secded", params={"width": width}, sim=simulators()[-1])
