"""Combinational arithmetic that several units use.

Each function adds what it needs to module ``m`` and returns values; nothing here has a register, so that a unit chooses
where its stages end (but `add_bf16` is a part of the unit's `hwgen.lib.pipeline.Pipeline`). Where one stage is not
enough at the speed of an FPGA, the function comes in parts (for example `leading_zeros`, then a shift, then
`round_bf16`), and the parts' results are what to register.

``name`` prefixes the signals that are made, for readable Verilog and waves; it must tell lanes apart.
"""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed, unsigned

__all__ = ["ADD_BF16_STAGES", "Bf16", "Fp8Aligned", "add_bf16", "at_least", "clip", "clip_fixed", "constant_rom",
           "fp8_align", "fp8_magnitude", "fp8_round", "key_exponent", "leading_zeros", "magnitude", "pwl_line",
           "pwl_lookup", "rne_shift", "round_bf16", "round_fixed", "saturate", "scale_key", "shift_up", "sum_to_bf16",
           "shift_window", "times", "unpack_bf16", "window_amount"]


# Signals

def _signal(m, value, name):
    """``value`` as a named signal of its own shape."""
    value = Value.cast(value)
    signal = Signal(value.shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def _any(value):
    """Whether a bit is set, also for a value of no bits."""
    return value.any() if len(value) else Const(0, 1)


# Integers

def at_least(value, constant):
    """``value >= constant`` for unsigned values, as logic and not as a carry chain."""
    value = Value.cast(value)
    if constant >> len(value):
        return Const(0, 1)
    result = Const(1, 1)
    for k in range(len(value)):                           # a prefix of the bits decides unless it is equal
        if constant >> k & 1:
            result = value[k] & result
        elif constant & ((1 << k) - 1):
            result = value[k] | result
        else:
            result = Const(1, 1)
    return result


def times(value, constant):
    """``value * constant`` for an unsigned value, as shifted sums: a synthesizer would spend a multiplier on an
    address."""
    value = Value.cast(value)
    terms, k = [], 0                                      # (shift, negative), non-adjacent form
    while constant >> k:
        if constant >> k & 1:
            negative = constant >> k & 3 == 3
            terms.append((k, negative))
            constant += (1 if negative else -1) << k
        k += 1
    total = Const(0, 1)
    for shift, negative in reversed(terms):
        term = Cat(Const(0, shift), value)
        total = total - term if negative else term if isinstance(total, Const) else total + term
    return total


def magnitude(m, value, *, name):
    """(sign, magnitude) of a signed value. The magnitude is as wide as the value, so that the lowest value fits."""
    value = Value.cast(value)
    sign = value[-1]
    return sign, _signal(m, Mux(sign, -value, value)[:len(value)], f"{name}_mag")


def saturate(m, value, bits, *, name):
    """A signed value clipped to ``bits`` bits, signed."""
    return clip(m, value, bits, name=name)[0]


def clip(m, value, bits, *, name):
    """(`saturate` of a signed value, whether that is another number)."""
    value = Value.cast(value)
    if len(value) <= bits:
        return value, Const(0, 1)
    sign, above = value[-1], value[bits - 1:]
    fits = ~_any(above) | above.all()
    limit = Cat((~sign).replicate(bits - 1), sign)
    return _signal(m, Mux(fits, value[:bits], limit).as_signed(), f"{name}_sat"), ~fits


def rne_shift(m, value, right, *, name):
    """``value / 2**right`` for a constant ``right``, rounded to nearest, ties to even. Signed or unsigned."""
    value = Value.cast(value)
    if right == 0:
        return value
    if value.shape().signed and len(value) <= right:
        value = _extend(value, right + 1)
    elif len(value) < right:
        return Const(0, 1)
    floor = value >> right
    up = value[right - 1] & (_any(value[:right - 1]) | (value[right] if len(value) > right else Const(0, 1)))
    return _signal(m, floor + up, f"{name}_rne")


def _extend(value, width):
    return Cat(value, value[-1].replicate(width - len(value))).as_signed()


def leading_zeros(m, value, *, name):
    """(count, zero) of an unsigned value: how many bits above the highest set one, and whether there is none.

    ``count`` has the bits that ``len(value) - 1`` needs, and means nothing when ``zero``. The depth is logarithmic.
    """
    value = Value.cast(value)
    width = 1 << (len(value) - 1).bit_length()
    padded = Cat(Const(0, width - len(value)), value)
    nodes = [(~padded[i], Const(0, 0)) for i in range(width)]       # (zero, count), lowest bits first
    level = 0
    while len(nodes) > 1:
        merged = []
        for i in range(0, len(nodes), 2):
            (low_zero, low), (high_zero, high) = nodes[i:i + 2]
            merged.append((_signal(m, high_zero & low_zero, f"{name}_z{level}_{i // 2}"),
                           _signal(m, Cat(Mux(high_zero, low, high), high_zero), f"{name}_n{level}_{i // 2}")))
        nodes = merged
        level += 1
    zero, count = nodes[0]
    return count[:(len(value) - 1).bit_length()], zero


def shift_up(m, value, places, bits, *, name):
    """(top, sticky): the highest ``bits`` bits of ``value << places``, and whether one below them is set.

    What `round_bf16` needs of a long value is its upper 9 bits, and the rest as ``sticky``: less than half of a whole
    shifter.
    """
    current, sticky = Value.cast(value), []
    places = Value.cast(places)
    # From the largest step down: what no smaller step can bring into the window is dropped.
    for k in reversed(range(len(places))):
        drop = max(0, len(current) - (bits + (1 << k) - 1))
        shifted = _signal(m, Mux(places[k], Cat(Const(0, 1 << k), current)[:len(current)], current), f"{name}_up{k}")
        sticky.append(_any(shifted[:drop]))
        current = shifted[drop:]
    drop = max(0, len(current) - bits)
    return current[drop:], Cat(*sticky, current[:drop]).any()


# Shifts with rounding: an integer in any unit to fixed point

def window_amount(m, left, source_bits, bits, *, name):
    """The amount for `shift_window` that multiplies a magnitude of ``source_bits`` bits by ``2**left`` (signed).

    The window is then ``bits`` bits with one guard bit below; amounts beyond those that matter are clipped.
    """
    # left >= bits - 1 overflows (unless 0), left < -source_bits leaves less than a half: so do all amounts beyond.
    top, count = bits - 1, (bits + source_bits).bit_length()
    amount = _signal(m, top - Value.cast(left), f"{name}_unclipped")
    amount = _extend(amount, max(len(amount), count + 1))
    return _signal(m, Mux(amount[-1], 0, amount[:count] | amount[count:-1].any().replicate(count)), f"{name}_amount")


def shift_window(m, value, amount, bits, *, name):
    """(window, sticky, overflow): ``value * 2**left`` with one guard bit, ``amount`` from `window_amount`.

    ``window`` is ``bits`` bits: ``bits - 1`` of the integer result above the guard bit (weight one half). ``sticky``
    says that something below it was not zero, ``overflow`` that something above it was not. `round_fixed` makes the
    result of it.
    """
    value, amount = Value.cast(value), Value.cast(amount)
    width = bits + (1 << len(amount)) - 1
    current = Cat(Const(0, bits), value)
    current = Cat(current, Const(0, max(0, width - len(current))))
    overflow, sticky = [_any(current[width:])], []
    current = current[:width]
    # From the largest step down; each halves what is still out of the window.
    for k in reversed(range(len(amount))):
        step, bit = 1 << k, amount[k]
        need = bits + step - 1
        overflow.append(~bit & _any(current[need:]))
        sticky.append(bit & _any(current[:step]))
        current = _signal(m, Mux(bit, current[step:step + need], current[:need]), f"{name}_w{k}")
    return current, Cat(*sticky).any(), Cat(*overflow).any()


def round_fixed(m, sign, window, sticky, overflow, *, name):
    """The result of `shift_window`, rounded to nearest even, with its sign, saturated to ``len(window)`` bits,
    signed."""
    return clip_fixed(m, sign, window, sticky, overflow, name=name)[0]


def clip_fixed(m, sign, window, sticky, overflow, *, name):
    """(`round_fixed`, whether its number was beyond the limits: rounded more than the largest, or before that not above
    the least)."""
    bits = len(window)
    guard, kept = window[0], window[1:]
    # Saturation, then conditional negation: -x = ~x + 1, and the rounding's carry shares that adder.
    up = guard & (sticky | kept[0])
    # +: kept + up; -: -(kept + up) = ~kept + 1 - up = ~kept + ~up.
    rounded = _signal(m, (Cat(kept ^ sign.replicate(bits - 1), sign, sign) + (sign ^ up))[:bits + 1], f"{name}_rounded")
    # kept + up is at most 2**(bits - 1), which is negative in bits bits: too large unless it is -2**(bits - 1).
    too_large = overflow | (~sign & rounded[bits - 1])
    limit = Cat((~sign).replicate(bits - 1), sign)
    return _signal(m, Mux(too_large, limit, rounded[:bits]).as_signed(), f"{name}_fixed"), too_large


# bf16: sign, 8 exponent bits (bias 127), 7 fraction bits; exponent 0 is zero, 255 does not occur

class Bf16(NamedTuple):
    """An unpacked bf16: value ``(-1)**sign * significand / 128 * 2**(exponent - 127)``; significand is 0 when zero."""
    sign: Value
    exponent: Value       # 8 bits, biased
    significand: Value    # 8 bits, the hidden one included
    zero: Value


def unpack_bf16(bits):
    """`Bf16` of 16 bits. Patterns with exponent 0 must be 0, as everything here makes them."""
    bits = Value.cast(bits)
    exponent = bits[7:15]
    nonzero = exponent.any()
    return Bf16(bits[15], exponent, Cat(bits[:7], nonzero), ~nonzero)


def round_bf16(m, sign, normalized, biased, *, zero=0, sticky=0, name):
    """bf16 of a normalized magnitude: to nearest even, flushed to +0 below 2**-126, saturated.

    Parameters
    ----------
    normalized : unsigned       its highest bit is set (unless ``zero``) and has the weight ``2**(biased - 127)``
    biased : signed or unsigned any width: the exponent of the highest bit, plus 127
    zero : bit                  the value is 0, whatever the other inputs
    sticky : bit                something below ``normalized`` was not zero
    """
    normalized, biased = Value.cast(normalized), Value.cast(biased)
    if not biased.shape().signed:
        biased = Cat(biased, Const(0, 1)).as_signed()
    if len(biased) < 10:
        biased = _extend(biased, 10)
    if len(normalized) < 9:
        normalized = Cat(Const(0, 9 - len(normalized)), normalized)
    fraction, guard, rest = normalized[-8:-1], normalized[-9], normalized[:-9]
    up = guard & (_any(rest) | sticky | fraction[0])
    # A carry out of the fraction goes to the exponent, as it should.
    packed = _signal(m, (Cat(fraction, biased).as_signed() + up)[:len(biased) + 7], f"{name}_packed")
    exponent = packed[7:]
    under = exponent[-1] | ~exponent.any()
    over = ~exponent[-1] & (exponent[8:].any() | exponent[:8].all())
    return _signal(m, Mux(under | zero, 0, Cat(Mux(over, 0x7F7F, packed[:15]), sign)), f"{name}_bf16")


# FP8

class Fp8Aligned(NamedTuple):
    """Between `fp8_align` and `fp8_round`."""
    sign: Value
    kept: Value       # significand bits, in units of the code's last place
    up: Value         # round up
    field: Value      # exponent field, less 1 where it is not 0
    zero: Value
    over: Value


def sum_to_bf16(m, pipe, acc, highest, *, name):
    """An exact sum as bf16, four stages of ``pipe`` later: magnitude, leading zeros, their shift, rounding.

    ``highest`` is the biased exponent of the sum's highest bit, two stages later than ``acc``.
    """
    sign, mag = magnitude(m, acc, name=name)
    sign, mag = pipe.reg(sign, name=f"{name}_sign", stages=3), pipe.reg(mag, name=f"{name}_m1")
    count, zero = leading_zeros(m, mag, name=name)
    count, mag = pipe.reg(count, name=f"{name}_count"), pipe.reg(mag, name=f"{name}_m2")
    top, sticky = pipe.reg(shift_up(m, mag, count, 9, name=name), name=f"{name}_m3")
    biased = pipe.reg(highest - count, name=f"{name}_biased")
    zero = pipe.reg(zero, name=f"{name}_zero", stages=2)
    return pipe.reg(round_bf16(m, sign, top, biased, zero=zero, sticky=sticky, name=name), name=f"{name}_o")


def fp8_align(m, bits, places, fmt, *, name):
    """First stage from bf16 to FP8 (nearest even, saturating, subnormals kept, -0 made +0): shifts the significand down
    where the result is subnormal.

    ``places``: how many below the smallest normal one the value begins, signed. It is 1 - the biased exponent of the
    code.
    """
    x = unpack_bf16(bits)
    man, normal = fmt.man_bits, places[-1] | ~places.any()
    # From man + 2 places on nothing is left to round up.
    small = (man + 2).bit_length()
    down = places[:small] & ~places[-1].replicate(small)
    nothing = ~places[-1] & places[small:].any()
    wide = _signal(m, Cat(Const(0, man + 2), x.significand) >> down, f"{name}_wide")
    last = man + 2 + 7 - man                              # position of the code's last place
    kept, guard, rest = wide[last:last + man + 1], wide[last - 1], wide[:last - 1]
    up = guard & (rest.any() | kept[0]) & ~nothing
    field = _signal(m, -places, f"{name}_less_1")
    return Fp8Aligned(x.sign, kept & ~nothing.replicate(man + 1), up, Mux(normal, field[:fmt.exp_bits], 0), x.zero,
                      normal & (field >= (1 << fmt.exp_bits) - 1))


def fp8_round(m, aligned, fmt, *, saturate=True, name):
    """Second stage: rounds and saturates (unless the scale makes that needless). 8 bits."""
    man = fmt.man_bits
    # Fields and significand add up, hidden bit and rounding carry included: codes are consecutive in value.
    code = _signal(m, Cat(Const(0, man), aligned.field) + aligned.kept + aligned.up, f"{name}_code")
    top = code[:7]
    if saturate:
        top = _signal(m, Mux(aligned.over | at_least(code, fmt.max_code + 1), fmt.max_code, top), f"{name}_top")
    nonzero = top.any() & ~aligned.zero
    return Mux(nonzero, Cat(top, aligned.sign), 0)


def scale_key(m, bits, fmt, *, name):
    """9 bits of a bf16's magnitude that are enough to know the scale: their largest gives the vector's
    `key_exponent`."""
    bits = Value.cast(bits)
    fraction = (fmt.max_int << 7 >> (fmt.max_int.bit_length() - 1)) & 127
    return _signal(m, Cat(at_least(bits[:7], fraction + 1), bits[7:15]), f"{name}_key")


def key_exponent(m, key, fmt, *, name):
    """The scale of a vector whose largest `scale_key` this is, signed(10)."""
    return _signal(m, (key[1:] - (127 + fmt.max_exp) + key[0])[:10].as_signed(), f"{name}_scale")


def fp8_magnitude(m, code, fmt, *, name):
    """(sign, magnitude) of a finite code, in units of ``2**fmt.unit_exp``; the magnitude has ``fmt.int_bits`` bits."""
    code = Value.cast(code)
    field, mantissa = code[fmt.man_bits:7], code[:fmt.man_bits]
    normal = field.any()
    shifted = Cat(mantissa, normal) << (field - normal)[:fmt.exp_bits]
    return code[7], _signal(m, shifted[:fmt.int_bits], f"{name}_int")


# Tables

def constant_rom(m, entries, index, shape, *, name):
    """``entries[index]``, combinational. With a register behind it a synthesizer may take a block memory."""
    out = Signal(shape, name=name)
    with m.Switch(index):
        for i, entry in enumerate(entries):
            with m.Case(i):
                m.d.comb += out.eq(entry)
    return out


def pwl_lookup(m, table, index, *, name):
    """First stage of a `hwgen.params.tables.Pwl`: (base, slope) of a segment."""
    return (constant_rom(m, table.base, index, unsigned(table.base_bits), name=f"{name}_base"),
            constant_rom(m, table.slope, index, signed(table.slope_bits), name=f"{name}_slope"))


def pwl_line(m, table, base, slope, f, *, name):
    """Second stage: one signed multiplication and an addition. ``table.out_bits`` bits."""
    return _signal(m, (base + (slope * f >> table.fraction_bits))[:table.out_bits], f"{name}_y")


# Sums in stages

ADD_BF16_STAGES = 6


def add_bf16(m, pipe, a, b, *, name):
    """bf16(a + b) of two bf16, exact before its one rounding to nearest even; ``ADD_BF16_STAGES`` stages of ``pipe``
    later.

    A stage has an adder or a shifter. The smaller number is aligned to the larger one with three bits below its last
    place, of which the lowest says whether something was further below. That is enough: where that is so, the
    difference's highest bit is at most one place lower (two guard bits and a sticky one: D. Goldberg, What every
    computer scientist should know about floating-point arithmetic, 1991).
    """
    a, b = Value.cast(a), Value.cast(b)
    # 1: which is larger, and by how many places
    swap = _signal(m, a[:15] < b[:15], f"{name}_swap")
    apart = Mux(swap, b[7:15] - a[7:15], a[7:15] - b[7:15])[:8]
    large, small, apart = (pipe.reg(part, name=f"{name}_{part_name}") for part_name, part in (
        ("large", Mux(swap, b, a)), ("small", Mux(swap, a, b)), ("apart", apart)))
    # 2: align; from 11 places on all is below
    x, y = unpack_bf16(large), unpack_bf16(small)
    down = _signal(m, apart[:4] | apart[4:].any().replicate(4), f"{name}_down")
    wide = _signal(m, Cat(Const(0, 17), y.significand) >> down, f"{name}_wide")           # 15 bits for what is below
    aligned = pipe.reg(Cat(wide[:15].any(), wide[15:]), name=f"{name}_aligned")
    sign, exponent, significand = pipe.reg((x.sign, x.exponent, x.significand), name=f"{name}_x2")
    less = pipe.reg(x.sign ^ y.sign, name=f"{name}_less")
    # 3: the sum, which is not negative
    # large - small = large + ~small + 1, whose carry falls off; the 1 goes in below as a carry too.
    total = Cat(less, Const(0, 3), significand) + Cat(less, aligned ^ less.replicate(11))
    total = pipe.reg(Cat(total[1:12], total[12] & ~less), name=f"{name}_total")
    sign, exponent = pipe.reg((sign, exponent), name=f"{name}_x3")
    # 4, 5, 6: normalize and round
    zeros, zero = leading_zeros(m, total, name=name)
    sign, exponent, total, zeros, zero = pipe.reg((sign, exponent, total, zeros, zero), name=f"{name}_x4")
    sign, zero, normal, biased = pipe.reg((sign, zero, (total << zeros)[:12], exponent + 1 - zeros), name=f"{name}_x5")
    return pipe.reg(round_bf16(m, sign, normal, biased, zero=zero, name=name), name=f"{name}_x6")
