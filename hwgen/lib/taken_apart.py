"""A module of emitted Verilog taken apart: what each wire and each register is made of. `Unread` if it has anything
that is not known here."""
import re
from collections import defaultdict

__all__ = ["MODULE", "PIECE", "Register", "TakenApart", "Unread"]

#: Where a module begins, behind a mark for Verilator or not (`hwgen.host.diagnosis.waves.probed`).
MODULE = re.compile(r"^(?=(?:/\*[^*]*\*/)?module )", re.MULTILINE)
#: A signal, or a bit or bits of one.
PIECE = re.compile(r"(\w+)(?:\[(\d+)(?::(\d+))?\])?")

_DECLARED = re.compile(r"  (?:(input|output) )?(?:reg|wire) (signed )?(?:\[(\d+):0\] )?(\w+)[,;]?(?: *//.*)?$")
_MEMORY = re.compile(r"  reg (?:\[\d+:0\] )?(\w+) \[\d+:\d+\];$")
_ASSIGNED = re.compile(r"  assign ([^;]*?) = ([^;]*);$")
_CLOCKED = re.compile(r"  always @\(posedge (\w+)\)( begin)?$")
_INSTANCE = re.compile(r"  \w+ (?:\w+|#) ?\($")
#: What says nothing of a wire or of a register's next value.
_SAID = re.compile(r"//.*|  initial (?:\w+ <?= [^;]*|\$readmemh\(.*\));|(?:/\*[^*]*\*/)?module \w+ \(|\);|endmodule|$")
_SET = re.compile(r" +(\w+)((?:\[(?:[^][]|\[[^][]*\])*\])*) <= ([^;#]*);$")
_FLOW = re.compile(r" +(?:if \((.*)\) begin(?: end)?|end else if \((.*)\) begin|end else begin|if \((.*)\)|begin|end"
                   r"|\(\* full_case = 32'd1 \*\)|casez? \(.*\)|[^;#]*:(?: begin)?|endcase)$")
_NAME = re.compile(r"(?<!['\w$.])[A-Za-z_]\w*")
_FUNCTION = re.compile(r"\$(?!(?:un)?signed\b)|@|#")
_CONSTANT = re.compile(r"(\d+)'h([0-9a-f]+)")


class Unread(Exception):
    """The module is not taken apart."""


class Register:
    """Lines of a clocked block that set a register, or a memory, or several that are set together.

    Attributes
    ----------
    clock : str         its name
    lines : list        what stands in the block
    sets : set          names that it sets
    reads : set         names that it reads
    conditions : set    those of them that are a condition
    """

    def __init__(self, clock, lines, names):
        self.clock, self.lines = clock, lines
        self.sets, self.reads, self.conditions = set(), set(), set()
        for line in lines:
            if found := _SET.match(line):
                self.sets.add(found[1])
                self.reads |= _known(found[2], names) | _known(found[3], names)
            elif found := _FLOW.match(line):
                self.reads |= _known(line, names)
                self.conditions |= {each for each in found.groups() if each in names}
            else:
                raise Unread(line)


def _known(text, names):
    if _FUNCTION.search(text):
        raise Unread(text)
    return {name for name in _NAME.findall(text) if name in names}


