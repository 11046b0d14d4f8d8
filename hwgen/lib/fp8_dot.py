"""Exact products and sums of FP8 codes: what the MAC array's columns are made of.

A product is an integer: the product of two significands, shifted by the sum of two shifts. The factor that many
multipliers share is decoded once (`decode_operand`); it brings three times its significand along, so that two bits of
the other factor select a multiple instead of adding two. A negative value is carried as its complement beside its sign,
and each adder of a sum takes one of the signs as its carry (`add_carry`): n values have n - 1 adders and an
accumulator.
"""
from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib.data import Field, FlexibleLayout, StructLayout

__all__ = ["PairedProduct", "Product", "add_carry", "add_pairs", "decode_operand", "expand_e2m1", "fixed_point",
           "operand_layout"]

_LATE_STAGES = 3     # shift stages behind the product's register
# bits of a factor of an FPGA's multiplier, without sign: ECP5's MULT18X18D; Xilinx' DSP48E1 has more
_WIDE_FACTOR = 18


def operand_layout(fmt):
    """A decoded code: ``sig << shift`` in the format's unit. Byte d holds d times ``sig``, and byte 0 the rest."""
    return FlexibleLayout(32, {
        "shift": Field(range(fmt.max_shift + 1), 0),
        "negative": Field(1, 7),
        "sig": Field(fmt.sig_bits, 8),
        "double": Field(fmt.sig_bits, 17),
        "triple": Field(fmt.sig_bits + 2, 24),
    })


def decode_operand(fmt, code):
    """The fields of `operand_layout`, as expressions, of a finite code."""
    code = Value.cast(code)
    exponent = code[fmt.man_bits:fmt.bits - 1]
    normal = exponent.any()
    sig = Cat(code[:fmt.man_bits], normal)
    return {"shift": exponent - normal, "negative": code[fmt.bits - 1], "sig": sig, "double": sig,
            "triple": sig + (sig << 1)}


def fixed_point(fmt, code):
    """The value of a finite code in units of ``2**fmt.unit_exp``, signed and ``fmt.int_bits + 1`` wide: a factor for
    the wide multipliers of an FPGA, whose product is a sum's term as it is."""
    fields = decode_operand(fmt, code)
    magnitude = Cat((fields["sig"] << fields["shift"][:fmt.max_shift.bit_length()])[:fmt.int_bits], Const(0, 1))
    return ((magnitude ^ fields["negative"].replicate(len(magnitude))) + fields["negative"])[:len(magnitude)]


def expand_e2m1(m, fmt, code, offset, *, name):
    """The code in ``fmt`` of an E2M1 code times 2**offset, if it has one (`hwgen.params.hardware.block_ranges`)."""
    man, (fraction, exponent) = fmt.man_bits, (code[0], code[1:3])
    place = Signal(max(3, len(offset) + 1), name=f"{name}_place")       # of the magnitude's highest bit
    m.d.comb += place.eq(exponent + offset)
    fraction = fraction & exponent.any()
    found = Signal(fmt.bits - 1, name=f"{name}_magnitude")
    with m.If(code[:3].any()):
        m.d.comb += found.eq(Cat(Const(0, man - 1), fraction, (place - (man - 1))[:fmt.exp_bits]))
        for low in range(man):
            with m.If(place == low):
                m.d.comb += found.eq(Cat(Const(0, max(0, low - 1)), *([fraction] if low else []), Const(1, 1)))
    return Cat(found, code[3])


def add_carry(a, b, carry, width):
    """``a + b + carry``, two's complement in ``width`` bits: one carry chain.

    The signs are extended bit by bit, because synthesis joins adders of whole results into compressors, which cost
    twice as many LUTs.
    """
    def extend(value):
        return Cat(value, value[-1].replicate(width - len(value)))
    return (extend(Value.cast(a)) + extend(Value.cast(b)) + carry)[:width]


def add_pairs(m, values, carries, levels, name):
    """Up to so many levels of a tree that adds pairs: (values, carries) that are left. A pair is worth ``value +
    carry``, and their number a power of two. Each adder takes one of the carries in, those of the first level the first
    ones; one is left at the end.
    """
    for level in range(levels):
        if len(values) == 1:
            break
        sums = []
        for i, (a, b, carry) in enumerate(zip(values[::2], values[1::2], carries)):
            total = Signal(len(a) + 1, name=f"{name}_add{level}_{i}")
            m.d.comb += total.eq(add_carry(a, b, carry, len(a) + 1))
            sums.append(total)
        values, carries = sums, carries[len(sums):]
    return values, carries


