"""Whose the blocks of the KV memory are: the inductive invariants of `KvBlocks`, and what slots read through them."""
from types import SimpleNamespace

from amaranth.hdl import Array, Cat, Const, Mux, Signal

from hwgen.lib.layouts import ADMIT
from hwgen.params.errors import ErrorCode
from hwgen.top import make
from hwgen.units.kv_blocks import Slots
from sim.designs import small_design

from .broken import Break
from .harness import Harness
from .proofs import Proof
from .stream import gives, takes

__all__ = ["PROOFS"]


def _count(bits):
    """How many are 1."""
    return sum(bits, Const(0, 1))


def assumed_of_admission(h, ask, design):
    """What `Admission` keeps (`formal.admission` proves it): requests wait unchanged, of a slot that there is, for a
    position in the context. Returns that there was one that was not taken."""
    h.assume(~ask.valid | (ask.p.slot < design.hw.slots) & ((ask.p.op != ADMIT) | (ask.p.length < design.hw.context)))
    return takes(h, ask)


def _harness(design):
    hw, unit = design.hw, make.kv_blocks(design)
    h = Harness(unit)
    ask, m = unit.ask, h.m
    inside = SimpleNamespace(**{name.lstrip("_"): value for name, value in vars(unit._inside).items()})
    waited = assumed_of_admission(h, ask, design)
    gives(h, unit.copy, "copy")
    slots, per_slot, blocks, size = range(hw.slots), range(hw.blocks_per_slot), range(hw.blocks), hw.kv_block

    def rows(name, count):
        """All rows of one of the unit's memories."""
        found = []
        for k in range(count):
            port = getattr(inside.m.submodules, name).read_port(domain="comb")
            m.d.comb += port.addr.eq(k)
            found.append(port.data)
        return found

    entries, owners = rows("table", hw.slots * hw.blocks_per_slot), rows("owners", hw.blocks)
    freed = rows("freed", hw.blocks)
    table = [entries[s * hw.blocks_per_slot:(s + 1) * hw.blocks_per_slot] for s in slots]
    lengths, own, take_at = list(inside.lengths), inside.own, inside.take_at
    put_at, queued, unused = inside.put_at, inside.queued, inside.unused
    ready, decide, look, copy, walk = map(h.state, ("READY", "DECIDE", "LOOK", "COPY", "WALK"))
    fork, first, end, step = inside.fork, inside.first, inside.end, inside.step
    asked = [ask.p.slot == s for s in slots]
    other = [ask.p.other == s for s in slots]
    admits, operates = ask.valid & (ask.p.op == ADMIT), ask.valid & (ask.p.op != ADMIT)
    admitted = admits & ask.ready & (unit.error == ErrorCode.OK)

    # -- which entries of the table name a block that is the slot's
    live = {}
    for s in slots:
        for b in per_slot:
            there = lengths[s] > b * size
            is_last = there & (lengths[s] <= (b + 1) * size)
            live[s, b] = Signal(name=f"live{s}_{b}")
            m.d.comb += live[s, b].eq(Mux(
                walk & fork & other[s], b < step, Mux(
                    walk & ~fork & asked[s], there & ((b < first) | (b >= step)), Mux(
                        copy & asked[s], there & ~is_last, there))))
    named = {(s, b, p): live[s, b] & (table[s][b] == p) for s in slots for b in per_slot for p in blocks}
    refs = [Signal(range(hw.slots * hw.blocks_per_slot + 1), name=f"refs{p}") for p in blocks]
    m.d.comb += [refs[p].eq(_count(named[s, b, p] for s in slots for b in per_slot)) for p in blocks]

    # -- the free list: a ring of those that were freed, and all from ``unused`` on
    index = [Mux(take_at + k >= hw.blocks, take_at + k - hw.blocks, take_at + k) for k in blocks]
    ring = Array(freed)
    waits = {(k, p): (k < queued) & (ring[index[k]] == p) for k in blocks for p in blocks}
    waiting = [_count(waits[k, p] for k in blocks) for p in blocks]

    h.always("numbers", (take_at < hw.blocks) & (put_at < hw.blocks) & (queued <= unused) & (unused <= hw.blocks)
             & (ready | decide | look | copy | walk)
             & (put_at == Mux(take_at + queued >= hw.blocks, take_at + queued - hw.blocks, take_at + queued))
             & Cat(length <= hw.context for length in lengths).all())
    h.never("unknown_free", Cat((k < queued) & (ring[index[k]] >= unused) for k in blocks).any())
    h.never("unknown_owned", Cat(live[at] & (table[at[0]][at[1]] >= unused) for at in live).any())
    h.never("two_states", Cat((waiting[p] + (refs[p] != 0) + (p >= unused)) > 1 for p in blocks).any())
    h.never("leak", Cat((waiting[p] == 0) & (refs[p] == 0) & (p < unused) for p in blocks).any())
    h.never("miscounted", Cat((refs[p] != 0) & (refs[p] != owners[p]) for p in blocks).any())
    h.never("twice_in_a_slot", Cat(_count(named[s, b, p] for b in per_slot) > 1 for s in slots for p in blocks).any())
    h.never("own_but_shared", Cat(own[s] & ~(walk & asked[s]) & ((lengths[s] == 0) | Cat(
        named[s, b, p] & (lengths[s] <= (b + 1) * size) & (refs[p] > 1) for b in per_slot for p in blocks).any())
        for s in slots).any())

    # -- what the states say of the request
    length, offset = inside.length, ask.p.length % size
    h.never("state", ~ready & (~waited | (length != Array(lengths)[ask.p.slot])
                               | (inside.asked.as_value() != ask.p.as_value()))
            | (look | copy) & ((ask.p.op != ADMIT) | (ask.p.length != length) | (offset == 0)
                               | own.bit_select(ask.p.slot, 1)
                               | (inside.physical != Array(entries)[ask.p.slot * hw.blocks_per_slot
                                                                    + ask.p.length // size]))
            | copy & (~inside.free | ~Cat((inside.physical == p) & (refs[p] != 0) for p in blocks).any())
            | walk & ((ask.p.op == ADMIT) | (step < first) | (step >= end) | (inside.to > length))
            | walk & fork & ((ask.p.other == ask.p.slot) | (ask.p.other >= hw.slots)
                             | Cat(other[s] & (lengths[s] != 0) for s in slots).any()
                             | Cat((b < step) & (entry != kept) for b in per_slot for entry, kept in [(
                                 Array(entries)[ask.p.other * hw.blocks_per_slot + b],
                                 Array(entries)[ask.p.slot * hw.blocks_per_slot + b])]).any()))

    # -- what a slot reads: each position has a bit, and a copy of the bits by slots, as software sees them
    bits = [[Signal(name=f"bit{p}_{k}") for k in range(size)] for p in blocks]
    meant = [[Signal(name=f"meant{s}_{x}") for x in range(hw.context)] for s in slots]
    # admitted since the last operation: may be written
    fresh = [[Signal(name=f"fresh{s}_{x}") for x in range(hw.context)] for s in slots]
    written = [[Signal(name=f"written{s}_{x}") for x in range(hw.context)] for s in slots]
    write, data = h.free("write_valid", 1), h.free("write_data", 1)
    w = unit.write
    for s in slots:
        for x in range(hw.context):
            here = write & (w.slot == s) & (w.position == x) & fresh[s][x] & w.known & ready & ~operates
            with m.If(admitted & asked[s] & (ask.p.length == x)):
                m.d.sync += [fresh[s][x].eq(1), written[s][x].eq(0)]
            with m.If(operates):
                m.d.sync += fresh[s][x].eq(0)
            with m.If(here):
                m.d.sync += [meant[s][x].eq(data), written[s][x].eq(1)]
                for p in blocks:
                    with m.If(w.physical == p):
                        m.d.sync += bits[p][x % size].eq(data)
            with m.If(operates & ask.ready & (unit.error == ErrorCode.OK) & fork & other[s] & (x < ask.p.length)):
                for t in slots:
                    with m.If(asked[t]):
                        m.d.sync += [meant[s][x].eq(meant[t][x]), written[s][x].eq(written[t][x])]
    with m.If(unit.copy.valid & unit.copy.ready):
        for old in blocks:
            for new in blocks:
                for k in range(size):
                    with m.If((unit.copy.p.old == old) & (unit.copy.p.new == new) & (k < unit.copy.p.count)):
                        m.d.sync += bits[new][k].eq(bits[old][k])
    h.never("written_but_shared", Cat(fresh[s][x] & ~operates & ((x >= lengths[s]) | Cat(
        (table[s][x // size] == p) & (refs[p] != 1) for p in blocks).any()) for s in slots
        for x in range(hw.context)).any())
    h.never("foreign_read", Cat((x < lengths[s]) & written[s][x]
                                & Cat((table[s][x // size] == p) & (bits[p][x % size] != meant[s][x])
                                                                       for p in blocks).any()
                                for s in slots for x in range(hw.context)).any())
    k = unit.k
    h.never("wrong_place", Cat(k.known & (k.slot == s) & (k.position // size == b)
                               & ((k.physical != table[s][b]) | (lengths[s] <= k.position))
                               for s in slots for b in per_slot).any())
    return h


def _design(slots, context, size, blocks):
    return small_design(slots=slots, context=context, kv_block=size, kv_blocks=blocks)


#: (slots, positions of each, positions of a block, blocks): with too few blocks and with enough, a last block that is
#: never full, blocks of one position
SHAPES = [(2, 4, 2, 3), (2, 4, 2, 4), (3, 3, 2, 4), (2, 8, 4, 3), (2, 3, 1, 4)]

_BREAKS = {name: Break(Slots, old, new) for name, old, new in [
    ("copy_withdrawn", "with m.If(copy.ready):", "with m.If(1):"),
    ("copy_changed", "unit.copy.p.old.eq(physical)", "unit.copy.p.old.eq(physical ^ unit.copy.ready)"),
    ("numbers", "self._put_at.eq(self._after(self._put_at))", "self._put_at.eq(self._put_at)"),
    ("unknown_free", "self._set_newest.data.eq(in_table.data)", "self._set_newest.data.eq(in_table.data + 1)"),
    ("unknown_owned", "oldest.data, unused)", "oldest.data, unused + 1)"),
    ("two_states", "with m.If(dropped.data == 1):", "with m.If(1):"),
    ("leak", "with m.If(dropped.data == 1):", "with m.If(0):"),
    ("miscounted", "set_owned.data.eq(self._dropped.data + 1)", "set_owned.data.eq(self._dropped.data)"),
    ("twice_in_a_slot", "self._unused.eq(self._unused + 1)", "self._unused.eq(self._unused)"),
    ("own_but_shared", "m.d.sync += self._own.bit_select(asked.slot, 1).eq(0)",
     "m.d.sync += self._own.bit_select(asked.slot, 1).eq(1)"),
    ("state", "m.d.sync += self._step.eq(self._first)", "m.d.sync += self._step.eq(0)"),
    ("written_but_shared", "with m.If(owned.data == 1):", "with m.If(owned.data != 0):"),
    ("foreign_read", "unit.copy.p.count.eq(used)", "unit.copy.p.count.eq(used >> 1)"),
    ("wrong_place", "port.position < self._lengths[port.slot]", "port.position <= self._lengths[port.slot]"),
]}

PROOFS = [Proof("KvBlocks", f"{slots} slots of {context} positions, {blocks} blocks of {size}",
                lambda shape=(slots, context, size, blocks): _harness(_design(*shape)), "induction 1",
                _BREAKS if not k else {}, depth=16)
          for k, (slots, context, size, blocks) in enumerate(SHAPES)]
