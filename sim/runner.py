"""Build a design for a simulator and run a cocotb bench on it, from a pytest test::

    def test_rope(simulator):
        run(Rope(shape), "rope", "bench_rope", params={"lanes": 4}, sim=simulator)

Builds live in ``build/sim/<name>-<hash>/`` and are made again only when the Verilog, the options or the tools change.
They are built beside that folder and moved there when complete, under a lock: an interrupted or failed build leaves
nothing that a later run could take for its own. The folder of a failed run is kept, and the failure names it.
"""

from contextlib import contextmanager
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
import shutil
import subprocess
import tempfile
from xml.etree import ElementTree

import cocotb_tools.config
from cocotb_tools.runner import get_runner

from hwgen.lib import verilator
from hwgen.lib.verilog import emit_design, ports


__all__ = ["BenchFailed", "SEED", "build", "run", "simulators"]

ROOT = Path(__file__).resolve().parent.parent
BUILDS = ROOT / "build" / "sim"
#: Seed of every run, unless the call or HWGEN_SEED names another.
SEED = 20240613


class BenchFailed(AssertionError):
    """A bench failed, did not finish, or had no test to run; the message says which and where the log is."""


def simulators():
    """Simulators that are here: Verilator always, Icarus where it is installed."""
    return ["verilator", *(["icarus"] if shutil.which("iverilog") else [])]


def run(design, name, bench, *, testcase=None, params=None, sim="verilator", seed=None, waves=False, internals=False,
        opt="-O1"):
    """Run the cocotb tests of a bench on a design. Raises :class:`BenchFailed` unless all pass.

    Parameters
    ----------
    design : Component or str   emitted as module ``name``; a str is Verilog text that has such a module
    name : str                  name of the top module and of the build folder
    bench : str                 module with the cocotb tests; without a dot it is one in ``sim/``
    testcase : str or list      cocotb tests to run, by their whole names (``name/parameter=0``); all of the bench's by default
    params : dict               JSON-able, for the bench: ``stream_bench.bench_params()``
    sim : str                   "verilator" or "icarus"
    seed : int                  of ``cocotb.RANDOM_SEED`` and Python's ``random`` in the bench
    waves : bool                write a VCD (FST with Icarus) and keep the run's folder; WAVES=1 does the same
    internals : bool            let the bench reach signals inside the design, not only ports: slower with Verilator
    opt : str                   C++ optimization with Verilator: ``-O1`` builds fast, ``-O2`` runs fast
    """
    waves = waves or os.environ.get("WAVES", "0") not in ("", "0")
    seed = int(os.environ.get("HWGEN_SEED", SEED)) if seed is None else seed
    verilog = design if isinstance(design, str) else emit_design(design, name)
    folder = build(verilog, name, sim=sim, waves=waves, internals=internals, opt=opt)

    run_folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    results, log = run_folder / "results.xml", run_folder / "log.txt"
    environment = {
        "HWGEN_BENCH_PARAMS": json.dumps(params or {}),
        "HWGEN_BENCH_PORTS": json.dumps(ports(verilog, name)),
        "PYTHONUNBUFFERED": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        # assertions that say their values: of benches only, as to rewrite all of hwgen's modules takes most of a second
        "COCOTB_REWRITE_ASSERTION_FILES": "bench_*.py *_bench.py",
    }
    stopped = None
    try:
        get_runner(sim).test(test_module=bench if "." in bench else f"sim.{bench}", hdl_toplevel=name,
                             hdl_toplevel_lang="verilog", testcase=testcase, seed=seed, build_dir=folder,
                             test_dir=run_folder, results_xml=str(results), extra_env=environment, log_file=log,
                             waves=waves)
    except (SystemExit, RuntimeError) as error:  # cocotb's runner exits on failures
        stopped = error
    said = log.read_text(errors="replace") if log.exists() else ""
    print(f"{name} on {sim}, seed {seed}: {run_folder}\n{said}")
    try:
        _check(results, stopped, [testcase] if isinstance(testcase, str) else testcase or [])
    except BenchFailed as error:
        raise BenchFailed(f"{name} on {sim}, seed {seed}: {error}\nlog: {log}") from None
    if waves:
        print(f"waves in {run_folder}")
    else:
        shutil.rmtree(run_folder)


def _check(results, stopped, wanted=()):
    if not results.is_file():
        raise BenchFailed(f"the simulation ended without results ({stopped!r})")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failed = [(case.get("name"), found) for case in cases
              for found in (case.find("failure"), case.find("error")) if found is not None]
    if failed:
        raise BenchFailed("; ".join(f"{case}: {found.get('error_msg') or found.get('message') or found.text}"
                                    for case, found in failed))
    if not [case for case in cases if case.find("skipped") is None]:
        raise BenchFailed("no test was run")
    for name in wanted:
        if not any(name == case.get("name") for case in cases):
            raise BenchFailed(f"there is no test {name}")
    if stopped is not None:
        raise BenchFailed(f"the simulator stopped with {stopped!r}")


def build(verilog, name, *, sim="verilator", waves=False, internals=False, opt="-O1"):
    """The folder of a finished build of Verilog text whose top module is ``name``."""
    if sim not in ("verilator", "icarus"):
        raise ValueError(f"Simulator must be 'verilator' or 'icarus', not {sim!r}")
    key = repr((verilog, sim, waves, internals, opt if sim == "verilator" else None, _versions(sim), str(ROOT)))
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


def _build_verilator(work, done, name, verilog, waves, internals, opt):
    libs = cocotb_tools.config.libs_dir
    # Only what a bench may reach is kept from the optimizer: the ports, by default.
    public = ["public_flat_rw -module \"*\" -var \"*\""] if internals else [
        f'public_flat_{"rw" if port.direction == "input" else "rd"} -module "{name}" -var "{port.name}"'
        for port in ports(verilog, name)]
    (work / "public.vlt").write_text("\n".join(["`verilator_config", *public, ""]))
    built = verilator.build(
        [work / "public.vlt", work / "design.v"], name, folder=work / "obj", executable=name,
        cpp=[cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"],
        args=["--vpi", "--timescale", "1ns/1ps"],
        ldflags=f"-Wl,-rpath,{libs} -L{libs} -lcocotbvpi_verilator", opt=opt, trace=waves,
        cache=BUILDS / "verilator-runtime", headers=True)
    shutil.move(built, done / name)


def _build_icarus(work, done, name, verilog, waves, internals, opt):
    (work / "options.f").write_text("+timescale+1ns/1ps\n")
    sources, tops = ["design.v"], ["-s", name]
    if waves:
        (work / "dump.v").write_text(f'module dump; initial begin $dumpfile("{name}.fst"); $dumpvars(0, {name}); '
                                     "end endmodule\n")
        sources.append("dump.v")
        tops += ["-s", "dump"]
    subprocess.run(["iverilog", "-g2012", "-o", done / "sim.vvp", *tops, "-f", "options.f", *sources], cwd=work,
                   check=True)
