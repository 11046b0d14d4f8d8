"""Multiply-accumulate units that hwgen does not use, to be measured beside its exact column: INT8, and FP8 into an fp32
accumulator.

Registers stand where `hwgen.units.mac_column.Column` has them: weights, products, every second level of the adder tree,
accumulator, and finished sums.
"""
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwgen.lib.arith import leading_zeros

__all__ = ["FloatMac", "IntColumn"]

ROWS = 2        # finished sums


def _ring(m, unit, total):
    """Finished sums, as the column keeps them."""
    m.submodules.ring = ring = Memory(shape=len(total), depth=ROWS, init=[])
    read, write = ring.read_port(domain="comb"), ring.write_port()
    m.d.comb += [write.addr.eq(unit.row), write.data.eq(total), write.en.eq(unit.keep), read.addr.eq(unit.read_row),
                 unit.sum.eq(read.data)]


class IntColumn(wiring.Component):
    """A column of INT8 x INT8 into ``acc_bits``, or of weights of ``weight_bits``."""

    def __init__(self, lanes, acc_bits=32, weight_bits=8):
        self._lanes, self._bits, self._weight_bits = lanes, acc_bits, weight_bits
        super().__init__({"load": In(1), "tile": In(weight_bits * lanes), "x": In(8 * lanes), "enable": In(1),
                          "first": In(1),
                          "keep": In(1),
                          "row": In(range(ROWS)), "read_row": In(range(ROWS)), "sum": Out(signed(acc_bits))})

    def elaborate(self, platform):
        m = Module()
        weights = Signal.like(self.tile, reset_less=True)
        with m.If(self.load):
            m.d.sync += weights.eq(self.tile)

        def register(value, name):
            out = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += out.eq(value)
            return out

        values = [register(weights.word_select(i, self._weight_bits).as_signed() * self.x.word_select(i, 8).as_signed(),
                           f"product{i}")
                  for i in range(self._lanes)]
        level = 0
        while len(values) > 1:
            values = [a + b for a, b in zip(values[::2], values[1::2])]
            if level % 2 == 0:
                values = [register(value, f"sum{level}_{i}") for i, value in enumerate(values)]
            level += 1
        acc, total = (Signal(signed(self._bits), name=name, reset_less=True) for name in ("acc", "total"))
        m.d.comb += total.eq(acc + values[0])
        with m.If(self.enable):
            m.d.sync += acc.eq(total)
        with m.If(self.first):
            m.d.sync += acc.eq(0)
        _ring(m, self, total)
        return m


class FloatMac(wiring.Component):
    """One FP8 product, exact, added to an fp32 accumulator: nearest even. (No subnormal, infinity or NaN comes of sums
    of such products.)

    A product that comes in with ``x`` in cycle t is added in cycle t + 2, with ``enable``; ``first`` there: to zero.
    """

    def __init__(self, fmt):
        self._fmt = fmt
        super().__init__({"load": In(1), "tile": In(8), "x": In(8), "enable": In(1), "first": In(1), "keep": In(1),
                          "row": In(range(ROWS)),
                          "read_row": In(range(ROWS)), "sum": Out(32)})

    def elaborate(self, platform):
        m = Module()
        fmt, bits = self._fmt, 2 * self._fmt.sig_bits
        weight = Signal(8, reset_less=True)
        with m.If(self.load):
            m.d.sync += weight.eq(self.tile)

        def decoded(code):
            exponent = code[fmt.man_bits:7]
            return Cat(code[:fmt.man_bits], exponent.any()), Mux(exponent.any(), exponent, 1)

        def register(value, name):
            out = Signal(len(value), name=name, reset_less=True)
            m.d.sync += out.eq(value)
            return out

        (sig_w, exp_w), (sig_x, exp_x) = decoded(weight), decoded(self.x)
        product, exponent = register(sig_w * sig_x, "product"), register(exp_w + exp_x, "exponent")
        sign = register(weight[7] ^ self.x[7], "sign")
        zeros, none = leading_zeros(m, product, name="product")
        mantissa = (product << zeros)[:bits - 1]
        # Units: 2**(2 * unit_exp) at exponents 1 + 1
        biased = (exponent + (127 + 2 * fmt.unit_exp + bits - 1 - 2) - zeros)[:8]
        added = register(Mux(none, 0, Cat(Const(0, 24 - bits), mantissa, biased, sign)), "added")

        acc, total = Signal(32, reset_less=True), Signal(32)
        before = Signal(32)
        m.d.comb += before.eq(Mux(self.first, 0, acc))
        swap, big, small = Signal(), Signal(32), Signal(32)
        m.d.comb += [swap.eq(added[:31] > before[:31]), big.eq(Mux(swap, added, before)),
                     small.eq(Mux(swap, before, added))]
        distance = Signal(8)
        m.d.comb += distance.eq(big[23:31] - small[23:31])

        def significand(x):
            return Cat(Const(0, 3), x[:23], x[23:31].any())         # guard, round and sticky below

        whole, far = Cat(Const(0, 27), significand(small)) >> distance[:5], distance[5:].any()
        near = Signal(27)
        m.d.comb += near.eq(Mux(far, small[:31].any(), Cat(whole[27] | whole[:27].any(), whole[28:54])))
        summed = Signal(28)
        subtract = big[31] ^ small[31]
        m.d.comb += summed.eq(Mux(subtract, significand(big) - near, significand(big) + near))
        zeros, none = leading_zeros(m, summed, name="sum")
        normal = Signal(28)
        m.d.comb += normal.eq(summed << zeros)
        up = normal[3] & (normal[:3].any() | normal[4])
        m.d.comb += total.eq(Mux(none, 0, Cat((Cat(normal[4:27], (big[23:31] + 1 - zeros)[:8]) + up)[:31], big[31])))
        with m.If(self.enable):
            m.d.sync += acc.eq(total)
        _ring(m, self, total)
        return m
