"""The qkv buffer with everything that reads it: KV writer, KV cache (or what has its place where keys and values are
outside) and attention, wired as in the decoder."""
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen.lib.layouts import head_meta_layout
from hwgen.top import make
from hwgen.top.kv_port import KvBus, kv_bus_ports
from hwgen.units.vector_buffer import VectorBuffer

#: Shapes of the KV cache, or of what has its place.
CACHES = {
    "smallest": dict(entries=1, slots=1, context=1, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, head_dim=2,
                     hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=2),
    # 3 words in a row, 3 slots of 3 blocks, 3 layers of 3 heads
    "odd": dict(slots=3, context=11, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3, head_dim=6,
                vector_lanes=2,
                attention_lanes=2, kv_block=4, kv_blocks=7),
    "positions": dict(slots=4, context=6, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
                      vector_lanes=2,
                      attention_lanes=2, kv_block=1, kv_blocks=10, kv_ecc=True),
}
# blocks behind the window are given back: one in each cycle; and a window, with the entries of a pass, of no whole
# number of blocks
CACHES["window_1"] = {**CACHES["positions"], "entries": 1, "context": 9, "kv_blocks": 3, "sliding_window": 1,
                      "kv_ecc": False}
CACHES["window"] = {**CACHES["odd"], "entries": 3, "context": 22, "kv_blocks": 8, "sliding_window": 5}
CACHES["one_window"] = {**CACHES["window"], "slots": 1, "kv_blocks": 3, "num_hidden_layers": 1}
# several rows at once: blocks of some groups, of one, and behind a window
CACHES["rows"] = {**CACHES["odd"], "head_dim": 2, "attention_rows": 2}
CACHES["rows_block"] = {**CACHES["odd"], "head_dim": 4, "attention_lanes": 4, "attention_rows": 4,
                        "num_hidden_layers": 2}
CACHES["rows_window"] = {**CACHES["rows_block"], "entries": 3, "context": 22, "kv_blocks": 7, "sliding_window": 5,
                         "attention_rows": 2}
CACHES["rows_single"] = {**CACHES["smallest"], "context": 7, "kv_block": 4, "attention_rows": 4}
CACHES["corrected"] = {**CACHES["odd"], "kv_ecc": True, "kv_blocks": 0}
#: And with all neighbours.
SYSTEMS = {
    "smallest": dict(entries=1, slots=1, context=5, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, head_dim=2,
                     hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=2),
    # a window that begins in blocks and at their edges, in one of two layers
    "words": dict(entries=3, slots=2, context=16, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                  vector_lanes=2,
                  attention_lanes=4, kv_block=4, layer_types=[{"window": 3}, {}]),
    "rows": dict(entries=3, slots=2, context=16, num_attention_heads=4, num_key_value_heads=2, head_dim=4,
                 vector_lanes=2, attention_lanes=4, attention_rows=4, kv_block=8, layer_types=[{"window": 3}, {}]),
}


class HeadsToAttention(wiring.Component):
    """Slots are admitted at ``ask``, heads come in at ``w``; commands to write keys and values, and to attend, must not
    overlap."""

    def __init__(self, design):
        self._parts = (
            VectorBuffer(rows=design.hw.entries * design.qkv_heads, length=design.padded_head_dim,
                         write_lanes=design.hw.vector_lanes,
                         read_lanes=design.hw.attention_lanes, fmt=design.recipe.kv_format,
                         meta=head_meta_layout(make.kv_sizes(design))),
            make.kv_writer(design), KvBus(design) if design.hw.kv_port else make.kv_cache(design),
            make.attention(design))
        self._bus = {**kv_bus_ports(design), "base": In(32)} if design.hw.kv_port else {}
        qkv, writer, cache, attention = self._parts
        super().__init__({"ask": In(cache.ask.signature.flip()), "w": In(qkv.w.signature.flip()),
                          "kv_cmd": In(writer.cmd.signature.flip()),
                          "cmd": In(attention.cmd.signature.flip()), "o": Out(attention.o.signature), "kv_done": Out(1),
                          "done": Out(1),
                          "attending": In(1), **self._bus})

    def elaborate(self, platform):
        m = Module()
        m.submodules.qkv, m.submodules.writer, m.submodules.cache, m.submodules.attention = self._parts
        qkv, writer, cache, attention = self._parts
        connect(m, flipped(self.ask), cache.ask)
        connect(m, flipped(self.w), qkv.w)
        connect(m, flipped(self.kv_cmd), writer.cmd)
        connect(m, flipped(self.cmd), attention.cmd)
        connect(m, attention.o, flipped(self.o))
        connect(m, writer.write, cache.write)
        for name in ("jobs",) if self._bus else ("k_req", "v_req"):
            connect(m, getattr(attention, name), getattr(cache, name))
        for name in ("k_o", "v_o"):
            connect(m, getattr(cache, name), getattr(attention, name))
        for name, member in self._bus.items():
            outside, inside = getattr(self, name), getattr(cache, name)
            m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)
        for user, answers, selected in ((writer.r, writer.i, ~self.attending),
                                        (attention.q_r, attention.q_i, self.attending)):
            with m.If(selected):
                m.d.comb += [qkv.r.valid.eq(user.valid), user.ready.eq(qkv.r.ready), qkv.r.payload.eq(user.payload),
                             answers.valid.eq(qkv.o.valid), qkv.o.ready.eq(answers.ready)]
            m.d.comb += answers.payload.eq(qkv.o.payload)
        m.d.comb += [self.kv_done.eq(writer.done), self.done.eq(attention.done)]
        return m
