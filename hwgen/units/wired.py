"""Matrices of fixed weights as logic: what takes the place of the MAC array where no weight ever changes."""
from functools import reduce
from operator import or_

from amaranth.hdl import Array, Cat, ClockSignal, Const, Instance, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.fp8_dot import fixed_point
from ..lib.layouts import EXP_BITS, op_layout, result_layout
from ..lib.pick import pick
from ..lib.skid import SkidRegister
from ..lib.verilog import verbatim
from ..lib.wires import wires_text
from ..params.tables import stuck_register

__all__ = ["Wired"]


class Wired(wiring.Component):
    """Exact sums of an entry's activations times one of some matrices that are logic: the bits that the MAC array has
    for them.

    Activations come in slices, and are kept in fixed point. When the last one is there, all of them go through the
    matrix, a bit a cycle; the sums' bits are collected, and leave in granules. One entry at a time: the next one's
    slices are taken after the last granule is on its way. `golden.wired` has the cycles.

    Parameters
    ----------
    matrices : {name: FixedMatrix}      in the order of their numbers; each has as many inputs as whole slices
    activation : Fp8                    format of the activations
    lanes, columns, vector_lanes, entries : int     L, C, V and T, as `hwgen.units.mac_array.ArrayParams` has them
    acc_bits : int                      of a sum at ``o``, as the array's: at least a matrix's
    row_offsets : bool                  rows have offsets, which leave with their sums

    Members
    -------
    matrix : In(range(len(matrices)))   taken over with an entry's first slice
    x : In(stream of `op_layout`)       an entry's slices in order, ``last`` with the final one; ``first`` and
                                        ``tile_end`` do not count
    o : Out(stream of `result_layout`)  its sums, padded to whole groups of C as the array's
    busy, blocked : Out(1)              bits are on their way; a granule waits for ``o``
    """

    def __init__(self, matrices, *, activation, lanes, columns, vector_lanes, entries, acc_bits, row_offsets=False):
        for name, matrix in matrices.items():
            if matrix.size[1] % lanes:
                raise ValueError(f"Inputs of {name} must be a multiple of {lanes} lanes, not {matrix.size[1]}")
            if matrix.bits > acc_bits:
                raise ValueError(f"Sums of {name} must be of at most {acc_bits} bits, not {matrix.bits}")
        self._matrices, self._activation, self._row_offsets = matrices, activation, row_offsets
        self._lanes, self._vector_lanes, self._entries = lanes, vector_lanes, entries
        self._bits = max(matrix.bits for matrix in matrices.values())
        self._groups = columns // vector_lanes      # granules of an n-tile, and of each matrix
        self._granules = [-(-matrix.size[0] // columns) * self._groups for matrix in matrices.values()]
        self._layout = result_layout(columns=columns, vector_lanes=vector_lanes, entries=entries, acc_bits=acc_bits,
                                     row_offsets=row_offsets)
        super().__init__({
            "matrix": In(range(len(matrices))),
            "x": In(stream.Signature(op_layout(lanes=lanes, entries=entries))),
            "o": Out(stream.Signature(self._layout)),
            "busy": Out(1),
            "blocked": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        running, draining = Signal(), Signal()
        self._running, self._draining, self._move = running, draining, Signal(name="move")
        which, held, serial = self._take(m)
        sums = self._multiply(m, serial)
        words = self._collect(m, which, sums)
        self._drain(m, which, held, words)
        return m

    def _take(self, m):
        """An entry's activations, in fixed point; then they are shifted out, the sign for as long as it takes.

        Returns (the number of the matrix at work, the entry's number and exponent, a bit of each activation).
        """
        slices = max(matrix.size[1] for matrix in self._matrices.values()) // self._lanes
        running, draining = self._running, self._draining
        which = Signal(range(len(self._matrices)), reset_less=True)
        first, part = Signal(init=1, name="first"), Signal(range(slices))
        held = Signal(StructLayout({"entry": range(self._entries), "exp": signed(EXP_BITS)}), reset_less=True)
        take = Signal(name="take")
        m.d.comb += [self.x.ready.eq(~running & ~draining), take.eq(self.x.valid & self.x.ready), self.busy.eq(running)]
        with m.If(take):
            m.d.sync += [first.eq(self.x.p.last), part.eq(Mux(self.x.p.last, 0, part + 1)),
                         held.entry.eq(self.x.p.entry), held.exp.eq(self.x.p.exp)]
            with m.If(first):
                m.d.sync += which.eq(self.matrix)
            with m.If(self.x.p.last):
                m.d.sync += running.eq(1)
        return which, held, self._serialize(m, part, slices)

    def _serialize(self, m, part, slices):
        """The lowest bit of each activation, in the order of the inputs: of all of them in each cycle while they go
        through."""
        lanes, activation = self._lanes, self._activation
        bits = {}
        for lane in range(lanes):
            value = Signal(activation.int_bits + 1, name=f"fixed{lane}")
            m.d.comb += value.eq(fixed_point(activation, self.x.p.codes[lane]))
            for slice in range(slices):
                line = Signal(activation.int_bits + 1, name=f"x{slice * lanes + lane}", reset_less=True)
                with m.If(self._running):
                    m.d.sync += line.eq(Cat(line[1:], line[-1]))
                with m.Elif(part == slice):     # what comes before the slice is overwritten by it
                    m.d.sync += line.eq(value)
                bits[slice, lane] = line[0]
        return Cat(bits[place] for place in sorted(bits))

    def _multiply(self, m, serial):
        """The matrices as logic. Returns a bit of each sum of each of them."""
        sums = []
        for number, (name, matrix) in enumerate(self._matrices.items()):
            y = Signal(matrix.size[0], name=f"y{number}")
            text = wires_text(matrix.plan, stuck_register(name))
            m.submodules[name] = Instance(verbatim(f"wires_{name}", text), i_clk=ClockSignal(), i_clear=~self._running,
                                          i_x=serial[:matrix.size[1]], o_y=y)
            sums.append(y)
        return sums

    def _collect(self, m, which, sums):
        """Bits of sums are shifted in for as long as bits go through the matrix: those before its latency fall out at
        the other end. Then the granules are shifted out. Returns the sums of the granule that leaves first.

        A bit of a sum has one LUT before its register, which chooses between two neighbours. Selecting a granule by AND
        and OR takes as many LUTs, with four wires from elsewhere for every two bits: more than nextpnr could route.
        """
        matrices, running, v = self._matrices.values(), self._running, self._vector_lanes
        count = Signal(range(max(matrix.latency for matrix in matrices) + self._bits))
        with m.If(running):
            m.d.sync += count.eq(count + 1)
            with m.If(count == pick([matrix.latency + self._bits - 1 for matrix in matrices], which)):
                m.d.sync += [running.eq(0), count.eq(0), self._draining.eq(1)]
        found = [[(number, y[row]) for number, y in enumerate(sums) if row < len(y)]
                 for row in range(max(self._granules) * v)]
        words = [Signal(self._bits, name=f"sum{row}", reset_less=True) if of else Const(0, self._bits)
                 for row, of in enumerate(found)]
        for word, following, of in zip(words, [*words[v:], *[0] * v], found):
            if not of:
                continue
            bit = of[0][1]
            if len(sums) > 1:
                bit = Cat((which == number) & y for number, y in of).any()
            with m.If(self._draining):
                with m.If(self._move):
                    m.d.sync += word.eq(following)
            with m.Elif(running):
                m.d.sync += word.eq(Cat(word[1:], bit))
        return words[:v]

    def _drain(self, m, which, held, words):
        """The sums leave granule by granule."""
        v, draining, move, most = self._vector_lanes, self._draining, self._move, max(self._granules)
        m.submodules.results = results = SkidRegister(self._layout)
        connect(m, results.o, flipped(self.o))
        here = Signal(most, init=1, name="here")        # one bit for each granule
        group = Signal(range(self._groups), name="group")
        found = Signal(name="found")
        acc = Signal(v * self._bits, reset_less=True)
        out = results.i.p
        m.d.comb += [move.eq(~found | results.i.ready), results.i.valid.eq(found),
                     self.blocked.eq(found & ~results.i.ready)]
        m.d.comb += [out.acc[lane].eq(acc.word_select(lane, self._bits).as_signed()) for lane in range(v)]
        kept = Signal(StructLayout({name: field.shape for name, field in self._layout if name != "acc"}),
                      reset_less=True)
        m.d.comb += [out[name].eq(kept[name]) for name, _ in kept.shape()]

        def selected(values):
            """The one of the granule that leaves: AND and OR are two values to a LUT4, trees of multiplexers one."""
            return reduce(or_, (Mux(here[at], value, 0) for at, value in enumerate(values)))

        with m.If(move):
            m.d.sync += [found.eq(draining), acc.eq(Cat(words)),
                         kept.entry.eq(held.entry), kept.exp.eq(held.exp), kept.group.eq(group)]
            if self._row_offsets:
                offsets = [selected(_offsets(matrix, v, most)) for matrix in self._matrices.values()]
                m.d.sync += kept.rows.eq(Array(offsets)[which])
            with m.If(draining):
                m.d.sync += [here.eq(here << 1), group.eq(Mux(group == self._groups - 1, 0, group + 1))]
                with m.If(pick([here[count - 1] for count in self._granules], which)):
                    m.d.sync += [draining.eq(0), here.eq(1)]


def _offsets(matrix, v, granules):
    """Offsets of the rows of each granule, as one number."""
    given = 0 if matrix.rows is None else len(matrix.rows)
    rows = [int(matrix.rows[row]) if row < given else 0 for row in range(granules * v)]
    return [sum(row << (4 * lane) for lane, row in enumerate(rows[start:start + v]))
            for start in range(0, len(rows), v)]
