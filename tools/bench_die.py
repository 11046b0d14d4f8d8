#!/usr/bin/env python3
"""A die for Llama-3.1-8B at 17,000 tokens/s of one user beside the published chip: transistors by part and a weight.
All is projected.

``--costs`` writes hwgen/plan/transistors.json from docs/results/column.json and synth.json: what a multiplier takes,
and for each unit a straight line through its two machines, over the lines of LUTs that the planner has. Where a unit
grew more than in proportion, its growth goes on; where less, the proportion. What adapters add is such a line too, of
the same two machines with room for some (``python -m tools.synth_report --blocks --shapes "4x4 adapters,8x16 adapters"
--targets cmos``), over what their units grow with. ``--expanders`` synthesizes what makes a
code of a column's format of an E2M1 code and its block's offset, for docs/results/die.json, which --costs reads too.
"""
import argparse
import json

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.fp8_dot import expand_e2m1
from hwgen.lib.verilog import emit_verilog
from hwgen.params.formats import E2M1
from hwgen.params.hardware import block_ranges
from hwgen.params.model import PRESETS
from hwgen.params.presets import recipe
from hwgen.plan import costs
from hwgen.plan.die import die, plan
from hwgen.plan.die_logic import TABLE
from hwgen.plan.die_report import bits_of, of_bits, operations_a_second, rows_beside
from hwgen.plan.published import ARITHMETIC, HC1, chips_for, matrix_units
from tools import ledger, synth
from tools.synth_report import BLOCKS, SHAPES, design

FORMATS = ("e2m1", "e3m1", "e4m1", "e3m4", "e4m3")
MEASURED = ("4x4", "8x16")
CASES = {"e2m1": {}, "e2m1, 1,024 positions": {"context": 1024}, "e2m1, 8,192 positions": {"context": 8192},
         "e2m1, 8 users at 5,000 each": {"users": 8, "tokens": 5000.0},
         "e2m1 without blocks": {"recipe": recipe("weights=e2m1,block_range=0")}, "e3m4": {"recipe": recipe("e3m4")}}


#: What adapters add -> the unit that it is in, and what it grows with, of a `Design`.
ADAPTERS = {"column": ("column", lambda d: d.acc_bits), "tiles": ("adapters", lambda d: d.adapter_map.kept_bits),
            "sums": ("adapter_sums", lambda d: d.hw.vector_lanes), "xz": ("xz", lambda d: d.hw.lanes),
            "feeder": ("feeder", lambda d: 1), "decoder": ("decoder", lambda d: d.hw.vector_lanes)}


