"""A proof that two texts of Verilog are the same machine in all cycles from the first on, by Yosys and ABC; and units
of which texts are proved."""
import re

from formal import engine
from hwgen.params.axi import AxiShape
from hwgen.params.registers import register_map
from hwgen.top import make
from hwgen.units.axi_registers import AxiRegisters

QUEUE = AxiShape(data_width=64, address_width=40, host="queue")
UNITS = {"convert": make.convert, "decode_loop": make.decode_loop, "feeder": make.feeder, "kv_cache": make.kv_cache,
         "sampler": make.sampler, "swiglu": make.swiglu,
         "axi_reader": lambda design: make.axi_reader(design, QUEUE),
         "axi_registers": lambda design: AxiRegisters(register_map(design, QUEUE))}
#: Memories are taken out: what goes into them must be the same, and what comes out is an input.
#: What nothing drives is 0 in the one text and 1 in the other.
_READ = """\
read_verilog {name}.v
hierarchy -check -top top
proc -norom
flatten
memory -nomap
opt_clean
tee -q -o {name}.txt dump t:$mem_v2
expose -evert t:$mem_v2
opt_clean
setundef -zero
setundef -undriven {undriven}
setundef -init -zero
rename top {name}
design -stash {name}
"""
_BOTH = """\
design -copy-from before -as before before
design -copy-from after -as after after
miter -equiv -flatten before after miter
hierarchy -top miter
chtype -set $eq t:$eqx
async2sync
techmap
dffunmap
aigmap
opt_clean
setundef -zero
write_aiger -I -zinit miter.aig
"""


def same(before, after, folder):
    """Whether two texts of the module ``top`` are one machine."""
    for name, text in (("before", before), ("after", after)):       # a simulator does not know full_case
        (folder / f"{name}.v").write_text(re.sub(r"\(\* full_case.*?\*\)", "", text))
    read = [_READ.format(name=name, undriven=value) for name, value in (("before", "-zero"), ("after", "-one"))]
    engine.yosys("".join([*read, _BOTH]), folder, "miter.log")
    said = engine.abc("read_aiger miter.aig; zero; scleanup; lcorr; scleanup; write_aiger reduced.aig; "
                      "scorr; write_aiger reduced.aig; pdr -T 60; print_status", folder, "prove.log")
    size, output, *_ = (folder / "reduced.aig").read_bytes().split(b"\n", 2)
    nothing = size.split()[3:] == [b"0", b"1", b"0"] and output == b"0"     # no register, one output, no gate: it is 0
    return _memories(folder / "before.txt") == _memories(folder / "after.txt") and (nothing
                                                                                    or "Property proved" in said)


def _memories(file):
    """Parameters of the memories, their contents among them."""
    return sorted(tuple(re.findall(r"parameter .*", cell)) for cell in file.read_text().split("cell $mem_v2")[1:])
