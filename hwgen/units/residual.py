"""The residual: embeddings start it, the array's sums are added to it, norms read it, a CRC tells it apart."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import Pipeline, clip, clip_fixed, fp8_magnitude, magnitude, shift_window, times, window_amount
from ..lib.layouts import (EXP_BITS, embed_layout, residual_read_layout, residual_row_layout, result_layout,
                           signature_layout)

__all__ = ["Residual"]

CRC_POLYNOMIAL = 0xEDB88320    # IEEE 802.3, reflected: as in zlib
WORD = 32


class Residual(wiring.Component):
    """T rows of 32-bit fixed-point numbers, added to in granules of V; rounded to nearest even and saturated each time.

    Embeddings and adds are always taken, one granule per cycle, and change the memory five cycles later: a read taken in
    cycle s + 5 sees what was taken in cycle s (``golden.residual.ADD_LATENCY``). ``embed_done`` and ``done`` are high
    for one cycle six cycles after the last granule. A command of n entries takes all granules of n rows in the array's
    order (n-tile, entry, group); the next is taken after ``done``, and after all signatures.

    Reads are answered in two cycles (READ_LATENCY), one per cycle. Whoever reads a row while it is added to gets old
    granules or new ones; a read offered in the cycle of an add's memory access waits, but answers must have been
    taken before embeddings and commands come.

    Embeddings: hi codes set a granule, lo codes add to it; a row's ``mag`` counts the final values only, and starts
    again at part 0.

    Parameters
    ----------
    design : Design

    Members
    -------
    embed : In(stream)     `embed_layout`: codes of the embedding rows; a granule's lo codes come after its hi codes
    embed_exp : In         exponent of the embedding's weights; stable while embeddings come
    embed_done : Out(1)    the granule with ``last`` is readable
    cmd : In(stream)       {n, final}: add n rows; ``final`` makes a signature of each
    exp : In               exponent of the weights, taken over with the command
    i : In(stream)         `result_layout`
    done : Out(1)          all rows of the command are readable, and their signatures are on offer or gone
    read : In(stream)      `residual_read_layout`
    read_o : Out(stream)   `residual_row_layout`
    sig : Out(stream)      `signature_layout`, entry 0 first: CRC-32 of the row's words, little-endian, as zlib.crc32
    saturated : Out(1)     numbers of the granule that was taken five cycles before were clipped: one to be added, or a sum
    """

    def __init__(self, design):
        self._design = design
        super().__init__({
            "embed": In(stream.Signature(embed_layout(design))), "embed_exp": In(signed(EXP_BITS)), "embed_done": Out(1),
            "cmd": In(stream.Signature(data.StructLayout({"n": range(design.hw.entries + 1), "final": 1}))),
            "exp": In(signed(EXP_BITS)), "i": In(stream.Signature(result_layout(design))), "done": Out(1),
            "read": In(stream.Signature(residual_read_layout(design))),
            "read_o": Out(stream.Signature(residual_row_layout(design))),
            "sig": Out(stream.Signature(signature_layout(design))), "saturated": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        design, v, entries = self._design, self._design.hw.vector_lanes, self._design.hw.entries
        parts, groups = design.hidden // v, design.hw.columns // v
        fmt, fraction = design.recipe.weight_format, design.hw.residual_fraction
        pair = design.recipe.codes_per_head_weight == 2
        i, e = self.i.payload, self.embed.payload

        # The command, and where a granule of sums belongs
        adding, final, busy = Signal(), Signal(), Signal()
        top_entry, exp = Signal(range(entries), reset_less=True), Signal(signed(EXP_BITS), reset_less=True)
        base = Signal(range(parts))                      # the tile's first granule
        sent, complete = Signal(range(entries + 1)), Signal(range(entries + 1))   # signatures
        tile_end = (i.group == groups - 1) & (i.entry == top_entry)
        add_last = tile_end & (base == parts - groups)
        m.d.comb += [self.cmd.ready.eq(~busy & (sent == complete)), self.i.ready.eq(adding), self.embed.ready.eq(~adding)]
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += [adding.eq(1), busy.eq(1), final.eq(self.cmd.payload.final), top_entry.eq(self.cmd.payload.n - 1),
                         exp.eq(self.exp), sent.eq(0), complete.eq(0)]
        with m.If(self.i.valid & self.i.ready & tile_end):
            m.d.sync += base.eq(base + groups)
            with m.If(add_last):
                m.d.sync += [base.eq(0), adding.eq(0)]
        with m.If(self.done):
            m.d.sync += busy.eq(0)

        # Operations in the stages; all go on in every cycle, for the memory never waits. Stage 0 takes one.
        operation = data.StructLayout({"address": range(entries * parts), "entry": range(entries), "row_first": 1,
                                       "row_last": 1, "set": 1, "settled": 1, "add": 1, "last": 1})
        valid = [Signal(name=f"valid{k}") for k in range(6)]
        op = [Signal(operation, name=f"op{k}", reset_less=True) for k in range(6)]
        part, entry = Mux(adding, base + i.group, e.part), Mux(adding, i.entry, e.entry)
        m.d.comb += [
            valid[0].eq(Mux(adding, self.i.valid, self.embed.valid)), op[0].address.eq(times(entry, parts) + part),
            op[0].entry.eq(entry), op[0].row_first.eq(part == 0), op[0].row_last.eq(part == parts - 1),
            op[0].set.eq(~adding & ~e.lo), op[0].settled.eq(adding | e.lo if pair else 1), op[0].add.eq(adding),
            op[0].last.eq(Mux(adding, add_last, e.last))]
        m.d.sync += [after.eq(before) for line in (valid, op) for before, after in zip(line, line[1:])]
        m.d.sync += [self.done.eq(valid[5] & op[5].last & op[5].add), self.embed_done.eq(valid[5] & op[5].last & ~op[5].add)]

        # The memory is read in stage 1, or for a read, and written in stage 4
        m.submodules.rows = rows = memory.Memory(shape=data.ArrayLayout(signed(WORD), v), depth=entries * parts, init=[])
        fetch, store = rows.read_port(), rows.write_port()
        reader = stream.Signature(residual_read_layout(design)).create(path=("reader",))
        pipe = Pipeline(m, reader, self.read_o, stages=2)
        m.d.comb += [
            reader.valid.eq(self.read.valid & ~valid[1]), self.read.ready.eq(reader.ready & ~valid[1]),
            fetch.en.eq(valid[1] | pipe.advance),
            fetch.addr.eq(Mux(valid[1], op[1].address, times(self.read.payload.entry, parts) + self.read.payload.part))]

        # Stage 0: magnitude and amount. 1: shift. 2: round. 3: add. 4: store.
        left = Signal(signed(EXP_BITS + 3))
        m.d.comb += left.eq(Mux(adding, exp + i.exp + (design.acc_unit + fraction),
                                self.embed_exp + (fmt.unit_exp + fraction)))
        amount = window_amount(m, left, design.acc_bits, WORD, name="op")
        amount1 = Signal(amount.shape(), reset_less=True)
        m.d.sync += amount1.eq(amount)

        # What was fetched misses the last three operations. Only lo codes can come so soon after their hi codes.
        near = [back for back in (1, 2, 3) if pair and back >= design.hw.lanes // v]
        same2 = {back: Signal(name=f"same{back}_2", reset_less=True) for back in near}    # in stage 2
        same3 = {back: Signal(name=f"same{back}_3", reset_less=True) for back in near}    # in stage 3
        for back in near:
            m.d.sync += [same2[back].eq(valid[1 + back] & (op[1].address == op[1 + back].address)),
                         same3[back].eq(same2[back])]

        total, clipped = [], []
        for lane in range(v):
            name = f"lane{lane}"

            def reg(value, what):
                value = Value.cast(value)
                register = Signal(value.shape(), name=f"{name}_{what}", reset_less=True)
                m.d.sync += register.eq(value)
                return register

            code_sign, code = fp8_magnitude(m, e.codes[lane], fmt, name=f"{name}_code")
            sum_sign, mag = magnitude(m, i.acc[lane], name=name)
            sign = reg(Mux(adding, sum_sign, code_sign), "sign1")
            shifted = shift_window(m, reg(Mux(adding, mag, code), "mag1"), amount1, WORD, name=name)
            shifted = (reg(value, what) for value, what in zip(shifted, ("window", "sticky", "overflow")))
            addend, beyond = (reg(value, what) for value, what in zip(
                clip_fixed(m, reg(sign, "sign2"), *shifted, name=name), ("addend", "beyond")))
            result = Signal(signed(WORD), name=f"{name}_result", reset_less=True)
            before = fetch.data[lane]
            if 3 in near:
                before = Mux(same2[3], reg(result, "result5"), before)
            if 2 in near:
                before = Mux(same2[2], result, before)
            before = reg(Mux(op[2].set, 0, before).as_signed(), "before")
            if 1 in near:
                before = Mux(same3[1] & ~op[3].set, result, before).as_signed()
            limited, outside = clip(m, before + addend, WORD, name=name)
            m.d.sync += result.eq(limited)
            total.append(result)
            clipped.append(reg(beyond | outside, "clipped"))
        m.d.comb += [store.addr.eq(op[4].address), store.en.eq(valid[4]), store.data.eq(Cat(total))]
        m.d.sync += self.saturated.eq(valid[4] & Cat(clipped).any())

        # Magnitude and CRC of a row: the granule's part in stage 4, the row's in stage 5
        ored, checked = Signal(WORD - 1, reset_less=True), Signal(WORD, reset_less=True)
        spread = [x[:-1] ^ x[-1].replicate(WORD - 1) for x in total]
        m.d.sync += [bit.eq(Cat(x[k] for x in spread).any()) for k, bit in enumerate(ored)]
        of_state, of_words = crc_matrices(v)
        m.d.sync += checked.eq(_times(of_words, Cat(total)))
        m.submodules.mags = mags = memory.Memory(shape=unsigned(WORD - 1), depth=entries, init=[])
        m.submodules.crcs = crcs = memory.Memory(shape=unsigned(WORD), depth=entries, init=[])
        for of_row, take, first, follow in (
                (mags, op[5].settled, ored, lambda old: old | ored),
                (crcs, op[5].add & final, _times(of_state, Const(-1, WORD)) ^ checked, lambda old: _times(of_state, old) ^ checked)):
            old, new = of_row.read_port(domain="comb"), of_row.write_port()
            m.d.comb += [old.addr.eq(op[5].entry), new.addr.eq(op[5].entry), new.en.eq(valid[5] & take),
                         new.data.eq(Mux(op[5].row_first, first, follow(old.data)))]

        # Signatures, in order of the entries
        crc = crcs.read_port(domain="comb")
        m.d.comb += [self.sig.valid.eq(sent != complete), crc.addr.eq(sent), self.sig.payload.entry.eq(sent),
                     self.sig.payload.crc.eq(~crc.data)]
        with m.If(valid[5] & op[5].add & final & op[5].row_last):
            m.d.sync += complete.eq(complete + 1)
        with m.If(self.sig.valid & self.sig.ready):
            m.d.sync += sent.eq(sent + 1)

        # Reads
        mag = mags.read_port(domain="comb")
        m.d.comb += [mag.addr.eq(pipe.reg(self.read.payload.entry, name="read_entry")),
                     self.read_o.payload.mag.eq(pipe.reg(mag.data, name="read_mag"))]
        m.d.comb += [self.read_o.payload.x[lane].eq(pipe.reg(fetch.data[lane], name=f"read_x{lane}")) for lane in range(v)]
        return m


def crc_matrices(words):
    """CRC-32 of ``words`` words as two linear maps, (state, words) -> state: for each bit of the result the inputs it is the XOR of."""
    def run(state, data):
        for word in range(words):
            state ^= data >> (WORD * word) & ((1 << WORD) - 1)
            for _ in range(WORD):
                state = state >> 1 ^ (CRC_POLYNOMIAL if state & 1 else 0)
        return state

    def transposed(columns):
        return [[k for k, column in enumerate(columns) if column >> bit & 1] for bit in range(WORD)]

    return (transposed([run(1 << k, 0) for k in range(WORD)]), transposed([run(0, 1 << k) for k in range(WORD * words)]))


def _times(matrix, value):
    return Cat(Cat(value[k] for k in row).xor() for row in matrix)
