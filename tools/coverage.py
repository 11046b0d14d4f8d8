#!/usr/bin/env python3
"""Which branches of the RTL and which functional points the benches reach (``make coverage``; docs/coverage.md).

The benches of ``sim/`` run with ``--coverage``: built by Verilator with its counters, and watched at the ports
(``sim/branches.py``, ``sim/points.py``). What all of them reached is added up, by unit and line of Python; the report
is ``build/coverage/index.html``, and a summary is printed. Fails if a unit reaches less than its mark in
``tools/coverage.json``, if its benches did not run, or if an explanation explains nothing.
"""
import argparse
import functools
import html
import json
import os
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from hwgen.lib.verilog import PARTS
from sim import branches, points
from tools import ledger

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "coverage"
#: {"marks": {unit: {"branches": %, "points": %}}, "unreachable": [{"unit", "what", "why"}]}, ``what`` a pattern of a
#: branch's or point's whole line
MARKS = ROOT / "tools" / "coverage.json"
#: Tests of sim/ that have no bench of RTL, or the same machines again.
OTHERS = ("runner", "design", "hwgen", "selftest", "serving", "soak", "board")
KINDS = ("branches", "points")
#: Benches of several units at once: what they share with others counts for the units alone.
COMPOSED = ("axi", "decoder", "kv_writer")
#: Modules that only simulate: their branches are nobody's.
MODELS = ("sd_card",)
#: File -> the unit that it is a part of: in hwgen/units, and in hwgen/top.
OWNERS = PARTS | {"paths": "decoder"}
#: Written by Yosys' generator of Verilog to start a simulation, and never true.
_START = re.compile(r"if \(\\\$(start|auto\$\S*) ?\)")


#: What `m.next` assigns, which Amaranth says it wrote itself.
_NEXT = re.compile(r"amaranth/hdl/_dsl\.py:")
_CONDITION = re.compile(r"if \((.*)\) begin")


class Branch(NamedTuple):
    """Of a line of Python that is a statement of the RTL: a branch in which it is, or is not."""
    unit: str
    place: str          # file:line, or the module and line of Verilog where no Python is known
    kind: str           # of branches.KINDS

    def __str__(self):
        return f"{self.place}: {self.kind}: {_source(self.place)}".rstrip(": ")


@functools.cache
def _lines(file):
    path = ROOT / file
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _source(place):
    file, _, line = place.rpartition(":")
    text = _lines(file) if line.isdigit() else []
    return text[int(line) - 1].strip() if text else ""


def _unit(place, unit):
    """A branch is of the unit whose file it is in, or a part of; what is in hwgen/lib or Amaranth is of the unit whose
    bench it is."""
    found = re.match(r"hwgen/(units|top|golden)/(\w+)\.py:", place)
    return OWNERS.get(found[2], found[2]) if found else unit


class _Text:
    """Verilog with marks: the module of each of its lines, and the places that its branches are from."""

    def __init__(self, lines):
        self.lines, self.modules, module = lines, [], ""
        for text in lines:
            module = said[1] if (said := re.match(r"module \\?(\S+?)[ (;]", text)) else module
            self.modules.append(module)
        self._design = os.path.commonprefix(sorted(set(self.modules) - {""}))
        # the conditions of branches that hold statements of a known line, by module: the same condition may be asked
        # elsewhere
        self._asked = {}
        for i in range(1, len(lines)):
            mark, condition = branches.MARK.match(lines[i - 1]), _CONDITION.search(lines[i])
            if mark and condition and not self._empty(i) and not _NEXT.match(mark[1]):
                self._asked.setdefault((self.modules[i], condition[1]), mark[1])

    def _empty(self, i):
        return re.match(r"\s*(end\b|/\* empty)", next((text for text in self.lines[i + 1:]
                                                       if not branches.MARK.match(text)),
                                                      "end")) is not None

    def place(self, i):
        """Where a branch is from: file:line, or the Verilog itself; None if it is none that counts. One that holds
        nothing does not: where its condition decides on something, it is counted."""
        text = self.lines[i]
        if self.modules[i] in MODELS:
            return None
        if _START.search(text) or (_CONDITION.search(text) or text.endswith(":")) and self._empty(i):
            return None
        mark = branches.MARK.match(self.lines[i - 1]) or branches.MARK.match(text)
        if mark and not _NEXT.match(mark[1]):
            return mark[1]
        if (condition := _CONDITION.search(text)) and (place := self._asked.get((self.modules[i], condition[1]))):
            return place
        where = self.modules[i].removeprefix(self._design).lstrip("._").split(".")[-1] or "the top"
        return "Verilog of " + re.sub(r"\d+", "#", f"{where}: {'the next state' if mark else text.strip()}")


