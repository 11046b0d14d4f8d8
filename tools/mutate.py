#!/usr/bin/env python3
"""Break each unit a little, many times, and see whether its bench notices (``make mutate``; docs/mutation.md).

The netlist of a unit, as its bench in ``sim/`` builds it, gets small faults by Yosys' ``mutate``: a bit that is
inverted, stuck, or depends on its neighbour. All mutants of a netlist are in one Verilog text, and an input selects
one: one build serves them all (``sim/mutants.py`` runs them). Those that no bench notices are compared with the unit by
a proof; what is left must be explained in ``tools/mutants.json``.

Results are kept in ``build/mutate/``, for the netlist and the bench that they belong to: a run that was stopped goes on
where it was.
"""
import argparse
import contextlib
import fnmatch
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from formal import engine
from hwgen.lib.verilog import emit_design
from sim import runner
from tools import equivalence, ledger

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutate"
EXPLAINED = ROOT / "tools" / "mutants.json"
#: Units and tops of which the runner in sim/ has a bench, the quick ones first.
UNITS = ("secded", "arith", "uart", "uart_bridge", "counters", "feeder", "vector_buffer", "convert", "swiglu",
         "admission", "decode_loop",
         "axi_registers",
         "axi_crossing",
         "axi_reader", "axi_writer", "memory_loader", "card_reader", "sdram_start", "ddr3_start", "rope", "sampler",
         "weights", "rmsnorm", "qk_norm", "residual",
         "kv_cache", "kv_port", "mac_array", "array_grid", "rom_grid", "attention", "decoder", "axi", "board",
         "wired", "wired_decoder")
#: To be raised when the way to faults or proofs changes: what was kept is then of no use.
VERSION = 3
#: Of a top, the modules that get faults: those of no unit that has a bench itself.
TOPS = {"card_reader": ("_unit*",),        # with its CRCs
        "decoder": ("", "_sequencer*", "_*_skid"), "axi": ("", "_commands", "_results"), "board": ("",),
        "wired_decoder": ("",), "kv_port": ("", "_port")}
#: Modules beside a unit that only simulate: nothing breaks them, and Yosys sees their ports alone.
MODELS = {"card_reader": ("sd_card",)}
#: Units whose simulation takes longer than their build.
LONG = ("card_reader",)
#: The test of a unit that runs a bench on its Verilog; by default all that are not nightly.
TESTS = {"decoder": "test_decoder", "board": "test_pins", "wired_decoder": "test_wired_decoder"}
MUTANTS, CASES = 60, 2
OUTCOMES = ("killed by values", "killed by cycles only", "equivalent", "argued", "explained", "survived")


class Call(NamedTuple):
    """A bench on a design, as sim/test_x.py asks for it."""
    bench: str
    testcase: object
    params: object
    seed: int
    internals: bool


class Case(NamedTuple):
    """A design and the benches that are run on it."""
    unit: str
    name: str
    verilog: str
    calls: list


class Mutant(NamedTuple):
    number: int
    command: str
    where: str


# What the benches run

def cases(unit):
    """The designs that sim/test_<unit>.py builds, each with what it runs on them: its tests are run with a runner that
    only notes."""
    found = {}

    def note(design, name, bench, *, testcase=None, params=None, sim="verilator", seed=None, waves=False,
             internals=False, opt="-O1", component=None):
        verilog = design if isinstance(design, str) else emit_design(design, name, sources=True)
        case = found.setdefault((name, verilog), Case(unit, name, verilog.replace(f"{ROOT}/", ""), []))
        case.calls.append(Call(bench, testcase, params, runner.SEED if seed is None else seed, internals))

    folder = WORK / unit
    folder.mkdir(parents=True, exist_ok=True)
    with mock.patch.object(runner, "run", note), mock.patch.object(runner, "simulators", lambda: ["verilator"]), \
            open(folder / "tests.log", "w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        sys.modules.pop(f"sim.test_{unit}", None)
        tests = [f"{ROOT}/sim/test_{unit}.py::{TESTS[unit]}"] if unit in TESTS else ["-m", "not nightly",
                                                                                     f"{ROOT}/sim/test_{unit}.py"]
        code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder / 'tmp'}", *tests])
    if code or not found:
        raise SystemExit(f"sim/test_{unit}.py must give designs and pass; see {folder / 'tests.log'}")
    return sorted(found.values(), key=lambda case: "smallest" in case.name)     # in those most faults change nothing


