"""The residual: embeddings start it, the array's sums are added to it, norms read it, a CRC tells it apart."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import clip, clip_fixed, fp8_magnitude, magnitude, shift_window, times, unpack_bf16, window_amount
from ..lib.layouts import (EXP_BITS, OFFSET_BITS, bias_layout, embed_layout, normed_layout, residual_read_layout, residual_row_layout,
                           result_layout,
                           signature_layout)
from ..lib.pipeline import Pipeline

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

    Embeddings: hi codes set a granule, lo codes add to it, and so do those of a learned position, which come behind; a row's ``mag``
    counts the final values only, and starts again at part 0.

    Biases of `Block.added` are added with the sums: one more number, and one saturation. They are kept as fixed-point numbers;
    sums that are taken two cycles after a granule of a bias (``golden.residual.BIAS_LATENCY``) have the new one, earlier ones the old.

    With post norms (``design.block.post_norms``) the sums go to a unit of their own, made with ``sums``: a command sets n rows to them
    (and biases), and the norm unit reads these. The residual then adds the norm's results, row after row: the granules of a
    command in the order (entry, part).

    Parameters
    ----------
    design : Design
    sums : bool     rows are set, not added to: no embeddings, no signatures; reads never wait, nor need they be answered before a command

    Members
    -------
    embed : In(stream)     `embed_layout`: codes of the embedding rows; a granule's lo codes come after its hi codes
    embed_exp : In         exponent of the weights of ``embed``, as they are taken
    embed_done : Out(1)    the granule with ``last`` is readable
    cmd : In(stream)       {n, final}: add n rows; ``final`` makes a signature of each, and its sums have the bias of the second of
                           `Block.added`, else of the first. With ``sums`` {n}, and where there is a bias a flag called like the second
    exp : In               exponent of the weights, taken over with the command; only where sums come
    i : In(stream)         `result_layout`, or `normed_layout` where the norm's results come
    bias : In(stream)      `bias_layout`, always taken, of projects that have a bias; only where sums come and there is one
    done : Out(1)          all rows of the command are readable, and their signatures are on offer or gone
    read : In(stream)      `residual_read_layout`
    read_o : Out(stream)   `residual_row_layout`
    sig : Out(stream)      `signature_layout`, entry 0 first: CRC-32 of the row's words, little-endian, as zlib.crc32
    saturated : Out(1)     numbers of the granule that was taken five cycles before were clipped: one to be added (a bias too), or a sum
    """

    def __init__(self, design, *, sums=False):
        if sums and not design.block.post_norms:
            raise ValueError("Block must have post norms, or its sums go to the residual")
        self._design, self._sums = design, sums
        self._normed = design.block.post_norms and not sums
        self._biased = [] if self._normed else [second for second, project in enumerate(design.block.added) if design.block.biased(project)]
        embed = {"embed": In(stream.Signature(embed_layout(design))), "embed_exp": In(signed(EXP_BITS)), "embed_done": Out(1)}
        flags = {"final": 1} if not sums else {design.block.from_ff.name: 1} if self._biased else {}
        super().__init__({
            **({} if sums else embed),
            "cmd": In(stream.Signature(data.StructLayout({"n": range(design.hw.entries + 1), **flags}))),
            **({} if self._normed else {"exp": In(signed(EXP_BITS))}),
            "i": In(stream.Signature(normed_layout(design) if self._normed else result_layout(design))), "done": Out(1),
            **({"bias": In(stream.Signature(bias_layout(design)))} if self._biased else {}),
            "read": In(stream.Signature(residual_read_layout(design))),
            "read_o": Out(stream.Signature(residual_row_layout(design))),
            **({} if sums else {"sig": Out(stream.Signature(signature_layout(design)))}), "saturated": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        design, v, entries = self._design, self._design.hw.vector_lanes, self._design.hw.entries
        parts, groups = design.hidden // v, design.hw.columns // v
        added = design.layer_hidden() // v                                              # parts of a row that sums are added to
        fmt, fraction = design.recipe.weight_format, design.hw.residual_fraction
        embeds, normed, biased = not self._sums, self._normed, self._biased
        pair = embeds and design.recipe.codes_per_head_weight == 2
        learned = embeds and design.model.learned_positions
        i, e = self.i.payload, self.embed.payload if embeds else embed_layout(design).const({})

        # The command, and where a granule of sums, or of the norm's results, belongs
        adding, final, busy = Signal(name="adding"), Signal(name="final"), Signal()
        top_entry, exp = (Signal(range(entries), reset_less=True, name="top_entry"),
                          Signal(signed(EXP_BITS), reset_less=True, name="held_exp"))
        base = Signal(range(parts))                      # the tile's first granule
        sent, complete = Signal(range(entries + 1), name="sent"), Signal(range(entries + 1))   # signatures
        if normed:
            add_entry, add_part = i.row, i.part
            tile_end = add_last = (i.part == parts - 1) & (i.row == top_entry)
        else:
            add_entry, add_part = i.entry, base + i.group
            tile_end = (i.group == groups - 1) & (i.entry == top_entry)
            add_last = tile_end & (base == added - groups)
        m.d.comb += [self.cmd.ready.eq(~busy & (sent == complete)), self.i.ready.eq(adding)]
        if embeds:
            m.d.comb += self.embed.ready.eq(~adding)
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += [adding.eq(1), busy.eq(1)]
            if embeds or biased:
                m.d.sync += final.eq(self.cmd.payload.final if embeds else self.cmd.payload[design.block.from_ff.name])
            m.d.sync += top_entry.eq(self.cmd.payload.n - 1)
            if not normed:
                m.d.sync += exp.eq(self.exp)
            m.d.sync += [sent.eq(0), complete.eq(0)]
        with m.If(self.i.valid & self.i.ready & tile_end):
            if not normed:
                m.d.sync += base.eq(base + groups)
            with m.If(add_last):
                m.d.sync += [base.eq(0), adding.eq(0)]
        with m.If(self.done):
            m.d.sync += busy.eq(0)

        def chosen(added, embedded, adding=adding):      # an argument: what a function closes over has another name in the Verilog
            return Mux(adding, added, embedded) if embeds else added

        # Operations in the stages; all go on in every cycle, for the memory never waits. Stage 0 takes one.
        fields = {"address": range(entries * parts), "entry": range(entries), "row_first": 1, "row_last": 1, "set": 1, "settled": 1,
                  "add": 1, "last": 1}
        operation = data.StructLayout(fields | ({"bias": range(len(biased) * parts), "biased": 1} if biased else {}))
        valid = [Signal(name=f"valid{k}") for k in range(6)]
        op = [Signal(operation, name=f"op{k}", reset_less=True) for k in range(6)]
        part, entry = chosen(add_part, e.part), chosen(add_entry, e.entry)
        settled = e.lo if pair else Const(1)
        if learned:
            settled = settled & e.position
        m.d.comb += [
            valid[0].eq(Mux(adding, self.i.valid, self.embed.valid if embeds else 0)), op[0].address.eq(times(entry, parts) + part),
            op[0].entry.eq(entry), op[0].row_first.eq(part == 0), op[0].row_last.eq(part == added - 1),
            op[0].set.eq(~adding & ~e.lo & ~e.position if learned else ~adding & ~e.lo),
            op[0].settled.eq(adding | settled if pair or learned else 1), op[0].add.eq(adding),
            op[0].last.eq(chosen(add_last, e.last))]
        if biased:
            m.d.comb += [op[0].bias.eq(self._bias_address(add_part, final)),
                         op[0].biased.eq(adding if len(biased) == 2 else adding & (final == biased[0]))]
        m.d.sync += [after.eq(before) for line in (valid, op) for before, after in zip(line, line[1:])]
        m.d.sync += self.done.eq(valid[5] & op[5].last & op[5].add)
        if embeds:
            m.d.sync += self.embed_done.eq(valid[5] & op[5].last & ~op[5].add)

        # The memory is read in stage 1, or for a read, and written in stage 4. Rows that are set are only read for reads.
        m.submodules.rows = rows = memory.Memory(shape=data.ArrayLayout(signed(WORD), v), depth=entries * parts, init=[])
        fetch, store = rows.read_port(), rows.write_port()
        reader = stream.Signature(residual_read_layout(design)).create(path=("reader",))
        pipe = Pipeline(m, reader, self.read_o, stages=2)
        fetching = valid[1] if embeds else Const(0)
        m.d.comb += [
            reader.valid.eq(self.read.valid & ~fetching), self.read.ready.eq(reader.ready & ~fetching),
            fetch.en.eq(fetching | pipe.advance),
            fetch.addr.eq(Mux(fetching, op[1].address, times(self.read.payload.entry, parts) + self.read.payload.part))]

        # Stage 0: magnitude and amount. 1: shift. 2: round. 3: add. 4: store.
        embed_left = self.embed_exp + (fmt.unit_exp + fraction) if embeds else None
        if not normed:
            left = Signal(signed(EXP_BITS + 3))
            m.d.comb += left.eq(chosen(exp + i.exp + (design.acc_unit + fraction), embed_left))
        if not normed and not design.scaled:
            amount = window_amount(m, left, design.acc_bits, WORD, name="op")
            amount1 = Signal(amount.shape(), reset_less=True)
            m.d.sync += amount1.eq(amount)
        biases = self._bias(m, op) if biased else None

        # What was fetched misses the last three operations. Only lo codes can come so soon after their hi codes, and a position's codes
        # after those of the token.
        near = [back for back in (1, 2, 3) if (pair or learned) and back >= (design.hw.lanes // v if pair else parts)]
        same2 = {back: Signal(name=f"same{back}_2", reset_less=True) for back in near}    # in stage 2
        same3 = {back: Signal(name=f"same{back}_3", reset_less=True) for back in near}    # in stage 3
        for back in near:
            m.d.sync += [same2[back].eq(valid[1 + back] & (op[1].address == op[1 + back].address)),
                         same3[back].eq(same2[back])]

        total, clipped = [], []
        for lane in range(v):
            name = f"lane{lane}"

            def reg(value, what, name=name):
                value = Value.cast(value)
                register = Signal(value.shape(), name=f"{name}_{what}", reset_less=True)
                m.d.sync += register.eq(value)
                return register

            code_sign, code = fp8_magnitude(m, e.codes[lane], fmt, name=f"{name}_code") if embeds else (None, None)
            if normed:
                add_sign, mag, left = _of_bf16(i.x[lane], fraction)
                amount1 = reg(window_amount(m, chosen(left, embed_left), max(fmt.int_bits, len(mag)), WORD, name=name), "amount1")
            else:
                add_sign, mag = magnitude(m, i.acc[lane], name=name)
                if design.scaled:
                    of_row = left + chosen(i.rows[lane], Const(0, OFFSET_BITS))
                    amount1 = reg(window_amount(m, of_row, design.acc_bits, WORD, name=name), "amount1")
            sign = reg(chosen(add_sign, code_sign), "sign1")
            shifted = shift_window(m, reg(chosen(mag, code), "mag1"), amount1, WORD, name=name)
            shifted = (reg(value, what) for value, what in zip(shifted, ("window", "sticky", "overflow")))
            addend, beyond = (reg(value, what) for value, what in zip(
                clip_fixed(m, reg(sign, "sign2"), *shifted, name=name), ("addend", "beyond")))
            result = Signal(signed(WORD), name=f"{name}_result", reset_less=True)
            terms = [addend]
            if embeds:
                before = fetch.data[lane]
                if 3 in near:
                    before = Mux(same2[3], reg(result, "result5"), before)
                if 2 in near:
                    before = Mux(same2[2], result, before)
                before = reg(Mux(op[2].set, 0, before).as_signed(), "before")
                if 1 in near:
                    before = Mux(same3[1] & ~op[3].set, result, before).as_signed()
                terms = [before, addend]
            if biased:
                terms.append(biases[lane].x)
                beyond = beyond | biases[lane].clipped
            limited, outside = clip(m, sum(terms[1:], terms[0]), WORD, name=name)
            m.d.sync += result.eq(limited)
            total.append(result)
            clipped.append(reg(beyond | outside, "clipped"))
        m.d.comb += [store.addr.eq(op[4].address), store.en.eq(valid[4]), store.data.eq(Cat(total))]
        m.d.sync += self.saturated.eq(valid[4] & Cat(clipped).any())

        # Magnitude and CRC of a row: the granule's part in stage 4, the row's in stage 5
        ored, checked = Signal(WORD - 1, reset_less=True, name="ored"), Signal(WORD, reset_less=True, name="checked")
        spread = [x[:-1] ^ x[-1].replicate(WORD - 1) for x in total]
        m.d.sync += [bit.eq(Cat(x[k] for x in spread).any()) for k, bit in enumerate(ored)]
        m.submodules.mags = mags = _row_memory(m, entries, WORD - 1, op[5], valid[5], op[5].settled, ored, lambda old: old | ored)
        if embeds:
            of_state, of_words = crc_matrices(v)
            m.d.sync += checked.eq(_times(of_words, Cat(total)))
            m.submodules.crcs = crcs = _row_memory(m, entries, WORD, op[5], valid[5], op[5].add & final,
                                                   _times(of_state, Const(-1, WORD)) ^ checked, lambda old: _times(of_state, old) ^ checked)

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

    def _bias_address(self, part, second):
        """Of a granule in the biases' memory: one row for each project that has a bias."""
        return part + Mux(second, self._design.hidden // self._design.hw.vector_lanes, 0) if len(self._biased) == 2 else part

    def _bias(self, m, op):
        """The biases of what is in stage 3, 0 where there is none: for each lane {x, clipped}, as fixed-point numbers."""
        hw, b = self._design.hw, self.bias.payload
        layout = data.ArrayLayout(data.StructLayout({"x": signed(WORD), "clipped": 1}), hw.vector_lanes)
        depth = len(self._biased) * self._design.hidden // hw.vector_lanes
        m.submodules.biases = biases = memory.Memory(shape=layout, depth=depth, init=[])
        new, old = biases.write_port(), biases.read_port()

        # What comes is never held up. Stage 0: amount. 1: shift. 2: round and store.
        converted = stream.Signature(0, always_ready=True).create(path=("bias_converted",))
        pipe = Pipeline(m, self.bias, converted, stages=2, name="bias")
        address = self._bias_address(b.part, b[self._design.block.from_ff.name])
        m.d.comb += [new.en.eq(converted.valid), new.addr.eq(pipe.reg(address, name="bias_address", stages=2))]
        for lane in range(hw.vector_lanes):
            name = f"bias{lane}"
            sign, mag, left = _of_bf16(b.x[lane], hw.residual_fraction)
            amount = window_amount(m, left, len(mag), WORD, name=name)
            sign, mag, amount = pipe.reg((sign, mag, amount), name=f"{name}_1")
            number = pipe.reg((sign, *shift_window(m, mag, amount, WORD, name=name)), name=f"{name}_2")
            x, clipped = clip_fixed(m, *number, name=name)
            m.d.comb += [new.data[lane].x.eq(x), new.data[lane].clipped.eq(clipped)]

        # Asked for in stage 1, there in stage 2
        m.d.comb += [old.addr.eq(op[1].bias), old.en.eq(1)]
        found = Signal(layout, name="bias_found", reset_less=True)
        m.d.sync += found.eq(Mux(op[2].biased, old.data, 0))
        return found


def _of_bf16(bits, fraction):
    """(sign, magnitude, places to the left that make it fixed point with ``fraction`` bits) of a bf16."""
    x = unpack_bf16(bits)
    return x.sign, x.significand, x.exponent + (fraction - 127 - 7)


def _row_memory(m, entries, bits, op, valid, take, first, follow):
    """A memory of one word for each row: in the row's first granule it is ``first``, and in each other one ``follow`` of what it was."""
    made = memory.Memory(shape=unsigned(bits), depth=entries, init=[])
    old, new = made.read_port(domain="comb"), made.write_port()
    m.d.comb += [old.addr.eq(op.entry), new.addr.eq(op.entry), new.en.eq(valid & take),
                 new.data.eq(Mux(op.row_first, first, follow(old.data)))]
    return made


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
