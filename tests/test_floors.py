"""The rule of the floors: imports go down only. The rule of tests: what several share is in no test. And the rule of
names: a unit has its twin, its tests and its page."""

import ast
from pathlib import Path

import pytest

from hwgen.lib.verilog import PARTS

ROOT = Path(__file__).resolve().parent.parent

FLOORS = {"params": 0, "golden": 1, "models": 1, "lib": 1, "units": 2, "top": 3, "emit": 4, "plan": 4, "fpga": 5,
          "host": 6, "commands": 7, "cli": 8, "__main__": 9}
#: Packages that the numbers must not depend on: the golden model and what it reads are plain Python and numpy.
FORBIDDEN = {package: {"amaranth", "amaranth_boards", "cocotb", "ml_dtypes", "torch", "transformers"}
             for package in ("params", "golden", "models")}

#: Files a unit goes with.
COMPANIONS = ("hwgen/golden/{}.py", "sim/test_{}.py", "tests/test_golden_{}.py", "docs/{}.md")
#: (unit, companion) that do without, each with its reason.
EXEMPT = {}

#: Files in which a parameter ``design`` is no `Design`, but a component that is emitted.
EMITTING = {"lib/netlist.py", "lib/nets.py"}


def imported(tree, module, is_package):
    """Absolute dotted names that a module's source imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[:len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(root):
    """Sentences on each import under ``root/hwgen`` that goes up, sideways or out of bounds."""
    found = []
    for file in sorted((root / "hwgen").rglob("*.py")):
        relative = file.relative_to(root)
        names = list(relative.with_suffix("").parts)
        is_package = names[-1] == "__init__"
        module = ".".join(names[:-1] if is_package else names)
        if module == "hwgen":
            own, floor = "hwgen", -1
        else:
            own = module.split(".")[1]
            if own not in FLOORS:
                found.append(f"{relative} is on no floor")
                continue
            floor = FLOORS[own]
        for target in dict.fromkeys(imported(ast.parse(file.read_text()), module, is_package)):
            first, *rest = target.split(".")
            if first in FORBIDDEN.get(own, ()):
                found.append(f"{relative} ({own}) must not import {first}")
            if first in ("sim", "tests", "tools"):
                found.append(f"{relative} must not import {first}, which is not part of the package")
            if first != "hwgen" or not rest or rest[0] == own or rest[0] not in FLOORS:
                continue
            if FLOORS[rest[0]] >= floor:
                found.append(f"{relative} (floor {floor}) must not import {rest[0]} (floor {FLOORS[rest[0]]})")
    return list(dict.fromkeys(found))


def test_imports_go_down():
    assert violations(ROOT) == []


@pytest.mark.parametrize("file, source, complaint", [
    ("params/a.py", "from hwgen.golden.rope import f", "golden"),
    ("golden/a.py", "import hwgen.lib.verilog", "lib"),
    ("golden/a.py", "def f():\n    from amaranth.hdl import Signal", "amaranth"),
    ("golden/sub/a.py", "from ...units import rope", "units"),
    ("golden/__init__.py", "from .. import models", "models"),
    ("units/a.py", "from hwgen import top", "top"),
    ("emit/a.py", "from ..plan import fit", "plan"),
    ("top/a.py", "import sim.runner", "sim"),
    ("__init__.py", "from hwgen.cli import main", "cli"),
    ("strange/a.py", "", "no floor"),
])
def test_a_planted_violation_is_found(tmp_path, file, source, complaint):
    planted = tmp_path / "hwgen" / file
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    assert [line for line in violations(tmp_path) if complaint in line]


@pytest.mark.parametrize("file, source", [
    ("units/a.py", "from hwgen.golden.rope import f\nfrom hwgen.lib import fp8\nfrom .b import c\nimport amaranth"),
    ("golden/a.py", "import numpy\nfrom . import b\nfrom ..params import formats"),
    ("cli.py", "from hwgen.host import driver\nfrom hwgen import params"),
    ("lib/__init__.py", "from . import fp8"),
])
def test_an_import_that_goes_down_is_fine(tmp_path, file, source):
    planted = tmp_path / "hwgen" / file
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    assert violations(tmp_path) == []


def borrowed(root):
    """Sentences on each import of a module of tests, and of a bench by another bench, in sim/, tests/ and tools/."""
    found, folders = [], ("sim", "tests", "tools")
    for file in (file for folder in folders for file in sorted((root / folder).glob("*.py"))):
        refused = ("test_", "bench_") if file.stem.startswith("bench_") else ("test_",)
        for target in imported(ast.parse(file.read_text()), f"{file.parent.name}.{file.stem}", False):
            first, *rest = target.split(".")
            module = rest[0] if first in folders and rest else first
            if module.startswith(refused):
                found.append(f"{file.relative_to(root)} must not import {module}: what they share is in neither")
    return list(dict.fromkeys(found))


def test_tests_and_benches_are_no_libraries():
    assert borrowed(ROOT) == []


@pytest.mark.parametrize("file, source, module", [
    ("sim/soak.py", "from sim.test_decoder import SHAPES, checked", "test_decoder"),
    ("sim/bench_b.py", "from sim.bench_a import codes", "bench_a"),
    ("tests/test_b.py", "def test():\n    from test_a import same", "test_a"),
    ("tests/test_b.py", "from . import test_a", "test_a"),
    ("tools/bench_b.py", "import tools.bench_a", "bench_a"),
    ("tools/b.py", "from sim import test_a", "test_a"),
    ("tests/test_b.py", "from tools import bench_a\nfrom sim.stream_bench import bench_params", None),
])
def test_a_planted_library_is_found(tmp_path, file, source, module):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(source)
    assert borrowed(tmp_path) == ([f"{file} must not import {module}: what they share is in neither"] if module else [])


def files():
    return sorted(path.stem for path in (ROOT / "hwgen" / "units").glob("*.py") if not path.stem.startswith("_"))


def units():
    return [file for file in files() if file not in PARTS]


def test_parts_are_of_units():
    assert [part for part, unit in PARTS.items() if part not in files() or unit not in units()] == []


def test_units_have_their_companions():
    missing = [place.format(unit) for unit in units() for place in COMPANIONS
               if (unit, place) not in EXEMPT and not (ROOT / place.format(unit)).exists()]
    assert not missing, "\n".join(missing)


def takers_of_designs(root):
    """Files of units, and of what they are made of, in which something is called with a design."""
    trees = {file.relative_to(root / "hwgen").as_posix(): ast.parse(file.read_text())
             for floor in ("lib", "units") for file in sorted((root / "hwgen" / floor).glob("*.py"))}
    return [file for file, tree in trees.items()
            if any(isinstance(node, ast.arg) and node.arg == "design" for node in ast.walk(tree))]


def test_units_take_sizes_and_no_design():
    assert [file for file in takers_of_designs(ROOT) if file not in EMITTING] == []


def test_exemptions_are_of_units():
    assert [unit for unit, _ in EXEMPT if unit not in units()] == []
