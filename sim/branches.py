"""Which branches of the RTL the benches take (``make coverage``, docs/coverage.md): Verilator's counters, and the lines
of Python behind them.

The Verilog says of each branch which statement of Python is the first in it, in a comment before it. It is what Yosys
writes, before it is made readable (`hwgen.lib.verilog_text`): the same registers and branches, but each where
Amaranth's statements are. All that Verilator builds then counts its branches, benches by ``sim.runner`` and the C++
models of whole machines alike. What is counted of a run is kept as a file, beside the Verilog, until ``tools.coverage``
adds all of them up.
"""
import contextlib
import difflib
import hashlib
import json
import os
import re
import tempfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from amaranth.back import rtlil

import hwgen.host.links.verilated
import hwgen.lib.verilog
from hwgen.lib import verilator

__all__ = ["counted", "counts", "keep", "made_by"]

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r'\s*/\* made_by = "(\S+)" \*/$')
#: What Verilator calls the branches that count here. Blocks are always run.
KINDS = ("if", "else", "case", "cond_then", "cond_else")
_HEADER = re.compile(r"\s*(if \(|(end )?else\b|default:|\d+'\S+(, \d+'\S+)*:)")
#: Amaranth's own, as conversions are nested.
_ORIGINAL = (rtlil.ModuleEmitter.emit_assignment_list, rtlil.ModuleEmitter.emit_operator, rtlil.Process.assign,
             rtlil.Case.assign)
_STATEMENT = re.compile(r"\s+(\S.*?) = (.*);$")

#: Our own C++ program, which then writes its counts to a file of its own. (cocotb's does anyway.)
_MAIN = """\
#define main model_main
#include "MODEL"
#undef main
#include "verilated_cov.h"
int main(int argc, char **argv) {
    int code = model_main(argc, argv);
    if (const char *folder = std::getenv("HWGEN_BRANCHES"))
        context.coveragep()->write((std::string(folder) + "/" + std::to_string(getpid()) + ".dat").c_str());
    return code;
}
"""


# Verilog with marks

def _plain(text):
    """A name or expression, however RTLIL or Verilog write it, without the bits that are taken of it."""
    text = re.sub(r"\[\d+(:\d+)?\]", "", text)
    text = re.sub(r"\b\d+'(s?[hbd]?)([0-9a-fA-Fxz?_-]+)", lambda found: str(_number(*found.groups())), text)
    return re.sub(r"[\\\s{},]", "", text)


def _first(left):
    """The first name of what is assigned."""
    found = re.search(r"[^\s\\\[\]{},]+", left)
    return found[0] if found else ""


def _number(base, digits):
    try:
        return int(digits.replace("_", ""), {"h": 16, "d": 10}.get(base[-1:], 2))
    except ValueError:
        return digits


def _place(src_loc):
    """file:line, below the repository or the packages' folder."""
    file, line = src_loc
    return f"{re.sub(r'^.*/site-packages/', '', file.replace(f'{ROOT}/', ''))}:{line}"


class _Notes:
    """Where the statements of the processes of one conversion are from, by module and what is assigned first; and the
    multiplexers, by their output."""

    def __init__(self):
        self.processes, self.choices = defaultdict(list), {}
        self._left = self._said = None

    @contextlib.contextmanager
    def taken(self):
        notes, (listed, operator, process, case) = self, _ORIGINAL

        def emit_assignment_list(self, index, cell):
            notes._left, notes._said = [(None, None), *((each, each.src_loc) for each in cell.assignments)], []
            listed(self, index, cell)
            if notes._said:
                notes.processes[self.builder.name].append(notes._said)

        def noted(assign):
            def assigned(self, left, right):
                _, place = notes._left.pop(0)
                notes._said.append((f"{_plain(left)}={_plain(right)}", place and _place(place), _first(left)))
                assign(self, left, right)
            return assigned

        def emit_operator(self, index, cell):
            operator(self, index, cell)
            made = next(reversed(self.builder.contents.values()))
            if getattr(made, "kind", "") == "$mux" and cell.src_loc:
                notes.choices[self.builder.name, _plain(made.ports["Y"])] = _place(cell.src_loc)

        with mock.patch.multiple(rtlil.ModuleEmitter, emit_assignment_list=emit_assignment_list,
                                 emit_operator=emit_operator), \
                mock.patch.object(rtlil.Process, "assign",
                                  noted(process)), mock.patch.object(rtlil.Case, "assign", noted(case)):
            yield

    def marked(self, text):
        """The Verilog of the conversion, with marks."""
        out, module, block = [], None, None
        for line in text.split("\n"):
            if found := re.match(r"module (\\\S+|\w+)", line):
                module = found[1].lstrip("\\")
                waiting = defaultdict(list)
                for said in self.processes.get(module, []):
                    waiting[said[0][2]].append(said)
            if block is None and line == "  always @* begin":
                block = []
            elif block is None and (found := re.match(r"  assign (\S+ ?(?:\[\S+\] )?) *= .* \? ", line)):
                if place := self.choices.get((module, _plain(found[1]))):
                    out.append(f'  /* made_by = "{place}" */')
            if block is None:
                out.append(line)
                continue
            block.append(line)
            if line == "  end":
                out += self._block(block, waiting)
                block = None
        return "\n".join(out)

    def _block(self, lines, waiting):
        """An ``always`` with marks before the branches whose statements are known."""
        statements = [(i, f"{_plain(found[1])}={_plain(found[2])}") for i, line in enumerate(lines)
                      if (found := _STATEMENT.match(line))]
        candidates = waiting[_first(lines[statements[0][0]])] if statements else []
        matchers = [(difflib.SequenceMatcher(None, [text for _, text in statements], [text for text, *_ in said],
                                             autojunk=False), said)
                    for said in candidates]
        if not matchers:
            return lines
        matcher, said = max(matchers, key=lambda each: each[0].ratio()) if len(matchers) > 1 else matchers[0]
        candidates.remove(said)
        places = {}
        for _, i, j, k, l in matcher.get_opcodes():
            if j - i == l - k:
                places.update({statements[i + n][0]: said[k + n][1] for n in range(j - i)})
        # the first of a branch; of one that holds nothing, the next in the block or the last before it
        known = sorted(at for at, place in places.items() if place)
        out = []
        for i, line in enumerate(lines):
            if _HEADER.match(line) and known and "$auto$" not in line:
                at = next((at for at in known if at > i), known[-1])
                out.append(f'{" " * (len(line) - len(line.lstrip()))}/* made_by = "{places[at]}" */')
            out.append(line)
        return out


