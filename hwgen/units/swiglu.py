"""The activation of the MLP: a function of the gate, times up; or without a gate, of up."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import leading_zeros, pwl_line, pwl_lookup, round_bf16, shift_up, unpack_bf16
from ..lib.layouts import glu_layout
from ..lib.pipeline import Pipeline
from ..params.tables import SIGMOID_FRACTION, sigmoid_table

__all__ = ["SwiGlu"]


class SwiGlu(wiring.Component):
    """The activation of the MLP. Its name is that of silu with a gate.

    With a gate ``h = bf16(bf16(f(g)) * u)`` of V/2 pairs per cycle, without ``h = bf16(f(u))`` of V elements. f of
    "relu2" is ``max(g, 0)**2``, that of "relu" ``max(g, 0)``; the others' is ``g * t(g)``, where t is `sigmoid_table`
    of ``trunc(|g| * 2**SIGMOID_FRACTION)``.

    Each product is exact before its rounding. A granule taken in cycle s is offered in cycle s + 10, or s + 4 of
    "relu2" and s + 3 of "relu", and without a gate 2 cycles earlier (``golden.swiglu.latency``), one per cycle.

    Parameters
    ----------
    entries : int                   of a pass, at most (T)
    vector_lanes : int              elements of a granule (V), a power of two, at least 2
    padded_intermediate_size : int  elements of the result's row as stored: a multiple of V, with a gate of V/2
    activation : str                the function f: one of `ACTIVATIONS`
    gated : bool                    f is of a gate, and its result is multiplied with up

    Members
    -------
    i : In(stream)    `glu_layout` of V lanes of bf16: g, u, g, u ..., or u, u ...
    o : Out(stream)   `glu_layout` of V/2 lanes, or V, with the same entry, part and last
    """

    def __init__(self, *, entries, vector_lanes, padded_intermediate_size, activation, gated):
        self._activation, self._gated = activation, gated
        self._lanes = vector_lanes // 2 if gated else vector_lanes
        parts = padded_intermediate_size * (1 + gated) // vector_lanes
        super().__init__({
            name: flow(stream.Signature(glu_layout(lanes=lanes, entries=entries, parts=parts)))
            for name, flow, lanes in (("i", In, vector_lanes), ("o", Out, self._lanes))})

    def elaborate(self, platform):
        m = Module()
        gated, squared, cut = self._gated, self._activation == "relu2", self._activation == "relu"
        first = 1 if cut else 2 if squared else 8                                  # stages of the function
        pipe = Pipeline(m, self.i, self.o, stages=first + 2 if gated else first)
        for lane in range(self._lanes):
            def reg(value, name, stages=1, lane=lane):
                return pipe.reg(value, name=f"{name}{lane}", stages=stages)

            g_in = self.i.payload.x[2 * lane if gated else lane]
            if squared:
                g = unpack_bf16(g_in)
                g = g._replace(zero=g.zero | g.sign)
                out = _product(m, reg, g, g, "a", lane, prefix="g_")
            elif cut:
                out = reg(Mux(g_in[-1], 0, g_in), "a")
            else:
                out = self._weighted(m, reg, g_in, lane)
            if gated:
                # times u, rounded
                a, u = unpack_bf16(out), unpack_bf16(reg(self.i.payload.x[2 * lane + 1], "u", first))
                out = _product(m, reg, a, u, "h", lane)
            m.d.comb += self.o.payload.x[lane].eq(out)
        for field in ("entry", "part", "last"):
            m.d.comb += self.o.payload[field].eq(pipe.reg(self.i.payload[field], name=field, stages=pipe.stages))
        return m

    def _weighted(self, m, reg, g_in, lane):
        """``g * t(g)`` in eight stages."""
        table, fraction = sigmoid_table(self._activation), SIGMOID_FRACTION[self._activation]
        index_bits, one = table.index_bits + table.fraction_bits, 1 << table.out_fraction
        # 1: z = |g| * 2**fraction, from the largest exponent that the table knows downwards
        g = unpack_bf16(g_in)
        top = 127 + index_bits - fraction - 1                                  # of 8 <= |g| < 16, if z ends at 16
        down = Signal(range(index_bits + 1), name=f"down{lane}")
        with m.If(g.exponent >= top - index_bits):
            m.d.comb += down.eq(top - g.exponent)
        with m.Else():
            m.d.comb += down.eq(index_bits)
        z = Mux(g.exponent > top, (1 << index_bits) - 1, Cat(Const(0, index_bits - 8), g.significand) >> down)
        z = reg(z[:index_bits], "z")
        # 2, 3: the table
        base, slope = (reg(value, f"{name}_") for name, value in
                       zip(("base", "slope"), pwl_lookup(m, table, z[table.fraction_bits:], name=f"lane{lane}")))
        t = reg(pwl_line(m, table, base, slope, reg(z[:table.fraction_bits], "f"), name=f"lane{lane}"), "t")
        # 4: mirrored below 0
        g4 = unpack_bf16(reg(g_in, "g", 3))
        mirrored = reg(Mux(g4.sign, one - t, t)[:table.out_fraction + 1], "mirrored")
        # 5, 6, 7, 8: times g, its highest bit, normalized, rounded
        product = reg(reg(g4.significand, "g_sig") * mirrored, "product")
        (count, zero), product = (reg(value, name)
                                  for value, name in ((leading_zeros(m, product, name=f"lane{lane}"), "found"),
                                                                       (product, "product_")))
        # the product's highest bit is worth 2**2 when the exponent is 0: [1, 2) * [1, 2) takes two below it
        biased = reg(reg(g4.exponent, "g_exp", 3) + (len(product) - 1 - 7 - table.out_fraction) - count, "biased")
        upper, sticky = reg(shift_up(m, product, count, 9, name=f"lane{lane}"), "upper")
        return reg(round_bf16(m, reg(g4.sign, "g_sign", 4), upper, biased, zero=reg(zero, "zero"), sticky=sticky,
                              name=f"a{lane}"), "a")


def _product(m, reg, x, y, name, lane, prefix=""):
    """The product of two bf16 in two stages, rounded."""
    square = reg(x.significand * y.significand, f"{prefix}square")
    low_exponent, high_exponent = (reg(x.exponent + y.exponent - bias, f"{prefix}exponent{bias}_")
                                   for bias in (127, 126))
    high = square[-1]
    rounded = round_bf16(m, reg(x.sign ^ y.sign, f"{prefix}sign"), Mux(high, square, square << 1)[:16],
                         Mux(high, high_exponent, low_exponent),
                         zero=reg(x.zero | y.zero, f"{prefix}h_zero"), name=f"{name}{lane}")
    return reg(rounded, name)
