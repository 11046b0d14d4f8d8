"""Build a design for a simulator and run a cocotb bench on it, from a pytest test::

    def test_rope(simulator):
        run(make.rope(design), "rope", "bench_rope", params={"lanes": 4}, sim=simulator)

Builds live in ``build/sim/<name>-<hash>/`` and are made again only when the Verilog, the options or the tools change.
They are built beside that folder and moved there when complete, under a lock: an interrupted or failed build leaves
nothing that a later run could take for its own. The folder of a failed run is kept, and the failure names it.
What a failure says is in docs/benches.md.
"""

from contextlib import contextmanager
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess
import tempfile
from typing import NamedTuple
from xml.etree import ElementTree

import cocotb_tools.config
from cocotb_tools.runner import get_runner

from hwgen.lib import verilator
from hwgen.lib.verilog import emit_design, ports
from sim import branches, points


__all__ = ["BenchFailed", "SEED", "build", "run", "simulators"]

ROOT = Path(__file__).resolve().parent.parent
BUILDS = ROOT / "build" / "sim"
#: Where the functional points of benches go, if they are wanted (docs/coverage.md).
POINTS = None
#: Seed of every run, unless the call or HWGEN_SEED names another.
SEED = 20240613
PERIOD = 10             # ns of a cycle, as `stream_bench.start_clock_reset` has it by default
#: Cycles before the first difference, and after it, of which a failed bench leaves waveforms.
WINDOW = 1000


class BenchFailed(AssertionError):
    """A bench failed, did not finish, or had no test to run; the message says which and where the log is."""


def simulators():
    """Simulators that are here: Verilator always, Icarus where it is installed."""
    return ["verilator", *(["icarus"] if shutil.which("iverilog") else [])]


class _Failure(NamedTuple):
    """Why a run failed: the first of its tests that did, and when (ns from the test's start: the first difference, and
    the test's end)."""
    said: str
    case: str = ""
    difference: float = 0
    end: float = 0
    others: tuple = ()


def run(design, name, bench, *, testcase=None, params=None, sim="verilator", seed=None, waves=None, internals=False,
        opt="-O1", component=None):
    """Run the cocotb tests of a bench on a design. Raises :class:`BenchFailed` unless all pass.

    Parameters
    ----------
    design : Component or str   emitted as module ``name``; a str is Verilog text that has such a module
    name : str                  name of the top module and of the build folder
    bench : str                 module with the cocotb tests; without a dot it is one in ``sim/``
    testcase : str or list      cocotb tests to run, by their whole names (``name/parameter=0``); all of the bench's by
        default
    params : dict               JSON-able, for the bench: ``stream_bench.bench_params()``
    sim : str                   "verilator" or "icarus"
    seed : int                  of ``cocotb.RANDOM_SEED`` and Python's ``random`` in the bench
    waves : bool                write waveforms (FST; VCD with Verilator where the C++ compiler finds no lz4) and keep
                                the run's folder. By default as WAVES says (1 or 0), and without it when a test fails:
                                that test alone runs again, with :data:`WINDOW` cycles around the first difference
    internals : bool            let the bench reach signals inside the design, not only ports: slower with Verilator.
                                A list: only these signals, of the top module or by their paths
                                ("decoder.kv_cache.failed")
    opt : str                   C++ optimization with Verilator: ``-O1`` builds fast, ``-O2`` runs fast
    component : Component       that the Verilog text is of: its ports have functional points
    """
    asked = os.environ.get("WAVES", "")
    waves, on_failure = (asked not in ("", "0") if waves is None else waves), waves is None and not asked
    seed = int(os.environ.get("HWGEN_SEED", SEED)) if seed is None else seed
    verilog = design if isinstance(design, str) else emit_design(design, name)
    # what both runs share
    bound = dict(name=name, bench=bench, params=params or {}, sim=sim, seed=seed, internals=internals, opt=opt)
    if POINTS is not None and (component is not None or not isinstance(design, str)):
        bound["component"] = design if component is None else component
    folder, failure = _simulate(verilog, **bound, testcase=testcase, waves=waves)
    log = folder / "log.txt"
    print(f"{name} on {sim}, seed {seed}: {folder}\n{log.read_text(errors='replace') if log.exists() else ''}")
    if failure is None:
        if waves:
            print(f"waves in {folder}")
        else:
            shutil.rmtree(folder)
        return
    if waves:
        where = f"{_waves_in(folder)}"
    else:
        where = _again(failure, verilog, bound) if on_failure and failure.case else "not written"
    unit = "" if isinstance(design, str) else f" ({type(design).__name__})"
    raise BenchFailed("\n".join([
        f"{failure.case or bench}: {failure.said}", *([f"failed too: {_list(failure.others)}"]
                                                      if failure.others else []),
        f"unit: {name}{unit} on {sim}, seed {seed}, {json.dumps(params or {})[:500]}",
        f"waves: {where}", f"rerun: {_rerun(seed)}", f"log: {log}"]))


