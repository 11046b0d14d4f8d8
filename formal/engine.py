"""Proofs and refutations by Yosys and ABC, both from the package pyosys of PyPI."""
import re
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

__all__ = ["EngineError", "Verdict", "processor_seconds", "solve"]


class EngineError(Exception):
    """A tool is missing, failed or said nothing; the message is one line."""


class Verdict(NamedTuple):
    """``kind``: "proved" (in all cycles), "bounded" (in the first ``depth``), "refuted" (``property``, in cycle ``depth``; ``waves`` is the file
    of a run that shows it) or "open" (out of time). ``seconds``: of processor time."""
    kind: str
    depth: int = 0
    property: str = ""
    waves: Path | None = None
    seconds: float = 0.0


_SCRIPT = """\
read_verilog top.v
hierarchy -check -top top
proc -norom
flatten
{abstract}
memory -nomap
memory_map
{peeks}
setattr -unset init w:* w:started %d
{others}
opt_clean
setundef -undriven -anyseq
write_rtlil model.il
opt_expr
opt_clean
techmap
dffunmap
aigmap
opt_clean
write_aiger -miter -I -zinit -map top.aim top.aig
"""


def solve(harness, folder, method, only=None, abstract=(), timeout=600):
    """Ask whether the properties of a `Harness` hold. Files go into ``folder``.

    Parameters
    ----------
    method : str        "pdr": property directed reachability, for any number of cycles; "induction K": K-induction; "bounded N": the first N cycles
    only : str          one property, instead of all at once
    abstract : tuple    Yosys selections of cells whose outputs are to be free: what is proved then holds whatever these cells do
    timeout : float     seconds of ABC
    """
    folder.mkdir(parents=True, exist_ok=True)
    before, properties = processor_seconds(), [only] if only else harness.properties
    (folder / "top.v").write_text(harness.verilog())
    peeks = [f"delete -input w:{name}\nconnect -set {name} \\{path}" for name, path in harness.peeks.items()]
    others = [f"delete -output w:{name}" for name in harness.properties if name not in properties]
    script = _SCRIPT.format(abstract="\n".join(f"cutpoint {cells}" for cells in abstract), peeks="\n".join(["cd top", *peeks, "cd"]),
                            others="\n".join(others))
    _yosys(script, folder, "model.log")
    kind, _, number = method.partition(" ")
    frames = f"bmc3 -T {timeout:.0f} -F {number}"
    said = _abc({"pdr": f"pdr -T {timeout:.0f}", "bounded": frames, "induction": frames}[kind], folder, "prove.log", timeout)
    if failed := re.search(r"Output (\d+) of miter \S+ was asserted in frame (\d+)", said):
        return Verdict("refuted", int(failed[2]), _outputs(folder)[int(failed[1])], _waves(folder), processor_seconds() - before)
    proved = "Property proved" in said
    done = re.search(rf"No output asserted in {number} frames\. Resource limit reached \(conf", said) if kind != "pdr" else None
    if kind == "induction" and done:
        proved = "Networks are equivalent" in _abc(f"orpos; ind -F {number} -T {timeout:.0f}", folder, "induction.log", timeout)
        done = None
    return Verdict("proved" if proved else "bounded" if done else "open", int(number or 0), "", None, processor_seconds() - before)


def _outputs(folder):
    """Names of the model's outputs, in ABC's order."""
    return [line.split()[3] for line in (folder / "top.aim").read_text().splitlines() if line.startswith("output ")]


def _waves(folder):
    """The VCD of ABC's counterexample."""
    _yosys("read_rtlil model.il\nsim -r top.aiw -map top.aim -vcd counterexample.vcd -clock clock", folder, "waves.log")
    return folder / "counterexample.vcd"


def _yosys(script, folder, log):
    (folder / "script.ys").write_text(script)
    _run([sys.executable, "-c", "from pyosys import libyosys; libyosys.run_pass('script script.ys', libyosys.Design())"], folder, log, "Yosys", None)


def _abc(commands, folder, log, timeout):
    commands = f"read_aiger top.aig; strash; {commands}; print_status; write_cex -a top.aiw"
    return _run([str(_package() / "yosys-abc"), "-c", commands], folder, log, "ABC", timeout + 60)


def _package():
    found = find_spec("pyosys")
    if found is None:
        raise EngineError("Yosys and ABC are not installed: pip install 'hwgen[formal]'")
    return Path(found.origin).parent


def _run(words, folder, log, name, timeout):
    _package()
    with open(folder / log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
    said = (folder / log).read_text(encoding="utf-8", errors="replace")
    if code:
        why = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines()[-1:] or [f"exit code {code}"]
        raise EngineError(f"{name} failed: {why[-1].strip()} (see {folder / log})")
    return said


def processor_seconds():
    """Of this process, and of those that it ran and that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
