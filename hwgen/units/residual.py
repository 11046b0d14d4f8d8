"""The residual: embeddings start it, the array's sums are added to it, norms read it, a CRC tells it apart."""
from dataclasses import dataclass
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import clip, clip_fixed, fp8_magnitude, magnitude, shift_window, times, window_amount
from ..lib.biases import WORD, bias_address, fixed_biases, of_bf16
from ..lib.forwarding import before, register, same_address
from ..lib.layouts import (EXP_BITS, OFFSET_BITS, bias_layout, embed_layout, normed_layout, residual_read_layout,
                           residual_row_layout, signature_layout)
from ..lib.pipeline import Pipeline
from ..lib.row_marks import row_crcs, row_magnitudes
from ..lib.vectors import Results
from ..params.formats import Fp8

__all__ = ["Residual", "ResidualParams"]

#: Stages of an operation: the memory is read in FETCH and written in STORE; the last one has the row's maximum and CRC.
FETCH, STORE, STAGES = 1, 4, 5


@dataclass(frozen=True, kw_only=True)
class ResidualParams:
    """What a residual has, and what is added to it.

    results             the array's sums. Where a norm's results are added, only entries and granules are as there
    lanes               elements of an embedding's slice, of which all hi codes come before the lo codes: a multiple of
                        the granule
    padded_hidden_size  elements of a row as stored: a multiple of the granule
    added_size          elements of a row that sums are added to, the first ones: a multiple of the array's columns
    residual_fraction   fraction bits, 0 to 32
    weight_format       of the embedding's codes
    embedding_codes     codes of each number of an embedding: 1, or 2 (hi and lo)
    learned_positions   an embedding has a second row, of its position
    acc_unit            exponent of a sum's unit before the scales
    post_norms          sums are normed before they are added
    biased              numbers of those of `Block.added`, 0 and 1, that have a bias
    second              name of the second of `Block.added`, and of the flag that tells it from the first
    """
    results: Results
    lanes: int
    padded_hidden_size: int
    added_size: int
    residual_fraction: int
    weight_format: Fp8
    acc_unit: int
    second: str
    embedding_codes: int = 1
    learned_positions: bool = False
    post_norms: bool = False
    biased: tuple = ()


class _Command(NamedTuple):
    """The command under way.

    adding      its granules are taken, and no embeddings
    busy        it has not been done
    final       its flag
    top_entry   its last row
    exp         the exponent of its weights
    sent        of its signatures: how many have been taken
    complete    ... and how many could be
    """
    adding: Signal
    busy: Signal
    final: Signal
    top_entry: Signal
    exp: Signal
    sent: Signal
    complete: Signal


class _Place(NamedTuple):
    """Of a granule that is added: its row, its number there, and whether it is the command's last."""
    entry: object
    part: object
    last: object


class _Line(NamedTuple):
    """Operations by their stages: whether there is one, and what."""
    valid: list
    op: list


class _Memory(NamedTuple):
    """Its ports, and the pipeline of reads."""
    fetch: object
    store: object
    pipe: Pipeline


class _Scale(NamedTuple):
    """How far to the left a number is shifted: ``left``, one that is embedded by ``embedded``; ``amount``: for
    `shift_window`, in stage 1. None where each lane has its own."""
    left: object
    embedded: object
    amount: object