def _list(names):
    return ", ".join(names[:3]) + f" and {len(names) - 3} more" * (len(names) > 3)


def _again(failure, verilog, bound):
    """Where the waveforms of a failed test are, which this writes: it runs alone, with the same seed. Says so if that
    does not work."""
    first = max(0, round(failure.difference) - WINDOW * PERIOD)
    try:
        folder, again = _simulate(verilog, **bound, testcase=failure.case, waves=True,
                                  plusargs=[f"+dump_from={first}",
                                            f"+dump_for={round(failure.difference) - first + WINDOW * PERIOD}"])
        where = _waves_in(folder)
    except Exception as error:      # whatever it is, the first failure is to be told
        words = str(error).splitlines()[0] if str(error) else ""
        return f"not written, as the run with waveforms failed: {type(error).__name__}: {words}"
    if again is None:
        return f"{where}; but the test passes when it runs alone: rerun all"
    other = "" if again.said == failure.said else f"; but alone it fails in another way: {again.said.splitlines()[0]}"
    return (f"{where}, from {first} ns on; the difference is at {round(failure.difference)} ns, "
            f"{PERIOD} ns are a cycle{other}")


def _waves_in(folder):
    return next((str(path) for path in folder.iterdir() if path.suffix in (".vcd", ".fst")), f"none in {folder}")


def _rerun(seed):
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    design = os.environ.get("HWGEN_DESIGN")
    words = [test, *(["--design", design] if design else [])]
    how = f"WAVES=1 HWGEN_SEED={seed}"
    return f"{how} python -m pytest {shlex.join(words)}" if test else f"with {how}"


def _simulate(verilog, *, name, bench, testcase, params, sim, seed, waves, internals, opt, plusargs=(), component=None):
    """One run: its folder and its `_Failure`, if any."""
    folder = build(verilog, name, sim=sim, waves=waves, internals=internals, opt=opt)
    run_folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    results, log = run_folder / "results.xml", run_folder / "log.txt"
    environment = {
        "HWGEN_BENCH_PARAMS": json.dumps(params),
        "HWGEN_BENCH_PORTS": json.dumps(ports(verilog, name)),
        "PYTHONUNBUFFERED": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        # assertions that say their values: of benches only, as to rewrite all of hwgen's modules takes most of a second
        "COCOTB_REWRITE_ASSERTION_FILES": "bench_*.py *_bench.py",
    }
    if component is not None:
        environment["HWGEN_BENCH_POINTS"] = json.dumps(points.asked(component, bench, params,
                                                                    run_folder / "points.json"))
    stopped = None
    try:
        get_runner(sim).test(test_module=bench if "." in bench else f"sim.{bench}", hdl_toplevel=name,
                             hdl_toplevel_lang="verilog", testcase=testcase, seed=seed, build_dir=folder,
                             test_dir=run_folder, results_xml=str(results), extra_env=environment, log_file=log,
                             plusargs=list(plusargs), waves=waves)
    except (SystemExit, RuntimeError) as error:  # cocotb's runner exits on failures
        stopped = error
    failure = _failure(results, stopped, [testcase] if isinstance(testcase, str) else testcase or [])
    if component is not None and failure is None:
        shutil.copy(run_folder / "points.json", POINTS / f"points-{name}-{run_folder.name}.json")
        if (counted := run_folder / "coverage.dat").exists():
            branches.keep(counted, POINTS, points.unit_of(bench))
    return run_folder, failure


def _failure(results, stopped, wanted=()):
    if not results.is_file():
        return _Failure(f"the simulation ended without results ({stopped!r})")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failed = [(case, found) for case in cases for found in (case.find("failure"), case.find("error"))
              if found is not None]
    if failed:
        case, found = failed[0]
        said = found.get("error_msg") or found.get("message") or found.text or ""
        times = {prop.get("name"): prop.get("value") for prop in case.iter("property")}
        end = float(times.get("sim_time_duration", 0))
        later = re.search(r"noticed in cycle \d+, (\d+) cycles later", said)
        return _Failure(said.strip(), case.get("name"), max(0, end - PERIOD * int(later[1])) if later else end, end,
                        tuple(case.get("name") for case, _ in failed[1:]))
    if not [case for case in cases if case.find("skipped") is None]:
        return _Failure("no test was run")
    for name in wanted:
        if not any(name == case.get("name") for case in cases):
            return _Failure(f"there is no test {name}")
    return None if stopped is None else _Failure(f"the simulator stopped with {stopped!r}")


