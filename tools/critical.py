"""The slow paths of a design, grouped by the units that they begin and end in.

    python -m tools.critical PLACED.sdf|top.json [--slower NS] [--paths N] [--from UNIT] [--to UNIT]

PLACED.sdf is what nextpnr writes with ``--sdf``, after placing (delays of wires are then estimates) or after routing.
top.json is Yosys' netlist for ECP5 (in a build's folder): then a cell's delay is nextpnr's of speed grade 6, and a
wire's a guess from how many cells hang on it. That takes seconds, and finds long logic; what is long because it goes
across the chip only the placement shows. For each register, memory or multiplier that is reached later than
``--slower`` (by default four fifths of the worst) its slowest path counts. ``levels`` are cells on the way, a carry
chain's as one; ``wire`` is the wires' share of the delay.
"""
import argparse
import json
import math
import re
from collections import defaultdict
from typing import NamedTuple

from hwgen.fpga.floorplan import unit

__all__ = ["Path", "guess", "paths", "read"]

_CONNECT = re.compile(r"\(INTERCONNECT (\S+) (\S+) \([^:]*:[^:]*:([^)]*)\)")
_INSTANCE = re.compile(r"\(INSTANCE (\S+)\)")
_INSIDE = re.compile(r"\(IOPATH (\S+) (\S+) \([^:]*:[^:]*:([^)]*)\)")
_SETUP = re.compile(r"\(SETUPHOLD \(posedge ([^)]+)\) \(posedge ([^)]+)\) \([^:]*:[^:]*:([^)]*)\)")


class Path(NamedTuple):
    """The slowest way to an input that a clock samples: nanoseconds, and [(cell, port, wire's delay, cell's delay)]
    from the register that it leaves."""
    delay: float
    steps: list

    @property
    def levels(self):
        """Cells between the ends; those of a carry chain are one."""
        return sum(port not in ("FCI", "CIN") for _, port, _, _ in self.steps[1:-1])

    @property
    def wire(self):
        return sum(wire for _, _, wire, _ in self.steps)


def read(lines):
    """(arcs within cells: output -> [(input, ns)]; wires: input -> (output, ns); samples: input -> ns; starts: output
    -> ns) of an SDF file."""
    inside, wires, samples, starts, clocks, cell = defaultdict(list), {}, {}, {}, set(), None
    for line in lines:
        line = line.replace("\\", "")
        if found := _CONNECT.search(line):
            wires[found[2]] = found[1], float(found[3]) / 1000
        elif found := _INSTANCE.search(line):
            cell, clocks = found[1], set()
        elif found := _INSIDE.search(line):
            inside[f"{cell}/{found[2]}"].append((f"{cell}/{found[1]}", float(found[3]) / 1000))
        elif found := _SETUP.search(line):
            samples[f"{cell}/{found[1]}"] = float(found[3]) / 1000
            clocks.add(f"{cell}/{found[2]}")
        else:
            continue
        if cell and _SETUP.search(line):
            starts.update(dict.fromkeys(clocks, 0.0))
    return inside, wires, samples, starts


#: Nanoseconds of cells on an ECP5 of speed grade 6, as nextpnr 0.11.1 has them.
_LUT, _CARRY_IN, _CARRY_OUT, _CARRY, _REGISTER, _MEMORY, _MULTIPLIER = 0.24, 0.52, 0.44, 0.07, 0.52, 5.61, 3.93
_SETUP_OF = {"TRELLIS_FF": 0.1, "TRELLIS_DPR16X4": 0.0, "DP16KD": 0.2, "PDPW16KD": 0.2}
_CLOCKS = {"TRELLIS_FF": "CLK", "TRELLIS_DPR16X4": "WCK", "DP16KD": "CLK", "PDPW16KD": "CLK"}


