"""Softcap of scores and logits in the pipeline of a unit."""
from amaranth.hdl import Mux

from ..params.tables import softcap_table
from .arith import magnitude, pwl_line, pwl_lookup

__all__ = ["SOFTCAP_STAGES", "softcap"]

SOFTCAP_STAGES = 4


def softcap(m, pipe, cap, value, *, name):
    """``cap * tanh(value / cap)`` of a signed value of SCORE_BITS bits, as `softcap_table` says; ``SOFTCAP_STAGES``
    stages of ``pipe`` later.

    A stage has a negation, the table, its line, the other negation.
    """
    table = softcap_table(cap)
    bits, limit = table.index_bits + table.fraction_bits, table.base[-1] + table.slope[-1]
    # 1: the magnitude
    sign, size = magnitude(m, value, name=f"{name}_in")
    size = pipe.reg(size, name=f"{name}_size")
    # 2, 3: the table; all beyond it is alike
    base, slope = pwl_lookup(m, table, size[table.fraction_bits:bits], name=name)
    base, slope, f, beyond = pipe.reg((base, slope, size[:table.fraction_bits], size[bits:].any()), name=f"{name}_line")
    line = pwl_line(m, table, base, slope, f, name=f"{name}_line")
    capped = pipe.reg(Mux(beyond, limit, line)[:limit.bit_length()], name=f"{name}_magnitude")
    # 4: its sign
    sign = pipe.reg(sign, name=f"{name}_sign", stages=3)
    signed_value = Mux(sign, -capped, capped)[:limit.bit_length() + 1]
    return pipe.reg(signed_value.as_signed(), name=name)
