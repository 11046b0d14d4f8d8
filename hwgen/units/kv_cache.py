"""The KV-SRAM: keys and values of all slots as FP8 rows with an exponent each, and the engine that writes them."""
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib import secded
from ..lib.layouts import (ERROR_BITS, EXP_BITS, ask_layout, head_meta_layout, head_read_layout, k_row_layout,
                           kv_fault_layout, kv_read_layout, kv_write_layout, place_layout, row_names, slice_layout,
                           v_row_layout)
from ..lib.ram import BlockRam
from ..lib.skid import SkidRegister
from .kv_blocks import KvBlocks, scaled

__all__ = ["KvCache", "KvWriter"]


class _Place(NamedTuple):
    """Where a word of a row is: (layer, K/V head), physical block, position in it, number of the word in its row."""
    line: object
    block: object
    offset: object
    part: object

    def unless(self, choose, other):
        """``other`` where ``choose``."""
        return _Place(*(Mux(choose, b, a) for a, b in zip(self, other)))


class _Copy(NamedTuple):
    """The copy of a block, all layers and heads of some positions: a word of K and of V each cycle.

    It goes out through the read addresses, while ``reads``; in the next cycle ``writes``, it has the write addresses;
    then ``arrives`` what was read. ``source`` and ``target``: its `_Place` in the first and the second of these.
    """
    reads: object
    writes: object
    arrives: object
    source: _Place
    target: _Place


class _Errors(NamedTuple):
    """Of an answer that is taken: an error was corrected, one could not be, and where the answer is from: [slot,
    position]."""
    corrected: object
    failed: object
    place: list


class _Stages:
    """Stages of an answer, each of which moves when it is empty or the next one moves."""

    def __init__(self, m, name, count):
        self._m, self._name, self._count = m, name, count
        self.valid = [Signal(name=f"{name}_valid{k}") for k in range(count)]
        self.move = [Signal(name=f"{name}_move{k}") for k in range(count)]

    def connect(self, request, answer, blocked):
        """From requests, which wait while ``blocked``, to a register of answers."""
        m, valid, move = self._m, self.valid, self.move
        copying, writing = blocked
        m.d.comb += [valid[0].eq(request.valid & ~copying & ~writing), request.ready.eq(move[0] & ~copying & ~writing),
                     answer.i.valid.eq(valid[-1]), move[-1].eq(answer.i.ready),
                     *(move[k].eq(~valid[k + 1] | move[k + 1]) for k in range(self._count - 1))]
        for k, into in enumerate(valid[1:]):
            with m.If(move[k]):
                m.d.sync += into.eq(valid[k])

    def along(self, value, what, first=0, until=None):
        """A value of stage ``first`` as it is in stage ``until``, by default the last one."""
        for k in range(first, self._count - 1 if until is None else until):
            signal = Signal.like(value, reset_less=True, name=f"{self._name}_{what}{k + 1}")
            with self._m.If(self.move[k]):
                self._m.d.sync += signal.eq(value)
            value = signal
        return value


