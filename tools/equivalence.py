"""Whether a mutant differs from its unit at all: a proof for any number of cycles by Yosys and ABC, both from PyPI (pip install 'hwgen[formal]').

The unit and the mutant get the same inputs. They are equivalent if no output ever differs, but for the payload of an offer that is not made (its
``valid`` is 0), and as long as the inputs keep the rule of streams: an offer that was not taken stays, and stays the same.

Memories are taken out: what is written to them must be the same too, and where they are read; then what they answer is. That is more than is asked for,
so of a unit with memories it is not said that a mutant is different.
"""
import re
import resource
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from hwgen.lib.verilog import Port

__all__ = ["available", "compare"]

_PREPARE = """\
read_rtlil mutated.il
hierarchy -check -top {top}
proc -norom
flatten
memory -nomap
opt_clean
select -set written t:$mem_v2 r:WR_PORTS>0 %i
expose -evert @written
memory_map
opt_clean
write_rtlil prepared.il
tee -q -o ports.txt portlist {top}
"""
_COMPARE = """\
read_rtlil ../prepared.il
read_verilog miter.v
hierarchy -check -top miter
proc -norom
flatten
opt_expr
opt_clean
opt_merge -share_all
opt_clean
async2sync
techmap
dffunmap
opt_merge -share_all
aigmap
opt_clean
setundef -undriven -zero
write_aiger -I -zinit miter.aig
"""


def available():
    """ABC's program, or None."""
    found = find_spec("pyosys")
    return Path(found.origin).parent / "yosys-abc" if found else None


def _prepared(text):
    """Ports in the words of Yosys' ``portlist``."""
    return [Port(name.lstrip("\\"), direction, abs(int(high) - int(low)) + 1)
            for direction, high, low, name in re.findall(r"^(input|output) \[(-?\d+):(-?\d+)\] (\S+)$", text, re.MULTILINE)]


def _miter(top, ports, number):
    """Verilog of a unit beside its mutant: output ``bad``."""
    ports = [port for port in ports if port.name != "mutant"]
    by_name = {port.name: port for port in ports}
    inputs = [port for port in ports if port.direction == "input"]
    outputs = [port for port in ports if port.direction == "output"]

    def stream(name, part):
        return by_name.get(name.rsplit("__", 1)[0] + f"__{part}") if "__" in name else None
    clock = [] if "clk" in by_name else ["clk"]
    header = ", ".join([*clock, *(f"\\{port.name} " for port in inputs), "bad"])
    lines = [f"module miter({header});", *(f"  input {name};" for name in clock),
             *(f"  input [{port.width - 1}:0] \\{port.name} ;" for port in inputs), "  output bad;", "  reg broken = 0;"]
    for copy, mutant in (("a", 0), ("b", number)):
        lines += [f"  wire [{port.width - 1}:0] \\{copy}_{port.name} ;" for port in outputs]
        pins = [f".mutant({mutant})", *(f".\\{p.name} (\\{p.name} )" for p in inputs), *(f".\\{p.name} (\\{copy}_{p.name} )" for p in outputs)]
        lines += [f"  {top} {copy}({', '.join(pins)});"]
    differ = []
    for port in outputs:
        valid, enable = stream(port.name, "valid"), by_name.get(re.sub("WR_(DATA|ADDR)$", "WR_EN", port.name))
        if port.name.endswith("__payload") and valid in outputs:
            differ += [f"(\\a_{port.name} != \\b_{port.name} && \\a_{valid.name} )"]
        elif port.name.endswith("WR_DATA") and enable in outputs:       # what bits of a memory are not written is nobody's concern
            differ += [f"(|((\\a_{port.name} ^ \\b_{port.name} ) & \\a_{enable.name} ))"]
        elif port.name.endswith("WR_ADDR") and enable in outputs:
            differ += [f"(\\a_{port.name} != \\b_{port.name} && |\\a_{enable.name} )"]
        else:
            differ += [f"(\\a_{port.name} != \\b_{port.name} )"]
    wrong = []
    for valid in (port for port in inputs if port.name.endswith("__valid")):
        ready, payload = (stream(valid.name, part) for part in ("ready", "payload"))
        if ready in outputs:
            reset = " && !rst" if "rst" in by_name else ""
            kept = [f"\\was_{valid.name} <= \\{valid.name} && !\\a_{ready.name} {reset};"]
            lines += [f"  reg \\was_{valid.name} = 0;"]
            now = [f"!\\{valid.name} "]
            if payload in inputs:
                lines += [f"  reg [{payload.width - 1}:0] \\was_{payload.name} = 0;"]
                kept += [f"\\was_{payload.name} <= \\{payload.name} ;"]
                now += [f"\\{payload.name} != \\was_{payload.name} "]
            lines += [f"  always @(posedge clk) begin {' '.join(kept)} end"]
            wrong += [f"(\\was_{valid.name} && ({' || '.join(now)}))"]
    lines += [f"  wire wrong = {' || '.join(wrong) or '0'};", "  always @(posedge clk) broken <= broken || wrong;",
              f"  assign bad = ({' || '.join(differ)}) && !broken && !wrong;", "endmodule", ""]
    return "\n".join(lines)


def compare(folder, top, number, limit):
    """"equivalent", "different" or "open" (out of time, of which there are ``limit`` seconds for each of two steps, or nothing was found).

    The file mutated.il in ``folder`` has the module ``top`` with all mutants.
    """
    work = folder / f"proof{number}"
    work.mkdir(exist_ok=True)
    try:
        if not (folder / "ports.txt").exists():
            _yosys(_PREPARE.format(top=top), folder, 10 * limit)
        ports = _prepared((folder / "ports.txt").read_text())
        (work / "miter.v").write_text(_miter(top, ports, number))
        _yosys(_COMPARE, work, limit)
        said = _run([available(), "-c", f"read_aiger miter.aig; strash; scorr; write_aiger reduced.aig; pdr -T {limit}; print_status"], work, 2 * limit)
    except subprocess.CalledProcessError as error:
        if error.returncode != -signal.SIGXCPU:
            raise
        return "open"
    size, output, *_ = (work / "reduced.aig").read_bytes().split(b"\n", 2)
    nothing = size.split()[3:] == [b"0", b"1", b"0"] and output == b"0"       # no register, one output, no gate: it is 0
    if nothing or "Property proved" in said:
        return "equivalent"
    return "different" if "was asserted in frame" in said and not any(port.name.endswith("RD_DATA") for port in ports) else "open"


def _yosys(script, folder, limit):
    (folder / "script.ys").write_text(script)
    _run([sys.executable, "-c", "from pyosys import libyosys; libyosys.run_pass('script script.ys', libyosys.Design())"], folder, limit)


def _run(command, folder, limit):
    """What a program says; CalledProcessError if it fails, or takes more than some seconds of processor time."""
    return subprocess.run([str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))).stdout