# Mutants

def mutate(case, count, seed, folder):
    """(Verilog with ``count`` mutants and an input ``mutant``, the mutants)."""
    folder.mkdir(parents=True, exist_ok=True)
    verilog, models = _apart(case.verilog, MODELS.get(case.unit, ()))
    (folder / "design.v").write_text(_beside(verilog, folder))
    width = count.bit_length() + 1
    # Cells that do the same are one, as in any synthesis: else most bits of an expression that is used several times
    # are read by nothing. And `proc` makes multiplexers whose undefined input nothing selects.
    read = (f"read_verilog design.v\nhierarchy -top {case.name}\n"
            "proc\nopt_expr -mux_undef\nopt_clean\nopt_merge\nopt_clean\n")
    where = " ".join(f"{case.name}{part}/t:*" for part in TOPS.get(case.unit, ())) or "t:*"
    # A register that a bench sets must stay one.
    set_by_benches = sorted({name for call in case.calls if isinstance(call.internals, (list, tuple))
                             for name in call.internals})
    chosen = f"select -set chosen {where} {'%u ' * (where.count(' '))}t:$mem* %d" + "".join(
        f" {module}/w:{signal} %ci1 %d" for module, signal in (runner.inside(case.name, path)
                                                               for path in set_by_benches))
    if not (folder / "complete").exists():
        engine.yosys(f"{read}{chosen}\nmutate -list {count} -seed {seed} -ctrl mutant {width} 1 -o mutants.ys "
                     f"@chosen\nwrite_rtlil "
                     f"unmutated.il\n", folder, "list.log")
        engine.yosys(f"{read}script mutants.ys\nopt_clean\nwrite_rtlil mutated.il\nwrite_verilog -noattr mutated.v\n",
                     folder, "all.log")
        (folder / "complete").touch()
    lines, drives = case.verilog.splitlines(), _drives((folder / "unmutated.il").read_text())
    mutants = []
    for command in (folder / "mutants.ys").read_text().splitlines():
        number = int(re.search(rf"-ctrl mutant {width} (\d+)", command)[1])
        mutants.append(Mutant(number, command, _where(command, lines, drives)))
    waived = "/* verilator lint_off WIDTH */\n/* verilator lint_off LATCH */\n"
    return waived + (folder / "mutated.v").read_text() + models, mutants


def _apart(verilog, models):
    """(the Verilog, in which of the modules ``models`` only the ports are left, these modules): lines stay where they
    are."""
    whole = []

    def leave(found):
        whole.append(found[0])
        return f"(* blackbox *) {found[1]}" + re.sub(r"[^\n]", "", found[2]) + "endmodule"
    for name in models:
        verilog, count = re.subn(rf"^(module {name}\b.*?^\);)(.*?)^endmodule", leave, verilog,
                                 flags=re.MULTILINE | re.DOTALL)
        if count != 1:
            raise engine.EngineError(f"There must be one module {name}, not {count}")
    return verilog, "".join(f"\n/* verilator lint_off BLKSEQ */\n{text}\n" for text in whole)


def _beside(verilog, folder):
    """The Verilog with the images of its memories in a folder: Yosys sees no other. Where each instance has a file of
    its own, the one that the module names is not there, and is empty."""
    for image in sorted(set(re.findall(r'"([^"\n]+\.hex)"', verilog))):
        if (ROOT / image).is_file():
            shutil.copy(ROOT / image, folder)
        else:
            (folder / image).touch()
        verilog = verilog.replace(f'"{image}"', f'"{Path(image).name}"')
    return verilog


#: What `hwgen.lib.netlist` calls a result without a name in the source.
_NUMBERED = re.compile(r"\\?_[a-z]+\d+")


@functools.cache
def _python(file):
    path = ROOT / file
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _named(wire, verilog):
    """A wire's name, with that of the register or wire that it is assigned to if it has only a number."""
    for line in verilog if "$" in wire or _NUMBERED.fullmatch(wire) else ():
        if found := re.search(rf"([\w.$]+) +(?:<=|=) +{re.escape(wire)} ?;", line):
            return f"{wire}={found[1].removesuffix('_next')}"
    return wire