def guess(netlist):
    """What `read` gives, of Yosys' netlist: a wire to n inputs takes 0.9 + 0.22 log2(n) ns, one within a carry chain or
    to the register behind a LUT none."""
    inside, wires, samples, ends = {}, {}, {}, defaultdict(lambda: (None, []))
    for name, cell in netlist["modules"]["top"]["cells"].items():
        kind, ports = cell["type"], [(port, f"{name}/{port}{i if len(bits) > 1 else ''}", bit)
                                     for port, bits in cell["connections"].items()
                                     for i, bit in enumerate(bits) if not isinstance(bit, str)]
        outputs = [(port, pin, bit) for port, pin, bit in ports if cell["port_directions"][port] == "output"]
        inputs = [(port, pin, bit) for port, pin, bit in ports if cell["port_directions"][port] == "input"]
        for _, pin, bit in outputs:
            ends[bit] = pin, ends[bit][1]
        for _, pin, bit in inputs:
            ends[bit][1].append(pin)
        clock = _CLOCKS.get(kind)
        if clock and kind != "TRELLIS_DPR16X4":
            inside |= {pin: [(f"{name}/CLK", _REGISTER if kind == "TRELLIS_FF" else _MEMORY)] for _, pin, _ in outputs}
        elif kind == "CCU2C":
            inside |= {pin: [(other, _CARRY if (by, port) == ("CIN", "COUT") else _CARRY_IN if port == "COUT"
                              else _CARRY_OUT)
                             for by, other, _ in inputs
                             if not (port == "S0" and by.endswith("1"))] for port, pin, _ in outputs}
        elif kind in ("LUT4", "TRELLIS_DPR16X4", "MULT18X18D"):
            inside |= {pin: [(other, _MULTIPLIER if kind == "MULT18X18D" else _LUT) for by, other, _ in inputs
                             if kind != "TRELLIS_DPR16X4"
                             or by == "RAD"]
                       for _, pin, _ in outputs}
        samples |= {pin: _SETUP_OF[kind] for port, pin, _ in inputs if clock and not port.startswith(clock)
                    and port != "RAD"}
    for source, users in ends.values():
        if source:
            delay = 0.9 + 0.22 * math.log2(max(1, len(users)))
            wires |= {pin: (source, 0.0 if pin.endswith("/CIN") or pin.endswith("/DI") and len(users) == 1 else delay)
                      for pin in users}
    return inside, wires, samples, {}


def paths(inside, wires, samples, clocks):
    """The `Path` to each sampled input."""
    clock_ports = {port.rsplit("/", 1)[1] for port in clocks} | {"CLK", "WCK", "CLKA", "CLKB", "CLK0"}
    arrival = {}        # output -> (ns, input that it comes by, of which cell's delay)

    def arrive(output):
        todo = [output]
        while todo:
            at = todo[-1]
            if at in arrival:
                todo.pop()
                continue
            options, missing = [(0.0, None, 0.0)], None
            for port, delay in inside.get(at, ()):
                source, wire = wires.get(port, (None, 0.0))
                if source and source.startswith("$PACKER_"):       # a constant
                    continue
                if port.rsplit("/", 1)[1] in clock_ports:
                    options.append((delay, None, delay))
                elif source in arrival:
                    options.append((arrival[source][0] + wire + delay, port, delay))
                elif source is not None:
                    missing = source
                    break
            if missing in todo:
                raise SystemExit(f"The design must have no loop of logic, not one through {at}")
            if missing:
                todo.append(missing)
            else:
                arrival[at] = max(options, key=lambda option: option[0])
                todo.pop()
        return arrival[output]

    for port, setup in samples.items():
        if port not in wires or port.rsplit("/", 1)[1] in clock_ports:
            continue
        source, wire = wires[port]
        if source.startswith("$PACKER_"):
            continue
        total, steps = arrive(source)[0] + wire + setup, [(*port.rsplit("/", 1), wire, setup)]
        while source:
            _, by, delay = arrival[source]
            before, wire = wires[by] if by else (None, 0.0)
            steps.append((*(by or source).rsplit("/", 1), wire, delay))
            source = before
        yield Path(total, steps[::-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("design", help="an SDF file, or Yosys' netlist in JSON")
    parser.add_argument("--slower", type=float, help="nanoseconds")
    parser.add_argument("--paths", type=int, default=0, help="print so many of the slowest, step by step")
    parser.add_argument("--from", dest="begin", help="of paths that begin in this unit")
    parser.add_argument("--to", dest="end", help="of paths that end in it")
    arguments = parser.parse_args()
    with open(arguments.design, encoding="utf-8") as file:
        found = sorted(paths(*(guess(json.load(file)) if arguments.design.endswith(".json") else read(file))),
                       key=lambda path: -path.delay)
    ends = {id(path): (unit(path.steps[0][0]), unit(path.steps[-1][0])) for path in found}
    slower = found[0].delay * 0.8 if arguments.slower is None else arguments.slower
    chosen = [path for path in found if path.delay > slower
              and all(wanted in (None, end) for wanted, end in zip((arguments.begin, arguments.end), ends[id(path)]))]
    groups = defaultdict(list)
    for path in chosen:
        groups[ends[id(path)]].append(path)
    print(f"{len(chosen)} of {len(found)} ends are reached after {slower:.2f} ns, "
          f"the last after {found[0].delay:.2f} ns")
    print("| from | to | ends | slowest | levels | wire |\n|---|---|---|---|---|---|")
    for (begin, end), of in sorted(groups.items(), key=lambda item: -item[1][0].delay):
        print(f"| {begin} | {end} | {len(of)} | {of[0].delay:.2f} ns | {of[0].levels} | "
              f"{100 * of[0].wire / of[0].delay:.0f} % |")
    for path in chosen[:arguments.paths]:
        print(f"\n{path.delay:.2f} ns")
        for cell, port, wire, delay in path.steps:
            print(f"  {wire:6.2f} {delay:6.2f}  {cell}.{port}")


if __name__ == "__main__":
    main()
