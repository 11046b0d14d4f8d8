"""hwgen beside its peers: ``python -m tools.draw_peers`` writes docs/peers.svg from the ledger and published numbers.

Colours follow the reader's light or dark setting. Letters are large enough to be read at half the size.
"""
from typing import NamedTuple

from hwgen.plan.published import ARITHMETIC
from tools import ledger

__all__ = ["FILE", "Bar", "Panel", "panels", "svg"]

FILE = ledger.ROOT / "docs" / "peers.svg"


class Bar(NamedTuple):
    name: str
    value: float
    source: str     # measured, derived, projected, or who published it
    own: bool       # hwgen's


class Panel(NamedTuple):
    title: str
    page: str       # where the numbers stand
    bars: tuple
    digits: int


def panels():
    """The `Panel`s; less is better in all of them."""
    entries = {file: {entry["name"]: entry for entry in ledger.load(f"{file}.json")}
               for file in ("accuracy", "synth", "die")}

    def bar(name, file, entry, own=False, source=None):
        found = entries[file][entry]
        return Bar(name, found["value"], source or found["kind"], own)

    def rounded(name, recipe, own=True):
        return bar(name, "accuracy", f"smollm2-135m machine {recipe}/KL", own)

    def mac(name, unit, figure, own=True):
        return bar(name, "synth", f"mac/{unit}/{figure}", own)

    return (
        Panel("SmolLM2-135M in 8 bits: KL divergence from float32", "accuracy.md", (
            rounded("E3M4", "e3m4"), rounded("INT8, a scale for each row", "INT8 rows simulated", False),
            rounded("E4M3", "e4m3")), 4),
        Panel("one multiply-accumulate on ECP5: LUTs", "cost.md", (
            mac("E3M4, exact sums", "exact e3m4", "ecp5 LUT"), mac("E4M3, exact sums", "exact e4m3", "ecp5 LUT"),
            mac("INT8", "INT8", "ecp5 LUT", False), mac("E3M4 into fp32", "E3M4 into fp32", "ecp5 LUT", False)), 0),
        Panel("one multiply-accumulate: transistors", "cost.md, die.md", (
            mac("E3M4, exact sums", "exact e3m4", "cmos transistors"),
            mac("E4M3, exact sums", "exact e4m3", "cmos transistors"),
            mac("INT8", "INT8", "cmos transistors", False),
            Bar("GPU (H100), 8 or 16 bits", ARITHMETIC.macs_transistors, "Etched's estimate", False),
            mac("E3M4 into fp32", "E3M4 into fp32", "cmos transistors", False)), 0),
        Panel("a die that holds Llama 3.1 8B: transistors for each weight", "die.md", (
            bar("hwgen", "die", "beside transistors a weight/this die", True),
            bar("Taalas HC1", "die", "beside transistors a weight/HC1", source="derived; Next Platform")), 2))


_STYLE = """
  svg { background: #ffffff; font-family: system-ui, "DejaVu Sans", Arial, sans-serif; }
  text { fill: #111111; font-size: 20px; } .title { font-size: 22px; font-weight: bold; } .end { text-anchor: end; }
  .small { font-size: 18px; fill: #555555; } .own { fill: #1f6b3a; } .peer { fill: #8a97a3; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f0f0; } .small { fill: #b0b0b0; } .own { fill: #6fd08f; } .peer { fill: #75828e; }
  }
"""
_LEFT, _ACROSS, _ROW, _BAR = 330, 520, 36, 24


def svg():
    """The picture as text."""
    out, y = [], 0
    for panel in panels():
        y += 34
        out.append(f'<text class="title" x="16" y="{y}">{panel.title}</text>'
                   f'<text class="small end" x="1224" y="{y}">docs/{panel.page}</text>')
        y += 14
        most = max(bar.value for bar in panel.bars)
        for name, value, source, own in panel.bars:
            width = _ACROSS * value / most
            kind = "own" if own else "peer"
            out += [f'<text class="end" x="{_LEFT - 14}" y="{y + 20}">{name}</text>',
                    f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}"/>',
                    f'<text x="{_LEFT + width + 10:.1f}" y="{y + 20}">{value:,.{panel.digits}f} '
                    f'<tspan class="small">{source}</tspan></text>']
            y += _ROW
        y += 12
    y += 24
    out += [f'<rect class="own" x="{_LEFT}" y="{y - 20}" width="{_BAR}" height="{_BAR}"/>',
            f'<text x="{_LEFT + 34}" y="{y}">hwgen</text>',
            f'<rect class="peer" x="{_LEFT + 160}" y="{y - 20}" width="{_BAR}" height="{_BAR}"/>',
            f'<text x="{_LEFT + 194}" y="{y}">others; shorter is better everywhere</text>']
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1240 {y + 26}" role="img">',
             "<title>hwgen beside its peers</title>", f"<style>{_STYLE}</style>", *out, "</svg>", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
