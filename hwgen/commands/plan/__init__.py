"""hwgen plan: what a machine would be, before it is built. A module for each of its commands."""
from .board import add_plan_board
from .compare import add_compare
from .die import add_die
from .engines import add_plan_engines
from .scale import add_plan_scale

__all__ = ["add_plan", "spelled_out"]


def add_plan(commands):
    plans = commands.add_parser(
        "plan",
        help="Does it fit on a board (hwgen plan MODEL --board B); which shapes are best there (compare); how busy its "
             "engines would be (engines); a machine that is too large to simulate (scale); a die that holds its model "
             "(die).",
        description="hwgen plan MODEL is short for hwgen plan board MODEL. See docs/cost.md, docs/utilization.md, "
                    "docs/scale.md and docs/die.md.")
    actions = plans.add_subparsers(dest="action", metavar="MODEL|board|compare|engines|scale|die", required=True)
    for add in (add_plan_board, add_compare, add_plan_engines, add_plan_scale, add_die):
        add(actions)


def spelled_out(arguments):
    """``plan MODEL`` is short for ``plan board MODEL``."""
    named = ("board", "compare", "engines", "scale", "die", "-h", "--help")
    short = arguments[:1] == ["plan"] and len(arguments) > 1 and arguments[1] not in named
    return ["plan", "board", *arguments[1:]] if short else arguments