class Product:
    """A product in two stages with a register between them.

    Stage 1 (`multiply`) makes what to register: the magnitude, partly shifted, the sign, and the rest of the shift.
    Stage 2 (`align`) makes of it ``width`` bits in units of ``2**w.product_exp(x)``, complemented if negative: the
    value is ``signed(bits) + negative``.
    """

    def __init__(self, w_fmt, x_fmt):
        self._w, self._x = w_fmt, x_fmt
        # The weight's shift counts from 1, which takes one gate instead of a subtraction; `align` drops the bit below.
        most = w_fmt.max_shift + 1 + x_fmt.max_shift
        # Of E2M1 weights the subtraction is two gates. Where it saves a stage, there is no bit below, and all shifts
        # are behind the
        # register: so few bits are complemented before it (transistors of an 8-lane column with E3M4 activations, a
        # MAC: 1,855; without the bit 1,823; so 1,726).
        self._whole = w_fmt.exp_bits == 2 and (most - 1).bit_length() < most.bit_length() == _LATE_STAGES + 1
        self._shift_bits = (most - self._whole).bit_length()
        self._early = max(0, self._shift_bits - _LATE_STAGES)
        sig = (1 << x_fmt.sig_bits) - 1
        self._multiples = sig << 8 | sig << 17 | ((sig << 2 | 3) << 24)

    @property
    def width(self):
        """Bits of the signed product."""
        return self._w.product_bits(self._x) + 1

    def multiply(self, m, code, x, *, name):
        """(magnitude, negative, shift) of a code and a view of `operand_layout`."""
        w, x_bits = self._w, self._x.sig_bits
        code = Value.cast(code)

        def wire(value, suffix):
            signal = Signal(len(value), name=f"{name}_{suffix}")
            m.d.comb += signal.eq(value)
            return signal

        exponent = code[w.man_bits:w.bits - 1]
        normal = wire(exponent.any(), "normal")
        sig = Cat(code[:w.man_bits], normal)
        multiples = wire(x.as_value() & self._multiples, "multiples")
        product = None      # bits below `at` are final
        for at in range(0, w.sig_bits, 2):
            digit = sig[at:at + 2]
            multiple = (multiples >> Cat(Const(0, 3), digit))[:x_bits + 2] if len(digit) == 2 else Mux(digit, x.sig, 0)
            if product is None:
                product = wire(multiple, f"sum{at}")
            else:
                most = ((1 << at + len(digit)) - 1) * ((1 << x_bits) - 1)
                product = Cat(product[:at], wire((product[at:] + multiple)[:most.bit_length() - at], f"sum{at}"))
        negative = code[w.bits - 1] ^ x.negative
        own = Mux(exponent[1], Cat(~exponent[0], exponent[0]), 0) if self._whole else Mux(normal, exponent, 1)
        shift = wire((own + x.shift)[:self._shift_bits], "shift")
        if self._whole:
            return product ^ negative.replicate(len(product)), negative, shift
        return self._shift(product, shift[:self._early], 0), negative, shift[self._early:]

    def align(self, m, magnitude, negative, shift, *, name):
        if self._whole:
            return self._fill(m, magnitude, negative, shift, name)
        magnitude = self._shift(magnitude, shift, self._early)[1:]
        value = Signal(self.width, name=f"{name}_value")
        m.d.comb += value.eq(Cat(magnitude, Const(0, self.width - len(magnitude))) ^ negative.replicate(self.width))
        return value

    def _fill(self, m, value, negative, shift, name):
        """A complemented magnitude shifted, with the sign coming in at both ends."""
        for k in range(len(shift)):
            sign = negative.replicate(1 << k)
            value = Mux(shift[k], Cat(sign, value), Cat(value, sign))[:self.width - 1]
        result = Signal(self.width, name=f"{name}_value")
        m.d.comb += result.eq(Cat(value, negative.replicate(self.width - len(value))))
        return result

    def _shift(self, value, amount, from_stage):
        """``value << (amount << from_stage)``, in no more bits than the largest product has with the bit that is
        dropped."""
        most = ((1 << len(amount)) - 1) << from_stage
        width = min(len(value) + most, self.width)
        return (Cat(value, Const(0, width - len(value))) << Cat(Const(0, from_stage), amount))[:width]


