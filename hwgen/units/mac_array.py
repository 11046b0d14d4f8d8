"""The MAC array: C exact dot products of L lanes per cycle, and the ring that their sums leave from."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.fp8_dot import PairedProduct, Product, add_carry, add_pairs, decode_operand, fixed_point, operand_layout
from ..lib.layouts import EXP_BITS, OFFSET_BITS, SHIFT_BITS, op_layout, result_layout, tile_layout
from ..lib.skid import SkidRegister
from ..lib.verilog import shared

__all__ = ["Column", "ColumnPair", "MacArray"]

_LEVELS = 2      # adder levels per pipeline stage behind the first


def _middle_stages(lanes):
    """Stages between the first adder level and the accumulator's stage."""
    levels = max(0, lanes.bit_length() - 2)
    return max(0, -(-levels // _LEVELS) - 1)


def _register(m, value, name):
    signal = Signal(len(value), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal


class Column(wiring.Component):
    """One column: its weights, L products, their sum, accumulators of T entries and R finished sums.

    An operation per cycle. What is at ``x`` in cycle t meets the weights of that cycle and accumulates in cycle
    t + stages - 1, its *end*; if its sum is kept, that can be read from cycle t + stages on. All control comes from outside,
    already delayed: `MacArray` has one copy of it for all columns. No register has a reset.

    Parameters
    ----------
    weight, activation : Fp8
    lanes : int                     a power of two
    entries, rows : int             accumulators (T) and finished sums (R)
    acc_bits : int
    shifts : bool                   sums of products are shifted to the left, in a stage more
    multipliers : bool              products by wide multipliers, which an FPGA has, instead of logic: the same sums in the same cycles

    Members
    -------
    load : In(1), tile : In(L codes)    replaces the weights, from the next cycle on
    x : In(operand_layout) * L          decoded codes (`hwgen.lib.fp8_dot`); with ``multipliers`` instead of it
    fixed : In(signed) * L              ... their values in fixed point (`hwgen.lib.fp8_dot.fixed_point`)
    enable : In(1)                      at an operation's end: accumulate
    first : In(1)                       at its end: the sum starts from 0. If T = 1, one cycle before the end
    entry : In(range(T))                at its end
    shift : In(SHIFT_BITS)              with ``shifts``: one cycle before its end
    keep : In(1), row : In(range(R))    at its end: the sum is finished and goes to this row
    read_row : In(range(R))
    sum : Out(signed(acc_bits))         of ``read_row``, in the same cycle
    """

    def __init__(self, *, weight, activation, lanes, entries, rows, acc_bits, multipliers=False, shifts=False):
        if lanes < 1 or lanes & (lanes - 1):
            raise ValueError(f"Lane count must be a power of two, at least 1, not {lanes}")
        if acc_bits < weight.accumulator_bits(activation, lanes):
            raise ValueError(f"Accumulator must have at least {weight.accumulator_bits(activation, lanes)} bits for {lanes} lanes, "
                             f"not {acc_bits}")
        self._weight, self._activation, self._lanes = weight, activation, lanes
        self._entries, self._rows, self._acc_bits = entries, rows, acc_bits
        self._stages, self._multipliers, self._shifts = 3 + _middle_stages(lanes) + shifts, multipliers, shifts
        super().__init__({
            "load": In(1),
            "tile": In(weight.bits * lanes),
            **({"fixed": In(signed(activation.int_bits + 1)).array(lanes)} if multipliers else {"x": In(operand_layout(activation)).array(lanes)}),
            "enable": In(1),
            "first": In(1),
            "entry": In(range(entries)),
            **({"shift": In(SHIFT_BITS)} if shifts else {}),
            "keep": In(1),
            "row": In(range(rows)),
            "read_row": In(range(rows)),
            "sum": Out(signed(acc_bits)),
        } | self._own_members())

    def _own_members(self):
        """Those that are others than a column's."""
        return {}

    @property
    def module_name(self):
        """Says all parameters, for `hwgen.lib.verilog.shared`."""
        return (f"mac_column_{self._weight}_{self._activation}_l{self._lanes}_t{self._entries}_r{self._rows}"
                f"_a{self._acc_bits}{'_dsp' if self._multipliers else ''}{'_shift' if self._shifts else ''}")

    @property
    def stages(self):
        """Cycles from an operation's operands to the first in which its sum can be read."""
        return self._stages

    def _active(self, m, value, name):
        """What a weight is until the next tile comes."""
        signal = Signal(value.shape(), name=name, reset_less=True)
        with m.If(self.load):
            m.d.sync += signal.eq(value)
        return signal

    def elaborate(self, platform):
        m = Module()
        lanes = range(self._lanes)
        values, signs = [], []
        if self._multipliers:
            # Weights are shifted as they are loaded, so that nothing stands before a multiplier but registers.
            width = self._weight.int_bits + self._activation.int_bits + 1
            for i in lanes:
                weight = self._active(m, fixed_point(self._weight, self.tile.word_select(i, self._weight.bits)).as_signed(), f"lane{i}_weight")
                values.append(_register(m, (weight * self.fixed[i])[:width], f"lane{i}_product"))
            signs = [Const(0, 1)] * self._lanes
        else:
            product, weights = Product(self._weight, self._activation), self._active(m, self.tile, "weights")
            for i in lanes:
                parts = product.multiply(m, weights.word_select(i, self._weight.bits), self.x[i], name=f"lane{i}")
                magnitude, negative, shift = (_register(m, part, f"lane{i}_{name}_r")
                                              for part, name in zip(parts, ("magnitude", "negative", "shift")))
                values.append(product.align(m, magnitude, negative, shift, name=f"lane{i}"))
                signs.append(negative)
        self._accumulate(m, values, signs, self.sum)
        return m

    def _accumulate(self, m, values, signs, sum, prefix=""):
        """The tree behind the products, accumulators and finished sums of one column. ``prefix`` of its names."""
        levels = 1      # in this stage
        for stage in range(1, self._stages - 1 - self._shifts):
            values, signs = add_pairs(m, values, signs, levels, f"{prefix}stage{stage}")
            values = [_register(m, value, f"{prefix}stage{stage}_sum{i}") for i, value in enumerate(values)]
            if not self._multipliers:
                signs = [_register(m, sign, f"{prefix}stage{stage}_sign{i}") for i, sign in enumerate(signs)]
            levels = _LEVELS
        (value,), (sign,) = add_pairs(m, values, signs, levels, f"{prefix}stage{self._stages - 1}")
        if self._shifts:
            # A negative sum is a complement whose carry is still to come: what is shifted in is that carry.
            shifted = value.as_signed()
            for bit in range(SHIFT_BITS):
                wide = Signal(self._acc_bits, name=f"{prefix}shifted{bit}")
                m.d.comb += wide.eq(Mux(self.shift[bit], Cat(sign.replicate(1 << bit), shifted).as_signed(), shifted))
                shifted = wide.as_signed()
            value, sign = _register(m, shifted, f"{prefix}shifted").as_signed(), _register(m, sign, f"{prefix}shifted_sign")

        total = Signal(self._acc_bits, name=f"{prefix}total")
        if self._entries == 1:
            # Cleared by the next sum's start, which synthesis makes the register's own synchronous reset.
            acc = Signal(self._acc_bits, name=f"{prefix}acc", reset_less=True)
            with m.If(self.enable):
                m.d.sync += acc.eq(total)
            with m.If(self.first):
                m.d.sync += acc.eq(0)
        else:
            m.submodules[f"{prefix}accs"] = accs = Memory(shape=unsigned(self._acc_bits), depth=self._entries, init=[])
            read, write = accs.read_port(domain="comb"), accs.write_port()
            acc = Signal(self._acc_bits, name=f"{prefix}acc")
            m.d.comb += [read.addr.eq(self.entry), acc.eq(Mux(self.first, 0, read.data)),
                         write.addr.eq(self.entry), write.data.eq(total), write.en.eq(self.enable)]
        m.d.comb += total.eq(add_carry(acc, value, sign, self._acc_bits))

        m.submodules[f"{prefix}ring"] = ring = Memory(shape=unsigned(self._acc_bits), depth=self._rows, init=[])
        read, write = ring.read_port(domain="comb"), ring.write_port()
        m.d.comb += [write.addr.eq(self.row), write.data.eq(total), write.en.eq(self.keep),
                     read.addr.eq(self.read_row), sum.eq(read.data)]


class ColumnPair(Column):
    """Two columns that share their multipliers (`hwgen.lib.fp8_dot.PairedProduct`): sums and cycles of two of `Column`.

    Parameters and members are those of a column, but for these:

    tile : In(2 * L codes)              of the one column, then of the other
    x : In(PairedProduct.layout) * L
    sum : Out(signed(acc_bits)) * 2
    """

    def _own_members(self):
        return {"tile": In(2 * self._weight.bits * self._lanes), "x": In(self._product.layout).array(self._lanes), "sum": Out(signed(self._acc_bits)).array(2)}

    @property
    def _product(self):
        return PairedProduct(self._weight, self._activation)

    @property
    def module_name(self):
        return f"{super().module_name}_pair"

    def elaborate(self, platform):
        m = Module()
        product, terms = self._product, ([], [])
        for i in range(self._lanes):
            weights = []
            for c in range(2):
                parts = product.weight(self.tile.word_select(c * self._lanes + i, self._weight.bits))
                weights.append([self._active(m, part, f"column{c}_lane{i}_{name}") for part, name in zip(parts, ("sig", "own", "sign"))])
            magnitudes = product.multiply(m, [sig for sig, _, _ in weights], self.x[i], name=f"lane{i}")
            for c, (magnitude, (_, own, sign)) in enumerate(zip(magnitudes, weights)):
                name = f"column{c}_lane{i}"
                magnitude = _register(m, magnitude, f"{name}_magnitude")
                negative = _register(m, sign ^ self.x[i].negative, f"{name}_negative")
                shift = _register(m, product.shift(m, own, self.x[i], name=name), f"{name}_shift")
                terms[c].append((product.align(m, magnitude, negative, shift, name=name), negative))
        for c, of_column in enumerate(terms):
            self._accumulate(m, *zip(*of_column), self.sum[c], prefix=f"column{c}_")
        return m


class MacArray(wiring.Component):
    """C columns, the active tile, and a ring of finished rows.

    An operation waits in a register, decoded, until it *fires*: until a tile is active and, if it is the last of its
    sum, a row of the ring is free. The one that ends a tile has it replaced by the next in the same cycle if that is
    there. So with everything at hand one operation fires in each cycle, and a tile of n operations that arrives in B
    cycles costs max(n, B). A last operation's C sums leave as C/V granules in order, one per cycle.

    Operations of one entry may follow each other directly. The sums of an entry are whole and do not mix with those of
    others; ``first`` must be set for the first operation of each sum.

    An operation fires one cycle after it was taken at the earliest, and the first granule of a row is valid at ``o``
    `latency` cycles after its last operation fired (5, and one more per two levels of a sum of more than 8 lanes).
    A row is free again in the cycle after its last granule went to the output's two places.

    Members
    -------
    tile : In(stream of L*C codes)          the next tile: it stays at the port until it becomes the active one
    x : In(stream of `op_layout`)
    o : Out(stream of `result_layout`)      a `SkidRegister`: adders stand behind it, and much hangs on its ``ready``
    busy, starved, blocked : Out(1)         an operation fires; waits for a tile; has its tile and waits for the ring
    """

    def __init__(self, design):
        self._design = design
        super().__init__({
            "tile": In(stream.Signature(unsigned(tile_layout(design).size))),
            "x": In(stream.Signature(op_layout(design))),
            "o": Out(stream.Signature(result_layout(design))),
            "busy": Out(1),
            "starved": Out(1),
            "blocked": Out(1),
        })

    @property
    def rows(self):
        """Rows of the ring."""
        return max(2, self._design.hw.entries)

    @property
    def latency(self):
        """Cycles from the firing of a last operation to its first granule at ``o``."""
        return 5 + _middle_stages(self._design.hw.lanes) + bool(self._design.hw.adapters)

    def elaborate(self, platform):
        m = Module()
        design, hw, rows = self._design, self._design.hw, self.rows
        weight, activation = design.array_format, design.recipe.activation_format
        shape = dict(weight=weight, activation=activation, lanes=hw.lanes, entries=hw.entries, rows=rows, acc_bits=design.acc_bits, shifts=bool(hw.adapters))
        with_multipliers = hw.dsp_columns + 2 * hw.dsp_pairs      # so many columns, the first ones
        pairs = {c: ColumnPair(**shape) for c in range(hw.dsp_columns, with_multipliers, 2)}
        columns = {c: Column(**shape, multipliers=c < hw.dsp_columns) for c in range(hw.columns) if not hw.dsp_columns <= c < with_multipliers}
        stages = next(iter((columns | pairs).values())).stages

        # The waiting operation. Decoded here, once for all columns.
        control = StructLayout({name: field.shape for name, field in op_layout(design) if name != "codes"})
        waiting = Signal()
        op = Signal(control, reset_less=True)
        x = [Signal(operand_layout(activation), name=f"x{i}") for i in range(hw.lanes)]
        fixed = [Signal(signed(activation.int_bits + 1), name=f"fixed{i}", reset_less=True) for i in range(hw.lanes)]
        active, room, fire, load = Signal(name="active"), Signal(init=1, name="room"), Signal(name="fire"), Signal(name="load")
        m.d.comb += [
            self.x.ready.eq(~waiting | fire),
            fire.eq(waiting & active & (~op.last | room)),
            self.busy.eq(fire),
            self.starved.eq(waiting & ~active),
            self.blocked.eq(waiting & active & op.last & ~room),
        ]
        # A register for each field: bits between fields that nothing writes would be registers on which Yosys' opt fails.
        held = [{name: Signal(x[i][name].shape(), name=f"x{i}_{name}", reset_less=True) for name, _ in x[i].shape()} for i in range(hw.lanes)]
        paired = PairedProduct(weight, activation)
        x_of_pairs = [Signal(paired.layout, name=f"pair{i}", reset_less=True) for i in range(hw.lanes)]
        with m.If(self.x.ready):
            m.d.sync += waiting.eq(self.x.valid)
            m.d.sync += [op[name].eq(self.x.payload[name]) for name, _ in control]
            for i in range(hw.lanes):
                decoded = decode_operand(activation, self.x.payload.codes[i])
                m.d.sync += [held[i][name].eq(value) for name, value in decoded.items()]
                if pairs:
                    m.d.sync += [x_of_pairs[i][name].eq(value) for name, value in paired.decode(self.x.payload.codes[i]).items()]
                if hw.dsp_columns:
                    m.d.sync += fixed[i].eq(fixed_point(activation, self.x.payload.codes[i]))

        # What a column takes comes from registers of this cycle, which stand between what decides and the columns' many multipliers.
        tile, loads, fires = Signal(weight.bits * hw.lanes * hw.columns, name="next_tile", reset_less=True), Signal(name="loads"), Signal(name="fires")
        fired = Signal(control, name="fired", reset_less=True)
        m.d.sync += [tile.eq(self.tile.payload[:len(tile)]), loads.eq(load), fires.eq(fire), fired.eq(op)]

        def distributed(signal, to=""):
            copy = Signal.like(signal, name=f"{to}{signal.name}_given", reset_less=True)
            m.d.sync += copy.eq(signal)
            return copy

        if with_multipliers < hw.columns:
            m.d.comb += [x[i][name].eq(distributed(field)) for i, fields in enumerate(held) for name, field in fields.items()]
        # An FPGA's multipliers stand in rows all over it, so each column has registers of its own there (`hwgen.fpga.files` keeps them apart).
        given = {c: [distributed(signal, f"column{c}_") for signal in fixed] for c in range(hw.dsp_columns)}
        given |= {c: [distributed(operand.as_value(), f"column{c}_") for operand in x_of_pairs] for c in pairs}

        # The active tile, in the columns.
        m.d.comb += [self.tile.ready.eq(~active | (fire & op.tile_end)), load.eq(self.tile.ready & self.tile.valid)]
        with m.If(self.tile.ready):
            m.d.sync += active.eq(self.tile.valid)

        # Control of each stage: stage s of the columns holds what fired s + 1 cycles ago.
        enable, staged = [fires], [fired]
        for stage in range(1, stages):
            enabled, held = Signal(name=f"enable{stage}"), Signal(control, name=f"op{stage}", reset_less=True)
            m.d.sync += [enabled.eq(enable[-1]), held.eq(staged[-1])]
            enable.append(enabled)
            staged.append(held)
        end = staged[-1]

        def advance(counter, limit):
            return counter.eq(Mux(counter == limit - 1, 0, counter + 1))

        # The ring. Rows are taken when their operation fires and written in that order.
        groups = hw.columns // hw.vector_lanes
        m.submodules.results = results = SkidRegister(result_layout(design))
        connect(m, results.o, flipped(self.o))
        used, full = Signal(range(rows + 1), name="used"), Signal(range(rows + 1))
        write_row, read_row, group = Signal(range(rows), name="write_row"), Signal(range(rows), name="read_row"), Signal(range(groups))
        take, keep, move, free = Signal(name="take"), Signal(name="keep"), Signal(name="move"), Signal(name="free")
        m.d.comb += [
            take.eq(fire & op.last),
            keep.eq(enable[-1] & end.last),
            results.i.valid.eq(full != 0),
            move.eq(results.i.valid & results.i.ready),
            free.eq(move & (group == groups - 1)),
        ]
        # `room` is used != rows, as a register: so much hangs on `fire`.
        m.d.sync += [used.eq(used + take - free), room.eq(Mux(take, free | (used != rows - 1), free | room)), full.eq(full + keep - free)]
        with m.If(keep):
            m.d.sync += advance(write_row, rows)
        with m.If(move):
            m.d.sync += advance(group, groups)
        with m.If(free):
            m.d.sync += advance(read_row, rows)

        sums = []
        for c, column in sorted((columns | pairs).items()):
            m.submodules[f"column{c}"] = shared(column, column.module_name)
            sums += column.sum if c in pairs else [column.sum]
            operands = zip(column.fixed if c < hw.dsp_columns else column.x, given.get(c, x))
            m.d.comb += [
                column.load.eq(loads),
                column.tile.eq(tile[c * weight.bits * hw.lanes:][:len(column.tile)]),
                *(port.eq(operand) for port, operand in operands),
                column.enable.eq(enable[-1]),
                column.first.eq(end.first if hw.entries > 1 else enable[-2] & staged[-2].first),
                column.entry.eq(end.entry),
                *([column.shift.eq(staged[-2].shift)] if hw.adapters else []),
                column.keep.eq(keep),
                column.row.eq(write_row),
                column.read_row.eq(read_row),
            ]

        m.submodules.ring = ring = Memory(shape=StructLayout({"entry": range(hw.entries), "exp": signed(EXP_BITS), **({"a": 1} if hw.adapters else {})}),
                                          depth=rows, init=[])
        read, write = ring.read_port(domain="comb"), ring.write_port()
        m.d.comb += [write.addr.eq(write_row), write.data.entry.eq(end.entry), write.data.exp.eq(end.exp), write.en.eq(keep),
                     read.addr.eq(read_row)]

        m.d.comb += [results.i.p.entry.eq(read.data.entry), results.i.p.exp.eq(read.data.exp), results.i.p.group.eq(group)]
        if hw.adapters:
            m.d.comb += [write.data.a.eq(end.a), results.i.p.a.eq(read.data.a)]
        if design.scaled:
            of_groups = self._offsets(m, load, take, read_row).word_select(group, OFFSET_BITS * hw.vector_lanes)
            m.d.comb += results.i.p.rows.eq(of_groups)
        for v in range(hw.vector_lanes):
            m.d.comb += results.i.p.acc[v].eq(Array(sums[g * hw.vector_lanes + v] for g in range(groups))[group])
        return m

    def _offsets(self, m, load, take, read_row):
        """Offsets of the columns of the row of the ring that is read. They stand there from the firing of its last operation on, when the row is its own."""
        bits, rows = OFFSET_BITS * self._design.hw.columns, self.rows
        active, row = Signal(bits, name="active_offsets", reset_less=True), Signal(range(rows), name="offsets_row")
        with m.If(load):
            m.d.sync += active.eq(self.tile.payload[-bits:])
        with m.If(take):
            m.d.sync += row.eq(Mux(row == rows - 1, 0, row + 1))
        m.submodules.offsets = offsets = Memory(shape=unsigned(bits), depth=rows, init=[])
        read, write = offsets.read_port(domain="comb"), offsets.write_port()
        m.d.comb += [write.addr.eq(row), write.data.eq(active), write.en.eq(take), read.addr.eq(read_row)]
        return read.data
