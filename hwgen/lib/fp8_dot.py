"""Exact products and sums of FP8 codes: what the MAC array's columns are made of.

A product is an integer: the product of two significands, shifted by the sum of two shifts. The factor that many
multipliers share is decoded once (`decode_operand`); it brings three times its significand along, so that two bits of
the other factor select a multiple instead of adding two. A negative value is carried as its complement beside its sign, and
each adder of a sum takes one of the signs as its carry (`add_carry`): n values have n - 1 adders and an accumulator.
"""
from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib.data import StructLayout

__all__ = ["Product", "add_carry", "decode_operand", "operand_layout"]

_LATE_STAGES = 3     # shift stages behind the product's register


def operand_layout(fmt):
    """A decoded code: ``sig << shift`` in the format's unit; ``triple`` is ``3 * sig >> 1`` (its bit 0 is that of sig)."""
    return StructLayout({"negative": 1, "sig": fmt.sig_bits, "triple": fmt.sig_bits + 1, "shift": range(fmt.max_shift + 1)})


def decode_operand(fmt, code):
    """The fields of `operand_layout`, as expressions, of a finite code (8 bits)."""
    code = Value.cast(code)
    exponent = code[fmt.man_bits:7]
    normal = exponent.any()
    sig = Cat(code[:fmt.man_bits], normal)
    return {"negative": code[7], "sig": sig, "triple": (sig + (sig << 1))[1:fmt.sig_bits + 2], "shift": exponent - normal}


def add_carry(a, b, carry, width):
    """``a + b + carry``, two's complement in ``width`` bits: one carry chain, whose lowest position makes the carry.

    Written as one adder of two operands because synthesis turns sums of more into compressors, which cost twice as many LUTs.
    """
    def extend(value):
        return Cat(value, value[-1].replicate(width - len(value))) if len(value) < width else value
    return (Cat(Const(1, 1), extend(Value.cast(a))) + Cat(carry, extend(Value.cast(b))))[1:width + 1]


class Product:
    """A product in two stages with a register between them.

    Stage 1 (`multiply`) makes what to register: ``(bits, negative, shift)``. Stage 2 (`align`) makes of it the ``width`` bits
    of the product in units of ``2**w.product_exp(x)``, complemented if negative: the value is ``signed(bits) + negative``.
    """

    def __init__(self, w_fmt, x_fmt):
        self._w, self._x = w_fmt, x_fmt
        # The weight's shift counts from 1, which takes one gate instead of a subtraction; `align` drops the bit below.
        top = w_fmt.max_shift + 1 + x_fmt.max_shift
        self._shift_bits = top.bit_length()
        self._early = max(0, self._shift_bits - _LATE_STAGES)

    @property
    def width(self):
        """Bits of the signed product: its magnitude never needs the lowest value."""
        return self._w.product_bits(self._x) + 1

    def multiply(self, m, code, x, *, name):
        """Product of a code and a view of `operand_layout`: (significand, negative, rest of the shift)."""
        w, width = self._w, self._w.sig_bits + self._x.sig_bits

        def wire(value, suffix):
            signal = Signal(len(value), name=f"{name}_{suffix}")
            m.d.comb += signal.eq(value)
            return signal

        code = Value.cast(code)
        exponent = code[w.man_bits:7]
        normal = wire(exponent.any(), "normal")
        sig = Cat(code[:w.man_bits], normal)
        product = None      # bits below `at` are final
        for at in range(0, w.sig_bits, 2):
            digit = sig[at:at + 2]
            multiple = Signal(self._x.sig_bits + len(digit), name=f"{name}_multiple{at}")
            with m.Switch(digit):
                with m.Case(0):
                    m.d.comb += multiple.eq(0)
                with m.Case(1):
                    m.d.comb += multiple.eq(x.sig)
                if len(digit) == 2:
                    with m.Case(2):
                        m.d.comb += multiple.eq(x.sig << 1)
                    with m.Case(3):
                        m.d.comb += multiple.eq(Cat(x.sig[0], x.triple))
            if product is None:
                product = multiple
            else:
                most = ((1 << at + len(digit)) - 1) * ((1 << self._x.sig_bits) - 1)
                upper = wire((product[at:] + multiple)[:most.bit_length() - at], f"sum{at}")
                product = Cat(product[:at], upper)
        product = wire(product[:width], "sig")
        negative = wire(code[7] ^ x.negative, "negative")
        shift = wire((Cat(exponent[0] | ~normal, exponent[1:]) + x.shift)[:self._shift_bits], "shift")
        for stage in range(self._early):
            product = wire(self._stage(product, negative, shift[stage], stage), f"shift{stage}")
        return product, negative, shift[self._early:]

    def align(self, m, product, negative, shift, *, name):
        for stage in range(self._early, self._shift_bits):
            value = self._stage(product, negative, shift[stage - self._early], stage)
            product = Signal(len(value), name=f"{name}_shift{stage}")
            m.d.comb += product.eq(value)
        return Cat(product[1:], negative.replicate(self.width + 1 - len(product)))

    def _stage(self, product, negative, bit, stage):
        """Shift by 2**stage if ``bit``. The first one complements, and what is shifted in is complemented zeros."""
        if stage == 0:
            product = product ^ negative.replicate(len(product))
        fill = negative.replicate(1 << stage)
        return Mux(bit, Cat(fill, product), Cat(product, fill))[:self.width]
