"""Payloads of the streams between units."""
from amaranth.hdl import signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout

__all__ = ["EXP_BITS", "op_layout", "result_layout", "tile_layout"]

EXP_BITS = 10   # signed power-of-two scales


def tile_layout(design):
    """A weight tile, C columns of L codes: lane 0 of column 0 in the least significant byte."""
    return ArrayLayout(unsigned(8), design.hw.columns * design.hw.lanes)


def op_layout(design):
    """An operation of the array: a slice of an entry's activation, for the tile that is active.

    ``first`` and ``last`` mark the first and last slice of a sum, ``tile_end`` the last operation on the tile; ``exp`` is
    the activation's scale (that of the ``last`` slice goes with the result).
    """
    return StructLayout({
        "codes": ArrayLayout(unsigned(8), design.hw.lanes),
        "entry": range(design.hw.entries),
        "exp": signed(EXP_BITS),
        "first": 1,
        "last": 1,
        "tile_end": 1,
    })


def result_layout(design):
    """A granule of an entry's finished sums: columns ``group * V`` and up of the n-tile."""
    hw = design.hw
    return StructLayout({
        "acc": ArrayLayout(signed(design.acc_bits), hw.vector_lanes),
        "entry": range(hw.entries),
        "exp": signed(EXP_BITS),
        "group": range(hw.columns // hw.vector_lanes),
    })
