"""Points and front of `hwgen.plan.compare` as SVG: tokens per second over LUTs, readable on light and dark pages."""
import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from .fit import spelled

if TYPE_CHECKING:
    from .compare import Point

__all__ = ["front_svg", "ticks"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 90, 50, 700, 380
_STYLE = """<style>
  text { font: 13px sans-serif; fill: #222; } .axis { stroke: #888; } .grid { stroke: #ddd; } .all { fill: #9ab; }
  .front { fill: #c40; } .line { fill: none; stroke: #c40; stroke-width: 1.5; } .page { fill: #fff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd; } .grid { stroke: #333; } .all { fill: #567; } .front { fill: #f96; }
    .line { stroke: #f96; } .page { fill: #111; }
  }
</style>"""


def ticks(most: float) -> list[float]:
    """Round numbers from 0 on, four to eight of them, the last at least ``most``."""
    power = 10 ** math.floor(math.log10(most / 4))
    step = next(power * k for k in (1, 2, 5, 10) if power * k * 7 >= most)
    return [step * k for k in range(math.ceil(most / step) + 1)]


def front_svg(title: str, points: "Sequence[Point]", front: "Sequence[Point]", unit: str) -> str:
    """The picture as text. ``unit`` is of the speeds."""
    across, up = ticks(max(p.fit.used["LUT"] for p in points)), ticks(max(p.speed for p in points))

    def x(point):
        return _LEFT + _WIDTH * point.fit.used["LUT"] / across[-1]

    def y(point):
        return _TOP + _HEIGHT * (1 - point.speed / up[-1])

    out, bottom = [], _TOP + _HEIGHT
    for value in across:
        at = _LEFT + _WIDTH * value / across[-1]
        out += [f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>',
                f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{value:,.0f}</text>']
    for value in up:
        at = bottom - _HEIGHT * value / up[-1]
        out += [f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/>',
                f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:,.6g}</text>']
    out += [f'<text x="{_LEFT + _WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">LUTs</text>',
            f'<text x="{_LEFT}" y="{_TOP - 10}">{escape(unit)}</text>',
            f'<text x="{_LEFT}" y="{_TOP - 30}">{escape(title)}</text>']
    chosen = {id(point) for point in front}
    out += [_dot("all", x(point), y(point), 2.5, _title(point, unit)) for point in points if id(point) not in chosen]
    steps = " ".join(f"{x(p):.1f},{y(q):.1f} {x(p):.1f},{y(p):.1f}" for q, p in zip([front[0], *front], front))
    out.append(f'<polyline class="line" points="{steps}"/>')
    for number, point in enumerate(front, 1):
        out += [_dot("front", x(point), y(point), 4, _title(point, unit)),
                f'<text x="{x(point) - 6:.1f}" y="{y(point) - 6:.1f}" text-anchor="end">{number}</text>']
    width, height = _LEFT + _WIDTH + 40, bottom + 50
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} '
            f'{height}">\n{_STYLE}\n'
            f'<rect class="page" width="{width}" height="{height}"/>\n' + "\n".join(out) + "\n</svg>\n")


def _title(point, unit):
    return f"{point.speed:,.0f} {unit}, {point.fit.used['LUT']:,} LUTs: {spelled(point.fit.design.hw)}"


def _dot(kind, x, y, r, title):
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"><title>{escape(title)}</title></circle>'
