"""Fixtures of the benches' runners."""

import os
from pathlib import Path

import pytest

from sim.runner import BUILDS, simulators


def pytest_addoption(parser):
    parser.addoption("--design", metavar="FOLDER",
                     help="run the benches at the shape of a design that `hwgen emit` wrote (docs/benches.md)")


def pytest_configure(config):
    if folder := config.getoption("--design"):
        if not Path(folder, "manifest.json").is_file():
            raise pytest.UsageError(f"--design must be a folder that `hwgen emit` wrote, with its manifest.json, not {folder}")
        os.environ["HWGEN_DESIGN"] = str(Path(folder).resolve())      # for the command that runs a failed test again


def pytest_ignore_collect(collection_path, config):
    """A given design has its own tests; the others have their own designs."""
    name = collection_path.name
    if name.startswith("test_") and collection_path.suffix == ".py" and (name == "test_design.py") != bool(config.getoption("--design")):
        return True
    return None


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
