"""The sampler's random numbers as a unit of their own, for a bench: in its choices a wrong low bit would hardly
show."""
from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.lib.pipeline import Pipeline
from hwgen.lib.threefry import THREEFRY_STAGES, threefry
from hwgen.units.sampler import NOISE_STAGES, gumbel_noise

INPUT = data.StructLayout({"counter": unsigned(32), "key": unsigned(32), "word": unsigned(32)})
OUTPUT = data.StructLayout({"words": data.ArrayLayout(unsigned(32), 4), "noise": unsigned(16)})
STAGES = max(THREEFRY_STAGES, NOISE_STAGES)


class NoiseUnit(wiring.Component):
    """Words of a counter and of its complement; noise of another word."""
    def __init__(self):
        super().__init__({"seed": In(32), "i": In(stream.Signature(INPUT)), "o": Out(stream.Signature(OUTPUT))})

    def elaborate(self, platform):
        m = Module()
        i, o = self.i.payload, self.o.payload
        pipe = Pipeline(m, self.i, self.o, stages=STAGES)
        opposite = Signal(32)
        m.d.comb += opposite.eq(~i.counter)
        words = threefry(m, pipe, [i.counter, opposite], self.seed, i.key, name="t")
        m.d.comb += [o.words[2 * k + w].eq(words[k][w]) for k in range(2) for w in range(2)]
        early = pipe.reg(i.word, name="early", stages=STAGES - NOISE_STAGES)
        m.d.comb += o.noise.eq(gumbel_noise(m, pipe, early, "noise"))
        return m
