"""Function tables: the specification of every non-linear function in the machine.

A function is a table of straight lines over fixed-point inputs. Golden model and RTL both read the integers
stored here and each computes ``base[i] + (slope[i] * f >> shift)`` in its own code; tests hold every table to
``math`` with the bound stated in its docstring.
"""
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from .formats import Fp8
    from .model import ModelShape

__all__ = ["Pwl", "changed", "some_changed", "stuck_register", "rsqrt_table", "rsqrt_exponent", "norm_epsilon",
           "floating_epsilon", "reciprocal_table",
           "sigmoid_table",
           "exp2_thresholds", "softcap_table",
           "rope_factors", "neg_log_table", "neg_log_octaves", "gumbel_table", "ROPE_BLOCK", "SCORE_FRACTION",
           "SCORE_BITS", "SIGMOID_FRACTION", "NOISE_FRACTION", "GUMBEL_OFFSET"]

#: Of positions: of each the cosines and sines.
_Rows = tuple[tuple[tuple[int, int], ...], ...]
_Function = TypeVar("_Function", bound=Callable)

_CHANGED: ContextVar[Mapping] = ContextVar("changed", default=MappingProxyType({}))


@contextlib.contextmanager
def changed(name: str, table: Any, *args: Any) -> Iterator[None]:
    """A context in which the function ``name`` of this module returns ``table``, for these arguments or, without any,
    for all arguments: for machines with a wrong constant, and the values that they compute."""
    before = _CHANGED.set({**_CHANGED.get(), (name, args): table})
    try:
        yield
    finally:
        _CHANGED.reset(before)


def some_changed() -> bool:
    """Whether tables are `changed` now."""
    return bool(_CHANGED.get())


def _specified(function: _Function) -> _Function:
    """A table that is computed once, unless it is `changed`."""
    kept = lru_cache(function)

    @functools.wraps(function)
    def table(*args):
        given, name = _CHANGED.get(), function.__name__
        return given.get((name, args)) or given.get((name, ())) or kept(*args)
    return cast(_Function, table)


@_specified
def stuck_register(matrix: str) -> tuple[str, int, int] | None:
    """(word, bit, value) of a register that is stuck in a matrix that is logic, by the matrix's name; None unless it is
    `changed`."""
    return None


@dataclass(frozen=True, kw_only=True)
class Pwl:
    """Piecewise-linear table.

    The input is an unsigned integer of ``index_bits + fraction_bits`` bits; its upper part selects a segment and
    the lower part ``f`` moves along it: ``y = base[i] + ((slope[i] * f) >> fraction_bits)`` (arithmetic shift,
    which floors), an unsigned integer in units of ``2**-out_fraction``.
    """
    name: str
    index_bits: int
    fraction_bits: int
    out_fraction: int
    base: tuple[int, ...]
    slope: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.base) != len(self.slope):
            raise ValueError(f"Slope count must be {len(self.base)} as the bases, not {len(self.slope)}")

    @property
    def base_bits(self) -> int:
        return max(self.base).bit_length()

    @property
    def slope_bits(self) -> int:
        """Bits of the signed slopes."""
        return max(s.bit_length() for s in self.slope) + 1

    @property
    def out_bits(self) -> int:
        """Bits of the result, over the whole table."""
        return max(max(b, b + s).bit_length() for b, s in zip(self.base, self.slope))

    def compute(self, x: int) -> int:
        """The function of one integer, as plain Python."""
        i, f = x >> self.fraction_bits, x & ((1 << self.fraction_bits) - 1)
        return self.base[i] + ((self.slope[i] * f) >> self.fraction_bits)


def _fit(name, fn, spans, fraction_bits, out_fraction) -> Pwl:
    """A line per (start, width) span, lowered by half the curvature so that the error is the same on both sides."""
    base, slope = [], []
    for start, width in spans:
        y0, y1 = fn(start), fn(start + width)
        mid = (fn(start + width / 2) - (y0 + y1) / 2) / 2
        b = round((y0 + mid) * 2**out_fraction)
        base.append(b)
        slope.append(round((y1 + mid) * 2**out_fraction) - b)
    index_bits = max(1, (len(base) - 1).bit_length())
    return Pwl(name=name, index_bits=index_bits, fraction_bits=fraction_bits, out_fraction=out_fraction,
               base=tuple(base), slope=tuple(slope))


@_specified
def rsqrt_table(length: int, unit: str = "rmsnorm") -> Pwl:
    """``sqrt(length) / sqrt(f)`` scaled into [0.5, 2) for f in [1, 4), relative error below 2**-12.

    The factor ``sqrt(length)`` turns the sum of squares of an RMSNorm over ``length`` elements into its mean; the
    power of two taken out of it is `rsqrt_exponent`. Index: bit 5 is 0 for f in [1, 2) and 1 for f in [2, 4), bits
    4..0 the upper mantissa bits; fraction: the next 10 mantissa bits. Result in units of 2**-14. ``unit``: whose copy
    it is ("rmsnorm" or "qk_norm"), for `changed`; the numbers are the same.
    """
    k = math.sqrt(length) / 2.0 ** rsqrt_exponent(length)
    spans = [(1 + i / 32, 1 / 32) for i in range(32)] + [(2 + i / 16, 1 / 16) for i in range(32)]
    return _fit(f"rsqrt{length}", lambda f: k / math.sqrt(f), spans, 10, 14)