class Expander(wiring.Component):
    """A code of a column's format, of an E2M1 code and its block's offset."""

    def __init__(self, fmt):
        self._fmt = fmt
        super().__init__({"code": In(E2M1.bits), "offset": In(block_ranges()[fmt].bit_length()), "o": Out(fmt.bits)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(expand_e2m1(m, self._fmt, self.code, self.offset, name="code"))
        return m


def expanders():
    """Rows of the ledger: transistors of an `Expander` into each format that has room for offsets."""
    for fmt, most in block_ranges().items():
        if most:
            found = synth.synthesize(synth.Unit(str(fmt), emit_verilog(Expander(fmt), "top")), "cmos")
            yield {"name": f"expander_{fmt}", "value": found["transistors"], "unit": "transistors", "kind": "measured",
                   "command": "python -m tools.bench_die --expanders"}


def line(points):
    """[base, slope] of two machines' (what a unit grows with, its count)."""
    (low, a), (high, b) = points
    grown = (b - a) / (high - low) if high > 1.1 * low else 0
    slope = max(grown, b / high) if high else 0
    return [round(b - slope * high, 2), round(slope, 3)]


def of_adapters(made):
    """What a machine with adapters has more than one without, part by part."""
    shapes, found = [(shape, design(BLOCKS[f"{shape} adapters"])) for shape in MEASURED], {}
    for part, (unit, grows) in ADAPTERS.items():
        found[part] = {kind: line([(grows(of), made[f"{shape} adapters/{unit}/{name}"]
                                    - made.get(f"{shape}/{unit}/{name}", 0)) for shape, of in shapes])
                       for kind, name in (("transistors", "cmos transistors"), ("FF", "cmos FF"))}
    return found


def table():
    """What `hwgen.plan.die_logic.measured` reads."""
    column = {entry["name"]: entry["value"] for entry in ledger.load("column.json")}
    made = {entry["name"]: entry["value"] for entry in ledger.load("synth.json")}
    units, designs = {}, [design(SHAPES[shape]) for shape in MEASURED]
    lines = [costs.logic(of, "ecp5") for of in designs]
    for unit in lines[0]:
        units[unit] = {}
        for kind, resource, name in (("transistors", "LUT", "cmos transistors"), ("FF", "FF", "cmos FF")):
            luts = (found[unit][resource] / max(1, costs.counts(unit, of)) for found, of in zip(lines, designs))
            units[unit][kind] = line(list(zip(luts, (made.get(f"{shape}/{unit}/{name}", 0) for shape in MEASURED))))
    multipliers = {fmt: {"transistors": column[f"column8_{fmt}_transistors_per_mac"],
                         "FF": column[f"column8_{fmt}_ff_per_mac"]}
                   for fmt in FORMATS}
    for entry in ledger.load("die.json"):
        if entry["name"].startswith("expander_"):
            multipliers[entry["name"].partition("_")[2]]["expander"] = entry["value"]
    return {"multipliers": multipliers, "adapters": of_adapters(made),
            "units": {unit: found for unit, found in units.items() if any(map(any, found.values()))}}


def written(found):
    """As the file has it: a line for each of its entries."""
    groups = [f' "{group}": {{\n' + ",\n".join(f'  "{name}": {json.dumps(of)}' for name, of in rows.items()) + "\n }"
              for group, rows in found.items()]
    return "{\n" + ",\n".join(groups) + "\n}\n"


def entries():
    def entry(name, value, unit, kind="projected"):
        return {"name": name, "value": value, "unit": unit, "kind": kind, "command": "python -m tools.bench_die"}
    model, plans = PRESETS[HC1.model], {}
    for case, asked in CASES.items():
        plans[case] = found = plan(die(model, **{"tokens": HC1.tokens, **asked}))
        for column, value, unit in (("a weight", round(found.per_weight, 3), "transistors"),
                                    ("all", round(found.total / 1e9, 2), "billion"), ("area", round(found.mm2), "mm2"),
                                    ("multipliers", found.multipliers, ""), ("attention engines", found.engines[0], ""),
                                    ("ROM", round(sum(found.rom.values()) / 1e9, 2), "Gbit"),
                                    ("SRAM", round(sum(found.sram.values()) / 1e9, 3), "Gbit"),
                                    ("speed", round(found.speed), "tokens/s")):
            yield entry(f"case {case}/{column}", value, unit)
    found = plans["e2m1"]
    weights = model.parameter_count
    for part, count in {**found.transistors, "together": found.total}.items():
        yield entry(f"part {part}/transistors", round(count / 1e9, 4), "billion")
        yield entry(f"part {part}/a weight", round(count / weights, 4), "")
        yield entry(f"part {part}/share", round(100 * count / found.total, 1), "%")
    for phase, count in {**found.cycles, "together": found.pass_cycles}.items():
        yield entry(f"cycles {phase}", count, "cycles")
    for what, published, planned, _ in rows_beside(found):
        if published is not None:
            yield entry(f"beside {what}/HC1", round(published, 3), "", "derived")
        yield entry(f"beside {what}/this die", round(planned, 3), "")
    yield entry("die_transistors_per_weight", round(found.per_weight, 2), "transistors")
    yield entry("die_weight_reads_per_cycle", round(found.read * found.speed / found.die.clock_ghz / 1e9),
                "weights a cycle")
    yield entry("die_of_3_bits", round(of_bits(found, HC1.low_bits) / 1e9, 1), "billion transistors")
    yield entry("die_of_6_bits", round(of_bits(found, HC1.high_bits) / 1e9, 1), "billion transistors")
    yield entry("die_bits_of_53_billion", round(bits_of(found, HC1.transistors), 2), "bits a weight")
    units, share = matrix_units()
    yield entry("gpu_matrix_transistors", round(units / 1e9, 2), "billion transistors", "derived")
    yield entry("gpu_matrix_share", round(100 * share, 1), "%", "derived")
    tokens = ARITHMETIC.people * ARITHMETIC.words / 60 * ARITHMETIC.tokens_a_word
    yield entry("served_tokens_per_second", round(tokens), "tokens/s", "derived")
    for chip, rate in operations_a_second(found).items():
        yield entry(f"served {chip}/1e12 operations a second", round(rate / 1e12, 1), "")
        for operations in (3e9, 3e12):
            yield entry(f"served {chip}/chips at {operations:.0e} a token".replace("e+", "e"),
                        chips_for(operations, rate), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", action="store_true", help="only write hwgen/plan/transistors.json")
    parser.add_argument("--expanders", action="store_true", help="only synthesize these")
    options = parser.parse_args()
    if options.costs:
        TABLE.write_text(written(table()))
        return
    rows = list(expanders() if options.expanders else entries())
    ledger.record("die.json", rows)
    for row in rows:
        print(f"{row['name']:70} {row['value']:16,} {row['unit']}", flush=True)


if __name__ == "__main__":
    main()
