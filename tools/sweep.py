#!/usr/bin/env python3
"""Random decoders, as many as a given time allows: drawn, emitted, built, compared with the golden model (``make
sweep``; docs/sweep.md).

A case is a function of seed and number alone (sim/sweep.py): every parameter of the model, the shape, the formats and
the buses, a random history on it, stalls and wrong bits. Compared are tokens, signatures and refusals, and where
nothing is held back every cycle and counter. What differs is explained, with the command that runs it again.

Results are kept in ``build/sweep/``: a sweep that was stopped goes on where it was, and what has failed is tried again
first. Cases run in processes of their own, on all cores, or with --dask on the workers of a scheduler of Dask (of a
checkout of the same commit).
"""
import argparse
import concurrent.futures
import contextlib
import copy
import gc
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tools import ledger

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "sweep"
LIMIT = 900             # seconds that a case may take: one takes some ten on a core of its own
GRACE = 5               # between lines of progress, and for a case to end
UNITS = {"s": 1, "m": 60, "h": 3600}
COUNTED = "sweep_shapes", "sweep_refused", "sweep_failures"       # each case is one of them


def seconds(text):
    """``90``, ``90s``, ``30m``, ``8h`` -> seconds."""
    if not (found := re.fullmatch(r"([0-9]{1,7})([smh]?)", text)):
        raise argparse.ArgumentTypeError(f"Time must be seconds, or a number with s, m or h, not {text!r}")
    return int(found[1]) * UNITS[found[2] or "s"]


# -- a case

def case(seed, number):
    """A case, as JSON has it: {"case", "result": equal, refused, differs or failed, "said": lines, counts ...,
    "commit", "seconds"}."""
    from hwgen.host.driver import Mismatch
    from hwgen.host.links.link import LinkError
    from sim.sweep import Refused, draw, play
    start, found = time.monotonic(), {"case": number, "commit": ledger.commit()}
    drawn = draw(seed, number)
    again = [*drawn.lines(), f"again: python -m tools.sweep --seed {seed} --case {number}"]
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            found |= {"result": "equal", **play(drawn, folder)}
    except Refused as refused:
        said = str(refused)
        if "\n" in said or not 0 < len(said) <= 1000:
            found |= {"result": "failed", "said": ["A refusal must be one line:", said, *again]}
        else:
            found |= {"result": "refused", "said": [said]}
    except (Mismatch, LinkError) as error:
        found |= {"result": "differs", "said": [*str(error).splitlines(), *again]}
    except Exception as error:      # whatever it is, it is found
        found |= {"result": "failed",
                  "said": [f"{type(error).__name__}: {error}", *traceback.format_exc().splitlines()[-12:], *again]}
    return found | {"seconds": round(time.monotonic() - start, 1)}


