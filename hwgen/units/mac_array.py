"""The MAC array: C columns (`hwgen.units.mac_column`), what they are given, and the ring that their sums leave from."""
from dataclasses import dataclass
from typing import NamedTuple

from amaranth.hdl import Array, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.fp8_dot import PairedProduct, decode_operand, fixed_point, operand_layout
from ..lib.layouts import EXP_BITS, OFFSET_BITS, op_layout, result_layout, tile_layout
from ..lib.skid import SkidRegister
from ..lib.verilog import shared
from ..params.formats import Fp8
from .mac_column import Column, ColumnPair, middle_stages

__all__ = ["ArrayParams", "MacArray"]


@dataclass(frozen=True, kw_only=True)
class ArrayParams:
    """Sizes and formats of an array, from which the payloads of its streams follow.

    weight, activation          formats of the codes
    lanes                       of a column (L), a power of two
    columns                     C
    vector_lanes                elements of a granule of results (V): divides C
    entries                     of a pass, at most (T)
    acc_bits                    of a sum, which is never rounded: at least `Fp8.accumulator_bits` of L lanes
    row_offsets                 a tile comes with an offset of each column, which leaves with its sum
    with_adapters               sums of products are shifted to the left, in a stage more
    dsp_columns, dsp_pairs      so many columns, the first ones, have an FPGA's multipliers: each its own, then each
                                pair

    ValueError if V does not divide C, or more columns than there are have multipliers.
    """
    weight: Fp8
    activation: Fp8
    lanes: int
    columns: int
    vector_lanes: int
    entries: int
    acc_bits: int
    row_offsets: bool = False
    with_adapters: bool = False
    dsp_columns: int = 0
    dsp_pairs: int = 0

    def __post_init__(self):
        if self.columns % self.vector_lanes:
            raise ValueError(f"Column count must be a multiple of {self.vector_lanes} vector lanes, not {self.columns}")
        if self.dsp_columns + 2 * self.dsp_pairs > self.columns:
            raise ValueError(f"Columns with multipliers must be at most all {self.columns}, not {self.dsp_columns} and "
                             f"{self.dsp_pairs} pairs")

    @property
    def tile_layout(self):
        return tile_layout(weight_bits=self.weight.bits, lanes=self.lanes, columns=self.columns,
                           row_offsets=self.row_offsets)

    @property
    def op_layout(self):
        return op_layout(lanes=self.lanes, entries=self.entries, with_adapters=self.with_adapters)

    @property
    def result_layout(self):
        return result_layout(columns=self.columns, vector_lanes=self.vector_lanes, entries=self.entries,
                             acc_bits=self.acc_bits, row_offsets=self.row_offsets, with_adapters=self.with_adapters)


class _Firing(NamedTuple):
    """Whether an operation fires, in this cycle, and what it needs: a tile that is ``active``, and ``room`` for a
    finished sum.

    ``load``: the next tile becomes the active one, in this cycle.
    """
    active: Signal
    room: Signal
    fire: Signal
    load: Signal


class _Waiting(NamedTuple):
    """The operation that waits: its control, and its operands for columns of logic, pairs, and columns with
    multipliers."""
    op: object
    held: list
    pairs: list
    fixed: list


class _Given(NamedTuple):
    """What columns take: the next tile, whether it loads; whether an operation fires, its control; its operands, and
    the ``own`` ones of columns with multipliers."""
    tile: Signal
    loads: Signal
    fires: Signal
    fired: object
    x: list
    own: dict


