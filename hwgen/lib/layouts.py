"""Payloads of the streams between units."""
from dataclasses import dataclass

from amaranth.hdl import Shape, signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout

from ..params.adapters import MAX_SHIFT
from ..params.errors import ErrorCode, KvOp

__all__ = ["ADMIT", "ERROR_BITS", "EXP_BITS", "OFFSET_BITS", "SHIFT_BITS", "KvSizes", "RequestSizes", "adapter_layout",
           "ask_layout", "bias_layout", "command_layout",
           "converted_layout", "embed_layout",
           "glu_layout", "head_meta_layout", "head_read_layout", "k_row_layout", "kv_answer_layout",
           "kv_command_layout", "kv_fault_layout", "kv_job_layout", "kv_put_layout",
           "kv_read_layout", "kv_write_layout", "meta_layout", "normed_layout", "op_layout", "outcome_layout",
           "place_layout", "row_names",
           "residual_read_layout", "residual_row_layout", "result_layout", "runs_layout", "signature_layout",
           "slice_layout", "tile_layout",
           "v_row_layout"]

EXP_BITS = 10   # signed power-of-two scales
SHIFT_BITS = MAX_SHIFT.bit_length()     # of what an adapter adds to sums
OFFSET_BITS = 4     # of a row's or a block's scale to the matrix's
ERROR_BITS = max(ErrorCode).bit_length()
ADMIT = max(KvOp) + 1   # what the admission unit asks of the KV memory beside the operations of `KvOp`


@dataclass(frozen=True)
class RequestSizes:
    """Sizes of the host's requests and of their results.

    Parameters
    ----------
    entries : int       entries of a pass, T
    slots : int
    context : int       positions of a slot
    vocab_size : int
    keyed : bool        an entry has a key, which makes the noise of its token
    adapters : int      how many adapters can be loaded; 0: an entry names none
    """

    entries: int
    slots: int
    context: int
    vocab_size: int
    keyed: bool = False
    adapters: int = 0


def command_layout(sizes):
    """One entry of a pass of some `RequestSizes`; ``last`` closes the pass and starts it. With ``none`` there is no
    entry, and only ``last`` counts. ``key`` makes the noise of a row that is sampled: the host's to choose, so that no
    token depends on slot or neighbours. ``adapter``: 0, or the number of a loaded one."""
    key = {"key": 32} if sizes.keyed else {}
    key |= {"adapter": range(sizes.adapters + 1)} if sizes.adapters else {}
    return StructLayout({"slot": range(sizes.slots), "position": range(sizes.context),
                         "token": range(sizes.vocab_size), "want": 1, "last": 1, "none": 1, **key})


def outcome_layout(sizes):
    """One result of some `RequestSizes`: the token after entry ``entry``, or why it was refused
    (`hwgen.params.errors.ErrorCode`). ``none`` marks a result that is of no entry: the single one of a pass that wanted
    no output, or an error of the pass itself."""
    return StructLayout({"entry": range(sizes.entries), "token": range(sizes.vocab_size), "none": 1, "last": 1,
                         "error": ERROR_BITS})


def kv_command_layout(*, slots, context):
    """An operation on the KV memory, ``op`` as `hwgen.params.errors.KvOp` numbers them."""
    return StructLayout({"op": 2, "slot": range(slots), "other": range(slots), "length": range(context + 1)})


def kv_answer_layout():
    """What became of it (`hwgen.params.errors.ErrorCode`)."""
    return StructLayout({"error": ERROR_BITS})


def ask_layout(*, slots, context):
    """What admission asks of the KV memory: an operation, or ``ADMIT``: room for position ``length`` of a slot."""
    return kv_command_layout(slots=slots, context=context)


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


def converted_layout(*, vector_lanes, entries, heads, parts):
    """A granule of bf16 as `Convert` makes it: of a head (K heads, V heads, Q heads), or of a gate/up row (head 0), or
    a row of ups; ``parts`` is the larger number of granules."""
    return StructLayout({"x": ArrayLayout(unsigned(16), vector_lanes), "entry": range(entries), "head": range(heads),
                         "part": range(parts), "last": 1})


def glu_layout(*, lanes, entries, parts):
    """One of the ``parts`` granules of a gate/up row (V lanes, gates and ups alternate), or what `SwiGlu` makes of it
    (V/2 lanes).

    Without a gate both have V lanes.
    """
    return StructLayout({"x": ArrayLayout(unsigned(16), lanes), "entry": range(entries), "part": range(parts),
                         "last": 1})


def embed_layout(*, vector_lanes, entries, parts, positions=False):
    """V codes of an embedding row: the hi ones of a granule, then (``lo``) those of the lo row, if there is one.

    Where positions are learned, an entry's second row (``position``) follows, which is that of its position.
    """
    return StructLayout({"codes": ArrayLayout(unsigned(8), vector_lanes), "entry": range(entries),
                         "part": range(parts), "lo": 1, "last": 1, **({"position": 1} if positions else {})})


def bias_layout(*, vector_lanes, parts, flag):
    """A granule of a bias of the first of `Block.added`, or (with the flag that is called like it) of the second, as
    bf16."""
    return StructLayout({"x": ArrayLayout(unsigned(16), vector_lanes), flag: 1, "part": range(parts)})


