"""Verilog of a `hwgen.params.wired.Plan`, written as text: Amaranth takes 2 ms, 20 kB of memory and 220 bytes of
Verilog for an adder (4,000 of them: 8 s of CPU), and a matrix has one for every second weight.

Bits that are alike stand together in words of 64, so that a simulator adds 64 pairs of numbers at once.
"""
import functools
from itertools import groupby

__all__ = ["registers", "wires_text"]

_WORD = 64      # bits
_LINE = 16      # of them in a line
_ZERO = "1'h0"  # an output of a row of zeros


def _words(plan):
    """Bits that are alike in words: [(time, level, adders)], and of shifts and delays [(time, their keys in
    `Plan`)]."""
    adders = sorted(range(len(plan.adders)), key=plan.adders.__getitem__)
    words = []
    for (time, level), group in groupby(adders, key=plan.adders.__getitem__):
        words += [(time, level, of) for of in _chunks(list(group))]
    return words, _by_time(plan.shifts, lambda at: plan.ready[at[0]][0]), _by_time(plan.delays, lambda at: at[2])


def registers(plan):
    """{a word of registers in the Verilog: what each of its bits is, from 0 on, as `golden.wired.Effects` takes it}."""
    words, shifts, delays = _words(plan)
    found = {f"c{number}": [("carry", adder) for adder in of] for number, (_, _, of) in enumerate(words)}
    found |= {f"r{number}": [("sum", adder) for adder in of] for number, (_, level, of) in enumerate(words)
              if level == plan.levels}
    for letter, kind, of_kind in (("q", "shift", shifts), ("d", "delay", delays)):
        found |= {f"{letter}{number}": [(kind, *at) for at in of] for number, (_, of) in enumerate(of_kind)}
    return found


def wires_text(plan, stuck=None):
    """The module ``{module}``: clk, ``clear`` (high in the cycle before a number's lowest bits, and whenever there is
    none), x [inputs], and y [outputs] `Plan.latency` cycles later. ``stuck``: (word, bit, value) of a register that
    keeps one value."""
    becomes = functools.partial(_becomes, stuck)
    network, names, lines = plan.network, {}, []
    for i in range(network.inputs):
        names[i, 0, 0] = f"x[{i}]"
    words, shifts, delays = _words(plan)
    for number, (time, level, of) in enumerate(words):
        kept = level == plan.levels
        for bit, adder in enumerate(of):
            names[network.inputs + adder, 0, time + kept] = f"{'r' if kept else 's'}{number}[{bit}]"
    for number, (time, of) in enumerate(shifts):
        names.update(((node, shift, time), f"q{number}[{bit}]") for bit, (node, shift) in enumerate(of))
    for number, (time, of) in enumerate(delays):
        names.update((at, f"d{number}[{bit}]") for bit, at in enumerate(of))

    lines += ["", "  // Numbers come a bit a cycle, the least significant first.",
              "  // A word is up to 64 adders (a, b: what they add; c: carries; s, r: sums), shifts (q) or delays (d)."]
    lines += [f"  reg [{plan.latency}:1] cleared;"] if plan.latency else []
    for number, (_, level, of) in enumerate(words):
        lines.append(f"  wire {_range(of)}a{number}, b{number}, s{number};")
        lines.append(f"  reg {_range(of)}c{number};")
        lines += [f"  reg {_range(of)}r{number};"] if level == plan.levels else []
    for letter, kind in (("q", shifts), ("d", delays)):
        lines += [f"  reg {_range(of)}{letter}{number};" for number, (_, of) in enumerate(kind)]
    if plan.latency:
        lines.append(f"  always @(posedge clk) cleared <= "
                     f"{f'{{cleared[{plan.latency - 1}:1], clear}}' if plan.latency > 1 else 'clear'};")
    for number, (time, level, of) in enumerate(words):
        negative = "".join(str(network.adders[adder][4]) for adder in reversed(of))
        rest, clear = f"{len(of)}'h{int(negative, 2):x}", _clear(time)
        a, b = (_bits(names[plan.operands[adder][side]] for adder in of) for side in (0, 1))
        lines += [f"  // time {time}, level {level}", f"  assign a{number} = {a};",
                  f"  assign b{number} = {b} ^ {rest};",
                  f"  assign s{number} = a{number} ^ b{number} ^ c{number};",
                  becomes(f"c{number}",
                          f"{clear} ? {rest} : a{number} & b{number} | c{number} & (a{number} | b{number})", of)]
        if level == plan.levels:
            lines.append(becomes(f"r{number}", f"s{number}", of))
    for number, (time, of) in enumerate(shifts):
        bits = _bits(names[node, shift - 1, time] for node, shift in of)
        lines += [f"  // time {time}", becomes(f"q{number}", f"{_clear(time)} ? {len(of)}'h0 : {bits}", of)]
    for number, (time, of) in enumerate(delays):
        lines += [f"  // to time {time}", becomes(f"d{number}",
                                                  _bits(names[node, shift, time - 1] for node, shift, _ in of), of)]
    lines.append(f"  assign y = {_bits(names[at] if at else _ZERO for at in plan.outputs)};")
    return "\n".join([f"// Wires: a matrix of {len(plan.outputs)} x {network.inputs} weights as {len(network.adders)} "
                      f"serial adders.",
                      "// Source: hwgen/lib/wires.py, docs/wired.md", "module {module} (clk, clear, x, y);",
                      "  input clk;", "  wire clk;",
                      "  input clear;", "  wire clear;", f"  input [{network.inputs - 1}:0] x;",
                      f"  wire [{network.inputs - 1}:0] x;",
                      f"  output [{len(plan.outputs) - 1}:0] y;", f"  wire [{len(plan.outputs) - 1}:0] y;", *lines,
                      "endmodule", ""])


def _becomes(stuck, word, value, bits):
    """A register's line; of ``stuck``, see `wires_text`."""
    if stuck is None or stuck[0] != word:
        return f"  always @(posedge clk) {word} <= {value};"
    one = f"{len(bits)}'h{1 << stuck[1]:x}"
    return f"  always @(posedge clk) {word} <= ({value}) {f'| {one}' if stuck[2] else f'& ~{one}'};"


def _chunks(items):
    return [items[start:start + _WORD] for start in range(0, len(items), _WORD)]


def _by_time(items, time):
    """[(time, items)] of one word each."""
    return [(at, of) for at, group in groupby(sorted(items, key=time), key=time) for of in _chunks(list(group))]


def _range(of):
    return f"[{len(of) - 1}:0] "


def _clear(time):
    return f"cleared[{time}]" if time else "clear"


def _bits(names):
    """Names, the least significant first, as a vector."""
    names = list(names)[::-1]
    return "{" + ",\n      ".join(", ".join(names[start:start + _LINE]) for start in range(0, len(names), _LINE)) + "}"
