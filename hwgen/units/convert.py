"""The array's sums of QKV and of gate/up, scaled and rounded to bf16."""
from dataclasses import dataclass
from typing import NamedTuple

from amaranth.hdl import Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.arith import ADD_BF16_STAGES, add_bf16, sum_to_bf16
from ..lib.layouts import EXP_BITS, converted_layout
from ..lib.pipeline import Pipeline

__all__ = ["Convert", "Converted"]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A matrix whose sums are converted: one of `Block.converted`.

    name            of the `Project`
    exponents       places in the record of the exponents of its matrices, in the order of their rows
    bias_parts      granules of its biases, padding included; 0: it has none
    """
    name: str
    exponents: tuple
    bias_parts: int = 0


class _Command(NamedTuple):
    """The command under way: there is one; it is of the second matrix; its last entry; the exponents of
    its record."""
    busy: Signal
    second: Signal
    top_entry: Signal
    exps: object


class Convert(wiring.Component):
    """Sums to bf16: ``acc * 2**(e_w + e_a + acc_unit)``, rounded once to nearest even; then the bias, with a rounding
    of its own. Padding is dropped.

    A command names the matrix; then its results are taken, in the array's order (n-tile, entry, group) and all of them,
    padding included, before the next command. They leave in that order with their place: head (K heads, V heads, Q
    heads) and granule in the head, or granule in the gate/up row. ``last`` marks the last real granule of the command.

    A granule taken in cycle s is offered in cycle s + 4, or s + 10 where a matrix has a bias
    (``golden.convert.latency``), one per cycle; the first is taken no earlier than the cycle after the command, and the
    next command in the cycle after the last.

    Biases are kept for each biased matrix and bank. Those of a command are to be taken at ``bias`` before the command,
    and not to be changed before its last granule has been offered.

    Parameters
    ----------
    results : Results               the array's sums
    heads : Heads                   of the first matrix, with the same ``entries`` and ``vector_lanes``
    padded_intermediate_size : int  elements of gates, and of ups, as stored
    record_words : int              exponents of a record, `Block.record_words`
    acc_unit : int                  exponent of a sum's unit before the scales
    into_heads : Converted          the first matrix: keys, values and queries
    into_ff : Converted             the second one: gates and ups, whose rows are in turn, or ups alone
    banks : int                     1, or 2 for two half-batches, each of which brings its biases

    Members
    -------
    cmd : In(stream)     {flag, n}: whether it is the second matrix, called like that one, and the number of entries,
                         at least 1
    exps : In            exponents of the matrix's record; taken over with the command
    bank : In(1)         only with two banks of biases: of the command, taken over with it
    bias : In(stream)    only where a matrix has biases: {x, flag, bank, part}, V numbers in bf16 of granule ``part``
                         of the matrix's stored rows (bank only if there are two); always ready
    i : In(stream)       `Results.layout`
    o : Out(stream)      `converted_layout`
    """

    def __init__(self, *, results, heads, padded_intermediate_size, record_words, acc_unit, into_heads, into_ff,
                 banks=1):
        self._results, self._heads, self._banks, self._acc_unit = results, heads, banks, acc_unit
        self._into_heads, self._into_ff, self._ff = into_heads, into_ff, padded_intermediate_size
        self._flag = into_ff.name     # tells the matrices apart
        v = results.vector_lanes
        self._row_parts = len(into_ff.exponents) * padded_intermediate_size // v
        # (gate_up, bank) -> place of its biases in the memory
        self._regions, self._depth = {}, 0
        for gate_up, matrix in enumerate((into_heads, into_ff)):
            for bank in range(banks if matrix.bias_parts else 0):
                self._regions[gate_up, bank] = self._depth
                self._depth += matrix.bias_parts
        members = {
            "cmd": In(stream.Signature(data.StructLayout({self._flag: 1, "n": range(results.entries + 1)}))),
            "exps": In(data.ArrayLayout(signed(EXP_BITS), record_words)),
            "i": In(stream.Signature(results.layout)),
            "o": Out(stream.Signature(converted_layout(vector_lanes=v, entries=results.entries, heads=heads.count,
                                                       parts=max(heads.parts, self._row_parts)))),
        }
        if self._regions:
            which = {self._flag: 1, "bank": 1} if banks == 2 else {self._flag: 1}
            layout = data.StructLayout({"x": data.ArrayLayout(unsigned(16), v), **which,
                                        "part": range(max(into_heads.bias_parts, into_ff.bias_parts))})
            members |= {"bias": In(stream.Signature(layout)), **({"bank": In(1)} if banks == 2 else {})}
        super().__init__(members)

    def _region(self, gate_up, bank):
        """Where the biases of a matrix and bank begin; of one without, anywhere."""
        first, second = (Mux(gate_up, self._regions.get((1, b), 0), self._regions.get((0, b), 0))
                         for b in (0, self._banks - 1))
        return Mux(bank, second, first)

    def elaborate(self, platform):
        m = Module()
        command = self._command(m)
        here, matrix_end = self._count(m, command)

        # Sums to bf16: magnitude, its highest bit, shift, round
        gate = stream.Signature(self._results.layout).create(path=("gate",))
        m.d.comb += [gate.valid.eq(self.i.valid & command.busy), self.i.ready.eq(gate.ready & command.busy)]
        stages = 4 + (ADD_BF16_STAGES if self._regions else 0)
        pipe = Pipeline(m, gate, self.o, stages=stages, take=~here.past)
        i = self.i.payload
        of_head = self._head_exponent(command.exps, here.head)
        bias = self._bias(m, pipe, here.at, command.second) if self._regions else None
        highest = self._highest(pipe, command, of_head)
        for lane in range(self._results.vector_lanes):
            rounded = sum_to_bf16(m, pipe, i.acc[lane], highest[lane % len(highest)], name=f"lane{lane}")
            if bias is not None:
                rounded = add_bf16(m, pipe, rounded, bias[lane], name=f"lane{lane}_sum")
            m.d.comb += self.o.payload.x[lane].eq(rounded)
        for field, value in (("entry", i.entry), ("head", here.head), ("part", here.part),
                             ("last", matrix_end & (i.entry == command.top_entry))):
            m.d.comb += self.o.payload[field].eq(pipe.reg(value, name=field, stages=stages))
        return m

    def _command(self, m):
        """Takes a command when there is none: the `_Command` under way."""
        command = _Command(
            busy=Signal(name="busy"), second=Signal(reset_less=True, name=self._flag),
            top_entry=Signal(range(self._results.entries), reset_less=True, name="top_entry"),
            exps=Signal(self.exps.shape(), reset_less=True, name="held_exps"))
        m.d.comb += self.cmd.ready.eq(~command.busy)
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += [command.busy.eq(1), command.second.eq(self.cmd.payload[self._flag]),
                         command.top_entry.eq(self.cmd.payload.n - 1), command.exps.eq(self.exps)]
        return command

    def _count(self, m, command):
        """(Where the granule at ``i`` belongs; it is the matrix's last real one of its entry).

        The place goes up by one with each, and back to the tile's start with the tile's next entry.
        """
        heads, v, i = self._heads, self._results.vector_lanes, self.i.payload
        place = data.StructLayout({"head": range(heads.count),
                                   "part": range(max(heads.padded_head_dim, 2 * self._ff) // v),
                                   "past": 1, **({"at": range(max(2, self._depth))} if self._regions else {})})
        here, after, start = Signal(place, name="here"), Signal(place, name="after"), Signal(place, name="start")
        last_part = Signal.like(here.part, reset_less=True, name="last_part")
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += last_part.eq(Mux(self.cmd.payload[self._flag], self._row_parts, heads.parts) - 1)
        row_end = here.part == last_part
        matrix_end = row_end & (command.second | (here.head == heads.count - 1))
        m.d.comb += [after.head.eq(Mux(row_end, here.head + 1, here.head)),
                     after.part.eq(Mux(row_end, 0, here.part + 1)), after.past.eq(here.past | matrix_end)]
        if self._regions:
            m.d.comb += after.at.eq(here.at + 1)
            with m.If(self.cmd.valid & self.cmd.ready):
                at = self._region(self.cmd.payload[self._flag], self.bank if self._banks == 2 else Const(0, 1))
                m.d.sync += [here.at.eq(at), start.at.eq(at)]
        entry_end = i.group == self._results.groups - 1
        tile_end = entry_end & (i.entry == command.top_entry)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += here.eq(after)
            with m.If(entry_end):
                m.d.sync += here.eq(start)
            with m.If(tile_end):
                m.d.sync += [here.eq(after), start.eq(after)]
                with m.If(after.past):
                    m.d.sync += [here.eq(0), start.eq(0), command.busy.eq(0)]
        return here, matrix_end

    def _head_exponent(self, exps, head):
        """Of the matrix that has the rows of a head."""
        keys, values, queries = (exps[place] for place in self._into_heads.exponents)
        return Mux(head < self._heads.first_value, keys, Mux(head < self._heads.first_query, values, queries))

    def _highest(self, pipe, command, of_head):
        """Exponents of a magnitude's highest bit, biased as in a bf16, two stages later: of lane k that of k modulo
        their number.

        Gates and ups are in turn; with offsets of rows each lane has its own.
        """
        i, by_row = self.i.payload, self._results.row_offsets
        found = [pipe.reg(Mux(command.second, command.exps[place], of_head) + i.exp
                          + (self._acc_unit + self._results.acc_bits - 1 + 127),
                          name=f"highest{lane}", stages=1 if by_row else 2)
                 for lane, place in enumerate(self._into_ff.exponents)]
        if not by_row:
            return found
        offsets = [pipe.reg(i.rows[lane], name=f"offset{lane}") for lane in range(self._results.vector_lanes)]
        return [pipe.reg(found[lane % len(found)] + offset, name=f"own_highest{lane}")
                for lane, offset in enumerate(offsets)]

    def _bias(self, m, pipe, at, gate_up):
        """V biases, those at place ``at``, four stages later; 0 where the matrix has none."""
        m.submodules.biases = memory = Memory(shape=self.bias.payload.x.shape(), depth=max(2, self._depth), init=[])
        write, read = memory.write_port(), memory.read_port()
        i = self.bias.payload
        m.d.comb += [
            self.bias.ready.eq(1), write.en.eq(self.bias.valid), write.data.eq(i.x),
            write.addr.eq(self._region(i[self._flag], i.bank if self._banks == 2 else Const(0, 1)) + i.part),
            read.en.eq(pipe.advance), read.addr.eq(pipe.reg(at, name="at", stages=3)),
        ]
        if len(self._regions) == 2 * self._banks:
            return read.data
        has = pipe.reg(gate_up if (1, 0) in self._regions else ~gate_up, name="biased", stages=4)
        return [Mux(has, x, 0) for x in read.data]