def build(verilog, name, *, sim="verilator", waves=False, internals=False, opt="-O1"):
    """The folder of a finished build of Verilog text whose top module is ``name``."""
    if sim not in ("verilator", "icarus"):
        raise ValueError(f"Simulator must be 'verilator' or 'icarus', not {sim!r}")
    key = repr((verilog, sim, waves, internals, opt if sim == "verilator" else None, _versions(sim), str(ROOT),
                *((_WINDOW_VERILATOR, _WINDOW_ICARUS, sim == "verilator" and _trace_kind()) if waves else ())))
    folder = BUILDS / f"{name}-{sim}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with _lock(folder.name):
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix=f"partial-{name}-", dir=BUILDS) as partial:
                work, done = Path(partial) / "work", Path(partial) / "done"
                work.mkdir()
                done.mkdir()
                (done / "design.v").write_text(verilog)
                shutil.copy(done / "design.v", work)
                (_build_verilator if sim == "verilator" else _build_icarus)(work, done, name, verilog, waves,
                                                                             internals, opt)
                done.rename(folder)
    return folder


@contextmanager
def _lock(name):
    locks = BUILDS / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def _versions(sim):
    versions = {"cocotb": importlib.metadata.version("cocotb"), "libs": str(cocotb_tools.config.libs_dir)}
    if sim == "verilator":
        return {**versions, **verilator.tool_versions()}
    said = subprocess.run(["iverilog", "-V"], capture_output=True, text=True).stdout
    return {**versions, "icarus": said.split("\n")[0]}


#: cocotb's main program with a tracer that leaves out what is not within +dump_from=NS and +dump_for=NS; its time is in
#: ps.
_WINDOW_VERILATOR = """\
#include <cstdlib>
#include <cstring>
#include "Vtop.h"
#include "verilated_KIND_c.h"

static uint64_t argument(const char *name, uint64_t otherwise) {
    const char *found = Verilated::commandArgsPlusMatch(name);
    return *found ? 1000 * std::strtoull(found + 1 + std::strlen(name), nullptr, 10) : otherwise;
}

class Window : public VerilatedTRACE {
public:
    void dump(uint64_t time) {
        static const uint64_t from = argument("dump_from=", 0), length = argument("dump_for=", ~0ULL);
        if (time >= from && time - from <= length) VerilatedTRACE::dump(time);
    }
};
#define VerilatedTRACE Window
#include "MAIN"
"""

_WINDOW_ICARUS = """\
module dump;
  reg [63:0] first, length;
  initial begin
    if (!$value$plusargs("dump_from=%d", first)) first = 0;
    $dumpfile("NAME.fst");
    if (first) #(first);
    $dumpvars(0, NAME);
    if ($value$plusargs("dump_for=%d", length)) begin #(length) $dumpoff; end
  end
endmodule
"""


def inside(name, path):
    """(module, signal) of a signal's path in a design."""
    *modules, signal = path.split(".")
    return "_".join([name, *modules]), signal


@functools.cache
def _trace_kind():
    """What Verilator can write here."""
    try:
        verilator.check_fst()
    except verilator.VerilatorError:
        return "vcd"
    return "fst"


def _build_verilator(work, done, name, verilog, waves, internals, opt):
    libs = cocotb_tools.config.libs_dir
    cpp = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
    if waves:
        kind = _trace_kind()
        text = _WINDOW_VERILATOR.replace("MAIN", str(cpp)).replace("KIND", kind)
        (work / "window.cpp").write_text(text.replace("TRACE", f"{kind.capitalize()}C"))
        cpp = work / "window.cpp"
    # Only what a bench may reach is kept from the optimizer: the ports, by default.
    public = ["public_flat_rw -module \"*\" -var \"*\""] if internals is True else [
        *(f'public_flat_rw -module "{module}" -var "{signal}"'
          for module, signal in (inside(name, path) for path in internals or ())), *(
        f'public_flat_{"rw" if port.direction == "input" else "rd"} -module "{name}" -var "{port.name}"'
        for port in ports(verilog, name))]
    (work / "public.vlt").write_text("\n".join(["`verilator_config", *public, ""]))
    built = verilator.build(
        [work / "public.vlt", work / "design.v"], name, folder=work / "obj", executable=name,
        cpp=[cpp],
        args=["--vpi", "--timescale", "1ns/1ps"],
        ldflags=f"-Wl,-rpath,{libs} -L{libs} -lcocotbvpi_verilator", opt=opt,
        trace=waves and _trace_kind(), cache=BUILDS / "verilator-runtime", headers=True)
    shutil.move(built, done / name)


def _build_icarus(work, done, name, verilog, waves, internals, opt):
    (work / "options.f").write_text("+timescale+1ns/1ps\n")
    sources, tops = ["design.v"], ["-s", name]
    if waves:
        (work / "dump.v").write_text(_WINDOW_ICARUS.replace("NAME", name))
        sources.append("dump.v")
        tops += ["-s", "dump"]
    subprocess.run(["iverilog", "-g2012", "-o", done / "sim.vvp", *tops, "-f", "options.f", *sources], cwd=work,
                   check=True)
