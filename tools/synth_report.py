#!/usr/bin/env python3
"""What each unit of a machine costs: LUTs, flip-flops, multipliers, block RAM on four families of FPGAs, transistors,
and clocks on an ECP5.

Synthesis is Yosys': on ECP5 and Gowin with the script that boards use, on iCE40 and Xilinx 7 with `synth_ice40` and
`synth_xilinx`, for transistors `abc -g cmos4` (of the gates: flip-flops are counted beside them, and memories are left
out), in 0.18 um standard cells where qflow-tech-osu018 and opensta are installed. Clocks on ECP5 are those of a unit
alone between registers, placed and routed. Results go to docs/results/synth.json and docs/cost.svg; the planner's
table, hwgen/plan/costs.json, is fitted to them and to some more shapes. What was made is kept in build/synth, and only
made again if its Verilog changes.
"""
import argparse
import itertools
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hwgen.fpga.tools import ToolError, version
from hwgen.lib.verilog import emit_verilog
from hwgen.params.block import QkNorm, dense
from hwgen.params.design import Design
from hwgen.params.formats import E3M4, E4M3
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan import costs
from tools import draw_cost, ledger, silicon, synth
from tools.bench_column import LANES, column
from tools.fit_costs import changes, fit, scaled
from tools.mac_variants import FloatMac, IntColumn

MINI = replace(DEMO, name="mini", hidden_size=48, intermediate_size=128, num_hidden_layers=3, head_dim=8,
               num_attention_heads=6,
               vocab_size=256)
WIDE = replace(DEMO, name="wide", hidden_size=128, intermediate_size=384, num_hidden_layers=4, head_dim=32,
               num_key_value_heads=4,
               vocab_size=1024)
#: In the tables: what boards use.
SHAPES = {"4x4": (DEMO, "tiny"),
          "8x16": (DEMO, "tiny,lanes=8,columns=16,vector_lanes=4,attention_lanes=16,context=128"),
          "16x16": (DEMO, "tiny,lanes=16,columns=16,vector_lanes=8,attention_lanes=16,context=128,dsp_columns=6")}
#: Only for the planner, only on ECP5: what the three do not vary.
MORE = {"4x4 mini": (MINI, "tiny,context=32"), "4x2 mini": (MINI, "tiny,columns=2,attention_lanes=2"),
        "8x8 wide": (WIDE, "tiny,lanes=8,columns=8,vector_lanes=4,attention_lanes=8,context=128"),
        "8x8 dsp": (DEMO, "tiny,lanes=8,columns=8,vector_lanes=4,attention_lanes=8,dsp_columns=4"),
        **{f"{name} pairs": (DEMO, f"tiny,{shape}") for name, shape in (
            ("4x4", "dsp_pairs=1"), ("8x8", "lanes=8,columns=8,vector_lanes=4,attention_lanes=8,dsp_pairs=3"),
            ("16x16",
             "lanes=16,columns=16,vector_lanes=4,attention_lanes=8,entries=8,slots=8,halves=2,tile_beats=2,context=256,"
                      "kv_blocks=16,dsp_pairs=7"))},
        "8x16 batch": (DEMO, "demo,context=128,source=rom"),
        "8x4 slots": (replace(DEMO, num_key_value_heads=1),
                      "tiny,lanes=8,columns=4,attention_lanes=8,entries=2,slots=2,context=32")}
#: Blocks that are not Llama's: only those units are synthesized of which they make other ones, for ECP5 and as
#: transistors.
_ALL = ("q", "k", "v", "o", "gate", "up", "down")
_BLOCKS = {"norms": replace(DEMO, block=dense(biased=_ALL, qk_norm=QkNorm("head"), norms="sandwich",
                                              activation="gelu_tanh")),
           "post": replace(DEMO, block=dense(qk_norm=QkNorm("projection"), norms="post", activation="relu2")),
           "bias": replace(DEMO, block=dense(biased=[name for name in _ALL if name != "gate"], activation="relu2",
                                             gated=False),
                           rotary_dim=0),
           "gelu": replace(DEMO, block=dense(activation="gelu", gated=False)),
           "relu": replace(DEMO, block=dense(activation="relu")),
           "relu alone": replace(DEMO, block=dense(activation="relu", gated=False)),
           "softcap": replace(DEMO, attn_logit_softcapping=50.0), "learned": replace(DEMO, learned_positions=True),
           "final bias": replace(DEMO, block=dense(final_bias=True))}
BLOCKS = {f"{shape} {name}": (model, SHAPES[shape][1]) for name, model in _BLOCKS.items() for shape in ("4x4", "8x16")}
#: And recipes with finer scales or narrower weights.
BLOCKS |= {"4x4 rows": (DEMO, SHAPES["4x4"][1], "scales=row"),
           "4x4 e2m1": (replace(DEMO, tie_word_embeddings=False), SHAPES["4x4"][1], "weights=e2m1")}
#: And room for adapters.
BLOCKS |= {f"{shape} adapters": (DEMO, f"{SHAPES[shape][1]},adapters={room}")
           for shape, room in (("4x4", 1), ("8x16", 3))}
