"""What a bench says when it fails: the first difference, in which item, cycle and field, as code and as number, and the
inputs before it.

Benches compare by plain assertions (``assert await sink.wait(n) == expected``). cocotb has pytest rewrite these, and
pytest asks the function that :func:`install` gives it what to say of a comparison that does not hold. So no bench does
anything for it, and one that passes does nothing at all. What a sink gives is a :class:`Seen`, which knows where it is
from; other lists are compared alike, but for the cycles of their items.
"""
import enum
import linecache
import struct
import sys

from amaranth.hdl import Shape
from amaranth.lib import data
from _pytest.assertion import util

from hwgen.params.formats import FORMATS, Fp8

__all__ = ["Seen", "context", "explanation", "install", "show"]

#: Characters of an item that are shown.
MOST = 400
#: The clock of the running test, which knows its sources.
_clock = None


class Seen(list):
    """What a sink received (``of`` "item") or when it did ("cycle"), with the transfers that this is of. Slices and
    fields know it too."""

    def __init__(self, values, sink, of, numbers=None, log=None, path=()):
        super().__init__(values)
        self.sink, self.of, self.path = sink, of, path
        self.log = sink.received if log is None else log        # a sink that is cleared takes a new list
        self.numbers = range(len(self)) if numbers is None else numbers

    def __getitem__(self, at):
        got = super().__getitem__(at)
        return Seen(got, self.sink, self.of, self.numbers[at], self.log, self.path) if isinstance(at, slice) else got

    def field(self, name):
        """A field of each item."""
        return Seen([item[name] for item in self], self.sink, self.of, self.numbers, self.log, (*self.path, name))


def install(clock):
    """Explain failed comparisons of this process, with the inputs and cycles of a clock's bench."""
    global _clock
    _clock = clock
    # What pytest itself sets in each of its tests, to its hook `pytest_assertrepr_compare`: cocotb runs tests without
    # pytest's hooks.
    util._reprcompare = _of_pytest


def _of_pytest(op, left, right):
    if op != "==":
        return None
    try:
        lines = explanation(left, right)
    except Exception as error:      # whatever it is, it must not take the place of the failure
        lines = [f"{_short(repr(left))} == {_short(repr(right))}", f"not explained: {type(error).__name__}: {error}"]
    return "\n~".join(line.replace("\n", "\\n") for line in lines).replace("%", "%%")


# Values

def _number(code, number):
    """What a code spells in bf16, in an FP8 format, or ("fp8") in each of them."""
    if number == "fp8":
        return ", ".join(_number(code, fmt) for fmt in FORMATS.values())
    if isinstance(number, Fp8):
        said = f"{number.int_value(code) * 2.0 ** number.unit_exp:.9g}" if number.is_finite(code) else "not finite"
        return f"{number} {said}"
    return f"bf16 {struct.unpack('>f', struct.pack('>I', code << 16))[0]:.9g}"


def _format(name, shape, numbers):
    """How a leaf is to be read: as ``numbers`` says, or by the names of `hwgen.lib.layouts`, where x is bf16 and codes
    are FP8."""
    width = Shape.cast(shape).width if shape is not None else None
    return (numbers or {}).get(name) or {("x", 16): "bf16", ("codes", 8): "fp8"}.get((name, width))


def _below(shape, key):
    if isinstance(shape, data.ArrayLayout):
        return shape.elem_shape
    return shape[key].shape if isinstance(shape, data.Layout) else None


def show(value, shape=None, numbers=None, name=""):
    """A value in words: numbers of a format as code and as number, others in decimal and hexadecimal; items with their
    fields."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {show(item, _below(shape, key), numbers, key)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(show(item, _below(shape, None), numbers, name) for item in value) + "]"
    if isinstance(value, enum.Enum):
        return f"{value.name} ({value.value})"
    if isinstance(value, bool) or not isinstance(value, int):
        return repr(value)
    fmt = _format(name, shape, numbers)
    if fmt is not None and 0 <= value < (1 << 16 if fmt == "bf16" else 1 << 8):
        return f"{value:#x} ({_number(value, fmt)})"
    return f"{value} ({value:#x})" if abs(value) > 9 else str(value)


def _short(text):
    return text if len(text) <= MOST else f"{text[:MOST]}..."


# Differences

def _plain(value):
    """Arrays as lists, their numbers as Python's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _difference(got, want, path=()):
    """(path, got, want) of the first leaf that differs; of lists of unlike lengths, where one ends ("nothing")."""
    got, want = _plain(got), _plain(want)
    if isinstance(got, (list, tuple)) and isinstance(want, (list, tuple)):
        for i, (one, other) in enumerate(zip(got, want)):
            if one != other:
                return _difference(one, other, (*path, i))
        if len(got) != len(want):
            short = min(len(got), len(want))
            return (*path, short), *(side[short] if len(side) > short else None for side in (got, want))
    if isinstance(got, dict) and isinstance(want, dict):
        for key in {**want, **got}:
            if key not in got or key not in want or got[key] != want[key]:
                return _difference(got.get(key), want.get(key), (*path, key))
    return path, got, want


