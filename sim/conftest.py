"""Fixtures of the benches' runners."""

import pytest

from sim.runner import simulators


@pytest.fixture(params=simulators())
def simulator(request):
    """Each simulator that is installed."""
    return request.param
