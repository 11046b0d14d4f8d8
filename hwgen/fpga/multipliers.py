"""An ECP5's multipliers before they are placed: flip-flops around them become their own registers (`absorb`), and
those of a unit get sites beside each other, with the block RAMs that feed them (`arrange`).

**Registers.** A MULT18X18D has a register behind each factor and one for its product. Yosys (0.70) leaves them unused
and makes flip-flops around it, so each bit takes a place and a wire between the two. On a full chip these wires are
what the router has too few of (docs/boards.md).

Flip-flops can become a register if they start at 0, have no reset, the same clock and the same enable, and if nothing
else reads them or what they read. Factors are registered both or not at all, because nextpnr (0.11.1) has no times for
one of them.

Project Trellis' database has no bits that choose the enable of the product's register, and for half of the multipliers
none that choose its reset. So the product's register is always enabled, and whatever the chip may choose is the same:
all resets are 0, and all enables are 1 but for the one that a factor has, which is never the first.

**Sites.** Multipliers and block RAMs stand in a few rows of the chip. Where nearly all are used, nextpnr's analytic
placer puts those of one column of the array anywhere in all rows, and the column's logic between them: on the ULX3S-85F
wires are a quarter shorter with sites that are chosen before (docs/boards.md).
"""
import re
from collections import Counter, defaultdict
from typing import NamedTuple

__all__ = ["absorb", "arrange"]

class _Die(NamedTuple):
    """Rows of multipliers and of block RAMs, and the first columns of their blocks of four."""
    multipliers: tuple
    memories: tuple
    blocks: tuple


#: From Project Trellis' database (tilegrid.json: MIB_DSP0, MIB_EBR0).
_DIES = {"25": _Die((13,), (25, 37), (4, 13, 22, 33, 42, 51, 60)),
         "85": _Die((10, 34, 58), (22, 46, 70, 82), (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114))}
#: Of nextpnr's words for a device.
_DEVICES = {"--12k": "25", "--25k": "25", "--85k": "85", "--um-85k": "85", "--um5g-85k": "85"}
_IN_BLOCK = 0, 1, 4, 5      # columns of a block's multipliers
_HOPS = 9                   # cells between a block RAM and the multipliers that its data go to
_MANY = 40                  # readers of a net that is control, not data
_CONTROL = "CE", "LSR", "RST", "WRE", "CLK", "WCK"
_FEW = 8                    # pins that are not worth a site

_WIDTH = {"A": 18, "B": 18, "P": 36}
_NAMES = {"A": "INPUTA", "B": "INPUTB", "P": "OUTPUT"}
_CONTROLS = 4       # clocks, enables and resets of a multiplier, each


class _Register(NamedTuple):
    """Flip-flops that are one register of a multiplier: ``bits`` {the multiplier's port: flip-flop}, clock, enable
    ("1": always)."""
    bits: dict
    clock: int
    enable: object


def absorb(netlist):
    """Change Yosys' netlist (JSON) of an ECP5 design, flat. Returns the number of flip-flops that it has no more."""
    module = _top(netlist)
    cells = module["cells"]
    drivers, readers = _ends(module)
    before = len(cells)
    for cell in [c for c in cells.values() if c["type"] == "MULT18X18D"]:
        factors = [_factor(cells, cell, side, drivers, readers) for side in "AB"]
        found = dict(zip("AB", factors)) if all(factors) else {}
        if product := _product(cells, cell, readers):
            found["P"] = product
        if found and len({register.clock for register in found.values()}) == 1:
            _take(cells, cell, found)
    return before - len(cells)


