"""A unit with its surroundings free, what is assumed of these, and what must never be."""
import sys
from types import SimpleNamespace

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.verilog import emit_design

__all__ = ["Harness"]


class Harness:
    """A module around one unit, built up step by step; `verilog` writes it.

    All inputs of the unit are free in each cycle, within what is assumed. In the first cycle, and only then, the reset
    is on; registers that it does not reach, and memories that are written, start with anything (`engine` takes their
    initial values away). A property is a signal that must never be 1 as long as the assumptions have held, the present
    cycle included.

    Parameters
    ----------
    unit : Component
    inputs : dict of str to ShapeLike       inputs of the harness beside the unit's
    tied : tuple of str                     inputs of the unit that the caller drives itself

    Attributes
    ----------
    m : Module              in its domain ``sync`` the unit is, and what watches it
    inside : namespace      the local variables of the unit's ``elaborate``: its signals, and its module ``m``, by their
        names in the
                            source; those of another method are in a namespace of its name
    started : Signal        the reset is over
    properties : list       their names, in order
    """

    def __init__(self, unit, tied=(), **inputs):
        self.m, self.unit = Module(), unit
        self.m.submodules.unit, self.inside = _opened(unit)
        self.properties, self._members, self._signals = [], {}, {}
        self._assumed = []
        self.started = Signal(name="started")
        for path, member, value in unit.signature.flatten(unit):
            name = "__".join(map(str, path))
            if member.flow == In and name not in tied and len(Value.cast(value)):
                self.m.d.comb += Value.cast(value).eq(self.free(name, len(Value.cast(value))))
        for name, shape in inputs.items():
            self.free(name, shape)

    def __getitem__(self, name):
        """A free input."""
        return self._signals[name]

    def free(self, name, shape):
        """A new input, which may be anything in any cycle."""
        self._members[name] = In(shape)
        self._signals[name] = Signal(shape, name=f"free_{name}")
        return self._signals[name]

    def constant(self, name, shape):
        """A new input that is anything, but always the same."""
        value = self.free(name, shape)
        self.assume((value == self.before(value)) | ~self.before(1))
        return value

    def state(self, name):
        """Whether the unit's state machine is in a state."""
        machine = self.inside.m._generated["fsm"]
        return machine.state == machine.encoding[name]

    def before(self, value):
        """What a value was in the cycle before; 0 in the first one after reset."""
        value = Value.cast(value)
        past = Signal(len(value), name=f"past{len(self._assumed)}_{len(self.properties)}")
        self.m.d.sync += past.eq(value)
        return past

    def assume(self, condition):
        """Nothing is claimed of a run from the cycle on in which this is 0."""
        self._assumed.append(Value.cast(condition).bool())

    def never(self, name, condition):
        """A property: this is 0 in all cycles."""
        if name in self.properties:
            raise ValueError(f"Property must have a name of its own, not {name!r} again")
        self.properties.append(name)
        self._members[name] = Out(1)
        self._signals[name] = Value.cast(condition).bool()

    def always(self, name, condition):
        """A property: this is not 0 in any cycle."""
        self.never(name, ~Value.cast(condition).bool())

    def verilog(self, induction=0):
        """Text whose top module is ``top``; to be called once. With ``induction`` it has an input ``stepping``, under
        which properties are asked only behind that many cycles in which all held."""
        if induction:
            self.free("stepping", 1)
        return emit_design(_Top(self._members, lambda top: self._build(top, induction)), "top")

    def _build(self, top, induction):
        m, sync, always = self.m, ClockDomain("sync"), ClockDomain("always", reset_less=True)
        m.domains += [sync, always]
        m.d.comb += [ClockSignal("sync").eq(top.clock), ClockSignal("always").eq(top.clock),
                     ResetSignal("sync").eq(~self.started)]
        m.d.always += self.started.eq(1)
        held, holds = Signal(name="held", init=1), Signal(name="holds")
        m.d.comb += holds.eq(held & Value.cast(1 if not self._assumed else _all(self._assumed)))
        m.d.sync += held.eq(holds)
        asked = holds & self.started
        if induction:
            good = Signal(induction, name="good")
            m.d.sync += good.eq(Cat(holds & self.started & ~Cat(self._signals[name] for name in self.properties).any(),
                                    good))
            asked = asked & (good.all() | ~self["stepping"])
        for name, member in self._members.items():
            if member.flow == In:
                m.d.comb += self._signals[name].eq(getattr(top, name))
            else:
                m.d.comb += getattr(top, name).eq(self._signals[name] & asked)
        return m


def _opened(unit):
    """(what a unit's ``elaborate`` returns, local variables of it and of the methods that it calls, as they return)."""
    found = {}

    def watch(frame, event, _):
        if event == "return" and frame.f_locals.get("self") is unit:
            found[frame.f_code.co_name] = dict(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        module = unit.elaborate(None)
    finally:
        sys.setprofile(before)
    unit._MustUse__used = True      # or Amaranth says that it is not
    own = found.pop("elaborate")
    return module, SimpleNamespace(**{name: SimpleNamespace(**variables) for name, variables in found.items()
                                      if name.isidentifier()} | own)


def _all(conditions):
    result = conditions[0]
    for condition in conditions[1:]:
        result = result & condition
    return result


class _Top(wiring.Component):
    def __init__(self, members, build):
        self._build = build
        super().__init__({"clock": In(1), **members})

    def elaborate(self, platform):
        return self._build(self)