@contextlib.contextmanager
def untidied():
    """Emitted Verilog is as Yosys writes it: with a block for each register, in which the branches are."""
    with mock.patch.object(hwgen.lib.verilog, "tidy", lambda module, ports, fields: module):
        yield


@contextlib.contextmanager
def made_by():
    """Emitted Verilog, untidied, says of each branch which line of Python made it, in a comment on the line before."""
    to_rtlil, to_text, notes = hwgen.lib.verilog.to_rtlil, hwgen.lib.verilog.verilog._convert_rtlil_text, _Notes()

    def noted(*args, **options):
        of_one = _Notes()       # conversions of parts are within that of what has them
        with of_one.taken():
            made = to_rtlil(*args, **options)
        notes.processes.update(of_one.processes)
        notes.choices.update(of_one.choices)
        return made

    def marked(*args, **options):       # of a whole design, in which each module has a name of its own
        text = notes.marked(to_text(*args, **options))
        notes.processes.clear()
        notes.choices.clear()
        return text

    with untidied(), mock.patch.object(hwgen.lib.verilog, "to_rtlil", noted), \
            mock.patch.object(hwgen.lib.verilog, "verilog", SimpleNamespace(_convert_rtlil_text=marked)):
        yield


# Builds and runs that count

@contextlib.contextmanager
def counted(folder):
    """All that is emitted is marked, and all that Verilator builds counts; ``folder`` takes the Verilog, and the counts
    of C++ models."""
    folder = Path(folder).resolve()
    for name in ("verilog", "raw"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    build, main = verilator.build, folder / "main.cpp"
    text = _MAIN.replace("MODEL", str(hwgen.host.links.verilated.MAIN))
    if not main.exists() or main.read_text() != text:       # processes beside this one may be reading it
        main.write_text(text)

    def counting(sources, top, *, args=(), **more):
        named = []
        for source in map(Path, sources):
            if source.suffix == ".v":
                text = source.read_text()
                kept = folder / "verilog" / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.v"
                kept.write_text(text)
                source = kept
            named.append(source)
        return build(named, top, args=[*args, "--coverage-line"], **more | {"opt": "-O0"})      # most are run once

    # Registers have their first values where Yosys writes them, and some benches lint what they get.
    waived = {"PROCASSINIT": "what is counted is as Yosys writes it"}
    with made_by(), mock.patch.object(verilator, "build",
                                      counting), mock.patch.object(hwgen.host.links.verilated, "MAIN", main), \
            mock.patch.dict(os.environ, HWGEN_BRANCHES=str(folder / "raw")), \
            mock.patch.dict(verilator.WAIVERS, waived):
        yield


def counts(file):
    """{Verilog file's name: {(line, kind): [times of each of its branches]}} of Verilator's counts."""
    found = defaultdict(lambda: defaultdict(list))
    for line in file.read_text(errors="replace").splitlines():
        if said := re.match(r"C '(.*)' (\d+)$", line):
            about = dict(part.split("\2", 1) for part in said[1].split("\1")[1:])
            if about["o"] in KINDS:
                found[Path(about["f"]).name][int(about["l"]), about["o"]].append(int(said[2]))
    return found


def keep(file, folder, unit):
    """Keep the counts of a run of a unit's bench, and forget Verilator's file."""
    kept = {name: [[line, kind, times] for (line, kind), times in sorted(places.items())]
            for name, places in counts(file).items()}
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix="branches-", suffix=".json", delete=False) as out:
        json.dump({"unit": unit, "branches": kept}, out)
    file.unlink()
