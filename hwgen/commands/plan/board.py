"""hwgen plan board: does a machine fit on a board, and how fast would it be."""
import math
from dataclasses import dataclass
from functools import cached_property

from rich.table import Table

from ...fpga.boards import BOARDS, Board
from ...host.inputs import check_writable, checked_input, write_json
from ...host.terminal import result
from ...models import ModelError, load, quantize
from ...models.wires import different_rows, matrix_name
from ...params.design import Design
from ...params.limits import check_padding
from ...params.presets import hw_shape
from ...plan.costs import ALONE, BUILT, KINDS, PAIRED, check_pairs, table, unknown
from ...plan.fit import FULL, Fit, cycles_with, fit, largest, smallest_change, spelled
from ...plan.loading import Reading, adapter_seconds, card_seconds, load_seconds, reading
from ...plan.summary import summary
from ...plan.wired import expected
from ..chips import DOES_NOT_FIT, add_chip, capacity_of, check_clock, chip, shape_of
from ..common import add_command, recipe_of
from ..links import check_source

__all__ = ["add_plan_board"]

WHAT = ("Whether a model's machine fits on a board, what clock and speed to expect, and what to change if it does not. "
        "The model's config.json is enough. Estimates: docs/cost.md says how far off they were.")


def add_plan_board(actions):
    sub = add_command(actions, "plan board", run_plan_board, WHAT,
                      "hwgen plan demo --board ulx3s-85f\n"
                      "  hwgen plan smollm2-135m --lut 200000 --bram 5000 --shape latency-16x16")
    add_chip(sub)
    sub.add_argument("--formats", metavar="F", help="as for hwgen emit")
    sub.add_argument("--head", choices=("single", "pair"), help="as for hwgen emit")
    sub.add_argument("--units", action="store_true", help="also what each unit takes")
    sub.add_argument("--json", metavar="FILE", help="write all of it as JSON too")


@dataclass(frozen=True)
class _Estimate:
    """A machine on a chip.

    title       the chip's
    board       None for a chip without a board here
    asked       MHz of --clock, or None
    """
    title: str
    board: Board | None
    found: Fit
    asked: float | None

    @property
    def design(self):
        return self.found.design

    @property
    def clock(self):
        """MHz for speeds: as asked, else what the machine may reach on its board; 0 if that is not known."""
        known = (self.found.mhz, self.board.clock if self.board else 0)
        return self.asked or min((mhz for mhz in known if mhz), default=0)

    @property
    def memory(self):
        """The board's, or None."""
        return self.board and self.board.memory

    @property
    def weight_bytes(self):
        return self.design.stream_beats * self.design.hw.beat_bytes

    @property
    def too_large(self):
        """Whether the weights, and keys and values beside them, do not fit in the memory."""
        return bool(self.memory) and self.design.memory_bytes > self.memory.size

    @property
    def fits(self):
        return not (self.found.over or self.too_large)

    @cached_property
    def readings(self) -> dict[int, Reading]:
        """{texts at once: `Reading`} of a machine that fits and has its weights in a memory."""
        if not (self.fits and self.memory):
            return {}
        return {texts: reading(self.design, self.memory, self.clock, texts, self.board.memory_clock)
                for texts in self._counts}

    @cached_property
    def speeds(self) -> dict[int, float]:
        """{texts at once: cycles of a token} of a machine that fits."""
        if not self.fits:
            return {}
        return {texts: self.readings[texts].cycles if self.memory else self.found.cycles(texts)
                for texts in self._counts}

    @property
    def _counts(self):
        hw = self.design.hw
        return sorted({1, min(hw.entries, hw.slots, hw.blocks)})


def run_plan_board(options, screen):
    title, capacity, board, family, design, rows = _asked(options, screen)
    check_writable(options.json)
    screen.say(summary(design))
    estimate = _Estimate(title, board, fit(design, family, capacity, rows, board.around if board else ALONE),
                         options.clock)
    print(f"{'fits' if estimate.fits else 'does not fit'}: {design.model.name} on {title}")
    _say_used(estimate.found)
    if options.units:
        _say_units(estimate.found)
    if design.hw.wired:
        _say_wires(estimate.found, options.units)
    if estimate.memory:
        _say_memory(estimate)
    if design.hw.adapters:
        _say_adapters(estimate)
    smaller = _say_smaller(estimate) if estimate.found.over and not estimate.too_large else None
    if estimate.found.over and not estimate.too_large:
        _say_larger(estimate)
    if estimate.fits:
        _say_speed(estimate)
        _say_room(estimate)
    if options.json:
        write_json(options.json, _facts(estimate, smaller))
    return 0 if estimate.fits else DOES_NOT_FIT


