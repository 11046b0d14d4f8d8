"""hwgen plan scale: a server of many chips."""
import dataclasses

from ...host.inputs import check_writable, checked_input, write_json
from ...params.model import PRESETS
from ..common import add_command

__all__ = ["add_plan_scale"]


def add_plan_scale(actions):
    sub = add_command(actions, "plan scale", run_plan_scale,
                      "Throughput of a server of many chips on the cycle model: every assumption a parameter, and "
                      "what binds.", "hwgen plan scale --set split=pipeline,entries=4096\n"
                      "  hwgen plan scale --model llama-3.1-8b --set split=pipeline,hbm_tb_s=8 --sweep "
                      "entries=512:1024:2048", shapes=False)
    sub.add_argument("--model", default="llama-3-70b", choices=[*PRESETS], metavar="NAME",
                     help=f"{', '.join(PRESETS)} (default: llama-3-70b)")
    sub.add_argument("--set", default="", metavar="FIELD=VALUE,...",
                     help="other assumptions; the report lists all fields")
    sub.add_argument("--sweep", metavar="FIELD=V:V:V", help="also a table of what one assumption changes")
    sub.add_argument("--json", metavar="FILE", help="write assumptions and results")


def run_plan_scale(options, screen):
    from ...plan.scale import assumptions, outcome, parse, report, sweep_table
    model = PRESETS[options.model]
    with checked_input():
        scale, sweep = parse(model, options.set), []
        if options.sweep is not None:
            name, _, values = options.sweep.partition("=")
            kept = ",".join(pair for pair in options.set.split(",") if pair.partition("=")[0].strip() != name)
            sweep = [parse(model, f"{kept},{name}={value}") for value in values.split(":")]
    check_writable(options.json)
    found = outcome(scale)
    print("\n".join(report(scale, found)))
    if sweep:
        print("\n".join(["", *sweep_table(name, sweep)]))
    if options.json:
        write_json(options.json, {
            "kind": "projected", "assumptions": [dict(zip(("name", "value", "source"), row))
                                                 for row in assumptions(scale)],
            "outcome": dataclasses.asdict(found)})
