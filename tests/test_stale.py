"""`make stale`: which results are older than their sources."""
import shutil
import subprocess

import pytest

from tools import ledger, stale

ENTRY = {"name": "x", "value": 1, "unit": "", "kind": "measured", "command": "python -m tools.bench_x",
         "machine": "a CPU",
         "date": "2025-01-31"}


def test_the_sources_of_every_command_are_known():
    assert sorted({result.command for result in stale.results() if not stale.entry_modules(result.command)}) == []


def test_sources_are_what_is_imported_and_its_data():
    assert {"tools/bench_accuracy.py", "hwgen/golden/decoder.py", "hwgen/models/demo/config.json"} <= set(
        stale.sources("python -m tools.bench_accuracy"))
    found = stale.sources("python -m tools.bench_column")
    assert "hwgen/lib/fp8_dot.py" in found and not [file for file in found
                                                    if file.startswith(("hwgen/host/", "sim/", "tests/"))]


def git(folder, *words):
    return subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words],
                          cwd=folder, check=True,
                          capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one result, of a bench that imports one module."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    for file, text in (("tools/bench_x.py", "from hwgen import a\n"), ("hwgen/__init__.py", ""),
                       ("hwgen/a.py", '"""Says."""\nX = 1\n'),
                       ("hwgen/b.py", "X = 1\n")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    ledger.record(tmp_path / "docs" / "results" / "x.json",
                  [{**ENTRY, "commit": git(tmp_path, "rev-parse", "--short=10", "HEAD")}])
    return tmp_path


@pytest.mark.parametrize("file, text, said", [
    ("hwgen/a.py", '"""Says more."""\nX = 1     # one\n', []), ("hwgen/a.py", "X = 2\n", ["hwgen/a.py"]),
    ("hwgen/b.py", "X = 2\n", []),
    ("tools/bench_x.py", "from hwgen import a, b\n", ["tools/bench_x.py"])])
def test_a_source_that_has_changed_is_said(checkout, file, text, said):
    (checkout / file).write_text(text)
    result, = stale.results(checkout)
    assert stale.changed(result, checkout) == said


def test_a_commit_that_is_not_there_is_no_answer(checkout):
    result, = stale.results(checkout)
    assert stale.changed(result._replace(commit="0123456789+"), checkout) is None
