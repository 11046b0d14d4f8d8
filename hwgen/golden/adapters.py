"""What an adapter adds to a matrix's sums (docs/adapters.md): exact, in the sums' own units."""
import numpy as np

from ..params.adapters import MAX_SHIFT
from .numbers import acc_to_bf16, bf16_bits, fp8_codes, fp8_ints, scale_exponent

__all__ = ["added", "codes_of"]


def codes_of(design, sums, exponents, own):
    """A's sums as activation codes: float64 [n, R], exponents of the activations [n], the part's exponent ->
    (codes uint8 [n, R], how far B's sums are shifted to the left, int64 [n])."""
    fmt = design.recipe.activation_format
    values = acc_to_bf16(sums, exponents[:, None] + design.acc_unit)
    magnitude = (bf16_bits(values) & 0x7FFF).max(axis=-1)
    least = np.clip(exponents - own, scale_exponent(0, fmt), scale_exponent(0x7FFF, fmt))       # with which the shift is 0
    exponent = np.maximum(scale_exponent(magnitude, fmt), least)
    return fp8_codes(values, exponent[:, None], fmt), np.clip(own + exponent - exponents, 0, MAX_SHIFT)


def added(design, x_codes, exponents, a, b, own):
    """What an adapter adds to sums: activation codes uint8 [n, inputs], their exponents [n], integers of A float64 [R, inputs] and of B
    [outputs, R], the part's exponent -> float64 [n, outputs], integers."""
    fmt = design.recipe.activation_format
    codes, shift = codes_of(design, fp8_ints(x_codes, fmt).astype(np.float64) @ a.T, exponents, own)
    return np.ldexp(fp8_ints(codes, fmt).astype(np.float64) @ b.T, shift[:, None].astype(np.int32))
