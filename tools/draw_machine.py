"""The block diagram of the README: ``python -m tools.draw_machine`` writes docs/machine.svg.

Colours follow the reader's light or dark setting. Letters are large enough to be read at half the size.
"""
from pathlib import Path

__all__ = ["FILE", "svg"]

FILE = Path(__file__).resolve().parent.parent / "docs" / "machine.svg"
SIZE = 1240, 640

_STYLE = """
  svg { background: #ffffff; font-family: system-ui, "DejaVu Sans", Arial, sans-serif; }
  .box { fill: #eef3f8; stroke: #33587a; stroke-width: 2; }
  .memory { fill: #f8f1e2; stroke: #8a6414; stroke-width: 2; }
  .main { fill: #d7e9dc; stroke: #1f6b3a; stroke-width: 3; }
  .outside { fill: none; stroke: #777777; stroke-width: 2; stroke-dasharray: 7 5; }
  .wire { fill: none; stroke: #444444; stroke-width: 3; marker-end: url(#head); }
  .bare { fill: none; stroke: #444444; stroke-width: 3; }
  .arrow { fill: #444444; }
  text { fill: #111111; font-size: 23px; text-anchor: middle; }
  .small { font-size: 19px; fill: #444444; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    .box { fill: #17263a; stroke: #7fb2e0; }
    .memory { fill: #33290f; stroke: #d9b45b; }
    .main { fill: #143321; stroke: #6fd08f; }
    .outside { stroke: #9a9a9a; }
    .wire, .bare { stroke: #c4c4c4; }
    .arrow { fill: #c4c4c4; }
    text { fill: #f0f0f0; }
    .small { fill: #c4c4c4; }
  }
"""

#: (left, top, width, height, kind, title, what it does)
BOXES = (
    (20, 20, 220, 76, "outside", "host", "text, batching"),
    (310, 20, 220, 76, "box", "admission", "checks each entry"),
    (600, 20, 220, 76, "box", "sequencer", "one phase at a time"),
    (1000, 20, 220, 76, "box", "sampler", "token to the host"),
    (20, 160, 220, 86, "memory", "weights", "ROM, AXI4, stream"),
    (310, 160, 220, 86, "box", "dispatcher", "tiles and gains"),
    (20, 330, 220, 150, "memory", "buffers", "activations in FP8"),
    (310, 330, 220, 150, "main", "MAC array", "C columns x L lanes"),
    (650, 160, 220, 86, "box", "residual", "32-bit fixed point"),
    (940, 160, 220, 86, "box", "RMSNorm", "and its gains"),
    (650, 300, 220, 86, "box", "RoPE", "queries and keys"),
    (940, 300, 220, 86, "box", "attention", "exact softmax"),
    (940, 436, 220, 86, "memory", "KV memory", "blocks, shared"),
    (650, 436, 220, 86, "box", "activation", "SwiGLU, GELU ..."),
)

#: Words at wires: (x, y, text)
WORDS = ((425, 520, "exact sums, one rounding"),
         (600, 620, "activations go round once for each matrix of each layer"), (272, 392, "feeder"))

#: Corners of wires; the last one has an arrow's head unless the wire only joins another one.
WIRES = (
    ("wire", (240, 58), (306, 58)), ("wire", (530, 58), (596, 58)),                                     # entries
    ("wire", (240, 203), (306, 203)), ("wire", (420, 246), (420, 326)),                                 # weights
    # activations, sums
    ("wire", (240, 405), (306, 405)), ("bare", (530, 405), (590, 405)),
    ("bare", (590, 479), (590, 120)), ("wire", (590, 120), (1110, 120), (1110, 100)),                   # to the sampler
    ("wire", (590, 203), (646, 203)), ("wire", (590, 343), (646, 343)), ("wire", (590, 479), (646, 479)),
    ("wire", (870, 203), (936, 203)), ("wire", (870, 343), (936, 343)), ("wire", (1050, 386), (1050, 432)),
    ("wire", (1090, 436), (1090, 390)),
    # back to the buffers
    ("bare", (1160, 203), (1200, 203), (1200, 590)), ("bare", (1160, 343), (1200, 343)),
    ("bare", (760, 522), (760, 590)), ("wire", (1200, 590), (130, 590), (130, 484)),
)


def svg():
    """The picture as text."""
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE[0]} {SIZE[1]}" role="img">',
             "<title>The machine: weights stream through the array, activations go round</title>",
             f"<style>{_STYLE}</style>",
             '<defs><marker id="head" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="5" markerHeight="5" '
             'orient="auto">'
             '<path class="arrow" d="M0 0 L10 5 L0 10 z"/></marker></defs>']
    lines += [f'<polyline class="{kind}" points="{" ".join(f"{x},{y}" for x, y in corners)}"/>'
              for kind, *corners in WIRES]
    for left, top, width, height, kind, title, what in BOXES:
        middle, line = left + width // 2, top + height // 2
        lines += [f'<rect class="{kind}" x="{left}" y="{top}" width="{width}" height="{height}" rx="8"/>',
                  f'<text x="{middle}" y="{line - 4}">{title}</text>',
                  f'<text class="small" x="{middle}" y="{line + 24}">{what}</text>']
    lines += [f'<text class="small" x="{x}" y="{y}">{words}</text>' for x, y, words in WORDS]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
