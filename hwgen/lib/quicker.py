"""Verilog that a simulator takes less time for. What it means stays the same, bit by bit; it is for nobody to read, and
is not kept.

What `hwgen.lib.verilog` writes has an operator for each bit of a sum that is repeated or looked at, and concatenations
of hundreds of
single bits under one parity: a synthesis tool sees one gate in them, but Verilator makes code of each piece. `quicker`
rewrites, in each module,

- results without a name in the source (`_sum12`) that are the same expression: one of them is left;
- pieces of a concatenation that repeat: ``{ a, b, b, b }`` becomes ``{ a, {3{b}} }``;
- the parity, and the or, of many bits of a few signals: ``^ { a[7:5], a[2], b[6] }`` becomes ``^ ((a & 8'he4) ^ (b &
  7'h40))``;
- the choice of a signal or a constant: ``c ? a : 3'h1`` becomes ``({3{c}} & a) | (~{3{c}} & 3'h1)``, no branch that a
  processor guesses wrong.
"""
import re

from .taken_apart import MODULE, PIECE

__all__ = ["quicker"]

_MADE = re.compile(r"\b_[a-z]+\d+\b")
_DECLARED = re.compile(r"^  wire ((?:signed )?(?:\[\d+:\d+\] )?)(_[a-z]+\d+);\n", re.MULTILINE)
_ASSIGNED = re.compile(r"^  assign (_[a-z]+\d+) = (.*);\n", re.MULTILINE)
_BIT = re.compile(r"^  (?:(?:input |output )?(?:wire|reg)) (\w+)[;,]?(?: *//.*)?$", re.MULTILINE)
_REDUCED = re.compile(r"^(  assign \w+ = )([\^|]) \{ ([^{}]*) \};$", re.MULTILINE)
_CHOICE = re.compile(r"^(  assign (\w+) = )(\w+) \? (\w+(?:\[\d+(?::\d+)?\])?) : (\d+'h[0-9a-f]+);$", re.MULTILINE)
_SHORT = re.compile(r"^  (?:output )?wire (?:\[(\d|[12]\d|3[01]):0\] )?(\w+)[;,]?(?: *//.*)?$", re.MULTILINE)
_PIECES = re.compile(r"\{ ([^{}]*) \}")


def quicker(text):
    """The design ``text`` in other words."""
    return "".join(_module(part) if MODULE.match(part) else part for part in MODULE.split(text))


def _module(text):
    text = _without_copies(text)
    bits = {*_BIT.findall(text)}
    text = _REDUCED.sub(lambda found: _masked(*found.groups(), bits) or found[0], text)
    short = {name: int(high or 0) + 1 for high, name in _SHORT.findall(text)}
    text = _CHOICE.sub(lambda found: _masks(*found.groups(), short, bits) or found[0], text)
    return _PIECES.sub(_repeated, text)


def _without_copies(text):
    """The module with one of each result without a name that is made twice."""
    ranges = {name: bits for bits, name in _DECLARED.findall(text)}
    rights = {name: right for name, right in _ASSIGNED.findall(text) if name in ranges}
    known, same, met = {}, {}, set()        # (range, right side): name; name: the one that is left
    for name in rights:
        pending = [(name, False)]
        while pending:          # without recursion, which chains of thousands would not survive
            name, ready = pending.pop()
            if ready:
                rights[name] = _MADE.sub(lambda found: same.get(found[0], found[0]), rights[name])
                same[name] = known.setdefault((ranges[name], rights[name]), name)
            elif name not in met:
                met.add(name)       # words, if not bits, may depend on each other
                pending += [(name, True), *((use, False) for use in _MADE.findall(rights[name]) if use in rights)]
    gone = {name for name, left in same.items() if name != left}
    text = _DECLARED.sub(lambda found: "" if found[2] in gone else found[0], text)
    text = _ASSIGNED.sub(lambda found: "" if found[1] in gone else found[0], text)
    return _MADE.sub(lambda found: same.get(found[0], found[0]), text)


def _masked(start, operator, pieces, bits):
    """A parity, or an or, of pieces as one of whole signals, if that is less to do."""
    masks, count = {}, 0
    for piece in pieces.split(", "):
        found = PIECE.fullmatch(piece.strip())
        if found is None or found[2] is None and found[1] not in bits:
            return None
        high = int(found[2] or 0)
        low = int(found[3] or high)
        mask = (1 << high + 1) - (1 << low)
        before = masks.get(found[1], 0)
        masks[found[1]] = before ^ mask if operator == "^" else before | mask
        count += high - low + 1
    words = sum(-(-mask.bit_length() // 32) for mask in masks.values())
    if count < 8 or count < 2 * words and len({*masks.values()}) > 1:
        return None
    by_mask = {}
    for name, mask in masks.items():
        by_mask.setdefault(mask, []).append(name)
    terms = [f"(({f' {operator} '.join(names)}) & {mask.bit_length()}'h{mask:x})"
             for mask, names in by_mask.items() if mask]
    return f"{start}{operator} ({f' {operator} '.join(terms)});" if terms else None


def _masks(start, name, condition, one, other, short, bits):
    """A choice of a constant as masks, if it is short."""
    if name not in short or condition not in bits:
        return None
    taken = f"{{{short[name]}{{{condition}}}}}"
    left = "" if int(other.split("'h")[1], 16) == 0 else f" | (~{taken} & {other})"
    return f"{start}({taken} & {one}){left};"


def _repeated(found):
    """A concatenation with runs of the same piece as repetitions."""
    pieces, made = found[1].split(", "), []
    for piece in pieces:
        if made and made[-1][0] == piece:
            made[-1][1] += 1
        else:
            made.append([piece, 1])
    if len(made) == len(pieces):
        return found[0]
    return f"{{ {', '.join(piece if times == 1 else f'{{{times}{{{piece}}}}}' for piece, times in made)} }}"
