"""hwgen plan: does a machine fit on a board, and how fast would it be; how busy its engines; a server of many chips."""
import dataclasses
import json
import math
from pathlib import Path

from rich.table import Table

from ..fpga.boards import BOARDS, board
from ..fpga.families import FAMILIES
from ..host.inputs import checked_input, try_to_write, write_text, writing
from ..host.terminal import result
from ..models.hf import folder_shape
from ..models.kept import is_kept
from ..models.options import About
from ..params.design import Design
from ..params.model import PRESETS
from ..params.presets import hw_shape
from ..plan.costs import KINDS, table, unknown
from ..plan.fit import FULL, fit, largest, smallest_change, spelled
from ..plan.summary import summary
from .common import CLOCK, MODEL_HELP, add_clock, add_command, add_machine, opened, recipe_of

__all__ = ["add_plan", "spelled_out"]

WHAT = ("Whether a model's machine fits on a board, what clock and speed to expect, and what to change if it does not. The model's config.json is "
        "enough. Estimates: docs/cost.md says how far off they were.")


def add_plan(commands):
    plans = commands.add_parser("plan", help="Does it fit on a board (hwgen plan MODEL --board B); how busy its engines would be (engines); "
                                "a machine that is too large to simulate (scale); a die that holds its model (die).",
                                description="hwgen plan MODEL is short for hwgen plan board MODEL. See docs/cost.md, docs/utilization.md, docs/scale.md and docs/die.md.")
    actions = plans.add_subparsers(dest="action", metavar="MODEL|board|engines|scale|die", required=True)
    sub = add_command(actions, "plan board", run_plan_board, WHAT,
                      "hwgen plan demo --board ulx3s-85f\n  hwgen plan smollm2-135m --lut 200000 --bram 5000 --shape latency-16x16")
    _add_chip(sub)
    sub = add_command(actions, "plan engines", run_plan_engines, "How busy each engine of a machine would be, and the fewest lanes that keep its array busy.",
                      "hwgen plan engines smollm2-135m --shape batch-32x32 --position 200")
    add_machine(sub, shape="batch-32x32")
    sub.add_argument("--position", type=int, metavar="P", help="of the entries in their slots (default: the middle of the context)")
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
    sub = add_command(actions, "plan die", run_plan_die,
                      "The die that holds a model, weights in ROM beside the multipliers, keys, values and adapters in SRAM: the smallest "
                      "that is as fast as asked; its transistors by part and for each weight, and what binds. Each number that is assumed "
                      "has a name and a source; nobody has built it (docs/die.md).",
                      "hwgen plan die llama-3.1-8b --tokens-per-second 17000\n"
                      "  hwgen plan die llama-3.1-8b --tokens-per-second 5000 --users 8 --context 1024\n"
                      "  hwgen plan die path/to/config.json --tokens-per-second 17000 --formats e3m4 --set clock_ghz=1.5,rom_overhead=0.1", shapes=False)
    sub.add_argument("model", metavar="MODEL", help=f"{MODEL_HELP}; a config.json, or its folder, without weights; one of {', '.join(PRESETS)}")
    sub.add_argument("--tokens-per-second", type=float, required=True, metavar="N", help="of each user")
    sub.add_argument("--users", type=int, default=1, metavar="U", help="texts at once: a pass makes a token of each (default: 1)")
    sub.add_argument("--context", type=int, metavar="C",
                     help="positions of each user that SRAM has keys and values of (default: 2048, or the model's if it has fewer)")
    sub.add_argument("--set", default="", metavar="FIELD=VALUE,...", help="other assumptions; the report lists all fields with their sources")
    sub.add_argument("--formats", metavar="F",
                     help="as for hwgen emit (default: weights=e2m1; a head that is the embedding table too has 8 bits)")
    sub.add_argument("--head", choices=("single", "pair"), help="as for hwgen emit")
    sub.add_argument("--json", metavar="FILE", help="write assumptions and results")


