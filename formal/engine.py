"""Proofs and refutations by Yosys and ABC, both from the package pyosys of PyPI."""
import re
import resource
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

__all__ = ["EngineError", "OutOfTime", "Verdict", "abc", "available", "processor_seconds", "solve", "yosys"]


class EngineError(Exception):
    """A tool is missing, failed or said nothing; the message is one line."""


class OutOfTime(EngineError):
    """A tool had no more processor time."""


class Verdict(NamedTuple):
    """``kind``: "proved" (in all cycles), "bounded" (in the first ``depth``), "refuted" (``property``, in cycle
    ``depth``; ``waves`` is the file of a run that shows it) or "open" (out of time). ``seconds``: of processor time."""
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
memory_collect
memory_map
setattr -unset init w:*
cd top
{start}
cd
{others}
opt_clean
setundef -undriven -anyseq
write_rtlil model.il
opt_expr
opt_clean
techmap
dffunmap
aigmap
write_aiger -miter -I -zinit -map top.aim top.aig
"""


#: The state before the first cycle: anything, but that the reset comes.
_RESET = "setattr -set init 1'0 w:started"


def solve(harness, folder, method, only=None, abstract=(), timeout=600):
    """Ask whether the properties of a `Harness` hold. Files go into ``folder``.

    Parameters
    ----------
    method : str        "pdr": property directed reachability, for any number of cycles; "bounded N": the first N
        cycles; "induction K":
                        K-induction, where the verdict "open" comes with a run from a state that may be out of reach
    only : str          one property, instead of all at once
    abstract : tuple    Yosys selections of cells whose outputs are to be free: what is proved then holds whatever these
        cells do
    timeout : float     seconds of ABC
    """
    before = processor_seconds()
    kind, _, number = method.partition(" ")
    number = int(number or 0)

    text = harness.verilog(number if kind == "induction" else 0)
    others = [name for name in harness.properties if only not in (None, name)]

    def ask(command, folder, *start):
        return _ask(text, folder, f"{command} -T {timeout:.0f}", "\n".join(start), others, abstract, timeout)

    if kind == "pdr":
        verdict = ask("pdr", folder, _RESET)
    elif kind == "bounded":
        verdict = ask(f"bmc3 -F {number}", folder, _RESET)
    else:
        stepping = "delete -input w:stepping\nconnect -set stepping 1'{}\nsetattr -set init 0 w:good"
        verdict = ask(f"bmc3 -F {number + 1}", folder, _RESET, stepping.format(0))
        if verdict.kind == "bounded":
            verdict = ask(f"bmc3 -F {number + 1}", folder / "step", "setattr -set init 1'1 w:started",
                          stepping.format(1))
            verdict = verdict._replace(kind={"bounded": "proved"}.get(verdict.kind, "open"))
    return verdict._replace(seconds=processor_seconds() - before)


def _ask(verilog, folder, command, start, others, abstract, timeout):
    """The verdict of ABC, without the properties ``others``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.v").write_text(verilog)
    for image in re.findall(r'"([\w.]+\.hex)"', verilog):      # of a `FileRom`, what is in which must be abstracted
        (folder / image).write_text("0\n")
    yosys(_SCRIPT.format(abstract="\n".join(f"cutpoint {cells}" for cells in abstract), start=start,
                         others="\n".join(f"delete -output w:{name}" for name in others)), folder, "model.log")
    said = abc(f"read_aiger top.aig; strash; {command}; print_status; write_cex -a top.aiw", folder, "prove.log",
               timeout + 60)
    if failed := re.search(r"Output (\d+) of miter \S+ was asserted in frame (\d+)", said):
        return Verdict("refuted", int(failed[2]), _outputs(folder)[int(failed[1])], _waves(folder))
    if "Property proved" in said:
        return Verdict("proved")
    done = re.search(r"No output asserted in (\d+) frames\. Resource limit reached \(conf", said)
    return Verdict("bounded", int(done[1])) if done and f"-F {done[1]} " in command else Verdict("open")


def _outputs(folder):
    """{ABC's number: name} of the model's outputs; those that are constant have none."""
    lines = (line.split() for line in (folder / "top.aim").read_text().splitlines())
    return {int(words[1]): words[3] for words in lines if words[0] == "output"}


def _waves(folder):
    """The VCD of ABC's counterexample."""
    model, names = folder / "model.il", folder / "top.aim"
    # `sim` takes a name with an index for a memory's, and of several names of a bit the last, where it does not find
    # those with a backslash.
    plain = {path: re.sub(r"(?<=\S)\[(\d+)\]", r".\1", path.read_text()) for path in (model, names)}
    model.write_text(plain[model])
    names.write_text("".join(line for line in plain[names].splitlines(keepends=True) if " \\" not in line))
    yosys("read_rtlil model.il\nsim -r top.aiw -map top.aim -vcd counterexample.vcd -clock clock", folder, "waves.log")
    return folder / "counterexample.vcd"


def yosys(script, folder, log, seconds=None):
    """Run Yosys' commands in a folder, with at most some seconds of processor time. Returns what it says, which is in
    the file ``log`` too."""
    (folder / "script.ys").write_text(script)
    return _run([sys.executable, "-c", "from pyosys import libyosys; libyosys.run_pass('script script.ys', "
                                       "libyosys.Design())"], folder,
                log, "Yosys", seconds)


def abc(commands, folder, log, seconds=None):
    """The same of ABC's commands."""
    return _run([str(_package() / "yosys-abc"), "-c", commands], folder, log, "ABC", seconds)


def available():
    """Whether the tools are installed."""
    return find_spec("pyosys") is not None


def _package():
    if not available():
        raise EngineError("Yosys and ABC are not installed: pip install 'hwgen[formal]'")
    return Path(find_spec("pyosys").origin).parent


def _run(words, folder, log, name, seconds):
    _package()
    most = resource.RLIM_INFINITY if seconds is None else int(seconds)
    with open(folder / log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    said = (folder / log).read_text(encoding="utf-8", errors="replace")
    if code == -signal.SIGXCPU:
        raise OutOfTime(f"{name} took more than {seconds} s of processor time (see {folder / log})")
    if code:
        why = [line for line in said.splitlines() if "ERROR" in line] or said.splitlines()[-1:] or [f"exit code {code}"]
        raise EngineError(f"{name} failed: {why[-1].strip()} (see {folder / log})")
    return said


def processor_seconds():
    """Of this process, and of those that it ran and that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage,
                                                             (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
