"""Verilog as Yosys writes it, made easier to read and for more tools to take. What it means stays the same, bit by bit.

A module's body is made of statements, which begin two spaces from the left. `tidy` takes it apart into these, and

- writes ports in the header, in the order asked for;
- lets a clocked block assign its register, where Yosys has a block of its own that finds what the register gets next;
- puts a condition, or a whole right side, to where it is used, if that is one place and no width or sign changes there;
- drops cases in which nothing happens;
- wakes up, at time 0, blocks that assign a constant to some bits of a signal, too, which nothing else would;
- says behind a signal what the numbers of its enumeration mean.
"""
import re
from collections import Counter

from .verilog_cases import AWAKE, without_empty

__all__ = ["tidy"]

#: Characters up to which results are put to where they are used.
_LINE = 120

_NAME = r"[A-Za-z_]\w*"
_HEADER = re.compile(rf"module ({_NAME}) ?\(([^;]*)\);\n")
_DECLARATION = re.compile(rf"  (input|output|wire|reg) (signed )?(\[\d+:\d+\] )?({_NAME}) ?(\[\d+:\d+\])?"
                          r"(?: *= ([^;]+))?;$")
_ASSIGN = re.compile(rf"  assign ({_NAME}) ?= (.*);$")
_FLIP_FLOP = re.compile(rf"  always @\((\w+ {_NAME}) ?\)\n    ({_NAME}) ?<= (.*?) ?;$")
_BLOCK = "  always @* begin\n"
_BITS = re.compile(r"  always @\*\n(    .* = \d+'[bdoh][0-9a-f]+;)$")     # of a signal whose other bits have a block
_TARGET = re.compile(rf"^ +({_NAME}) ?(?:\[[^]]*\])? = ", re.MULTILINE)
_TOKEN = re.compile(r"\d+'s?[bdoh][0-9a-fxz?_]+|\$?[A-Za-z_]\w*")
_CONDITION = re.compile(rf"(?<=if \()({_NAME}) ?(?=\) begin)")
_WHOLE = re.compile(rf"^( +)({_NAME}) ?(<?=) ({_NAME}) ?;$", re.MULTILINE)
_MADE = re.compile(r"_[a-z]+\d+")       # what `hwgen.lib.netlist` calls a result that has no name in the source
_UNNAMED = re.compile(r"_\d+_")         # what Yosys calls the register behind a memory
_ATTRIBUTE = re.compile(r"\(\* (\w+) = (.*?) \*\)")

_ATOM = rf"(?:\d+'s?[bdoh][0-9a-fx_]+|{_NAME}(?: ?\[[\d:]+\])?|\{{ .* \}}) ?"
_BITWISE = re.compile(rf"({_ATOM})([&|^]|&&|\|\|) ({_ATOM})$")
_COMPARED = re.compile(rf"(?:{_ATOM}|\$signed\({_ATOM}\) ?)(?:[!=]=|[<>]=?) (?:{_ATOM}|\$signed\({_ATOM}\) ?)$")
_UNARY = re.compile(rf"([~!|&^]) ({_ATOM})$")
_CHOICE = re.compile(rf"({_NAME}) ?\? (.* : .*)$")
_BIT = re.compile(rf"1'h[01]|({_NAME}) ?(\[\d+\])?")


def tidy(text, order, comments):
    """The module ``text`` in other words.

    order : list of str     its ports
    comments : dict         {port: what is to stand behind it}
    """
    return _Module(_with_plain_names(text), comments).text(order)


def _with_plain_names(text):
    """Text without escaped names, of which Yosys makes some."""
    escaped = dict.fromkeys(re.findall(r"\\\S+ ", text))
    taken = {*re.findall(r"\w+", text)} if escaped else set()
    for name in escaped:
        if "$auto$verilog_backend" in name:
            plain = "wake"
        else:
            plain = "_value" if "$" in name else re.sub(r"\W+", "_", name[1:-1])
        number = 1 if plain == "_value" else ""
        while f"{plain}{number}" in taken:
            number = int(number or 1) + 1
        escaped[name] = f"{plain}{number}"
        taken.add(escaped[name])
    return re.sub(r"\\\S+ ", lambda found: escaped[found[0]], text)


def _statements(body):
    """[(attributes, statement)] of a module's body."""
    found, attributes, lines = [], [], []

    def end():
        if lines:
            found.append((attributes.copy(), "\n".join(lines)))
            lines.clear()
            attributes.clear()
    for line in body.split("\n"):
        if line == "  end" or line.startswith(("   ", "  )")):
            lines.append(line)
        elif line.startswith("  (*"):
            end()
            attributes.append(line.strip())
        elif line.strip():
            end()
            lines.append(line)
    end()
    return found


