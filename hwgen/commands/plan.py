"""hwgen plan: does a machine fit on a board, and how fast would it be; how busy its engines; a server of many chips."""
import dataclasses
import json
import math
from pathlib import Path

from rich.table import Table

from ..fpga.boards import BOARDS
from ..host.inputs import checked_input, try_to_write, write_text, writing
from ..host.terminal import result
from ..models.wires import matrix_name
from ..params.design import Design
from ..params.model import PRESETS
from ..params.presets import hw_shape
from ..plan.costs import KINDS, PAIRED, check_pairs, table, unknown
from ..plan.fit import FULL, fit, largest, smallest_change, spelled
from ..plan.loading import card_seconds, load_seconds, reading
from ..plan.summary import summary
from ..plan.wired import expected
from .chips import DOES_NOT_FIT, add_chip, capacity_of, check_clock, chip, shape_of
from .common import CLOCK, add_clock, add_command, add_machine, recipe_of, without_adapters
from .compare import add_compare
from .die import add_die
from .links import check_source

__all__ = ["add_plan", "spelled_out"]

WHAT = ("Whether a model's machine fits on a board, what clock and speed to expect, and what to change if it does not. The model's config.json is "
        "enough. Estimates: docs/cost.md says how far off they were.")


def add_plan(commands):
    plans = commands.add_parser("plan", help="Does it fit on a board (hwgen plan MODEL --board B); which shapes are best there (compare); how busy its engines would be (engines); "
                                "a machine that is too large to simulate (scale); a die that holds its model (die).",
                                description="hwgen plan MODEL is short for hwgen plan board MODEL. See docs/cost.md, docs/utilization.md, docs/scale.md and docs/die.md.")
    actions = plans.add_subparsers(dest="action", metavar="MODEL|board|compare|engines|scale|die", required=True)
    sub = add_command(actions, "plan board", run_plan_board, WHAT,
                      "hwgen plan demo --board ulx3s-85f\n  hwgen plan smollm2-135m --lut 200000 --bram 5000 --shape latency-16x16")
    add_chip(sub)
    sub.add_argument("--formats", metavar="F", help="as for hwgen emit")
    sub.add_argument("--head", choices=("single", "pair"), help="as for hwgen emit")
    sub.add_argument("--units", action="store_true", help="also what each unit takes")
    sub.add_argument("--json", metavar="FILE", help="write all of it as JSON too")
    add_compare(actions)
    sub = add_command(actions, "plan engines", run_plan_engines, "How busy each engine of a machine would be, and the fewest lanes that keep its array busy.",
                      "hwgen plan engines smollm2-135m --shape batch-32x32 --position 200")
    add_machine(sub, shape="batch-32x32")
    sub.add_argument("--position", type=int, metavar="P", help="of the entries in their slots (default: the middle of the context)")
    sub.add_argument("--json", metavar="FILE", help="write all of it as JSON too")
    add_clock(sub)
    sub = add_command(actions, "plan scale", run_plan_scale,
                      "Throughput of a server of many chips on the cycle model: every assumption a parameter, and what binds.",
                      "hwgen plan scale --set split=pipeline,entries=4096\n"
                      "  hwgen plan scale --model llama-3.1-8b --set split=pipeline,hbm_tb_s=8 --sweep entries=512:1024:2048",
                      shapes=False)
    sub.add_argument("--model", default="llama-3-70b", choices=[*PRESETS], metavar="NAME", help=f"{', '.join(PRESETS)} (default: llama-3-70b)")
    sub.add_argument("--set", default="", metavar="FIELD=VALUE,...", help="other assumptions; the report lists all fields")
    sub.add_argument("--sweep", metavar="FIELD=V:V:V", help="also a table of what one assumption changes")
    sub.add_argument("--json", metavar="FILE", help="write assumptions and results")
    add_die(actions)


