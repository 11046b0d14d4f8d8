"""Adapters: their memory, the order in which their tiles and the base's go to the array, and A's sums as activations (docs/adapters.md)."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import leading_zeros, magnitude, round_bf16, shift_up, times
from ..lib.layouts import EXP_BITS, SHIFT_BITS, adapter_layout, result_layout, runs_layout, tile_layout
from ..lib.pipeline import Pipeline
from ..lib.ram import BlockRam
from ..lib.skid import SkidRegister
from ..lib.steps import matrices, numbered
from ..params.adapters import MAX_SHIFT
from ..params.block import Project
from ..params.phases import member
from ..params.stream import HEAD
from .feeder import feeder_ports

__all__ = ["AdaptedFeeder", "AdapterSums", "AdapterTiles"]

_Source = numbered("TileSource", ["wait", "a", "most", "b", "rest", "all"])


class AdapterTiles(wiring.Component):
    """The memory of all adapters, and the tiles on their way to the array.

    The rows of a pass are told as they are let in, from which `runs` follow. While there are none, the base's tiles pass. Else they pass as
    the commands of the feeder say: of a layer's matrix behind the tiles of A, with those of B before the last of each n-tile. A command of
    cycle s has A's first tile at ``tile`` in cycle s + 3 + B; each other one is there B cycles after the one before it was taken, and the
    first of a run's A one later.

    Members
    -------
    load : In(stream)           `adapter_layout`; always ready
    clear : In(1)               a pass begins: there are no rows ...
    enter : In(1), number : In  ... but each that is let in, with its adapter or 0
    start : In(1), matrix : In, layer : In      a command of the feeder is taken
    base : In(stream), tile : Out(stream)       `tile_layout`
    runs : Out                  `runs_layout`
    exponents : Out             of each row's part of its adapter, for `AdapterSums`: before A's sums are there
    """

    def __init__(self, design):
        self._design = design
        tile = stream.Signature(unsigned(tile_layout(design).size))
        super().__init__({
            "load": In(stream.Signature(adapter_layout(design))), "clear": In(1), "enter": In(1),
            "number": In(range(design.hw.adapters + 1)),
            "start": In(1), "matrix": In(matrices(design.block)), "layer": In(range(design.layers)), "base": In(tile), "tile": Out(tile),
            "runs": Out(runs_layout(design)), "exponents": Out(data.ArrayLayout(signed(EXP_BITS), design.hw.entries)),
        })

    def elaborate(self, platform):
        m = Module()
        design, hw = self._design, self._design.hw
        Matrix, projects = matrices(design.block), design.block.of(Project)
        size, runs = design.adapter_map.beats, self.runs
        parts = {member(Matrix, project): design.adapter_map[project.name, 0] for project in projects}
        layer_beats = size // design.layers
        adapted = Signal(name="adapted")            # the command is of a layer's matrix, and some row has an adapter
        m.d.comb += adapted.eq(self.start & (runs.count != 0) & (self.matrix != member(Matrix, HEAD)))

        # The memory, and its content as it comes
        m.submodules.memory = memory = BlockRam(8 * hw.beat_bytes, size * hw.adapters)
        write = Signal(range(size * hw.adapters + 1), name="write", reset_less=True)
        place = Mux(self.load.p.first, times(self.load.p.adapter, size), write)
        m.d.comb += [self.load.ready.eq(1), memory.write_en.eq(self.load.valid), memory.write_address.eq(place),
                     memory.write_data.eq(self.load.p.data)]
        with m.If(self.load.valid):
            m.d.sync += write.eq(place + 1)

        bases = self._runs(m, size)

        # The reader: one beat after the other, from the command on
        busy, in_b = Signal(name="busy"), Signal(name="in_b", reset_less=True)
        run = Signal(range(hw.entries), name="run", reset_less=True)
        address = Signal(range(size * hw.adapters + 1), name="address", reset_less=True)
        longest = max(1 + part.a.tiles * hw.tile_beats for part in parts.values())
        left = Signal(range(max(longest, max(part.b.k_tiles for part in parts.values()) * hw.tile_beats)), name="left", reset_less=True)
        n_left = Signal(range(max(part.b.n_tiles for part in parts.values())), name="n_left", reset_less=True)
        # in an adapter: of the part's A, of the n-tile's B
        a_at, b_at = (Signal(range(size + 1), name=name, reset_less=True) for name in ("a_at", "b_at"))
        a_beats, b_beats = Signal(range(longest + 1), name="a_beats"), Signal.like(left, name="b_beats")
        matrix = Signal(Matrix, name="held_matrix", reset_less=True)
        at, b_start = Signal(range(size + 1), name="at"), Signal(range(size + 1), name="b_start")
        with m.Switch(Mux(self.start, self.matrix, matrix)):
            for key, part in parts.items():
                with m.Case(key):
                    m.d.comb += [a_beats.eq(1 + part.a.tiles * hw.tile_beats), b_beats.eq(part.b.k_tiles * hw.tile_beats),
                                 at.eq(times(self.layer, layer_beats) + part.address),
                                 b_start.eq(times(self.layer, layer_beats) + part.b_address)]

        found, record, of_run = Signal(name="found"), Signal(name="record", reset_less=True), Signal.like(run, name="of_run")
        m.submodules.output = output = SkidRegister(data.StructLayout({"data": 8 * hw.beat_bytes, "record": 1, "run": range(hw.entries)}))
        move, read = Signal(name="move"), Signal(name="read")
        m.d.comb += [output.i.valid.eq(found), output.i.p.data.eq(memory.read_data), output.i.p.record.eq(record),
                     output.i.p.run.eq(of_run),
                     move.eq(~found | output.i.ready), read.eq(busy & move), memory.read_en.eq(read), memory.read_address.eq(address)]
        with m.If(move):
            m.d.sync += [found.eq(busy), record.eq(~in_b & (left == a_beats - 1)), of_run.eq(run)]
        of_last = run + 1 == runs.count
        with m.If(adapted):
            m.d.sync += [busy.eq(1), in_b.eq(0), run.eq(0), matrix.eq(self.matrix), a_at.eq(at), b_at.eq(b_start),
                         address.eq(bases[0] + at),
                         left.eq(a_beats - 1)]
            with m.Switch(self.matrix):
                for key, part in parts.items():
                    with m.Case(key):
                        m.d.sync += n_left.eq(part.b.n_tiles - 1)
        with m.Elif(read):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
            with m.If(left == 0):
                with m.If(~of_last):
                    m.d.sync += [run.eq(run + 1), address.eq(_at(bases, run + 1) + Mux(in_b, b_at, a_at)),
                                 left.eq(Mux(in_b, b_beats, a_beats) - 1)]
                with m.Else():
                    after = Mux(in_b, b_at + b_beats, b_at)
                    m.d.sync += [run.eq(0), in_b.eq(1), b_at.eq(after), address.eq(bases[0] + after), left.eq(b_beats - 1)]
                    with m.If(in_b):
                        m.d.sync += [n_left.eq(n_left - 1), busy.eq(n_left != 0)]

        # Its beats as tiles
        beats, whole = output.o, Signal(unsigned(8 * hw.lanes * hw.columns), name="whole")
        ready, valid = Signal(name="ready"), Signal(name="valid")
        last = Const(1)
        if hw.tile_beats > 1:
            beat = Signal(range(hw.tile_beats), name="beat")
            kept = [Signal(8 * hw.beat_bytes, name=f"kept{i}", reset_less=True) for i in range(hw.tile_beats - 1)]
            last = beat == hw.tile_beats - 1
            with m.If(beats.valid & beats.ready & ~beats.p.record):
                m.d.sync += beat.eq(beat + 1)
                with m.Switch(beat):
                    for i, register in enumerate(kept):
                        with m.Case(i):
                            m.d.sync += register.eq(beats.p.data)
            m.d.comb += whole.eq(Cat(*kept, beats.p.data))
        else:
            m.d.comb += whole.eq(beats.p.data)
        m.d.comb += [valid.eq(beats.valid & ~beats.p.record & last), beats.ready.eq(beats.p.record | ~last | ready)]
        with m.If(beats.valid & beats.p.record):
            for i in range(hw.entries):
                with m.If((_at(runs.first, beats.p.run) <= i) & (i <= _at(runs.last, beats.p.run))):
                    m.d.sync += self.exponents[i].eq(beats.p.data[:EXP_BITS])

        self._merge(m, parts, adapted, valid, whole, ready)
        return m

    def _runs(self, m, size):
        """Rows as they are let in; where each run's adapter begins in the memory."""
        hw, runs = self._design.hw, self.runs
        row, before = Signal(range(hw.entries + 1), name="row"), Signal.like(self.number, name="before")
        bases = [Signal(range(size * hw.adapters), name=f"base{i}", reset_less=True) for i in range(hw.entries)]
        with m.If(self.clear):
            m.d.sync += [row.eq(0), before.eq(0), runs.count.eq(0), runs.rows.eq(0)]
        with m.Elif(self.enter):
            m.d.sync += [row.eq(row + 1), before.eq(self.number)]
            with m.If(self.number != 0):
                m.d.sync += runs.rows.eq(runs.rows + 1)
                for i in range(hw.entries):
                    with m.If((self.number != before) & (runs.count == i)):
                        m.d.sync += [runs.first[i].eq(row), runs.last[i].eq(row),
                                     bases[i].eq(times((self.number - 1)[:len(self.number)], size)), runs.count.eq(i + 1)]
                    with m.Elif((self.number == before) & (runs.count == i + 1)):
                        m.d.sync += runs.last[i].eq(row)
        return bases

    def _merge(self, m, parts, adapted, valid, whole, ready):
        """The tiles of the base and those of adapters, in order."""
        design, runs = self._design, self.runs
        source = Signal(_Source, name="source")
        tiles_left = Signal(range(max(max(part.a.tiles, design.matmul(part.project).k_tiles) for part in parts.values())),
                            name="tiles_left", reset_less=True)
        runs_left = Signal(range(design.hw.entries), name="runs_left", reset_less=True)
        n_tiles = Signal(range(max(part.b.n_tiles for part in parts.values())), name="n_tiles", reset_less=True)
        matrix = Signal(self.matrix.shape(), name="of_matrix", reset_less=True)
        from_base = (runs.count == 0) | (source == _Source.MOST) | (source == _Source.REST) | (source == _Source.ALL)
        from_memory = (runs.count != 0) & ((source == _Source.A) | (source == _Source.B))
        m.d.comb += [self.tile.valid.eq(Mux(from_memory, valid, self.base.valid & from_base)),
                     self.tile.payload.eq(Mux(from_memory, whole, self.base.payload)),
                     ready.eq(from_memory & self.tile.ready), self.base.ready.eq(from_base & self.tile.ready)]
        taken = self.tile.valid & self.tile.ready

        def enter(state, key):
            """Begin a state, of a matrix."""
            part = parts[key]
            count = {_Source.A: part.a.tiles, _Source.B: part.b.k_tiles, _Source.MOST: design.matmul(part.project).k_tiles - 1,
                     _Source.REST: 1}[state]
            m.d.sync += [source.eq(state), tiles_left.eq(count - 1), runs_left.eq(runs.count - 1)]

        def each(key_of, then):
            with m.Switch(key_of):
                for key in parts:
                    with m.Case(key):
                        then(key)

        with m.If(self.clear):
            m.d.sync += source.eq(_Source.WAIT)
        with m.Elif(adapted):
            m.d.sync += matrix.eq(self.matrix)

            def begin(key):
                m.d.sync += n_tiles.eq(parts[key].b.n_tiles - 1)
                enter(_Source.A, key)
            each(self.matrix, begin)
        with m.Elif(self.start):
            m.d.sync += source.eq(_Source.ALL)
        with m.Elif(taken & (source != _Source.ALL) & (source != _Source.WAIT)):
            m.d.sync += tiles_left.eq(tiles_left - 1)
            with m.If(tiles_left == 0):
                with m.Switch(source):
                    for state, follows in ((_Source.A, _Source.MOST), (_Source.B, _Source.REST)):
                        with m.Case(state):
                            def again(key, state=state, follows=follows):
                                with m.If(runs_left == 0):
                                    enter(follows, key)
                                with m.Else():
                                    enter(state, key)
                                    m.d.sync += runs_left.eq(runs_left - 1)
                            each(matrix, again)
                    with m.Case(_Source.MOST):
                        each(matrix, lambda key: enter(_Source.B, key))
                    with m.Case(_Source.REST):
                        m.d.sync += n_tiles.eq(n_tiles - 1)
                        each(matrix, lambda key: enter(_Source.MOST, key))
                        with m.If(n_tiles == 0):
                            m.d.sync += source.eq(_Source.WAIT)


