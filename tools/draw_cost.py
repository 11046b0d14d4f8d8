"""Where the LUTs of three machines go: ``python -m tools.draw_cost`` writes docs/cost.svg from docs/results/synth.json.

Colours follow the reader's light or dark setting. Letters are large enough to be read at half the size.
"""
from hwgen.plan.compare_picture import ticks
from tools import ledger

__all__ = ["FILE", "svg"]

FILE = ledger.ROOT / "docs" / "cost.svg"

#: Machine of docs/cost.md -> how often it has the units that it has more than once.
MACHINES = {"4x4": {"column": 4, "dot": 2, "numerators": 2},
            "8x16": {"column": 16, "dot": 2, "numerators": 2},
            "16x16": {"column": 10, "dsp_column": 6, "dot": 2, "numerators": 2}}
#: Part of a bar -> its units; all others are the last part.
PARTS = {"array": ("array", "column", "dsp_column", "operation_skid"),
         "attention": ("attention", "dot", "numerators"),
         "rmsnorm": ("rmsnorm",), "buffers": ("xa", "xo", "xh", "qkv"), "residual": ("residual",), "rope": ("rope",),
         "swiglu": ("swiglu",), "dispatcher": ("dispatcher", "weights"),
         "UART, registers": ("bridge", "receiver", "transmitter", "registers", "loop", "commands", "results", "axi",
                             "board"),
         "others": ()}

# Fill of each part and of the letters on it: Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = ("#0072b2 #ffffff", "#e69f00 #111111", "#009e73 #ffffff", "#cc79a7 #111111", "#56b4e9 #111111",
            "#d55e00 #ffffff", "#f0e442 #111111", "#8c6bb1 #ffffff", "#8a8a8a #ffffff", "#c8c8c8 #111111")
_STYLE = """
  svg { background: #ffffff; font-family: system-ui, "DejaVu Sans", Arial, sans-serif; }
  text { fill: #111111; font-size: 21px; } .middle { text-anchor: middle; } .end { text-anchor: end; }
  .grid { stroke: #dddddd; } .part { stroke: #ffffff; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f0f0; } .grid { stroke: #30363d; } .part { stroke: #0d1117; }
  }
"""
_LEFT, _ACROSS, _TOP, _BAR, _STEP = 280, 880, 20, 64, 92


def _sizes(results, machine):
    """{part: LUTs}"""
    counts, found, whole = MACHINES[machine], {}, None
    for entry in results:
        owner, _, rest = entry["name"].partition("/")
        unit, _, figure = rest.partition("/")
        if owner != machine or figure != "ecp5 LUT":
            continue
        if unit == "whole machine":
            whole = entry["value"]
            continue
        part = next((part for part, units in PARTS.items() if unit in units), "others")
        found[part] = found.get(part, 0) + counts.get(unit, 1) * entry["value"]
    if sum(found.values()) != whole:
        raise ledger.LedgerError(f"Units of {machine} must make up its {whole} LUTs, not {sum(found.values())}")
    return found


def svg(results):
    """The picture as text, from the ledger's entries."""
    sizes = {machine: _sizes(results, machine) for machine in MACHINES}
    across = ticks(max(sum(found.values()) for found in sizes.values()))
    bottom = _TOP + _STEP * len(sizes)

    def x(luts):
        return _LEFT + _ACROSS * luts / across[-1]

    fills = {part: colours.split() for part, colours in zip(PARTS, _COLOURS)}
    out = []
    for value in across:
        out += [f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP}" y2="{bottom}"/>',
                f'<text class="middle" x="{x(value):.1f}" y="{bottom + 28}">{value:,.0f}</text>']
    out.append(f'<text class="middle" x="{_LEFT + _ACROSS / 2}" y="{bottom + 58}">LUTs on ECP5</text>')
    for row, (machine, found) in enumerate(sizes.items()):
        top, luts = _TOP + _STEP * row + (_STEP - _BAR) // 2, 0
        lanes, columns = machine.split("x")
        out.append(f'<text class="end" x="{_LEFT - 14}" y="{top + _BAR // 2 + 7}">'
                   f'{lanes} lanes, {columns} columns</text>')
        for part in PARTS:
            size = found.get(part, 0)
            fill, letters = fills[part]
            out.append(f'<rect class="part" x="{x(luts):.1f}" y="{top}" width="{x(size) - _LEFT:.1f}" height="{_BAR}" '
                       f'fill="{fill}"><title>{part}: {size:,} LUTs</title></rect>')
            if x(size) - _LEFT > 66:
                out.append(f'<text class="middle" x="{x(luts + size / 2):.1f}" y="{top + _BAR // 2 + 7}" '
                           f'style="fill: {letters}">{100 * size / sum(found.values()):.0f} %</text>')
            luts += size
        out.append(f'<text x="{x(luts) + 12:.1f}" y="{top + _BAR // 2 + 7}">{luts:,}</text>')
    for number, (part, (fill, _)) in enumerate(fills.items()):
        left, top = 60 + 232 * (number % 5), bottom + 84 + 36 * (number // 5)
        out += [f'<rect class="part" x="{left}" y="{top}" width="24" height="24" fill="{fill}"/>',
                f'<text x="{left + 32}" y="{top + 19}">{part}</text>']
    width, height = _LEFT + _ACROSS + 130, bottom + 166
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
             "<title>LUTs of three machines on ECP5, by unit</title>", f"<style>{_STYLE}</style>", *out, "</svg>", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    FILE.write_text(svg(ledger.load("synth.json")), encoding="utf-8")