class PairedProduct:
    """Two products, of two codes with a third, by one wide multiplier of an FPGA.

    Significands are positive, so those of the two stand in one factor, as far apart as a product is wide, and so do the
    products. The other factor is the third code's significand, with as much of its shift as saves shifting behind the
    multiplier (`lift`; what it is worth: docs/mac_array.md). Behind a register `align` shifts each product by the rest;
    the value is ``signed(bits) + negative`` in units of ``2**w.product_exp(x)``, as that of `Product`.
    """

    def __init__(self, w_fmt, x_fmt):
        self._w, self._x = w_fmt, x_fmt
        room = _WIDE_FACTOR - 2 * w_fmt.sig_bits - x_fmt.sig_bits
        if room < 0:
            raise ValueError(f"Significands must leave room for two products in {_WIDE_FACTOR} bits, not "
                             f"{w_fmt.sig_bits} and "
                             f"{x_fmt.sig_bits} bits")

        def cost(lift):
            rest = x_fmt.max_shift - lift
            return (w_fmt.max_shift + rest).bit_length(), rest > 0, lift       # stages of shifters, an adder, bits
        self.lift = min(range(min(room, x_fmt.max_shift) + 1), key=cost)
        self._shift_bits = cost(self.lift)[0]
        self._product_bits = w_fmt.sig_bits + x_fmt.sig_bits + self.lift
        self.layout = StructLayout({"factor": x_fmt.sig_bits + self.lift,
                                    "rest": range(-1, x_fmt.max_shift - self.lift), "negative": 1})

    @property
    def width(self):
        """Bits of a signed product."""
        return self._w.product_bits(self._x) + 1

    def decode(self, code):
        """The fields of `layout`, as expressions, of the third code. ``rest`` is the shift that is left, less 1."""
        fields, lift = decode_operand(self._x, code), self.lift
        shift = fields["shift"][:self._x.max_shift.bit_length()]
        lifted, rest = Mux(shift > lift, lift, shift), Mux(shift > lift, shift - lift, 0) - 1
        return {"factor": (fields["sig"] << lifted)[:self._x.sig_bits + lift], "rest": rest,
                "negative": fields["negative"]}

    def weight(self, code):
        """Of one of the two what stands before the multiplier: (significand, shift plus 1, negative), as
        expressions."""
        w, code = self._w, Value.cast(code)
        exponent = code[w.man_bits:w.bits - 1]
        normal = exponent.any()
        return Cat(code[:w.man_bits], normal), Cat(exponent[0] | ~normal, exponent[1:]), code[w.bits - 1]

    def multiply(self, m, significands, x, *, name):
        """Both products, of the two significands and a view of `layout`."""
        first, second = significands
        products = Signal(2 * self._product_bits, name=f"{name}_products")
        m.d.comb += products.eq(Cat(first, Const(0, self._product_bits - len(first)), second) * x.factor)
        return products[:self._product_bits], products[self._product_bits:]

    def shift(self, m, own, x, *, name):
        """What to shift a product by, of a weight's shift plus 1 and the rest of the third code's less 1. In gates:
        carry chains of few bits take more places."""
        def bit(value, i):
            return value[i] if i < len(value) else Const(0, 1)
        rest, carry, total = Value.cast(x.rest), Const(0, 1), []
        for i in range(self._shift_bits):
            a, b = bit(own, i), rest[min(i, len(rest) - 1)]
            total.append(a ^ b ^ carry)
            above = Signal(name=f"{name}_carry{i}")
            m.d.comb += above.eq(a & b | (a | b) & carry)
            carry = above
        return Cat(*total)

    def align(self, m, magnitude, negative, shift, *, name):
        """A product in ``width`` bits, complemented if negative."""
        most = self.width - 1
        shifted = (Cat(magnitude, Const(0, most - len(magnitude))) << shift)[:most]
        value = Signal(self.width, name=f"{name}_value")
        m.d.comb += value.eq(Cat(shifted, Const(0, 1)) ^ negative.replicate(self.width))
        return value
