"""Blocks of Verilog without the branches in which nothing happens: of conditions, and of cases."""
import re

__all__ = ["AWAKE", "without_empty"]

AWAKE = re.compile(r"    if \((\w+)\) begin end\n")        # Yosys has a register that wakes up each block at time 0


def without_empty(block):
    """(An ``always`` block without branches in which nothing happens, "" if nothing is left of it; what wakes it up, or
    None)."""
    first, *lines, last = block.split("\n")
    awake = AWAKE.fullmatch(f"{lines[0]}\n")
    body = _pruned(lines[1:] if awake else lines)
    if not body:
        return "", None
    return "\n".join([first, *(lines[:1] if awake else []), *body, last]), awake and awake[1]


def _indent(line):
    return len(line) - len(line.lstrip(" "))


def _pruned(lines):
    """Statements without those that do nothing."""
    found, place = [], 0
    while place < len(lines):
        line, depth = lines[place], _indent(lines[place])
        attributes = []
        while line.lstrip().startswith("(*"):
            attributes.append(line)
            place += 1
            line = lines[place]
        word = line.lstrip()
        if word.startswith("if (") and word.endswith(" begin"):
            place, branches = _branches(lines, place, depth)
            found += _conditional(branches, depth)
        elif word.startswith("case"):
            end = place + 1
            while not (_indent(lines[end]) == depth and lines[end].lstrip().startswith("endcase")):
                end += 1
            found += _case(attributes, line, lines[place + 1:end], depth)
            place = end + 1
        else:
            if word != "/* empty */;":
                found += [*attributes, line]
            place += 1
    return found


def _branches(lines, place, depth):
    """(the line behind it, [(condition or None, statements)]) of an ``if``."""
    branches, condition, body = [], lines[place].strip()[len("if ("):-len(") begin")], []
    place += 1
    while True:
        line = lines[place]
        place += 1
        if _indent(line) == depth and line.lstrip().startswith("end"):
            branches.append((condition, body))
            rest = line.strip()
            if rest == "end":
                return place, branches
            condition, body = None, []
            if rest.startswith("end else if ("):
                condition = rest[len("end else if ("):-len(") begin")]
        else:
            body.append(line)


def _conditional(branches, depth):
    branches = [(condition, _pruned(body)) for condition, body in branches]
    while branches and not branches[-1][1]:
        branches.pop()
    if not branches:
        return []
    if len(branches) == 2 and not branches[0][1] and branches[1][0] is None:
        condition = branches[0][0].strip()
        plain = re.fullmatch(r"[\w\[\]:]+", condition)
        branches = [(f"!{condition}" if plain else f"!({condition})", branches[1][1])]
    space, lines = " " * depth, []
    for number, (condition, body) in enumerate(branches):
        said = f"if ({condition.strip()}) begin" if condition is not None else "begin"
        lines += [f"{space}{'end else ' if number else ''}{said}", *body]
    return [*lines, f"{space}end"]


def _case(attributes, head, lines, depth):
    items = []
    for line in lines:
        if _indent(line) == depth + 2:
            items.append((line.strip().removesuffix(":"), []))
        else:
            items[-1][1].append(line)
    kept, space = [], " " * depth
    for label, body in reversed(items):
        body = _pruned(body)
        if body or any(_overlap(label, later) for later, _ in kept):
            kept.append((label, body))
    if not any(body for _, body in kept):
        return []
    kept.reverse()
    # that nothing else can come, Yosys' attribute says; a default says it too
    full = len(kept) == len(items) and not any(label == "default" for label, _ in kept)
    found = [*(attribute for attribute in attributes if full or "full_case" not in attribute), head]
    for label, body in kept:
        found += [f"{space}  {label}:", *body] if body else [f"{space}  {label}: ;"]
    return [*found, f"{space}endcase"]


def _overlap(label, later):
    """Whether a value may be of both labels of a ``casez``."""
    if "default" in (label, later):
        return True
    return any(len(one) == len(other) and all(a == b or "?" in (a, b) for a, b in zip(one, other))
               for one in _patterns(label) for other in _patterns(later))


def _patterns(label):
    """Patterns of a label, bit by bit."""
    found = []
    for pattern in label.split(","):
        width, base, digits = re.fullmatch(r"(\d+)'([bdh])([0-9a-f?xz]+)", pattern.strip()).groups()
        if base == "d":         # Yosys writes 32 bits so
            digits = f"{int(digits):b}"
        bits = digits
        if base == "h":
            bits = "".join(f"{int(digit, 16):04b}" if digit != "?" else "????" for digit in digits)
        found.append(bits.rjust(int(width), "0")[-int(width):])
    return found
