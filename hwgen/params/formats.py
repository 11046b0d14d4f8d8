"""The float formats of at most 8 bits, as exact integers.

A finite code of a format is an integer times ``2**unit_exp``, so a product of two codes is an integer times the
product of the units, and a sum of products is an integer too: nothing here ever rounds.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Fp8", "E2M1", "E2M5", "E3M1", "E3M4", "E4M1", "E4M3", "FORMATS", "WEIGHTS", "WIDE", "fp8"]


@dataclass(frozen=True)
class Fp8:
    """A sign, exponent, mantissa format of at most 8 bits, with subnormals. A code stands in the lowest bits of a byte.

    Parameters
    ----------
    name : str
    exp_bits, man_bits : int      they add up to at most 7
    bias : int                    the exponent field of 1.0
    has_infinity : bool           whether the highest exponent is kept for infinity and NaN, as in IEEE formats;
                                  otherwise only the code with all bits set below the sign is NaN (OCP's E4M3) ...
    has_nan : bool                ... or, if this is false, every code is a number (OCP's E2M1)
    """

    name: str
    exp_bits: int
    man_bits: int
    bias: int
    has_infinity: bool
    has_nan: bool = field(default=True, repr=False)     # the repr is in the registers of machines that came before it
    _values: np.ndarray = field(init=False, repr=False, compare=False)
    _spelled: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.exp_bits < 1 or self.man_bits < 1 or self.exp_bits + self.man_bits > 7:
            raise ValueError("Exponent and mantissa must be at least 1 bit each and at most 7 together, not "
                             f"{self.exp_bits} + {self.man_bits}")
        spelled = [(-sig if negative else sig) << shift
                   for negative, sig, shift in map(self.decode, range(1 << self.bits))]
        for name, entries in (("_spelled", spelled),
                              ("_values", [v if self.is_finite(c) else 0 for c, v in enumerate(spelled)])):
            table = np.array(entries, np.int64)
            table.setflags(write=False)
            object.__setattr__(self, name, table)

    def __str__(self):
        return self.name

    @property
    def bits(self) -> int:
        """Bits of a code, its sign included."""
        return 1 + self.exp_bits + self.man_bits

    @property
    def unit_exp(self) -> int:
        """log2 of the smallest positive value, of which all others are multiples: -6 for E3M4, -9 for E4M3, -1 for
        E2M1."""
        return 1 - self.bias - self.man_bits

    @property
    def sig_bits(self) -> int:
        """Bits of a significand, the hidden one included."""
        return self.man_bits + 1

    @property
    def max_code(self) -> int:
        """Code of the largest finite value: every smaller code without sign is finite too."""
        codes = ((1 << self.exp_bits) - self.has_infinity) << self.man_bits
        return codes - 1 if self.has_infinity or not self.has_nan else codes - 2

    @property
    def max_int(self) -> int:
        """The largest finite value, in units of ``2**unit_exp``."""
        return self.int_value(self.max_code)

    @property
    def max_value(self) -> float:
        """The largest finite value: 15.5 for E3M4, 448 for E4M3, 6 for E2M1."""
        return self.max_int * 2.0 ** self.unit_exp

    @property
    def max_exp(self) -> int:
        """floor(log2(max_value)): 3 for E3M4, 8 for E4M3."""
        return self.max_int.bit_length() - 1 + self.unit_exp

    @property
    def max_shift(self) -> int:
        """The largest shift that :meth:`decode` returns for a finite code."""
        return self.decode(self.max_code)[2]

    @property
    def int_bits(self) -> int:
        """Bits of the magnitude of a finite value, in units of ``2**unit_exp``: 10 for E3M4, 18 for E4M3."""
        return self.max_int.bit_length()

    def is_finite(self, code: int) -> bool:
        """Whether ``code`` is a number; the others are NaN and infinity, which no hardware here makes or takes."""
        return code & (1 << self.bits - 1) - 1 <= self.max_code

    def decode(self, code: int) -> tuple[bool, int, int]:
        """(negative, significand, shift) of a code: its magnitude is ``significand << shift`` units.

        Codes that are not finite give what their bits would spell if the format had no such codes.
        """
        if not 0 <= code < 1 << self.bits:
            raise ValueError(f"FP8 code must be between 0 and {(1 << self.bits) - 1}, not {code}")
        exponent = code >> self.man_bits & ((1 << self.exp_bits) - 1)
        mantissa = code & ((1 << self.man_bits) - 1)
        normal = int(exponent != 0)
        return bool(code >> self.bits - 1), normal << self.man_bits | mantissa, exponent - normal

    def int_value(self, code: int) -> int:
        """The value of a code as a signed integer, in units of ``2**unit_exp``."""
        if not self.is_finite(code):
            raise ValueError(f"FP8 code must be finite in {self.name}, not {code:#04x}")
        negative, significand, shift = self.decode(code)
        return -(significand << shift) if negative else significand << shift

    def values(self) -> np.ndarray:
        """int64 [2**bits], read-only: the value of every code in units of ``2**unit_exp``; 0 where it is not finite."""
        return self._values

    def spelled(self) -> np.ndarray:
        """int64 [2**bits], read-only: `values`, but codes that are not finite have the number that their bits spell, as
        hardware takes a broken code."""
        return self._spelled

    def product_exp(self, other: "Fp8") -> int:
        """log2 of the unit of a product of a code of this format and one of ``other``."""
        return self.unit_exp + other.unit_exp

    def product_bits(self, other: "Fp8") -> int:
        """Bits of the magnitude of the largest product, in units of ``2**product_exp``."""
        return (self.max_int * other.max_int).bit_length()

    def accumulator_bits(self, other: "Fp8", k: int) -> int:
        """Bits of a signed integer that holds any sum of ``k`` products, in units of ``2**product_exp``."""
        if k < 1:
            raise ValueError(f"Dot product length must be at least 1, not {k}")
        return (k * self.max_int * other.max_int).bit_length() + 1


#: Four mantissa bits: the default. ml_dtypes calls it float8_e3m4.
E3M4 = Fp8("e3m4", exp_bits=3, man_bits=4, bias=3, has_infinity=True)

#: OCP's E4M3, which FP8 checkpoints use. ml_dtypes calls it float8_e4m3fn.
E4M3 = Fp8("e4m3", exp_bits=4, man_bits=3, bias=7, has_infinity=False)

#: Five mantissa bits, so half E3M4's error where a row's largest is near the others: of weights (with offsets of rows),
#: and of queries, keys and values. Every code is a number.
E2M5 = Fp8("e2m5", exp_bits=2, man_bits=5, bias=1, has_infinity=False, has_nan=False)

#: OCP's E2M1, the elements of MXFP4: 0, 1/2, 1, 3/2, 2, 3, 4, 6. Of weights alone. ml_dtypes calls it float4_e2m1fn.
E2M1 = Fp8("e2m1", exp_bits=2, man_bits=1, bias=1, has_infinity=False, has_nan=False)

#: E2M1 with so many more exponents that a value times 2**0 ... 2**4, or 2**12, is one too: of arrays, never of a file.
E3M1, E4M1 = (Fp8(f"e{bits}m1", exp_bits=bits, man_bits=1, bias=1, has_infinity=False, has_nan=False)
              for bits in (3, 4))

#: What activations and probabilities may be in, by name; what keys and values (with queries) and tables of embeddings;
#: and weights.
FORMATS = {f.name: f for f in (E3M4, E4M3)}
WIDE = FORMATS | {E2M5.name: E2M5}
WEIGHTS = WIDE | {E2M1.name: E2M1}


def fp8(name: str, known: Mapping[str, Fp8] = FORMATS) -> Fp8:
    """The format of that name, as it is spelled on a command line, of those that are ``known`` (name -> format)."""
    if name not in known:
        raise ValueError(f"FP8 format must be one of {', '.join(known)}, not {name!r}")
    return known[name]
