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

from .commands.common import MODEL_HELP, add_clock, add_command, add_machine
from .commands.emit import add_emit
from .commands.fpga import boards_help, run_build, run_program
from .commands.links import add_board
from .commands.models import add_accuracy, add_info
from .commands.plan import WHAT as PLAN_WHAT
from .commands.plan import add_plan, run_plan
from .commands.run import add_demo, add_run
from .commands.selftest import add_counters, add_selftest
from .commands.trace import add_trace
from .host import terminal
from .host.inputs import InputError, checked_input, try_to_write, writing
from .lib import verilator
from .models import ModelError, load
from .params.design import Design
from .params.model import PRESETS
from .params.presets import hw_shape, recipe
from .plan.summary import summary

__all__ = ["main"]


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
    add_selftest(commands)

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

    add_counters(commands)
    add_accuracy(commands)

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

    add_info(commands)
    return parser


# -- the commands

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