@functools.cache
def _module(verilog, name):
    """The lines of a module."""
    start = next((k for k, line in enumerate(verilog) if re.match(rf"module \\?{re.escape(name)} ?\(", line)), 0)
    return verilog[start:verilog.index("endmodule", start) if "endmodule" in verilog[start:] else None]


def _drives(rtlil):
    """{(module, cell): name of the wire that it drives}, by way of the multiplexers behind it if its own wire has no
    name."""
    outputs, users, module, cell = {}, {}, None, None
    for line in rtlil.splitlines():
        words = line.split(" ")
        if line.startswith("module "):
            module = words[1]
        elif line.startswith("  cell "):
            cell = (module, words[4])
        elif line.startswith("    connect "):
            port, wire = words[5:7]
            if port in ("\\Y", "\\Q", "\\DATA"):
                outputs[cell] = wire
            elif port in ("\\A", "\\B", "\\D"):
                for each in words[6:]:
                    users.setdefault((module, each), cell)
    named = {}
    for cell, wire in outputs.items():
        for _ in range(40):
            if wire.startswith("\\") and not _NUMBERED.fullmatch(wire) or (cell[0], wire) not in users:
                break
            wire = outputs.get(users[cell[0], wire], "\\?")
        named[cell] = wire
    return named


def _where(command, verilog, drives):
    """A mutation in words: what it does to which port of which cell, the wire, what the cell drives, and the line of
    Python that made it (or of Verilog)."""
    options = dict(re.findall(r"-(\w+) (\S+)", re.sub(r"-ctrl mutant \d+ \d+", "", command)))
    module = _module(tuple(verilog), options["module"].lstrip("\\"))
    cell = re.match(r"\$?([a-z_0-9]+)", options["cell"].lstrip("\\"))
    wire = f" {_named(options['wire'], module)}[{options['wirebit']}]" if "wire" in options else ""
    driven = drives.get((f"\\{options['module']}", options["cell"]), "")
    drive = " -> " + _named(driven, module).lstrip("\\").removesuffix("_next") if driven else ""
    control = f" by [{options['ctrlbit']}]" if "ctrlbit" in options else ""
    sources, said = re.findall(r"-src (\S+)", command), ""
    for file, line in [source.rsplit(":", 1) for source in reversed(sources)]:
        if file.endswith(".py") and not file.startswith("/"):
            text = _python(file)
            said = f"{file}:{line}: {text[int(line) - 1].strip()}" if int(line) <= len(text) else f"{file}:{line}"
            break
    else:
        for file, line in [source.rsplit(":", 1) for source in reversed(sources)]:
            if file == "design.v":
                said = f"Verilog: {verilog[int(line.split('.')[0]) - 1].strip()}"
                break
    place = f"{cell[1] if cell else '?'}.{options['port']}[{options['portbit']}]"
    return f"{options['mode']}{control} {options['module']} {place}{wire}{drive}; {said}"


# Runs

def _digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@functools.cache
def _bench_text(name):
    """A bench's text with that of everything in sim/ that it imports."""
    text = (ROOT / "sim" / f"{name}.py").read_text(encoding="utf-8")
    return text + "".join(_bench_text(other) for other in sorted(set(re.findall(r"^from sim\.(\w+) import", text,
                                                                                re.MULTILINE))))


def _params(params):
    """Without paths, which change."""
    return re.sub(r'"[^"]*/build/mutate/[^"]*/([^/"]+)"', r'"\1"', json.dumps(params, sort_keys=True))


