"""Of a design: the KV memory, what writes it, and what attends to it."""
from ...lib.layouts import KvSizes
from ...units.attention import Attention
from ...params.kv_port import kv_axi
from ...units.axi_reader import AxiReader
from ...units.axi_writer import AxiWriter
from ...units.kv_blocks import KvBlocks
from ...units.kv_cache import KvCache, KvWriter
from ...units.kv_port import KvPort

__all__ = ["attention", "axi_writer", "kv_blocks", "kv_cache", "kv_port", "kv_reader", "kv_sizes", "kv_writer"]


def kv_sizes(design):
    """The `KvSizes` of its machine."""
    return KvSizes(slots=design.hw.slots, context=design.hw.context, num_hidden_layers=design.layers,
                   num_key_value_heads=design.kv_heads, head_dim=design.padded_head_dim,
                   lanes=design.hw.attention_lanes, rows=design.hw.attention_rows)


def attention(design):
    """Its `Attention`; of a half-batch's design, where two alternate."""
    return Attention(sizes=kv_sizes(design), entries=design.hw.entries, num_attention_heads=design.heads,
                     vector_lanes=design.hw.vector_lanes, kv_format=design.recipe.kv_format,
                     p_format=design.recipe.p_format, windows=[design.window(layer) for layer in range(design.layers)],
                     score_cap=design.model.score_cap, outside=design.hw.kv_port > 0,
                     hold=design.hw.attention_hold)


def _of_blocks(design):
    return dict(kv_block=design.hw.kv_block, blocks=design.hw.blocks, kept=design.positions_kept,
                seen=design.rows_seen())


def kv_blocks(design):
    """Its `KvBlocks`."""
    return KvBlocks(slots=design.hw.slots, context=design.hw.context, **_of_blocks(design))


def kv_cache(design):
    """Its `KvCache`."""
    return KvCache(sizes=kv_sizes(design), **_of_blocks(design), ecc=design.hw.kv_ecc)


def kv_port(design):
    """Its `KvPort`, where keys and values are outside."""
    return KvPort(sizes=kv_sizes(design), places=design.kv_places, blocks=kv_blocks(design),
                  windowed=any(design.window(layer) for layer in range(design.layers)))


def kv_reader(design, axi=None):
    """The `AxiReader` of that memory, on a bus beside ``axi``, which is that of the weights."""
    places = design.kv_places
    return AxiReader(kv_axi(design.hw, axi), stream_beats=places.beats, beat_bytes=places.beat_bytes, tile_beats=1)


def axi_writer(design, axi=None):
    """What writes that memory, on the same bus."""
    places = design.kv_places
    return AxiWriter(kv_axi(design.hw, axi), beats=places.beats, beat_bytes=places.beat_bytes)


def kv_writer(design):
    """Its `KvWriter`; of a half-batch's design, where two alternate."""
    return KvWriter(sizes=kv_sizes(design), entries=design.hw.entries, num_attention_heads=design.heads)
