"""Fixtures of the benches' runners."""

import os
from pathlib import Path

import pytest

from sim import branches, points, runner


def pytest_addoption(parser):
    parser.addoption("--design", metavar="FOLDER",
                     help="run the benches at the shape of a design that `hwgen emit` wrote (docs/benches.md)")
    parser.addoption("--coverage", metavar="FOLDER",
                     help="count there the branches and functional points of the benches (docs/coverage.md)")


@pytest.hookimpl(tryfirst=True)         # before pytest looks where to write JUnit's XML
def pytest_configure(config):
    if folder := config.getoption("--coverage"):
        runner.POINTS = Path(folder).resolve()
        runner.BUILDS = runner.POINTS / "builds"
        counting = branches.counted(runner.POINTS)
        counting.__enter__()
        runner.simulators = lambda: ["verilator"]       # the one that counts
        config.add_cleanup(lambda: counting.__exit__(None, None, None))
    if folder := config.getoption("--design"):
        if not Path(folder, "manifest.json").is_file():
            raise pytest.UsageError("--design must be a folder that `hwgen emit` wrote, with its manifest.json, "
                                    f"not {folder}")
        runner.POINTS = runner.ROOT / "build" / "design" / Path(folder).resolve().name
        runner.POINTS.mkdir(parents=True, exist_ok=True)
        if not hasattr(config, "workerinput") and not config.option.collectonly:
            config.option.xmlpath = config.option.xmlpath or str(runner.POINTS / "junit.xml")
            for file in runner.POINTS.glob("points-*.json"):
                file.unlink()
        os.environ["HWGEN_DESIGN"] = str(Path(folder).resolve())      # for the command that runs a failed test again


def pytest_terminal_summary(terminalreporter, config):
    """Of a given design: which functional points its benches reached."""
    if not config.getoption("--design") or config.option.collectonly:
        return
    reached = points.reached(runner.POINTS)
    lines = [f"{unit}: {sum(map(bool, found.values()))} of {len(found)} functional points"
             for unit, found in sorted(reached.items())]
    missed = [f"{unit}: not reached: {point}" for unit, found in sorted(reached.items())
              for point, times in found.items() if not times]
    (runner.POINTS / "points.txt").write_text("\n".join([*lines, *missed, ""]))
    terminalreporter.section("functional coverage")
    terminalreporter.write("\n".join([*lines, f"what was not reached: {runner.POINTS / 'points.txt'}",
                                      f"JUnit's XML: {config.option.xmlpath}", ""]))


def pytest_ignore_collect(collection_path, config):
    """A given design has its own tests; the others have their own designs."""
    name = collection_path.name
    if name.startswith("test_") and collection_path.suffix == ".py":
        if (name == "test_design.py") != bool(config.getoption("--design")):
            return True
    return None


@pytest.fixture(params=runner.simulators())
def simulator(request):
    """Each simulator that is installed."""
    return request.param


def pytest_collection_modifyitems(items):
    """Every bench runs on each simulator at its first shape, and on the first simulator at all. The rest is for `make
    nightly`."""
    first, *others = runner.simulators()
    names, seen = {item.nodeid for item in items}, set()
    for item in items:
        if runner.POINTS and getattr(item, "callspec",
                                     None) and item.callspec.params.get("simulator", "verilator") != "verilator":
            item.add_marker(pytest.mark.nightly)        # only Verilator counts branches
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
        patch.setenv("HWGEN_CACHE", str(runner.BUILDS / "hwgen"))
        yield
