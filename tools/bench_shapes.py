#!/usr/bin/env python3
"""Speed over LUTs of the shapes that fit on each board: docs/results/shapes.json, and docs/shapes.svg drawn from it.

Shapes are those of ``hwgen plan compare`` that are faster than all smaller ones. Beside them stand the machines that
were built: LUTs of the report in fpga/BOARD, speed at the board's clock with the cycles of the cycle model. ``--draw``
only draws what the ledger has.
"""
import argparse
import json
import re

from hwgen.fpga.boards import BOARDS
from hwgen.fpga.families import FAMILIES
from hwgen.models import load
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape
from hwgen.params.presets import TINY, hw_shape, recipe
from hwgen.plan.compare import candidates, compared, front
from hwgen.plan.compare_picture import ticks
from hwgen.plan.costs import KINDS
from hwgen.plan.fit import fit, spelled
from hwgen.plan.loading import reading
from tools import ledger

__all__ = ["FILE", "svg"]

FILE = ledger.ROOT / "docs" / "shapes.svg"
RESULT = ledger.RESULTS / "shapes.json"
COMMAND = "python -m tools.bench_shapes"
#: Least gain in speed from one point of the front to the next, as in the table of ``hwgen plan compare``.
GAIN = 0.03
PER_MEGACYCLE = "tokens in a million cycles"


def measured(board):
    """Ledger entries of one board: the front, the machine that was built, and what the chip has."""
    model = load(board.model, need_tokenizer=False).shape
    names = FAMILIES[board.family].resources
    capacity = {kind: board.capacity[names[kind.lower()]] for kind in KINDS}
    base = Design(model=model, hw=hw_shape(board.shape, model), recipe=recipe(board.formats))
    texts = base.hw.entries
    designs = list(candidates(base, board.family, capacity, texts))
    best = front(compared(designs, board.family, capacity, texts, memory=board.memory,
                          memory_clock=board.memory_clock, around=board.around), GAIN)
    rows = [(f"{board.name}/chip/LUT", capacity["LUT"], "LUT", "measured"),
            (f"{board.name}/chip/texts", texts, "texts", "measured")]
    for number, point in enumerate(best, 1):
        name = f"{board.name}/{number:02} {spelled(point.fit.design.hw)}"
        rows += [(f"{name}/LUT", point.fit.used["LUT"], "LUT", "projected"),
                 (f"{name}/speed", round(point.speed, 1), "tokens/s" if point.mhz else PER_MEGACYCLE, "projected")]
    if (report := ledger.ROOT / "fpga" / board.name / "report.json").exists():
        built = json.loads(report.read_text())
        design = Design(model=model, hw=HwShape(**built["shape"]), recipe=recipe(board.formats))
        if board.memory:
            cycles = reading(design, board.memory, built["clock"], design.hw.entries, board.memory_clock).cycles
        else:
            cycles = fit(design, board.family, capacity).cycles(design.hw.entries)
        rows += [(f"{board.name}/built/LUT", built["used"][names["lut"]], "LUT", "measured"),
                 (f"{board.name}/built/speed", round(1e6 * built["clock"] / cycles, 1), "tokens/s", "derived")]
    return [{"name": name, "value": value, "unit": unit, "kind": kind, "command": COMMAND}
            for name, value, unit, kind in rows]


_STYLE = """
  svg { background: #ffffff; font-family: system-ui, "DejaVu Sans", Arial, sans-serif; }
  text { fill: #111111; font-size: 20px; } .title { font-size: 23px; font-weight: bold; }
  .small { font-size: 18px; fill: #444444; }
  .grid { stroke: #dddddd; } .chip { stroke: #777777; stroke-width: 2; stroke-dasharray: 7 5; }
  .line { fill: none; stroke: #b8430a; stroke-width: 3; } .dot { fill: #b8430a; } .built { fill: #1f5fa8; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f0f0; } .small { fill: #c4c4c4; } .grid { stroke: #30363d; } .chip { stroke: #9a9a9a; }
    .line { stroke: #ff9a5c; } .dot { fill: #ff9a5c; } .built { fill: #7fb2e0; }
  }
"""
#: Of a panel: left and top of its axes, their width and height, and the panel's own size.
_LEFT, _TOP, _ACROSS, _UP, _WIDE, _HIGH = 100, 84, 480, 250, 640, 400


