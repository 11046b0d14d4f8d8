#!/usr/bin/env python3
"""How long a user waits, and in how much memory: this checkout beside another commit, on the same machine in the same
run. Seconds are of CPU, of all processes together, which other users of a machine change less than the clock's."""
import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from tools import get_smollm2, ledger

ROOT = ledger.ROOT
BASE = "be760d8"
DEMO = ("run", "demo", "--prompt", "She was", "--max-tokens", "1")
SMOLLM2 = (str(get_smollm2.TARGET), "--shape", "latency-32x32")

#: How the two programs below begin: earlier commits have the links in hwgen.host itself.
IMPORTS = """
import importlib.util
LINKS = "hwgen.host" + (".links" if importlib.util.find_spec("hwgen.host.links") else "")
def of_links(module, name):
    return getattr(importlib.import_module(f"{LINKS}.{module}"), name)
"""

#: Prints the seconds of an emission of the demo's machine, and of Verilator's build of it, whose own runtime is built
#: before.
BUILD = IMPORTS + """
import json, resource
from hwgen.lib.verilog import emit_design
from hwgen.models import load
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.presets import hw_shape
from hwgen.top.decoder import Decoder
build_model = of_links("verilated", "build_model")
shape = load("demo").shape
design = Design(model=shape, hw=hw_shape("demo", shape), recipe=Recipe())
def seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)
began = seconds()
text = emit_design(Decoder(design), "demo")
emitted = seconds()
build_model(text, "demo", design, opt="-O1")
once = seconds()
build_model(text + "\\n", "demo", design, opt="-O1")
print(json.dumps({"emission": emitted - began, "build": seconds() - once}))
"""

#: Prints the seconds of the simulator for each token of SmolLM2, of a few behind a short prompt.
SIMULATION = IMPORTS + """
import contextlib, json, os, sys
from hwgen.models import load, quantize
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.presets import hw_shape
Entry, simulated = of_links("link", "Entry"), of_links("machine", "simulated")
checkpoint = load(sys.argv[1])
design = Design(model=checkpoint.shape, hw=hw_shape(sys.argv[2], checkpoint.shape), recipe=Recipe())
with simulated(design, quantize(checkpoint, design.recipe), lambda _: contextlib.nullcontext()) as link:
    def seconds():
        fields = open(f"/proc/{link._process.pid}/stat").read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    link.run_pass([Entry(0, 0, 1, True)])
    began, cycles = seconds(), 0
    for position in (1, 2, 3):
        cycles += link.run_pass([Entry(0, position, 1 + position, True)]).cycles
    print(json.dumps({"seconds": (seconds() - began) / 3, "cycles": cycles / 3}))
"""


def ran(tree, cache, *words):
    """(standard output, seconds of CPU, largest resident memory of a process in MB) of Python in a checkout."""
    environment = dict(os.environ, PYTHONPATH=str(tree), HWGEN_CACHE=str(cache))
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, *words], cwd=tree, env=environment, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(words[:4])} in {tree} ended with {process.returncode}")
        return out.read(), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def warm(tree, work):
    """Second runs of the demo, of which the quickest counts."""
    cold = ran(tree, work, "-m", "hwgen", *DEMO)[1]
    return {"cold_run_cpu_seconds": cold, "warm_run_cpu_seconds": min(ran(tree, work, "-m", "hwgen", *DEMO)[1]
                                                                      for _ in range(3))}


def build(tree, work):
    found = json.loads(ran(tree, work, "-c", BUILD)[0])
    return {"demo_emission_cpu_seconds": found["emission"], "demo_build_cpu_seconds": found["build"]}


def emit_memory(tree, work):
    """Peak of the largest process."""
    return {"emit_peak_memory": ran(tree, work, "-m", "hwgen", "emit", *SMOLLM2, "-o", str(work / "emitted"))[2]}


def golden_memory(tree, work):
    return {"golden_peak_memory": ran(tree, work, "-m", "hwgen", "run", *SMOLLM2, "--link", "golden",
                                      "--prompt", "She was",
                                      "--max-tokens", "2")[2]}


def simulation(tree, work):
    found = json.loads(ran(tree, work, "-c", SIMULATION, *SMOLLM2[::2])[0])
    return {"smollm2_simulation_seconds": found["seconds"]}


MEASURES = {measure.__name__: measure for measure in (warm, build, emit_memory, golden_memory, simulation)}
RATIOS = {"smollm2_simulation_seconds": "smollm2_simulation_ratio", "emit_peak_memory": "emit_peak_memory_ratio",
          "golden_peak_memory": "golden_peak_memory_ratio", "demo_build_cpu_seconds": "demo_build_ratio",
          "demo_emission_cpu_seconds": "demo_emission_ratio"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=BASE, metavar="COMMIT", help=f"what it is compared with (default: {BASE})")
    parser.add_argument("--only", choices=MEASURES, action="append", help="measure that alone; may be repeated")
    options = parser.parse_args()
    if {"emit_memory", "golden_memory", "simulation"} & {*(options.only or MEASURES)}:
        get_smollm2.main()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        with tarfile.open(fileobj=io.BytesIO(subprocess.run(["git", "archive", options.base], cwd=ROOT,
                                                            capture_output=True,
                                                            check=True).stdout)) as tar:
            tar.extractall(base, filter="data")
        for name in options.only or MEASURES:
            command = f"python -m tools.bench_waiting --only {name}"
            entries, found = [], []
            for tree in (base, ROOT):
                work = Path(folder) / f"{name}-{'here' if tree == ROOT else 'base'}"
                work.mkdir()
                began = time.monotonic()
                found.append(MEASURES[name](tree, work))
                print(f"{name} of {tree.name}: {found[-1]} ({time.monotonic() - began:.0f} s)", flush=True)
            for what in found[0]:
                unit = "MB" if what.endswith("memory") else "s of CPU"
                entries += [{"name": f"{what}{of}", "value": round(values[what], 2), "unit": unit, "kind": "measured",
                             "command": command}
                            for of, values in ((f"_of_{options.base}", found[0]), ("", found[1]))]
                if what in RATIOS:
                    entries.append({"name": RATIOS[what],
                                    "value": round(found[1][what] / found[0][what], 3), "unit": "",
                                    "kind": "measured", "command": command})
            ledger.record("waiting.json", entries)


if __name__ == "__main__":
    main()
