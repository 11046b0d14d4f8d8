"""The array's sums of QKV and of gate/up, scaled and rounded to bf16."""
from typing import NamedTuple

from amaranth.hdl import Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.arith import ADD_BF16_STAGES, add_bf16, sum_to_bf16
from ..lib.layouts import EXP_BITS, converted_layout, result_layout
from ..lib.pipeline import Pipeline

__all__ = ["Convert"]


class _Command(NamedTuple):
    """The command under way: there is one; it is of the second of `Block.converted`; its last entry; the exponents of
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

    A granule taken in cycle s is offered in cycle s + 4, or s + 10 where the block has a bias
    (``golden.convert.latency``), one per cycle; the first is taken no earlier than the cycle after the command, and the
    next command in the cycle after the last.

    Biases are kept for each biased matrix and bank. Those of a command are to be taken at ``bias`` before the command,
    and not to be changed before its last granule has been offered.

    Parameters
    ----------
    design : Design
    banks : int          1, or 2 for two half-batches, each of which brings its biases

    Members
    -------
    cmd : In(stream)     {flag, n}: which of `Block.converted`, called like the second one, and the number of entries,
                         at least 1
    exps : In            exponents of the matrix's record, at the places of `Block.record_of`; taken over with the
                         command
    bank : In(1)         only with two banks of biases: of the command, taken over with it
    bias : In(stream)    only where the block has biases: {x, flag, bank, part}, V numbers in bf16 of granule ``part``
                         of the matrix's stored rows (bank only if there are two); always ready
    i : In(stream)       `result_layout`
    o : Out(stream)      `converted_layout`
    """

    def __init__(self, design, banks=1):
        self._design, self._banks, block = design, banks, design.block
        self._flag = block.into_ff.name     # tells the matrices apart
        hw, v = design.hw, design.hw.vector_lanes
        self._sums = result_layout(
            columns=hw.columns, vector_lanes=hw.vector_lanes, entries=hw.entries, acc_bits=design.acc_bits,
            row_offsets=design.scaled, with_adapters=hw.adapters > 0)
        # (gate_up, bank) -> place of its biases in the memory
        self._regions, self._depth, parts = {}, 0, 0
        for gate_up, project in enumerate(block.converted):
            for bank in range(banks if block.biased(project) else 0):
                self._regions[gate_up, bank] = self._depth
                parts = max(parts, design.matmul(project.name).rows // v)
                self._depth += design.matmul(project.name).rows // v
        members = {
            "cmd": In(stream.Signature(data.StructLayout({self._flag: 1, "n": range(design.hw.entries + 1)}))),
            "exps": In(data.ArrayLayout(signed(EXP_BITS), design.block.record_words)),
            "i": In(stream.Signature(self._sums)),
            "o": Out(stream.Signature(converted_layout(design))),
        }
        if self._regions:
            which = {self._flag: 1, "bank": 1} if banks == 2 else {self._flag: 1}
            layout = data.StructLayout({"x": data.ArrayLayout(unsigned(16), v), **which, "part": range(parts)})
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
        gate = stream.Signature(self._sums).create(path=("gate",))
        m.d.comb += [gate.valid.eq(self.i.valid & command.busy), self.i.ready.eq(gate.ready & command.busy)]
        stages = 4 + (ADD_BF16_STAGES if self._regions else 0)
        pipe = Pipeline(m, gate, self.o, stages=stages, take=~here.past)
        i = self.i.payload
        of_head = self._head_exponent(command.exps, here.head)
        bias = self._bias(m, pipe, here.at, command.second) if self._regions else None
        highest = self._highest(pipe, command, of_head)
        for lane in range(self._design.hw.vector_lanes):
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
            top_entry=Signal(range(self._design.hw.entries), reset_less=True, name="top_entry"),
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
        design, v, i = self._design, self._design.hw.vector_lanes, self.i.payload
        per_row = len(design.block.into_ff.matrices) * design.padded_intermediate_size // v
        per_head = design.padded_head_dim // v
        place = data.StructLayout({"head": range(design.qkv_heads),
                                   "part": range(max(design.padded_head_dim, 2 * design.padded_intermediate_size) // v),
                                   "past": 1, **({"at": range(max(2, self._depth))} if self._regions else {})})
        here, after, start = Signal(place, name="here"), Signal(place, name="after"), Signal(place, name="start")
        last_part = Signal.like(here.part, reset_less=True, name="last_part")
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += last_part.eq(Mux(self.cmd.payload[self._flag], per_row, per_head) - 1)
        row_end = here.part == last_part
        matrix_end = row_end & (command.second | (here.head == design.qkv_heads - 1))
        m.d.comb += [after.head.eq(Mux(row_end, here.head + 1, here.head)),
                     after.part.eq(Mux(row_end, 0, here.part + 1)), after.past.eq(here.past | matrix_end)]
        if self._regions:
            m.d.comb += after.at.eq(here.at + 1)
            with m.If(self.cmd.valid & self.cmd.ready):
                at = self._region(self.cmd.payload[self._flag], self.bank if self._banks == 2 else Const(0, 1))
                m.d.sync += [here.at.eq(at), start.at.eq(at)]
        entry_end = i.group == design.hw.columns // v - 1
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

    def _exponent(self, exps, name):
        """Of a matrix."""
        return exps[self._design.block.record_of(name)[1]]

    def _head_exponent(self, exps, head):
        """Of the matrix that has the rows of a head."""
        design = self._design
        *others, last = design.block.into_heads.matrices
        found = self._exponent(exps, last)
        for name in reversed(others):
            found = Mux(head < design.heads_of(design.block.matrix(name)).stop, self._exponent(exps, name), found)
        return found

    def _highest(self, pipe, command, of_head):
        """Exponents of a magnitude's highest bit, biased as in a bf16, two stages later: of lane k that of k modulo
        their number.

        Gates and ups are in turn; with offsets of rows each lane has its own.
        """
        design, i, by_row = self._design, self.i.payload, self._design.scaled
        found = [pipe.reg(Mux(command.second, self._exponent(command.exps, name), of_head) + i.exp
                          + (design.acc_unit + design.acc_bits - 1 + 127),
                          name=f"highest{lane}", stages=1 if by_row else 2)
                 for lane, name in enumerate(design.block.into_ff.matrices)]
        if not by_row:
            return found
        offsets = [pipe.reg(i.rows[lane], name=f"offset{lane}") for lane in range(design.hw.vector_lanes)]
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
