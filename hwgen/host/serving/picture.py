"""A timeline as SVG: what every engine and every slot did, pass by pass."""
from html import escape

from .report import ENGINES

__all__ = ["timeline_svg"]

_LEFT, _WIDTH, _ROW, _BINS = 120, 1000, 22, 500
_HUES = (210, 30, 130, 350, 270, 60, 180, 310)


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
    """[start, end, request, kind] of a slot, passes that follow each other with the same joined. Kind: prompt, output
    or drafts."""
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


def timeline_svg(report):
    """The picture of a `hwgen.host.serving.Report`, as text."""
    passes, cycles, scheduler = report.scheduler.passes, report.cycles, report.scheduler
    slots = scheduler.link.design.hw.slots
    out, y = [], 40

    def rect(x0, x1, top, height, style, title=""):
        x = _LEFT + x0 * _WIDTH / cycles
        width = max(0.3, (x1 - x0) * _WIDTH / cycles)
        title = f"<title>{escape(title)}</title>" if title else ""
        out.append(f'<rect x="{x:.2f}" y="{top:.1f}" width="{width:.2f}" height="{height:.1f}" {style}>{title}</rect>')

    def text(x, at, words, more=""):
        out.append(f'<text x="{x}" y="{at}" {more}>{escape(words)}</text>')

    def area(label, levels, color, words):
        nonlocal y
        text(_LEFT - 8, y + 15, label, 'text-anchor="end"')
        text(_LEFT + _WIDTH + 8, y + 15, words)
        heights = [f"{y + (_ROW - 4) * (1 - level):.1f}" for level in levels]
        points, bottom = [f"{_LEFT},{y + _ROW - 4}", f"{_LEFT},{heights[0]}"], y + _ROW - 4
        for i in range(1, _BINS):
            if heights[i] != heights[i - 1]:
                at = f"{_LEFT + i * _WIDTH / _BINS:g}"
                points += [f"{at},{heights[i - 1]}", f"{at},{heights[i]}"]
        points += [f"{_LEFT + _WIDTH},{heights[-1]}", f"{_LEFT + _WIDTH},{bottom}"]
        out.append(f'<polygon fill="{color}" points="{" ".join(points)}"/>')
        y += _ROW

    facts = report.facts()
    for engine, counter in ENGINES.items():
        area(engine, _binned(passes, cycles, lambda p, counter=counter: p.counters[counter] / max(1, p.cycles)),
             "#37474f", f"{facts['utilization'][engine]:.1%} busy")
    y += 10
    for slot in range(slots):
        text(_LEFT - 8, y + 15, f"slot {slot}", 'text-anchor="end"')
        for start, end, number, kind in _spans(passes, slot):
            light = {"prompt": 40, "output": 70, "drafts": 55}[kind]
            rect(start, end, y, _ROW - 4, f'fill="hsl({_HUES[number % len(_HUES)]},65%,{light}%)"',
                 f"{report.sequences[number].request.name}: {kind}, cycles {start:,} to {end:,}")
        y += _ROW
    y += 10
    kv, queue = facts["kv_positions"], facts["queue"]
    area("KV memory", _binned(passes, cycles, lambda p: p.kept / kv["of"]), "#00897b",
         f"at most {kv['largest']:,} of {kv['of']:,} positions")
    area("queue", _binned(passes, cycles, lambda p: p.waiting / max(1, queue["largest"])), "#8d6e63",
         f"at most {queue['largest']}")
    axis = y + 14
    for i in range(6):
        text(_LEFT + i * _WIDTH / 5, axis, f"{cycles * i / 5 / report.clock / 1e3:,.2f} ms", 'text-anchor="middle"')
    height = y + 30
    title = (f"{facts['requests']} requests, {facts['policy']}: {facts['tokens_per_second']:,.0f} tokens/s in and out "
             f"at {report.clock:g} MHz, projected. Dark: prompt, light: output, between: with drafts.")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 200}" height="{height}" '
            'font-family="sans-serif" font-size="12">\n'
            '<rect width="100%" height="100%" fill="white"/>\n'
            f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>\n'
            + "\n".join(out) + "\n</svg>\n")
