"""One layer with one batch and with two half-batches: ``python -m tools.draw_halves`` writes docs/halves.svg.

The cycles are those of the golden model, for decode of `MODEL` with sixteen entries at `POSITION`. Colours follow the
reader's light or dark setting. Letters are large enough to be read at half the size.
"""
from dataclasses import replace
from pathlib import Path

from hwgen.golden import residual, vector_buffer, weights
from hwgen.golden.attention import attention_cycles
from hwgen.golden.kv_cache import kv_write_cycles
from hwgen.golden.rmsnorm import norm_cycles
from hwgen.golden.sequencer import pass_timeline
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.phases import phases
from hwgen.params.presets import hw_shape
from hwgen.plan.compare_picture import ticks

__all__ = ["FILE", "spans", "svg"]

FILE = Path(__file__).resolve().parent.parent / "docs" / "halves.svg"
#: Three layers: the middle one is as all are but the first and the last.
MODEL, POSITION, LAYER = replace(SMOLLM2_135M, num_hidden_layers=3), 512, 1
ROWS = "array", "norms", "KV write, attention"
MATRICES = "QKV", "O", "GATE_UP", "DOWN"


def design(halves):
    hw = hw_shape("batch-32x32,context=2048", MODEL)
    return Design(model=MODEL, hw=replace(hw, halves=halves), recipe=Recipe())


def spans(halves):
    """([(row of `ROWS`, name, half or None, start, end)] of a pass, in cycles, and its `Timeline`)."""
    d = design(halves)
    timeline = pass_timeline(d, [POSITION] * d.hw.entries, [True] * d.hw.entries)
    numbers = phases(d.block)
    named = [(numbers(phase).name, start, end)
             for (start, phase, _), (end, _, _) in zip(timeline.phases, timeline.phases[1:])]
    if halves == 1:
        rows = {"KV_WRITE": 2, "ATTENTION": 2, **dict.fromkeys(MATRICES, 0)}
        return [(rows.get(name, 1), name, None, start, end) for name, start, end in named
                if name in rows or name.startswith("NORM")], timeline
    half, found = d.half_batch(), []
    named = [piece for piece in named if piece[0] in MATRICES or piece[0].startswith("NORM")]
    for (name, start, end), piece in zip(named, weights.pieces(d, True, [True, True])):
        if name in MATRICES:
            found.append((0, name, piece.half, start, end))
        else:
            cycles = norm_cycles(half, half.hw.entries, read_latency=residual.READ_LATENCY)
            found.append((1, name, piece.half, start + 1, start + 2 + cycles))
        if name == "QKV":
            written = end + kv_write_cycles(half, half.hw.entries, read_latency=vector_buffer.READ_LATENCY)
            attended = written + 1 + attention_cycles(half, [POSITION] * half.hw.entries)[1]
            found += [(2, "KV_WRITE", piece.half, end, written + 1),
                      (2, "ATTENTION", piece.half, written + 1, attended + 1)]
    return found, timeline


def layer(found):
    """(first cycle, cycles) of a layer of all entries: from one of its matrices to the same of the next layer."""
    starts = [start for _, name, half, start, _ in found if name == "QKV" and not half]
    return starts[LAYER], starts[LAYER + 1] - starts[LAYER]


_STYLE = """
  svg { background: #ffffff; font-family: system-ui, "DejaVu Sans", Arial, sans-serif; }
  text { fill: #111111; font-size: 21px; } .middle { text-anchor: middle; } .end { text-anchor: end; }
  .title { font-size: 23px; font-weight: bold; } .grid { stroke: #dddddd; } .row { fill: #f3f3f3; }
  .all { fill: #bcd9c6; stroke: #1f6b3a; }
  .a { fill: #bcd3ee; stroke: #1f5fa8; } .b { fill: #f7d3b4; stroke: #b8430a; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f0f0; } .grid { stroke: #30363d; } .row { fill: #161b22; }
    .all { fill: #1b4a2e; stroke: #6fd08f; }
    .a { fill: #1d3f66; stroke: #7fb2e0; } .b { fill: #5e2f12; stroke: #ff9a5c; }
  }
"""
_LEFT, _ACROSS, _ROW, _GROUP = 230, 980, 54, 236


def svg():
    """The picture as text."""
    drawn = {halves: spans(halves)[0] for halves in (1, 2)}
    windows = {halves: layer(found) for halves, found in drawn.items()}
    across = [value for value in ticks(windows[1][1]) if value <= 1.02 * windows[1][1]]

    def x(cycles):
        return _LEFT + _ACROSS * cycles / windows[1][1]

    out, titles = [], {1: "one batch of 16 entries", 2: "two half-batches of 8 entries"}
    for group, (halves, found) in enumerate(drawn.items()):
        top, (first, cycles) = 46 + group * _GROUP, windows[halves]
        out.append(f'<text class="title" x="{_LEFT}" y="{top - 14}">{titles[halves]}: {cycles:,} cycles a layer</text>')
        for row, name in enumerate(ROWS):
            across_row = f'width="{x(cycles) - _LEFT:.1f}" height="44"'
            out += [f'<rect class="row" x="{_LEFT}" y="{top + row * _ROW}" {across_row}/>',
                    f'<text class="end" x="{_LEFT - 14}" y="{top + row * _ROW + 29}">{name}</text>']
        for row, name, half, start, end in found:
            left, right = max(start - first, 0), min(end - first, cycles)
            if left >= right:
                continue
            kind, words = "all" if half is None else "ab"[half], name.lower().replace("_1", "").replace("_2", "")
            width = x(right) - x(left)
            out.append(f'<rect class="{kind}" x="{x(left):.1f}" y="{top + row * _ROW}" width="{width:.1f}" height="44">'
                       f'<title>{words}: {end - start:,} cycles</title></rect>')
            if width > 12 * len(words) + 6:
                out.append(f'<text class="middle" x="{x((left + right) / 2):.1f}" y="{top + row * _ROW + 29}">'
                           f'{words}</text>')
    bottom = 46 + 2 * _GROUP - 40
    for value in across:
        out += [f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{bottom - 8}" y2="{bottom}"/>',
                f'<text class="middle" x="{x(value):.1f}" y="{bottom + 24}">{value:,.0f}</text>']
    out.append(f'<text class="end" x="{_LEFT - 14}" y="{bottom + 24}">cycles</text>')
    for number, (kind, words) in enumerate((("all", "all entries"), ("a", "half-batch A"), ("b", "half-batch B"))):
        left, top = _LEFT + 260 * number, bottom + 48
        out += [f'<rect class="{kind}" x="{left}" y="{top}" width="26" height="26"/>',
                f'<text x="{left + 36}" y="{top + 21}">{words}</text>']
    width, height = _LEFT + _ACROSS + 50, bottom + 90
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
             "<title>One layer with one batch and with two half-batches</title>", f"<style>{_STYLE}</style>", *out]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
