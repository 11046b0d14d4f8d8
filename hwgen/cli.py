"""The program ``hwgen``: a model in, a machine out, and everything to see that it works.

stdout carries a command's result and stderr everything else. Exit codes: 0 done, 1 the machine and the golden model
differ (or a simulation failed), 2 wrong input (one line says what), 130 interrupted.
"""
import argparse
import dataclasses
import math
import os
import sys
import warnings
from pathlib import Path

from .commands.common import (MODEL_HELP, add_clock, add_command, add_machine, design_of,
                              loaded, quantized_of)
from .commands.emit import add_emit
from .commands.fpga import boards_help, run_build, run_program
from .commands.links import add_board, add_link, check_simulator, open_link
from .commands.plan import WHAT as PLAN_WHAT
from .commands.plan import add_plan, run_plan
from .commands.run import add_demo, add_run
from .commands.trace import add_trace
from .host import terminal
from .host.inputs import InputError, checked_input, try_to_write, writing
from .lib import verilator
from .models import DEMO, ModelError, load
from .params.design import Design
from .params.model import PRESETS
from .params.presets import hw_shape, recipe
from .plan.summary import facts, summary

__all__ = ["main"]

RECIPES = ("e3m4", "e3m4,head=pair", "e4m3", "e4m3,head=pair")


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (see {self.prog} --help)")


# -- arguments

