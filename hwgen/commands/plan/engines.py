"""hwgen plan engines: how busy the engines of a machine would be."""
import math

from ...host.inputs import check_writable, checked_input, write_json
from ...params.design import Design
from ...params.presets import hw_shape
from ...plan.fit import spelled
from ...plan.summary import summary
from ..chips import shape_of
from ..common import CLOCK, add_clock, add_command, add_machine, recipe_of

__all__ = ["add_plan_engines"]


def add_plan_engines(actions):
    sub = add_command(actions, "plan engines", run_plan_engines,
                      "How busy each engine of a machine would be, and the fewest lanes that keep its array busy.",
                      "hwgen plan engines smollm2-135m --shape batch-32x32 --position 200")
    add_machine(sub, shape="batch-32x32")
    sub.add_argument("--position", type=int, metavar="P",
                     help="of the entries in their slots (default: the middle of the context)")
    sub.add_argument("--json", metavar="FILE", help="write all of it as JSON too")
    add_clock(sub)


def run_plan_engines(options, screen):
    from ...plan.throughput import TARGET, engine_use, fewest_lanes, traffic
    design, position, clock = _asked(options, screen)
    hw = design.hw
    check_writable(options.json)
    screen.say(summary(design))
    uses = {kind: engine_use(design, *entries) for kind, entries in traffic(hw, position).items()}
    print("\n".join(_table(hw, position, clock, uses)))
    vector, attention, use = fewest_lanes(design, position)
    print(f"{'fewest lanes for' if use >= TARGET else 'no lanes give'} {TARGET:.0%} in decode: "
          f"vector_lanes={vector},attention_lanes={attention} ({use:.1%})")
    if options.json:
        passes = {kind: found | {"tokens_per_second": round(_speed(hw, clock, found), 1)}
                  for kind, found in uses.items()}
        write_json(options.json, {
            "kind": "projected", "model": design.model.name, "shape": spelled(hw), "position": position, "clock": clock,
            "passes": passes,
            "fewest_lanes": {"vector_lanes": vector, "attention_lanes": attention, "array": use, "wanted": TARGET}})


def _asked(options, screen):
    """(design, position, clock in MHz) of the options."""
    shape, kept = shape_of(screen, options.model)
    with checked_input():
        asked = options.default_shape if options.shape is None else options.shape
        hw = hw_shape(asked, shape)
        design = Design(model=shape, hw=hw, recipe=recipe_of(options, kept, options.model))
        if hw.wired:
            raise ValueError("Weight source must be 'rom' or 'stream' for hwgen plan engines, not 'wired': how long "
                             "logic takes depends on every weight")
        position = hw.context // 2 if options.position is None else options.position
        if not hw.entries <= position + 1 <= hw.context:
            raise ValueError(f"Position must be {hw.entries - 1} to {hw.context - 1}, not {position}")
        clock = CLOCK if options.clock is None else options.clock
        if not 0 < clock < math.inf:
            raise ValueError(f"Clock must be above 0 MHz, not {clock:g}")
    return design, position, clock


def _speed(hw, clock, use):
    """Tokens a second."""
    return clock * 1e6 * hw.entries / use["cycles"]


def _table(hw, position, clock, uses):
    """Lines: a column for each kind of pass."""
    rows = [("cycles of a pass", lambda u: f"{u['cycles']:,}"), ("array busy", lambda u: f"{u['array']:.1%}"),
            ("  waits for weights", lambda u: f"{u['starved']:.1%}"), ("norm busy", lambda u: f"{u['norm']:.1%}"),
            ("attention busy", lambda u: f"{u['attention']:.1%}"),
            ("weight bytes a cycle", lambda u: f"{u['weights'] * hw.beat_bytes:.0f}"),
            (f"tokens/s at {clock:g} MHz", lambda u: f"{_speed(hw, clock, u):,.0f}")]
    yield f"{f'{hw.entries} entries at {position}':26}" + "".join(f"{kind:>13}" for kind in uses)
    for label, text in rows:
        yield f"{label:26}" + "".join(f"{text(use):>13}" for use in uses.values())
