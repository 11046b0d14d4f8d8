"""Biases of the sums that are added to the residual, as fixed-point numbers: for `hwgen.units.residual`."""
from amaranth.hdl import Mux, Signal, signed
from amaranth.lib import data, memory, stream

from .arith import clip_fixed, shift_window, unpack_bf16, window_amount
from .pipeline import Pipeline

__all__ = ["WORD", "bias_address", "fixed_biases", "of_bf16"]

WORD = 32       # bits of a fixed-point number of the residual


def of_bf16(bits, fraction):
    """(sign, magnitude, places to the left that make it fixed point with ``fraction`` bits) of a bf16."""
    x = unpack_bf16(bits)
    return x.sign, x.significand, x.exponent + (fraction - 127 - 7)


def bias_address(part, second, *, biased, parts):
    """Of granule ``part`` in the biases' memory, which has ``parts`` granules for each of the ``biased`` projects.

    ``second``: it is of the second of `Block.added`.
    """
    return part + Mux(second, parts, 0) if len(biased) == 2 else part


def fixed_biases(m, bias, op, *, biased, parts, flag, fraction):
    """The biases of what is in stage 3 of the operations ``op``, 0 where there is none: for each lane {x, clipped}.

    Granules at ``bias`` are always taken, and kept as fixed-point numbers two cycles later.

    Parameters
    ----------
    bias : stream of `bias_layout`
    op : list                           operations by stage: address ``bias``, and whether one is ``biased``
    biased : tuple                      which projects of `Block.added` have a bias: 0, 1 or both
    parts : int                         granules of a bias
    flag : str                          field of ``bias`` that says whether a granule is of the second one
    fraction : int                      fraction bits
    """
    b = bias.payload
    lanes = range(len(b.x))
    layout = data.ArrayLayout(data.StructLayout({"x": signed(WORD), "clipped": 1}), len(lanes))
    m.submodules.biases = biases = memory.Memory(shape=layout, depth=len(biased) * parts, init=[])
    new, old = biases.write_port(), biases.read_port()

    # What comes is never held up. Stage 0: amount. 1: shift. 2: round and store.
    converted = stream.Signature(0, always_ready=True).create(path=("bias_converted",))
    pipe = Pipeline(m, bias, converted, stages=2, name="bias")
    address = bias_address(b.part, b[flag], biased=biased, parts=parts)
    m.d.comb += [new.en.eq(converted.valid), new.addr.eq(pipe.reg(address, name="bias_address", stages=2))]
    for lane in lanes:
        name = f"bias{lane}"
        sign, mag, left = of_bf16(b.x[lane], fraction)
        amount = window_amount(m, left, len(mag), WORD, name=name)
        sign, mag, amount = pipe.reg((sign, mag, amount), name=f"{name}_1")
        number = pipe.reg((sign, *shift_window(m, mag, amount, WORD, name=name)), name=f"{name}_2")
        x, clipped = clip_fixed(m, *number, name=name)
        m.d.comb += [new.data[lane].x.eq(x), new.data[lane].clipped.eq(clipped)]

    # Asked for in stage 1, there in stage 2
    m.d.comb += [old.addr.eq(op[1].bias), old.en.eq(1)]
    found = Signal(layout, name="bias_found", reset_less=True)
    m.d.sync += found.eq(Mux(op[2].biased, old.data, 0))
    return found
