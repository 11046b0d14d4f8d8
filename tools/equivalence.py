"""Whether a mutant differs from its unit at all: a proof for any number of cycles by Yosys and ABC, both from PyPI (pip
install 'hwgen[formal]').

The unit and the mutant get the same inputs. They are equivalent if no output ever differs, but for the payload of an
offer that is not made (its ``valid`` is 0), and as long as the inputs keep the rule of streams: an offer that was not
taken stays, and stays the same.

Memories that are written, and large ones, are taken out: what is written to them must be the same too, and where they
are read; then what they answer is. That is more than is asked for, so of a unit with memories it is not said that a
mutant is different.
"""
import re

from formal import engine
from hwgen.lib.verilog import Port

__all__ = ["compare"]

_PREPARE = """\
read_rtlil mutated.il
setattr -unset src */t:* */w:* */m:*
hierarchy -check -top {top}
proc -norom
{apart}
flatten
memory -nomap
opt_clean
select -set away t:$mem_v2 r:WR_PORTS>0 %i t:$mem_v2 r:SIZE>64 %i %u
expose -evert @away
memory_map
setundef -undriven -zero
setundef -init -zero
opt_expr
opt_clean
tee -q -o ports.txt portlist {top}
async2sync
techmap
dffunmap
aigmap
opt_merge
opt_clean
write_rtlil prepared.il
"""
_MITER = """\
read_rtlil prepared.il
read_verilog miter.v
hierarchy -check -top miter
proc -norom miter
techmap miter
aigmap miter
flatten
opt_clean
setundef -undriven -zero
write_aiger -I -zinit -map miter.aim miter.aig
"""


def _prepared(text):
    """Ports in the words of Yosys' ``portlist``."""
    return [Port(name.lstrip("\\"), direction, abs(int(high) - int(low)) + 1)
            for direction, high, low, name in re.findall(r"^(input|output) \[(-?\d+):(-?\d+)\] (\S+)$", text,
                                                         re.MULTILINE)]


def _miter(top, ports):
    """Verilog of a unit beside one of its mutants, the register ``which`` says of which: output ``bad``."""
    width = next(port.width for port in ports if port.name == "mutant")
    ports = [port for port in ports if port.name != "mutant"]
    by_name = {port.name: port for port in ports}
    inputs = [port for port in ports if port.direction == "input"]
    outputs = [port for port in ports if port.direction == "output"]

    def stream(name, part):
        return by_name.get(name.rsplit("__", 1)[0] + f"__{part}") if "__" in name else None
    clock = [] if "clk" in by_name else ["clk"]
    header = ", ".join([*clock, *(f"\\{port.name} " for port in inputs), "bad"])
    lines = [f"module miter({header});", *(f"  input {name};" for name in clock),
             *(f"  input [{port.width - 1}:0] \\{port.name} ;" for port in inputs), "  output bad;",
             "  reg broken = 0;",
             f"  (* keep *) reg [{width - 1}:0] which = 0;", "  always @(posedge clk) which <= which;"]
    for copy, mutant in (("a", "0"), ("b", "which")):
        lines += [f"  wire [{port.width - 1}:0] \\{copy}_{port.name} ;" for port in outputs]
        pins = [f".mutant({mutant})", *(f".\\{p.name} (\\{p.name} )"
                                        for p in inputs), *(f".\\{p.name} (\\{copy}_{p.name} )" for p in outputs)]
        lines += [f"  {top} {copy}({', '.join(pins)});"]
    differ = []
    for port in outputs:
        if port.name.endswith("_CLK"):      # of a memory that was taken out
            continue
        valid, enable = stream(port.name, "valid"), by_name.get(re.sub("WR_(DATA|ADDR)$", "WR_EN", port.name))
        if port.name.endswith("__payload") and valid in outputs:
            differ += [f"(\\a_{port.name} != \\b_{port.name} && \\a_{valid.name} )"]
        elif port.name.endswith("WR_DATA") and enable in outputs:       # of a memory, the bits that are written
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


def _apart(top, parts, models):
    ours = "".join(f" {top}/t:{top}{part} %d" for part in parts if part)
    theirs = "".join(f" {top}/t:{name} %u" for name in models)
    return f"select -set others {top}/t:{top}_*{ours}{theirs}\nexpose -evert @others" if parts else ""


def compare(folder, top, number, limit, parts=(), models=()):
    """"equivalent", "different" or "open" (out of time, of which there are ``limit`` seconds, or nothing was found).

    The file mutated.il in ``folder`` has the module ``top`` with all mutants. With ``parts``, patterns of the names of
    modules as they follow on the top's, all other modules in the top are taken out as memories are; so are modules of
    the names ``models``.
    """
    work = folder / f"proof{number}"
    work.mkdir(exist_ok=True)
    (work / "reduced.aig").unlink(missing_ok=True)
    if not (folder / "miter.aig").exists():
        engine.yosys(_PREPARE.format(top=top, apart=_apart(top, parts, models)), folder, "prepare.log")
        (folder / "miter.v").write_text(_miter(top, _prepared((folder / "ports.txt").read_text())))
        engine.yosys(_MITER, folder, "miter.log")
    (work / "miter.aig").write_bytes(_of((folder / "miter.aig").read_bytes(),
                                         (folder / "miter.aim").read_text(), number))
    try:
        said = engine.abc(f"read_aiger miter.aig; zero; scleanup; lcorr; scleanup; write_aiger reduced.aig; scorr; "
                          f"write_aiger "
                          f"reduced.aig; pdr -T {limit}; print_status", work, "prove.log", 2 * limit)
    except engine.OutOfTime:
        return "open"
    size, output, *_ = (work / "reduced.aig").read_bytes().split(b"\n", 2)
    # no register, one output, no gate: it is 0
    nothing = size.split()[3:] == [b"0", b"1", b"0"] and output == b"0"
    if nothing or "Property proved" in said:
        return "equivalent"
    failed = "was asserted in frame" in said and "RD_DATA" not in (folder / "ports.txt").read_text()
    return "different" if failed else "open"


def _of(miter, names, number):
    """The AIGER text of a miter with the register ``which`` beginning with a number: a line of a latch is `next state
    [begin]`."""
    lines = miter.split(b"\n", 1 + int(miter.split(None, 4)[3]))
    for latch, bit in re.findall(r"^latch (\d+) (\d+) which$", names, re.MULTILINE):
        lines[1 + int(latch)] = lines[1 + int(latch)].split()[0] + f" {number >> int(bit) & 1}".encode()
    return b"\n".join(lines)