def arrange(netlist, device):
    """Choose sites for the multipliers of a netlist on a ``device`` (nextpnr's words): the largest units choose first,
    each in the row that is emptiest; and for the block RAMs whose data go to one such unit, the nearest ones.

    Returns how many cells have a site: none if there are more multipliers than sites. ValueError for a device whose
    sites are not known.
    """
    word = next((word for word in device if word in _DEVICES), None)
    if word is None:
        raise ValueError(f"Device must be one of {', '.join(_DEVICES)}, not {' '.join(device)}")
    die, module = _DIES[_DEVICES[word]], _top(netlist)
    cells, units = module["cells"], defaultdict(list)
    for name, cell in cells.items():
        if cell["type"] == "MULT18X18D":
            units[name.rpartition(".")[0]].append(name)
    if sum(map(len, units.values())) > len(die.multipliers) * len(die.blocks) * len(_IN_BLOCK):
        return 0
    middle, sited = {}, 0
    for row, there in _rows(die, units).items():
        sites = [(block + z, f"X{block + z}/Y{row}/MULT18_{z}") for block in die.blocks for z in _IN_BLOCK]
        for unit, names in there:
            own, sites = sites[:len(names)], sites[len(names):]
            for name, (_, site) in zip(names, own):
                cells[name]["attributes"]["BEL"] = site
            middle.setdefault(unit, (own[len(own) // 2][0], row))
            sited += len(own)
    return sited + _beside(module, die, middle)


def _rows(die, units):
    """{row: [(unit, its multipliers there)] from left to right}: the largest units are in the middle, because most
    logic hangs on them."""
    room = dict.fromkeys(die.multipliers, len(die.blocks) * len(_IN_BLOCK))
    rows = {row: [] for row in room}
    for unit in sorted(units, key=lambda unit: (-len(units[unit]), _natural(unit))):
        names = sorted(units[unit], key=_natural)
        while names:        # in one row, if they have room there
            row = max(room, key=room.get)
            rows[row].append((unit, names[:room[row]]))
            names = names[room[row]:]
            room[row] -= len(rows[row][-1][1])
    return {row: there[1::2][::-1] + there[::2] for row, there in rows.items()}


def _beside(module, die, middle):
    """Sites for block RAMs near the unit that they feed. ``middle`` {unit: place}. Returns how many."""
    free = {(block + 2 * z, row): f"X{block + 2 * z}/Y{row}/EBR{z}" for row in die.memories for block in die.blocks
            for z in range(4)}
    cells, readers = module["cells"], _ends(module)[1]
    reached = {name: _reached(cells, readers, name, middle) for name, cell in cells.items() if cell["type"] == "DP16KD"}
    all_of = sum(reached.values(), Counter())
    sited = 0
    for name in sorted(reached, key=_natural):
        votes = reached[name]
        # a unit that all of them reach says least of where this one should stand
        unit = max(sorted(votes), key=lambda unit: votes[unit] / all_of[unit], default=None)
        if unit is None or 3 * votes[unit] <= votes.total() or votes[unit] < _FEW:
            continue
        x, y = middle[unit]
        nearest = min(free, key=lambda place: (abs(place[0] - x) + abs(place[1] - y), place))
        cells[name]["attributes"]["BEL"] = free.pop(nearest)
        sited += 1
    return sited


def _reached(cells, readers, name, units):
    """{unit: its pins that a block RAM's data reach}"""
    votes, met, front = Counter(), {name}, [name]
    for _ in range(_HOPS):
        reached = []
        for cell in front:
            ports = cells[cell]["connections"].items()
            nets = [net for port, bits in ports if cells[cell]["port_directions"][port] == "output" for net in bits]
            for reader, port in [to for net in nets if len(readers[net]) <= _MANY for to in readers[net]]:
                if reader is None or reader in met or port.startswith(_CONTROL):
                    continue
                unit = reader.rpartition(".")[0]
                if unit in units:
                    votes[unit] += 1
                else:
                    met.add(reader)
                    reached.append(reader)
        front = reached
    return votes


def _natural(name):
    """For an order in which ``column10`` comes behind ``column9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _top(netlist):
    return next(m for m in netlist["modules"].values() if m["attributes"].get("top"))


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


def _port(cell, name):
    return cell["connections"].get(name, ["0"])[0]


def _factor(cells, cell, side, drivers, readers):
    bits = {}
    for port in (f"{side}{i}" for i in range(_WIDTH[side])):
        net = _port(cell, port)
        if net == "0":
            continue
        name, _ = drivers.get(net, (None, None))
        if name is None or len(readers[net]) != 1:
            return None
        bits[port] = name
    return _register(cells, bits)


def _product(cells, cell, readers):
    bits = {}
    for port in (f"P{i}" for i in range(_WIDTH["P"])):
        reading = readers.get(_port(cell, port), [])
        if not reading:
            continue
        (name, what), *others = reading
        if name is None or what != "DI" or others:
            return None
        bits[port] = name
    register = _register(cells, bits)
    return register if register and register.enable == "1" else None


def _take(cells, cell, found):
    """Give ``cell`` the registers, and take their flip-flops away."""
    given, wired = cell["parameters"], cell["connections"]
    enables = {"1": 0}
    for side, register in found.items():
        number = enables.setdefault(register.enable, len(enables))
        given |= {f"REG_{_NAMES[side]}_CLK": "CLK0", f"REG_{_NAMES[side]}_CE": f"CE{number}",
                  f"REG_{_NAMES[side]}_RST": "RST0"}
        for port, name in register.bits.items():
            wired[port] = cells.pop(name)["connections"]["Q" if side == "P" else "DI"]
    given["GSR"] = "DISABLED"
    nets = {number: net for net, number in enables.items()}
    wired |= {"CLK0": [next(iter(found.values())).clock]}
    for number in range(_CONTROLS):
        wired |= {f"CE{number}": [nets.get(number, "1")], f"RST{number}": ["0"]}
    cell["port_directions"] |= dict.fromkeys(wired.keys() - cell["port_directions"].keys(), "input")