def _asked(options, screen):
    """(title, {kind: how many}, board or None, family, design, rows of its matrices that differ or None) of the
    options."""
    model, kept = shape_of(screen, options.model)
    with checked_input():
        title, family, capacity, board = chip(options)
        shape = options.shape if options.shape is not None else board.shape if board else "tiny"
        if options.formats is None and board and not kept:
            options.formats = board.formats
        hw = hw_shape(shape, model)
        design = Design(model=model, hw=hw, recipe=recipe_of(options, kept, options.model))
        check_padding(design)
        check_source(board, hw)
        check_pairs(hw, family)
        check_clock(options)
    return title, capacity, board, family, design, _rows(options.model, kept, design, screen) if hw.wired else None


def _rows(model, kept, design, screen):
    """{key: rows that differ} of a model's matrices, or None where only its shape is known."""
    try:
        checkpoint = None if kept else load(model, need_tokenizer=False)
    except ModelError:
        return None
    with screen.bar("quantizing") as progress:
        return different_rows(kept or quantize(checkpoint, design.recipe, progress), design)


def _right_aligned(rows):
    """A table whose first column alone starts at the left."""
    for column in rows.columns[1:]:
        column.justify = "right"
    return rows


def _say_used(found):
    """What the machine takes of the chip's resources."""
    rows = _right_aligned(Table("", "about", "of", "", box=None, header_style="bold", padding=(0, 2)))
    for kind, used in found.used.items():
        there = found.capacity.get(kind)
        rows.add_row(kind, f"{used:,}", f"{there:,}" if there is not None else "",
                     f"{used / there:.0%}" if there else "")
    result(rows)
    built = BUILT[found.family]
    if built.largest and found.used["LUT"] > 1.1 * built.largest and not found.over:    # beyond the estimate's error
        print(f"caution  of {found.family} machines of up to {built.largest:,} LUTs were placed and routed, and "
              + (f"one of {built.failed:,} was not" if built.failed else "no larger one was tried"))
    if missing := unknown(found.design):
        print(f"without  what was never synthesized: {'; '.join(missing)}")


def _say_units(found):
    """What each unit takes."""
    rows = _right_aligned(Table("unit", *KINDS, box=None, header_style="bold", padding=(0, 2)))
    for unit, costs in sorted(found.units.items(), key=lambda item: -item[1]["LUT"]):
        rows.add_row(unit, *(f"{costs[kind]:,.0f}" for kind in KINDS))
    result(rows)


def _say_wires(found, units):
    """What is known of matrices that are logic; ``units``: each of them."""
    if units:
        print("LUT4     of a weight, by matrix: "
              + ", ".join(f"{matrix_name(*key)} {m.luts / m.size[0] / m.size[1]:.2f}"
                          for key, m in expected(found.design, found.rows).items()))
    if found.rows is None:
        print("         of a shape alone: equal rows of weights are the same logic (docs/wired.md)")


def _say_memory(estimate):
    """The memory beside the FPGA, and how long its weights take to get there."""
    memory, size, baud = estimate.memory, estimate.weight_bytes, estimate.board.baud
    print("         with the memory's controller, the reader of weights and the loader, as one build took them"
          + ("; the card's reader is not counted" if estimate.board.card else ""))
    print(f"memory   {memory.title}: {size:,} bytes of weights of {memory.size:,}"
          + (": too many, take a smaller model or --formats weights=e2m1" if estimate.weight_bytes > memory.size else
             ": with keys and values too many, take a smaller context or fewer slots" if estimate.too_large else
             f"; {load_seconds(size, baud):,.1f} s to load them, at {baud:,} baud"
             + (f", or {_from_card(estimate):,.1f} s from an SD card" if estimate.board.card else "")))
    if estimate.design.hw.kv_port:
        print(f"         {estimate.design.kv_places.size:,} bytes of keys and values in it")
    if estimate.board.memory_clock:
        print(f"         {estimate.board.memory_clock:g} MHz, its own clock: at most "
              f"{estimate.board.memory_clock * memory.cycle_bits / 8:,.0f} MB/s")


def _from_card(estimate):
    """Seconds until weights have come from a board's card."""
    return card_seconds(estimate.weight_bytes, estimate.board.clock, estimate.memory.axi())


def _say_adapters(estimate):
    """The memory for adapters, how long one takes to get there, and how much longer a token."""
    design, board = estimate.design, estimate.board
    print(f"adapters {design.hw.adapters} of rank {design.hw.adapter_rank} or less, "
          f"{design.adapter_map.kept_bytes:,} bytes each"
          + (f"; {adapter_seconds(design, board.baud):,.1f} s to load one, at {board.baud:,} baud" if board else ""))
    without, adapted = (cycles_with(design, number) for number in (0, 1))
    print(f"         one text with an adapter: {adapted:,.0f} cycles a token, "
          f"{100 * (adapted / without - 1):.1f} % more")


def _speed(cycles, mhz):
    speed = 1e6 * mhz / cycles
    at = f"{speed:,.{1 if speed < 10 else 0}f} tokens/s at {mhz:.4g} MHz: " if mhz else ""
    return f"{at}{cycles:,.0f} cycles a token"


