"""Fixtures of the benches' runners."""

import pytest

from sim.runner import BUILDS, simulators


@pytest.fixture(params=simulators())
def simulator(request):
    """Each simulator that is installed."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def models():
    """Models of whole machines are kept with the other builds, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWGEN_CACHE", str(BUILDS / "hwgen"))
        yield