#: And keys and values outside.
_OUTSIDE = "tiny,lanes=8,columns=16,vector_lanes=4,source=stream,context=256"
BLOCKS |= {"4x4 outside": (MINI, "tiny,context=32,source=stream,kv_port=16"),
           "8x16 outside": (WIDE, f"{_OUTSIDE},attention_lanes=4,slots=8,kv_port=128"),
           "8x16 wide outside": (WIDE, f"{_OUTSIDE},attention_lanes=16,kv_port=128"),
           "8x16 narrow outside": (WIDE, f"{_OUTSIDE},attention_lanes=4,slots=8,entries=8,kv_port=16")}
#: And attention that divides sums where they are.
BLOCKS |= {f"{shape} in place": (DEMO, f"{SHAPES[shape][1]},attention_hold=0") for shape in ("4x4", "8x16")}
FAMILIES = ("ecp5", "gowin", "gowin5", "ice40", "xilinx7")        # of which the planner has a table
#: Of fewer shapes: a target's syntheses take long, and ECP5's tell how units grow.
TABLES = dict.fromkeys(("gowin", "gowin5", "ice40", "xilinx7", "cmos"), ("4x4", "8x16"))
ALONE = "8x16"      # the shape of which there are clocks, and standard cells
TARGETS = (*synth.TARGETS, "routed", "osu018")
UNITS = {"LUT": "LUT", "FF": "flip-flops", "DSP": "DSP", "BRAM": "blocks", "transistors": "transistors", "MHz": "MHz",
         "um2": "um2"}
COMMAND = "make synth-report"


def design(shape):
    model, text, *formats = shape
    return Design(model=model, hw=hw_shape(text, model), recipe=recipe(*formats))


def changed(unit, design):
    """Whether the design's block makes another unit of it than Llama's, or Llama's has none."""
    return unit in costs.OWN or bool(costs.changes(unit, design))


def variants():
    """Units that multiply and accumulate: {name: (Unit, multipliers in it)}."""
    found = {f"exact {fmt}": (column(fmt), LANES) for fmt in (E3M4, E4M3)}
    found |= {"INT8": (IntColumn(LANES), LANES), "E4M3 into fp32": (FloatMac(E4M3), 1),
              "E3M4 into fp32": (FloatMac(E3M4), 1)}
    return {name: (synth.Unit(name, emit_verilog(unit, "top")), lanes) for name, (unit, lanes) in found.items()}


def made(tasks, jobs):
    """{(shape, unit's name, target): what was found} of [(shape, Unit, target)], with a line for each that took
    time."""
    done = itertools.count(1)

    def one(task):
        shape, unit, target = task
        start = time.monotonic()
        ways = {"routed": synth.route, "osu018": synth.silicon_cost}
        found = ways.get(target, lambda unit: synth.synthesize(unit, target))(unit)
        number, took = next(done), time.monotonic() - start
        if took > 0.5 or number == len(tasks):
            print(f"{number:4}/{len(tasks)} {took:6.1f} s  {target:8} {shape:10} {unit.name}", flush=True)
        return (shape, unit.name, target), found

    with ThreadPoolExecutor(jobs) as pool:
        return dict(pool.map(one, tasks))


def entries(figures, counts):
    """Rows of the ledger: ``SHAPE/UNIT/TARGET RESOURCE`` of one of each unit, and sums over a machine."""
    rows, sums = {}, {}
    for (shape, unit, target), found in figures.items():
        for resource, name in UNITS.items():
            if found.get(resource) and (target, resource) not in (("routed", "LUT"), ("cmos", "LUT")):
                rows[f"{shape}/{unit}/{target} {resource}"] = found[resource], name
                if resource != "MHz":
                    key = f"{shape}/whole machine/{target} {resource}"
                    sums[key] = sums.get(key, (0,))[0] + found[resource] * counts[shape, unit], name
    return [{"name": key, "value": value, "unit": name, "kind": "derived" if key in sums else "measured",
             "command": COMMAND}
            for key, (value, name) in (rows | sums).items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="syntheses at a time (default: 1)")
    parser.add_argument("--targets", default=",".join(TARGETS),
                        help=f"only some of {', '.join(TARGETS)} (the planner's table is made again with ecp5)")
    parser.add_argument("--blocks", action="store_true",
                        help="only the units that other blocks than Llama's change, on ECP5 and as transistors; "
                        f"of all of {', '.join(BLOCKS)}, or of those of --shapes")
    parser.add_argument("--shapes", default=",".join([*SHAPES, *MORE]),
                        help="only some of these (the planner's table is made of all)")
    options = parser.parse_args()
    known = [*BLOCKS] if options.blocks and options.shapes != parser.get_default("shapes") else [*SHAPES, *MORE]
    if unknown := set(options.shapes.split(",")) - {*known}:
        raise SystemExit(f"Shapes must be of {', '.join(known)}, not {', '.join(sorted(unknown))}")
    if unknown := set(options.targets.split(",")) - set(TARGETS):
        raise SystemExit(f"Targets must be of {', '.join(TARGETS)}, not {', '.join(sorted(unknown))}")
    try:
        if not options.blocks:
            report(options)
        if options.blocks or options.shapes == parser.get_default("shapes"):
            report_blocks(options)
    except ToolError as error:
        raise SystemExit(f"error: {error}") from None