def add_up(folder=FOLDER):
    """({unit: {Branch: whether it is reached}}, {unit: {point: times}}) of what is kept in a folder."""
    records = [json.loads(file.read_text()) for file in sorted(folder.glob("branches-*.json"))]
    records += [{"unit": "decoder", "branches": {name: [[line, kind, times] for (line, kind), times in places.items()]
                                                 for name, places in branches.counts(file).items()}}
                                                 for file in sorted((folder / "raw").glob("*.dat"))]
    # (unit, Verilog): {(line, kind, which of its branches): times}, of all runs of a build
    runs = defaultdict(Counter)
    for record in records:
        for name, places in record["branches"].items():
            for line, kind, times in places:
                runs[record["unit"], name].update({(line, kind, i): each for i, each in enumerate(times)})
    reached = defaultdict(dict)
    for (unit, name), counts in runs.items():
        text, found = _Text((folder / "verilog" / name).read_text().splitlines()), defaultdict(list)
        for (line, kind, _), times in counts.items():
            place = text.place(line - 1)
            if place and not place.startswith("sim/"):
                found[place, kind, text.modules[line - 1]].append(times)
        for (place, kind, _), times in found.items():
            branch = Branch(_unit(place, unit), place, kind)
            if branch.unit in COMPOSED and not place.startswith("hwgen/top/"):
                continue
            reached[branch.unit][branch] = reached[branch.unit].get(branch, False) or all(times)
    return reached, points.reached(folder)


class Unit(NamedTuple):
    """Of a unit and a kind: how many there are, those that are not reached with their reasons ("" if there is none),
    and the mark."""
    name: str
    kind: str
    total: int
    missed: dict
    mark: float

    @property
    def reachable(self):
        return self.total - sum(1 for why in self.missed.values() if why)

    @property
    def reached(self):
        return self.total - len(self.missed)

    @property
    def percent(self):
        return 100 * self.reached / self.reachable if self.reachable else 100.0


def judge(reached, of_points, about):
    """([Unit], complaints) of what was reached, by what tools/coverage.json says of it."""
    units, complaints, used = [], [], set()
    for unit in sorted({*reached, *of_points, *about["marks"]}):
        for kind, found in zip(KINDS, ({str(branch): hit for branch, hit in reached.get(unit, {}).items()},
                                       of_points.get(unit, {}))):
            reasons = [(i, each) for i, each in enumerate(about["unreachable"]) if re.fullmatch(each["unit"], unit)]
            missed = {}
            for what, hit in found.items():
                why = [(i, each["why"]) for i, each in reasons if re.fullmatch(each["what"], what)]
                if not hit:
                    used |= {i for i, _ in why}
                    missed[what] = why[0][1] if why else ""
                elif why:
                    complaints.append(f"{unit}: {what} is reached, but tools/coverage.json says that it cannot be: "
                                      f"{why[0][1]}")
            mark = about["marks"].get(unit, {}).get(kind)
            if mark is None and found:
                complaints.append(f"{unit} must have a mark for its {kind} in tools/coverage.json")
            units.append(Unit(unit, kind, len(found), missed, 0 if mark is None else mark))
            if mark is not None and not found:
                complaints.append(f"{unit}: no {kind} were counted: its benches did not run")
            elif units[-1].percent < units[-1].mark:
                complaints.append(f"{unit}: {units[-1].percent:.2f} % of the {kind} that can be reached are, "
                                  f"less than the mark of {mark} %")
    for i, each in enumerate(about["unreachable"]):
        of = [unit for unit in units if re.fullmatch(each["unit"], unit.name)]
        if i not in used and all(unit.total for unit in of):
            complaints.append(f"{each['unit']}: nothing that is missed is {each['what']!r}, "
                              "which tools/coverage.json explains")
    return units, complaints


