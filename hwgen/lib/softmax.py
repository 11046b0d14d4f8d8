"""Arithmetic of exact softmax: scores of dot products, weights of scores, and sums divided by the sum of their
weights."""
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Signal, signed

from ..params.tables import SCORE_BITS, SCORE_FRACTION, exp2_thresholds, reciprocal_table
from .arith import leading_zeros, magnitude, pwl_line, pwl_lookup, round_bf16, shift_up, unpack_bf16
from .fp8_dot import decode_operand
from .norm import one

__all__ = ["QUOTIENT_STAGES", "SCORE_STAGES", "Reciprocal", "exp2_codes", "quotient", "reciprocal", "score",
           "score_amount", "unpack_code"]

SCORE_STAGES = 3        # of `score`
QUOTIENT_STAGES = 7     # of `quotient`, those of `reciprocal` included
FRACTION_BITS = 15      # of the sum's mantissa


# Scores

def score_amount(m, left, width, name):
    """How far `score` shifts right a value of ``width`` bits to multiply it by ``2**left``; from some amount on all are
    alike."""
    count = (SCORE_BITS + width - 1).bit_length()
    right = Signal(signed(max(len(left), count) + 2), name=f"{name}_right")
    m.d.comb += right.eq(SCORE_BITS - left)
    return Mux(right[-1], 0, right[:count] | right[count:].any().replicate(count))


def score(m, pipe, dot, amount, name):
    """``floor(dot * 2**(left - 1) + 1/2)``, saturated to SCORE_BITS bits, 3 stages later; ``amount`` as `score_amount`
    made it.

    A negative x is shifted as ~x, of which floor is the complement of the floor wanted, so all is done on magnitudes.
    """
    sign = dot[-1]
    overflow, split = Const(0, 1), min(3, len(amount) - 1)
    current = Cat(sign.replicate(SCORE_BITS), dot[:-1] ^ sign.replicate(len(dot) - 1))
    # From the largest step down: a step of n leaves a window of SCORE_BITS + n - 1 bits, in which the result lies.
    current = Cat(current, Const(0, max(0, SCORE_BITS + (1 << len(amount)) - 1 - len(current))))
    for k in reversed(range(len(amount))):
        step, bit = 1 << k, amount[k]
        need = SCORE_BITS + step - 1
        shifted = Signal(need, name=f"{name}_window{k}")
        m.d.comb += shifted.eq(Mux(bit, current[step:], current))
        overflow, current = overflow | ~bit & current[need:].any(), shifted
        if k == split:
            current, overflow, sign, amount = (pipe.reg(x, name=f"{name}_{n}") for n, x in (
                ("coarse", current), ("coarse_overflow", overflow), ("coarse_sign", sign), ("fine_amount", amount[:k])))
    current, overflow, sign = (pipe.reg(x, name=f"{name}_{n}") for n, x in (
        ("fine", current), ("fine_overflow", overflow), ("fine_sign", sign)))
    # One bit below the result's last: adding it rounds.
    kept, guard = Cat(current[1:] ^ sign.replicate(SCORE_BITS - 1), sign), current[0] ^ sign
    over = overflow | ~sign & current.all()
    rounded = Mux(over, Cat((~sign).replicate(SCORE_BITS - 1), sign), (kept + guard)[:SCORE_BITS])
    return pipe.reg(rounded.as_signed(), name=name)


# Weights

def exp2_codes(m, pipe, d, gap, fmt, name):
    """Codes of ``2**(fmt.max_exp - d)`` and ``2**(fmt.max_exp - d - gap)``, 8 bits each, 2 stages later.

    ``d`` has SCORE_FRACTION fraction bits, ``gap`` none: so both compare the same fraction with the thresholds.
    """
    thresholds, steps = exp2_thresholds(fmt), 1 << fmt.man_bits
    octaves = (thresholds[-1] >> SCORE_FRACTION) + 1      # from the next on the result is 0
    fraction, whole = d[:SCORE_FRACTION], d[SCORE_FRACTION:]
    cuts = [tuple(t & ((1 << SCORE_FRACTION) - 1) for t in thresholds if t >> SCORE_FRACTION == k)
            for k in range(octaves)]
    counts = {cut: pipe.reg(_count(m, fraction, cut, f"{name}_{k}"), name=f"{name}_count{k}")
              for k, cut in enumerate(dict.fromkeys(cuts))}

    def code(octave, name):
        """What the code is in an octave: the one at its begin, less the thresholds passed."""
        octave = pipe.reg(Mux(octave >= octaves, octaves, octave)[:octaves.bit_length()], name=f"{name}_octave")
        out = Signal(7, name=f"{name}_code")
        normal = [k for k in range(octaves) if cuts[k] == cuts[0] and all(c == cuts[0] for c in cuts[:k])]
        with m.Switch(octave):
            for k in range(len(normal), octaves):
                begin = len(thresholds) - sum(t < k << SCORE_FRACTION for t in thresholds)
                with m.Case(k):
                    m.d.comb += out.eq(begin - counts[cuts[k]])
            with m.Case(octaves):
                m.d.comb += out.eq(0)
            with m.Default():
                m.d.comb += out.eq(len(thresholds) - Cat(Const(0, fmt.man_bits), octave) - counts[cuts[0]])
        assert len(cuts[0]) == steps
        return Cat(pipe.reg(out, name=name), Const(0, 1))

    return code(whole, f"{name}_plain"), code(whole + gap, f"{name}_scaled")


