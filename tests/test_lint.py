"""ruff finds nothing, no file may have long lines, and mypy leaves nothing out."""
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
