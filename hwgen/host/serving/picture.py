"""A timeline as SVG: what every engine and every slot did, pass by pass."""
from html import escape

from ...plan.compare_picture import ticks
from .report import ENGINES, Report

__all__ = ["timeline_svg"]

_LEFT, _WIDTH, _RIGHT, _ROW, _BAR, _BINS = 140, 860, 300, 38, 30, 500
_STYLE = """
  svg { background: #ffffff; font-family: system-ui, "DejaVu Sans", Arial, sans-serif; }
  text { fill: #111111; font-size: 19px; } .small { font-size: 17px; } .end { text-anchor: end; }
  .middle { text-anchor: middle; } .inside { text-anchor: middle; font-size: 17px; }
  .row { fill: #f0f0f0; } .grid { stroke: #cccccc; }
  .level { fill: #55707f; } .kv { fill: #00897b; } .queue { fill: #8d6e63; }
  .prompt { fill: #9dbfe6; stroke: #1f5fa8; } .output { fill: #f5c9a3; stroke: #b8430a; }
  .drafts { fill: #bcd9c6; stroke: #1f6b3a; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f0f0; } .row { fill: #161b22; } .grid { stroke: #3a414a; }
    .level { fill: #8ba6b5; } .kv { fill: #4db6a8; } .queue { fill: #b79a8f; }
    .prompt { fill: #1d3f66; stroke: #7fb2e0; } .output { fill: #5e2f12; stroke: #ff9a5c; }
    .drafts { fill: #1b4a2e; stroke: #6fd08f; }
  }
"""
#: Kind of a span -> its words in the legend.
_KINDS = {"prompt": "prompt of a request", "output": "its answer", "drafts": "answer with drafts"}


def _binned(passes, cycles, value):
    """Mean of a pass's value over each of _BINS equal times; 0 between passes."""
    bins = [0.0] * _BINS
    for p in passes:
        at, end, level = p.start * _BINS / cycles, (p.start + p.cycles) * _BINS / cycles, value(p)
        while at < end and int(at) < _BINS:
            step = min(int(at) + 1, end)
            bins[int(at)] += level * (step - at)
            at = step
    return bins


def _spans(passes, slot):
    """[start, end, request, kind] of a slot, passes that follow each other with the same joined.

    Kind: prompt, output or drafts.
    """
    spans = []
    for p in passes:
        for where, number, prefill, _, drafts, _ in p.parts:
            if where == slot:
                kind = "prompt" if prefill else "drafts" if drafts else "output"
                if spans and spans[-1][2:] == [number, kind] and p.start - spans[-1][1] < 100:
                    spans[-1][1] = p.start + p.cycles
                else:
                    spans.append([p.start, p.start + p.cycles, number, kind])
    return spans


def _outline(levels, y):
    """Points of a row's area at height ``y``, one level for each of _BINS times."""
    heights, bottom = [f"{y + _BAR * (1 - level):.1f}" for level in levels], y + _BAR
    points = [f"{_LEFT},{bottom}", f"{_LEFT},{heights[0]}"]
    for i in range(1, _BINS):
        if heights[i] != heights[i - 1]:
            at = f"{_LEFT + i * _WIDTH / _BINS:g}"
            points += [f"{at},{heights[i - 1]}", f"{at},{heights[i]}"]
    points += [f"{_LEFT + _WIDTH},{heights[-1]}", f"{_LEFT + _WIDTH},{bottom}"]
    return " ".join(points)


def timeline_svg(report: Report) -> str:
    """The picture of a `hwgen.host.serving.Report`, as text. Colours follow the reader's light or dark setting."""
    passes, cycles, scheduler = report.scheduler.passes, report.cycles, report.scheduler
    facts, out, y = report.facts(), [], 76

    def text(x, at, words, kind="start"):
        out.append(f'<text class="{kind}" x="{x:g}" y="{at:g}">{escape(words)}</text>')

    def row(label, words=""):
        text(_LEFT - 12, y + 22, label, "end")
        text(_LEFT + _WIDTH + 12, y + 22, words)
        out.append(f'<rect class="row" x="{_LEFT}" y="{y}" width="{_WIDTH}" height="{_BAR}"/>')

    def area(label, levels, kind, words):
        """A row that is full where the level is 1."""
        nonlocal y
        row(label, words)
        out.append(f'<polygon class="{kind}" points="{_outline(levels, y)}"/>')
        y += _ROW

    for engine, counter in ENGINES.items():
        area(engine, _binned(passes, cycles, lambda p, counter=counter: p.counters[counter] / max(1, p.cycles)),
             "level", f"{100 * facts['utilization'][engine]:.1f} % busy")
    y += 14
    kinds = set()
    for slot in range(scheduler.link.design.hw.slots):
        row(f"slot {slot}")
        for start, end, number, kind in _spans(passes, slot):
            kinds.add(kind)
            x, width = _LEFT + start * _WIDTH / cycles, max(0.3, (end - start) * _WIDTH / cycles)
            title = f"{report.sequences[number].request.name}: {kind}, cycles {start:,} to {end:,}"
            out.append(f'<rect class="{kind}" x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_BAR}">'
                       f'<title>{escape(title)}</title></rect>')
            if kind == "prompt" and width > 14 * len(str(number)):
                text(round(x + width / 2, 1), y + 21, str(number), "inside")
        y += _ROW
    y += 14
    kv, queue = facts["kv_positions"], facts["queue"]
    area("KV memory", _binned(passes, cycles, lambda p: p.kept / kv["of"]), "kv",
         f"at most {kv['largest']:,} of {kv['of']:,} positions")
    area("queue", _binned(passes, cycles, lambda p: p.waiting / max(1, queue["largest"])), "queue",
         f"at most {queue['largest']} requests")
    last = cycles / report.clock / 1e3
    marks = [value for value in ticks(last) if value <= last]
    for value in marks:
        x = round(_LEFT + _WIDTH * value / last, 1)
        out.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{y}" y2="{y + 8}"/>')
        text(x, y + 28, f"{value:g} ms" if value == marks[-1] else f"{value:g}", "middle")
    y += 66
    for number, (kind, words) in enumerate((kind, words) for kind, words in _KINDS.items() if kind in kinds):
        left = _LEFT + 260 * number
        out.append(f'<rect class="{kind}" x="{left}" y="{y - 19}" width="24" height="24"/>')
        text(left + 34, y, words)
    text(_LEFT, 28, f"{facts['requests']} requests, {facts['policy']}: "
                    f"{facts['tokens_per_second']:,.0f} tokens/s in and out at {report.clock:g} MHz, projected")
    text(_LEFT, 56, "a row is full where an engine is always busy, the KV memory is full, or the queue is longest",
         "small")
    size = f"{_LEFT + _WIDTH + _RIGHT} {y + 24}"
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">',
                      f"<style>{_STYLE}</style>", *out, "</svg>", ""])