def unpack_code(code, fmt):
    """(shift, significand) of a code without sign: it is ``significand << shift``. Combinational."""
    operand = decode_operand(fmt, code)
    return operand["shift"][:fmt.max_shift.bit_length()], operand["sig"]


def _count(m, value, thresholds, name):
    """How many of the ascending thresholds are at most ``value``."""
    reached = [_at_least(value, t) for t in thresholds]
    count = Signal(range(len(thresholds) + 1), name=f"{name}_thresholds")
    # Binary search: the reached ones are the lowest.
    def search(low, high):                                # low <= count <= high
        if low == high:
            return Const(low, len(count))
        middle = (low + high) // 2
        return Mux(reached[middle], search(middle + 1, high), search(low, middle))
    m.d.comb += count.eq(search(0, len(thresholds)))
    return count


def _at_least(value, threshold):
    """``value >= threshold`` for a constant, as a few gates: synthesizers would spend a subtraction on each."""
    out = Const(1, 1)
    for i, bit in enumerate(value):
        out = bit & out if threshold >> i & 1 else bit | out
    return out


# Output

class Reciprocal(NamedTuple):
    """One divided by a sum.

    value       the reciprocal of its mantissa
    exponents   what a bf16's exponent becomes where the product of its significand and ``value`` has its highest bit in
                the highest of the possible places, the second, ...
    highest     that place
    """
    value: object
    exponents: list
    highest: int


def reciprocal(m, pipe, total, least):
    """The `Reciprocal` of a sum, the highest bit of which is at least that of ``least``, 4 stages later."""
    lowest = least.bit_length() - 1
    z = Cat(Const(0, max(0, FRACTION_BITS - lowest)), total)
    lowest = max(lowest, FRACTION_BITS)
    zeros, _ = leading_zeros(m, z[lowest:], name="z")
    zeros = pipe.reg(zeros, name="z_zeros")
    mantissa = pipe.reg((pipe.reg(z, name="z_1") << zeros)[:len(z)][-1 - FRACTION_BITS:-1], name="z_mantissa")
    table = reciprocal_table()
    index, f = mantissa[table.fraction_bits:], mantissa[:table.fraction_bits]
    base, slope = (pipe.reg(x, name=f"z_{n}") for n, x in zip(("base", "slope"), pwl_lookup(m, table, index, name="z")))
    value = pipe.reg(pwl_line(m, table, base, slope, pipe.reg(f, name="z_f"), name="z"), name="reciprocal")
    # The product of a significand and the reciprocal has its highest bit in one of these places
    lowest = (128 * min(min(b, b + s) for b, s in zip(table.base, table.slope))).bit_length() - 1
    highest = (255 * max(table.base)).bit_length() - 1
    exponents = [pipe.reg(zeros - (len(total) - 1) + place - 7 - table.out_fraction, name=f"o_exponent{place}",
                          stages=3) for place in range(highest, lowest - 1, -1)]
    return Reciprocal(value, exponents, highest)


def quotient(m, pipe, numerator, bits, biased, divisor, number):
    """bf16 of a numerator, rounded, times a `Reciprocal`, rounded: 7 stages later.

    The numerator's magnitude has ``bits`` bits; ``biased``, which comes two stages later, is the exponent of its
    highest one. ``number`` tells the names of lanes apart.
    """
    n, o = f"n{number}", f"o{number}"
    sign, mag = magnitude(m, numerator, name=n)
    sign, mag = pipe.reg(sign, name=f"{n}_sign", stages=3), pipe.reg(mag[:bits], name=f"{n}_1")
    count, zero = leading_zeros(m, mag, name=n)
    count, zero, mag = (pipe.reg(x, name=f"{n}_{what}") for what, x in (("count", count), ("zero", zero), ("2", mag)))
    top, sticky = pipe.reg(shift_up(m, mag, count, 9, name=n), name=f"{n}_normal")
    exponent = pipe.reg(biased - count, name=f"{n}_exponent")
    zero = pipe.reg(zero, name=f"{n}_zero_3")
    x = unpack_bf16(pipe.reg(round_bf16(m, sign, top, exponent, zero=zero, sticky=sticky, name=n), name=f"{n}_bf16"))
    product = pipe.reg((one(x) * divisor.value)[:divisor.highest + 1], name=f"{o}_product")
    exponents = [pipe.reg(x.exponent + e, name=f"{o}_exponent{k}") for k, e in enumerate(divisor.exponents)]
    normal, exponent = pipe.reg(_normal(m, product, exponents, o), name=f"{o}_normal")
    rounded = round_bf16(m, pipe.reg(x.sign, name=f"{o}_sign", stages=2), normal, exponent,
                         zero=pipe.reg(x.zero, name=f"{o}_zero", stages=2), name=o)
    return pipe.reg(rounded, name=o)


def _normal(m, value, exponents, name):
    """(normalized, exponent): shifted left until the highest bit is set, and which of the exponents belongs to so many
    places."""
    exponent = exponents[0]
    for k, other in enumerate(exponents[1:]):
        shifted = Signal(len(value), name=f"{name}_normal{k}")
        m.d.comb += shifted.eq(Mux(value[-1], value, value << 1))
        exponent = Mux(value[-1], exponent, other)
        value = shifted
    return value, exponent
