"""The KV memory outside: who owns its blocks, what is written there, and whole jobs of rows that are read."""
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.layouts import (ERROR_BITS, EXP_BITS, ask_layout, k_row_layout, kv_job_layout, kv_put_layout,
                           kv_write_layout, v_row_layout)
from ..lib.skid import SkidRegister
from ..params.kv_port import EXPONENT_BYTES
from .kv_blocks import scaled
from .weights import request_layout

__all__ = ["KvPort"]

#: Jobs whose rows have not all been handed out: one that is read, and those that are asked for.
JOBS = 4


class _Written(NamedTuple):
    """A word on its way to the memory: its row is in block ``index`` of all lines."""
    there: object
    value: object
    index: object
    offset: object
    part: object
    codes: object
    exp: object


class _Asked(NamedTuple):
    """What is asked of the memory next: ``rows`` rows of a line's block, from ``offset`` on, K or V (``value``).

    index       of the block, among those of all lines
    base        its first beat: combinational
    """
    index: Signal
    value: Signal
    offset: Signal
    rows: Signal
    base: object


class _Copy(NamedTuple):
    """The copy of a block, a line's K or V rows after the other.

    active      it is under way
    moves       beats that are read are put to ``target`` and behind it
    done        all of a request's, in this cycle
    """
    active: Signal
    moves: Signal
    target: Signal
    done: Signal