def _clock(found, chosen):
    expected = f"about {found.mhz:.0f} MHz" if found.mhz else f"not known: no machine was placed and routed on {found.family} yet"
    return expected + (f"; the board's is {chosen.clock:g} MHz" if chosen else "")


def _speed(cycles, mhz):
    return (f"{1e6 * mhz / cycles:,.0f} tokens/s at {mhz:.4g} MHz: " if mhz else "") + f"{cycles:,.0f} cycles a token"


def run_plan_board(options, screen):
    model, kept = shape_of(screen, options.model)
    with checked_input():
        title, family, capacity, chosen = chip(options)
        shape = options.shape if options.shape is not None else chosen.shape if chosen else "tiny"
        if options.formats is None and chosen and not kept:
            options.formats = chosen.formats
        design = Design(model=model, hw=without_adapters(hw_shape(shape, model)), recipe=recipe_of(options, kept, options.model))
        check_source(chosen, design.hw)
        check_pairs(design.hw, family)
        check_clock(options)
    if options.json:
        with writing(options.json):
            try_to_write(Path(options.json))
    screen.say(summary(design))
    found = fit(design, family, capacity)
    clock = options.clock or min((mhz for mhz in (found.mhz, chosen.clock if chosen else 0) if mhz), default=0)
    hw = design.hw
    counts = sorted({1, min(hw.entries, hw.slots, hw.blocks)})
    memory, size = chosen and chosen.memory, design.stream_beats * hw.beat_bytes
    too_large = bool(memory) and size > memory.size
    readings = {texts: reading(design, memory, clock, texts) for texts in counts} if memory and not (found.over or too_large) else {}
    speeds = {} if found.over or too_large else {texts: readings[texts].cycles if memory else found.cycles(texts) for texts in counts}
    print(f"{'does not fit' if found.over or too_large else 'fits'}: {model.name} on {title}")
    rows = Table("", "about", "of", "", box=None, header_style="bold", padding=(0, 2))
    for column in rows.columns[1:]:
        column.justify = "right"
    for kind, used in found.used.items():
        there = capacity.get(kind)
        rows.add_row(kind, f"{used:,}", f"{there:,}" if there is not None else "", f"{used / there:.0%}" if there else "")
    result(rows)
    if missing := unknown(design):
        print(f"without  what was never synthesized: {'; '.join(missing)}")
    if options.units:
        units = Table("unit", *KINDS, box=None, header_style="bold", padding=(0, 2))
        for column in units.columns[1:]:
            column.justify = "right"
        for unit, costs in sorted(found.units.items(), key=lambda item: -item[1]["LUT"]):
            units.add_row(unit, *(f"{costs[kind]:,.0f}" for kind in KINDS))
        result(units)
    if hw.wired:
        if options.units:
            print("LUT4     of a weight, by matrix: "
                  + ", ".join(f"{matrix_name(*key)} {m.luts / m.size[0] / m.size[1]:.2f}" for key, m in expected(design).items()))
        print("without  what the weights themselves change: those that are 0 cost nothing (docs/wired.md)")
    if memory:
        print("         without the memory's controller, the reader of weights and the loader")
        print(f"memory   {memory.title}: {size:,} bytes of weights of {memory.size:,}"
              + (": too many, take a smaller model or --formats weights=e2m1" if too_large else
                 f"; {load_seconds(size, chosen.baud):,.1f} s to load them, at {chosen.baud:,} baud"
                 + (f", or {card_seconds(size, chosen.clock, memory.axi()):,.1f} s from an SD card" if chosen.card else "")))
    smaller = _what_then(options, found, chosen) if found.over and not too_large else None
    if speeds:
        print(f"clock    {_clock(found, chosen)}")
        if options.clock and found.mhz and options.clock > found.mhz:
            print(f"         {options.clock:g} MHz is more than it may reach")
        for texts, cycles in speeds.items():
            print(f"{'speed' if texts == 1 else '':8} {_speed(cycles, clock)}, " + ("one text" if texts == 1 else f"{texts} texts of {design.room(texts)} at once")
                  + (f"; {readings[texts].binds} binds: {readings[texts].memory:,.0f} cycles of a pass for its weights, {readings[texts].machine:,.0f} for the rest" if memory else ""))
        context, slots = largest(found, "context", model.longest_context), largest(found, "slots", 256)
        print(f"room     for a context of {context}" + (" (all that the model has)" if context == model.longest_context else "")
              + f", or for {slots} slot{'s' if slots > 1 else ''} of {hw.context}")
    if options.json:
        about = {"kind": "projected", "model": model.name, "chip": title, "family": family, "shape": spelled(hw), "fits": not (found.over or too_large), "used": found.used,
                 "capacity": capacity, "without": missing, "units": {unit: {kind: round(count) for kind, count in costs.items()} for unit, costs in found.units.items()},
                 "mhz": round(found.mhz, 2), "clock": clock, "smaller": smaller,
                 "speeds": [{"texts": texts, "cycles_per_token": round(cycles, 1), "tokens_per_second": round(1e6 * clock / cycles, 1)} for texts, cycles in speeds.items()]}
        if memory:
            card = {"card_seconds": round(card_seconds(size, chosen.clock, memory.axi()), 1)} if chosen.card else {}
            about["memory"] = card | {"title": memory.title, "bytes": memory.size, "weights": size, "load_seconds": round(load_seconds(size, chosen.baud), 1),
                               "passes": [{"texts": texts, "memory_cycles": each.memory, "machine_cycles": round(each.machine, 1), "binds": each.binds} for texts, each in readings.items()]}
        write_text(options.json, json.dumps(about, indent=1) + "\n")
    return DOES_NOT_FIT if found.over or too_large else 0


