"""Verilog for a simulator that leaves alone what stands still. What it means stays the same, bit by bit, in each cycle.

A simulator computes all wires and registers of a machine in each cycle, while most of its units wait, and compute again
what they have. `resting` rewrites a module so:

- Wires of which only registers are made are computed where those registers are, and nowhere kept.
- Registers that are made of the same are a *stage*: they are computed if something that they are made of may have
  changed at the clock's last edge, and else have their value already. What may have changed are the registers of other
  stages that were computed at that edge; and anything else that is not what it was, for which a copy is kept.

That holds for a register whose next value does not depend on its own, but that it may keep it: computed again of the
same, it is the same. All others, and what is too little to be worth it, stay as they are: of registers in a circle one
does, and the rest are stages. Memories are written as they are; what reads them must know whether they were.
"""
import re
from collections import defaultdict
from typing import NamedTuple

from .taken_apart import MODULE, TakenApart, Unread

__all__ = ["resting"]

#: Characters of Verilog: of a stage, that it must have; of stages, for each 32 bits that are compared for them; and of
#: the wires behind a condition, up to which it is compared instead of what it is made of.
_LEAST, _WORD, _CONDITION = 200, 100, 600


class _Stage(NamedTuple):
    """Registers that are computed together. ``above``: numbers of stages that they are made of; ``roots``: all else
    that they are."""
    registers: list
    roots: set
    above: set


def resting(text, steady=()):
    """The design ``text`` in other words. Modules with a word of ``steady`` in their names work always, and are not
    asked whether they do."""
    return "".join(_module(part, steady) if MODULE.match(part) else part for part in MODULE.split(text))


def _module(text, steady):
    try:
        module = TakenApart(text)
    except Unread:
        return text
    if len({register.clock for register in module.registers}) != 1:
        return text
    asked = not any(word in text.split("(", 1)[0] for word in steady)
    plan = _Plan(module, asked)
    return "\n".join(_written(module, plan, asked)) if plan.stages else text


def _in_order(above):
    """(What is in ``above``, {each: what it is made of}, with that before it; those that break its circles)."""
    order, open_, done, breaks = [], set(), set(), set()
    for start in above:
        pending = [(start, False)]
        while pending:      # without recursion, which chains of thousands would not survive
            each, ready = pending.pop()
            if ready:
                order.append(each)
                open_.discard(each)
            elif each not in done:
                done.add(each)
                open_.add(each)
                breaks |= open_ & above[each]
                pending += [(each, True), *((other, False) for other in sorted(above[each] - done))]
    return order, breaks


