"""The circuits of hwgen.lib.secded around a word whose stored bits can be flipped, for their bench."""
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib import secded
from hwgen.lib.pipeline import Pipeline


def layouts(width):
    return (data.StructLayout({"data": width, "flips": secded.stored_bits(width)}),
            data.StructLayout({"data": width, "corrected": 1, "failed": 1}))


class StoredWord(wiring.Component):
    """A word is stored, ``flips`` flips bits of what is stored, and it is read again."""

    def __init__(self, width):
        self._width = width
        i, o = layouts(width)
        super().__init__({"i": In(stream.Signature(i)), "o": Out(stream.Signature(o))})

    def elaborate(self, platform):
        m = Module()
        pipe = Pipeline(m, self.i, self.o, stages=2)
        stored = pipe.reg(secded.store(self.i.p.data) ^ self.i.p.flips, name="stored")
        syndrome, word = (pipe.reg(v, name=name) for name, v in (("syndrome", secded.syndromes(stored, self._width)),
                                                                 ("word", stored)))
        found = secded.correct(m, word[:self._width], syndrome, name="read")
        m.d.comb += [self.o.p[name].eq(value) for name, value in zip(("data", "corrected", "failed"), found)]
        return m
