"""hwgen plan compare: which shapes of a model's machine fit on a chip, and which of those no other beats."""
from rich.table import Table

from ...host.inputs import check_writable, checked_input, write_json, write_text
from ...host.terminal import result
from ...params.design import Design
from ...params.presets import hw_shape, named_fields, recipe
from ...plan.compare import VARIED, candidates, compared, front, size
from ...plan.compare_picture import front_svg
from ...plan.costs import ALONE, check_pairs
from ...plan.fit import FULL, fit, spelled
from ..chips import DOES_NOT_FIT, add_chip, check_clock, chip, shape_of
from ..common import add_command
from ..links import check_source

__all__ = ["add_compare"]

#: A step of the table is faster by this part at least.
GAIN = 0.03


def add_compare(actions):
    sub = add_command(actions, "plan compare", run_compare,
                      "Try many shapes of a model's machine on a chip. The table has those that are faster than all "
                      "smaller ones, from the smallest to the fastest.",
                      "hwgen plan compare demo --board ulx3s-85f --texts 8 --picture shapes.svg\n"
                      "  hwgen plan compare demo --board ulx3s-85f --shape context=64,lanes=8 --formats e3m4 --formats "
                      "weights=e2m1,head=e3m4")
    add_chip(sub,
             clock="speeds are for this clock, and shapes that may not reach it are left out (default: what each may "
                    "reach)",
             shape=f"what it names stays as it is; of {', '.join(VARIED)} the others are tried (default: the board's "
                   f"shape, or tiny, and all are tried)")
    sub.add_argument("--texts", type=int, default=1, metavar="N", help="texts that are decoded at once (default: 1)")
    sub.add_argument("--formats", metavar="F", action="append",
                     help="as for hwgen emit; give it again to compare formats too")
    sub.add_argument("--picture", metavar="FILE",
                     help="write all shapes that fit as an SVG: tokens per second over LUTs")
    sub.add_argument("--json", metavar="FILE", help="write all shapes that fit as JSON")


def run_compare(options, screen):
    model, kept = shape_of(screen, options.model)
    with checked_input():
        title, family, capacity, chosen = chip(options)
        if "LUT" not in capacity:
            raise ValueError("LUT count must be given: --lut N")
        check_clock(options)
        if not 1 <= options.texts <= 256:
            raise ValueError(f"Texts must be 1 to 256, not {options.texts}")
        if kept and options.formats:
            raise ValueError(f"Formats must be those in which {options.model} is: leave out --formats, or name the "
                             "model it was made from")
        fixed = named_fields(options.shape) if options.shape is not None else set()
        shape = options.shape if options.shape is not None else chosen.shape if chosen else "tiny"
        base = hw_shape(shape, model)
        check_source(chosen, base)
        if base.wired:
            raise ValueError("Weight source must be 'rom' for hwgen plan compare, not 'wired': the matrices' size "
                             "depends on every weight")
        check_pairs(base, family)
        if "slots" in fixed and base.slots < options.texts:
            raise ValueError(f"Slots must be at least the {options.texts} texts, not {base.slots}")
        formats = options.formats or [chosen.formats if chosen else None]
        recipes = {spelled: recipe(spelled) for spelled in formats} if kept is None else {None: kept.recipe}
        bases = [Design(model=model, hw=base, recipe=of) for of in recipes.values()]
        designs = [design for of in bases for design in candidates(of, family, capacity, options.texts, fixed)]
        if not designs:
            raise ValueError("Shape must leave something that can be: with what it names there is no machine")
    check_writable(options.picture, options.json)
    with screen.bar("trying shapes") as progress:
        points = compared(designs, family, capacity, options.texts, options.clock, progress,
                          memory=chosen and chosen.memory, memory_clock=chosen and chosen.memory_clock,
                          around=chosen.around if chosen else ALONE)
    about = f"{model.name} on {title}, {options.texts} text{'s' if options.texts > 1 else ''} at once"
    print(f"{about}: {len(points):,} of {len(designs):,} shapes fit")
    if base.adapters:
        print("speeds are of texts without an adapter")
    best, names = front(points, GAIN), {of: name or "default" for name, of in recipes.items()}
    unit = "tokens/s" if all(point.mhz for point in points) else "tokens in a million cycles"
    if options.json:
        shapes = [_facts(point, names, best) for point in sorted(points, key=lambda p: -p.speed)]
        write_json(options.json, {"kind": "projected", "model": model.name, "chip": title, "capacity": capacity,
                                  "texts": options.texts, "unit": unit, "shapes": shapes})
    if not points:
        print(_why_not(designs, family, capacity, options.clock, chosen.around if chosen else ALONE)
              + (", and there is nothing to draw" if options.picture else ""))
        return DOES_NOT_FIT
    result(_table(best, unit, names, len(recipes) > 1))
    if options.picture:
        write_text(options.picture, front_svg(f"{about} (projected)", points, best, unit))
    return 0


def _why_not(designs, family, capacity, clock, around):
    """What the smallest shape has too much of, or what it does not reach."""
    found = fit(min(designs, key=size), family, capacity, around=around)
    if not found.over:
        return f"no shape may reach {clock:g} MHz: the smallest about {found.mhz:.0f}"
    return "the smallest has too many " + ", ".join(f"{kind}: {found.used[kind]:,} where "
                                                    f"{int(FULL[kind] * capacity[kind]):,} can be used"
                                                    for kind in found.over)


def _table(best, unit, names, several):
    rows = Table("", "LUT", "of", "BRAM", "DSP", "MHz", "cycles a token", unit, box=None, header_style="bold",
                 padding=(0, 1))
    for column in rows.columns:
        column.justify = "right"
    for name in ["formats"] * several + ["--shape"]:
        rows.add_column(name)
    for number, point in enumerate(best, 1):
        used, capacity = point.fit.used, point.fit.capacity
        rows.add_row(str(number), f"{used['LUT']:,}", f"{used['LUT'] / capacity['LUT']:.0%}", f"{used['BRAM']:,}",
                     f"{used['DSP']:,}", f"{point.mhz:.0f}" if point.mhz else "?", f"{point.cycles:,.0f}",
                     f"{point.speed:,.0f}",
                     *[names[point.fit.design.recipe]] * several, spelled(point.fit.design.hw))
    return rows


def _facts(point, names, best):
    return {"shape": spelled(point.fit.design.hw), "formats": names[point.fit.design.recipe], "used": point.fit.used,
            "mhz": round(point.mhz, 2),
            "cycles_per_token": round(point.cycles, 1), "speed": round(point.speed, 1),
            "in_table": any(point is other for other in best)}