class KvPort(wiring.Component):
    """Keys and values of all slots in a memory outside, as rows of FP8 codes with an exponent each, where
    `hwgen.params.kv_port.KvPlaces` says.

    Rows are written in words of A codes, in the order of their parts; in front of a row's first one its exponent is.
    They are read by jobs: all K rows of a job from its ``first`` position (or 0) on, word by word, then all its V rows,
    in order of jobs. The rows of a block are a request for the memory, three cycles after the one before it was taken
    at the earliest; none is made before all writes are ``settled``. A job's positions must be its slot's, and written.

    Blocks are owned as in `hwgen.units.kv_cache.KvCache`: a position at or beyond a slot's length is not written. A
    copy of a block is made, a layer's head after the other, when no job is under way; other requests wait for it.

    Parameters
    ----------
    sizes : KvSizes
    places : KvPlaces
    blocks : KvBlocks               of the same blocks
    windowed : bool                 jobs have a ``first``

    Members
    -------
    ask, error      In(stream), Out     as those of `KvBlocks`
    write : In(stream)      `kv_write_layout`: {value (1 = V), slot, layer, head, position, part, codes, exp}
    jobs : In(stream)       `kv_job_layout`: {slot, layer, head, position, first}
    k_o : Out(stream)       `k_row_layout`: {codes, exp, v_exp, last}
    v_o : Out(stream)       `v_row_layout`: {codes, last}
    req : Out(stream)       `request_layout`: beats wanted of the memory
    beats : In(stream)      A bytes each, in the order asked for
    put : Out(stream)       `kv_put_layout`: a beat for the memory
    settled : In(1)         all that was put is in the memory
    """

    def __init__(self, *, sizes, places, blocks, windowed):
        self._sizes, self._places, self._blocks, self._windowed = sizes, places, blocks, windowed
        super().__init__({
            "ask": In(stream.Signature(ask_layout(slots=sizes.slots, context=sizes.context))), "error": Out(ERROR_BITS),
            "write": In(stream.Signature(kv_write_layout(sizes))),
            "jobs": In(stream.Signature(kv_job_layout(sizes, windowed))),
            "k_o": Out(stream.Signature(k_row_layout(sizes.lanes))),
            "v_o": Out(stream.Signature(v_row_layout(sizes.lanes))),
            "req": Out(stream.Signature(request_layout(stream_beats=places.beats))),
            "beats": In(stream.Signature(unsigned(8 * places.beat_bytes))),
            "put": Out(stream.Signature(kv_put_layout(beats=places.beats, beat_bytes=places.beat_bytes))),
            "settled": In(1)})

    @property
    def _copies(self):
        """Blocks may be copied: slots share them, and a block may be full in part."""
        return self._blocks.paged and self._blocks.kv_block > 1

    def elaborate(self, platform):
        m = Module()
        places, beats = self._places, range(self._places.beats)
        m.submodules.blocks = blocks = self._blocks
        connect(m, flipped(self.ask), blocks.ask)
        m.d.comb += self.error.eq(blocks.error)
        m.submodules.beat_register = register = SkidRegister(self.beats.payload.shape())
        connect(m, flipped(self.beats), register.i)
        m.submodules.rows = rows = SyncFIFO(width=(self._sizes.context).bit_length(), depth=JOBS)
        index = Signal(range(places.lines * places.blocks), reset_less=True, name="index")
        asked = _Asked(index, Signal(name="value"),
                       Signal(max(1, blocks.offset_bits), reset_less=True, name="offset"),
                       Signal(range(places.kv_block + 1), reset_less=True, name="ahead"),
                       scaled(index, places.block_beats))
        copy = _Copy(Signal(name="copying"), Signal(name="copy_moves"),
                     Signal(beats, reset_less=True, name="copy_target"), Signal(name="copy_done"))
        settled = Signal(name="all_settled")
        m.d.comb += settled.eq(self.settled & ~self._put(m, copy, register.o))
        with m.FSM():
            self._read_jobs(m, asked, copy, rows, settled)
            if self._copies:
                self._copy_blocks(m, asked, copy)
        self._hand_out(m, copy, rows, register.o)
        return m

    # -- to the memory

    def _put(self, m, copy, beat):
        """Words become beats, a row's first one two: addresses, then a register; or the beats of a copy do. Returns:
        something is on its way."""
        places, w, port, put = self._places, self.write.p, self._blocks.write, self.put
        free, step, headed = Signal(name="put_free"), Signal(name="step"), Signal(name="headed")
        m.d.comb += [port.slot.eq(w.slot), port.position.eq(w.position), self.write.ready.eq(step),
                     free.eq(~put.valid | put.ready)]
        line = scaled(w.layer, self._sizes.num_key_value_heads) + w.head
        offset = w.position[:self._blocks.offset_bits] if self._blocks.offset_bits else Const(0, 1)
        first = self._stage(m, step, "taken", _Written(
            self.write.valid & port.known, w.value, scaled(line, places.blocks) + port.physical, offset, w.part,
            w.codes.as_value(), w.exp.as_unsigned()))
        second = self._stage(m, step, "placed", first._replace(index=scaled(first.index, places.block_beats)))
        row = second.index + scaled(second.offset, places.k_beats)
        words = Mux(second.value, second.index + scaled(second.offset, places.v_beats) + places.v_offset,
                    row + places.head_beats)
        third = self._stage(m, step, "ready", second._replace(index=words + second.part))
        head = Signal(range(places.beats), reset_less=True, name="head_address")
        with m.If(step):        # of the exponents: an A of one needs a beat for each
            m.d.sync += head.eq(row + (second.value if places.head_beats > 1 else 0))
        wants_head, moved = Signal(name="wants_head"), Signal(range(places.block_beats), name="moved")
        m.d.comb += [wants_head.eq((third.part == 0) & ~headed),
                     step.eq(~copy.active & (~third.there | free & ~wants_head))]
        with m.If(free):
            m.d.sync += [put.valid.eq(third.there), headed.eq(third.there & wants_head), put.p.strobe.eq(~0)]
            with m.If(wants_head):
                m.d.sync += [put.p.address.eq(head), *self._exponent(put, third)]
            with m.Else():
                m.d.sync += [put.p.address.eq(third.index), put.p.data.eq(third.codes)]
            with m.If(copy.moves):
                m.d.comb += [beat.ready.eq(1), copy.done.eq(beat.valid & (moved + 1 == self.req.p.count))]
                m.d.sync += [put.valid.eq(beat.valid), put.p.address.eq(copy.target + moved),
                             put.p.data.eq(beat.payload), put.p.strobe.eq(~0), moved.eq(moved + beat.valid)]
        with m.If(~copy.moves):
            m.d.sync += moved.eq(0)
        return put.valid | Cat(stage.there for stage in (first, second, third)).any()

    def _stage(self, m, step, name, values):
        """Registers of a `_Written`; only that it is there is reset."""
        found = []
        for field, value in zip(values._fields, values):
            signal = Signal.like(value, reset_less=field != "there", name=f"{name}_{field}")
            with m.If(step):
                m.d.sync += signal.eq(value)
            found.append(signal)
        return _Written(*found)

    def _exponent(self, put, word):
        """Assignments of the beat that has an exponent: that of the V row behind that of the K row."""
        bits, size = 8 * EXPONENT_BYTES, self._places.beat_bytes
        exponent = word.exp.as_signed()[:EXP_BITS]
        spread = Cat(exponent, exponent[-1].replicate(bits - EXP_BITS))
        if size == EXPONENT_BYTES:
            return [put.p.data.eq(spread), put.p.strobe.eq(~0)]
        low = (1 << EXPONENT_BYTES) - 1
        return [put.p.data.eq(Cat(spread, spread)), put.p.strobe.eq(Mux(word.value, low << EXPONENT_BYTES, low))]

    # -- from the memory

    def _read_jobs(self, m, asked, copy, rows, settled):
        """States in which jobs become requests, a block's K rows or V rows each; and the last two of a copy's."""
        places, port, bits, req = self._places, self._blocks.k, self._blocks.offset_bits, self.req
        job = Signal(self.jobs.p.shape(), reset_less=True, name="job")
        first, new_first = (job.first, self.jobs.p.first) if self._windowed else (Const(0, 1), Const(0, 1))
        position = Signal.like(job.position, reset_less=True, name="position")
        offset = position[:bits] if bits else Const(0, 1)
        to_end, in_block = job.position - position + 1, places.kv_block - offset
        line = scaled(job.layer, self._sizes.num_key_value_heads) + job.head
        copies = self._blocks.copy.valid & ~rows.r_rdy & settled if self._copies else Const(0, 1)
        m.d.comb += [port.slot.eq(job.slot), port.position.eq(position), req.p.stride.eq(0),
                     rows.w_data.eq(self.jobs.p.position + 1 - new_first)]
        with m.State("IDLE"):
            m.d.sync += [job.eq(self.jobs.p), asked.value.eq(0), position.eq(new_first)]
            with m.If(self.jobs.valid & rows.w_rdy & ~copies):
                m.d.comb += [self.jobs.ready.eq(1), rows.w_en.eq(1)]
                m.next = "LOOK"
            if self._copies:
                with m.If(copies):
                    m.d.sync += copy.active.eq(1)
                    m.next = "NEW"
        with m.State("LOOK"):
            m.d.sync += [asked.index.eq(scaled(line, places.blocks) + port.physical), asked.offset.eq(offset),
                         asked.rows.eq(Mux(to_end < in_block, to_end, in_block))]
            m.next = "ADDRESS"
        with m.State("ADDRESS"):
            k, v = (scaled(asked.offset, beats) for beats in (places.k_beats, places.v_beats))
            m.d.sync += [req.p.address.eq(asked.base + Mux(asked.value, v + places.v_offset, k)),
                         req.p.count.eq(Mux(asked.value, scaled(asked.rows, places.v_beats),
                                            scaled(asked.rows, places.k_beats)))]
            m.next = "ASK"
        with m.State("ASK"):
            m.d.comb += req.valid.eq(settled)
            with m.If(req.valid & req.ready):
                m.d.sync += position.eq(position + asked.rows)
                m.next = "LOOK"
                with m.If(copy.active):
                    m.next = "MOVE" if self._copies else "IDLE"
                with m.Elif(to_end == asked.rows):
                    m.d.sync += [asked.value.eq(1), position.eq(first)]
                    with m.If(asked.value):
                        m.next = "IDLE"

    def _copy_blocks(self, m, asked, copy):
        """States of a copy: where a line's rows go, where they are; and what comes is put."""
        places, wanted = self._places, self._blocks.copy
        line = Signal(range(places.lines), name="line")
        with m.State("NEW"):
            m.d.sync += [asked.index.eq(scaled(line, places.blocks) + wanted.p.new), asked.offset.eq(0),
                         asked.rows.eq(wanted.p.count)]
            m.next = "TARGET"
        with m.State("TARGET"):
            m.d.sync += copy.target.eq(asked.base + Mux(asked.value, places.v_offset, 0))
            m.next = "OLD"
        with m.State("OLD"):
            m.d.sync += asked.index.eq(scaled(line, places.blocks) + wanted.p.old)
            m.next = "ADDRESS"
        with m.State("MOVE"):
            m.d.comb += copy.moves.eq(1)
            with m.If(copy.done):
                m.d.sync += asked.value.eq(~asked.value)
                m.next = "NEW"
                with m.If(asked.value):
                    m.d.sync += line.eq(line + 1)
                    with m.If(line == places.lines - 1):
                        m.d.sync += [line.eq(0), copy.active.eq(0)]
                        m.d.comb += wanted.ready.eq(1)
                        m.next = "IDLE"

    def _hand_out(self, m, copy, rows, beat):
        """Beats of jobs are exponents and words of K rows, then words of V rows: so many ``rows`` of each."""
        places, k, v, size = self._places, self.k_o, self.v_o, 8 * EXPONENT_BYTES
        value, row = Signal(name="gives_v"), Signal(self._sizes.context.bit_length(), name="row")
        part = Signal(range(places.k_beats), name="part")
        there, heads, ends, last = Signal(), Signal(name="heads"), Signal(), Signal()
        m.d.comb += [there.eq(beat.valid & ~copy.active), heads.eq(~value & (part < places.head_beats)),
                     ends.eq(part == Mux(value, places.v_beats - 1, places.k_beats - 1)),
                     last.eq(row + 1 == rows.r_data), rows.r_en.eq(0)]
        exps = Signal(2 * size, reset_less=True, name="exponents")
        m.d.comb += [k.valid.eq(there & ~value & ~heads), v.valid.eq(there & value),
                     *(o.p.last.eq(ends & last) for o in (k, v)),
                     *(o.p.codes.as_value().eq(beat.payload) for o in (k, v)),
                     k.p.exp.eq(exps[:EXP_BITS].as_signed()), k.p.v_exp.eq(exps[size:size + EXP_BITS].as_signed())]
        with m.If(there & (heads | Mux(value, v.ready, k.ready))):
            m.d.comb += beat.ready.eq(1)
            m.d.sync += part.eq(part + 1)
            with m.If(heads):
                m.d.sync += exps.eq(Cat(exps, beat.payload)[-2 * size:] if places.head_beats > 1 else beat.payload)
            with m.If(ends):
                m.d.sync += [part.eq(0), row.eq(row + 1)]
                with m.If(last):
                    m.d.sync += [row.eq(0), value.eq(~value)]
                    m.d.comb += rows.r_en.eq(value)
