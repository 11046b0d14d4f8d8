"""SwiGLU: the gate's g * sigmoid(g), times up."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import Pipeline, leading_zeros, pwl_line, pwl_lookup, round_bf16, shift_up, unpack_bf16
from ..lib.layouts import glu_layout
from ..params.tables import sigmoid_table

__all__ = ["SwiGlu"]


class SwiGlu(wiring.Component):
    """``h = bf16(bf16(g * sigmoid(g)) * u)`` of V/2 pairs per cycle; the sigmoid is `sigmoid_table` of ``trunc(|g| * 2**10)``.

    Each product is exact before its rounding. A granule taken in cycle s is offered in cycle s + 9
    (``golden.swiglu.LATENCY``), one per cycle.

    Parameters
    ----------
    design : Design

    Members
    -------
    i : In(stream)    `glu_layout` of V lanes of bf16: g, u, g, u ...
    o : Out(stream)   `glu_layout` of V/2 lanes, with the same entry, part and last
    """

    def __init__(self, design):
        self._lanes = design.hw.vector_lanes // 2
        super().__init__({"i": In(stream.Signature(glu_layout(design, 2 * self._lanes))),
                          "o": Out(stream.Signature(glu_layout(design, self._lanes)))})

    def elaborate(self, platform):
        m = Module()
        table = sigmoid_table()
        index_bits, one = table.index_bits + table.fraction_bits, 1 << table.out_fraction
        pipe = Pipeline(m, self.i, self.o, stages=9)
        for lane in range(self._lanes):
            def reg(value, name, stages=1):
                return pipe.reg(value, name=f"{name}{lane}", stages=stages)

            # 1: z = |g| * 2**10, from the largest exponent that the table knows downwards
            g_in, u_in = self.i.payload.x[2 * lane], self.i.payload.x[2 * lane + 1]
            g = unpack_bf16(g_in)
            top = 127 + index_bits - 10 - 1                                        # of 8 <= |g| < 16
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
            # 5, 6, 7: times g, normalized, rounded
            product = reg(reg(g4.significand, "g_sig") * mirrored, "product")
            count, zero = leading_zeros(m, product, name=f"lane{lane}")
            # the product's highest bit is worth 2**2 when the exponent is 0: [1, 2) * [1, 2) takes two below it
            biased = reg(reg(g4.exponent, "g_exp", 2) + (len(product) - 1 - 7 - table.out_fraction) - count, "biased")
            upper, sticky = reg(shift_up(m, product, count, 9, name=f"lane{lane}"), "upper")
            a_in = reg(round_bf16(m, reg(g4.sign, "g_sign", 3), upper, biased, zero=reg(zero, "zero"), sticky=sticky,
                                  name=f"a{lane}"), "a")
            # 8, 9: times u, rounded
            a, u = unpack_bf16(a_in), unpack_bf16(reg(u_in, "u", 7))
            square = reg(a.significand * u.significand, "square")
            low_exponent, high_exponent = (reg(a.exponent + u.exponent - bias, f"exponent{bias}_") for bias in (127, 126))
            high = square[-1]
            h = round_bf16(m, reg(a.sign ^ u.sign, "sign"), Mux(high, square, square << 1)[:16],
                           Mux(high, high_exponent, low_exponent),
                           zero=reg(a.zero | u.zero, "h_zero"), name=f"h{lane}")
            m.d.comb += self.o.payload.x[lane].eq(reg(h, "h"))
        for field in ("entry", "part", "last"):
            m.d.comb += self.o.payload[field].eq(pipe.reg(self.i.payload[field], name=field, stages=9))
        return m
