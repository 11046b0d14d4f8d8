"""ruff finds nothing, no file may have long lines, and mypy leaves nothing out."""
import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]


def test_ruff_finds_nothing():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_may_have_long_lines():
    assert [file for file, rules in TOOL["ruff"]["lint"]["per-file-ignores"].items() if "E501" in rules] == []


def test_mypy_leaves_no_module_out():
    tool = TOOL["mypy"]
    assert not {"overrides", "exclude", "ignore_errors"} & set(tool)
    for package in tool["packages"]:
        files = sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
        assert files, f"{package} is not there"
        assert not [file for file in files if re.search(r"# *mypy:", file.read_text(encoding="utf-8"))]


#: Packages whose public functions have types; plan/compensate.py's are left as its results' digest has them.
TYPED = ("params", "golden", "models", "plan", "host", "emit")


def untyped(file):
    """Names of a file's public functions that lack a type, of a parameter or of the result."""
    def inside(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                yield from inside(child)
            elif isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
                given = [*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs]
                if child.returns is None or any(arg.annotation is None and arg.arg not in ("self", "cls")
                                                for arg in given):
                    yield child.name
    return list(inside(ast.parse(file.read_text(encoding="utf-8"))))


def test_public_functions_have_types():
    files = [file for package in TYPED for file in sorted((ROOT / "hwgen" / package).rglob("*.py"))
             if file != ROOT / "hwgen" / "plan" / "compensate.py"]
    found = [f"{file.relative_to(ROOT)}: {', '.join(names)}" for file in files if (names := untyped(file))]
    assert len(files) > 100 and not found, "\n".join(found)
