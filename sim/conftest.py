"""Fixtures of the benches' runners."""

import pytest

from sim.runner import BUILDS, simulators


@pytest.fixture(params=simulators())
def simulator(request):
    """Each simulator that is installed."""
    return request.param


def pytest_collection_modifyitems(items):
    """Every bench runs on each simulator at its first shape, and on the first simulator at all. The rest is for `make nightly`."""
    first, *others = simulators()
    names, seen = {item.nodeid for item in items}, set()
    for item in items:
        for other in others:
            bench = item.path, getattr(item, "originalname", None), other
            if other in item.nodeid and item.nodeid.replace(other, first) in names:
                if bench in seen:
                    item.add_marker(pytest.mark.nightly)
                seen.add(bench)


@pytest.fixture(scope="session", autouse=True)
def models():
    """Models of whole machines are kept with the other builds, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWGEN_CACHE", str(BUILDS / "hwgen"))
        yield