def _parser():
    parser = _Parser(prog="hwgen", description="Generate the hardware of one transformer, and run it.",
                     epilog="first: hwgen demo        then: hwgen COMMAND --help, each with an example")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name, run, summary, example, shapes=True, group=commands):
        return add_command(group, name, run, summary, example, shapes)

    add_demo(commands)
    add_emit(commands)
    add_run(commands)
    add_trace(commands)

    sub = command("selftest", run_selftest, "Compare the residual after each layer with the golden model; name the first that differs, and the unit.",
                  "hwgen selftest demo\n  hwgen selftest demo --inject weight:900:3:6          bit 6 of byte 3 of beat 900 of the weights\n"
                  "  hwgen selftest demo --inject kv:v_codes:70:5        bit 5 of word 70 of the values' memory, while the prompt runs\n"
                  "  hwgen selftest demo --inject constant:rope_low:21:9  bit 9 of entry 21 of the angles' table")
    add_machine(sub)
    add_link(sub, golden="")
    sub.add_argument("--inject", action="append", default=[], metavar="FAULT", help="a wrong bit for the simulated machine, to see it found: "
                     "weight:BEAT:BYTE:BIT of the weight stream, kv:MEMORY:WORD:BIT of k_codes, v_codes, k_exps or v_exps, which flips once when the "
                     "word has been written, or constant:TABLE:ENTRY:BIT of rsqrt, sigmoid or reciprocal with _base or _slope, exp2, rope_low or "
                     "rope_high; may be repeated")

    fpga = commands.add_parser("fpga", help="Build a board's bitstream (build), or load it (program).", description="Machines on FPGA boards.",
                               epilog=boards_help(), formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = fpga.add_subparsers(dest="action", metavar="ACTION", required=True)
    sub = command("fpga build", run_build,
                  "From a model to a board's bitstream: emit, synthesize, place and route, pack. An interrupted build goes on where it was.",
                  "hwgen fpga build --board ulx3s-85f\n\n" + boards_help(), shapes=False, group=actions)
    add_machine(sub, shape=None, option="the board's")
    add_board(sub)
    sub.add_argument("--seeds", default="1", metavar="N,A-B", help="of the placement; the fastest is taken (default: 1)")
    sub.add_argument("--clean", action="store_true", help="forget what earlier builds for the board have left")
    sub.add_argument("-o", "--output", default="build/fpga", metavar="DIR", help="where bitstream and report go (default: build/fpga)")
    sub = command("fpga program", run_program, "Load a bitstream into a board, with openFPGALoader.", "hwgen fpga program --board ulx3s-85f",
                  shapes=False, group=actions)
    add_board(sub)
    sub.add_argument("--bitstream", metavar="FILE", help="default: that of hwgen fpga build")
    sub.add_argument("--flash", action="store_true", help="into the flash, where it stays without power")

    sub = command("counters", run_counters, "Run one pass, and print the machine's counters.", "hwgen counters demo --link sim-uart")
    add_machine(sub)
    add_link(sub)

    sub = command("accuracy", run_accuracy, "Perplexity, KL divergence and top-1 agreement of recipes against float32, on a text.",
                  "hwgen accuracy demo --tokens 1000 --recipe e3m4 --recipe e4m3,head=pair --parts", shapes=False)
    sub.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    sub.add_argument("--text", metavar="FILE", help="UTF-8 text (default: the demo model's held-out text, Jane Austen)")
    sub.add_argument("--tokens", type=int, default=2000, metavar="N", help="of the text's start (default: 2000)")
    sub.add_argument("--window", type=int, metavar="N", help="context: the text is cut into such pieces (default: 256, or the model's)")
    sub.add_argument("--recipe", action="append", metavar="R", help="formats as --formats of `hwgen emit`, and head=pair; may be "
                     f"repeated (default: {' '.join(RECIPES)})")
    sub.add_argument("--parts", action="store_true", help="also float32 with only weights, only activations ... in FP8")

    plans = commands.add_parser("plan", help="Does it fit on a board (hwgen plan MODEL --board B); how busy its engines would be (engines); "
                                "a machine that is too large to simulate (scale).",
                                description="hwgen plan MODEL is short for hwgen plan board MODEL. See docs/cost.md, docs/utilization.md and docs/scale.md.")
    actions = plans.add_subparsers(dest="action", metavar="MODEL|board|engines|scale", required=True)
    add_plan(command("plan board", run_plan, PLAN_WHAT, "hwgen plan demo --board ulx3s-85f\n  hwgen plan smollm2-135m --lut 200000 --bram 5000 --shape latency-16x16",
                     group=actions), MODEL_HELP)
    sub = command("plan engines", run_plan_engines, "How busy each engine of a machine would be, and the fewest lanes that keep its array busy.",
                  "hwgen plan engines smollm2-135m --shape batch-32x32 --position 200", group=actions)
    add_machine(sub, shape="batch-32x32")
    sub.add_argument("--position", type=int, metavar="P", help="of the entries in their slots (default: the middle of the context)")
    add_clock(sub)
    sub = command("plan scale", run_plan_scale, "Throughput of a server of many chips on the cycle model: every assumption a parameter, and what binds.",
                  "hwgen plan scale --set split=pipeline,entries=4096\n  hwgen plan scale --model llama-3.1-8b --set split=pipeline,hbm_tb_s=8 --sweep entries=512:1024:2048",
                  shapes=False, group=actions)
    sub.add_argument("--model", default="llama-3-70b", choices=[*PRESETS], metavar="NAME", help=f"{', '.join(PRESETS)} (default: llama-3-70b)")
    sub.add_argument("--set", default="", metavar="FIELD=VALUE,...", help="other assumptions; the report lists all fields")
    sub.add_argument("--sweep", metavar="FIELD=V:V:V", help="also a table of what one assumption changes")
    sub.add_argument("--json", metavar="FILE", help="write assumptions and results")

    sub = command("info", run_info, "What a model is, and what a machine for it would hold.", "hwgen info demo --shape batch-16x16")
    add_machine(sub)
    return parser


# -- the commands

def run_selftest(options, screen):
    from .host.diagnose import diagnose
    from .host.driver import Mismatch, selftest
    from .host.faults import parse_fault
    from .host.golden_link import GoldenLink
    checkpoint, design = loaded(options)
    with checked_input():
        faults = [parse_fault(text, design) for text in options.inject]
    if options.link in ("verilator", "sim-uart"):
        check_simulator()
    screen.say(summary(design))
    for fault in faults:
        screen.say(f"injected: {fault.where(design)}")
    options.check = False
    quantized = quantized_of(screen, checkpoint, design)
    with open_link(screen, options, design, quantized, faults=faults) as link, GoldenLink(design, quantized) as golden:
        try:
            passes = selftest(link, golden)
        except Mismatch as mismatch:
            with screen.stage("looking for the unit"):
                found = diagnose(link, quantized, golden, mismatch)
            print(f"{mismatch}\n" + "\n".join(found.lines()))
            raise Mismatch(str(mismatch).partition(" is the first")[0] + f": {found.unit}") from None
    print(f"ok: the tokens, and the residual after each of {design.layers} layers, equal the golden model's in {passes} passes"
          + ("; no pass felt what was injected" if faults else ""))


def run_counters(options, screen):
    from .host.link import Entry
    from .params.phases import EVENTS
    checkpoint, design = loaded(options)
    if options.link in ("verilator", "sim-uart"):
        check_simulator()
    options.check = False
    with open_link(screen, options, design, quantized_of(screen, checkpoint, design)) as link:
        result = link.run_pass([Entry(0, 0, 0, True)])
    for name, value in result.counters.items():
        print(f"{name:14}{value:>10,}  cycles in which {EVENTS[name]}")


def run_accuracy(options, screen):
    from .plan.accuracy import compare, report, variants
    checkpoint = load(options.model)
    path = Path(options.text) if options.text else DEMO / "valid.txt"
    with checked_input():
        recipes = {text: recipe(text) for text in options.recipe or RECIPES}
        if options.tokens < 2:
            raise ValueError(f"Token count must be at least 2, not {options.tokens}")
        longest = checkpoint.shape.max_position_embeddings
        window = options.window or min(256, longest)
        if not 2 <= window <= longest:
            raise ValueError(f"Window must be 2 to the model's context {longest}, not {window}")
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path}: Text must be UTF-8") from None
        tokens = checkpoint.tokenizer.encode(text, special=False)[:options.tokens]
        if len(tokens) < 2:
            raise ValueError(f"{path}: Text must be at least 2 tokens long, not {len(tokens)}")
    with screen.bar("measuring") as progress:
        rows = compare(checkpoint, tokens, variants(checkpoint, recipes, window, parts=options.parts),
                       window=window, prefix=checkpoint.tokenizer.encode(""), progress=progress)
    name = path.name if options.text else "the demo model's held-out text"
    print(f"{checkpoint.shape.name} on {name}, in pieces of {window} tokens")
    print("\n".join(report(rows)))


