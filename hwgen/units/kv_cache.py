"""The KV-SRAM: keys and values of all slots as FP8 rows with an exponent each, the blocks they live in, and the engine that writes them."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib import secded
from ..lib.layouts import (ADMIT, ERROR_BITS, EXP_BITS, ask_layout, head_meta_layout, head_read_layout, k_row_layout, kv_fault_layout,
                           kv_read_layout, kv_write_layout, place_layout, slice_layout, v_row_layout)
from ..lib.ram import BlockRam
from ..lib.skid import SkidRegister
from ..params.errors import ErrorCode, KvOp

__all__ = ["KvBlocks", "KvCache", "KvWriter"]


class KvBlocks(wiring.Component):
    """Lengths of the slots, and which physical block holds a block of a slot: block table, owners of each block, free list.

    A request is taken in the cycle in which it is done, and ``error`` says in that cycle how: the second one at the earliest, for the first
    finds the slot's length (a single slot's is at hand). ``ADMIT`` makes room for a slot's next position: then, unless its last block may
    have another owner; then the next cycle looks, and if it has one, ``copy`` asks for a copy of the block, whose last cycle is the
    request's too. FORK and TRUNCATE take a cycle for each block that they share or drop, and one. `hwgen.golden.kv_cache.KvBlocks` says the
    same in Python.

    Where all layers have a window (`Design.positions_kept`), an admission may first give back the block that is then behind it, which
    takes two cycles. ``known`` says no for its positions.

    Free blocks are a queue of those that were freed and, behind it, all that have never been used: so a reset takes no time.
    A single slot owns all blocks of a whole context, in order: then there is only its length.

    Parameters
    ----------
    design : Design

    Members
    -------
    ask : In(stream)            `ask_layout`: {op, slot, other, length}; the slot must be one of the design's, and an ADMIT's length below
                                the context
    error : Out                 `ErrorCode` of the request that is taken
    copy : Out(stream)          {old, new, count}: copy the first ``count`` positions of a block; taken in the copy's last cycle
    write, k, v                 In {slot, position}, Out {physical, known}: the block of a position, and whether the slot has come so far;
                                combinational
    """

    def __init__(self, design):
        self._design = design
        hw = design.hw
        physical = range(hw.blocks)
        lookup = wiring.Signature({"slot": In(range(hw.slots)), "position": In(range(hw.context)), "physical": Out(physical),
                                   "known": Out(1)})
        super().__init__({
            "ask": In(stream.Signature(ask_layout(design))), "error": Out(ERROR_BITS),
            "copy": Out(stream.Signature(data.StructLayout({"old": physical, "new": physical, "count": range(hw.kv_block)}))),
            "write": Out(lookup), "k": Out(lookup), "v": Out(lookup),
        })

    def elaborate(self, platform):
        m = Module()
        hw, ask, asked = self._design.hw, self.ask, self.ask.p
        block_bits = hw.kv_block.bit_length() - 1
        lengths = Array(Signal(range(hw.context + 1), name=f"length{i}") for i in range(hw.slots))
        length = Signal.like(lengths[0], name="length")
        if hw.paged:        # one of several, and much follows from it and from the request: a cycle of its own
            asked = Signal(asked.shape(), reset_less=True, name="asked")
            m.d.sync += [length.eq(lengths[ask.p.slot]), asked.eq(ask.p)]
        else:
            m.d.comb += length.eq(lengths[ask.p.slot])

        def answer(error=ErrorCode.OK):
            m.d.comb += [ask.ready.eq(1), self.error.eq(error)]

        def refuse(*rules):
            """The first rule that is broken is the answer. ``m.Else()`` follows."""
            for index, (broken, error) in enumerate(rules):
                with m.Elif(broken) if index else m.If(broken):
                    answer(error)

        fork, to = asked.op == KvOp.FORK, Mux(asked.op == KvOp.FREE, 0, asked.length)
        not_next = (asked.length != length, Mux(length == hw.context, ErrorCode.CONTEXT, ErrorCode.POSITION))
        too_long = (to > length, ErrorCode.LENGTH)
        kept = self._design.positions_kept

        if not hw.paged:
            with m.If(ask.valid & (asked.op == ADMIT)):
                refuse(not_next)
                with m.Else():
                    answer()
                    m.d.sync += lengths[0].eq(length + 1)
            with m.Elif(ask.valid):
                refuse((fork, ErrorCode.OTHER), too_long)
                with m.Else():
                    answer()
                    m.d.sync += lengths[0].eq(to)
            for port in (self.write, self.k, self.v):
                m.d.comb += [port.physical.eq(port.position[block_bits:]), port.known.eq(1)]
            return m

        block_shape = unsigned(max(1, len(self.copy.p.old)))

        def store(name, shape, depth):
            m.submodules[name] = made = memory.Memory(shape=shape, depth=max(2, depth), init=[])
            return made, made.read_port(domain="comb"), made.write_port()

        def row(slot, block):
            return _times(slot, hw.blocks_per_slot) + block

        def blocks_of(positions):
            return (positions + (hw.kv_block - 1))[block_bits:]

        # Blocks that each slot has given back, where it does so: all before the positions that it keeps
        out_of_sight = ()
        if kept:
            behinds = Array(Signal(range(hw.blocks_per_slot), name=f"behind{i}") for i in range(hw.slots))
            behind, newly = Signal.like(behinds[0], name="behind"), Signal(signed(len(asked.length) + 2))
            m.d.comb += [behind.eq(behinds[asked.slot]), newly.eq(asked.length + (1 - kept))]
            out_of_sight = (((to != 0) & (behind != 0) & (to + 1 < (behind << block_bits) + self._design.rows_seen()), ErrorCode.WINDOW),)

        table, entry, set_entry = store("table", block_shape, hw.slots * hw.blocks_per_slot)
        owners, owned, set_owned = store("owners", range(hw.slots + 1), hw.blocks)
        dropped = owners.read_port(domain="comb")           # a port of its own: no way from the table through it to an admission's answer
        _, oldest, set_newest = store("freed", block_shape, hw.blocks)
        for port in (self.write, self.k, self.v):
            read = table.read_port(domain="comb")
            known = port.position < lengths[port.slot]
            if kept:
                known &= port.position[block_bits:] >= behinds[port.slot]
            m.d.comb += [read.addr.eq(row(port.slot, port.position[block_bits:])), port.physical.eq(read.data), port.known.eq(known)]

        # The free list: the next block is the candidate
        head, tail = Signal(range(hw.blocks), name="head"), Signal(range(hw.blocks), name="tail")
        queued, unused = Signal(range(hw.blocks + 1), name="queued"), Signal(range(hw.blocks + 1), name="unused")
        free, candidate = Signal(name="free"), Signal(block_shape, name="candidate")
        m.d.comb += [oldest.addr.eq(head), set_newest.addr.eq(tail), free.eq((queued != 0) | (unused != hw.blocks)),
                     candidate.eq(Mux(queued != 0, oldest.data, unused))]

        def after(pointer):
            return Mux(pointer == hw.blocks - 1, 0, pointer + 1)

        # The block in question, and its owners
        own = Signal(hw.slots)                              # known: the slot's last block is its alone
        used = asked.length[:block_bits]                    # positions of the last block that are taken
        step, first, end = (Signal(range(hw.blocks_per_slot + 1), name=name) for name in ("step", "first", "end"))
        physical = Signal(block_shape, reset_less=True)
        walked = Mux((to == 0) ^ fork, behind, blocks_of(to)) if kept else Mux(fork, 0, blocks_of(to))
        m.d.comb += [first.eq(walked), end.eq(blocks_of(Mux(fork, asked.length, length))),
                     entry.addr.eq(row(asked.slot, asked.length[block_bits:])), owned.addr.eq(physical), dropped.addr.eq(entry.data),
                     set_entry.addr.eq(row(asked.slot, asked.length[block_bits:])), set_entry.data.eq(candidate),
                     set_owned.addr.eq(physical), set_newest.data.eq(entry.data),
                     self.copy.p.old.eq(physical), self.copy.p.new.eq(candidate), self.copy.p.count.eq(used)]

        def take_candidate():
            """It becomes the slot's last block, and its alone."""
            m.d.comb += [set_entry.en.eq(1), set_owned.en.eq(1), set_owned.addr.eq(candidate), set_owned.data.eq(1)]
            with m.If(queued != 0):
                m.d.sync += [head.eq(after(head)), queued.eq(queued - 1)]
            with m.Else():
                m.d.sync += unused.eq(unused + 1)

        def admit():
            answer()
            m.d.sync += [lengths[asked.slot].eq(length + 1), own.bit_select(asked.slot, 1).eq(1)]

        def set_length():
            with m.If(fork):
                m.d.sync += lengths[asked.other].eq(to)
            with m.Else():
                m.d.sync += lengths[asked.slot].eq(to)
            if kept:
                m.d.sync += behinds[Mux(fork, asked.other, asked.slot)].eq(Mux(to == 0, 0, behind))

        def drop():
            """The block that ``entry`` finds has an owner less."""
            m.d.comb += [set_owned.data.eq(dropped.data - 1), set_newest.en.eq(dropped.data == 1)]
            with m.If(dropped.data == 1):
                m.d.sync += [tail.eq(after(tail)), queued.eq(queued + 1)]

        with m.FSM():
            with m.State("READY"):
                with m.If(ask.valid):
                    m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "READY"
                if kept:
                    with m.If((asked.op == ADMIT) & (asked.length == length) & ((newly >> block_bits) > behind)):
                        m.next = "BEHIND"
                with (m.Elif if kept else m.If)(asked.op == ADMIT):
                    refuse(not_next, ((used == 0) & ~free, ErrorCode.NO_BLOCK))
                    with m.Elif(used == 0):
                        take_candidate()
                        admit()
                    with m.Elif(own.bit_select(asked.slot, 1)):
                        admit()
                    with m.Else():
                        m.d.sync += physical.eq(entry.data)
                        m.next = "LOOK"
                with m.Else():
                    refuse((fork & ((asked.other == asked.slot) | (asked.other >= hw.slots)), ErrorCode.OTHER), too_long, *out_of_sight,
                           (fork & (lengths[asked.other] != 0), ErrorCode.OCCUPIED))
                    with m.Elif(first == end):
                        answer()
                        set_length()
                    with m.Else():
                        m.d.sync += step.eq(first)
                        m.next = "WALK"
            with m.State("LOOK"):
                with m.If(owned.data == 1):
                    admit()
                    m.next = "READY"
                with m.Elif(~free):
                    answer(ErrorCode.NO_BLOCK)
                    m.next = "READY"
                with m.Else():
                    m.d.comb += [set_owned.en.eq(1), set_owned.data.eq(owned.data - 1)]
                    m.next = "COPY"
            with m.State("COPY"):
                m.d.comb += self.copy.valid.eq(1)
                with m.If(self.copy.ready):
                    take_candidate()
                    admit()
                    m.next = "READY"
            with m.State("WALK"):                           # over the blocks that are shared or dropped
                m.d.comb += [entry.addr.eq(row(asked.slot, step)), set_owned.addr.eq(entry.data),
                             set_owned.en.eq(1)]
                with m.If(fork):
                    m.d.comb += [set_entry.en.eq(1), set_entry.addr.eq(row(asked.other, step)), set_entry.data.eq(entry.data),
                                 set_owned.data.eq(dropped.data + 1)]
                with m.Else():
                    drop()
                m.d.sync += step.eq(step + 1)
                with m.If(step + 1 == end):
                    answer()
                    set_length()
                    m.d.sync += own.bit_select(asked.slot, 1).eq(0)
                    with m.If(fork):
                        m.d.sync += own.bit_select(asked.other, 1).eq(0)
                    m.next = "READY"
            if kept:
                with m.State("BEHIND"):
                    m.d.comb += [entry.addr.eq(row(asked.slot, behind)), set_owned.addr.eq(entry.data), set_owned.en.eq(1)]
                    drop()
                    m.d.sync += behinds[asked.slot].eq(behind + 1)
                    m.next = "DECIDE"
        return m


