"""Fixtures of the benches' runners."""

import pytest

from sim.runner import BUILDS, simulators


@pytest.fixture(params=simulators())
def simulator(request):
    """Each simulator that is installed."""
    return request.param


def pytest_collection_modifyitems(items):
    """Every bench runs on each simulator at its first shape, and on the first simulator at all. The rest is for `make nightly`."""
    seen = set()
    for item in items:
        simulator = getattr(item, "callspec", None) and item.callspec.params.get("simulator")
        if simulator and simulator != simulators()[0]:
            bench = item.path, item.originalname, simulator
            if bench in seen:
                item.add_marker(pytest.mark.nightly)
            seen.add(bench)


@pytest.fixture(scope="session", autouse=True)
def models():
    """Models of whole machines are kept with the other builds, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWGEN_CACHE", str(BUILDS / "hwgen"))
        yield
