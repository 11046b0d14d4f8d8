"""Whether a mutant differs from its unit at all: a proof for any number of cycles by Yosys and ABC, both from PyPI (pip install 'hwgen[formal]').

The unit and the mutant get the same inputs. They are equivalent if no output ever differs, but for the payload of an offer that is not made (its
``valid`` is 0), and as long as the inputs keep the rule of streams: an offer that was not taken stays, and stays the same.
"""
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

__all__ = ["available", "compare"]

_SCRIPT = """\
read_rtlil mutated.il
read_verilog miter.v
hierarchy -check -top miter
proc -norom
flatten
memory -nomap
memory_map
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


def _miter(top, ports, number):
    """Verilog of a unit beside its mutant: output ``bad``."""
    by_name = {port.name: port for port in ports}
    inputs = [port for port in ports if port.direction == "input"]
    outputs = [port for port in ports if port.direction == "output"]

    def stream(name, part):
        return name.rsplit("__", 1)[0] + f"__{part}" if "__" in name else None
    clock = [] if "clk" in by_name else ["clk"]
    lines = [f"module miter({', '.join([*clock, *(port.name for port in inputs), 'bad'])});", *(f"  input {name};" for name in clock),
             *(f"  input [{port.width - 1}:0] {port.name};" for port in inputs), "  output bad;", "  reg broken = 0;"]
    for copy, mutant in (("a", 0), ("b", number)):
        lines += [f"  wire [{port.width - 1}:0] {copy}_{port.name};" for port in outputs]
        pins = [f".mutant({mutant})", *(f".{p.name}({p.name})" for p in inputs), *(f".{p.name}({copy}_{p.name})" for p in outputs)]
        lines += [f"  {top} {copy}({', '.join(pins)});"]
    differ = []
    for port in outputs:
        valid = by_name.get(stream(port.name, "valid"))
        mask = f" && a_{valid.name}" if port.name.endswith("__payload") and valid in outputs else ""
        differ += [f"(a_{port.name} != b_{port.name}{mask})"]
    wrong = []
    for valid in (port for port in inputs if port.name.endswith("__valid")):
        ready, payload = (by_name.get(stream(valid.name, part)) for part in ("ready", "payload"))
        if ready in outputs:
            reset = " && !rst" if "rst" in by_name else ""
            kept = [f"was_{valid.name} <= {valid.name} && !a_{ready.name}{reset};"]
            lines += [f"  reg was_{valid.name} = 0;"]
            now = [f"!{valid.name}"]
            if payload in inputs:
                lines += [f"  reg [{payload.width - 1}:0] was_{payload.name} = 0;"]
                kept += [f"was_{payload.name} <= {payload.name};"]
                now += [f"{payload.name} != was_{payload.name}"]
            lines += [f"  always @(posedge clk) begin {' '.join(kept)} end"]
            wrong += [f"(was_{valid.name} && ({' || '.join(now)}))"]
    lines += [f"  wire wrong = {' || '.join(wrong) or '0'};", "  always @(posedge clk) broken <= broken || wrong;",
              f"  assign bad = ({' || '.join(differ)}) && !broken && !wrong;", "endmodule", ""]
    return "\n".join(lines)


def compare(folder, top, ports, number, limit):
    """"equivalent", "different" or "open" (out of time). The file mutated.il in ``folder`` has the module ``top`` with all mutants."""
    work = folder / f"proof{number}"
    work.mkdir(exist_ok=True)
    (work / "miter.v").write_text(_miter(top, ports, number))
    (work / "miter.ys").write_text(_SCRIPT)
    shutil.copy(folder / "mutated.il", work)
    try:
        _run([sys.executable, "-c", "from pyosys import libyosys; libyosys.run_pass('script miter.ys', libyosys.Design())"], work, limit)
        said = _run([available(), "-c", f"read_aiger miter.aig; strash; scorr; write_aiger reduced.aig; pdr -T {limit}; print_status"], work, 2 * limit)
    except subprocess.TimeoutExpired:
        return "open"
    finally:
        (work / "mutated.il").unlink()
    size, output, *_ = (work / "reduced.aig").read_bytes().split(b"\n", 2)
    nothing = size.split()[3:] == [b"0", b"1", b"0"] and output == b"0"       # no register, one output, no gate: it is 0
    return "equivalent" if nothing or "Property proved" in said else "different" if re.search(r"was asserted in frame", said) else "open"


def _run(command, folder, limit):
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit, check=True).stdout
