"""Keys and values of all slots, as FP8 rows with an exponent each, and the engine that writes them."""
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.layouts import (EXP_BITS, head_meta_layout, head_read_layout, k_row_layout, kv_read_layout, kv_write_layout,
                           place_layout, slice_layout, v_row_layout)
from ..lib.ram import BlockRam

__all__ = ["ContiguousBlocks", "KvCache", "KvWriter"]


class ContiguousBlocks:
    """Which physical block holds a block of a slot. Here each slot owns its blocks; a table would take this class's place.

    Parameters
    ----------
    design : Design

    Attributes
    ----------
    count : int         physical blocks in all
    """

    def __init__(self, design):
        self._per_slot = design.hw.blocks_per_slot
        self.count = design.hw.slots * self._per_slot

    def physical(self, slot, block):
        """Combinational: the physical block of block ``position // kv_block`` of a slot."""
        return _times(slot, self._per_slot) + block


class KvCache(wiring.Component):
    """The KV-SRAM: a row of FP8 codes and an exponent for each (slot, layer, K/V head, position), for K and for V.

    A row is written and read in parts of A codes (`attention_lanes`). Writes are always taken. A request that is taken
    in cycle s is answered in cycle s + 3 or, if the answers before it wait, when those are gone; one per cycle, K and V
    independently, in order. It sees the writes that were taken before cycle s. A K row comes with the exponent of the V row of
    its position, which must be written too. A row that was never written is undefined.

    A position is a block, ``position // kv_block``, and an offset in it; `ContiguousBlocks` says where the block is.

    Parameters
    ----------
    design : Design

    Members
    -------
    write : In(stream)      `kv_write_layout`: {value (1 = V), slot, layer, head, position, part, codes, exp}
    k_req, v_req : In(stream)   `kv_read_layout`: {slot, layer, head, position, part, last}
    k_o : Out(stream)       `k_row_layout`: {codes, exp, v_exp, last}
    v_o : Out(stream)       `v_row_layout`: {codes, last}
    """

    def __init__(self, design):
        self._design = design
        super().__init__({
            "write": In(stream.Signature(kv_write_layout(design))),
            "k_req": In(stream.Signature(kv_read_layout(design))), "k_o": Out(stream.Signature(k_row_layout(design))),
            "v_req": In(stream.Signature(kv_read_layout(design))), "v_o": Out(stream.Signature(v_row_layout(design))),
        })

    def elaborate(self, platform):
        m = Module()
        design = self._design
        lanes, parts = design.hw.attention_lanes, design.head // design.hw.attention_lanes
        block_bits = design.hw.kv_block.bit_length() - 1
        blocks = ContiguousBlocks(design)

        def register(value, name):
            signal = Signal.like(value, reset_less=True, name=name)
            m.d.sync += signal.eq(value)
            return signal

        rows = design.layers * design.kv_heads * blocks.count * design.hw.kv_block

        m.submodules.k_codes = k_codes = BlockRam(8 * lanes, rows * parts)
        m.submodules.v_codes = v_codes = BlockRam(8 * lanes, rows * parts)
        m.submodules.k_exps = k_exps = BlockRam(EXP_BITS, rows)
        m.submodules.v_exps = v_exps = BlockRam(EXP_BITS, rows)

        def addresses(p, name):
            """(row, word) of a row's part, combinational."""
            offset, block = p.position[:block_bits], blocks.physical(p.slot, p.position[block_bits:])
            line = _times(p.layer, design.kv_heads) + p.head
            row, word = Signal(range(rows), name=f"{name}_row_address"), Signal(range(rows * parts), name=f"{name}_address")
            m.d.comb += [row.eq(Cat(offset, Const(0, block_bits - len(offset)), _times(line, blocks.count) + block)),
                         word.eq(Cat(p.part, row) if parts & (parts - 1) == 0 else _times(row, parts) + p.part)]
            return row, word

        # Write: addresses, then the memories.
        w = self.write.payload
        arrived = Signal()
        m.d.comb += self.write.ready.eq(1)
        m.d.sync += arrived.eq(self.write.valid)
        value, codes, exp, row, word = (
            register(data, name=f"write_{name}") for name, data in
            (("value", w.value), ("codes", w.codes), ("exp", w.exp), *zip(("row", "word"), addresses(w, "write"))))
        for ram, address, data, selected in ((k_codes, word, codes, ~value), (v_codes, word, codes, value),
                                             (k_exps, row, exp, ~value), (v_exps, row, exp, value)):
            m.d.comb += [ram.write_address.eq(address), ram.write_data.eq(data), ram.write_en.eq(arrived & selected)]

        # Read: addresses, memories, output registers. Each stage moves when it is empty or the next one moves.
        def read(name, request, o, codes, exps):
            addressed, fetched = Signal(name=f"{name}_addressed"), Signal(name=f"{name}_fetched")
            move = [Signal(name=f"{name}_move{k}") for k in range(3)]
            m.d.comb += [move[2].eq(~o.valid | o.ready), move[1].eq(~fetched | move[2]), move[0].eq(~addressed | move[1]),
                         request.ready.eq(move[0])]
            with m.If(move[0]):
                m.d.sync += addressed.eq(request.valid)
                row, word = (register(a, name=f"{name}_{n}") for a, n in zip(addresses(request.p, name), ("row", "word")))
                last = register(request.p.last, name=f"{name}_addressed_last")
            with m.If(move[1]):
                m.d.sync += fetched.eq(addressed)
                last = register(last, name=f"{name}_fetched_last")
            for ram, address in ((codes, word), *((e, row) for e in exps)):
                m.d.comb += [ram.read_en.eq(move[1]), ram.read_address.eq(address)]
            payload = Signal.like(o.payload, reset_less=True, name=f"{name}_payload")
            with m.If(move[2]):
                m.d.sync += [o.valid.eq(fetched), payload.codes.eq(codes.read_data), payload.last.eq(last)]
                for field, ram in zip(("exp", "v_exp"), exps):
                    m.d.sync += payload[field].eq(ram.read_data)
            m.d.comb += o.payload.eq(payload)

        read("k", self.k_req, self.k_o, k_codes, (k_exps, v_exps))
        read("v", self.v_req, self.v_o, v_codes, ())
        return m