def _say_speed(estimate):
    """Clock, and tokens a second of one text and of as many as there can be."""
    found, board = estimate.found, estimate.board
    reached = (f"about {found.mhz:.0f} MHz" if found.mhz else
               f"not known: no machine was placed and routed on {found.family} yet")
    print(f"clock    {reached}" + (f"; the board's is {board.clock:g} MHz" if board else ""))
    if estimate.asked and found.mhz and estimate.asked > found.mhz:
        print(f"         {estimate.asked:g} MHz is more than it may reach")
    for texts, cycles in estimate.speeds.items():
        what = "one text" if texts == 1 else f"{texts} texts of {found.design.room(texts)} at once"
        print(f"{'speed' if texts == 1 else '':8} {_speed(cycles, estimate.clock)}, {what}"
              + (_bound(estimate.readings[texts]) if estimate.memory else ""))


def _bound(read):
    return (f"; {read.binds} binds: {read.memory:,.0f} cycles of a pass for its weights, "
            f"{read.machine:,.0f} for the rest")


def _say_room(estimate):
    """What a larger context or more slots could be."""
    found, model, hw = estimate.found, estimate.design.model, estimate.design.hw
    room = estimate.memory.size if estimate.memory else math.inf
    context, slots = (largest(found, field, most, room)
                      for field, most in (("context", model.longest_context), ("slots", 256)))
    print(f"room     for a context of {context}" + (" (all that the model has)"
                                                    if context == model.longest_context else "")
          + f", or for {slots} slot{'s' if slots > 1 else ''} of {hw.context}")


def _say_smaller(estimate):
    """Say what there is too much of, and the smallest change that helps. Returns that shape, or None."""
    found = estimate.found
    print("too many "
          + ", ".join(f"{kind}: {found.used[kind]:,} where {int(FULL[kind] * found.capacity[kind]):,} can be used"
                                  for kind in found.over))
    smaller = smallest_change(found.design, found.family, found.capacity, found.rows, found.around)
    if smaller is None:
        _say_no_smaller(found)
        return None
    print(f"smaller  --shape {spelled(smaller.design.hw)}")
    if estimate.memory:
        cycles = reading(smaller.design, estimate.memory, smaller.mhz or estimate.board.clock, 1,
                         estimate.board.memory_clock).cycles
    else:
        cycles = smaller.cycles()
    print(f"         {', '.join(f'{smaller.used[kind]:,} {kind}' for kind in smaller.capacity)}; "
          f"{_speed(cycles, smaller.mhz)}")
    return spelled(smaller.design.hw)


def _say_no_smaller(found):
    """No shape fits: say whether the weights alone are too many, and for how many there would be room."""
    blocks = found.units["weights"]["BRAM"]
    short = blocks > found.capacity.get("BRAM", blocks)
    why = f": its weights alone take {blocks:,} of {found.capacity['BRAM']:,} blocks" if short else ""
    print(f"smaller  no shape of this model fits{why}")
    room = found.capacity.get("BRAM", 0) - found.used["BRAM"] + blocks
    if short and room > 0:
        parameters = found.design.model.parameter_count * room // blocks
        print(f"         a model of {parameters:,} parameters would leave room for what is beside them, at most")
    if found.design.recipe.head == "pair":
        print("         --head single takes half the bytes for its last matrix")


def _say_larger(estimate):
    """Say on which boards of the same kind nothing need change."""
    design, board = estimate.design, estimate.board
    if board is None:
        return
    larger = [other.name for other in BOARDS.values()
              if other.name != board.name and bool(other.memory) == bool(board.memory)
              and other.family in table() and (other.family in PAIRED or not design.hw.dsp_pairs)
              and not fit(design, other.family, capacity_of(other), estimate.found.rows, other.around).over]
    if larger:
        print(f"larger   --board {' or '.join(larger)}, with --shape {spelled(design.hw)}")


def _facts(estimate, smaller):
    """All of it, as JSON has it."""
    found, design, clock = estimate.found, estimate.design, estimate.clock
    units = {unit: {kind: round(count) for kind, count in costs.items()} for unit, costs in found.units.items()}
    speeds = [{"texts": texts, "cycles_per_token": round(cycles, 1),
               "tokens_per_second": round(1e6 * clock / cycles, 1)}
              for texts, cycles in estimate.speeds.items()]
    about = {"kind": "projected", "model": design.model.name, "chip": estimate.title, "family": found.family,
             "shape": spelled(design.hw), "fits": estimate.fits, "used": found.used, "capacity": found.capacity,
             "without": unknown(design), "units": units, "mhz": round(found.mhz, 2), "clock": clock, "smaller": smaller,
             "speeds": speeds}
    if memory := estimate.memory:
        passes = [{"texts": texts, "memory_cycles": each.memory, "machine_cycles": round(each.machine, 1),
                   "binds": each.binds} for texts, each in estimate.readings.items()]
        seconds = round(load_seconds(estimate.weight_bytes, estimate.board.baud), 1)
        about["memory"] = {"title": memory.title, "bytes": memory.size, "weights": estimate.weight_bytes,
                           "load_seconds": seconds, "passes": passes}
        if estimate.board.card:
            about["memory"]["card_seconds"] = round(_from_card(estimate), 1)
    return about