class AdaptedFeeder(wiring.Component):
    """A `Feeder` for passes in which rows have adapters: the requests of a matrix, in the order of the tiles.

    Before each first slice of A's sums it waits for `AdapterSums`. Without runs, and of the LM head, it is as the other one.

    Members
    -------
    cmd : In(stream), o : Out(stream)   as `Feeder`; of a request whose ``meta.z`` is set, ``part`` is one of A's sums
    runs : In, ready : In(1)            `runs_layout`; A's sums are there
    """

    def __init__(self, design):
        self._design = design
        super().__init__(feeder_ports(design) | {"runs": In(runs_layout(design)), "ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        design, hw, runs = self._design, self._design.hw, self.runs
        Matrix, projects = matrices(design.block), {project: design.adapter_matmuls(project) for project in design.block.of(Project)}
        matmuls = {member(Matrix, project): (design.matmul(project.name), *projects[project]) for project in projects}
        matmuls[member(Matrix, HEAD)] = design.head_matmul, None, None
        o, cmd = self.o.p, self.cmd.p

        def counter(name, limit):
            return Signal(range(limit), name=name, reset_less=True)

        # What is left of each loop; all count down to 0
        busy, source = Signal(name="busy"), Signal(_Source, name="source", reset_less=True)
        adapted = Signal(name="adapted", reset_less=True)
        matrix = Signal(Matrix, name="matrix", reset_less=True)
        k_tiles, a_tiles, b_tiles, codes = (counter(name, limit) for name, limit in (
            ("k_tiles", max(w.k_tiles for w, _, _ in matmuls.values()) + 1), ("a_tiles", max(a.n_tiles for a, _ in projects.values()) + 1),
            ("b_tiles", max(b.k_tiles for _, b in projects.values()) + 1), ("codes", 3)))
        n_left = counter("n_left", max(w.n_tiles for w, _, _ in matmuls.values()))
        k_left, a_left, b_left, codes_left = (Signal.like(of, name=f"{of.name}_left") for of in (k_tiles, a_tiles, b_tiles, codes))
        part, run, top_entry, entry = (Signal.like(o.part, name="part"), counter("run", hw.entries), counter("top_entry", hw.entries),
                                       counter("entry", hw.entries))
        first = Signal(name="first", reset_less=True)
        with m.Switch(matrix):
            for key, (w, a, b) in matmuls.items():
                with m.Case(key):
                    m.d.comb += [k_tiles.eq(w.k_tiles), codes.eq(w.codes)]
                    if a is not None:
                        m.d.comb += [a_tiles.eq(a.n_tiles), b_tiles.eq(b.k_tiles)]

        of_a, of_b = source == _Source.A, source == _Source.B
        in_run, end = of_a | of_b, Signal(name="end")
        m.d.comb += [
            self.cmd.ready.eq(~busy), self.o.valid.eq(busy & ~(of_b & ~self.ready)), o.row.eq(entry), o.part.eq(part),
            o.meta.entry.eq(entry),
            end.eq(entry == Mux(in_run, _at(runs.last, run), top_entry)), o.meta.tile_end.eq(end), o.meta.first.eq(first & ~of_b),
            o.meta.last.eq(Mux(of_b, 0, (k_left == 0) & (codes_left == 0))), o.meta.a.eq(of_a), o.meta.z.eq(of_b)]
        last_run = run + 1 == runs.count

        def row(next_run=None):
            m.d.sync += entry.eq(0 if next_run is None else _at(runs.first, next_run))

        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += [busy.eq(1), matrix.eq(cmd.matrix), top_entry.eq(cmd.n - 1), part.eq(0), first.eq(1), run.eq(0)]
            uses = (runs.count != 0) & (cmd.matrix != member(Matrix, HEAD))
            m.d.sync += [adapted.eq(uses), source.eq(Mux(uses, _Source.A, _Source.MOST)), entry.eq(Mux(uses, runs.first[0], 0))]
            with m.Switch(cmd.matrix):
                for key, (w, a, b) in matmuls.items():
                    with m.Case(key):
                        m.d.sync += [n_left.eq(w.n_tiles - 1), k_left.eq(w.k_tiles - 1), codes_left.eq(w.codes - 1)]
                        if a is not None:
                            m.d.sync += a_left.eq(a.n_tiles - 1)
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += entry.eq(entry + 1)
            with m.If(end):
                m.d.sync += first.eq(0)
                with m.If(of_b):
                    row(run)
                    m.d.sync += [b_left.eq(b_left - 1), part.eq(part + 1)]
                    with m.If(b_left == 0):
                        row(run + 1)
                        m.d.sync += [run.eq(run + 1), b_left.eq(b_tiles - 1), part.eq(0)]
                        with m.If(last_run):
                            row()
                            m.d.sync += [source.eq(_Source.REST), part.eq(k_tiles - 1)]
                with m.Elif(of_a):
                    row(run)
                    m.d.sync += [k_left.eq(k_left - 1), part.eq(part + 1)]
                    with m.If(k_left == 0):
                        m.d.sync += [k_left.eq(k_tiles - 1), part.eq(0), first.eq(1), a_left.eq(a_left - 1)]
                        with m.If(a_left == 0):
                            row(run + 1)
                            m.d.sync += [a_left.eq(a_tiles - 1), run.eq(run + 1)]
                            with m.If(last_run):
                                row()
                                m.d.sync += source.eq(_Source.MOST)
                with m.Else():
                    row()
                    with m.If(codes_left != 0):
                        m.d.sync += codes_left.eq(codes_left - 1)
                    with m.Elif(k_left != 0):
                        m.d.sync += [k_left.eq(k_left - 1), part.eq(part + 1), codes_left.eq(codes - 1)]
                        with m.If(adapted & (k_left == 1)):
                            row(0)
                            m.d.sync += [source.eq(_Source.B), run.eq(0), b_left.eq(b_tiles - 1), part.eq(0)]
                    with m.Else():
                        m.d.sync += [source.eq(_Source.MOST), k_left.eq(k_tiles - 1), codes_left.eq(codes - 1), part.eq(0), first.eq(1),
                                     n_left.eq(n_left - 1)]
                        with m.If(n_left == 0):
                            m.d.sync += busy.eq(0)
        return m


class AdapterSums(wiring.Component):
    """A's sums as bf16, with the least scale that each row may have, and by how much B's sums of it are shifted.

    A granule taken in cycle s is at ``o`` in cycle s + 4. `ready` is 1 from the cycle after the last one of the command until the next
    command.

    Members
    -------
    start : In(1), matrix : In          a command of the feeder is taken
    runs, exponents : In                from `AdapterTiles`
    i : In(stream)                      `result_layout`, of A's operations; always ready
    o : Out(stream)                     {x, row, part, least}, for a `VectorBuffer` with ``least``; always taken
    ready : Out(1)                      all rows of the command are there
    entry : In, exp : In, shift : Out   the shift of an entry whose codes have that exponent
    """

    STAGES = 4

    def __init__(self, design):
        self._design, hw = design, design.hw
        self._parts = max(design.adapter_matmuls(project)[0].rows for project in design.block.of(Project)) // hw.vector_lanes
        super().__init__({
            "start": In(1), "matrix": In(matrices(design.block)), "runs": In(runs_layout(design)),
            "exponents": In(data.ArrayLayout(signed(EXP_BITS), hw.entries)), "i": In(stream.Signature(result_layout(design))),
            "o": Out(stream.Signature(data.StructLayout({"x": data.ArrayLayout(unsigned(16), hw.vector_lanes), "row": range(hw.entries),
                                                         "part": range(self._parts), "least": 9}))),
            "ready": Out(1), "entry": In(range(hw.entries)), "exp": In(signed(EXP_BITS)), "shift": Out(SHIFT_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        design, hw, i, runs = self._design, self._design.hw, self.i.p, self.runs
        groups = hw.columns // hw.vector_lanes

        # Which granule comes: of each run n-tile after n-tile, of each of these row after row
        run, part = Signal(range(hw.entries), name="run"), Signal(range(self._parts), name="part")
        last_part = Signal(range(self._parts), name="last_part")        # the first one of the last n-tile
        Matrix, held = matrices(design.block), Signal(self.matrix.shape(), name="held", reset_less=True)
        with m.Switch(held):
            for project in design.block.of(Project):
                with m.Case(member(Matrix, project)):
                    m.d.comb += last_part.eq((design.adapter_matmuls(project)[0].n_tiles - 1) * groups)
        first_part = Signal.like(part, name="first_part")
        row_end = i.group == groups - 1
        tile_end = row_end & (i.entry == _at(runs.last, run))
        end = tile_end & (first_part == last_part) & (run + 1 == runs.count)
        with m.If(self.start):
            m.d.sync += [run.eq(0), first_part.eq(0), held.eq(self.matrix)]
        with m.Elif(self.i.valid & tile_end):
            m.d.sync += first_part.eq(first_part + groups)
            with m.If(first_part == last_part):
                m.d.sync += [first_part.eq(0), run.eq(run + 1)]
        m.d.comb += part.eq(first_part + i.group)

        pipe = Pipeline(m, self.i, self.o, stages=self.STAGES)
        exponent = Signal(signed(EXP_BITS), name="exponent")
        # less the exponent of the row's codes
        shifts = [Signal(signed(EXP_BITS + 1), name=f"shift{k}", reset_less=True) for k in range(hw.entries)]
        m.d.comb += exponent.eq(_at(self.exponents, i.entry))
        with m.If(self.i.valid & self.i.ready):
            for k, shift in enumerate(shifts):
                with m.If(i.entry == k):
                    m.d.sync += shift.eq(exponent - i.exp)
        of_entry = Signal(signed(EXP_BITS + 2), name="of_entry")
        m.d.comb += [of_entry.eq(_at(shifts, self.entry) + self.exp),
                     self.shift.eq(Mux(of_entry < 0, 0, Mux(of_entry > MAX_SHIFT, MAX_SHIFT, of_entry)))]

        # the key of a vector whose scale is at least e_x - exponent (`scale_key`)
        least = Signal(signed(EXP_BITS + 3), name="least")
        m.d.comb += least.eq(i.exp - exponent + (127 + design.recipe.activation_format.max_exp))
        clipped = pipe.reg(Mux(least < 0, 0, Mux(least > 255, 255, least))[:8], name="clipped", stages=self.STAGES)
        highest = pipe.reg(i.exp + (design.acc_unit + design.acc_bits - 1 + 127), name="highest", stages=2)
        for lane in range(hw.vector_lanes):
            name = f"lane{lane}"
            sign, mag = magnitude(m, i.acc[lane], name=name)
            sign, mag = pipe.reg(sign, name=f"{name}_sign", stages=3), pipe.reg(mag, name=f"{name}_m1")
            count, zero = leading_zeros(m, mag, name=name)
            count, mag = pipe.reg(count, name=f"{name}_count"), pipe.reg(mag, name=f"{name}_m2")
            top, sticky = pipe.reg(shift_up(m, mag, count, 9, name=name), name=f"{name}_m3")
            biased = pipe.reg(highest - count, name=f"{name}_biased")
            zero = pipe.reg(zero, name=f"{name}_zero", stages=2)
            m.d.comb += self.o.p.x[lane].eq(pipe.reg(round_bf16(m, sign, top, biased, zero=zero, sticky=sticky, name=name),
                                                     name=f"{name}_o"))
        m.d.comb += [self.o.p.row.eq(pipe.reg(i.entry, name="row", stages=self.STAGES)),
                     self.o.p.part.eq(pipe.reg(part, name="at", stages=self.STAGES)),
                     self.o.p.least.eq(Cat(Const(0, 1), clipped))]
        ended = pipe.reg(end, name="ended", stages=self.STAGES)
        with m.If(self.start):
            m.d.sync += self.ready.eq(0)
        with m.Elif(self.o.valid & ended):
            m.d.sync += self.ready.eq(1)
        return m


def _at(values, index):
    """values[index], also of a single one."""
    values = list(values)
    return values[0] if len(values) == 1 else Array(values)[index]
