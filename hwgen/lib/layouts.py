"""Payloads of the streams between units."""
from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout

from ..params.adapters import MAX_SHIFT
from ..params.errors import ErrorCode, KvOp

__all__ = ["ADMIT", "ERROR_BITS", "EXP_BITS", "OFFSET_BITS", "SHIFT_BITS", "adapter_layout", "ask_layout",
           "bias_layout", "command_layout",
           "converted_layout", "embed_layout",
           "glu_layout", "head_meta_layout", "head_read_layout", "k_row_layout", "kv_answer_layout",
           "kv_command_layout", "kv_fault_layout",
           "kv_read_layout", "kv_write_layout", "meta_layout", "normed_layout", "op_layout", "outcome_layout",
           "place_layout",
           "residual_read_layout", "residual_row_layout", "result_layout", "runs_layout", "signature_layout",
           "slice_layout", "tile_layout",
           "v_row_layout"]

EXP_BITS = 10   # signed power-of-two scales
SHIFT_BITS = MAX_SHIFT.bit_length()     # of what an adapter adds to sums
OFFSET_BITS = 4     # of a row's or a block's scale to the matrix's
ERROR_BITS = max(ErrorCode).bit_length()
ADMIT = max(KvOp) + 1   # what the admission unit asks of the KV memory beside the operations of `KvOp`


def command_layout(design):
    """One entry of a pass; ``last`` closes the pass and starts it. With ``none`` there is no entry, and only ``last``
    counts. ``key`` makes
    the noise of a row that is sampled: the host's to choose, so that no token depends on slot or neighbours.
    ``adapter``: 0, or the number of a loaded one."""
    key = {"key": 32} if design.hw.sampler == "gumbel" else {}
    key |= {"adapter": range(design.hw.adapters + 1)} if design.hw.adapters else {}
    return StructLayout({"slot": range(design.hw.slots), "position": range(design.hw.context),
                         "token": range(design.model.vocab_size), "want": 1, "last": 1, "none": 1, **key})


def outcome_layout(design):
    """One result: the token after entry ``entry``, or why it was refused (`hwgen.params.errors.ErrorCode`). ``none``
    marks a result
    that is of no entry: the single one of a pass that wanted no output, or an error of the pass itself."""
    return StructLayout({"entry": range(design.hw.entries), "token": range(design.model.vocab_size),
                         "none": 1, "last": 1,
                         "error": ERROR_BITS})


def kv_command_layout(design):
    """An operation on the KV memory, ``op`` as `hwgen.params.errors.KvOp` numbers them."""
    return StructLayout({"op": 2, "slot": range(design.hw.slots), "other": range(design.hw.slots),
                         "length": range(design.hw.context + 1)})


def kv_answer_layout():
    """What became of it (`hwgen.params.errors.ErrorCode`)."""
    return StructLayout({"error": ERROR_BITS})


def ask_layout(design):
    """What admission asks of the KV memory: an operation, or ``ADMIT``: room for position ``length`` of a slot."""
    return kv_command_layout(design)


def tile_layout(*, weight_bits, lanes, columns, row_offsets=False):
    """A weight tile, C columns of L codes: lane 0 of column 0 in the least significant bits. Where rows have offsets,
    those of the columns follow."""
    codes = ArrayLayout(unsigned(weight_bits), columns * lanes)
    return StructLayout({"codes": codes, "rows": ArrayLayout(unsigned(OFFSET_BITS), columns)}) if row_offsets else codes


def op_layout(*, lanes, entries, with_adapters=False):
    """An operation of the array: a slice of an entry's activation, for the tile that is active.

    ``first`` and ``last`` mark the first and last slice of a sum, ``tile_end`` the last operation on the tile; ``exp``
    is the activation's scale (that of the ``last`` slice goes with the result). Where there are adapters, ``a`` is 1
    for an operation of an A, and the products of one of a B are shifted to the left by ``shift``.
    """
    return StructLayout({
        "codes": ArrayLayout(unsigned(8), lanes),
        "entry": range(entries),
        "exp": signed(EXP_BITS),
        "first": 1,
        "last": 1,
        "tile_end": 1,
        **({"a": 1, "shift": SHIFT_BITS} if with_adapters else {}),
    })