def _add_chip(sub):
    """Model, FPGA and shape of ``plan board``."""
    sub.add_argument("model", metavar="MODEL", help=f"{MODEL_HELP}; a folder with config.json alone, or one of {', '.join(PRESETS)}")
    sub.add_argument("--board", choices=[*BOARDS], help="the board (default: what --family, --lut, --ff, --bram and --dsp say)")
    sub.add_argument("--family", choices=[*table()], help="of an FPGA without a board here (default: ecp5)")
    for kind, noun in (("lut", "LUTs of 4 inputs (xilinx7: of 6)"), ("ff", "flip-flops"), ("bram", "memory blocks (ecp5, gowin, xilinx7: 18 kbit; ice40: 4 kbit)"),
                       ("dsp", "multipliers, 18 x 18")):
        sub.add_argument(f"--{kind}", type=int, metavar="N", help=f"{noun} that the FPGA has")
    sub.add_argument("--clock", type=float, metavar="MHZ", help="speeds are for this clock (default: the board's, if the machine may reach it)")
    sub.add_argument("--shape", metavar="S", help="hardware shape, see below (default: the board's, or tiny)")
    sub.add_argument("--formats", metavar="F", help="as for hwgen emit")
    sub.add_argument("--head", choices=("single", "pair"), help="as for hwgen emit")
    sub.add_argument("--units", action="store_true", help="also what each unit takes")


def _shape(screen, model):
    """(The model's shape, without its weights; the `QuantizedModel` of a folder of one, else None.)"""
    if (name := model.lower()) in PRESETS and (name == model or not Path(model).exists()):
        return PRESETS[name], None
    if Path(model).name == "config.json" and Path(model).is_file():
        model = str(Path(model).parent)
    if Path(model).is_dir() and not is_kept(model):
        about = About()
        shape = folder_shape(model, about)
        for line in about.warnings:
            screen.warn(line)
        return shape, None
    checkpoint = opened(screen, model)
    return checkpoint.shape, checkpoint.kept


def _capacity(chosen):
    """{kind: how many}"""
    return {kind: chosen.capacity[FAMILIES[chosen.family].resources[kind.lower()]] for kind in KINDS}


def _chip(options):
    """(title, family, {kind: how many}, board or None)"""
    given = {kind: getattr(options, kind.lower()) for kind in KINDS if getattr(options, kind.lower()) is not None}
    for kind, count in given.items():
        if count < (least := int(kind in ("LUT", "FF"))):       # some FPGAs have no multipliers, or no memory blocks
            raise ValueError(f"{kind} must be at least {least}, not {count}")
    if options.board:
        if given or options.family:
            raise ValueError("Board and resources must not be given both: a board has its own")
        chosen = board(options.board)
        if chosen.family not in table():
            raise ValueError(f"Costs are known of {', '.join(table())}, not of {chosen.family}")
        return chosen.title, chosen.family, _capacity(chosen), chosen
    if not given:
        raise ValueError(f"FPGA must be given: --board {'|'.join(BOARDS)}, or its --lut, --bram and --dsp")
    family = options.family or "ecp5"
    return f"{family} with " + ", ".join(f"{count:,} {kind}" for kind, count in given.items()), family, given, None


def _clock(found, chosen):
    expected = f"about {found.mhz:.0f} MHz" if found.mhz else f"not known: no machine was placed and routed on {found.family} yet"
    return expected + (f"; the board's is {chosen.clock:g} MHz" if chosen else "")


def _speed(found, mhz, texts=1):
    cycles = found.cycles(texts)
    return (f"{1e6 * mhz / cycles:,.0f} tokens/s at {mhz:.4g} MHz: " if mhz else "") + f"{cycles:,.0f} cycles a token"


