"""Results that are older than their sources: ``make stale``, or ``python -m tools.stale``.

Each entry of docs/results/*.json has the commit at which its command ran. Its sources are the modules that the command
imports, over all steps, and the data beside them. A source has changed if its syntax tree has, without docstrings:
comments and line breaks change no result. An entry is listed if one of its sources has changed since, uncommitted
changes included; the newest come first, with the command that measures again. Nothing is run.
"""

import argparse
import ast
import functools
import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tools import ledger

__all__ = ["Result", "changed", "entry_modules", "imported", "results", "sources"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hwgen", "tools", "sim", "formal")
#: Data that a package's modules read.
DATA = {"hwgen/models": ("demo/*", "devil/*", "mini/*"), "hwgen/host/links": ("*.cpp", "*.h", "*.v"),
        "hwgen/plan": ("*.json",)}
#: A command's first words -> the module that it runs.
PROGRAMS = {"make synth-report": "tools.synth_report", "make take-in": "tools.take_in", "make soc": "tools.soc",
            "hwgen fpga build": "hwgen.commands.fpga", "hwgen run": "hwgen.commands.run"}
#: Modules that start benches by their names: all of sim/ is theirs.
OF_BENCHES = ("tools.mutate", "tools.coverage")
#: Changed sources that are named of a result; more are not looked for.
MOST = 3


class Result(NamedTuple):
    """Entries of a file of the ledger that one run made."""
    date: str
    file: str
    command: str
    commit: str
    count: int


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


@functools.cache
def _files(root):
    """{dotted name: file} of all modules."""
    found = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@functools.cache
def _imports(root, module):
    """The modules that one imports, and the packages that these are in."""
    file = _files(root)[module]
    names = imported(ast.parse(file.read_text(encoding="utf-8")), module, file.name == "__init__.py")
    return {".".join(parts[:n]) for name in names for parts in [name.split(".")]
            for n in range(1, len(parts) + 1)} & _files(root).keys()


def entry_modules(command, root=ROOT):
    """The modules that a command runs; none if that is not known."""
    everything = {name for name in _files(root) if name.startswith("sim.")}
    if match := re.match(r"python -m (tools\.\w+)", command):
        return {match[1]} & _files(root).keys() | (everything if match[1] in OF_BENCHES else set())
    if command.startswith("python -m pytest sim/"):
        return everything
    return {module for words, module in PROGRAMS.items() if command.startswith(words)} & _files(root).keys()


@functools.cache
def sources(command, root=ROOT):
    """The files, relative to the root, on which a command's result depends."""
    waiting, found = entry_modules(command, root), set()
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= _imports(root, module) - found
    files = {str(_files(root)[module].relative_to(root)) for module in found}
    for folder, patterns in DATA.items():
        if any(file.startswith(f"{folder}/") for file in files):
            files |= {str(path.relative_to(root)) for pattern in patterns for path in (root / folder).glob(pattern)
                      if path.is_file()}
    return sorted(files)


def results(root=ROOT):
    """The `Result`s of the ledger, newest first."""
    files = sorted((root / "docs" / "results").glob("*.json"))
    entries = sorted((entry["date"], path.name, entry["command"], entry["commit"]) for path in files
                     for entry in ledger.load(path))
    return [Result(*key, len(list(group))) for key, group in itertools.groupby(entries)][::-1]


def _git(root, *words):
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, errors="replace", check=False)


def _meaning(text):
    """A module's syntax tree as text, without docstrings; the text itself if it is none."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


def changed(result, root=ROOT):
    """The first `MOST` sources of a result that have changed since its commit, or None if that commit is not there."""
    commit = result.commit.rstrip("+")
    files = sources(result.command, root)
    done = _git(root, "diff", "--name-only", "--no-renames", commit, "--", *files)
    if done.returncode:
        return None
    return list(itertools.islice((file for file in done.stdout.splitlines() if _differs(root, commit, file)), MOST))


@functools.cache
def _differs(root, commit, file):
    before, path = _git(root, "show", f"{commit}:{file}"), root / file
    if before.returncode or not path.exists() or not file.endswith(".py"):
        return True
    return _meaning(before.stdout) != _meaning(path.read_text(encoding="utf-8", errors="replace"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="*", help="of docs/results, such as accuracy.json (default: all)")
    options = parser.parse_args()
    try:
        there = _git(ROOT, "rev-parse", "--git-dir").returncode == 0
    except OSError:
        there = False
    if not there:
        print("error: Checkout must be git's, with its history: what has changed since a result is not known otherwise",
              file=sys.stderr)
        return 2
    stale, chosen = 0, [result for result in results() if not options.file or result.file in options.file]
    for result in chosen:
        found = changed(result)
        if found == []:
            continue
        stale += 1
        why = f"commit {result.commit.rstrip('+')} is not in this checkout" if found is None else (
            f"since {result.commit}: {', '.join(found)}{' ...' if len(found) == MOST else ''}")
        print(f"{result.date} {result.file}, {result.count} result{'s' * (result.count > 1)}: {result.command}\n"
              f"    {why}")
    print(f"{stale} of {len(chosen)} runs are older than their sources")
    return 0


if __name__ == "__main__":
    sys.exit(main())
