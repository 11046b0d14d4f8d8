"""An ECP5's multipliers before they are placed: flip-flops before them become their own registers (`absorb`), and
those of a unit get sites beside each other (`arrange`).

**Registers.** A MULT18X18D has a register behind each factor. Yosys (0.70) leaves them unused and makes flip-flops
before it, so each bit takes a place and a wire between the two. On a full chip these wires are what the router has too
few of (docs/boards.md).

Flip-flops can become a factor's register if they start at 0, have no reset, the same clock and the same enable, and if
nothing but that factor reads them. Both factors are registered or none, because nextpnr (0.11.1) has no times for one.
The product has a register too, which stays unused: Project Trellis' database has no bits that choose its enable, and
for half of the multipliers none that choose its reset.

**Sites.** Multipliers stand in a few rows of the chip. Where nearly all are used, nextpnr's analytic placer puts those
of one column of the array anywhere in all rows, and the column's logic between them: on the ULX3S-85F wires are a
quarter shorter with sites that are chosen before (docs/boards.md).
"""
import re
from collections import defaultdict
from typing import NamedTuple

__all__ = ["absorb", "arrange"]


class _Die(NamedTuple):
    """Rows of multipliers, and the first columns of their blocks of four."""
    rows: tuple
    blocks: tuple


#: From Project Trellis' database (tilegrid.json: MIB_DSP0).
_DIES = {"25": _Die((13,), (4, 13, 22, 33, 42, 51, 60)),
         "85": _Die((10, 34, 58), (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114))}
#: Of nextpnr's words for a device.
_DEVICES = {"--12k": "25", "--25k": "25", "--85k": "85", "--um-85k": "85", "--um5g-85k": "85"}
_IN_BLOCK = 0, 1, 4, 5      # columns of a block's multipliers

_FACTOR = 18
_NAMES = {"A": "INPUTA", "B": "INPUTB"}


class _Register(NamedTuple):
    """Flip-flops that are one register of a multiplier: ``bits`` {the multiplier's port: flip-flop}, of which one may
    be the sign of several; clock, enable ("1": always)."""
    bits: dict
    clock: int
    enable: object


def absorb(netlist):
    """Change Yosys' netlist (JSON) of an ECP5 design, a flat module ``top``. Returns the number of flip-flops that it
    has no more."""
    module = netlist["modules"]["top"]
    cells = module["cells"]
    drivers, readers = _ends(module)
    before = len(cells)
    for name, cell in [found for found in cells.items() if found[1]["type"] == "MULT18X18D"]:
        factors = {side: _factor(cells, name, side, drivers, readers) for side in _NAMES}
        if all(factors.values()) and len({register.clock for register in factors.values()}) == 1:
            _take(cells, cell, factors)
    return before - len(cells)


def arrange(netlist, device):
    """Choose sites for the multipliers of a netlist on a ``device`` (nextpnr's words).

    Returns how many have one: none if there are more multipliers than sites. ValueError for a device whose sites are
    not known.
    """
    word = next((word for word in device if word in _DEVICES), None)
    if word is None:
        raise ValueError(f"Device must be one of {', '.join(_DEVICES)}, not {' '.join(device)}")
    die, cells, units = _DIES[_DEVICES[word]], netlist["modules"]["top"]["cells"], defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "MULT18X18D":
            units[name.rpartition(".")[0]].append(name)
    if sum(map(len, units.values())) > len(die.rows) * len(die.blocks) * len(_IN_BLOCK):
        return 0
    for row, names in _rows(die, units).items():
        sites = [f"X{block + z}/Y{row}/MULT18_{z}" for block in die.blocks for z in _IN_BLOCK]
        for name, site in zip(names, sites):
            cells[name]["attributes"]["BEL"] = site
    return sum(map(len, units.values()))


def _rows(die, units):
    """{row: its multipliers from left to right}: first the engines', which exist once, then the array's columns, large
    units before small ones, each in the row that is emptiest."""
    room = dict.fromkeys(die.rows, len(die.blocks) * len(_IN_BLOCK))
    rows = {row: [] for row in room}
    for unit in sorted(units, key=lambda unit: (".array." in unit, -len(units[unit]), _natural(unit))):
        names = sorted(units[unit], key=_natural)
        while names:        # in one row, if one has room for them
            row = max(room, key=room.get)
            rows[row] += names[:room[row]]
            names, room[row] = names[room[row]:], room[row] - len(names[:room[row]])
    return rows


def _natural(name):
    """For an order in which ``column10`` comes behind ``column9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _ends(module):
    """({net: (cell, port) that drives it}, {net: [(cell, port) that read it]}); the design's own ports read too."""
    drivers, readers = {}, defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            for bit in bits:
                if cell["port_directions"][port] == "output":
                    drivers[bit] = name, port
                else:
                    readers[bit].append((name, port))
    for port, found in module["ports"].items():
        for bit in found["bits"]:
            readers[bit].append((None, port))
    return drivers, readers


def _register(cells, bits):
    """The `_Register` of {port: name of its flip-flop}, or None if a multiplier's is not the same."""
    kinds = set()
    for name in bits.values():
        if name not in cells:       # another multiplier has it
            return None
        cell = cells[name]
        given, wired = cell["parameters"], cell["connections"]
        enable = given.get("CEMUX", "CE").strip()       # Yosys writes "1 ", lest it be read as a number
        if enable == "CE":
            enable = wired.get("CE", ["1"])[0]
        if (cell["type"], given.get("CLKMUX"), given.get("LSRMUX"), given.get("REGSET")) \
                != ("TRELLIS_FF", "CLK", "LSR", "RESET") or wired.get("LSR", ["0"]) != ["0"] or enable in ("INV", "0"):
            return None
        kinds.add((wired["CLK"][0], enable))
    return _Register(bits, *kinds.pop()) if len(kinds) == 1 else None


def _factor(cells, multiplier, side, drivers, readers):
    bits, ports = {}, {f"{side}{i}" for i in range(_FACTOR)}
    for port in sorted(ports):
        net = cells[multiplier]["connections"].get(port, ["0"])[0]
        if net == "0":
            continue
        name, _ = drivers.get(net, (None, None))
        if name is None or any(reader != multiplier or at not in ports for reader, at in readers[net]):
            return None
        bits[port] = name
    return _register(cells, bits)


def _take(cells, cell, factors):
    """Give ``cell`` the registers, and take their flip-flops away."""
    given, wired = cell["parameters"], cell["connections"]
    enables = {}
    for side, register in factors.items():
        number = enables.setdefault(register.enable, len(enables))
        given |= {f"REG_{_NAMES[side]}_CLK": "CLK0", f"REG_{_NAMES[side]}_CE": f"CE{number}",
                  f"REG_{_NAMES[side]}_RST": "RST0"}
        for port, name in register.bits.items():
            wired[port] = cells[name]["connections"]["DI"]
    for name in {name for register in factors.values() for name in register.bits.values()}:
        del cells[name]
    given["GSR"] = "DISABLED"
    # An open reset of the chip is 1.
    wired |= {"CLK0": [factors["A"].clock], "RST0": ["0"],
              **{f"CE{number}": [net] for net, number in enables.items()}}
    cell["port_directions"] |= dict.fromkeys(wired.keys() - cell["port_directions"].keys(), "input")