class Residual(wiring.Component):
    """T rows of 32-bit fixed-point numbers, added to in granules of V; rounded to nearest even and saturated each time.

    Embeddings and adds are always taken, one granule per cycle, and change the memory five cycles later: a read taken
    in cycle s + 5 sees what was taken in cycle s (``golden.residual.ADD_LATENCY``). ``embed_done`` and ``done`` are
    high for one cycle six cycles after the last granule. A command of n entries takes all granules of n rows in the
    array's order (n-tile, entry, group); the next is taken after ``done``, and after all signatures.

    Reads are answered in two cycles (READ_LATENCY), one per cycle. Whoever reads a row while it is added to gets old
    granules or new ones; a read offered in the cycle of an add's memory access waits, but answers must have been
    taken before embeddings and commands come.

    Embeddings: hi codes set a granule, lo codes add to it, and so do those of a learned position, which come behind; a
    row's ``mag`` counts the final values only, and starts again at part 0.

    Biases of `Block.added` are added with the sums: one more number, and one saturation. They are kept as fixed-point
    numbers; sums that are taken two cycles after a granule of a bias (``golden.residual.BIAS_LATENCY``) have the new
    one, earlier ones the old.

    With ``post_norms`` the sums go to a unit of their own, made with ``sums``: a command sets
    n rows to them (and biases), and the norm unit reads these. The residual then adds the norm's results, row after
    row: the granules of a command in the order (entry, part).

    Parameters
    ----------
    params : ResidualParams
    sums : bool     rows are set, not added to: no embeddings, no signatures; reads never wait, nor need they be
                    answered before a command

    Members
    -------
    embed : In(stream)     `embed_layout`: codes of the embedding rows; a granule's lo codes come after its hi codes
    embed_exp : In         exponent of the weights of ``embed``, as they are taken
    embed_done : Out(1)    the granule with ``last`` is readable
    cmd : In(stream)       {n, final}: add n rows; ``final`` makes a signature of each, and its sums have the bias of
                           the second of `Block.added`, else of the first. With ``sums`` {n}, and where there is a bias
                           a flag called like the second
    exp : In               exponent of the weights, taken over with the command; only where sums come
    i : In(stream)         `Results.layout`, or `normed_layout` where the norm's results come
    bias : In(stream)      `bias_layout`, always taken, of projects that have a bias; only where sums come and there
                           is one
    done : Out(1)          all rows of the command are readable, and their signatures are on offer or gone
    read : In(stream)      `residual_read_layout`
    read_o : Out(stream)   `residual_row_layout`
    sig : Out(stream)      `signature_layout`, entry 0 first: CRC-32 of the row's words, little-endian, as zlib.crc32
    saturated : Out(1)     numbers of the granule that was taken five cycles before were clipped: one to be added (a
                           bias too), or a sum
    """

    def __init__(self, params, *, sums=False):
        if sums and not params.post_norms:
            raise ValueError("Block must have post norms, or its sums go to the residual")
        self._params, self._sums = params, sums
        self._entries, self._lanes = entries, lanes = params.results.entries, params.results.vector_lanes
        self._normed = params.post_norms and not sums
        self._biased = () if self._normed else params.biased
        # granules of a row, and of what sums are added to; embeddings have lo codes, and positions' behind tokens'
        self._parts, self._parts_added = params.padded_hidden_size // lanes, params.added_size // lanes
        self._pair = not sums and params.embedding_codes == 2
        self._learned = not sums and params.learned_positions
        rows = {"entries": entries, "parts": self._parts}
        self._embed_layout = embed_layout(vector_lanes=lanes, **rows, positions=self._learned)
        embed = {"embed": In(stream.Signature(self._embed_layout)), "embed_exp": In(signed(EXP_BITS)),
                 "embed_done": Out(1)}
        granule = normed_layout(vector_lanes=lanes, **rows) if self._normed else params.results.layout
        bias = bias_layout(vector_lanes=lanes, parts=self._parts, flag=params.second)
        flags = {"final": 1} if not sums else {params.second: 1} if self._biased else {}
        super().__init__({
            **({} if sums else embed),
            "cmd": In(stream.Signature(data.StructLayout({"n": range(entries + 1), **flags}))),
            **({} if self._normed else {"exp": In(signed(EXP_BITS))}),
            "i": In(stream.Signature(granule)), "done": Out(1),
            **({"bias": In(stream.Signature(bias))} if self._biased else {}),
            "read": In(stream.Signature(residual_read_layout(**rows))),
            "read_o": Out(stream.Signature(residual_row_layout(vector_lanes=lanes))),
            **({} if sums else {"sig": Out(stream.Signature(signature_layout(entries=entries)))}), "saturated": Out(1),
        })

    @property
    def _embedding(self):
        """The granule at ``embed``."""
        return self._embed_layout.const({}) if self._sums else self.embed.payload

    def _chosen(self, adding, added, embedded):
        """Of what is added or embedded that which is taken."""
        return added if self._sums else Mux(adding, added, embedded)

    def elaborate(self, platform):
        m = Module()
        command = self._command()
        line = self._operations(m, command, self._place(m, command))
        memory_ = self._memory(m, line)
        results = self._add(m, command, line, memory_)
        self._answer(m, memory_, self._follow_rows(m, command, line, results))
        return m

    # -- the command, and its granules

    def _command(self):
        """Registers of the command under way."""
        entries, counts = range(self._entries), range(self._entries + 1)
        return _Command(
            adding=Signal(name="adding"), busy=Signal(name="busy"), final=Signal(name="final"),
            top_entry=Signal(entries, reset_less=True, name="top_entry"),
            exp=Signal(signed(EXP_BITS), reset_less=True, name="held_exp"),
            sent=Signal(counts, name="sent"), complete=Signal(counts, name="complete"))

    def _place(self, m, command):
        """Where the granule at ``i`` belongs; and takes commands, and their granules in their order."""
        i, normed, groups = self.i.payload, self._normed, self._params.results.groups
        base = Signal(range(self._parts))                # the tile's first granule
        if normed:
            tile_end = last = (i.part == self._parts - 1) & (i.row == command.top_entry)
            place = _Place(i.row, i.part, last)
        else:
            tile_end = (i.group == groups - 1) & (i.entry == command.top_entry)
            place = _Place(i.entry, base + i.group, tile_end & (base == self._parts_added - groups))
        m.d.comb += [self.cmd.ready.eq(~command.busy & (command.sent == command.complete)),
                     self.i.ready.eq(command.adding)]
        if not self._sums:
            m.d.comb += self.embed.ready.eq(~command.adding)
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += [command.adding.eq(1), command.busy.eq(1)]
            if not self._sums:
                m.d.sync += command.final.eq(self.cmd.payload.final)
            elif self._biased:
                m.d.sync += command.final.eq(self.cmd.payload[self._params.second])
            m.d.sync += command.top_entry.eq(self.cmd.payload.n - 1)
            if not normed:
                m.d.sync += command.exp.eq(self.exp)
            m.d.sync += [command.sent.eq(0), command.complete.eq(0)]
        with m.If(self.i.valid & self.i.ready & tile_end):
            if not normed:
                m.d.sync += base.eq(base + groups)
            with m.If(place.last):
                m.d.sync += [base.eq(0), command.adding.eq(0)]
        with m.If(self.done):
            m.d.sync += command.busy.eq(0)
        return place

    def _operations(self, m, command, place):
        """The `_Line` of operations: stage 0 takes one, and all go on in every cycle, for the memory never waits."""
        entries, parts, e, biased = self._entries, self._parts, self._embedding, self._biased
        adding, pair, learned = command.adding, self._pair, self._learned
        fields = {"address": range(entries * parts), "entry": range(entries), "row_first": 1, "row_last": 1, "set": 1,
                  "settled": 1, "add": 1, "last": 1}
        operation = data.StructLayout(fields | ({"bias": range(len(biased) * parts), "biased": 1} if biased else {}))
        valid = [Signal(name=f"valid{k}") for k in range(STAGES + 1)]
        op = [Signal(operation, name=f"op{k}", reset_less=True) for k in range(STAGES + 1)]
        part, entry = self._chosen(adding, place.part, e.part), self._chosen(adding, place.entry, e.entry)
        settled = e.lo if pair else Const(1)
        if learned:
            settled = settled & e.position
        m.d.comb += [
            valid[0].eq(Mux(adding, self.i.valid, 0 if self._sums else self.embed.valid)),
            op[0].address.eq(times(entry, parts) + part),
            op[0].entry.eq(entry), op[0].row_first.eq(part == 0), op[0].row_last.eq(part == self._parts_added - 1),
            op[0].set.eq(~adding & ~e.lo & ~e.position if learned else ~adding & ~e.lo),
            op[0].settled.eq(adding | settled if pair or learned else 1), op[0].add.eq(adding),
            op[0].last.eq(self._chosen(adding, place.last, e.last))]
        if biased:
            m.d.comb += [op[0].bias.eq(bias_address(place.part, command.final, biased=biased, parts=parts)),
                         op[0].biased.eq(adding if len(biased) == 2 else adding & (command.final == biased[0]))]
        m.d.sync += [after.eq(before) for line in (valid, op) for before, after in zip(line, line[1:])]
        m.d.sync += self.done.eq(valid[5] & op[5].last & op[5].add)
        if not self._sums:
            m.d.sync += self.embed_done.eq(valid[5] & op[5].last & ~op[5].add)
        return _Line(valid, op)

    # -- the memory

    def _memory(self, m, line):
        """The rows: read in stage FETCH, or for a read, and written in stage STORE. Rows that are set are only read for
        reads."""
        parts = self._parts
        m.submodules.rows = rows = memory.Memory(shape=data.ArrayLayout(signed(WORD), self._lanes),
                                                 depth=self._entries * parts, init=[])
        fetch, store = rows.read_port(), rows.write_port()
        reader = stream.Signature(self.read.payload.shape()).create(path=("reader",))
        pipe = Pipeline(m, reader, self.read_o, stages=2)
        fetching = Const(0) if self._sums else line.valid[FETCH]
        m.d.comb += [
            reader.valid.eq(self.read.valid & ~fetching), self.read.ready.eq(reader.ready & ~fetching),
            fetch.en.eq(fetching | pipe.advance),
            fetch.addr.eq(Mux(fetching, line.op[FETCH].address,
                              times(self.read.payload.entry, parts) + self.read.payload.part))]
        return _Memory(fetch, store, pipe)

    def _answer(self, m, memory_, row_mags):
        """Reads, two cycles after their request."""
        pipe, fetch, mag = memory_.pipe, memory_.fetch, row_mags.read_port(domain="comb")
        m.d.comb += [mag.addr.eq(pipe.reg(self.read.payload.entry, name="read_entry")),
                     self.read_o.payload.mag.eq(pipe.reg(mag.data, name="read_mag"))]
        m.d.comb += [self.read_o.payload.x[lane].eq(pipe.reg(fetch.data[lane], name=f"read_x{lane}"))
                     for lane in range(self._lanes)]

    # -- what is added

    def _add(self, m, command, line, memory_):
        """Stage 0: magnitude and amount. 1: shift. 2: round. 3: add. 4: store. Gives the granule of stage STORE."""
        fetch, store = memory_.fetch, memory_.store
        scale = self._scale(m, command)
        biases = fixed_biases(m, self.bias, line.op, biased=self._biased, parts=self._parts, flag=self._params.second,
                              fraction=self._params.residual_fraction) if self._biased else None
        recent = same_address(m, line, self._behind())
        total, clipped = [], []
        for lane in range(self._lanes):
            name = f"lane{lane}"
            addend, beyond = self._addend(m, lane, command.adding, scale)
            result = Signal(signed(WORD), name=f"{name}_result", reset_less=True)
            terms = [addend]
            if not self._sums:
                terms = [before(m, name, line.op, recent, fetch.data[lane], result), addend]
            if biases is not None:
                terms.append(biases[lane].x)
                beyond = beyond | biases[lane].clipped
            limited, outside = clip(m, sum(terms[1:], terms[0]), WORD, name=name)
            m.d.sync += result.eq(limited)
            total.append(result)
            clipped.append(register(m, beyond | outside, f"{name}_clipped"))
        m.d.comb += [store.addr.eq(line.op[STORE].address), store.en.eq(line.valid[STORE]), store.data.eq(Cat(total))]
        m.d.sync += self.saturated.eq(line.valid[STORE] & Cat(clipped).any())
        return total

    def _scale(self, m, command):
        """The `_Scale` of what is added or embedded, by its exponents."""
        params, fraction, bits = self._params, self._params.residual_fraction, self._params.results.acc_bits
        embedded = None if self._sums else self.embed_exp + (params.weight_format.unit_exp + fraction)
        if self._normed:
            return _Scale(None, embedded, None)
        left = Signal(signed(EXP_BITS + 3), name="left")
        exponent = command.exp + self.i.payload.exp + (params.acc_unit + fraction)
        m.d.comb += left.eq(self._chosen(command.adding, exponent, embedded))
        if params.results.row_offsets:
            return _Scale(left, embedded, None)
        return _Scale(left, embedded, register(m, window_amount(m, left, bits, WORD, name="op"), "amount1"))

    def _addend(self, m, lane, adding, scale):
        """(What one lane adds, as a fixed-point number; it was clipped), in stage 3."""
        params, i, name = self._params, self.i.payload, f"lane{lane}"
        fmt, amount = params.weight_format, scale.amount
        code_sign, code = 0, 0
        if not self._sums:
            code_sign, code = fp8_magnitude(m, self._embedding.codes[lane], fmt, name=f"{name}_code")
        if self._normed:
            sign, mag, left = of_bf16(i.x[lane], params.residual_fraction)
            left, bits = self._chosen(adding, left, scale.embedded), max(fmt.int_bits, len(mag))
            amount = register(m, window_amount(m, left, bits, WORD, name=name), f"{name}_amount1")
        else:
            sign, mag = magnitude(m, i.acc[lane], name=name)
            if params.results.row_offsets:
                of_row = scale.left + self._chosen(adding, i.rows[lane], Const(0, OFFSET_BITS))
                amount = window_amount(m, of_row, params.results.acc_bits, WORD, name=name)
                amount = register(m, amount, f"{name}_amount1")
        sign = register(m, self._chosen(adding, sign, code_sign), f"{name}_sign1")
        mag = register(m, self._chosen(adding, mag, code), f"{name}_mag1")
        shifted = shift_window(m, mag, amount, WORD, name=name)
        sign = register(m, sign, f"{name}_sign2")
        shifted = [register(m, value, f"{name}_{what}")
                   for value, what in zip(shifted, ("window", "sticky", "overflow"))]
        addend, beyond = clip_fixed(m, sign, *shifted, name=name)
        return register(m, addend, f"{name}_addend"), register(m, beyond, f"{name}_beyond")

    def _behind(self):
        """How many operations before one may be at the same address and not stored yet.

        What was fetched misses the last three operations. Only lo codes can come so soon after their hi codes, and a
        position's codes after those of the token.
        """
        apart = self._params.lanes // self._lanes if self._pair else self._parts
        return [back for back in (1, 2, 3) if (self._pair or self._learned) and back >= apart]

    def _follow_rows(self, m, command, line, total):
        """Magnitude and CRC of a row: those of the granule in stage 4, of the row in stage 5. Gives the memory of
        magnitudes."""
        valid, op, final = line.valid[5], line.op[5], command.final
        ored, checked = Signal(WORD - 1, reset_less=True, name="ored"), Signal(WORD, reset_less=True, name="checked")
        m.submodules.mags = mags = row_magnitudes(m, self._entries, op, valid, total, ored)
        if self._sums:
            return mags
        m.submodules.crcs = crcs = row_crcs(m, self._entries, op, valid & (op.add & final), total, checked)
        # Signatures, in order of the entries
        crc = crcs.read_port(domain="comb")
        m.d.comb += [self.sig.valid.eq(command.sent != command.complete), crc.addr.eq(command.sent),
                     self.sig.payload.entry.eq(command.sent), self.sig.payload.crc.eq(~crc.data)]
        with m.If(valid & op.add & final & op.row_last):
            m.d.sync += command.complete.eq(command.complete + 1)
        with m.If(self.sig.valid & self.sig.ready):
            m.d.sync += command.sent.eq(command.sent + 1)
        return mags