def _what_then(options, found, chosen):
    """Say the smallest change that helps, and boards on which nothing need change. Returns the smaller shape, or None."""
    print("too many " + ", ".join(f"{kind}: {found.used[kind]:,} where {int(FULL[kind] * found.capacity[kind]):,} can be used" for kind in found.over))
    smaller = smallest_change(found.design, found.family, found.capacity)
    if smaller is None:
        blocks = found.units["weights"]["BRAM"]
        short = blocks > found.capacity.get("BRAM", blocks)
        why = f": its weights alone take {blocks:,} of {found.capacity['BRAM']:,} blocks" if short else ""
        print(f"smaller  no shape of this model fits{why}")
        room = found.capacity.get("BRAM", 0) - found.used["BRAM"] + blocks
        if short and room > 0:
            print(f"         a model of {found.design.model.parameter_count * room // blocks:,} parameters would leave room for what is beside them, at most")
        if found.design.recipe.head == "pair":
            print("         --head single takes half the bytes for its last matrix")
    else:
        print(f"smaller  --shape {spelled(smaller.design.hw)}")
        cycles = reading(smaller.design, chosen.memory, smaller.mhz or chosen.clock, 1).cycles if chosen and chosen.memory else smaller.cycles()
        print(f"         {', '.join(f'{smaller.used[kind]:,} {kind}' for kind in smaller.capacity)}; {_speed(cycles, smaller.mhz)}")
    larger = [other for other in BOARDS.values() if chosen is not None and other.name != chosen.name and bool(other.memory) == bool(chosen.memory)
              and other.family in table() and (other.family in PAIRED or not found.design.hw.dsp_pairs)
              and not fit(found.design, other.family, capacity_of(other)).over]
    if larger:
        print(f"larger   --board {' or '.join(other.name for other in larger)}, with --shape {spelled(found.design.hw)}")
    return smaller and spelled(smaller.design.hw)


