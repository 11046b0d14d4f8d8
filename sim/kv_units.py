"""The qkv buffer with everything that reads it: KV writer, KV cache (or what has its place where keys and values are
outside) and attention, wired as in the decoder."""
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen.lib.layouts import head_meta_layout
from hwgen.top import make
from hwgen.top.kv_port import KvBus, kv_bus_ports
from hwgen.units.vector_buffer import VectorBuffer


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