def normed_layout(*, vector_lanes, entries, parts):
    """A granule of a normed row, as bf16."""
    return StructLayout({"x": ArrayLayout(unsigned(16), vector_lanes), "row": range(entries), "part": range(parts)})


def residual_read_layout(*, entries, parts):
    """Address of a granule of the residual, which has ``parts`` in a row."""
    return StructLayout({"entry": range(entries), "part": range(parts)})


def residual_row_layout(*, vector_lanes):
    """A granule of the residual; ``mag`` is the OR over its whole row of ``x ^ (x >> 31)``."""
    return StructLayout({"x": ArrayLayout(signed(32), vector_lanes), "mag": unsigned(31)})


def signature_layout(*, entries):
    """The CRC-32 of an entry's residual."""
    return StructLayout({"entry": range(entries), "crc": unsigned(32)})


@dataclass(frozen=True)
class KvSizes:
    """Sizes of the KV memory.

    Parameters
    ----------
    slots : int
    context : int                   positions of a slot
    num_hidden_layers : int
    num_key_value_heads : int
    head_dim : int                  codes of a K or V row: a multiple of ``lanes``
    lanes : int                     codes of a word: A, which are written, read and multiplied at once
    rows : int                      rows that are read at once, R: of several each is a word, and they begin at a
                                    multiple of R
    """

    slots: int
    context: int
    num_hidden_layers: int
    num_key_value_heads: int
    head_dim: int
    lanes: int
    rows: int = 1

    @property
    def words(self):
        """Words of a row."""
        return self.head_dim // self.lanes

    @property
    def row_bits(self):
        """Bits of a position that say which of the rows it is that are read at once."""
        return self.rows.bit_length() - 1


def row_names(name, rows):
    """Names of what is there for each of some rows that are read at once."""
    return [name] if rows == 1 else [f"{name}_row{row}" for row in range(rows)]


def place_layout(sizes, entries):
    """A command of the KV writer or of attention: which of T entries, and where it belongs in a memory of some
    `KvSizes`."""
    return StructLayout({"entry": range(entries), "slot": range(sizes.slots), "position": range(sizes.context),
                         "layer": range(sizes.num_hidden_layers), "last": 1})


def head_meta_layout(sizes):
    """What goes along with a read of the qkv buffer: where in the KV memory the KV writer puts the word, which is
    ``part`` of its row. Attention sends zeros."""
    return StructLayout({"value": 1, "slot": range(sizes.slots), "layer": range(sizes.num_hidden_layers),
                         "head": range(sizes.num_key_value_heads), "position": range(sizes.context),
                         "part": range(sizes.words), "last": 1})


def head_read_layout(sizes, heads):
    """Request of a word of a head to the qkv buffer: ``row`` is one of so many ``heads``, those of entry 0 first, each
    entry's in order K, V, Q."""
    return StructLayout({"row": range(heads), "part": range(sizes.words), "meta": head_meta_layout(sizes)})


def kv_write_layout(sizes):
    """A word of a K row (``value`` 0) or V row (1), with the row's exponent."""
    return StructLayout({"value": 1, "slot": range(sizes.slots), "layer": range(sizes.num_hidden_layers),
                         "head": range(sizes.num_key_value_heads), "position": range(sizes.context),
                         "part": range(sizes.words), "codes": ArrayLayout(unsigned(8), sizes.lanes),
                         "exp": signed(EXP_BITS)})


def kv_read_layout(sizes):
    """Address of a word of a row; ``last`` comes back with it.

    Of several rows at once it is that of any of them, and ``seen`` says which of them are wanted.
    """
    return StructLayout({"slot": range(sizes.slots), "layer": range(sizes.num_hidden_layers),
                         "head": range(sizes.num_key_value_heads), "position": range(sizes.context),
                         "part": range(sizes.words), "last": 1} | ({"seen": sizes.rows} if sizes.rows > 1 else {}))


def kv_job_layout(sizes, windowed):
    """All rows of a slot's layer and head up to a position; where a layer has a window (``windowed``) from ``first``
    on."""
    return StructLayout({field: kv_read_layout(sizes)[field].shape for field in ("slot", "layer", "head", "position")}
                        | ({"first": range(sizes.context)} if windowed else {}))


def k_row_layout(lanes, rows=1):
    """A word of a K row, the row's exponent, and that of the V row of the same position. Of several rows: codes of one
    after the other, exponents of each, and which of them were wanted (``seen``)."""
    exponent = signed(EXP_BITS) if rows == 1 else ArrayLayout(signed(EXP_BITS), rows)
    return StructLayout({"codes": ArrayLayout(unsigned(8), rows * lanes), "exp": exponent, "v_exp": exponent, "last": 1}
                        | ({"seen": rows} if rows > 1 else {}))


def v_row_layout(lanes, rows=1):
    """A word of a V row, or of several; the rows' exponents came with those of K."""
    return StructLayout({"codes": ArrayLayout(unsigned(8), rows * lanes), "last": 1})


def kv_put_layout(*, beats, beat_bytes):
    """A beat for a memory of so many, and which of its bytes are written."""
    return StructLayout({"address": range(beats), "data": 8 * beat_bytes, "strobe": beat_bytes})


def kv_fault_layout(*, slots, context):
    """Where a word of the KV memory could not be corrected."""
    return StructLayout({"slot": range(slots), "position": range(context)})
