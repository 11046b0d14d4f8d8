"""hwgen plan die: the die that holds its model."""
from ...host.inputs import check_writable, checked_input, write_json
from ...params.model import PRESETS
from ..chips import shape_of
from ..common import MODEL_HELP, add_command, recipe_of

__all__ = ["add_die"]


def add_die(actions):
    sub = add_command(actions, "plan die", run_plan_die,
                      "The die that holds a model, weights in ROM beside the multipliers, keys, values and adapters "
                      "in SRAM: the smallest that is as fast as asked; its transistors by part and for each weight, "
                      "and what binds. Each number that is assumed "
                      "has a name and a source; nobody has built it (docs/die.md).",
                      "hwgen plan die llama-3.1-8b --tokens-per-second 17000\n"
                      "  hwgen plan die llama-3.1-8b --tokens-per-second 5000 --users 8 --context 1024\n"
                      "  hwgen plan die path/to/config.json --tokens-per-second 17000 --formats e3m4 --set "
                      "clock_ghz=1.5,rom_overhead=0.1", shapes=False)
    sub.add_argument("model", metavar="MODEL",
                     help=f"{MODEL_HELP}; a config.json, or its folder, without weights; one of "
                                                    f"{', '.join(PRESETS)}")
    sub.add_argument("--tokens-per-second", type=float, required=True, metavar="N", help="of each user")
    sub.add_argument("--users", type=int, default=1, metavar="U",
                     help="texts at once: a pass makes a token of each (default: 1)")
    sub.add_argument("--context", type=int, metavar="C",
                     help="positions of each user that SRAM has keys and values of (default: 2048, or the model's if "
                          "it has fewer)")
    sub.add_argument("--set", default="", metavar="FIELD=VALUE,...",
                     help="other assumptions; the report lists all fields with their sources")
    sub.add_argument("--formats", metavar="F",
                     help="as for hwgen emit (default: weights=e2m1; a head that is the embedding table too has 8 "
                           "bits)")
    sub.add_argument("--head", choices=("single", "pair"), help="as for hwgen emit")
    sub.add_argument("--json", metavar="FILE", help="write assumptions and results")


def run_plan_die(options, screen):
    from ...plan import die
    from ...plan.die_report import as_json, report
    shape, kept = shape_of(screen, options.model)
    with checked_input():
        if kept is None and options.formats is None:
            options.formats = die.default_formats(shape)
        context = min(2048, shape.longest_context) if options.context is None else options.context
        asked = die.die(shape, options.set, tokens=options.tokens_per_second, users=options.users, context=context,
                        recipe=recipe_of(options, kept, options.model))
    check_writable(options.json)
    with checked_input():
        found = die.plan(asked)
    print("\n".join(report(found)))
    if options.json:
        write_json(options.json, as_json(found))
