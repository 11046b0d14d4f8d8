"""Where a build's placer has put each unit, and the slowest path, as SVG: readable on light and dark pages."""
import re
from collections import Counter, defaultdict
from html import escape

__all__ = ["floorplan", "floorplan_svg", "unit"]

_LEVELS = ("machine.machine.decoder.", "machine.machine.", "machine.")
_PLACE = re.compile(r"X(\d+)/?Y(\d+)")
#: Cells that are drawn with a frame: memories and multipliers. The others are logic.
_BLOCKS = re.compile(r"DP16KD|PDPW16KD|MULT|BSRAM|DPX?9?B|SDPX?9?B|SPX?9?B|pROMX?9?")
_SIDE, _LEGEND, _TOP = 7, 250, 44
#: The units with most cells have a colour each, the others are grey.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#ffaabb",
            "#997700", "#7755cc",
            "#bbcc33")
_STYLE = """<style>
  text { font: 13px sans-serif; fill: #222; } .page { fill: #fff; } .chip { fill: #f3f3f3; } .other { fill: #aaa; }
  .block { fill: none; stroke: #222; stroke-width: .8; } .path { fill: none; stroke: #fff; stroke-width: 5; }
  .core { fill: none; stroke: #000; stroke-width: 2; } .end { fill: #000; stroke: #fff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; } .page { fill: #111; } .chip { fill: #1c1c1c; } .other { fill: #666; } .block { stroke: #ddd; }
    .path { stroke: #000; } .core { stroke: #fff; } .end { fill: #fff; stroke: #000; }
  }
</style>"""


def unit(cell):
    """The unit of a cell, by its name in a board's flattened design: "mac_array"; "top" of what is in none."""
    for level in _LEVELS:
        if cell.startswith(level) and "." in cell[len(level):]:
            return cell[len(level):].split(".")[0]
    return cell.split(".")[-2] if "." in cell else "top"


def floorplan(placed):
    """What `floorplan_svg` draws, of a netlist that nextpnr has placed (its JSON): {"x,y": [the unit with most cells
    there, whether a memory or a multiplier is among them]}, and {unit: cells}."""
    tiles, blocks, cells = defaultdict(Counter), set(), Counter()
    for name, cell in placed["modules"]["top"]["cells"].items():
        place = _PLACE.search(cell.get("attributes", {}).get("NEXTPNR_BEL", ""))
        if not place or name.startswith("$PACKER_"):
            continue
        at = f"{int(place[1])},{int(place[2])}"
        tiles[at][unit(name)] += 1
        cells[unit(name)] += 1
        if _BLOCKS.match(cell["type"]):
            blocks.add(at)
    most = {at: [max(sorted(found), key=found.get), at in blocks] for at, found in sorted(tiles.items())}
    return {"tiles": most, "cells": dict(cells.most_common())}


def floorplan_svg(title, plan, report):
    """The picture as text: a square for each place in the colour of its unit, frames around memories and multipliers,
    and the slowest path of nextpnr's report from register to register."""
    tiles = {tuple(map(int, at.split(","))): found for at, found in plan["tiles"].items()}
    across, down = (max((at[i] for at in tiles), default=0) + 1 for i in (0, 1))
    colours = dict(zip(plan["cells"], _COLOURS))
    out = [f'<rect class="chip" x="0" y="{_TOP}" width="{across * _SIDE}" height="{down * _SIDE}"/>']
    for name in [*colours, None]:
        squares = [at for at, (of, _) in tiles.items() if of == name or name is None and of not in colours]
        fill = f'fill="{colours[name]}"' if name else 'class="other"'
        if squares:
            out.append(f'<path {fill} '
                       f'd="{"".join(map(_square, sorted(squares)))}"><title>{escape(name or "others")}</title></path>')
    out.append(f'<path class="block" d="{"".join(_square(at) for at, (_, block) in sorted(tiles.items()) if block)}"/>')
    steps = _slowest(report)
    if steps:
        points = [_middle(*steps[0]["from"]["loc"]), *(_middle(*step["to"]["loc"]) for step in steps)]
        line = " ".join(f"{x:g},{y:g}" for x, y in points)
        out += [f'<polyline class="{kind}" points="{line}"/>' for kind in ("path", "core")]
        out += [f'<circle class="end" cx="{x:g}" cy="{y:g}" r="4"/>' for x, y in (points[0], points[-1])]
    at, y = across * _SIDE + 20, _TOP + 12
    total = sum(plan["cells"].values())
    rest = total - sum(plan["cells"][name] for name in colours)
    shown = [(name, plan["cells"][name]) for name in colours]
    for name, cells in [*shown, *([("others", rest)] if rest else [])]:
        fill = f'fill="{colours[name]}"' if name in colours else 'class="other"'
        out += [f'<rect {fill} x="{at}" y="{y - 11}" width="13" height="13"/>',
                f'<text x="{at + 20}" y="{y}">{escape(name)}</text>',
                f'<text x="{at + _LEGEND - 25}" y="{y}" text-anchor="end">{cells / max(1, total):.1%}</text>']
        y += 20
    out += [f'<rect class="block" x="{at}" y="{y - 11}" width="13" height="13"/>',
            f'<text x="{at + 20}" y="{y}">memory or multiplier</text>']
    if steps:
        delay = sum(step["delay"] for step in steps)
        ends = unit(steps[0]["from"]["cell"]), unit(steps[-1]["to"]["cell"])
        out += [f'<polyline class="core" points="{at},{y + 15} {at + 13},{y + 15}"/>',
                f'<text x="{at + 20}" y="{y + 20}">slowest path, {delay:.2f} ns:</text>',
                f'<text x="{at + 20}" y="{y + 38}">{escape(ends[0])} to {escape(ends[1])}</text>']
    width, height = across * _SIDE + 20 + _LEGEND, max(_TOP + down * _SIDE, y + 50) + 6
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} '
            f'{height}">\n{_STYLE}\n'
            f'<rect class="page" width="{width}" height="{height}"/>\n<text x="4" y="24" style="font-size: '
            f'16px">{escape(title)}</text>\n'
            + "\n".join(out) + "\n</svg>\n")


def _square(at):
    x, y = at
    return f"M{x * _SIDE} {y * _SIDE + _TOP}h{_SIDE - 1}v{_SIDE - 1}h{1 - _SIDE}z"


def _middle(x, y):
    return (x + .45) * _SIDE, (y + .45) * _SIDE + _TOP


def _slowest(report):
    """The steps of the slowest path between registers in nextpnr's report: [{"from", "to": {"cell", "loc"},
    "delay"}]."""
    found = [path for path in report.get("critical_paths", ()) if "<async>" not in (path["from"], path["to"])]
    return max((path["path"] for path in found), key=lambda steps: sum(step["delay"] for step in steps), default=[])