def apart(seed, number):
    """`case` in a process of its own, which is ended with all that it has started when it takes too long, or this one
    is ended."""
    command = [sys.executable, "-m", "tools.sweep", "--seed", str(seed), "--case", str(number), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True,
                               env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    _running.add(process)
    try:
        out, said = process.communicate(timeout=LIMIT)
        return json.loads(out.splitlines()[-1])
    except (ValueError, IndexError, subprocess.TimeoutExpired) as error:
        _kill(process)
        process.communicate()
        endless = isinstance(error, subprocess.TimeoutExpired)
        why = f"no end within {LIMIT} s" if endless else f"ended with code {process.returncode}"
        last = [] if endless else said.splitlines()[-3:]
        return {"case": number, "commit": ledger.commit(), "result": "failed", "seconds": LIMIT,
                "said": [why, *last, f"again: python -m tools.sweep --seed {seed} --case {number}"]}
    finally:
        _running.discard(process)


_running = set()


def _kill(process):
    """It, and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# -- many

class Record:
    """What is known of the cases of a seed: a file of one JSON object a line, the latest of a case counts.
    ``build/sweep/seed-1.jsonl``."""

    def __init__(self, path):
        self.path, self.cases = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                with contextlib.suppress(ValueError):       # a line that was cut off: the case is run again
                    found = json.loads(line)
                    self.cases[found["case"]] = found

    def add(self, found):
        self.cases[found["case"]] = found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(json.dumps(found) + "\n")

    def wrong(self):
        """Numbers of the cases that differ or failed."""
        return sorted(number for number, found in self.cases.items() if found["result"] in ("differs", "failed"))

    def numbers(self, first=0):
        """Which to run: those that were wrong, then new ones from ``first`` without an end."""
        yield from self.wrong()
        for number in itertools.count(first):
            if number not in self.cases:
                yield number

    def whole(self, first):
        """The `Record` of all cases from ``first`` up to the first that is missing."""
        found = copy.copy(self)
        found.cases = {number: self.cases[number] for number in itertools.takewhile(self.cases.__contains__,
                                                                                  itertools.count(first))}
        return found

    def total(self):
        """Counts over all cases: each result, and what the equal ones did."""
        total = Counter(found["result"] for found in self.cases.values())
        for found in self.cases.values():
            if found["result"] == "equal":
                total.update({name: value for name, value in found.items() if name not in ("case", "seconds")
                              and isinstance(value, int)})
        return total

    def summary(self):
        total, took = self.total(), [found["seconds"] for found in self.cases.values() if found["result"] == "equal"]
        wrong = total["differs"] + total["failed"]
        return (f"{total['equal']:,} equal, {total['refused']:,} refused, {wrong:,} wrong; {total['passes']:,} passes"
                + (f", {sum(took) / len(took):.0f} s a case" if took else ""))

    def refusals(self):
        """Sentences of refusals, numbers aside, and how often each came."""
        return Counter(re.sub(r"\d+", "N", found["said"][0]) for found in self.cases.values()
                       if found["result"] == "refused").most_common()


def sweep(record, seed, pool, jobs, until, count=None, progress=print, first=0):
    """Run cases from ``first`` on an executor, ``jobs`` at a time, until a time (of `time.monotonic`) or ``count`` are
    begun. These are ended."""
    numbers, futures, begun = record.numbers(first), set(), 0
    last = time.monotonic()
    while True:
        while len(futures) < jobs and time.monotonic() < until and (count is None or begun < count):
            futures.add(pool.submit(apart, seed, next(numbers)))
            begun += 1
        if not futures:
            return
        done, futures = concurrent.futures.wait(futures, timeout=GRACE, return_when="FIRST_COMPLETED")
        for found in (future.result() for future in done):
            if found["commit"] != ledger.commit():
                raise SystemExit(f"error: Workers must run commit {ledger.commit()}, as this checkout does, not "
                                 f"{found['commit']}")
            record.add(found)
            if found["result"] in ("differs", "failed"):
                progress("\n".join([f"case {found['case']} {found['result']}", *(f"  {line}"
                                                                                 for line in found["said"])]))
        if done and time.monotonic() - last > GRACE:
            last = time.monotonic()
            progress(record.summary())


@contextlib.contextmanager
def local(jobs):
    """(executor, cases at a time) on this machine."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool, jobs
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in _running.copy():
                _kill(process)
            raise


@contextlib.contextmanager
def on_dask(address):
    """The same on the workers of a scheduler of Dask: as many cases at a time as they have threads."""
    try:
        from distributed import Client
    except ImportError:
        raise SystemExit("error: Dask must be there for --dask: pip install -e '.[cluster]'") from None
    with Client(address) as client:
        with client.get_executor(pure=False) as pool:
            yield pool, max(1, sum(client.nthreads().values()))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=seconds, default=600, metavar="T",
                        help="begin no case after so long: seconds, or 30m, 8h (default: 600)")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--case", type=int, metavar="N", help="run this one alone, and say all of it")
    parser.add_argument("--count", type=int, metavar="N", help="at most so many")
    parser.add_argument("--first", type=int, default=0, metavar="N",
                        help="begin with case N: where earlier ones ran elsewhere")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N",
                        help="cases at a time (default: %(default)s, the cores)")
    parser.add_argument("--dask", metavar="ADDRESS",
                        help="of a scheduler of Dask whose workers run the cases, tcp://HOST:8786 (needs the extra "
                             "\"cluster\")")
    parser.add_argument("--fresh", action="store_true", help="forget what was found with that seed")
    parser.add_argument("--record", action="store_true",
                        help="put the counts of that seed into docs/results/sweep.json; with --first, add them to "
                             "those of the cases before, which must stand there")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ.setdefault("HWGEN_CACHE", str(WORK / "cache"))
    if options.case is not None:
        return one(options)
    record = Record(WORK / f"seed-{options.seed}.jsonl")
    if options.fresh:
        record.path.unlink(missing_ok=True)
        record = Record(record.path)
    stopped = False
    signal.signal(signal.SIGINT, signal.default_int_handler)        # a shell's background job ignores it otherwise
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with on_dask(options.dask) if options.dask else local(options.jobs) as (pool, jobs):
            sweep(record, options.seed, pool, jobs, time.monotonic() + options.time, options.count,
                  lambda text: print(text, flush=True), options.first)
    except KeyboardInterrupt:
        stopped = True
    print(*(f"{count:6,} refused: {said}" for said, count in record.refusals()), sep="\n")
    print(f"{record.summary()}; seed {options.seed}, {record.path.relative_to(ROOT)}"
          + "; stopped: the next call goes on here" * stopped)
    if options.record:
        keep(record, options.seed, options.first)
    if wrong := record.wrong():
        print(f"wrong: {', '.join(map(str, wrong))}, each: python -m tools.sweep --seed {options.seed} --case N")
    return 130 if stopped else 1 if wrong else 0