def run_info(options, screen):
    checkpoint = load(options.model, need_tokenizer=False)
    for label, text in facts(design_of(options, checkpoint), checkpoint.source).items():
        print(f"{label:15}{text}")


def run_plan_scale(options, screen):
    import dataclasses
    import json
    from .plan.scale import assumptions, outcome, parse, report, sweep_table
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
        with writing(options.json):
            Path(options.json).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def run_plan_engines(options, screen):
    from .plan.throughput import TARGET, engine_use, fewest_lanes, traffic
    shape = PRESETS[options.model] if options.model in PRESETS else load(options.model, need_tokenizer=False).shape
    with checked_input():
        design = Design(model=shape, hw=hw_shape(options.shape, shape), recipe=recipe(options.formats, options.head))
        hw = design.hw
        position = hw.context // 2 if options.position is None else options.position
        if not hw.entries <= position + 1 <= hw.context:
            raise ValueError(f"Position must be {hw.entries - 1} to {hw.context - 1}, not {position}")
        if not 0 < options.clock < math.inf:
            raise ValueError(f"Clock must be above 0 MHz, not {options.clock:g}")
    screen.say(summary(design))
    uses = {kind: engine_use(design, *entries) for kind, entries in traffic(hw, position).items()}
    rows = [("cycles of a pass", lambda u: f"{u['cycles']:,}"), ("array busy", lambda u: f"{u['array']:.1%}"),
            ("  waits for weights", lambda u: f"{u['starved']:.1%}"), ("norm busy", lambda u: f"{u['norm']:.1%}"),
            ("attention busy", lambda u: f"{u['attention']:.1%}"), ("weight bytes a cycle", lambda u: f"{u['weights'] * hw.beat_bytes:.0f}"),
            (f"tokens/s at {options.clock:g} MHz", lambda u: f"{options.clock * 1e6 * hw.entries / u['cycles']:,.0f}")]
    print(f"{f'{hw.entries} entries at {position}':26}" + "".join(f"{kind:>13}" for kind in uses))
    for label, text in rows:
        print(f"{label:26}" + "".join(f"{text(use):>13}" for use in uses.values()))
    vector, attention, use = fewest_lanes(design, position)
    print(f"{'fewest lanes for' if use >= TARGET else 'no lanes give'} {TARGET:.0%} in decode: vector_lanes={vector},attention_lanes={attention} "
          f"({use:.1%})")


def _plan_board(arguments):
    """``plan MODEL`` is short for ``plan board MODEL``."""
    short = arguments[:1] == ["plan"] and len(arguments) > 1 and arguments[1] not in ("board", "engines", "scale", "-h", "--help")
    return ["plan", "board", *arguments[1:]] if short else arguments


def main(arguments=None):
    from .host.driver import Mismatch
    from .host.link import LinkError
    command = "hwgen"

    def complain(text, code):
        print(f"{command}: {text}", file=sys.stderr)
        return code

    try:
        options = _parser().parse_args(_plan_board(sys.argv[1:] if arguments is None else list(arguments)))
        command = f"hwgen {options.command}"
        options.run(options, terminal.Screen())
        sys.stdout.flush()
        return 0
    except (InputError, ModelError) as error:
        return complain(f"error: {error}", 2)
    except verilator.VerilatorError as error:
        if "\n" in str(error):
            raise               # not a missing tool but Verilog that it does not take: a bug
        return complain(f"error: {error}", 2)
    except (Mismatch, LinkError) as error:
        return complain(f"failed: {error}", 1)
    except KeyboardInterrupt:
        warnings.simplefilter("ignore")     # Amaranth's, about components that were not finished
        return complain("interrupted", 130)
    except BrokenPipeError:     # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
