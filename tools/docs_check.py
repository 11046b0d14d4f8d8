"""Run what pages show: each command behind ``$`` in a fenced block, and compare (``make docs-check``).

Every line that the page shows must come, in that order, on stdout or stderr; a program may say more between them, such
as its progress. Commands with a word in capitals, such as MODEL, are for the reader to complete, and are not run.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

__all__ = ["Session", "difference", "sessions"]

ROOT = Path(__file__).resolve().parent.parent
_FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Session(NamedTuple):
    """A command of a page and what it prints."""
    page: str
    command: str
    shown: list


def sessions(root=ROOT):
    """The `Session`s of README.md, docs/ and fpga/, but those that are for the reader to complete."""
    found = []
    for page in (root / "README.md", *sorted((root / "docs").rglob("*.md")), *sorted((root / "fpga").rglob("*.md"))):
        for block in _FENCED.findall(page.read_text(encoding="utf-8")):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                command = command.partition("   #")[0].strip()
                lines = [line.rstrip() for line in shown.splitlines() if line.strip()]
                if lines and not re.search(r"\b[A-Z]{3,}\b", command):
                    found.append(Session(str(page.relative_to(root)), command, lines))
    return found


def difference(shown, printed):
    """The first line of a page that a program did not print, in this order; None if it printed all."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    return next((line for line in shown if line not in lines), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS", help="commands that have these words")
    options = parser.parse_args()
    wrong, chosen = 0, [session for session in sessions() if options.only in session.command]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                   "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for page, command, shown in chosen:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(command, shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT,
                                  text=True, errors="replace", check=False)
        missing = difference(shown, done.stdout)
        wrong += missing is not None
        print(f"{page}: {command}: {'as shown' if missing is None else f'does not print {missing!r}, but:'}",
              flush=True)
        if missing is not None:
            print("".join(f"    {line}\n" for line in done.stdout.splitlines()), end="")
    print(f"{len(chosen) - wrong} of {len(chosen)} commands print what their pages show")
    return 1 if wrong or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