def run_plan_scale(options, screen):
    from ..plan.scale import assumptions, outcome, parse, report, sweep_table
    model = PRESETS[options.model]
    with checked_input():
        scale, sweep = parse(model, options.set), []
        if options.sweep is not None:
            name, _, values = options.sweep.partition("=")
            kept = ",".join(pair for pair in options.set.split(",") if pair.partition("=")[0].strip() != name)
            sweep = [parse(model, f"{kept},{name}={value}") for value in values.split(":")]
    if options.json:
        with writing(options.json):
            try_to_write(Path(options.json))
    found = outcome(scale)
    print("\n".join(report(scale, found)))
    if sweep:
        print("\n".join(["", *sweep_table(name, sweep)]))
    if options.json:
        about = {"kind": "projected", "assumptions": [dict(zip(("name", "value", "source"), row)) for row in assumptions(scale)],
                 "outcome": dataclasses.asdict(found)}
        write_text(options.json, json.dumps(about, indent=1) + "\n")


def run_plan_engines(options, screen):
    from ..plan.throughput import TARGET, engine_use, fewest_lanes, traffic
    shape, kept = shape_of(screen, options.model)
    with checked_input():
        asked = options.default_shape if options.shape is None else options.shape
        design = Design(model=shape, hw=without_adapters(hw_shape(asked, shape)), recipe=recipe_of(options, kept, options.model))
        hw = design.hw
        if hw.wired:
            raise ValueError("Weight source must be 'rom' or 'stream' for hwgen plan engines, not 'wired': there is no array to keep busy")
        position = hw.context // 2 if options.position is None else options.position
        if not hw.entries <= position + 1 <= hw.context:
            raise ValueError(f"Position must be {hw.entries - 1} to {hw.context - 1}, not {position}")
        clock = CLOCK if options.clock is None else options.clock
        if not 0 < clock < math.inf:
            raise ValueError(f"Clock must be above 0 MHz, not {clock:g}")
    if options.json:
        with writing(options.json):
            try_to_write(Path(options.json))
    screen.say(summary(design))
    uses = {kind: engine_use(design, *entries) for kind, entries in traffic(hw, position).items()}
    rows = [("cycles of a pass", lambda u: f"{u['cycles']:,}"), ("array busy", lambda u: f"{u['array']:.1%}"),
            ("  waits for weights", lambda u: f"{u['starved']:.1%}"), ("norm busy", lambda u: f"{u['norm']:.1%}"),
            ("attention busy", lambda u: f"{u['attention']:.1%}"), ("weight bytes a cycle", lambda u: f"{u['weights'] * hw.beat_bytes:.0f}"),
            (f"tokens/s at {clock:g} MHz", lambda u: f"{clock * 1e6 * hw.entries / u['cycles']:,.0f}")]
    print(f"{f'{hw.entries} entries at {position}':26}" + "".join(f"{kind:>13}" for kind in uses))
    for label, text in rows:
        print(f"{label:26}" + "".join(f"{text(use):>13}" for use in uses.values()))
    vector, attention, use = fewest_lanes(design, position)
    print(f"{'fewest lanes for' if use >= TARGET else 'no lanes give'} {TARGET:.0%} in decode: vector_lanes={vector},attention_lanes={attention} "
          f"({use:.1%})")
    if options.json:
        about = {"kind": "projected", "model": shape.name, "shape": spelled(hw), "position": position, "clock": clock,
                 "passes": {kind: found | {"tokens_per_second": round(clock * 1e6 * hw.entries / found["cycles"], 1)} for kind, found in uses.items()},
                 "fewest_lanes": {"vector_lanes": vector, "attention_lanes": attention, "array": use, "wanted": TARGET}}
        write_text(options.json, json.dumps(about, indent=1) + "\n")


def spelled_out(arguments):
    """``plan MODEL`` is short for ``plan board MODEL``."""
    short = arguments[:1] == ["plan"] and len(arguments) > 1 and arguments[1] not in ("board", "compare", "engines", "scale", "die", "-h", "--help")
    return ["plan", "board", *arguments[1:]] if short else arguments