class _Plan:
    """What becomes of a module.

    Attributes
    ----------
    stages : list       of `_Stage`
    kept : set          wires that stay
    places : dict       of wires in an order in which each is behind those that it is made of
    left : list         registers that are of no stage
    """

    def __init__(self, module, asked):
        self.module, self.asked = module, asked
        order, circles = _in_order({name: uses & module.wires.keys() for name, uses in module.uses.items()})
        self.places = {name: place for place, name in enumerate(order)}
        self.stages, self.left = [], []
        cuts = self._cuts() if asked else set()
        self.kept = self.with_sources(module.outputs | module.elsewhere | circles | cuts)
        reached = {number: self._reached(register, cuts) for number, register in enumerate(module.registers)}
        self._behind = {number: wires for number, (wires, _) in reached.items()}
        self._make_stages({number: leaves for number, (_, leaves) in reached.items()})
        if asked and not self._worth_it():
            self.stages = []
        in_stages = {id(register) for stage in self.stages for register in stage.registers}
        self.left = [register for register in module.registers
                     if id(register) not in in_stages or self.memory(register)]
        self.kept |= self.with_sources({name for register in self.left for name in register.reads}
                                       | {name for stage in self.stages for name in stage.roots})

    def memory(self, register):
        return not register.sets.isdisjoint(self.module.memories)

    def with_sources(self, names):
        """The wires of ``names``, and all that they are made of."""
        found, pending = set(), [*names]
        while pending:
            each = pending.pop()
            if each in self.module.wires and each not in found:
                found.add(each)
                pending += self.module.uses[each]
        return found

    def _cuts(self):
        """Conditions that are compared themselves."""
        module, found = self.module, set()
        for name in set().union(*(register.conditions for register in module.registers)) & module.wires.keys():
            if sum(len(module.wires[each]) for each in self.with_sources([name])) <= _CONDITION:
                found.add(name)
        return {name for name in found if module.width[name] == 1}

    def _reached(self, register, cuts):
        """(Wires, what is no wire to compute) that a register is made of."""
        wires, leaves, pending = set(), set(), [*register.reads]
        while pending:
            each = pending.pop()
            if each not in self.module.wires or each in cuts:
                leaves.add(each)
            elif each not in wires:
                wires.add(each)
                pending += self.module.uses[each]
        return wires, leaves

    def _make_stages(self, leaves):
        registers = self.module.registers
        writers = defaultdict(set)
        for number, register in enumerate(registers):
            for name in register.sets:
                writers[name].add(number)
        above = {number: set().union(*(writers[name] for name in names if name in writers))
                 for number, names in leaves.items()}
        order, alone = _in_order(above)
        alone |= {number for numbers in writers.values() if len(numbers) > 1 for number in numbers}
        read = set().union(*leaves.values()) & self.module.memories
        depth, levels, stage_of, roots_of = {}, defaultdict(list), {}, {}
        for number in order:
            if number not in alone:
                depth[number] = 1 + max((depth.get(other, 0) for other in above[number]), default=0)
                levels[depth[number]].append(number)
        for level in sorted(levels):
            alike = defaultdict(list)       # those that hang on the same in the end
            for number in levels[level]:
                if not any(name in self.module.memories and name not in stage_of for name in leaves[number]):
                    roots = frozenset().union(*(roots_of.get(name, {name}) for name in leaves[number]))
                    alike[roots if self.asked else None].append(number)
            for roots, numbers in alike.items():
                sets = set().union(*(registers[number].sets for number in numbers))
                if self._weight(numbers) < _LEAST and read.isdisjoint(sets):
                    continue
                names = set().union(*(leaves[number] for number in numbers))
                for name in sets:
                    stage_of[name], roots_of[name] = len(self.stages), roots or frozenset()
                self.stages.append(_Stage([registers[number] for number in numbers], names - stage_of.keys(),
                                          {stage_of[name] for name in names if name in stage_of}))

    def _weight(self, numbers):
        """Characters of what registers are made of."""
        wires = set().union(*(self._behind[number] for number in numbers))
        return (sum(len(line) for number in numbers for line in self.module.registers[number].lines)
                + sum(len(self.module.wires[name]) for name in wires))

    def _worth_it(self):
        roots = set().union(*(stage.roots for stage in self.stages))
        numbers = {id(register): number for number, register in enumerate(self.module.registers)}
        weight = sum(self._weight([numbers[id(register)] for register in stage.registers]) for stage in self.stages)
        return weight > _WORD * sum(-(-self.module.width[name] // 32) for name in roots)


def _written(module, plan, asked):
    """Lines of the module."""
    sunk = module.wires.keys() - plan.kept
    end = module.lines.index("endmodule")
    for place, line in enumerate(module.lines[:end]):
        declared = re.match(r"  wire .*?(\w+);", line)
        gone = place in module.clocked or module.assigns.get(place, {None}) <= sunk
        if not gone and not (declared and declared[1] in sunk):
            yield line
    clock = module.registers[0].clock
    for register in plan.left:
        yield from (f"  always @(posedge {clock}) begin", *register.lines, "  end")
    if asked:
        yield from _roots(module, sorted(set().union(*(stage.roots for stage in plan.stages))), clock)
    for number, stage in enumerate(plan.stages):
        if asked:
            yield from _asked(number, stage, clock)
        yield from _stage(module, plan, number, asked)
    yield from module.lines[end:]


def _range(module, name):
    return f"[{module.width[name] - 1}:0] " if module.width[name] > 1 else ""


def _roots(module, names, clock):
    """What was a cycle before, and whether it is still so."""
    yield from ("  reg resting_begun;", "  initial resting_begun = 1'h0;",
                f"  always @(posedge {clock}) resting_begun <= 1'h1;")
    for name in names:
        wide = f"if (resting_new_{name}) " if module.width[name] > 64 else ""
        yield from (f"  reg {_range(module, name)}resting_{name};", f"  initial resting_{name} = 0;",
                    f"  wire resting_new_{name} = resting_{name} != {name};",
                    f"  always @(posedge {clock}) {wide}resting_{name} <= {name};")


def _asked(number, stage, clock):
    """Whether a stage is computed, and whether it was."""
    terms = [f"resting_new_{name}" for name in sorted(stage.roots)]
    terms += [f"resting_was{other}" for other in sorted(stage.above)]
    yield from (f"  wire resting_is{number} = {' | '.join(['~ resting_begun', *terms])};",
                f"  reg resting_was{number};", f"  initial resting_was{number} = 1'h1;",
                f"  always @(posedge {clock}) resting_was{number} <= resting_is{number};")


def _stage(module, plan, number, asked):
    registers = [register for register in plan.stages[number].registers if not plan.memory(register)]
    if not registers:
        return
    wires = plan.with_sources(set().union(*(register.reads for register in registers))) - plan.kept
    wires = sorted(wires, key=plan.places.get)
    yield f"  always @(posedge {registers[0].clock}) begin : resting_stage{number}"
    for name in wires:
        signed = "signed " if name in module.signed else ""
        yield f"    automatic reg {signed}{_range(module, name)}{name};"
    yield f"    if (resting_is{number}) begin" if asked else "    begin"
    yield from (f"      {name} = {module.wires[name]};" for name in wires)
    for register in registers:
        yield from register.lines
    yield from ("    end", "  end")