def run_plan_board(options, screen):
    model, kept = _shape(screen, options.model)
    with checked_input():
        title, family, capacity, chosen = _chip(options)
        shape = options.shape if options.shape is not None else chosen.shape if chosen else "tiny"
        if options.formats is None and chosen and not kept:
            options.formats = chosen.formats
        design = Design(model=model, hw=hw_shape(shape, model), recipe=recipe_of(options, kept, options.model))
        if design.hw.source != "rom":
            raise ValueError("A board's machine keeps its weights in its own memory: take source=rom for the shape")
        if options.clock is not None and not 1 <= options.clock <= 1000:
            raise ValueError(f"Clock must be 1 to 1000 MHz, not {options.clock:g}")
    screen.say(summary(design))
    found = fit(design, family, capacity)
    print(f"{'does not fit' if found.over else 'fits'}: {model.name} on {title}")
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
    if found.over:
        _what_then(options, found, chosen)
        return
    print(f"clock    {_clock(found, chosen)}")
    clock = options.clock or min((mhz for mhz in (found.mhz, chosen.clock if chosen else 0) if mhz), default=0)
    if options.clock and found.mhz and options.clock > found.mhz:
        print(f"         {options.clock:g} MHz is more than it may reach")
    print(f"speed    {_speed(found, clock)}, one text")
    hw = design.hw
    if (texts := min(hw.entries, hw.slots, hw.blocks)) > 1:
        print(f"         {_speed(found, clock, texts)}, {texts} texts of {design.room(texts)} at once")
    context, slots = largest(found, "context", model.longest_context), largest(found, "slots", 256)
    print(f"room     for a context of {context}" + (" (all that the model has)" if context == model.longest_context else "")
          + f", or for {slots} slot{'s' if slots > 1 else ''} of {design.hw.context}")


def _what_then(options, found, chosen):
    """The smallest change that helps, and boards on which nothing need change."""
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
        print(f"         {', '.join(f'{smaller.used[kind]:,} {kind}' for kind in smaller.capacity)}; {_speed(smaller, smaller.mhz)}")
    larger = [other for other in BOARDS.values() if chosen is not None and other.name != chosen.name
              and other.family in table() and not fit(found.design, other.family, _capacity(other)).over]
    if larger:
        print(f"larger   --board {' or '.join(other.name for other in larger)}, with --shape {spelled(found.design.hw)}")


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


def run_plan_die(options, screen):
    from ..plan import die
    from ..plan.die_report import as_json, report
    shape, kept = _shape(screen, options.model)
    with checked_input():
        if kept is None and options.formats is None:
            options.formats = die.default_formats(shape)
        context = min(2048, shape.longest_context) if options.context is None else options.context
        asked = die.die(shape, options.set, tokens=options.tokens_per_second, users=options.users, context=context,
                        recipe=recipe_of(options, kept, options.model))
    if options.json:
        with writing(options.json):
            try_to_write(Path(options.json))
    with checked_input():
        found = die.plan(asked)
    print("\n".join(report(found)))
    if options.json:
        write_text(options.json, json.dumps(as_json(found), indent=1) + "\n")


def run_plan_engines(options, screen):
    from ..plan.throughput import TARGET, engine_use, fewest_lanes, traffic
    shape, kept = _shape(screen, options.model)
    with checked_input():
        asked = options.default_shape if options.shape is None else options.shape
        design = Design(model=shape, hw=hw_shape(asked, shape), recipe=recipe_of(options, kept, options.model))
        hw = design.hw
        position = hw.context // 2 if options.position is None else options.position
        if not hw.entries <= position + 1 <= hw.context:
            raise ValueError(f"Position must be {hw.entries - 1} to {hw.context - 1}, not {position}")
        clock = CLOCK if options.clock is None else options.clock
        if not 0 < clock < math.inf:
            raise ValueError(f"Clock must be above 0 MHz, not {clock:g}")
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


def spelled_out(arguments):
    """``plan MODEL`` is short for ``plan board MODEL``."""
    short = arguments[:1] == ["plan"] and len(arguments) > 1 and arguments[1] not in ("board", "engines", "scale", "die", "-h", "--help")
    return ["plan", "board", *arguments[1:]] if short else arguments