def one(options):
    """A case alone: 0 if it is equal or refused."""
    if options.json:
        gc.disable()        # a third of the time of an emission; the process does not live long
    found = case(options.seed, options.case)
    if options.json:
        print(json.dumps(found))
        return 0
    print("\n".join([f"case {found['case']} {found['result']}", *found.get("said", ())]))
    print(", ".join(f"{name} {value:,}" for name, value in found.items() if isinstance(value, (int, float))
                    and name != "case"))
    return found["result"] not in ("equal", "refused")


def keep(record, seed, first=0):
    """Put the counts of a sweep's cases, without a gap from ``first``, into the ledger, or add them there to those of
    the cases before; what they depend on only if all cases ran on this commit's machines."""
    cases = record.whole(first)
    total, here = cases.total(), ledger.commit()
    of_here = {found["commit"] for found in cases.cases.values()} == {here}
    values = {"sweep_shapes": total["equal"], "sweep_failures": total["differs"] + total["failed"],
              "sweep_refused": total["refused"],
              "sweep_passes": total["passes"], "sweep_cycles": total["cycles"]}
    command = f"python -m tools.sweep --seed {seed}"
    if first:
        there = (ledger.RESULTS / "sweep.json").exists()
        before = {entry["name"]: entry for entry in ledger.load("sweep.json")} if there else {}
        there = sum(before[name]["value"] for name in COUNTED if name in before)
        by = before["sweep_shapes"]["command"] if before else ""
        if there != first or not by.startswith(command + " "):
            raise SystemExit(f"error: Recorded must be the first {first} cases of seed {seed} for --first {first}, not "
                             f"{there}" + f" of: {by}" * bool(by))
        values = {name: value + before[name]["value"] for name, value in values.items()}
        of_here = False
    entry = {"kind": "measured", "command": f"{command} --record", "unit": "", **({} if of_here else {"sources": ""})}
    ledger.record("sweep.json", [{"name": name, "value": value, **entry} for name, value in values.items()])


if __name__ == "__main__":
    sys.exit(main())
