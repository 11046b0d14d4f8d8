"""Combinational paths of emitted Verilog, from its input ports to its output ports: no AXI interface may have one (AMBA
AXI4, A3.2.1)."""
import json

from hwgen.fpga.tools import run_tool

__all__ = ["combinational"]

#: Cells that remember: nothing goes through them within a cycle. Of memories' ports, those that are clocked.
_REGISTERS = ("dff", "sdff", "dffe", "adff", "aldff", "sr", "dlatch", "memwr", "meminit", "check", "print", "scopeinfo")
_SCRIPT = "hierarchy -top {top}\nproc\nflatten\nsimplemap\nwrite_json netlist.json\n"


def combinational(folder, top, clocks=("clk", "aclk")):
    """{output port: [input ports from which a path leads to it]} of the module ``top`` in ``folder``/``top``.v, whose
    other files are beside it.

    Bit by bit, but for arithmetic, where each bit of the result is taken to hang on all of the operands.
    """
    (folder / "paths.ys").write_text(f"read_verilog {top}.v\n{_SCRIPT.format(top=top)}")
    run_tool("yosys", "-q", "paths.ys", folder=folder, log="paths.log")
    return paths(json.loads((folder / "netlist.json").read_text())["modules"][top], clocks)


def paths(module, clocks=()):
    """The same of a flat module in Yosys' JSON."""
    drivers = {}        # bit: the cell that drives it
    for cell in module["cells"].values():
        kind = cell["type"].lstrip("$_").lower()
        if kind.startswith(_REGISTERS) or kind.startswith("memrd") and int(cell["parameters"]["CLK_ENABLE"], 2):
            continue
        directions = cell["port_directions"]
        sources = [bit for port, bits in cell["connections"].items() if directions[port] == "input" for bit in bits
                   if isinstance(bit, int)]
        for port, bits in cell["connections"].items():
            if directions[port] == "output":
                drivers |= dict.fromkeys(bits, sources)
    inputs = {bit: name for name, port in module["ports"].items() if port["direction"] == "input" and name not in clocks
              for bit in port["bits"]}
    found = {}
    for name, port in module["ports"].items():
        if port["direction"] == "output":
            seen, todo = set(), list(port["bits"])
            while todo:
                bit = todo.pop()
                if bit not in seen:
                    seen.add(bit)
                    todo += drivers.get(bit, ())
            if came := sorted({inputs[bit] for bit in seen if bit in inputs}):
                found[name] = came
    return found