class KvCache(wiring.Component):
    """The KV-SRAM: a row of FP8 codes and an exponent for each (slot, layer, K/V head, position), for K and for V.

    A row is written and read in parts of A codes (`attention_lanes`). Writes are always taken. A request that is taken
    in cycle s is answered in cycle s + 4 (s + 5 with error correction) or, if the answers before it wait, when those are gone; one per
    cycle, K and V independently, in order. It sees the writes that were taken before cycle s. A K row comes with the exponent of the V
    row of its position, which must be written too. A row that was never written is undefined.

    A position is a block, ``position // kv_block``, and an offset in it; `KvBlocks` says where the block is, and is told by ``ask``
    what becomes of slots. Slots reach nothing but their own blocks: a position at or beyond a slot's length is read as zeros, and not
    written (a single slot has nobody to be protected from). A copy of a block is made in cycles before which nobody read, asked
    for a row or waited for answers; until its end nothing else may be asked of the blocks.

    With ``kv_ecc`` each word of A codes, and each exponent, has check bits (`hwgen.lib.secded`): a single error is corrected as it is
    read, not in the memory. A copy takes words as they are, errors too.

    Parameters
    ----------
    design : Design

    Members
    -------
    ask, error      In(stream), Out     as those of `KvBlocks`
    write : In(stream)      `kv_write_layout`: {value (1 = V), slot, layer, head, position, part, codes, exp}
    k_req, v_req : In(stream)   `kv_read_layout`: {slot, layer, head, position, part, last}
    k_o : Out(stream)       `k_row_layout`: {codes, exp, v_exp, last}
    v_o : Out(stream)       `v_row_layout`: {codes, last}
    corrected : Out(32)     only with ``kv_ecc``: answers with a corrected error, since reset
    failed : Out(32)        only with ``kv_ecc``: answers with an error that could not be corrected, since reset ...
    fault : Out             only with ``kv_ecc``: ... and where the first of them was, `kv_fault_layout`: {slot, position}
    """

    def __init__(self, design):
        self._design = design
        super().__init__({
            "ask": In(stream.Signature(ask_layout(design))), "error": Out(ERROR_BITS),
            "write": In(stream.Signature(kv_write_layout(design))),
            "k_req": In(stream.Signature(kv_read_layout(design))), "k_o": Out(stream.Signature(k_row_layout(design))),
            "v_req": In(stream.Signature(kv_read_layout(design))), "v_o": Out(stream.Signature(v_row_layout(design))),
            **({"corrected": Out(32), "failed": Out(32), "fault": Out(kv_fault_layout(design))} if design.hw.kv_ecc else {}),
        })

    def elaborate(self, platform):
        m = Module()
        design, hw = self._design, self._design.hw
        lanes, parts = hw.attention_lanes, design.head // hw.attention_lanes
        block_bits, lines = hw.kv_block.bit_length() - 1, design.layers * design.kv_heads
        paged, ecc = hw.paged, hw.kv_ecc
        m.submodules.blocks = blocks = KvBlocks(design)
        connect(m, flipped(self.ask), blocks.ask)
        m.d.comb += self.error.eq(blocks.error)

        def register(value, name):
            signal = Signal.like(value, reset_less=True, name=name)
            m.d.sync += signal.eq(value)
            return signal

        rows = lines * hw.blocks * hw.kv_block

        def stored(value):
            return secded.store(value) if ecc else value

        def ram(name, bits, depth):
            m.submodules[name] = made = BlockRam(secded.stored_bits(bits) if ecc else bits, depth)
            return made

        k_codes, v_codes = ram("k_codes", 8 * lanes, rows * parts), ram("v_codes", 8 * lanes, rows * parts)
        k_exps, v_exps = ram("k_exps", EXP_BITS, rows), ram("v_exps", EXP_BITS, rows)

        def addresses(line, block, offset, part, name):
            """(row, word) of a row's part, combinational."""
            row, word = Signal(range(rows), name=f"{name}_row_address"), Signal(range(rows * parts), name=f"{name}_address")
            m.d.comb += [row.eq(Cat(offset, Const(0, block_bits - len(offset)), _times(line, hw.blocks) + block)),
                         word.eq(Cat(part, row) if parts & (parts - 1) == 0 else _times(row, parts) + part)]
            return row, word

        def located(p, port, name):
            """(line, block, offset, part) of a request, and whether its slot has the position."""
            m.d.comb += [port.slot.eq(p.slot), port.position.eq(p.position)]
            return (_times(p.layer, design.kv_heads) + p.head, port.physical, p.position[:block_bits], p.part), port.known

        # The copy of a block, all layers and heads of some positions: a word of K and of V each cycle, out through the read addresses
        # and, two cycles later, in through the write addresses.
        copying, writing, copied = Const(0, 1), Const(0, 1), Const(0, 1)
        # of the cycle before, what was offered then included: so a copy's start does not wait for the readers' ready
        reading = Signal()
        if paged and hw.kv_block > 1:
            copying, copy = Signal(name="copying"), blocks.copy
            line, offset, part = Signal(range(lines), name="line"), Signal(range(hw.kv_block), name="offset"), Signal(range(parts))
            last_part, last_offset, last_line = part == parts - 1, offset + 1 == copy.p.count, line == lines - 1
            m.d.comb += [copying.eq(copy.valid & ~reading), copy.ready.eq(copying & last_part & last_offset & last_line)]
            with m.If(copying):
                m.d.sync += part.eq(Mux(last_part, 0, part + 1))
                with m.If(last_part):
                    m.d.sync += offset.eq(Mux(last_offset, 0, offset + 1))
                    with m.If(last_offset):
                        m.d.sync += line.eq(Mux(last_line, 0, line + 1))
            source = (line, copy.p.old, offset, part)
            writing = Signal()
            m.d.sync += writing.eq(copying)
            target = tuple(register(value, f"copy_{name}") for name, value in
                           (("line", line), ("block", copy.p.new), ("offset", offset), ("part", part)))

        def selected(ours, theirs, choose):
            """An address of the copy or of a request."""
            return tuple(Mux(choose, a, b) for a, b in zip(ours, theirs))

        # Write: addresses, then the memories.
        w = self.write.p
        arrived = Signal()
        m.d.comb += self.write.ready.eq(1)
        at, known = located(w, blocks.write, "write")
        m.d.sync += arrived.eq(self.write.valid & known)
        if paged and hw.kv_block > 1:
            at = selected(target, at, writing)
            copied = Signal()
            m.d.sync += copied.eq(writing)
        value, codes, exp, row, word = (
            register(data, name=f"write_{name}") for name, data in
            (("value", w.value), ("codes", stored(w.codes.as_value())), ("exp", stored(w.exp.as_unsigned())),
             *zip(("row", "word"), addresses(*at, "write"))))
        for memory_, address, data_, chosen in ((k_codes, word, codes, ~value), (v_codes, word, codes, value),
                                                (k_exps, row, exp, ~value), (v_exps, row, exp, value)):
            m.d.comb += [memory_.write_address.eq(address), memory_.write_data.eq(Mux(copied, memory_.read_data, data_)),
                         memory_.write_en.eq(arrived & chosen | copied)]

        # Read: addresses, memories, what they gave (they are slow), (errors,) output registers. Each stage moves when it is empty or the
        # next one moves.
        def read(name, request, o, port, codes, exps):
            stages = 4 + ecc
            valid = [Signal(name=f"{name}_valid{k}") for k in range(stages)]
            move = [Signal(name=f"{name}_move{k}") for k in range(stages)]
            m.submodules[f"{name}_answer"] = answer = SkidRegister(o.payload.shape())
            connect(m, answer.o, flipped(o))
            m.d.comb += [valid[0].eq(request.valid & ~copying & ~writing), request.ready.eq(move[0] & ~copying & ~writing),
                         answer.i.valid.eq(valid[-1]), move[-1].eq(answer.i.ready),
                         *(move[k].eq(~valid[k + 1] | move[k + 1]) for k in range(stages - 1))]
            for k, into in enumerate(valid[1:]):
                with m.If(move[k]):
                    m.d.sync += into.eq(valid[k])

            def along(value, what, first=0, until=stages - 1):
                """A value of stage ``first`` as it is in stage ``until``."""
                for k in range(first, until):
                    signal = Signal.like(value, reset_less=True, name=f"{name}_{what}{k + 1}")
                    with m.If(move[k]):
                        m.d.sync += signal.eq(value)
                    value = signal
                return value

            at, known = located(request.p, port, name)
            if paged and hw.kv_block > 1:
                at = selected(source, at, copying)
            row, word = (along(a, what, until=1) for a, what in zip(addresses(*at, name), ("row", "word")))
            last = along(request.p.last, "last")
            fields = {}
            for field, memory_, address, bits in (("codes", codes, word, 8 * lanes), *((f, e, row, EXP_BITS) for f, e in exps)):
                m.d.comb += [memory_.read_en.eq(move[1]), memory_.read_address.eq(address)]
                fields[field] = given = along(memory_.read_data, f"{field}_given", first=2, until=3)
                if ecc:
                    syndrome = along(secded.syndromes(given, bits), f"{field}_syndrome", first=3)
                    word_ = along(given[:bits], field, first=3)
                    fields[field] = secded.correct(m, word_, syndrome, name=f"{name}_{field}")
            known = along(known, "known") if paged else Const(1, 1)
            m.d.comb += [answer.i.p.last.eq(last),
                         *(answer.i.p[field].eq(Mux(known, found[0], 0) if ecc else Mux(known, found, 0) if paged else found)
                           for field, found in fields.items())]
            busy = Cat(valid[1:], answer.holds).any()
            if not ecc:
                return busy, None
            place = [along(value, what) for value, what in ((request.p.slot, "slot"), (request.p.position, "position"))]
            taken = valid[-1] & move[-1] & known
            return busy, (taken & Cat(c for _, c, _ in fields.values()).any(), taken & Cat(f for _, _, f in fields.values()).any(), place)

        k_busy, k_errors = read("k", self.k_req, self.k_o, blocks.k, k_codes, (("exp", k_exps), ("v_exp", v_exps)))
        v_busy, v_errors = read("v", self.v_req, self.v_o, blocks.v, v_codes, ())
        m.d.sync += reading.eq(k_busy | v_busy | self.k_req.valid | self.v_req.valid)

        if ecc:
            m.d.sync += [self.corrected.eq(self.corrected + k_errors[0] + v_errors[0]),
                         self.failed.eq(self.failed + k_errors[1] + v_errors[1])]
            with m.If((self.failed == 0) & (k_errors[1] | v_errors[1])):
                m.d.sync += [self.fault[field].eq(Mux(k_errors[1], a, b))
                             for field, a, b in zip(("slot", "position"), k_errors[2], v_errors[2])]
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

        busy, final = Signal(name="busy"), Signal()
        entry = Signal(place_layout(design), reset_less=True)
        value, head, part = (Signal.like(r.p.meta[field], name=field) for field in ("value", "head", "part"))
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
