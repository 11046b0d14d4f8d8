"""Sizes of the vectors that units pass on in granules."""
from dataclasses import dataclass

from amaranth.hdl import unsigned
from amaranth.lib.data import ArrayLayout, StructLayout

from .layouts import result_layout

__all__ = ["Heads", "Results"]


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The heads that a layer makes for each entry: K heads, then V heads, then Q heads.

    entries                 of a pass, at most (T)
    vector_lanes            elements of a granule (V), a power of two
    num_attention_heads     Q heads: a multiple of the K heads
    num_key_value_heads     K heads, and as many V heads
    head_dim                elements of a head without padding, even
    padded_head_dim         elements of a head as stored: a multiple of ``vector_lanes``
    """
    entries: int
    vector_lanes: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    padded_head_dim: int

    @property
    def count(self):
        """Heads of an entry, of all three kinds."""
        return 2 * self.num_key_value_heads + self.num_attention_heads

    @property
    def first_value(self):
        """Number of the first V head."""
        return self.num_key_value_heads

    @property
    def first_query(self):
        """Number of the first Q head."""
        return 2 * self.num_key_value_heads

    @property
    def parts(self):
        """Granules of a head."""
        return self.padded_head_dim // self.vector_lanes

    @property
    def layout(self):
        """Payload of a granule of a head, in bf16."""
        return StructLayout({"x": ArrayLayout(unsigned(16), self.vector_lanes), "entry": range(self.entries),
                             "head": range(self.count), "part": range(self.parts), "last": 1})

    def is_value(self, head):
        """Whether a head is a V head."""
        return (head >= self.first_value) & (head < self.first_query)


@dataclass(frozen=True, kw_only=True)
class Results:
    """The finished sums of the array: C columns of an n-tile for each entry, in C / V granules.

    entries             of a pass, at most (T)
    columns             of the array (C), a power of two
    vector_lanes        elements of a granule (V), a power of two, at most C
    acc_bits            of a sum, with its sign
    row_offsets         the scale of each sum has an offset of its own
    with_adapters       sums are marked that are those of an adapter's A
    """
    entries: int
    columns: int
    vector_lanes: int
    acc_bits: int
    row_offsets: bool = False
    with_adapters: bool = False

    @property
    def groups(self):
        """Granules of an n-tile."""
        return self.columns // self.vector_lanes

    @property
    def layout(self):
        """Payload of a granule: `result_layout`."""
        return result_layout(columns=self.columns, vector_lanes=self.vector_lanes, entries=self.entries,
                             acc_bits=self.acc_bits, row_offsets=self.row_offsets, with_adapters=self.with_adapters)