def _spelled(path):
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _leaf(path, value, shape, numbers):
    name = ""
    for step in path:
        shape, name = _below(shape, step), step if isinstance(step, str) else name
    return "nothing" if value is None else _short(show(value, shape, numbers, name))


def explanation(left, right):
    """Lines on ``left == right``, which does not hold; what a sink received, or else ``left``, is what the design
    did."""
    got, want = (right, left) if isinstance(right, Seen) and not isinstance(left, Seen) else (left, right)
    path, *leaves = _difference(got, want)
    lists = path and isinstance(path[0], int)
    below = path[1:] if lists else path
    place, cycle, number, shape, numbers, sink = [], None, None, None, None, None
    if lists and isinstance(got, Seen):
        below = (*got.path, *below)
        sink, number = got.sink, got.numbers.start + got.numbers.step * path[0]
        cycle = got.log[number][0] if number < len(got.log) else None
        place.append(f"{sink.name}: item {number}")
        if got.of == "item":
            shape, numbers = sink.shape, sink.numbers
            place += [f"cycle {cycle}"] * (cycle is not None)
        else:
            place.append("its cycle")
    elif lists:
        place.append(f"item {path[0]}")
    place += [f"field {_spelled(below)}"] * bool(below)
    said = " expected ".join(_leaf(below, leaf, shape, numbers) + comma for leaf, comma in zip(leaves, (",", "")))
    line = f"{', '.join(place)}: " * bool(place) + f"got {said}" + (_amount(_plain(got), _plain(want)) if lists else "")
    return [line, *(context(cycle, sink, number, below) if _clock is not None else []), *_asserted()]


def _amount(got, want):
    """How many items are wrong."""
    wrong = sum(bool(_plain(one) != _plain(other)) for one, other in zip(got, want)) + abs(len(got) - len(want))
    lengths = f", {len(got)} came instead of {len(want)}" if len(got) != len(want) else ""
    return f" ({wrong} of {max(len(got), len(want))} items differ{lengths})" if len(want) > 1 or lengths else ""


def context(cycle=None, sink=None, number=None, path=(), since=None):
    """Lines: when a difference was noticed, and what each source had given by its cycle, or if that is not known by
    now.

    What did not come is waited for ``since`` a cycle.
    Of a sink that says which source its items are from, it is the item of that ``number``, and in it the lane of the
    path.
    """
    now = _clock.cycle
    first = since if cycle is None else cycle
    later = 0 if first is None else now - first
    lines = [f"noticed in cycle {now}" + f", {later} cycles later" * (later > 0)]
    for source in _clock.sources:
        found, what, lane = source.given_by(now if cycle is None else cycle), "the last before it", None
        if sink is not None and sink.source is source and sink.first + number < len(source.log):
            found, what = sink.first + number, "that of this item"
            lane = path[-1] if path and isinstance(path[-1], int) else None
        if found is None:
            lines.append(f"input {source.name}: nothing before it")
            continue
        when, item = source.log[found]
        lines.append(f"input {source.name}: item {found}, cycle {when}, {what}: "
                     f"{_short(show(item, source.shape, source.numbers))}")
        if lane is not None and isinstance(item, dict):
            lines += [f"  {name}[{lane}] {_leaf((name, lane), value[lane], source.shape, source.numbers)}"
                      for name, value in item.items() if isinstance(value, list) and lane < len(value)]
    return lines


def _asserted():
    """The assertion that asks: a line of a bench."""
    frame = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename == __file__ or "_pytest" in frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return []
    file, line = frame.f_code.co_filename, frame.f_lineno
    return [f"{'/'.join(file.split('/')[-2:])}:{line}: {linecache.getline(file, line).strip()}"]