class KvCache(wiring.Component):
    """The KV-SRAM: a row of FP8 codes and an exponent for each (slot, layer, K/V head, position), for K and for V.

    A row is written and read in words of A codes (`KvSizes.lanes`). Writes are always taken. A request that is taken
    in cycle s is answered in cycle s + 4 (s + 5 with error correction) or, if the answers before it wait, when those
    are gone; one per cycle, K and V independently, in order. It sees the writes that were taken before cycle s. A K row
    comes with the exponent of the V row of its position, which must be written too. A row that was never written is
    undefined.

    Of several rows that are read at once (`KvSizes.rows`) each has memories of its own, of the positions that are that
    row's, modulo their number. Those that the request does not want (``seen``) are read as zeros.

    A position is a block, ``position // kv_block``, and an offset in it; `KvBlocks` says where the block is, and is
    told by ``ask`` what becomes of slots. Slots reach nothing but their own blocks: a position at or beyond a slot's
    length is read as zeros, and not written (a single slot has nobody to be protected from). A copy of a block is made
    in cycles before which nobody read, asked for a row or waited for answers; until its end nothing else may be asked
    of the blocks, and until a cycle behind it nothing may be written (in a machine an entry is admitted long before its
    pass).

    With ``ecc`` each word, and each exponent, has check bits (`hwgen.lib.secded`): a single error is
    corrected as it is read, not in the memory. A copy takes words as they are, errors too.

    Parameters
    ----------
    sizes : KvSizes
    kv_block, blocks, kept, seen        as of `KvBlocks`
    ecc : bool                          error correction

    Members
    -------
    ask, error      In(stream), Out     as those of `KvBlocks`
    write : In(stream)      `kv_write_layout`: {value (1 = V), slot, layer, head, position, part, codes, exp}
    k_req, v_req : In(stream)   `kv_read_layout`: {slot, layer, head, position, part, last}; of several rows {seen} too
    k_o : Out(stream)       `k_row_layout`: {codes, exp, v_exp, last}; of several rows {seen} too
    v_o : Out(stream)       `v_row_layout`: {codes, last}
    corrected : Out(32)     only with ``ecc``: answers with a corrected error, since reset
    failed : Out(32)        only with ``ecc``: answers with an error that could not be corrected, since reset ...
    fault : Out             only with ``ecc``: ... and where the first of them was, `kv_fault_layout`: {slot,
                            position}
    """

    def __init__(self, *, sizes, kv_block, blocks, kept=None, seen=None, ecc=False):
        self._sizes, self._ecc = sizes, ecc
        place = dict(slots=sizes.slots, context=sizes.context)
        self._of_blocks = dict(**place, kv_block=kv_block, blocks=blocks, kept=kept, seen=seen)
        request = stream.Signature(kv_read_layout(sizes))
        super().__init__({
            "ask": In(stream.Signature(ask_layout(**place))), "error": Out(ERROR_BITS),
            "write": In(stream.Signature(kv_write_layout(sizes))),
            "k_req": In(request), "k_o": Out(stream.Signature(k_row_layout(sizes.lanes, sizes.rows))),
            "v_req": In(request), "v_o": Out(stream.Signature(v_row_layout(sizes.lanes, sizes.rows))),
            **({"corrected": Out(32), "failed": Out(32), "fault": Out(kv_fault_layout(**place))} if ecc else {}),
        })

    @property
    def _lines(self):
        """Rows of K, and of V, of a position."""
        return self._sizes.num_hidden_layers * self._sizes.num_key_value_heads

    @property
    def _rows(self):
        return self._lines * self._blocks.blocks * self._blocks.kv_block

    @property
    def _copies(self):
        """Blocks may be copied: slots share them, and a block may be full in part."""
        return self._blocks.paged and self._blocks.kv_block > 1

    def elaborate(self, platform):
        m = Module()
        m.submodules.blocks = self._blocks = blocks = KvBlocks(**self._of_blocks)
        connect(m, flipped(self.ask), blocks.ask)
        m.d.comb += self.error.eq(blocks.error)

        self._make_memories(m)
        # of the cycle before, what was offered then included: so a copy's start does not wait for the readers' ready
        reading = Signal()
        copy = self._copy(m, blocks.copy, reading)
        copy = self._write(m, blocks.write, copy)
        k_busy, k_errors = self._read(m, "k", self.k_req, self.k_o, blocks.k, copy)
        v_busy, v_errors = self._read(m, "v", self.v_req, self.v_o, blocks.v, copy)
        m.d.sync += reading.eq(k_busy | v_busy | self.k_req.valid | self.v_req.valid)
        if self._ecc:
            self._count_errors(m, k_errors, v_errors)
        return m

    # -- memories and addresses

    def _make_memories(self, m):
        """Of words, and of exponents, one for each row: a memory of each of the rows that are read at once."""
        def rams(name, bits, depth):
            made = [BlockRam(secded.stored_bits(bits) if self._ecc else bits, depth // self._sizes.rows)
                    for _ in range(self._sizes.rows)]
            for its, memory in zip(row_names(name, self._sizes.rows), made):
                m.submodules[its] = memory
            return made

        code_bits, words = 8 * self._sizes.lanes, self._rows * self._sizes.words
        self._k_codes, self._v_codes = rams("k_codes", code_bits, words), rams("v_codes", code_bits, words)
        self._k_exps, self._v_exps = rams("k_exps", EXP_BITS, self._rows), rams("v_exps", EXP_BITS, self._rows)

    def _addresses(self, m, place, name):
        """(row, word) of a `_Place`, combinational."""
        words = self._sizes.words
        row = Signal(range(self._rows), name=f"{name}_row_address")
        word = Signal(range(self._rows * words), name=f"{name}_address")
        above = Const(0, self._blocks.offset_bits - len(place.offset))
        whole = words & (words - 1) == 0
        m.d.comb += [row.eq(Cat(place.offset, above, scaled(place.line, self._blocks.blocks) + place.block)),
                     word.eq(Cat(place.part, row) if whole else scaled(row, words) + place.part)]
        return row, word

    def _located(self, m, p, port):
        """(`_Place` of a request, its slot has the position), combinational through a port of `KvBlocks`."""
        m.d.comb += [port.slot.eq(p.slot), port.position.eq(p.position)]
        line = scaled(p.layer, self._sizes.num_key_value_heads) + p.head
        return _Place(line, port.physical, p.position[:self._blocks.offset_bits], p.part), port.known

    # -- copies and writes

    def _copy(self, m, copy, reading):
        """Copies a block, in cycles before which there was no ``reading``. Gives the `_Copy`, which does not arrive
        yet."""
        if not self._copies:
            return _Copy(Const(0, 1), Const(0, 1), Const(0, 1), None, None)
        copying = Signal()
        words, lines = self._sizes.words, self._lines
        line, part = Signal(range(lines), name="line"), Signal(range(words), name="part")
        rows, bits = self._sizes.rows, self._sizes.row_bits
        offset = Signal(range(self._blocks.kv_block // rows))        # in groups of rows
        last_part, last_line = part == words - 1, line == lines - 1
        last_offset = offset + 1 == (copy.p.count if rows == 1 else (copy.p.count + (rows - 1)) >> bits)
        m.d.comb += [copying.eq(copy.valid & ~reading), copy.ready.eq(copying & last_part & last_offset & last_line)]
        with m.If(copying):
            m.d.sync += part.eq(Mux(last_part, 0, part + 1))
            with m.If(last_part):
                m.d.sync += offset.eq(Mux(last_offset, 0, offset + 1))
                with m.If(last_offset):
                    m.d.sync += line.eq(Mux(last_line, 0, line + 1))
        writing = Signal()
        m.d.sync += writing.eq(copying)
        first = offset if rows == 1 else Cat(Const(0, bits), offset)
        source, into = _Place(line, copy.p.old, first, part), _Place(line, copy.p.new, first, part)
        target = _Place(*(_register(m, value, f"copy_{name}") for name, value in zip(into._fields, into)))
        return _Copy(copying, writing, Const(0, 1), source, target)

    def _write(self, m, port, copy):
        """Writes what is offered, or copied: addresses, then the memories. Gives the `_Copy` that arrives."""
        w, stored, rows = self.write.p, secded.store if self._ecc else lambda value: value, self._sizes.rows
        arrived = Signal()
        m.d.comb += self.write.ready.eq(1)
        place, known = self._located(m, w, port)
        m.d.sync += arrived.eq(self.write.valid & known)
        if self._copies:
            place = place.unless(copy.writes, copy.target)
            copied = Signal()
            m.d.sync += copied.eq(copy.writes)
            copy = copy._replace(arrives=copied)
        value, codes, exp, row, word = (
            _register(m, data, name=f"write_{name}") for name, data in
            (("value", w.value), ("codes", stored(w.codes.as_value())), ("exp", stored(w.exp.as_unsigned())),
             *zip(("row", "word"), self._addresses(m, place, "write"))))
        for memories, address, data, chosen in (
                (self._k_codes, word, codes, ~value), (self._v_codes, word, codes, value),
                (self._k_exps, row, exp, ~value), (self._v_exps, row, exp, value)):
            for number, memory in enumerate(memories):
                mine = chosen if rows == 1 else chosen & (row[:self._sizes.row_bits] == number)
                m.d.comb += [memory.write_address.eq(address[self._sizes.row_bits:]),
                             memory.write_data.eq(Mux(copy.arrives, memory.read_data, data)),
                             memory.write_en.eq(arrived & mine | copy.arrives)]
        return copy

    # -- reads

    def _read(self, m, name, request, o, port, copy):
        """Answers requests of K or V: addresses, memories, what they gave (they are slow), (errors,) output registers.

        Gives (requests are under way, `_Errors` with error correction).
        """
        paged, ecc = self._blocks.paged, self._ecc
        stages = _Stages(m, name, 4 + ecc)
        m.submodules[f"{name}_answer"] = answer = SkidRegister(o.payload.shape())
        connect(m, answer.o, flipped(o))
        stages.connect(request, answer, (copy.reads, copy.writes))

        place, known = self._located(m, request.p, port)
        if self._copies:
            place = place.unless(copy.reads, copy.source)
        row, word = (stages.along(address, what, until=1)[self._sizes.row_bits:]
                     for address, what in zip(self._addresses(m, place, name), ("row", "word")))
        last = stages.along(request.p.last, "last")
        code_bits = 8 * self._sizes.lanes
        if name == "k":
            wanted = {"codes": (self._k_codes, word, code_bits), "exp": (self._k_exps, row, EXP_BITS),
                      "v_exp": (self._v_exps, row, EXP_BITS)}
        else:
            wanted = {"codes": (self._v_codes, word, code_bits)}
        if self._sizes.rows > 1:
            m.d.comb += answer.i.p.last.eq(last)
            return self._fetch_rows(m, stages, name, request, answer, wanted, known)
        found = {field: self._fetch(m, stages, name, field, memories[0], *where)
                 for field, (memories, *where) in wanted.items()}
        known = stages.along(known, "known") if paged else Const(1, 1)
        values = {field: value for field, (value, *_) in found.items()}
        m.d.comb += [answer.i.p.last.eq(last),
                     *(answer.i.p[field].eq(Mux(known, value, 0) if ecc or paged else value)
                       for field, value in values.items())]
        busy = Cat(stages.valid[1:], answer.holds).any()
        if not ecc:
            return busy, None
        slot, position = stages.along(request.p.slot, "slot"), stages.along(request.p.position, "position")
        taken = stages.valid[-1] & stages.move[-1] & known
        return busy, _Errors(taken & Cat(corrected for _, corrected, _ in found.values()).any(),
                             taken & Cat(failed for _, _, failed in found.values()).any(), [slot, position])

    def _fetch_rows(self, m, stages, name, request, answer, wanted, known):
        """`_read` of several rows, from their memories on."""
        rows = self._sizes.rows
        seen = stages.along(request.p.seen & known.replicate(rows) if self._blocks.paged else request.p.seen, "seen")
        if name == "k":
            m.d.comb += answer.i.p.seen.eq(stages.along(request.p.seen, "wanted"))
        for field, (memories, address, bits) in wanted.items():
            given = [self._fetch(m, stages, name, its, memory, address, bits)[0]
                     for its, memory in zip(row_names(field, rows), memories)]
            m.d.comb += answer.i.p[field].eq(Cat(Mux(seen[row], value, 0) for row, value in enumerate(given)))
        return Cat(stages.valid[1:], answer.holds).any(), None

    def _fetch(self, m, stages, name, field, memory, address, bits):
        """A word of a memory, at the last stage: (value,), and with error correction (value, corrected, failed)."""
        m.d.comb += [memory.read_en.eq(stages.move[1]), memory.read_address.eq(address)]
        given = stages.along(memory.read_data, f"{field}_given", first=2, until=3)
        if not self._ecc:
            return given,
        syndrome = stages.along(secded.syndromes(given, bits), f"{field}_syndrome", first=3)
        word = stages.along(given[:bits], field, first=3)
        return secded.correct(m, word, syndrome, name=f"{name}_{field}")

    def _count_errors(self, m, k, v):
        """Counts the errors of K and V; of both at once, a K row's is the first."""
        m.d.sync += [self.corrected.eq(self.corrected + k.corrected + v.corrected),
                     self.failed.eq(self.failed + k.failed + v.failed)]
        with m.If((self.failed == 0) & (k.failed | v.failed)):
            m.d.sync += [self.fault[field].eq(Mux(k.failed, of_k, of_v))
                         for field, of_k, of_v in zip(("slot", "position"), k.place, v.place)]


def _register(m, value, name):
    """``value`` a cycle later."""
    signal = Signal.like(value, reset_less=True, name=name)
    m.d.sync += signal.eq(value)
    return signal


class KvWriter(wiring.Component):
    """Copies the K and V heads of entries from the qkv buffer into the KV cache.

    For each command the K heads, then the V heads, each word by word: one request per cycle, from the cycle after the
    command was taken; the next command is taken with the last request. What comes back is written as it comes. `done`
    is up for the one cycle in which the final row of a command with ``last`` becomes readable.

    Parameters
    ----------
    sizes : KvSizes
    entries : int                   entries that commands are of, T
    num_attention_heads : int       query heads, which follow the K and V heads of an entry in the buffer

    Members
    -------
    cmd : In(stream)        `place_layout`: {entry, slot, position, layer, last}
    r : Out(stream)         `head_read_layout`: {row, part, meta}, for the qkv buffer
    i : In(stream)          `slice_layout`: {codes, exp, meta}, its answers
    write : Out(stream)     for `KvCache.write`
    done : Out(1)
    """

    def __init__(self, *, sizes, entries, num_attention_heads):
        self._sizes, self._heads = sizes, 2 * sizes.num_key_value_heads + num_attention_heads
        super().__init__({
            "cmd": In(stream.Signature(place_layout(sizes, entries))),
            "r": Out(stream.Signature(head_read_layout(sizes, entries * self._heads))),
            "i": In(stream.Signature(slice_layout(sizes.lanes, head_meta_layout(sizes)))),
            "write": Out(stream.Signature(kv_write_layout(sizes))),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        cmd, r, i, write = self.cmd, self.r, self.i, self.write

        busy, final = Signal(name="busy"), Signal()
        entry = Signal(cmd.p.shape(), reset_less=True)
        value, head, part = (Signal.like(r.p.meta[field], name=field) for field in ("value", "head", "part"))
        row = Signal.like(r.p.row, reset_less=True)
        last_part, last_head = part == self._sizes.words - 1, head == self._sizes.num_key_value_heads - 1
        m.d.comb += [final.eq(last_part & last_head & value), cmd.ready.eq(~busy | r.ready & final),
                     r.valid.eq(busy), r.p.row.eq(row), r.p.part.eq(part),
                     r.p.meta.value.eq(value), r.p.meta.head.eq(head), r.p.meta.part.eq(part),
                     r.p.meta.last.eq(entry.last & final),
                     *(r.p.meta[field].eq(entry[field]) for field in ("slot", "layer", "position"))]
        with m.If(r.valid & r.ready):
            m.d.sync += part.eq(part + 1)
            with m.If(last_part):
                m.d.sync += [part.eq(0), head.eq(head + 1), row.eq(row + 1)]
                with m.If(last_head):
                    m.d.sync += [head.eq(0), value.eq(~value)]
        with m.If(cmd.ready):
            m.d.sync += [busy.eq(cmd.valid), entry.eq(cmd.p), row.eq(scaled(cmd.p.entry, self._heads))]

        m.d.comb += [write.valid.eq(i.valid), i.ready.eq(write.ready),
                     write.p.codes.eq(i.p.codes), write.p.exp.eq(i.p.exp),
                     *(write.p[field].eq(i.p.meta[field])
                       for field in ("value", "slot", "layer", "head", "position", "part"))]
        m.d.sync += self.done.eq(write.valid & write.ready & i.p.meta.last)
        return m
