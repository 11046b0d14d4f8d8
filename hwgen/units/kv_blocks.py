"""Lengths of the slots of the KV memory, and the blocks that they live in."""
from amaranth.hdl import Array, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.layouts import ADMIT, ERROR_BITS, ask_layout
from ..params.errors import ErrorCode, KvOp

__all__ = ["KvBlocks", "Slots", "scaled"]


def scaled(value, factor):
    """``value * factor`` for a constant, as shifted sums and differences of the fewest terms: combinational."""
    total, shift, rest = Const(0, 1), 0, factor
    while rest:
        if rest & 1:
            digit = 2 - (rest & 3)                        # -1 where the next bit is 1 too
            total = total + (value << shift) if digit > 0 else total - (value << shift)
            rest -= digit
        rest, shift = rest >> 1, shift + 1
    return total[:(((1 << len(value)) - 1) * factor).bit_length()]


class KvBlocks(wiring.Component):
    """Lengths of the slots, and which physical block holds a block of a slot: block table, owners of each block, free
    list.

    A request is taken in the cycle in which it is done, and ``error`` says in that cycle how: the second one at the
    earliest, for the first finds the slot's length (a single slot's is at hand). ``ADMIT`` makes room for a slot's next
    position: then, unless its last block may have another owner; then the next cycle looks, and if it has one, ``copy``
    asks for a copy of the block, whose last cycle is the request's too. FORK and TRUNCATE take a cycle for each block
    that they share or drop, and one. `hwgen.golden.kv_cache.KvBlocks` says the same in Python.

    Where all layers have a window (``kept``), an admission may first give back the block that is then
    behind it, which takes two cycles. ``known`` says no for its positions.

    Free blocks are a queue of those that were freed and, behind it, all that have never been used: so a reset takes no
    time. A single slot owns all blocks of a whole context, in order: then there is only its length.

    Parameters
    ----------
    slots : int
    context : int           positions of a slot
    kv_block : int          positions of a block: a power of two
    blocks : int
    kept : int or None      the newest positions that a slot keeps; None: all
    seen : int or None      with ``kept``: positions that attention of an entry looks at, its own included

    Members
    -------
    ask : In(stream)            `ask_layout`: {op, slot, other, length}; the slot must be one of the memory's, and an
                                ADMIT's length below the context
    error : Out                 `ErrorCode` of the request that is taken
    copy : Out(stream)          {old, new, count}: copy the first ``count`` positions of a block; taken in the copy's
                                last cycle
    write, k, v                 In {slot, position}, Out {physical, known}: the block of a position, and whether the
                                slot has come so far; combinational
    """

    def __init__(self, *, slots, context, kv_block, blocks, kept=None, seen=None):
        self.slots, self.context, self.kv_block, self.blocks, self.kept, self.seen = (
            slots, context, kv_block, blocks, kept, seen)
        physical = range(blocks)
        lookup = wiring.Signature({"slot": In(range(slots)), "position": In(range(context)),
                                   "physical": Out(physical), "known": Out(1)})
        copy = data.StructLayout({"old": physical, "new": physical, "count": range(kv_block)})
        super().__init__({
            "ask": In(stream.Signature(ask_layout(slots=slots, context=context))), "error": Out(ERROR_BITS),
            "copy": Out(stream.Signature(copy)),
            "write": Out(lookup), "k": Out(lookup), "v": Out(lookup),
        })

    @property
    def blocks_per_slot(self):
        """Blocks of a full slot."""
        return -(-self.context // self.kv_block)

    @property
    def offset_bits(self):
        """Of a position: those of the offset in its block."""
        return self.kv_block.bit_length() - 1

    @property
    def paged(self):
        """Slots find their blocks through a table; a single slot with all that it can fill has them in order."""
        return self.slots > 1 or self.blocks < self.blocks_per_slot

    def elaborate(self, platform):
        m = Module()
        lengths = Array(Signal(range(self.context + 1), name=f"length{i}") for i in range(self.slots))
        self._inside = (Slots if self.paged else _SingleSlot)(m, self, lengths)     # for proofs
        return m


class _Answers:
    """Answers, in module ``m`` of ``unit``, a `KvBlocks`, to what is ``asked`` of a slot that has come to ``length``.

    ``fork``: the request is a FORK; ``to``: the length that it leaves. A rule is (it is broken, the error):
    ``not_next`` of an admission, ``too_long`` of the other requests.
    """

    def __init__(self, m, unit, asked, length):
        self._m, self._unit, self._asked, self._length = m, unit, asked, length
        self._fork, self._to = asked.op == KvOp.FORK, Mux(asked.op == KvOp.FREE, 0, asked.length)
        self._not_next = (asked.length != length,
                          Mux(length == unit.context, ErrorCode.CONTEXT, ErrorCode.POSITION))
        self._too_long = (self._to > length, ErrorCode.LENGTH)

    def _answer(self, error=ErrorCode.OK):
        """The request is done, in this cycle."""
        self._m.d.comb += [self._unit.ask.ready.eq(1), self._unit.error.eq(error)]

    def _refuse(self, *rules):
        """The first rule that is broken is the answer. ``m.Else()`` follows."""
        for index, (broken, error) in enumerate(rules):
            with self._m.Elif(broken) if index else self._m.If(broken):
                self._answer(error)


class _SingleSlot(_Answers):
    """A slot that owns all blocks, in order: a request is done in the cycle in which it comes."""

    def __init__(self, m, unit, lengths):
        ask, length = unit.ask, Signal.like(lengths[0], name="length")
        m.d.comb += length.eq(lengths[ask.p.slot])
        super().__init__(m, unit, ask.p, length)
        with m.If(ask.valid & (ask.p.op == ADMIT)):
            self._refuse(self._not_next)
            with m.Else():
                self._answer()
                m.d.sync += lengths[0].eq(length + 1)
        with m.Elif(ask.valid):
            self._refuse((self._fork, ErrorCode.OTHER), self._too_long)
            with m.Else():
                self._answer()
                m.d.sync += lengths[0].eq(self._to)
        for port in (unit.write, unit.k, unit.v):
            m.d.comb += [port.physical.eq(port.position[unit.offset_bits:]), port.known.eq(1)]


class Slots(_Answers):
    """Several slots, whose blocks are found through a table.

    The length is one of several, and much follows from it and from the request: so both have a cycle of their own.
    """

    def __init__(self, m, unit, lengths):
        ask = unit.ask
        length, asked = Signal.like(lengths[0], name="length"), Signal(ask.p.shape(), reset_less=True, name="asked")
        m.d.sync += [length.eq(lengths[ask.p.slot]), asked.eq(ask.p)]
        super().__init__(m, unit, asked, length)
        self._lengths, self._block_shape = lengths, unsigned(max(1, len(unit.copy.p.old)))
        if unit.kept:
            self._find_what_is_behind()
        self._make_memories()
        self._look_up()
        self._make_free_list()
        self._find_block()
        with m.FSM():
            with m.State("READY"):
                with m.If(ask.valid):
                    m.next = "DECIDE"
            with m.State("DECIDE"):
                self._decide()
            with m.State("LOOK"):
                self._look()
            with m.State("COPY"):
                self._copy()
            with m.State("WALK"):
                self._walk()
            if unit.kept:
                with m.State("BEHIND"):
                    self._give_back()

    # -- what is stored

    def _find_what_is_behind(self):
        """Blocks that each slot has given back: all before the positions that it keeps. ``_newly``: the first position
        that is kept when the next one is admitted."""
        m, unit, asked, to = self._m, self._unit, self._asked, self._to
        self._behinds = Array(Signal(range(unit.blocks_per_slot), name=f"behind{i}") for i in range(unit.slots))
        self._behind = Signal.like(self._behinds[0], name="behind")
        self._newly = Signal(signed(len(asked.length) + 2), name="$signal")     # a result without a name
        m.d.comb += [self._behind.eq(self._behinds[asked.slot]), self._newly.eq(asked.length + (1 - unit.kept))]
        seen = (self._behind << unit.offset_bits) + unit.seen
        self._out_of_sight = (to != 0) & (self._behind != 0) & (to + 1 < seen), ErrorCode.WINDOW

    def _make_memories(self):
        """The block of each slot's blocks (``table``), the owners of each block, and a ring of those that were
        freed."""
        unit = self._unit

        def store(name, shape, depth):
            self._m.submodules[name] = made = memory.Memory(shape=shape, depth=max(2, depth), init=[])
            return made, made.read_port(domain="comb"), made.write_port()

        self._table, self._in_table, self._set_table = store("table", self._block_shape,
                                                            unit.slots * unit.blocks_per_slot)
        owners, self._owned, self._set_owned = store("owners", range(unit.slots + 1), unit.blocks)
        # a port of its own: no way from the table through it to an admission's answer
        self._dropped = owners.read_port(domain="comb")
        _, self._oldest, self._set_newest = store("freed", self._block_shape, unit.blocks)

    def _row(self, slot, block):
        """Of the table."""
        return scaled(slot, self._unit.blocks_per_slot) + block

    def _look_up(self):
        """Where positions are, for those who read and write them."""
        m, unit = self._m, self._unit
        for port in (unit.write, unit.k, unit.v):
            read = self._table.read_port(domain="comb")
            known = port.position < self._lengths[port.slot]
            if unit.kept:
                known &= port.position[unit.offset_bits:] >= self._behinds[port.slot]
            m.d.comb += [read.addr.eq(self._row(port.slot, port.position[unit.offset_bits:])),
                         port.physical.eq(read.data), port.known.eq(known)]

    def _make_free_list(self):
        """The next block is the ``_candidate``, if one is ``_free``: the one freed first, or the first that has never
        been used."""
        m, blocks = self._m, range(self._unit.blocks)
        # where in the ring the next block is taken, and where the next one that is freed goes
        take_at, put_at = Signal(blocks, name="head"), Signal(blocks, name="tail")
        queued, unused = Signal(range(len(blocks) + 1), name="queued"), Signal(range(len(blocks) + 1), name="unused")
        free, candidate = Signal(name="free"), Signal(self._block_shape, name="candidate")
        m.d.comb += [self._oldest.addr.eq(take_at), self._set_newest.addr.eq(put_at),
                     free.eq((queued != 0) | (unused != self._unit.blocks)),
                     candidate.eq(Mux(queued != 0, self._oldest.data, unused))]
        self._take_at, self._put_at, self._queued, self._unused = take_at, put_at, queued, unused
        self._free, self._candidate = free, candidate

    def _after(self, pointer):
        return Mux(pointer == self._unit.blocks - 1, 0, pointer + 1)

    def _find_block(self):
        """The block in question: that of the next position, whose ``physical`` block and owners are looked at, or those
        from ``first`` to ``end``, over which ``step`` goes. And what copies of blocks are about."""
        m, unit, asked, bits = self._m, self._unit, self._asked, self._unit.offset_bits

        def blocks_of(positions):
            return (positions + (unit.kv_block - 1))[bits:]

        self._own = Signal(unit.slots, name="own")      # known: the slot's last block is its alone
        self._used = used = asked.length[:bits]             # positions of the last block that are taken
        self._step, self._first, self._end = (Signal(range(unit.blocks_per_slot + 1), name=name)
                                              for name in ("step", "first", "end"))
        self._physical = physical = Signal(self._block_shape, name="physical", reset_less=True)
        if unit.kept:
            first = Mux((self._to == 0) ^ self._fork, self._behind, blocks_of(self._to))
        else:
            first = Mux(self._fork, 0, blocks_of(self._to))
        in_table, set_table, set_owned = self._in_table, self._set_table, self._set_owned
        m.d.comb += [self._first.eq(first), self._end.eq(blocks_of(Mux(self._fork, asked.length, self._length))),
                     in_table.addr.eq(self._row(asked.slot, asked.length[bits:])), self._owned.addr.eq(physical),
                     self._dropped.addr.eq(in_table.data),
                     set_table.addr.eq(self._row(asked.slot, asked.length[bits:])), set_table.data.eq(self._candidate),
                     set_owned.addr.eq(physical), self._set_newest.data.eq(in_table.data),
                     unit.copy.p.old.eq(physical), unit.copy.p.new.eq(self._candidate), unit.copy.p.count.eq(used)]

    # -- what is done, in one cycle

    def _take_candidate(self):
        """It becomes the slot's last block, and its alone."""
        m, set_owned = self._m, self._set_owned
        m.d.comb += [self._set_table.en.eq(1), set_owned.en.eq(1), set_owned.addr.eq(self._candidate),
                     set_owned.data.eq(1)]
        with m.If(self._queued != 0):
            m.d.sync += [self._take_at.eq(self._after(self._take_at)), self._queued.eq(self._queued - 1)]
        with m.Else():
            m.d.sync += self._unused.eq(self._unused + 1)

    def _admit(self):
        self._answer()
        slot = self._asked.slot
        self._m.d.sync += [self._lengths[slot].eq(self._length + 1), self._own.bit_select(slot, 1).eq(1)]

    def _set_length(self):
        """Of the slot, or of the one that a FORK goes to."""
        m, asked, to = self._m, self._asked, self._to
        with m.If(self._fork):
            m.d.sync += self._lengths[asked.other].eq(to)
        with m.Else():
            m.d.sync += self._lengths[asked.slot].eq(to)
        if self._unit.kept:
            m.d.sync += self._behinds[Mux(self._fork, asked.other, asked.slot)].eq(Mux(to == 0, 0, self._behind))

    def _drop(self):
        """The block that is found ``in_table`` has an owner less."""
        m, dropped = self._m, self._dropped
        m.d.comb += [self._set_owned.data.eq(dropped.data - 1), self._set_newest.en.eq(dropped.data == 1)]
        with m.If(dropped.data == 1):
            m.d.sync += [self._put_at.eq(self._after(self._put_at)), self._queued.eq(self._queued + 1)]

    # -- the states

    def _decide(self):
        """What is asked, and whether it needs more than this cycle."""
        m, asked = self._m, self._asked
        m.next = "READY"
        if self._unit.kept:
            is_next = (asked.op == ADMIT) & (asked.length == self._length)
            with m.If(is_next & ((self._newly >> self._unit.offset_bits) > self._behind)):
                m.next = "BEHIND"
        with (m.Elif if self._unit.kept else m.If)(asked.op == ADMIT):
            self._decide_admission()
        with m.Else():
            self._decide_operation()

    def _decide_admission(self):
        m, used = self._m, self._used
        self._refuse(self._not_next, ((used == 0) & ~self._free, ErrorCode.NO_BLOCK))
        with m.Elif(used == 0):
            self._take_candidate()
            self._admit()
        with m.Elif(self._own.bit_select(self._asked.slot, 1)):
            self._admit()
        with m.Else():
            m.d.sync += self._physical.eq(self._in_table.data)
            m.next = "LOOK"

    def _decide_operation(self):
        m, asked, fork = self._m, self._asked, self._fork
        out_of_sight = [self._out_of_sight] if self._unit.kept else []
        self._refuse((fork & ((asked.other == asked.slot) | (asked.other >= self._unit.slots)), ErrorCode.OTHER),
                     self._too_long, *out_of_sight, (fork & (self._lengths[asked.other] != 0), ErrorCode.OCCUPIED))
        with m.Elif(self._first == self._end):
            self._answer()
            self._set_length()
        with m.Else():
            m.d.sync += self._step.eq(self._first)
            m.next = "WALK"

    def _look(self):
        """Whether the last block has another owner."""
        m, owned, set_owned = self._m, self._owned, self._set_owned
        with m.If(owned.data == 1):
            self._admit()
            m.next = "READY"
        with m.Elif(~self._free):
            self._answer(ErrorCode.NO_BLOCK)
            m.next = "READY"
        with m.Else():
            m.d.comb += [set_owned.en.eq(1), set_owned.data.eq(owned.data - 1)]
            m.next = "COPY"

    def _copy(self):
        """Then the slot gets a copy of it."""
        m, copy = self._m, self._unit.copy
        m.d.comb += copy.valid.eq(1)
        with m.If(copy.ready):
            self._take_candidate()
            self._admit()
            m.next = "READY"

    def _walk(self):
        """Over the blocks that are shared or dropped, one a cycle."""
        m, asked, in_table = self._m, self._asked, self._in_table
        set_table, set_owned = self._set_table, self._set_owned
        m.d.comb += [in_table.addr.eq(self._row(asked.slot, self._step)), set_owned.addr.eq(in_table.data),
                     set_owned.en.eq(1)]
        with m.If(self._fork):
            m.d.comb += [set_table.en.eq(1), set_table.addr.eq(self._row(asked.other, self._step)),
                         set_table.data.eq(in_table.data), set_owned.data.eq(self._dropped.data + 1)]
        with m.Else():
            self._drop()
        m.d.sync += self._step.eq(self._step + 1)
        with m.If(self._step + 1 == self._end):
            self._answer()
            self._set_length()
            m.d.sync += self._own.bit_select(asked.slot, 1).eq(0)
            with m.If(self._fork):
                m.d.sync += self._own.bit_select(asked.other, 1).eq(0)
            m.next = "READY"

    def _give_back(self):
        """The first block behind the window."""
        m, slot, in_table = self._m, self._asked.slot, self._in_table
        m.d.comb += [in_table.addr.eq(self._row(slot, self._behind)), self._set_owned.addr.eq(in_table.data),
                     self._set_owned.en.eq(1)]
        self._drop()
        m.d.sync += self._behinds[slot].eq(self._behind + 1)
        m.next = "DECIDE"
