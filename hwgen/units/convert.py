"""The array's sums of QKV and of gate/up, scaled and rounded to bf16."""
from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import Pipeline, leading_zeros, magnitude, round_bf16, shift_up
from ..lib.layouts import EXP_BITS, converted_layout, result_layout

__all__ = ["Convert"]


class Convert(wiring.Component):
    """Sums to bf16: ``acc * 2**(e_w + e_a + acc_unit)``, rounded once to nearest even; padding is dropped.

    A command names the matrix; then its results are taken, in the array's order (n-tile, entry, group) and all of them,
    padding included, before the next command. They leave in that order with their place: head (K heads, V heads, Q
    heads) and granule in the head, or granule in the gate/up row. ``last`` marks the last real granule of the command.

    A granule taken in cycle s is offered in cycle s + 4 (``golden.convert.LATENCY``), one per cycle; the first is taken
    no earlier than the cycle after the command, and the next command in the cycle after the last.

    Parameters
    ----------
    design : Design

    Members
    -------
    cmd : In(stream)     {gate_up, n}: the matrix (0: QKV), and the number of entries, at least 1
    exps : In            exponents of the matrix's record, at the places of `Block.record_of`; taken over with the command
    i : In(stream)       `result_layout`
    o : Out(stream)      `converted_layout`
    """

    def __init__(self, design):
        self._design = design
        super().__init__({
            "cmd": In(stream.Signature(data.StructLayout({"gate_up": 1, "n": range(design.hw.entries + 1)}))),
            "exps": In(data.ArrayLayout(signed(EXP_BITS), design.block.record_words)),
            "i": In(stream.Signature(result_layout(design))),
            "o": Out(stream.Signature(converted_layout(design))),
        })

    def elaborate(self, platform):
        m = Module()
        design, v = self._design, self._design.hw.vector_lanes
        groups, per_head = design.hw.columns // v, design.head // v
        per_row = (2 if design.block.gated else 1) * design.ff // v
        i = self.i.payload

        # The command
        busy, gate_up = Signal(), Signal(reset_less=True)
        top_entry = Signal(range(design.hw.entries), reset_less=True)                   # n - 1
        exps = Signal(self.exps.shape(), reset_less=True)
        m.d.comb += self.cmd.ready.eq(~busy)
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += [busy.eq(1), gate_up.eq(self.cmd.payload.gate_up), top_entry.eq(self.cmd.payload.n - 1),
                         exps.eq(self.exps)]

        # Where a granule belongs: it goes up by one with each, and back to the tile's start with the tile's next entry.
        place = data.StructLayout({"head": range(design.qkv_heads), "part": range(max(design.head, 2 * design.ff) // v),
                                   "past": 1})
        here, after, start = Signal(place), Signal(place), Signal(place)
        row_end = here.part == Mux(gate_up, per_row, per_head) - 1
        matrix_end = row_end & (gate_up | (here.head == design.qkv_heads - 1))
        m.d.comb += [after.head.eq(Mux(row_end, here.head + 1, here.head)), after.part.eq(Mux(row_end, 0, here.part + 1)),
                     after.past.eq(here.past | matrix_end)]
        entry_end = i.group == groups - 1
        tile_end = entry_end & (i.entry == top_entry)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += here.eq(after)
            with m.If(entry_end):
                m.d.sync += here.eq(start)
            with m.If(tile_end):
                m.d.sync += [here.eq(after), start.eq(after)]
                with m.If(after.past):
                    m.d.sync += [here.eq(0), start.eq(0), busy.eq(0)]

        # Sums to bf16: magnitude, its highest bit, shift, round
        gate = stream.Signature(result_layout(design)).create(path=("gate",))
        m.d.comb += [gate.valid.eq(self.i.valid & busy), self.i.ready.eq(gate.ready & busy)]
        pipe = Pipeline(m, gate, self.o, stages=4, take=~here.past)

        def exp_of(name):
            return exps[design.block.record_of(name)[1]]

        of_head = Mux(here.head < design.kv_heads, exp_of("k"), Mux(here.head < 2 * design.kv_heads, exp_of("v"), exp_of("q")))
        # of a magnitude's highest bit, biased as in a bf16; gates and ups are in turn
        highest = [pipe.reg(Mux(gate_up, exp_of(name), of_head) + i.exp + (design.acc_unit + design.acc_bits - 1 + 127),
                            name=f"highest{lane}", stages=2) for lane, name in enumerate(("gate", "up") if design.block.gated else ("up",))]
        for lane in range(v):
            name = f"lane{lane}"
            sign, mag = magnitude(m, i.acc[lane], name=name)
            sign, mag = pipe.reg(sign, name=f"{name}_sign", stages=3), pipe.reg(mag, name=f"{name}_m1")
            count, zero = leading_zeros(m, mag, name=name)
            count, mag = pipe.reg(count, name=f"{name}_count"), pipe.reg(mag, name=f"{name}_m2")
            top, sticky = pipe.reg(shift_up(m, mag, count, 9, name=name), name=f"{name}_m3")
            biased = pipe.reg(highest[lane % len(highest)] - count, name=f"{name}_biased")
            zero = pipe.reg(zero, name=f"{name}_zero", stages=2)
            rounded = round_bf16(m, sign, top, biased, zero=zero, sticky=sticky, name=name)
            m.d.comb += self.o.payload.x[lane].eq(pipe.reg(rounded, name=f"{name}_o"))
        for field, value in (("entry", i.entry), ("head", here.head), ("part", here.part),
                             ("last", matrix_end & (i.entry == top_entry))):
            m.d.comb += self.o.payload[field].eq(pipe.reg(value, name=field, stages=4))
        return m
