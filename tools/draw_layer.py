"""One layer of a pass as a waveform: ``python -m tools.draw_layer`` draws docs/layer.svg from docs/layer.json.

``--record`` first runs `COMMAND` on the simulated RTL and writes docs/layer.json from its waveform: the phases of layer
`LAYER` of the last pass, and in each of its cycles whether a unit's stream was valid and ready. Colours follow the
reader's light or dark setting.
"""
import argparse
import bisect
import contextlib
import json
import re
import tempfile
from pathlib import Path

from hwgen.plan.compare_picture import ticks

__all__ = ["COMMAND", "DATA", "FILE", "LAYER", "STREAMS", "bits", "read", "svg"]

ROOT = Path(__file__).resolve().parent.parent
FILE, DATA = ROOT / "docs" / "layer.svg", ROOT / "docs" / "layer.json"
COMMAND, LAYER = "hwgen run mini --shape tiny --prompt ab --max-tokens 1 --trace tiny.vcd", 1
#: Streams of the decoder's units, as (unit, stream, what it is called).
STREAMS = (("weights", "beats", "weights"), ("array", "x", "array's operations"), ("array", "o", "array's sums"),
           ("rope", "o", "Q, K and V"), ("kv_cache", "write", "KV write"), ("attention", "k_o", "keys read"),
           ("attention", "v_o", "values read"), ("attention", "o", "attention's results"),
           ("swiglu", "o", "activations"), ("residual", "i", "added to residual"), ("rmsnorm", "o", "normed rows"))


def _changes(path):
    """({(unit, signal): [(time, value)]}, [times of rising clocks]) of a VCD file: the signals that are drawn."""
    wanted = {("top", "phase"), ("top", "layer")} | {(unit, f"{stream}__{end}") for unit, stream, _ in STREAMS
                                                      for end in ("valid", "ready")}
    # a stream without a signal ready is always ready
    found = {key: [(-1, int(key[1].endswith("ready")))] for key in wanted}
    scope, named, clock, rising, time = [], {}, None, [], 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if line.startswith("#"):
                time = int(line[1:])
            elif words[:1] == ["$scope"]:
                scope.append(words[2])
            elif words[:1] == ["$upscope"]:
                scope.pop()
            elif words[:1] == ["$var"]:
                clock = words[3] if scope[-1:] == ["top"] and words[4] == "clk" else clock
                if (key := (scope[-1], words[4])) in wanted and len(scope) <= 3:
                    named.setdefault(words[3], []).append(key)
            elif match := re.fullmatch(r"b?([01]+) ?(\S+)\n", line):
                if match[2] == clock and match[1] == "1":
                    rising.append(time)
                for key in named.get(match[2], ()):
                    found[key].append((time, int(match[1], 2)))
    return found, rising


def read(path, phases):
    """What docs/layer.json holds, of a VCD file. ``phases``: names by number."""
    found, rising = _changes(path)

    def at(key):
        """A signal's value in each cycle: just before the clock rises."""
        times = [time for time, _ in found[key]]
        return [found[key][bisect.bisect_left(times, time) - 1][1] for time in rising]

    phase, layer = at(("top", "phase")), at(("top", "layer"))
    named = [phases[number] for number in phase]
    first = max(i for i in range(1, len(named)) if layer[i] == LAYER and (named[i], named[i - 1]) == ("norm_1", "down"))
    last = next(i for i in range(first, len(named)) if layer[i] != LAYER)
    starts = [i for i in range(first, last) if i == first or named[i] != named[i - 1]]
    return {"command": COMMAND, "layer": LAYER, "cycles": last - first,
            "phases": [[i - first, named[i]] for i in starts],
            "streams": {f"{unit}.{stream}": {end: "".join(map(str, at((unit, f"{stream}__{end}"))[first:last]))
                                             for end in ("valid", "ready")} for unit, stream, _ in STREAMS}}


def bits(data, name):
    """[(valid, ready)] of a stream's cycles."""
    ends = (bin(int(data["streams"][name][end], 16))[2:].zfill(data["cycles"]) for end in ("valid", "ready"))
    return [(valid == "1", ready == "1") for valid, ready in zip(*ends)]


def record():
    from hwgen.cli import main as hwgen
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if failed := hwgen(COMMAND.split()[1:]):
            return failed
        phases = dict(line.split() for line in Path("tiny.phases.txt").read_text().splitlines())
        data = read("tiny.vcd", {int(number): name for number, name in phases.items()})
    for ends in data["streams"].values():
        ends |= {end: f"{int(text, 2):x}" for end, text in ends.items()}
    DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