class KvWriter(wiring.Component):
    """Copies the K and V heads of entries from the qkv buffer into the KV cache.

    For each command the K heads, then the V heads, each part by part: one request per cycle, from the cycle after the
    command was taken; the next command is taken with the last request. What comes back is written as it comes. `done` is up for
    the one cycle in which the final row of a command with ``last`` becomes readable.

    Parameters
    ----------
    design : Design

    Members
    -------
    cmd : In(stream)        `place_layout`: {entry, slot, position, layer, last}
    r : Out(stream)         `head_read_layout`: {row, part, meta}, for the qkv buffer
    i : In(stream)          `slice_layout`: {codes, exp, meta}, its answers
    write : Out(stream)     for `KvCache.write`
    done : Out(1)
    """

    def __init__(self, design):
        self._design = design
        super().__init__({
            "cmd": In(stream.Signature(place_layout(design))),
            "r": Out(stream.Signature(head_read_layout(design))),
            "i": In(stream.Signature(slice_layout(design.hw.attention_lanes, head_meta_layout(design)))),
            "write": Out(stream.Signature(kv_write_layout(design))),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        design = self._design
        parts = design.head // design.hw.attention_lanes
        cmd, r, i, write = self.cmd, self.r, self.i, self.write

        busy, final = Signal(), Signal()
        entry = Signal(place_layout(design), reset_less=True)
        value, head, part = (Signal.like(r.p.meta[field]) for field in ("value", "head", "part"))
        row = Signal.like(r.p.row, reset_less=True)
        last_part, last_head = part == parts - 1, head == design.kv_heads - 1
        m.d.comb += [final.eq(last_part & last_head & value), cmd.ready.eq(~busy | r.ready & final),
                     r.valid.eq(busy), r.p.row.eq(row), r.p.part.eq(part), r.p.meta.value.eq(value), r.p.meta.head.eq(head),
                     r.p.meta.part.eq(part), r.p.meta.last.eq(entry.last & final),
                     *(r.p.meta[field].eq(entry[field]) for field in ("slot", "layer", "position"))]
        with m.If(r.valid & r.ready):
            m.d.sync += part.eq(part + 1)
            with m.If(last_part):
                m.d.sync += [part.eq(0), head.eq(head + 1), row.eq(row + 1)]
                with m.If(last_head):
                    m.d.sync += [head.eq(0), value.eq(~value)]
        with m.If(cmd.ready):
            m.d.sync += [busy.eq(cmd.valid), entry.eq(cmd.p), row.eq(_times(cmd.p.entry, design.qkv_heads))]

        m.d.comb += [write.valid.eq(i.valid), i.ready.eq(write.ready), write.p.codes.eq(i.p.codes), write.p.exp.eq(i.p.exp),
                     *(write.p[field].eq(i.p.meta[field]) for field in ("value", "slot", "layer", "head", "position", "part"))]
        m.d.sync += self.done.eq(write.valid & write.ready & i.p.meta.last)
        return m


def _times(value, factor):
    """``value * factor`` for a constant, as shifted sums and differences of the fewest terms."""
    total, shift, rest = Const(0, 1), 0, factor
    while rest:
        if rest & 1:
            digit = 2 - (rest & 3)                        # -1 where the next bit is 1 too
            total = total + (value << shift) if digit > 0 else total - (value << shift)
            rest -= digit
        rest, shift = rest >> 1, shift + 1
    return total[:(((1 << len(value)) - 1) * factor).bit_length()]