class _Module:
    """The statements of a module, by their kinds."""

    def __init__(self, text, comments):
        header = _HEADER.match(text)
        self.name, self.comments = header[1].strip(), dict(comments)
        self.kinds, self.ranges, self.initial, self.memories = {}, {}, {}, []
        self.ports = {}             # name: direction
        self.assigned = {}          # name: right side
        # text, (name,) of what is assigned, or (clock's edge, register, right side) of a register
        self.statements = []
        self.gone = set()
        self.wakers = {*AWAKE.findall(text)}
        for attributes, statement in _statements(text[header.end():text.rindex("endmodule")]):
            self._add(attributes, statement)
        self._drop_copies_of_unnamed()
        self._clock()
        self._put_to_use()

    def _add(self, attributes, statement):
        if declared := _DECLARATION.match(statement):
            kind, signed, bits, name, rows, value = declared.groups()
            name = name.strip()
            if rows:
                self.memories.append(statement)
            elif kind in ("input", "output"):
                self.ports[name], self.ranges[name] = kind, (signed or "") + (bits or "")
            else:
                self.kinds[name], self.ranges[name] = kind, (signed or "") + (bits or "")
                if value:
                    self.initial[name] = value
                if meaning := _enumeration(attributes):
                    self.comments.setdefault(name, meaning)
        elif found := _ASSIGN.fullmatch(statement):
            self.assigned[found[1].strip()] = found[2].strip()
            self.statements.append((found[1].strip(),))
        elif found := _FLIP_FLOP.fullmatch(statement):
            self.statements.append((found[1].strip(), found[2].strip(), found[3].strip()))
        elif self.wakers and (found := _BITS.fullmatch(statement)):
            self.statements.append(f"{_BLOCK}    if ({min(self.wakers)}) begin end\n{found[1]}\n  end")
        else:
            kept = [f"  {attribute}\n" for attribute in attributes if not attribute.startswith("(* full_case")]
            self.statements.append("".join(kept) + statement)

    def _width(self, name):
        high, low = (re.findall(r"\d+", self.ranges.get(name, "")) or (0, 0))
        return int(high) - int(low) + 1

    def _drop_copies_of_unnamed(self):
        """A register behind a memory gets the name of the only signal that is assigned it."""
        names = {right: name for name, right in self.assigned.items() if _UNNAMED.fullmatch(right)}
        for register, name in names.items():
            whole = re.compile(rf"\b{register}\b")
            self.statements = [whole.sub(name, each) if isinstance(each, str) else each for each in self.statements
                               if each != (name,)]
            self.assigned = {left: whole.sub(name, right) for left, right in self.assigned.items() if left != name}
            self.kinds[name] = self.kinds.pop(register)
            del self.ranges[register]

    # Registers

    def _clock(self):
        """Blocks that find what a register gets next become clocked and assign the register."""
        self.count = Counter(token.strip() for each in self.statements for token in _TOKEN.findall(self._source(each)))
        blocks = {}
        for place, each in enumerate(self.statements):
            if isinstance(each, str) and each.startswith(_BLOCK):
                targets = {name.strip() for name in _TARGET.findall(each)}
                if len(targets) == 1:
                    blocks[targets.pop()] = place
        for place, each in enumerate(self.statements):
            if isinstance(each, tuple) and len(each) == 3 and each[2] in blocks and each[2] not in self.ports:
                edge, register, following = each
                block = self.statements[blocks[following]]
                if self.count[following] != sum(token.strip() == following for token in _TOKEN.findall(block)) + 1:
                    continue
                body = AWAKE.sub("", block[len(_BLOCK):], count=1)
                name = re.escape(following)
                body = re.sub(rf"^    {name} ?= {re.escape(register)} ?;\n", "", body, count=1)
                body = re.sub(rf"^( +){name} ?(\[[^]]*\])? = ",
                              lambda found, register=register: f"{found[1]}{register}{found[2] or ''} <= ", body,
                              flags=re.MULTILINE)
                self.statements[place] = f"  always @({edge}) begin\n{body}"
                self.statements[blocks[following]] = None
                self.gone.add(following)
        self.statements = [each for each in self.statements if each is not None]

    def _source(self, each):
        if isinstance(each, str):
            return each
        return f"{each[0]} = {self.assigned[each[0]]}" if len(each) == 1 else " ".join(each)

    # Results that are used in one place

    def _put_to_use(self):
        self.count = Counter(token.strip() for each in self.statements for token in _TOKEN.findall(self._source(each)))
        made = [name for name in self.assigned
                if _MADE.fullmatch(name) and self.count[name] == 2 and name not in self.ports]
        self.single = set(made)
        self.done = {}
        for name in self.assigned:
            self._right(name)
        statements = []
        for each in self.statements:
            if isinstance(each, str):
                each = _CONDITION.sub(lambda found: self._condition(found[1].strip()) or found[0], each)
                each = _WHOLE.sub(self._whole, each)
            elif len(each) == 3 and (right := self._taken(each[2], self._width(each[1]), len(each[1]) + 8)):
                each = (*each[:2], right)
            statements.append(each)
        self.statements = [each for each in statements if not (isinstance(each, tuple) and each[0] in self.gone)]

    def _right(self, name):
        """The right side of an assignment, with what it alone uses put into it."""
        pending = [(name, False)]
        while pending:          # without recursion, which chains of thousands would not survive
            name, ready = pending.pop()
            if name in self.done:
                continue
            right = self.assigned[name]
            uses = [token for token in map(str.strip, _TOKEN.findall(right))
                    if token in self.single and token not in self.done]
            if not ready and uses:
                pending += [(name, True), *((use, False) for use in uses)]
            else:
                self.done[name] = self._filled(name, right)
        return self.done[name]

    def _filled(self, name, right):
        room = _LINE - len(name) - 12
        if whole := self._taken(right, self._width(name), _LINE - room):
            return whole
        found = _BITWISE.fullmatch(right)
        if found and self._width(name) == 1 and self._is_bit(found[1]) and self._is_bit(found[3]):
            for side in (1, 3):
                operand = found[side].strip()
                if (inner := self._condition(operand, len(right), "({})")) is not None:
                    right = inner + right[len(operand):] if side == 1 else right[:-len(operand)] + inner
            return right
        if found := _UNARY.fullmatch(right):
            operand = found[2].strip()
            if (inner := self._condition(operand, len(right), "({})")) is not None:
                return f"{found[1]}{inner}"
        if found := _CHOICE.fullmatch(right):
            if (inner := self._condition(found[1].strip(), len(right), "({})")) is not None:
                return f"{inner} ? {found[2]}"
        return right

    def _is_bit(self, atom):
        found = _BIT.fullmatch(atom.strip())
        return found is not None and (found[1] is None or found[2] is not None or self._width(found[1].strip()) == 1)

    def _is_condition(self, name):
        """Whether a result is one bit wherever it stands: its operands do not depend on what is around it."""
        right = self.assigned[name]
        if self._width(name) != 1:
            return False
        if found := _BITWISE.fullmatch(right):
            return len(found[2]) == 2 or self._is_bit(found[1]) and self._is_bit(found[3])
        if found := _UNARY.fullmatch(right):
            return found[1] != "~" or self._is_bit(found[2])
        return _COMPARED.fullmatch(right) is not None

    def _condition(self, name, beside=0, form="{}"):
        """What to write for a condition that is used here alone, or None."""
        if name not in self.single or name in self.gone or not self._is_condition(name):
            return None
        right = self._right(name)
        if len(right) + beside > _LINE:
            return None
        self.gone.add(name)
        return form.format(right)

    def _taken(self, name, width, beside):
        """The right side of a result that is all that is assigned here to a signal of ``width`` bits, or None."""
        if name not in self.single or name in self.gone or self._width(name) != width:
            return None
        right = self._right(name)
        if len(right) + beside > _LINE:
            return None
        self.gone.add(name)
        return right

    def _whole(self, found):
        indent, left, sign, name = found.groups()
        right = self._taken(name.strip(), self._width(left.strip()), len(found[0]))
        return found[0] if right is None else f"{indent}{left} {sign} {right};"

    # What is written

    def text(self, order):
        body, clocked, wake = [], {}, None
        for each in self.statements:
            if isinstance(each, str):
                if re.match(r"  always .* begin\n", each):
                    each, awake = without_empty(each)
                    wake = wake or awake
                if each:
                    body.append(each)
            elif len(each) == 1:
                body.append(f"  assign {each[0]} = {self.done[each[0]]};")
            else:
                if each[0] not in clocked:
                    clocked[each[0]] = [len(body)]
                    body.append(None)
                clocked[each[0]].append(f"    {each[1]} <= {each[2]};")
        for edge, (place, *lines) in clocked.items():
            block = f" begin\n{chr(10).join(lines)}\n  end" if len(lines) > 1 else f"\n{lines[0]}"
            body[place] = f"  always @({edge}){block}"
        names = [name for name in self.kinds if name not in self.ports and name not in self.gone
                 and (name == wake or name not in self.wakers)]
        names.sort(key=lambda name: (_MADE.fullmatch(name) is not None, name not in self.initial))
        declarations = [self._declared(self.kinds[name], name, ";") for name in names]
        # A register with a value at its declaration is a warning of Verilator's of which its older releases do not know
        # the name. What wakes up blocks is set late, when all listen.
        declarations += [f"  initial {name} {'<=' if name == wake else '='} {self.initial[name]};"
                         for name in [*self.ports, *names] if name in self.initial]
        ports = [name for name in order if name in self.ports] + [name for name in self.ports if name not in order]
        header = [self._declared(f"{self.ports[name]} {self.kinds.get(name, 'wire')}", name, "," * (name != ports[-1]))
                  for name in ports]
        lines = [f"module {self.name} (", *header, ");", *declarations, *self.memories, *body, "endmodule", ""]
        return "\n".join(lines)

    def _declared(self, kind, name, end):
        comment = f"  // {self.comments[name]}" if name in self.comments else ""
        return f"  {kind} {self.ranges[name]}{name}{end}{comment}"


def _enumeration(attributes):
    """What the numbers of an enumeration mean, from Yosys' attributes."""
    found = [_ATTRIBUTE.fullmatch(attribute) for attribute in attributes]
    return ", ".join(f"{int(match[1].removeprefix('enum_value_'), 2)} {match[2].strip(chr(34))}" for match in found
                     if match and match[1].startswith("enum_value_"))