class TakenApart:
    """Attributes:

    lines : list        the module's
    width : dict        bits by the names of signals; ``signed``, ``outputs`` are sets of those names
    memories : set      names
    wires : dict        {wire: the one expression that it is}; ``uses``: {wire: set of names in it}
    registers : list    of `Register`
    elsewhere : set     names that anything else reads or drives, such as instances
    assigns : dict      {place in lines: names that are assigned there}
    clocked : set       places of clocked blocks in ``lines``
    """

    def __init__(self, text):
        self.lines = text.split("\n")
        self.width, self.signed, self.outputs, self.memories = {}, set(), set(), set()
        self.elsewhere, self.assigns, self.clocked = set(), {}, set()
        assigned, blocks, others, place = [], [], [], 0
        while place < len(self.lines):
            line, end = self.lines[place], place
            if found := _ASSIGNED.match(line):
                assigned.append((place, *found.groups()))
            elif found := _CLOCKED.match(line):
                end = self._end(place, "  end") if found[2] else place + 1
                blocks.append((found[1], self.lines[place + 1:end + (not found[2])]))
                self.clocked |= {*range(place, end + 1)}
            elif line == "  always @* begin" or _INSTANCE.match(line):
                end = self._end(place, "  end" if line.endswith("begin") else "  );")
                others += [re.sub(r"^ *\.\w+\(", "(", each) for each in self.lines[place + 1:end]]
            elif line == "  initial begin":
                end = self._end(place, "  end")
            elif not self._declares(line) and not _SAID.fullmatch(line):
                raise Unread(line)
            place = end + 1
        self._names = self.width.keys() | self.memories
        for line in others:
            self.elsewhere |= _known(line, self._names)
        self._take_wires(assigned)
        self.registers = [each for block in blocks for each in self._registers(*block)]

    def _end(self, place, line):
        try:
            return self.lines.index(line, place)
        except ValueError:
            raise Unread(self.lines[place]) from None

    def _declares(self, line):
        if found := _MEMORY.match(line):
            self.memories.add(found[1])
        elif found := _DECLARED.match(line):
            self.width[found[4]] = int(found[3] or 0) + 1
            self.outputs |= {found[4]} if found[1] == "output" else set()
            self.signed |= {found[4]} if found[2] else set()
        return found

    def _registers(self, clock, lines):
        """One for each name that a block sets, but where lines cannot be left out."""
        found = [_SET.match(line) for line in lines]
        names = dict.fromkeys(each[1] for each in found if each)
        if not names or any(re.match(r" +(?:casez? |if .*\)$)", line) for line in lines):
            return [Register(clock, lines, self._names)]
        return [Register(clock, [line for line, each in zip(lines, found) if not each or each[1] == name], self._names)
                for name in names]

    def _take_wires(self, assigned):
        self.wires, pieces, apart = {}, defaultdict(list), set()
        for place, left, right in assigned:
            names = self.assigns[place] = _known(left, self._names)
            if names == {left}:
                self.wires[left] = right
            elif len(names) == 1 and (found := self._pieces(left, right)):
                pieces[next(iter(names))] += found
            else:
                apart |= names
        for name, found in pieces.items():
            found.sort(reverse=True)
            ends = [low for low, _, _ in found]
            if [low + width for low, width, _ in found] == [self.width[name], *ends[:-1]] and ends[-1] == 0:
                self.wires[name] = self._joined(name, found)
            else:
                apart.add(name)
        for name in apart:
            self.wires.pop(name, None)
        for place, left, right in assigned:
            if not self.assigns[place] <= self.wires.keys():
                self.elsewhere |= self.assigns[place] | _known(right, self._names)
        self.uses = {name: _known(right, self._names) for name, right in self.wires.items()}

    def _span(self, part):
        """(name, lowest bit, bits) of a signal or a part of one, or None."""
        found = PIECE.fullmatch(part)
        if found is None or found[1] not in self.width:
            return None
        if found[2] is None:
            return found[1], 0, self.width[found[1]]
        low = int(found[3] or found[2])
        return found[1], low, int(found[2]) - low + 1

    def _pieces(self, left, right):
        """[(lowest bit, bits, what is there)] of an assignment to parts of a signal, or None."""
        spans = [self._span(part) for part in _parts(left)]
        if None in spans:
            return None
        if constant := _CONSTANT.fullmatch(right):
            value, made = int(constant[2], 16), []
            for _, low, width in reversed(spans):
                made.append((low, width, f"{width}'h{value & (1 << width) - 1:x}"))
                value >>= width
            return made
        rights = _parts(right)
        widths = [int(constant[1]) if (constant := _CONSTANT.fullmatch(part)) else (self._span(part) or (0, 0, 0))[2]
                  for part in rights]
        if widths != [width for _, _, width in spans]:
            return None
        return [(low, width, part) for part, (_, low, width) in zip(rights, spans)]

    def _joined(self, name, pieces):
        """A signal of its pieces: of one signal's bits at their places, and zeros, it is a mask."""
        spans = [self._span(part) for _, _, part in pieces]
        sources = {span[0] for span in spans if span}
        mask = sum((1 << width) - 1 << low for span, (low, width, _) in zip(spans, pieces) if span)
        if len(sources) == 1 and all(span[1] == low if span else int(part.split("'h")[1], 16) == 0
                                     for span, (low, _, part) in zip(spans, pieces)):
            source, = sources
            if self.width[source] == self.width[name]:
                return f"{source} & {self.width[name]}'h{mask:x}"
        return f"{{ {', '.join(part for _, _, part in pieces)} }}"


def _parts(text):
    """The parts of a concatenation without another in it."""
    return [part.strip() for part in text[1:-1].split(",")] if re.fullmatch(r"\{[^{}]*\}", text) else [text]