class _Ring(NamedTuple):
    """The ring of finished rows, and the register that they leave through.

    take, keep          a row is given to an operation that fires; is written, at the operation's end
    write_row, read_row where the next one is written; the one that leaves, of which granule ``group`` is next
    """
    results: SkidRegister
    take: Signal
    keep: Signal
    write_row: Signal
    read_row: Signal
    group: Signal


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

    Parameters
    ----------
    params : ArrayParams

    Members
    -------
    tile : In(stream of L*C codes)          the next tile: it stays at the port until it becomes the active one
    x : In(stream of `op_layout`)
    o : Out(stream of `result_layout`)      a `SkidRegister`: adders stand behind it, and much hangs on its ``ready``
    busy, starved, blocked : Out(1)         an operation fires; waits for a tile; has its tile and waits for the ring
    """

    def __init__(self, params):
        self._params = params
        super().__init__({
            "tile": In(stream.Signature(unsigned(params.tile_layout.size))),
            "x": In(stream.Signature(params.op_layout)),
            "o": Out(stream.Signature(params.result_layout)),
            "busy": Out(1),
            "starved": Out(1),
            "blocked": Out(1),
        })

    @property
    def rows(self):
        """Rows of the ring."""
        return max(2, self._params.entries)

    @property
    def latency(self):
        """Cycles from the firing of a last operation to its first granule at ``o``."""
        return 5 + middle_stages(self._params.lanes) + self._params.with_adapters

    @property
    def _with_multipliers(self):
        """So many columns, the first ones, have an FPGA's multipliers."""
        return self._params.dsp_columns + 2 * self._params.dsp_pairs

    def _columns(self):
        """{number of the first column: `Column` or `ColumnPair`}"""
        params = self._params
        shape = dict(weight=params.weight, activation=params.activation, lanes=params.lanes, entries=params.entries,
                     rows=self.rows, acc_bits=params.acc_bits, shifts=params.with_adapters)
        pairs = {c: ColumnPair(**shape) for c in range(params.dsp_columns, self._with_multipliers, 2)}
        columns = {c: Column(**shape, multipliers=c < params.dsp_columns) for c in range(params.columns)
                   if not params.dsp_columns <= c < self._with_multipliers}
        return dict(sorted((columns | pairs).items()))

    def elaborate(self, platform):
        m = Module()
        columns = self._columns()
        firing = _Firing(active=Signal(name="active"), room=Signal(init=1, name="room"), fire=Signal(name="fire"),
                         load=Signal(name="load"))
        waiting = self._wait(m, firing)
        given = self._distribute(m, waiting, firing)
        # The active tile, in the columns.
        m.d.comb += [self.tile.ready.eq(~firing.active | (firing.fire & waiting.op.tile_end)),
                     firing.load.eq(self.tile.ready & self.tile.valid)]
        with m.If(self.tile.ready):
            m.d.sync += firing.active.eq(self.tile.valid)
        enable, staged = self._delay(m, given, next(iter(columns.values())).stages)
        ring = self._ring(m, firing, waiting.op, enable[-1] & staged[-1].last)
        sums = self._connect(m, columns, given, enable, staged, ring)
        self._leave(m, firing, ring, staged[-1], sums)
        return m

    def _wait(self, m, firing):
        """The `_Waiting` operation. Decoded here, once for all columns."""
        params, activation = self._params, self._params.activation
        control = StructLayout({name: field.shape for name, field in params.op_layout if name != "codes"})
        waiting = Signal()
        op = Signal(control, reset_less=True)
        fixed = [Signal(signed(activation.int_bits + 1), name=f"fixed{i}", reset_less=True)
                 for i in range(params.lanes)]
        m.d.comb += [
            self.x.ready.eq(~waiting | firing.fire),
            firing.fire.eq(waiting & firing.active & (~op.last | firing.room)),
            self.busy.eq(firing.fire),
            self.starved.eq(waiting & ~firing.active),
            self.blocked.eq(waiting & firing.active & op.last & ~firing.room),
        ]
        # A register for each field: bits between fields that nothing writes would be registers on which Yosys' opt
        # fails.
        held = [{name: Signal(field.shape, name=f"x{i}_{name}", reset_less=True)
                 for name, field in operand_layout(activation)} for i in range(params.lanes)]
        paired = PairedProduct(params.weight, activation)
        pairs = [Signal(paired.layout, name=f"pair{i}", reset_less=True) for i in range(params.lanes)]
        with m.If(self.x.ready):
            m.d.sync += waiting.eq(self.x.valid)
            m.d.sync += [op[name].eq(self.x.payload[name]) for name, _ in control]
            for i, code in enumerate(self.x.payload.codes):
                m.d.sync += [held[i][name].eq(value) for name, value in decode_operand(activation, code).items()]
                if params.dsp_pairs:
                    m.d.sync += [pairs[i][name].eq(value) for name, value in paired.decode(code).items()]
                if params.dsp_columns:
                    m.d.sync += fixed[i].eq(fixed_point(activation, code))
        return _Waiting(op, held, pairs, fixed)

    def _distribute(self, m, waiting, firing):
        """What columns take comes from registers of this cycle: they stand between what decides and the columns' many
        multipliers."""
        params, activation = self._params, self._params.activation
        tile = Signal(params.weight.bits * params.lanes * params.columns, name="next_tile", reset_less=True)
        loads, fires = Signal(name="loads"), Signal(name="fires")
        fired = Signal(waiting.op.shape(), name="fired", reset_less=True)
        m.d.sync += [tile.eq(self.tile.payload[:len(tile)]), loads.eq(firing.load), fires.eq(firing.fire),
                     fired.eq(waiting.op)]

        def distributed(signal, to=""):
            copy = Signal.like(signal, name=f"{to}{signal.name}_given", reset_less=True)
            m.d.sync += copy.eq(signal)
            return copy

        x = [Signal(operand_layout(activation), name=f"x{i}") for i in range(params.lanes)]
        if self._with_multipliers < params.columns:
            m.d.comb += [x[i][name].eq(distributed(field))
                         for i, fields in enumerate(waiting.held) for name, field in fields.items()]
        # An FPGA's multipliers stand in rows all over it, so each column has registers of its own there
        # (`hwgen.fpga.files` keeps them apart).
        own = {c: [distributed(signal, f"column{c}_") for signal in waiting.fixed] for c in range(params.dsp_columns)}
        own |= {c: [distributed(operand.as_value(), f"column{c}_") for operand in waiting.pairs]
                for c in range(params.dsp_columns, self._with_multipliers, 2)}
        return _Given(tile, loads, fires, fired, x, own)

    def _delay(self, m, given, stages):
        """Control of each stage (it is enabled; its operation): stage s of the columns holds what fired s + 1 cycles
        ago."""
        enable, staged = [given.fires], [given.fired]
        for stage in range(1, stages):
            enabled = Signal(name=f"enable{stage}")
            held = Signal(given.fired.shape(), name=f"op{stage}", reset_less=True)
            m.d.sync += [enabled.eq(enable[-1]), held.eq(staged[-1])]
            enable.append(enabled)
            staged.append(held)
        return enable, staged

    def _ring(self, m, firing, op, keeps):
        """The `_Ring` of finished rows. They are taken when their operation fires, and written in that order, when it
        ``keeps``."""
        rows, groups = self.rows, self._params.columns // self._params.vector_lanes

        def advance(counter, limit):
            return counter.eq(Mux(counter == limit - 1, 0, counter + 1))

        m.submodules.results = results = SkidRegister(self._params.result_layout)
        connect(m, results.o, flipped(self.o))
        used, full = Signal(range(rows + 1), name="used"), Signal(range(rows + 1))
        write_row, read_row = Signal(range(rows), name="write_row"), Signal(range(rows), name="read_row")
        group = Signal(range(groups))
        take, keep, move, free = Signal(name="take"), Signal(name="keep"), Signal(name="move"), Signal(name="free")
        m.d.comb += [
            take.eq(firing.fire & op.last),
            keep.eq(keeps),
            results.i.valid.eq(full != 0),
            move.eq(results.i.valid & results.i.ready),
            free.eq(move & (group == groups - 1)),
        ]
        # `room` is used != rows, as a register: so much hangs on `fire`.
        m.d.sync += [used.eq(used + take - free),
                     firing.room.eq(Mux(take, free | (used != rows - 1), free | firing.room)),
                     full.eq(full + keep - free)]
        with m.If(keep):
            m.d.sync += advance(write_row, rows)
        with m.If(move):
            m.d.sync += advance(group, groups)
        with m.If(free):
            m.d.sync += advance(read_row, rows)
        return _Ring(results, take, keep, write_row, read_row, group)

    def _connect(self, m, columns, given, enable, staged, ring):
        """The columns, written once for all that are alike. Gives the sums of the ring's row that is read."""
        params, bits, end = self._params, self._params.weight.bits, staged[-1]
        sums = []
        for c, column in columns.items():
            m.submodules[f"column{c}"] = shared(column, column.module_name)
            sums += column.sum if isinstance(column, ColumnPair) else [column.sum]
            operands = zip(column.fixed if c < params.dsp_columns else column.x, given.own.get(c, given.x))
            m.d.comb += [
                column.load.eq(given.loads),
                column.tile.eq(given.tile[c * bits * params.lanes:][:len(column.tile)]),
                *(port.eq(operand) for port, operand in operands),
                column.enable.eq(enable[-1]),
                column.first.eq(end.first if params.entries > 1 else enable[-2] & staged[-2].first),
                column.entry.eq(end.entry),
                *([column.shift.eq(staged[-2].shift)] if params.with_adapters else []),
                column.keep.eq(ring.keep),
                column.row.eq(ring.write_row),
                column.read_row.eq(ring.read_row),
            ]
        return sums

    def _leave(self, m, firing, ring, end, sums):
        """A row leaves as granules, each with its entry and exponent, which stand beside the row."""
        params, results = self._params, ring.results
        of_row = StructLayout({"entry": range(params.entries), "exp": signed(EXP_BITS),
                               **({"a": 1} if params.with_adapters else {})})
        m.submodules.ring = memory = Memory(shape=of_row, depth=self.rows, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [write.addr.eq(ring.write_row), write.data.entry.eq(end.entry), write.data.exp.eq(end.exp),
                     write.en.eq(ring.keep), read.addr.eq(ring.read_row)]
        m.d.comb += [results.i.p.entry.eq(read.data.entry), results.i.p.exp.eq(read.data.exp),
                     results.i.p.group.eq(ring.group)]
        if params.with_adapters:
            m.d.comb += [write.data.a.eq(end.a), results.i.p.a.eq(read.data.a)]
        if params.row_offsets:
            offsets = self._offsets(m, firing.load, ring.take, ring.read_row)
            m.d.comb += results.i.p.rows.eq(offsets.word_select(ring.group, OFFSET_BITS * params.vector_lanes))
        for v in range(params.vector_lanes):
            m.d.comb += results.i.p.acc[v].eq(Array(sums[v::params.vector_lanes])[ring.group])

    def _offsets(self, m, load, take, read_row):
        """Offsets of the columns of the row of the ring that is read. They stand there from the firing of its last
        operation on, when the row is its own."""
        bits, rows = OFFSET_BITS * self._params.columns, self.rows
        active, row = Signal(bits, name="active_offsets", reset_less=True), Signal(range(rows), name="offsets_row")
        with m.If(load):
            m.d.sync += active.eq(self.tile.payload[-bits:])
        with m.If(take):
            m.d.sync += row.eq(Mux(row == rows - 1, 0, row + 1))
        m.submodules.offsets = offsets = Memory(shape=unsigned(bits), depth=rows, init=[])
        read, write = offsets.read_port(domain="comb"), offsets.write_port()
        m.d.comb += [write.addr.eq(row), write.data.eq(active), write.en.eq(take), read.addr.eq(read_row)]
        return read.data
