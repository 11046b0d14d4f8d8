"""The SoC of docs/soc.md runs, and prints what the page shows."""
import subprocess
import sys
from pathlib import Path

import pytest

from tools.soc import NEEDED

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.nightly
@pytest.mark.slow
def test_the_soc_prints_what_its_page_shows(tmp_path):
    for package in NEEDED:
        pytest.importorskip(package, reason="the extra soc is not installed")
    done = subprocess.run([sys.executable, "-m", "tools.soc", "--work", str(tmp_path / "soc")], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text, *_, same = done.stdout.splitlines()
    assert f"{text}\n{same}\n" in (ROOT / "docs" / "soc.md").read_text(encoding="utf-8")