def report(options):
    """All of it, or only some targets."""
    targets, chosen = options.targets.split(","), options.shapes.split(",")
    designs, units = {}, {}
    for name, shape in {**SHAPES, **MORE}.items():
        if name in chosen and (name in SHAPES or "ecp5" in targets):
            print(f"emitting {name}", flush=True)
            designs[name] = design(shape)
            units[name] = synth.split(synth.emit(designs[name]))
    tasks = [(name, unit, target) for target in targets if target in synth.TARGETS for name in units if target == "ecp5"
             or name in TABLES.get(target, SHAPES)
             for unit in units[name]]
    macs = variants()
    tasks += [("mac", unit, target) for target in ("ecp5", "cmos") if target in targets for unit, _ in macs.values()]
    if "osu018" in targets and (absent := silicon.missing()):
        print(f"without standard cells and their clocks: {absent} not installed")
        targets.remove("osu018")
    tasks += [(ALONE, unit, target) for target in ("routed", "osu018") if target in targets
              for unit in units.get(ALONE, ())
              if synth.clock_port(unit) and (target != "routed" or synth.whole(unit))]
    figures = made(tasks, options.jobs)
    if "ecp5" in targets and set(chosen) == {*SHAPES, *MORE}:
        write_costs(figures, designs)
    counts = {(name, unit.name): unit.count for name in units for unit in units[name]}
    rows = entries({key: found for key, found in figures.items() if key[0] in SHAPES}, counts)
    for name, (unit, lanes) in macs.items():
        for target, resource in (("ecp5", "LUT"), ("ecp5", "FF"), ("cmos", "transistors"), ("cmos", "FF")):
            if target in targets:
                rows.append({"name": f"mac/{name}/{target} {resource}",
                             "value": round(figures["mac", name, target][resource] / lanes, 1),
                             "unit": f"{UNITS[resource]} per multiplier", "kind": "measured", "command": COMMAND})
    ledger.record("synth.json", rows)
    if "ecp5" in targets and set(SHAPES) <= set(chosen):
        draw_cost.FILE.write_text(draw_cost.svg(ledger.load("synth.json")), encoding="utf-8")


def report_blocks(options):
    """The units that other blocks than Llama's change."""
    some = set(options.shapes.split(",")) & {*BLOCKS}
    tasks, designs = [], {name: design(shape) for name, shape in BLOCKS.items() if not some or name in some}
    targets = [target for target in ("ecp5", "cmos") if target in options.targets.split(",")]
    for name, d in designs.items():
        print(f"emitting {name}", flush=True)
        tasks += [(name, unit, target) for unit in synth.split(synth.emit(d)) if changed(unit.name, d)
                  for target in targets]
    figures = made(tasks, options.jobs)
    ledger.record("synth.json", [row for row in entries(figures, {key[:2]: 1 for key in figures})
                                 if row["kind"] == "measured"])
    if "ecp5" in targets:
        write_changes(figures, designs, keep=bool(some))


def write_changes(figures, designs, keep):
    """What blocks change, in the planner's table. ``keep``: of some blocks, and the other rows stay."""
    table = dict(costs.table())
    plain = {unit: kinds for unit, kinds in table["ecp5"].items() if ", " not in unit and unit not in costs.OWN}
    rows = changes(plain, [(d, {unit: found for (shape, unit, target), found in figures.items()
                                if (shape, target) == (name, "ecp5")})
                           for name, d in designs.items()])
    table["ecp5"] = dict(sorted(((table["ecp5"] if keep else plain) | rows).items()))
    _write(json.loads(costs.TABLE.read_text())["made"], table)


def write_costs(figures, designs):
    """The planner's table."""
    seen = {family: [(shape, {unit: found for (s, unit, target), found in figures.items()
                              if (s, target) == (name, family)})
                     for name, shape in designs.items()
                     if any(s == name and target == family for s, _, target in figures)]
                     for family in FAMILIES}
    base = fit(seen["ecp5"], "ecp5")
    table = dict(costs.table())
    for family in FAMILIES:
        if seen[family]:
            table[family] = base if family == "ecp5" else scaled(base, seen["ecp5"], seen[family], family)
    about = {"shapes": {name: f"{d.model.name} {d.hw.lanes}x{d.hw.columns}" for name, d in designs.items()},
             "yosys": version("yosys")}
    _write(about, table)


def _write(about, table):
    text = json.dumps({"made": about, "families": table}, indent=1)
    costs.TABLE.write_text(re.sub(r"\[[^\[\]]*\]",
                                  lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"),
                                  text) + "\n")
    costs.table.cache_clear()


if __name__ == "__main__":
    main()