def rsqrt_exponent(length: int) -> int:
    """The power of two taken out of ``sqrt(length)``, so that the table's factor is in [1, 2)."""
    return math.floor(math.log2(length) / 2) if length > 0 else 0


def norm_epsilon(length: int, epsilon: float, fraction: int) -> int:
    """RMSNorm's epsilon times ``length``, in units of 2**(-2 * fraction) as the sum of squares is; at least 1."""
    return max(1, round(Fraction(epsilon) * length * 4**fraction))


def floating_epsilon(length: int, epsilon: float) -> tuple[int, int]:
    """(e, value): an epsilon times ``length`` for a norm of bf16 rows is ``value`` in units of ``4**(e - 142)``, at
    least 1.

    e is a biased exponent of bf16, with which ``value`` is between 2**30 and 2**32, as the square of a number of that
    exponent is, unless e would leave bf16's range. Rows of smaller numbers are brought to it: what their squares lose
    is nothing beside epsilon.
    """
    target = Fraction(epsilon) * length
    log2 = target.numerator.bit_length() - target.denominator.bit_length()
    log2 -= target < Fraction(2)**log2                    # 2**log2 <= target < 2**(log2 + 1)
    e = min(max(142 + (log2 - 30) // 2, 0), 254)
    return e, max(1, round(target * Fraction(4)**(142 - e)))


@_specified
def reciprocal_table() -> Pwl:
    """``1 / f`` for f in [1, 2), error below 2**-12. Index 5 bits and fraction 10 bits of the mantissa; unit 2**-14."""
    return _fit("reciprocal", lambda f: 1 / f, [(1 + i / 32, 1 / 32) for i in range(32)], 10, 14)


#: Activations ``g * t(g)`` with ``t(-g) = 1 - t(g)``: fraction bits of their table's 14-bit input, and index bits. The
#: input ends where ``1 - t`` is about half the result's unit or less: at 16, at 8 and at 4.
_SIGMOIDS = {
    "silu": (10, 7, lambda z: 1 / (1 + math.exp(-z))),
    "quick_gelu": (11, 7, lambda z: 1 / (1 + math.exp(-1.702 * z))),
    "gelu": (12, 6, lambda z: (1 + math.erf(z / math.sqrt(2))) / 2),
    "gelu_tanh": (12, 6, lambda z: (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2),
}
SIGMOID_FRACTION = {name: fraction for name, (fraction, *_) in _SIGMOIDS.items()}


@_specified
def sigmoid_table(activation: str = "silu") -> Pwl:
    """The factor t of an activation g * t for g >= 0, error below 2**-12.5. Input in units of 2**-SIGMOID_FRACTION (14
    bits); unit 2**-14.

    "silu" is g times the sigmoid. "gelu" is g times the normal distribution function; "gelu_tanh" and "quick_gelu" are
    approximations of it, with constants of Hendrycks and Gimpel (arXiv 1606.08415). All end at 1 exactly, so that
    ``g * t`` of a large g is g, and that of -g is 0.
    """
    fraction, index_bits, t = _SIGMOIDS[activation]
    end = 2.0 ** (14 - fraction)
    width = end / 2**index_bits
    return _fit(activation, lambda z: t(z) / t(end), [(i * width, width) for i in range(1 << index_bits)],
                14 - index_bits, 14)


SCORE_FRACTION = 10   # fraction bits of attention scores, which are in log2 units ...
SCORE_BITS = 24       # ... and their signed width


@_specified
def exp2_thresholds(fmt: "Fp8") -> tuple[int, ...]:
    """Where ``2**(fmt.max_exp - d)``, rounded to nearest even in ``fmt``, steps down, for d >= 0 in units of
    2**-SCORE_FRACTION.

    Returns ascending integers t; the code of d is ``top - (number of t[i] <= d)`` where top is the code of
    2**max_exp. Codes of a positive format are consecutive integers in order of value, so each threshold passed is
    one code less: the exponential is rounded *exactly*, with no table of values. Above the subnormals the
    thresholds of one octave repeat in the next.
    """
    top = (fmt.max_exp + fmt.bias) << fmt.man_bits
    out = []
    for code in range(top, 0, -1):
        middle = Fraction(fmt.int_value(code) + fmt.int_value(code - 1), 2) * Fraction(2) ** fmt.unit_exp
        exact = (fmt.max_exp - math.log2(middle)) * 2**SCORE_FRACTION
        t = math.ceil(exact - 1e-7)                       # log2 of a power of two is exact, others are never this near
        tie = middle.numerator & (middle.numerator - 1) == 0
        out.append(t + 1 if tie and code % 2 == 0 else t) # on a tie the even code stays
    return tuple(out)


@_specified
def softcap_table(cap: float) -> Pwl:
    """``cap * tanh(x / cap)`` for x >= 0, of scores or logits: input and result in units of 2**-SCORE_FRACTION, both
    below 2**(SCORE_BITS - 1).

    Error below ``cap * 2**-13 + 1.5 * 2**-SCORE_FRACTION``. Its lines meet: it begins at 0 exactly, falls nowhere, and
    ends at ``base[-1] + slope[-1]``, which is the result of all larger inputs: ``cap`` itself, unless that is beyond
    the scores' range. 256 segments end at the first power of two that is at least 5 times the cap, where 1 - tanh is
    2**-13.4; or with the range.
    """
    unit, largest = 2.0**SCORE_FRACTION, (1 << SCORE_BITS - 1) - 1
    bits = min(max(SCORE_FRACTION, math.ceil(math.log2(5 * cap)) + SCORE_FRACTION), SCORE_BITS - 1)
    width = 2.0**(bits - 8)
    knots = []
    for x in (i * width / unit for i in range(257)):
        t = math.tanh(x / cap)
        lift = t * (1 - t * t) / cap * (width / unit)**2 / 8      # half of what a chord is below the curve
        knots.append(min(round((cap * t + lift) * unit), round(min(cap * unit, largest))))
    if bits < SCORE_BITS - 1:
        knots[-1] = round(cap * unit)
    return Pwl(name=f"softcap{cap:g}", index_bits=8, fraction_bits=bits - 8, out_fraction=SCORE_FRACTION,
               base=tuple(knots[:-1]), slope=tuple(b - a for a, b in zip(knots, knots[1:])))


ROPE_BLOCK = 64      # a position is ROPE_BLOCK * high + low; each part has its table


@_specified
def rope_factors(shape: "ModelShape", context: int) -> tuple[_Rows, _Rows]:
    """``(low, high)``: cosines and sines of the rotary angles of positions 0..63, and of the multiples of 64 below
    ``context``.

    Each is a tuple of rows, one per position, of ``head_dim / 2`` pairs (cos, sin) in Q1.16, rounded to nearest: those
    of the first of `ModelShape.ropes`, then those of the next. The angle of any position is a complex product of two of
    them.
    """
    frequencies = [float(f) for rope in shape.ropes() for f in shape.rope_frequencies(rope)]

    def row(position):
        return tuple((round(math.cos(position * f) * 2**16), round(math.sin(position * f) * 2**16))
                     for f in frequencies)
    return (tuple(row(p) for p in range(ROPE_BLOCK)), tuple(row(p) for p in range(0, context, ROPE_BLOCK)))


# Gumbel noise: -ln(-ln(1 - w)) + GUMBEL_OFFSET, by way of N = -ln(min(w, 1 - w)).

NOISE_FRACTION = 12  # fraction bits of the three tables below
GUMBEL_OFFSET = 4    # a constant in all scores chooses nothing; this one keeps the table positive


@_specified
def neg_log_table() -> Pwl:
    """``ln(2 / m)`` for m in [1, 2), error below 2**-10.8. Index 4 bits and fraction 11 bits of the mantissa; unit
    2**-12."""
    return _fit("neg_log", lambda m: math.log(2 / m), [(1 + i / 16, 1 / 16) for i in range(16)], 11, NOISE_FRACTION)


@_specified
def neg_log_octaves() -> tuple[int, ...]:
    """``(k + 1) * ln(2)`` for k = 0..31 leading zeros, in units of 2**-12."""
    return tuple(round((k + 1) * math.log(2) * 2**NOISE_FRACTION) for k in range(32))


@_specified
def gumbel_table() -> Pwl:
    """The noise of a number N; error below 2**-9.6. Fraction 10 bits; unit 2**-12.

    Segments 0..7, for w < 1/2: ``4 - ln(-ln(1 - w) / w)``, to which N is added; w in units of 2**-14. Segments 8..55,
    for the others: ``4 - ln(N)``, 8 for each octave of N from [1/2, 1) to [16, 32).
    """
    def small(w):
        return GUMBEL_OFFSET - (math.log(-math.log1p(-w) / w) if w else 0)

    def large(n):
        return GUMBEL_OFFSET - math.log(n)
    small_spans = [(i / 16, 1 / 16) for i in range(8)]
    large_spans = [(2.0**e * (1 + i / 8), 2.0**e / 8) for e in range(-1, 5) for i in range(8)]
    low, high = (_fit("", fn, spans, 10, NOISE_FRACTION) for fn, spans in ((small, small_spans), (large, large_spans)))
    return Pwl(name="gumbel", index_bits=6, fraction_bits=10, out_fraction=NOISE_FRACTION, base=low.base + high.base,
               slope=low.slope + high.slope)