def run_case(case, count, seed):
    """{"name", "mutants": [{"number", "where", "values", "cycles", "seconds"}]}: of each mutant the first failures;
    from the disk if they are there."""
    benches = [(call.bench, _bench_text(call.bench), call.testcase, _params(call.params), call.seed)
               for call in case.calls]
    netlist = re.sub(r'[(][*] src = "[^"]*" [*][)]', "", case.verilog)      # lines may move
    folder = WORK / case.unit / f"{case.name}-{_digest(netlist, count, seed, VERSION)}"
    verilog, mutants = mutate(case, count, seed, folder)
    alive = {mutant.number: {"number": mutant.number, "where": mutant.where, "values": None, "cycles": None,
                             "seconds": 0}
             for mutant in mutants}
    done = dict(alive)
    for call, bench in zip(case.calls, benches):
        results = folder / f"{call.bench}-{_digest(verilog, bench)}.jsonl"
        known = _results(results)
        todo = [number for number in alive if number not in known]
        if todo:
            _simulate(case, call, verilog, todo, results)
            known = _results(results)
        for number in list(alive):
            found = known[number]
            entry = done[number]
            entry["values"] = entry["values"] or found["values"]
            entry["cycles"] = entry["cycles"] or found["cycles"]
            entry["seconds"] = round(entry["seconds"] + found["seconds"], 2)
            if entry["values"]:
                del alive[number]
    return {"name": case.name, "folder": folder, "mutants": list(done.values())}


def _results(path):
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {entry["number"]: entry for entry in map(json.loads, lines)}


def _simulate(case, call, verilog, numbers, results):
    plan = {"bench": call.bench, "testcase": [call.testcase] if isinstance(call.testcase, str) else call.testcase,
            "mutants": numbers,
            "results": str(results)}
    with mock.patch.dict(os.environ, {"HWGEN_MUTANTS": json.dumps(plan)}), \
            open(results.with_suffix(".log"), "w", encoding="utf-8") as log, \
            contextlib.redirect_stdout(log):
        runner.run(verilog, case.name, "sim.mutants", params=call.params, seed=call.seed, internals=call.internals,
                   waves=False,
                   opt="-O1" if case.unit in LONG else "-O0")       # most of the time is the build


# Verdicts

def explanations():
    """Of mutants that no bench notices: [{"unit", "match": pattern of where it is, "why", "equivalent": true if nothing
    can show it}]."""
    return json.loads(EXPLAINED.read_text(encoding="utf-8"))


def explanation(unit, where):
    """(why a mutant that no bench notices may live, or None; whether it is one that nothing can show)."""
    for entry in explanations():
        if entry["unit"] in (unit, "*") and re.search(entry["match"], where):
            return entry["why"], entry.get("equivalent", False)
    return None, False


def judge(case, found, prove):
    """Give each mutant its verdict, one of OUTCOMES."""
    for entry in found["mutants"]:
        if entry["values"] or entry["cycles"]:
            entry["verdict"] = OUTCOMES[0] if entry["values"] else OUTCOMES[1]
        elif (proof := _proof(case, found["folder"], entry["number"], prove)) == "equivalent":
            entry["verdict"] = "equivalent"
        else:
            entry["proof"] = proof
            entry["why"], argued = explanation(case.unit, entry["where"])
            entry["verdict"] = "argued" if argued else "explained" if entry["why"] else "survived"


def _proof(case, folder, number, limit):
    """What a proof says of a mutant, kept on the disk; "open" without the tools."""
    if not limit or not engine.available():
        return "open"
    path = folder / "proofs.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    verdict, before = known.get(str(number), ("open", 0))
    if verdict == "open" and before < limit:
        verdict = equivalence.compare(folder, case.name, number, limit, TOPS.get(case.unit, ()),
                                      MODELS.get(case.unit, ()))
        path.write_text(json.dumps(known | {str(number): (verdict, limit)}))
    return verdict


def _check_tops(unit, every):
    """Modules have other names now and then: faults in none of those that are meant would look like a run."""
    for part in TOPS.get(unit, ()):
        if not any(fnmatch.fnmatchcase(name, f"{case.name}{part}") for case in every
                   for name in re.findall(r"^module \\?([\w.]+)", case.verilog, re.MULTILINE)):
            raise engine.EngineError(f"TOPS of {unit} must name modules that are there, not {part!r}")


def run_unit(unit, count, seed, most, prove):
    """All mutants of a unit, spread over at most ``most`` of its designs (other ones with another seed)."""
    every = cases(unit)
    _check_tops(unit, every)
    chosen = [every[(seed - 1 + k) % len(every)] for k in range(min(most, len(every)))]
    mutants = []
    for k, case in enumerate(chosen):
        share = count // len(chosen) + (k < count % len(chosen))
        if share:
            found = run_case(case, share, seed)
            judge(case, found, prove)
            mutants += [entry | {"case": case.name} for entry in found["mutants"]]
    (WORK / unit / "report.json").write_text(json.dumps(mutants, indent=1) + "\n")
    return mutants