# The report

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Coverage of the RTL</title>
<style>body{{font:14px/1.4 sans-serif;margin:2em auto;max-width:75em;padding:0 1em}}
table{{border-collapse:collapse}}td,th{{border:1px solid #ccc;padding:2px 8px;text-align:right}}
td:first-child,th:first-child{{text-align:left}}.bad{{background:#fdd}}
code,pre{{font:12px/1.35 monospace}}pre b{{background:#fdd;font-weight:400}}
pre i{{background:#dfd;font-style:normal}}li{{font-family:monospace;font-size:12px}}li span{{color:#666}}</style>
<h1>Coverage of the RTL by the benches</h1><p>{summary}</p>{complaints}<table>
<tr><th>unit<th>branches<th>reached<th>cannot be<th>%<th>mark<th>points<th>reached<th>cannot be<th>%<th>mark</tr>
{rows}</table>{units}{files}</html>"""


def page(units, complaints, reached):
    """The report as one HTML page."""
    said = html.escape
    rows, details = [], []
    for name in sorted({unit.name for unit in units}):
        pair = [unit for unit in units if unit.name == name]
        cells = "".join(f"<td>{u.total}<td>{u.reached}<td>{u.total - u.reachable}"
                        f"<td{' class=bad' if u.percent < u.mark else ''}>{u.percent:.2f}<td>{u.mark:g}"
                        for u in pair)
        rows.append(f"<tr><td><a href='#{name}'>{name}</a>{cells}</tr>")
        missed = "".join(f"<li>{said(what)}<span> {said('cannot be reached: ' + why) if why else ''}</span>"
                         for u in pair
                         for what, why in sorted(u.missed.items(), key=lambda m: m[1]))
        details.append(f"<h2 id='{name}'>{name}</h2><p>Not reached: "
                       f"{'nothing' if not missed else ''}</p><ul>{missed}</ul>")
    files = defaultdict(dict)           # file: {line: whether all of its branches are reached}
    for found in reached.values():
        for branch, hit in found.items():
            file, _, line = branch.place.rpartition(":")
            if line.isdigit() and _lines(file):
                files[file][int(line)] = files[file].get(int(line), True) and hit
    texts = [f"<h2>{said(file)}</h2><pre>" + "\n".join(
        f"{i:4} " + {None: "{}", True: "<i>{}</i>", False: "<b>{}</b>"}[marks.get(i)].format(said(text))
        for i, text in enumerate(_lines(file), 1)) + "</pre>"
        for file, marks in sorted(files.items())]
    complained = "<ul>" + "".join(f"<li class=bad>{said(each)}" for each in complaints) + "</ul>" if complaints else ""
    return _PAGE.format(summary="; ".join(summary(units)), complaints=complained, rows="".join(rows),
                        units="".join(details),
                        files="".join(texts))


def summary(units):
    """A line of each kind."""
    for kind in KINDS:
        of = [unit for unit in units if unit.kind == kind]
        total, reached, reachable = (sum(getattr(unit, name) for unit in of)
                                     for name in ("total", "reached", "reachable"))
        yield (f"{kind}: {reached} of {total} reached, {total - reachable} cannot be, "
               f"{100 * reached / max(1, reachable):.2f} % of the others")


def record(units, command):
    """Write the numbers to the ledger."""
    ledger.record("coverage.json", [
        {"name": f"{unit.name}/{name}", "value": value, "unit": "", "kind": "measured", "command": command}
        for unit in units if unit.total for name, value in ((unit.kind, unit.total),
                                                            (f"{unit.kind} reached", unit.reached),
                                                            (f"{unit.kind} not reachable",
                                                             unit.total - unit.reachable))])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(file.stem.removeprefix("test_") for file in (ROOT / "sim").glob("test_*.py"))
    parser.add_argument("--tests", action="append", choices=[name for name in names if name not in OTHERS], metavar="X",
                        help="only sim/test_X.py (again for more); "
                        "what the others reached before counts")
    parser.add_argument("--jobs", default="2", help="processes (%(default)s)")
    parser.add_argument("--report", action="store_true", help="run nothing: report what was reached before")
    parser.add_argument("--record", action="store_true", help="write docs/results/coverage.json")
    options = parser.parse_args()
    if not options.report:
        chosen = options.tests or [name for name in names if name not in OTHERS]
        if not options.tests:
            for file in (*FOLDER.glob("*.json"), *FOLDER.glob("raw/*.dat")):
                file.unlink()
        if pytest.main(["-q", "-n", options.jobs, "--dist", "worksteal", "-m", "not nightly", "--coverage",
                        str(FOLDER), *(f"{ROOT}/sim/test_{name}.py" for name in chosen)]):
            print("the benches must pass before what they reach is worth a report")
            return 1
    reached, of_points = add_up()
    units, complaints = judge(reached, of_points, json.loads(MARKS.read_text(encoding="utf-8")))
    (FOLDER / "index.html").write_text(page(units, complaints, reached), encoding="utf-8")
    for unit in units:
        if unit.total:
            print(f"{unit.name:16} {unit.kind:9} {unit.percent:6.2f} % (mark {unit.mark:g}): {unit.reached} of "
                  f"{unit.total}, "
                  f"{unit.total - unit.reachable} cannot be")
            for what, why in sorted(unit.missed.items()):
                if not why:
                    print(f"    not reached: {what}")
    if options.record:
        record(units, "python -m tools.coverage" + " --report" * options.report)
    print("\n".join([*summary(units), *complaints, f"report: {FOLDER / 'index.html'}"]))
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
