"""ruff finds nothing, the list of what it leaves out only gets shorter, and mypy leaves nothing out."""
import re
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
LONG = sorted(file for file, rules in TOOL["ruff"]["lint"]["per-file-ignores"].items() if "E501" in rules)


def test_ruff_finds_nothing():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _columns(line):
    """What ruff counts: letters of the East are two columns wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "FW" else 1 for letter in line)


@pytest.mark.parametrize("file", LONG)
def test_a_file_that_may_have_long_lines_has_one(file):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    assert max(map(_columns, lines)) > TOOL["ruff"]["line-length"], "take it off the list in pyproject.toml"


def test_mypy_leaves_no_module_out():
    tool = TOOL["mypy"]
    assert not {"overrides", "exclude", "ignore_errors"} & set(tool)
    for package in tool["packages"]:
        files = sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
        assert files, f"{package} is not there"
        assert not [file for file in files if re.search(r"# *mypy:", file.read_text(encoding="utf-8"))]