def result_layout(*, columns, vector_lanes, entries, acc_bits, row_offsets=False, with_adapters=False):
    """A granule of an entry's finished sums: columns ``group * V`` and up of the n-tile. ``rows``: their offsets, where
    there are some."""
    return StructLayout({
        "acc": ArrayLayout(signed(acc_bits), vector_lanes),
        "entry": range(entries),
        "exp": signed(EXP_BITS),
        "group": range(columns // vector_lanes),
        **({"rows": ArrayLayout(unsigned(OFFSET_BITS), vector_lanes)} if row_offsets else {}),
        **({"a": 1} if with_adapters else {}),
    })


def meta_layout(*, entries, with_adapters=False):
    """What the feeder sends around a vector buffer with each slice: the rest of `op_layout`. ``z``: the slice is of A's
    sums."""
    return StructLayout({"entry": range(entries), "first": 1, "last": 1, "tile_end": 1,
                         **({"a": 1, "z": 1} if with_adapters else {})})


def adapter_layout(*, adapters, beat_bytes):
    """A beat of an adapter's memory (`Design.adapter_map`), in order. ``adapter``: its number less 1, which counts with
    the ``first``."""
    return StructLayout({"adapter": range(adapters), "first": 1, "data": 8 * beat_bytes})


def runs_layout(*, entries):
    """Rows of a pass with the same adapter, one after the other: the first and the last row of each of ``count`` runs;
    ``rows`` in all."""
    row = ArrayLayout(Shape.cast(range(entries)), entries)
    return StructLayout({"first": row, "last": row, "count": range(entries + 1), "rows": range(entries + 1)})


def slice_layout(lanes, meta):
    """What a vector buffer answers: a slice of a row as FP8 codes, and the row's scale."""
    return StructLayout({"codes": ArrayLayout(unsigned(8), lanes), "exp": signed(EXP_BITS), "meta": meta})


def converted_layout(design):
    """A granule of bf16 as `Convert` makes it: of a head (K heads, V heads, Q heads), or of a gate/up row (head 0), or
    a row of ups."""
    v = design.hw.vector_lanes
    return StructLayout({"x": ArrayLayout(unsigned(16), v), "entry": range(design.hw.entries),
                         "head": range(design.qkv_heads),
                         "part": range(max(design.padded_head_dim, design.padded_intermediate_size
                                           * (1 + design.block.gated)) // v), "last": 1})


def glu_layout(design, lanes):
    """A granule of a gate/up row (V lanes, gates and ups alternate), or what `SwiGlu` makes of it (V/2 lanes).

    Without a gate both have V lanes.
    """
    return StructLayout({"x": ArrayLayout(unsigned(16), lanes), "entry": range(design.hw.entries),
                         "part": range(design.padded_intermediate_size * (1 + design.block.gated)
                                       // design.hw.vector_lanes), "last": 1})


def embed_layout(*, vector_lanes, entries, parts, positions=False):
    """V codes of an embedding row: the hi ones of a granule, then (``lo``) those of the lo row, if there is one.

    Where positions are learned, an entry's second row (``position``) follows, which is that of its position.
    """
    return StructLayout({"codes": ArrayLayout(unsigned(8), vector_lanes), "entry": range(entries),
                         "part": range(parts), "lo": 1, "last": 1, **({"position": 1} if positions else {})})


def bias_layout(design):
    """A granule of a bias of the first of `Block.added`, or (with the flag that is called like it) of the second, as
    bf16."""
    v = design.hw.vector_lanes
    return StructLayout({"x": ArrayLayout(unsigned(16), v), design.block.from_ff.name: 1,
                         "part": range(design.padded_hidden_size // v)})


def normed_layout(design):
    """A granule of a normed row, as bf16."""
    v = design.hw.vector_lanes
    return StructLayout({"x": ArrayLayout(unsigned(16), v), "row": range(design.hw.entries),
                         "part": range(design.padded_hidden_size // v)})


def residual_read_layout(design):
    """Address of a granule of the residual."""
    return StructLayout({"entry": range(design.hw.entries),
                         "part": range(design.padded_hidden_size // design.hw.vector_lanes)})


def residual_row_layout(design):
    """A granule of the residual; ``mag`` is the OR over its whole row of ``x ^ (x >> 31)``."""
    return StructLayout({"x": ArrayLayout(signed(32), design.hw.vector_lanes), "mag": unsigned(31)})


def signature_layout(design):
    """The CRC-32 of an entry's residual."""
    return StructLayout({"entry": range(design.hw.entries), "crc": unsigned(32)})


def place_layout(design):
    """A command of the KV writer or of attention: an entry and where it belongs."""
    return StructLayout({"entry": range(design.hw.entries), "slot": range(design.hw.slots),
                         "position": range(design.hw.context), "layer": range(design.layers), "last": 1})


def head_meta_layout(design):
    """What goes along with a read of the qkv buffer: where the KV writer puts the slice. Attention sends zeros."""
    return StructLayout({"value": 1, "slot": range(design.hw.slots), "layer": range(design.layers),
                         "head": range(design.kv_heads), "position": range(design.hw.context),
                         "part": range(design.padded_head_dim // design.hw.attention_lanes), "last": 1})


def head_read_layout(design):
    """Request of part of a head to the qkv buffer: row ``entry * qkv_heads + head``, heads in order K, V, Q."""
    return StructLayout({"row": range(design.hw.entries * design.qkv_heads),
                         "part": range(design.padded_head_dim // design.hw.attention_lanes),
                         "meta": head_meta_layout(design)})


def kv_write_layout(design):
    """Part of a K row (``value`` 0) or V row (1) with its exponent."""
    lanes = design.hw.attention_lanes
    return StructLayout({"value": 1, "slot": range(design.hw.slots), "layer": range(design.layers),
                         "head": range(design.kv_heads), "position": range(design.hw.context),
                         "part": range(design.padded_head_dim // lanes), "codes": ArrayLayout(unsigned(8), lanes),
                         "exp": signed(EXP_BITS)})


def kv_read_layout(design):
    """Address of part of a row; ``last`` comes back with it."""
    return StructLayout({"slot": range(design.hw.slots), "layer": range(design.layers), "head": range(design.kv_heads),
                         "position": range(design.hw.context),
                         "part": range(design.padded_head_dim // design.hw.attention_lanes),
                         "last": 1})


def k_row_layout(design):
    """Part of a K row, its exponent, and that of the V row of the same position."""
    return StructLayout({"codes": ArrayLayout(unsigned(8), design.hw.attention_lanes), "exp": signed(EXP_BITS),
                         "v_exp": signed(EXP_BITS), "last": 1})


def v_row_layout(design):
    """Part of a V row; its exponent came with the K row."""
    return StructLayout({"codes": ArrayLayout(unsigned(8), design.hw.attention_lanes), "last": 1})


def kv_fault_layout(design):
    """Where a word of the KV memory could not be corrected."""
    return StructLayout({"slot": range(design.hw.slots), "position": range(design.hw.context)})
