"""The ledger: every number that the documents state, with how it was come by.

``docs/results/*.json`` are lists of entries, one object each::

    {"name": "demo/tokens per second", "value": 16.3, "unit": "tok/s", "kind": "measured",
     "command": "make demo", "commit": "5b58417", "machine": "AMD EPYC 7763, 2 cores", "date": "2025-01-31",
     "sources": "rtl:specimen=bfd7e652", "cpu_seconds": 93}

``kind`` is *measured* (a tool or a run gave it), *derived* (computed from measured numbers or from shapes) or
*projected* (for a machine that nobody has built). ``sources`` has the digests of what the number depends on
(`tools.digests`); `outdated` compares them with today's. ``cpu_seconds`` is the processor time that the command had
taken when it recorded. Old entries lack both. ``tools.tables`` puts the entries into the documents.
"""

import datetime
import functools
import json
import math
import os
from pathlib import Path
import re
import subprocess
import tempfile

from tools import digests

__all__ = ["KINDS", "LedgerError", "RESULTS", "load", "machine", "outdated", "record", "validate"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
KINDS = ("measured", "derived", "projected")
FIELDS = ("name", "value", "unit", "kind", "command", "commit", "machine", "date")
OPTIONAL = {"sources": str, "cpu_seconds": int}


class LedgerError(ValueError):
    """An entry that the ledger does not take."""


def validate(entry):
    """Raise :class:`LedgerError` unless the entry is complete and well formed."""
    if not isinstance(entry, dict) or set(entry) - set(OPTIONAL) != set(FIELDS):
        raise LedgerError(f"Entry must have the fields {', '.join(FIELDS)}, not {entry!r}")
    name, value = entry["name"], entry["value"]
    for field in OPTIONAL.keys() & entry.keys():
        if type(entry[field]) is not OPTIONAL[field]:
            raise LedgerError(f"Field {field} of {name!r} must be {OPTIONAL[field].__name__}, not {entry[field]!r}")
    for field in FIELDS:
        if field != "value" and not isinstance(entry[field], str):
            raise LedgerError(f"Field {field} of {name!r} must be a str, not {entry[field]!r}")
        if field not in ("value", "unit") and not entry[field].strip():
            raise LedgerError(f"Field {field} of {name!r} must not be empty")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise LedgerError(f"Value of {name!r} must be a finite number, not {value!r}")
    if entry["kind"] not in KINDS:
        raise LedgerError(f"Kind of {name!r} must be one of {', '.join(KINDS)}, not {entry['kind']!r}")
    if re.search(r"(^|[\s='\"])[/~]", entry["command"]):
        raise LedgerError(f"Command of {name!r} must work in any checkout, not {entry['command']!r}")
    if any(char in text for text in (name, entry["unit"], entry["command"]) for char in "|\n"):
        raise LedgerError(f"Name, unit and command of {name!r} must fit into a table's cell")
    try:
        datetime.date.fromisoformat(entry["date"])
    except ValueError:
        raise LedgerError(f"Date of {name!r} must be YYYY-MM-DD, not {entry['date']!r}") from None


def machine():
    """CPU model and count of cores: what a speed depends on, and nothing that tells where."""
    model = "unknown CPU"
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = re.sub(r"\s+", " ", found[1]).strip() if found else model
    except OSError:
        pass
    cores = os.cpu_count() or 1
    return f"{model}, {cores} core{'s' if cores != 1 else ''}"


@functools.cache
def commit():
    """The commit that is checked out; with a ``+`` if tracked files of the generator differ from it."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    done = git("rev-parse", "--short=10", "HEAD")
    if done.returncode:
        return "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "hwgen", "sim", "fpga", "tools").stdout
    return done.stdout.strip() + ("+" if changed.strip() else "")


def load(file):
    """The entries of a ledger file (a path, or a name in docs/results), validated."""
    path = RESULTS / file  # an absolute path stays itself
    entries = json.loads(path.read_text())
    if not isinstance(entries, list):
        raise LedgerError(f"{path.name} must hold a list of entries")
    for entry in entries:
        validate(entry)
    names = [entry["name"] for entry in entries]
    if names != sorted(set(names)):
        raise LedgerError(f"{path.name} must be sorted by name, each name once")
    return entries


def outdated(entry):
    """Names of the sources of an entry that are not what they were; None if the entry does not say what they were."""
    sources = [word.partition("=") for word in entry.get("sources", "").split()]
    return [name for name, _, digest in sources if digests.committed().get(name) != digest] if sources else None


def record(file, entries):
    """Merge entries into a ledger file by name (a new one replaces the old), written whole or not at all.

    ``commit``, ``machine``, ``date``, ``sources`` and ``cpu_seconds`` are filled in where an entry leaves them out.
    """
    path = RESULTS / file
    here = {"commit": commit(), "machine": machine(), "date": datetime.date.today().isoformat(),
            "cpu_seconds": round(sum(os.times()[:4]))}
    merged = {entry["name"]: entry for entry in (load(path) if path.exists() else [])}
    for entry in entries:
        entry = {**here, **entry}
        validate(entry)
        entry.setdefault("sources", digests.spelled(digests.depends(path.name, entry["name"], entry["command"])))
        merged[entry["name"]] = {field: entry[field] for field in (*FIELDS, *OPTIONAL) if entry[field] != ""
                                 or field in FIELDS}
    text = json.dumps([merged[name] for name in sorted(merged)], indent=1, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".partial", delete=False) as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
