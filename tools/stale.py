"""Results that are older than what they depend on: ``make stale``, or ``python -m tools.stale``.

Each entry of docs/results/*.json has digests of what its number depends on: emitted Verilog, predictions of the golden
model, data (`tools.digests`). A run is listed if one of them is not today's, or if its entries say none: they are from
before the digests. The newest come first, with the command that measures again and the processor time that it took,
where that is known. Nothing is run: today's digests are those of tools/digests.json, which a test keeps true.
"""
import argparse
import itertools
import sys
from pathlib import Path
from typing import NamedTuple

from tools import ledger

__all__ = ["Result", "results"]

ROOT = Path(__file__).resolve().parent.parent


class Result(NamedTuple):
    """Entries of a file of the ledger that one run made.

    count, old          entries, and those of them that are stale
    changed             sources of these that have changed; empty if they do not say their sources
    cpu_seconds         of the run; 0 if not known
    """
    date: str
    file: str
    command: str
    commit: str
    count: int
    old: int
    changed: tuple
    cpu_seconds: int


def results(root=ROOT):
    """The `Result`s of the ledger, newest first."""
    entries = sorted(((entry["date"], path.name, entry["command"], entry["commit"]), index, entry)
                     for path in sorted((root / "docs" / "results").glob("*.json"))
                     for index, entry in enumerate(ledger.load(path)))
    found = []
    for key, group in itertools.groupby(entries, key=lambda row: row[0]):
        of = [entry for *_, entry in group]
        outdated = [ledger.outdated(entry) for entry in of]
        found.append(Result(*key, len(of), sum(names != [] for names in outdated),
                            tuple(sorted({name for names in outdated for name in names or ()})),
                            max(entry.get("cpu_seconds", 0) for entry in of)))
    return found[::-1]


def _time(seconds):
    return f" ({seconds:,} s of CPU)" if seconds else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="*", help="of docs/results, such as accuracy.json (default: all)")
    options = parser.parse_args()
    chosen = [result for result in results() if not options.file or result.file in options.file]
    stale = [result for result in chosen if result.old]
    for result in stale:
        print(f"{result.date} {result.file}, {result.old} of {result.count}: "
              f"{result.command}{_time(result.cpu_seconds)}")
        print(f"    {', '.join(result.changed) + ' changed' if result.changed else 'sources unknown'} "
              f"since {result.commit}")
    print(f"{len(stale)} of {len(chosen)} runs are older than what they depend on: "
          f"{len({result.command for result in stale})} commands")
    return 0


if __name__ == "__main__":
    sys.exit(main())