_STYLE = """
  svg { background: #ffffff; font-family: system-ui, "DejaVu Sans", Arial, sans-serif; }
  text { fill: #111111; font-size: 21px; } .middle { text-anchor: middle; } .end { text-anchor: end; }
  .title { font-size: 23px; font-weight: bold; } .grid { stroke: #cccccc; } .row { fill: #f3f3f3; }
  .phase { fill: #f7d3b4; stroke: #b8430a; } .moves { fill: #1f5fa8; } .waits { fill: #e08a3c; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #f0f0f0; } .grid { stroke: #3d444d; } .row { fill: #161b22; }
    .phase { fill: #5e2f12; stroke: #ff9a5c; } .moves { fill: #7fb2e0; } .waits { fill: #ff9a5c; }
  }
"""
_LEFT, _ACROSS, _ROW, _HIGH, _TOP = 250, 980, 42, 32, 124
#: Cycles that are drawn as one bar, whose height is the share of them in which something moved or waited.
_BIN = 6


def _area(shares, below, y):
    """A path along bars of some heights (shares of a row), each on top of what is ``below`` it."""
    width, parts = _ACROSS / len(shares), []
    for i, (share, base) in enumerate(zip(shares, below)):
        if share:
            parts.append(f"M{_LEFT + i * width:.1f} {y + _HIGH * (1 - base):.1f}h{width:.2f}v{-_HIGH * share:.1f}"
                         f"h{-width:.2f}z")
    return "".join(parts)


def svg(data):
    """The picture of what docs/layer.json holds, as text."""
    cycles, out = data["cycles"], []

    def x(cycle):
        return _LEFT + _ACROSS * cycle / cycles

    bottom = _TOP + len(STREAMS) * _ROW
    out.append(f'<text class="title" x="{_LEFT}" y="30">one layer, one entry: {cycles:,} cycles</text>')
    ends, outside = [start for start, _ in data["phases"][1:]] + [cycles], False
    for (start, name), end in zip(data["phases"], ends):
        words, width = name.replace("_", " ").replace(" 1", "").replace(" 2", ""), x(end) - x(start)
        out.append(f'<rect class="phase" x="{x(start):.1f}" y="78" width="{width:.1f}" height="34">'
                   f'<title>{words}: {end - start:,} cycles</title></rect>')
        if width > 11 * len(words):
            out.append(f'<text class="middle" x="{x((start + end) / 2):.1f}" y="102">{words}</text>')
        else:       # above it: of two that stand side by side, one to each side
            place, at = ("", x(start) + 6) if outside else (' class="end"', x(end) - 6)
            outside = not outside
            out.append(f'<text{place} x="{at:.1f}" y="68">{words}</text>')
    out.append(f'<text class="end" x="{_LEFT - 14}" y="102">phase</text>')
    for number, (unit, stream, words) in enumerate(STREAMS):
        y, states = _TOP + number * _ROW, bits(data, f"{unit}.{stream}")
        bins = [states[at:at + _BIN] for at in range(0, cycles, _BIN)]
        moves = [sum(valid and ready for valid, ready in some) / len(some) for some in bins]
        waits = [sum(valid and not ready for valid, ready in some) / len(some) for some in bins]
        out += [f'<rect class="row" x="{_LEFT}" y="{y}" width="{_ACROSS}" height="{_HIGH}"/>',
                f'<text class="end" x="{_LEFT - 14}" y="{y + 24}">{words}</text>',
                f'<path class="moves" d="{_area(moves, [0] * len(bins), y)}"><title>{unit}.{stream}: '
                f'{sum(valid and ready for valid, ready in states):,} transfers</title></path>']
        if any(waits):
            out.append(f'<path class="waits" d="{_area(waits, moves, y)}"/>')
    for start, _ in data["phases"]:
        out.append(f'<line class="grid" x1="{x(start):.1f}" x2="{x(start):.1f}" y1="112" y2="{bottom}"/>')
    for value in (value for value in ticks(cycles) if value <= cycles):
        out.append(f'<text class="middle" x="{x(value):.1f}" y="{bottom + 22}">{value:,.0f}</text>')
    out.append(f'<text class="end" x="{_LEFT - 14}" y="{bottom + 22}">cycles</text>')
    for left, kind, words in ((_LEFT, "moves", "valid and ready: a transfer"),
                              (_LEFT + 380, "waits", "valid, not ready: the stream waits")):
        out += [f'<rect class="{kind}" x="{left}" y="{bottom + 44}" width="26" height="26"/>',
                f'<text x="{left + 36}" y="{bottom + 65}">{words}</text>']
    width, height = _LEFT + _ACROSS + 50, bottom + 90
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
                      "<title>One layer of a pass, stream by stream</title>", f"<style>{_STYLE}</style>", *out,
                      "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="run the machine first")
    if parser.parse_args().record and (failed := record()):
        return failed
    FILE.write_text(svg(json.loads(DATA.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
