"""`hwgen.lib.nets` against Amaranth's own netlist: the same, with the same errors, in less memory."""
import gc
import tracemalloc
import weakref

import pytest
from amaranth.hdl import Fragment, Module, Signal
from amaranth.hdl import _ir
from amaranth.hdl._nir import CombinationalCycle
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib import netlist
from hwgen.lib.netlist import to_rtlil
from hwgen.lib.nets import build_netlist, prepared
from hwgen.top import make
from sim.designs import small_design

UNITS = {name: lambda name=name: getattr(make, name)(small_design()) for name in ("residual", "kv_cache", "attention")}


def ours(component):
    return build_netlist(prepared(component, {}, "top"))


def amaranths(component):
    return _ir.build_netlist(Fragment.get(component, None).prepare(hierarchy=("top",)))


@pytest.mark.parametrize("name", UNITS)
def test_netlist_is_amaranths(name):
    assert repr(ours(UNITS[name]())) == repr(amaranths(UNITS[name]()))


def peak(of, component):
    """Bytes that it takes at once, at most."""
    gc.collect()
    tracemalloc.start()
    try:
        of(component)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_netlist_takes_less_memory_than_amaranths():
    assert peak(ours, UNITS["residual"]()) < 0.7 * peak(amaranths, UNITS["residual"]())


def test_netlist_ends_with_its_conversion(monkeypatch):
    """Nothing holds it, and no cycle, which would wait for Python's collector."""
    alive = []

    def build(design):
        made = build_netlist(design)
        alive.extend(map(weakref.ref, (made, design)))
        return made

    monkeypatch.setattr(netlist, "build_netlist", build)
    gc.disable()
    try:
        to_rtlil(UNITS["kv_cache"](), "unit")
        assert [each() for each in alive] == [None, None]
    finally:
        gc.enable()


class Loops(wiring.Component):
    """Signals that depend on each other in some way, of which the result is one."""

    def __init__(self, kind):
        self.kind = kind
        super().__init__({"a": In(2), "result": Out(2)})

    def elaborate(self, platform):
        m = Module()
        x, y = Signal(2), Signal(2)
        m.d.comb += {"none": [x.eq(self.a), y.eq(x)], "bits": [x[0].eq(self.a[0]), x[1].eq(x[0]), y.eq(x)],
                     "wires": [x.eq(y), y.eq(x)], "operators": [x.eq(y + self.a), y.eq(~x)],
                     "bit": [x[0].eq(x[1] & self.a[0]), x[1].eq(x[0]), y.eq(x)]}[self.kind]
        if self.kind != "wires":
            m.d.sync += self.result.eq(self.result + y)
        return m


@pytest.mark.parametrize("kind", ["wires", "operators", "bit"])
def test_cycle_is_refused_as_by_amaranth(kind):
    with pytest.raises(CombinationalCycle) as theirs:
        amaranths(Loops(kind))
    with pytest.raises(CombinationalCycle) as said:
        ours(Loops(kind))
    assert str(said.value) == str(theirs.value)


@pytest.mark.parametrize("kind", ["none", "bits"])
def test_what_is_no_cycle_is_taken(kind):
    assert repr(ours(Loops(kind))) == repr(amaranths(Loops(kind)))


class Driven(wiring.Component):
    """A signal that two parts assign, or a memory and a part."""
    a: In(2)

    def __init__(self, kind):
        self.kind = kind
        super().__init__()

    def elaborate(self, platform):
        m, x = Module(), Signal(4)
        if self.kind == "memory":
            m.submodules.made = made = memory.Memory(shape=4, depth=4, init=[])
            m.d.comb += made.read_port(domain="comb").data.eq(self.a)
            return m
        m.submodules.first, m.submodules.second = first, second = Module(), Module()
        first.d.comb += x[:3].eq(self.a)
        second.d.comb += x[2:].eq(self.a)
        return m


@pytest.mark.parametrize("kind", ["parts", "memory"])
def test_two_drivers_are_refused_as_by_amaranth(kind):
    with pytest.raises(_ir.DriverConflict) as theirs:
        amaranths(Driven(kind))
    with pytest.raises(_ir.DriverConflict) as said:
        ours(Driven(kind))
    assert str(said.value) == str(theirs.value)
