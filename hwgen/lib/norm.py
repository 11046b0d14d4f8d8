"""What the norms share: sums over lanes, the reciprocal square root of a sum of squares, products that are rounded to
bf16.

Functions take a `Pipeline` and say how many of its stages they use; ``name`` prefixes the signals.
"""
from amaranth.hdl import Cat, Const, Mux

from ..params.tables import rsqrt_exponent, rsqrt_table
from .arith import leading_zeros, pwl_line, pwl_lookup, round_bf16, shift_up

__all__ = ["inverse_root", "normalized", "one", "reduced", "rounded_product", "tree_stages"]


def tree_stages(lanes):
    """Stages of `reduced`, two levels each."""
    return ((lanes - 1).bit_length() + 1) // 2


def reduced(pipe, terms, combine, *, name):
    """All terms combined by a tree, ``tree_stages(len(terms))`` stages later."""
    for stage in range(tree_stages(len(terms))):
        for _ in range(2):
            terms = [combine(*terms[j:j + 2]) if j + 1 < len(terms) else terms[j] for j in range(0, len(terms), 2)]
        terms = [pipe.reg(term, name=f"{name}{stage}_{j}") for j, term in enumerate(terms)]
    return terms[0]


def inverse_root(m, pipe, total, shift, *, lengths, base, which=0, unit="rmsnorm"):
    """(r, e), four stages later: ``sqrt(length / total) * 2**(base - shift) = r * 2**(e - 14)`` by `rsqrt_table`; bit
    14 is the highest of r.

    Parameters
    ----------
    total, shift : unsigned     total is never 0
    lengths, base : ints        one length, or two of which ``which`` chooses
    unit                        whose `rsqrt_table` it is
    """
    # total = f * 2**(2h), 1 <= f < 4. Its highest bit is `width - 1 - zeros`: odd when f >= 2.
    def chosen(choices, which):
        return choices[0] if len(choices) == 1 else Mux(which, choices[1], choices[0])

    zeros, _ = leading_zeros(m, total, name="total")
    width = len(total)
    zeros, value, shift = pipe.reg((zeros, total, shift), name="total_1")
    kinds = [which]                                       # at each stage
    for stage in range(2 if len(lengths) > 1 else 0):
        kinds.append(pipe.reg(kinds[-1], name=f"rsqrt_kind_{stage + 1}"))
    top = (width - 1 - zeros)[:len(zeros)]
    mantissa = shift_up(m, value, zeros, 16, name="mantissa")[0][:15]
    exponent = chosen([rsqrt_exponent(length) + base for length in lengths],
                      kinds[min(1, len(kinds) - 1)]) - shift - top[1:]
    x, exponent = pipe.reg((Cat(mantissa, top[0]), exponent), name="rsqrt_x")
    tables = [rsqrt_table(length, unit) for length in lengths]
    fraction_bits = tables[0].fraction_bits
    f = pipe.reg(x[:fraction_bits], name="rsqrt_f")
    lines = [pwl_lookup(m, table, x[fraction_bits:], name=f"rsqrt{k or ''}") for k, table in enumerate(tables)]
    base, slope = pipe.reg(tuple(chosen(choices, kinds[-1]) for choices in zip(*lines)), name="rsqrt_line")
    widest = max(tables, key=lambda table: table.out_bits)
    y = pipe.reg(pwl_line(m, widest, base, slope, f, name="rsqrt"), name="rsqrt_y")
    exponent = pipe.reg(exponent, name="rsqrt_exponent", stages=2)
    # y is in [0.5, 2), or a little below: up to two places to the left make its highest bit 1.
    for table in tables:
        assert table.out_bits <= 15 and min(b + min(0, s) for b, s in zip(table.base, table.slope)) >= 1 << 12
    y = Cat(y, Const(0, 15 - len(y)))
    places = Mux(y[14], 0, Mux(y[13], 1, 2))
    return y << places, exponent - places


def one(x):
    """The significand as if a `Bf16` were not zero, which is looked at later: nothing stands before the multiplier."""
    return Cat(x.significand[:7], Const(1, 1))


def normalized(value, exponent):
    """A product of numbers in [1, 2) is in [1, 4): shifted so that its highest bit is 1."""
    return Mux(value[-1], value, value << 1)[:len(value)], exponent + value[-1]


def rounded_product(m, pipe, sign, exponent, value, zero, *, name, first):
    """bf16 of a product of two significands, three stages later; ``exponent`` is that of a product in [1, 2), biased.

    ``first``: number of the first stage, in the names of registers.
    """
    sign, exponent, value, zero = pipe.reg((sign, exponent, value, zero), name=f"{name}_{first}")
    sign, value, exponent, zero = pipe.reg((sign, *normalized(value, exponent), zero), name=f"{name}_{first + 1}")
    return pipe.reg(round_bf16(m, sign, value, exponent, zero=zero, name=f"{name}_b"), name=f"{name}_{first + 2}")
