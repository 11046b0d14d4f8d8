"""A stream whose ``ready`` is a register: it cuts a chain of ready signals, and takes no cycle."""
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

__all__ = ["Skid", "SkidRegister", "cut"]


class Skid(wiring.Component):
    """One place for an item that its taker did not take. What comes is offered in the same cycle; ``i.ready`` is 0
    while the place is full. One item per cycle. So what is behind a skid sees every item in the cycle in which it would
    see it without one, if what is before it can give one a cycle; what is before it is an item further.

    Parameters
    ----------
    shape : ShapeLike       of the payload

    Members
    -------
    i : In(stream), o : Out(stream)
    """

    def __init__(self, shape):
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        full, kept = Signal(name="full"), Signal(self._shape, reset_less=True)
        m.d.comb += [self.i.ready.eq(~full), self.o.valid.eq(self.i.valid | full),
                     self.o.payload.eq(Mux(full, kept, self.i.payload))]
        m.d.sync += full.eq(self.o.valid & ~self.o.ready)
        # Captured whether it will be needed or not: so nothing but `full` waits for `o.ready`, which comes late.
        with m.If(~full):
            m.d.sync += kept.eq(self.i.payload)
        return m


class SkidRegister(wiring.Component):
    """A register stage of an elastic pipeline whose ``i.ready`` is a register too: a `Skid` in front of a register, so
    that what leaves comes from flip-flops. One cycle, one item per cycle.

    Parameters
    ----------
    shape : ShapeLike       of the payload

    Members
    -------
    i : In(stream), o : Out(stream)
    holds : Out(1)          an item is in it
    """

    def __init__(self, shape):
        self._shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "holds": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.skid = skid = Skid(self._shape)
        connect(m, flipped(self.i), skid.i)
        payload = Signal(self._shape, reset_less=True)
        m.d.comb += [skid.o.ready.eq(~self.o.valid | self.o.ready), self.o.payload.eq(payload),
                     self.holds.eq(self.o.valid | ~self.i.ready)]
        with m.If(skid.o.ready):
            m.d.sync += [self.o.valid.eq(skid.o.valid), payload.eq(skid.o.payload)]
        return m


def cut(m, name, source):
    """The stream ``source`` (of a submodule, or that is to be driven) behind a `Skid`, which becomes the submodule
    ``name``."""
    m.submodules[name] = skid = Skid(source.payload.shape())
    m.d.comb += [skid.i.valid.eq(source.valid), skid.i.payload.eq(source.payload), source.ready.eq(skid.i.ready)]
    return skid.o
