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

    Where all layers have a window (`Design.positions_kept`), an admission may first give back the block that is then
    behind it, which takes two cycles. ``known`` says no for its positions.

    Free blocks are a queue of those that were freed and, behind it, all that have never been used: so a reset takes no
    time. A single slot owns all blocks of a whole context, in order: then there is only its length.

    Parameters
    ----------
    design : Design

    Members
    -------
    ask : In(stream)            `ask_layout`: {op, slot, other, length}; the slot must be one of the design's, and an
                                ADMIT's length below the context
    error : Out                 `ErrorCode` of the request that is taken
    copy : Out(stream)          {old, new, count}: copy the first ``count`` positions of a block; taken in the copy's
                                last cycle
    write, k, v                 In {slot, position}, Out {physical, known}: the block of a position, and whether the
                                slot has come so far; combinational
    """

    def __init__(self, design):
        self._design = design
        hw = design.hw
        physical = range(hw.blocks)
        lookup = wiring.Signature({"slot": In(range(hw.slots)), "position": In(range(hw.context)),
                                   "physical": Out(physical), "known": Out(1)})
        copy = data.StructLayout({"old": physical, "new": physical, "count": range(hw.kv_block)})
        super().__init__({
            "ask": In(stream.Signature(ask_layout(slots=design.hw.slots, context=design.hw.context))),
            "error": Out(ERROR_BITS),
            "copy": Out(stream.Signature(copy)),
            "write": Out(lookup), "k": Out(lookup), "v": Out(lookup),
        })

    def elaborate(self, platform):
        m = Module()
        hw = self._design.hw
        lengths = Array(Signal(range(hw.context + 1), name=f"length{i}") for i in range(hw.slots))
        self._inside = (Slots if hw.paged else _SingleSlot)(m, self._design, self, lengths)     # for proofs
        return m


class _Answers:
    """Answers, in module ``m`` of `KvBlocks`, to what is ``asked`` of a slot that has come to ``length``.

    ``fork``: the request is a FORK; ``to``: the length that it leaves. A rule is (it is broken, the error):
    ``not_next`` of an admission, ``too_long`` of the other requests.
    """

    def __init__(self, m, design, ports, asked, length):
        self._m, self._design, self._ports, self._asked, self._length = m, design, ports, asked, length
        self._block_bits = design.hw.kv_block.bit_length() - 1
        self._fork, self._to = asked.op == KvOp.FORK, Mux(asked.op == KvOp.FREE, 0, asked.length)
        self._not_next = (asked.length != length,
                          Mux(length == design.hw.context, ErrorCode.CONTEXT, ErrorCode.POSITION))
        self._too_long = (self._to > length, ErrorCode.LENGTH)

    def _answer(self, error=ErrorCode.OK):
        """The request is done, in this cycle."""
        self._m.d.comb += [self._ports.ask.ready.eq(1), self._ports.error.eq(error)]

    def _refuse(self, *rules):
        """The first rule that is broken is the answer. ``m.Else()`` follows."""
        for index, (broken, error) in enumerate(rules):
            with self._m.Elif(broken) if index else self._m.If(broken):
                self._answer(error)


class _SingleSlot(_Answers):
    """A slot that owns all blocks, in order: a request is done in the cycle in which it comes."""

    def __init__(self, m, design, ports, lengths):
        ask, length = ports.ask, Signal.like(lengths[0], name="length")
        m.d.comb += length.eq(lengths[ask.p.slot])
        super().__init__(m, design, ports, ask.p, length)
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
        for port in (ports.write, ports.k, ports.v):
            m.d.comb += [port.physical.eq(port.position[self._block_bits:]), port.known.eq(1)]


class Slots(_Answers):
    """Several slots, whose blocks are found through a table.

    The length is one of several, and much follows from it and from the request: so both have a cycle of their own.
    """

    def __init__(self, m, design, ports, lengths):
        ask = ports.ask
        length, asked = Signal.like(lengths[0], name="length"), Signal(ask.p.shape(), reset_less=True, name="asked")
        m.d.sync += [length.eq(lengths[ask.p.slot]), asked.eq(ask.p)]
        super().__init__(m, design, ports, asked, length)
        self._hw, self._lengths, self._kept = design.hw, lengths, design.positions_kept
        self._block_shape = unsigned(max(1, len(ports.copy.p.old)))
        if self._kept:
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
            if self._kept:
                with m.State("BEHIND"):
                    self._give_back()

    # -- what is stored

    def _find_what_is_behind(self):
        """Blocks that each slot has given back: all before the positions that it keeps. ``_newly``: the first position
        that is kept when the next one is admitted."""
        m, asked, to = self._m, self._asked, self._to
        self._behinds = Array(Signal(range(self._hw.blocks_per_slot), name=f"behind{i}") for i in range(self._hw.slots))
        self._behind = Signal.like(self._behinds[0], name="behind")
        self._newly = Signal(signed(len(asked.length) + 2), name="$signal")     # a result without a name
        m.d.comb += [self._behind.eq(self._behinds[asked.slot]), self._newly.eq(asked.length + (1 - self._kept))]
        seen = (self._behind << self._block_bits) + self._design.rows_seen()
        self._out_of_sight = (to != 0) & (self._behind != 0) & (to + 1 < seen), ErrorCode.WINDOW

    def _make_memories(self):
        """The block of each slot's blocks (``table``), the owners of each block, and a ring of those that were
        freed."""
        hw = self._hw

        def store(name, shape, depth):
            self._m.submodules[name] = made = memory.Memory(shape=shape, depth=max(2, depth), init=[])
            return made, made.read_port(domain="comb"), made.write_port()

        self._table, self._entry, self._set_entry = store("table", self._block_shape, hw.slots * hw.blocks_per_slot)
        owners, self._owned, self._set_owned = store("owners", range(hw.slots + 1), hw.blocks)
        # a port of its own: no way from the table through it to an admission's answer
        self._dropped = owners.read_port(domain="comb")
        _, self._oldest, self._set_newest = store("freed", self._block_shape, hw.blocks)

    def _row(self, slot, block):
        """Of the table."""
        return scaled(slot, self._hw.blocks_per_slot) + block

    def _look_up(self):
        """Where positions are, for those who read and write them."""
        m, ports = self._m, self._ports
        for port in (ports.write, ports.k, ports.v):
            read = self._table.read_port(domain="comb")
            known = port.position < self._lengths[port.slot]
            if self._kept:
                known &= port.position[self._block_bits:] >= self._behinds[port.slot]
            m.d.comb += [read.addr.eq(self._row(port.slot, port.position[self._block_bits:])),
                         port.physical.eq(read.data), port.known.eq(known)]

    def _make_free_list(self):
        """The next block is the ``_candidate``, if one is ``_free``: the one freed first, or the first that has never
        been used."""
        m, blocks = self._m, range(self._hw.blocks)
        head, tail = Signal(blocks, name="head"), Signal(blocks, name="tail")
        queued, unused = Signal(range(len(blocks) + 1), name="queued"), Signal(range(len(blocks) + 1), name="unused")
        free, candidate = Signal(name="free"), Signal(self._block_shape, name="candidate")
        m.d.comb += [self._oldest.addr.eq(head), self._set_newest.addr.eq(tail),
                     free.eq((queued != 0) | (unused != self._hw.blocks)),
                     candidate.eq(Mux(queued != 0, self._oldest.data, unused))]
        self._head, self._tail, self._queued, self._unused = head, tail, queued, unused
        self._free, self._candidate = free, candidate

    def _after(self, pointer):
        return Mux(pointer == self._hw.blocks - 1, 0, pointer + 1)

    def _find_block(self):
        """The block in question: that of the next position, whose ``physical`` block and owners are looked at, or those
        from ``first`` to ``end``, over which ``step`` goes. And what copies of blocks are about."""
        m, asked, ports, bits = self._m, self._asked, self._ports, self._block_bits

        def blocks_of(positions):
            return (positions + (self._hw.kv_block - 1))[bits:]

        self._own = Signal(self._hw.slots, name="own")      # known: the slot's last block is its alone
        self._used = used = asked.length[:bits]             # positions of the last block that are taken
        self._step, self._first, self._end = (Signal(range(self._hw.blocks_per_slot + 1), name=name)
                                              for name in ("step", "first", "end"))
        self._physical = physical = Signal(self._block_shape, name="physical", reset_less=True)
        if self._kept:
            first = Mux((self._to == 0) ^ self._fork, self._behind, blocks_of(self._to))
        else:
            first = Mux(self._fork, 0, blocks_of(self._to))
        entry, set_entry, set_owned = self._entry, self._set_entry, self._set_owned
        m.d.comb += [self._first.eq(first), self._end.eq(blocks_of(Mux(self._fork, asked.length, self._length))),
                     entry.addr.eq(self._row(asked.slot, asked.length[bits:])), self._owned.addr.eq(physical),
                     self._dropped.addr.eq(entry.data),
                     set_entry.addr.eq(self._row(asked.slot, asked.length[bits:])), set_entry.data.eq(self._candidate),
                     set_owned.addr.eq(physical), self._set_newest.data.eq(entry.data),
                     ports.copy.p.old.eq(physical), ports.copy.p.new.eq(self._candidate), ports.copy.p.count.eq(used)]

    # -- what is done, in one cycle

    def _take_candidate(self):
        """It becomes the slot's last block, and its alone."""
        m, set_owned = self._m, self._set_owned
        m.d.comb += [self._set_entry.en.eq(1), set_owned.en.eq(1), set_owned.addr.eq(self._candidate),
                     set_owned.data.eq(1)]
        with m.If(self._queued != 0):
            m.d.sync += [self._head.eq(self._after(self._head)), self._queued.eq(self._queued - 1)]
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
        if self._kept:
            m.d.sync += self._behinds[Mux(self._fork, asked.other, asked.slot)].eq(Mux(to == 0, 0, self._behind))

    def _drop(self):
        """The block that ``entry`` finds has an owner less."""
        m, dropped = self._m, self._dropped
        m.d.comb += [self._set_owned.data.eq(dropped.data - 1), self._set_newest.en.eq(dropped.data == 1)]
        with m.If(dropped.data == 1):
            m.d.sync += [self._tail.eq(self._after(self._tail)), self._queued.eq(self._queued + 1)]

    # -- the states

    def _decide(self):
        """What is asked, and whether it needs more than this cycle."""
        m, asked = self._m, self._asked
        m.next = "READY"
        if self._kept:
            is_next = (asked.op == ADMIT) & (asked.length == self._length)
            with m.If(is_next & ((self._newly >> self._block_bits) > self._behind)):
                m.next = "BEHIND"
        with (m.Elif if self._kept else m.If)(asked.op == ADMIT):
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
            m.d.sync += self._physical.eq(self._entry.data)
            m.next = "LOOK"

    def _decide_operation(self):
        m, asked, fork = self._m, self._asked, self._fork
        out_of_sight = [self._out_of_sight] if self._kept else []
        self._refuse((fork & ((asked.other == asked.slot) | (asked.other >= self._hw.slots)), ErrorCode.OTHER),
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
        m, copy = self._m, self._ports.copy
        m.d.comb += copy.valid.eq(1)
        with m.If(copy.ready):
            self._take_candidate()
            self._admit()
            m.next = "READY"

    def _walk(self):
        """Over the blocks that are shared or dropped, one a cycle."""
        m, asked, entry, set_entry, set_owned = self._m, self._asked, self._entry, self._set_entry, self._set_owned
        m.d.comb += [entry.addr.eq(self._row(asked.slot, self._step)), set_owned.addr.eq(entry.data),
                     set_owned.en.eq(1)]
        with m.If(self._fork):
            m.d.comb += [set_entry.en.eq(1), set_entry.addr.eq(self._row(asked.other, self._step)),
                         set_entry.data.eq(entry.data), set_owned.data.eq(self._dropped.data + 1)]
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
        m, slot, entry = self._m, self._asked.slot, self._entry
        m.d.comb += [entry.addr.eq(self._row(slot, self._behind)), self._set_owned.addr.eq(entry.data),
                     self._set_owned.en.eq(1)]
        self._drop()
        m.d.sync += self._behinds[slot].eq(self._behind + 1)
        m.next = "DECIDE"