def _panel(board, entries):
    """The lines of the panel of a board, with its corner at 0. ``entries``: name -> (value, unit)."""
    points = {}
    for name, value in entries.items():
        row, _, figure = name.partition("/")[2].rpartition("/")
        points.setdefault(row, {})[figure] = value
    chip, built = points.pop("chip"), points.pop("built", None)
    unit = next(unit for name, (_, unit) in entries.items() if name.endswith("/speed"))
    across = ticks(chip["LUT"][0])
    most = ticks(max(p["speed"][0] for p in [*points.values(), *([built] if built else [])]))

    def x(luts):
        return _LEFT + _ACROSS * luts / across[-1]

    def y(speed):
        return _TOP + _UP * (1 - speed / most[-1])

    texts = "1 text" if chip["texts"][0] == 1 else f"{chip['texts'][0]} texts"
    out = [f'<text class="title" x="{_LEFT}" y="28">{board}</text>',
           f'<text class="small" x="{_LEFT}" y="54">{BOARDS[board].model}, {texts} at once: {unit} over LUTs</text>']
    for value in across:
        luts = f"{value / 1000:.0f}k" if value else "0"
        out += [f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}" y2="{_TOP + _UP}"/>',
                f'<text x="{x(value):.1f}" y="{_TOP + _UP + 24}" text-anchor="middle">{luts}</text>']
    out += [f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _ACROSS}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
            f'<text x="{_LEFT - 10}" y="{y(v) + 7:.1f}" text-anchor="end">{v:,.0f}</text>' for v in most]
    edge = x(chip["LUT"][0])
    out.append(f'<line class="chip" x1="{edge:.1f}" x2="{edge:.1f}" y1="{_TOP}" y2="{_TOP + _UP}"/>')
    shapes = [(p["LUT"][0], p["speed"][0], name.partition(" ")[2]) for name, p in sorted(points.items())]
    steps, before = [], shapes[0][1]
    for luts, speed, _ in shapes:
        steps += [(x(luts), y(before)), (x(luts), y(speed))]
        before = speed
    out.append(f'<polyline class="line" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in steps)}"/>')
    labelled = []
    for luts, speed, shape in shapes:
        at, up = x(luts), y(speed)
        out.append(f'<circle class="dot" cx="{at:.1f}" cy="{up:.1f}" r="5">'
                   f'<title>{shape}: {speed:,.0f} {unit}</title></circle>')
        if all(abs(up - other) > 24 for other in labelled):         # a label is 24 high
            labelled.append(up)
            out.append(f'<text class="small" x="{at - 10:.1f}" y="{up + 2:.1f}" text-anchor="end">'
                       f'{_array(shape)}</text>')
    if built:
        at, up = x(built["LUT"][0]), y(built["speed"][0])
        out.append(f'<rect class="built" x="{at - 8:.1f}" y="{up - 8:.1f}" width="16" height="16"/>')
    return out


def _array(shape):
    """Lanes x columns of a shape, which begins with the preset tiny."""
    sizes = dict(re.findall(r"\b(lanes|columns)=(\d+)", shape))
    return f"{sizes.get('lanes', TINY.shape.lanes)} x {sizes.get('columns', TINY.shape.columns)}"


def svg(results):
    """The picture as text, from the ledger's entries."""
    boards = {}
    for entry in results:
        boards.setdefault(entry["name"].partition("/")[0], {})[entry["name"]] = entry["value"], entry["unit"]
    order = [board for board in BOARDS if board in boards]
    width, height = 2 * _WIDE, _HIGH * -(-len(order) // 2) + 60
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
             "<title>Speed over LUTs of the shapes that fit on each board</title>", f"<style>{_STYLE}</style>"]
    for number, board in enumerate(order):
        corner = f"{_WIDE * (number % 2)} {_HIGH * (number // 2)}"
        lines += [f'<g transform="translate({corner})">', *_panel(board, boards[board]), "</g>"]
    foot = height - 30
    lines += [f'<circle class="dot" cx="112" cy="{foot - 7}" r="5"/>',
              f'<text x="128" y="{foot}">estimated shape, lanes x columns</text>',
              f'<rect class="built" x="500" y="{foot - 15}" width="16" height="16"/>',
              f'<text x="526" y="{foot}">built, at the board\'s clock</text>',
              f'<line class="chip" x1="850" x2="890" y1="{foot - 7}" y2="{foot - 7}"/>',
              f'<text x="900" y="{foot}">LUTs of the chip</text>']
    return "\n".join([*lines, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="only draw what the ledger has")
    if not parser.parse_args().draw:
        # the board with a card is the one with a memory, once more; the size of logic depends on every weight
        found = [entry for board in BOARDS.values() if not board.card and "source=wired" not in board.shape
                 for entry in measured(board)]
        RESULT.unlink(missing_ok=True)          # shapes of an earlier front have other names
        ledger.record(RESULT, found)
    FILE.write_text(svg(ledger.load(RESULT)), encoding="utf-8")


if __name__ == "__main__":
    main()