def summary(counts):
    """The numbers of the ledger from a Counter of verdicts."""
    total = sum(counts.values())
    real = total - counts["equivalent"] - counts["argued"]
    killed = counts[OUTCOMES[0]] + counts[OUTCOMES[1]]
    return {"mutants": total, "killed by values": counts[OUTCOMES[0]], "killed by cycles only": counts[OUTCOMES[1]],
            "equivalent": counts["equivalent"],
            "argued": counts["argued"], "explained": counts["explained"], "survived": counts["survived"],
            "score": round(100 * killed / real, 2) if real else 100.0}


def record(unit, counts, command):
    """Write the numbers of a unit to the ledger."""
    ledger.record("mutation.json", [{"name": f"{unit}/{number}", "value": value,
                                     "unit": "%" if number == "score" else "",
                                     "kind": "measured", "command": command}
                                    for number, value in summary(counts).items()])


def totals(entries):
    """{name: number} of all units together, from a ledger's entries of each."""
    counts, units = Counter(), set()
    for entry in entries:
        unit, _, number = entry["name"].rpartition("/")
        if unit in UNITS and number in OUTCOMES:
            units.add(unit)
            counts[number] += entry["value"]
    found = summary(counts)
    return {"mutation_score": found["score"], "mutation_units": len(units)} | {f"mutation_{name}": found[name]
                                                                               for name in ("mutants", "equivalent",
                                                                                            "argued", "explained",
                                                                                            "survived")}


def record_totals():
    """Write the numbers of all units together, as the ledger has them."""
    found = totals(ledger.load("mutation.json"))
    ledger.record("mutation.json", [{"name": name, "value": value, "unit": "%" if name == "mutation_score" else "",
                                     "kind": "derived",
                                     "command": "python -m tools.mutate --total"}
                                    for name, value in found.items()])
    print("all units in the ledger: " + ", ".join(f"{name} {value}" for name, value in found.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unit", action="append", choices=UNITS, help="one unit (again for more); all by default")
    parser.add_argument("--mutants", type=int, default=MUTANTS, help="of each unit (%(default)s)")
    parser.add_argument("--cases", type=int, default=CASES,
                        help="designs of each unit among those that its bench builds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prove", type=int, default=20, metavar="SECONDS",
                        help="limit of the proof that a mutant is equivalent; 0: none (%(default)s)")
    parser.add_argument("--record", action="store_true",
                        help="write docs/results/mutation.json, unit by unit; without --unit that is done anyway")
    parser.add_argument("--total", action="store_true",
                        help="run nothing: add up what docs/results/mutation.json has of each unit")
    options = parser.parse_args()
    if options.total:
        record_totals()
        return False
    how = f"--mutants {options.mutants} --cases {options.cases} --seed {options.seed}"
    units, counted, began, failed = options.unit or list(UNITS), {}, time.monotonic(), False
    for k, unit in enumerate(units):
        try:
            mutants = run_unit(unit, options.mutants, options.seed, options.cases, options.prove)
        except (engine.EngineError, AssertionError) as error:
            print(f"{unit}: {error}", flush=True)
            failed = True
            continue
        counted[unit] = Counter(entry["verdict"] for entry in mutants)
        if options.record or not options.unit:
            record(unit, counted[unit], f"python -m tools.mutate {how}")
        spent, left = time.monotonic() - began, len(units) - k - 1
        print(f"{unit}: " + ", ".join(f"{value} {name}" for name, value in summary(counted[unit]).items())
              + f"; {spent:.0f} s, {left} units to go, about {spent / (k + 1) * left:.0f} s", flush=True)
        for entry in mutants:
            if entry["verdict"] in ("survived", "explained", "argued"):
                print(f"  {entry['verdict']} {entry['case']} {entry['number']} ({entry['proof']}): {entry['where']}"
                      + (f"\n    {entry['why']}" if entry.get("why") else ""), flush=True)
    if counted:
        total = sum(counted.values(), Counter())
        print("all: " + ", ".join(f"{value} {name}" for name, value in summary(total).items()))
        if options.record or not options.unit:
            record_totals()
    return failed


if __name__ == "__main__":
    sys.exit(main())
