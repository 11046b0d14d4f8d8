"""Adapters: their memory, the order in which their tiles and the base's go to the array, and A's sums as activations
(docs/adapters.md)."""
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.arith import sum_to_bf16, times
from ..lib.layouts import EXP_BITS, SHIFT_BITS, adapter_layout, runs_layout
from ..lib.pick import pick
from ..lib.pipeline import Pipeline
from ..lib.ram import BlockRam
from ..lib.skid import SkidRegister
from ..lib.steps import matrices
from ..lib.tile_order import TileOrder
from ..params.adapters import MAX_SHIFT
from ..params.block import Project
from ..params.phases import member
from ..params.stream import HEAD

__all__ = ["AdapterSums", "AdapterTiles"]


class _Reader:
    """What the reader of the memory is at: a beat of A's of some runs, or of an n-tile's B's of these."""

    def __init__(self, places, *, size, adapters, entries, tile_beats):
        """``places``: {matrix: its `AdapterPlace`}; ``size``: beats of an adapter."""
        matrix, places = type(next(iter(places))), places.values()
        self.longest = max(1 + place.a.tiles * tile_beats for place in places)      # beats of an A

        def register(name, shape):
            return Signal(shape, name=name, reset_less=True)

        self.busy = Signal(name="busy")
        self.in_b = register("in_b", 1)                                             # of B, not A
        self.run = register("run", range(entries))
        self.address = register("address", range(size * adapters + 1))              # the next beat's
        most = max(self.longest, max(place.b.k_tiles for place in places) * tile_beats)
        self.left = register("left", range(most))                                   # beats behind that one, of this run
        self.n_left = register("n_left", range(max(place.b.n_tiles for place in places)))      # n-tiles behind this one
        self.a_at = register("a_at", range(size + 1))           # in an adapter: of the matrix's A ...
        self.b_at = register("b_at", range(size + 1))           # ... and of the n-tile's B
        self.matrix = register("held_matrix", matrix)


@dataclass
class _Place:
    """Where a matrix's numbers are in an adapter, in beats."""
    a_beats: Signal     # of A, its exponent included
    b_beats: Signal     # of B, for an n-tile
    at: Signal          # of A, in an adapter
    b_start: Signal     # of B, in an adapter


class AdapterTiles(wiring.Component):
    """The memory of all adapters, and the tiles on their way to the array.

    The rows of a pass are told as they are let in, from which `runs` follow. While there are none, the base's tiles
    pass. Else they pass as the commands of the feeder say: of a layer's matrix behind the tiles of A, with those of B
    before the last of each n-tile. Of two half-batches each has its runs, and the base's tiles wait for commands if
    either has some. A command of cycle s has A's first tile at ``tile`` in cycle s + 3 + B; each other
    one is there B cycles after the one before it was taken, and the first of a run's A one later.

    Parameters
    ----------
    array : ArrayParams         of the array that takes the tiles; its entries are those of a half-batch
    block : Block
    layers : int
    adapters : int              resident at once
    adapter_map : AdapterMap
    tile_beats : int            beats of a tile
    halves : int                1, or 2 half-batches: the first rows are the one's
    wired : names               of the projects whose base is logic: they have A's tiles and B's alone

    Members
    -------
    load : In(stream)           `adapter_layout`; always ready. Of each byte the bits of the array's codes are kept
    clear : In(1)               a pass begins: there are no rows ...
    enter : In(1), number : In  ... but each that is let in, with its adapter or 0
    start : In(1), matrix : In, layer : In      a command of the feeder is taken
    half : In(1)                of two: of the command, and of what follows from it
    base : In(stream), tile : Out(stream)       `tile_layout`
    runs : Out                  `runs_layout`, of the half-batch
    exponents : Out             of each row's adapter, for the matrix, for `AdapterSums`: before A's sums are there
    """

    def __init__(self, array, *, block, layers, adapters, adapter_map, tile_beats, halves=1, wired=()):
        Matrix, entries = matrices(block), array.entries
        self._logic = {member(Matrix, project) for project in block.of(Project) if project.name in wired}
        self._head = member(Matrix, HEAD)
        self._places = {member(Matrix, project): adapter_map[project.name, 0] for project in block.of(Project)}
        self._size, self._layer_beats = adapter_map.beats, adapter_map.beats // layers
        self._entries, self._adapters, self._tile_beats, self._halves = entries, adapters, tile_beats, halves
        self._code_bits, self._beat_bytes = array.weight.bits, array.lanes * array.columns // tile_beats
        tile = stream.Signature(unsigned(array.tile_layout.size))
        super().__init__({
            "load": In(stream.Signature(adapter_layout(adapters=adapters, beat_bytes=self._beat_bytes))),
            "clear": In(1), "enter": In(1), "number": In(range(adapters + 1)),
            "start": In(1), "matrix": In(Matrix), "layer": In(range(layers)),
            **({"half": In(1)} if halves == 2 else {}),
            "base": In(tile), "tile": Out(tile),
            "runs": Out(runs_layout(entries=entries)),
            "exponents": Out(data.ArrayLayout(signed(EXP_BITS), entries)),
        })

    def elaborate(self, platform):
        m = Module()
        adapted = Signal(name="adapted")            # the command is of a layer's matrix, and some row has an adapter
        m.d.comb += adapted.eq(self.start & (self.runs.count != 0) & (self.matrix != self._head))
        memory = self._store(m)
        bases, counts = self._find_runs(m)
        beats = self._read(m, memory, bases, adapted)
        valid, whole, ready = self._assemble(m, beats)
        self._merge(m, adapted, counts, valid, whole, ready)
        return m

    def _store(self, m):
        """The memory, and its content as it comes."""
        size, adapters = self._size, self._adapters
        m.submodules.memory = memory = BlockRam(self._code_bits * self._beat_bytes, size * adapters)
        write = Signal(range(size * adapters + 1), name="write", reset_less=True)
        place = Mux(self.load.p.first, times(self.load.p.adapter, size), write)
        m.d.comb += [self.load.ready.eq(1), memory.write_en.eq(self.load.valid), memory.write_address.eq(place),
                     memory.write_data.eq(self._codes(self.load.p.data))]
        with m.If(self.load.valid):
            m.d.sync += write.eq(place + 1)
        return memory

    def _codes(self, data):
        """What is kept of a beat's bytes."""
        bits = self._code_bits
        return data if bits == 8 else Cat(data.word_select(i, 8)[:bits] for i in range(self._beat_bytes))

    def _find_runs(self, m):
        """Rows as they are let in. Returns (where each run's adapter begins in the memory, how many runs each
        half-batch has)."""
        runs, entries = self.runs, self._entries
        row, before = Signal(range(entries + 1), name="row"), Signal.like(self.number, name="before")
        if self._halves == 1:
            bases = self._bases()
            with m.If(self.clear):
                m.d.sync += [row.eq(0), before.eq(0), runs.count.eq(0), runs.rows.eq(0)]
            with m.Elif(self.enter):
                m.d.sync += [row.eq(row + 1), before.eq(self.number)]
                self._enter(m, runs, bases, row, before)
            return bases, [runs.count]
        pair = [Signal(runs.shape(), name=f"runs{half}") for half in (0, 1)]
        bases, of_second = [self._bases(f"half{half}_") for half in (0, 1)], Signal(name="of_second")
        with m.If(self.clear):
            m.d.sync += [row.eq(0), before.eq(0), of_second.eq(0)]
            m.d.sync += [field.eq(0) for runs in pair for field in (runs.count, runs.rows)]
        with m.Elif(self.enter):
            m.d.sync += [row.eq(row + 1), before.eq(self.number)]
            with m.If(row == entries - 1):
                m.d.sync += [row.eq(0), before.eq(0), of_second.eq(1)]
            for half in (0, 1):
                with m.If(of_second == half):
                    self._enter(m, pair[half], bases[half], row, before)
        m.d.comb += self.runs.eq(Mux(self.half, pair[1], pair[0]))
        return [Mux(self.half, second, first) for first, second in zip(*bases)], [of.count for of in pair]

    def _bases(self, prefix=""):
        size = self._size * self._adapters
        return [Signal(range(size), name=f"{prefix}base{i}", reset_less=True) for i in range(self._entries)]

    def _enter(self, m, runs, bases, row, before):
        """A row with an adapter is a run's next one, or the first of a new one."""
        with m.If(self.number != 0):
            m.d.sync += runs.rows.eq(runs.rows + 1)
            for i in range(self._entries):
                with m.If((self.number != before) & (runs.count == i)):
                    base = times((self.number - 1)[:len(self.number)], self._size)
                    m.d.sync += [runs.first[i].eq(row), runs.last[i].eq(row), bases[i].eq(base),
                                 runs.count.eq(i + 1)]
                with m.Elif((self.number == before) & (runs.count == i + 1)):
                    m.d.sync += runs.last[i].eq(row)

    # -- the reader: one beat after the other, from the command on

    def _read(self, m, memory, bases, adapted):
        """Beats of a matrix's numbers in adapters, in the array's order. Returns the stream {data, record, run}: a
        beat, whether it is one of an exponent, and its run."""
        reader = _Reader(self._places, size=self._size, adapters=self._adapters, entries=self._entries,
                         tile_beats=self._tile_beats)
        place = self._locate(m, reader)
        found, record = Signal(name="found"), Signal(name="record", reset_less=True)
        of_run = Signal.like(reader.run, name="of_run")
        layout = data.StructLayout({"data": self._code_bits * self._beat_bytes, "record": 1,
                                    "run": range(self._entries)})
        m.submodules.output = output = SkidRegister(layout)
        move, read = Signal(name="move"), Signal(name="read")
        m.d.comb += [output.i.valid.eq(found), output.i.p.data.eq(memory.read_data), output.i.p.record.eq(record),
                     output.i.p.run.eq(of_run), move.eq(~found | output.i.ready), read.eq(reader.busy & move),
                     memory.read_en.eq(read), memory.read_address.eq(reader.address)]
        with m.If(move):
            m.d.sync += [found.eq(reader.busy), record.eq(~reader.in_b & (reader.left == place.a_beats - 1)),
                         of_run.eq(reader.run)]
        with m.If(adapted):
            self._begin_reading(m, reader, place, bases)
        with m.Elif(read):
            self._next_beat(m, reader, place, bases)
        return output.o

    def _locate(self, m, reader):
        """`_Place` of the command's matrix: in its cycle, and from then on."""
        size, tile_beats = self._size, self._tile_beats
        place = _Place(a_beats=Signal(range(reader.longest + 1), name="a_beats"),
                       b_beats=Signal.like(reader.left, name="b_beats"),
                       at=Signal(range(size + 1), name="at"), b_start=Signal(range(size + 1), name="b_start"))
        with m.Switch(Mux(self.start, self.matrix, reader.matrix)):
            for key, fixed in self._places.items():
                with m.Case(key):
                    m.d.comb += [place.a_beats.eq(1 + fixed.a.tiles * tile_beats),
                                 place.b_beats.eq(fixed.b.k_tiles * tile_beats),
                                 place.at.eq(times(self.layer, self._layer_beats) + fixed.address),
                                 place.b_start.eq(times(self.layer, self._layer_beats) + fixed.b_address)]
        return place

    def _begin_reading(self, m, reader, place, bases):
        """From the first run's A on."""
        m.d.sync += [reader.busy.eq(1), reader.in_b.eq(0), reader.run.eq(0), reader.matrix.eq(self.matrix),
                     reader.a_at.eq(place.at), reader.b_at.eq(place.b_start), reader.address.eq(bases[0] + place.at),
                     reader.left.eq(place.a_beats - 1)]
        with m.Switch(self.matrix):
            for key, fixed in self._places.items():
                with m.Case(key):
                    m.d.sync += reader.n_left.eq(fixed.b.n_tiles - 1)

    def _next_beat(self, m, reader, place, bases):
        """The run's next beat; behind its last one the next run's, and behind those of the last run the first run's B
        of an n-tile."""
        in_b, run = reader.in_b, reader.run
        of_last = run + 1 == self.runs.count
        m.d.sync += [reader.address.eq(reader.address + 1), reader.left.eq(reader.left - 1)]
        with m.If(reader.left == 0):
            with m.If(~of_last):
                m.d.sync += [run.eq(run + 1),
                             reader.address.eq(pick(bases, run + 1) + Mux(in_b, reader.b_at, reader.a_at)),
                             reader.left.eq(Mux(in_b, place.b_beats, place.a_beats) - 1)]
            with m.Else():
                after = Mux(in_b, reader.b_at + place.b_beats, reader.b_at)
                m.d.sync += [run.eq(0), in_b.eq(1), reader.b_at.eq(after), reader.address.eq(bases[0] + after),
                             reader.left.eq(place.b_beats - 1)]
                with m.If(in_b):
                    m.d.sync += [reader.n_left.eq(reader.n_left - 1), reader.busy.eq(reader.n_left != 0)]

    def _assemble(self, m, beats):
        """Beats as tiles, and exponents into their register. Returns the tile's (valid, payload, ready)."""
        runs, tile_beats = self.runs, self._tile_beats
        beat_bits = self._code_bits * self._beat_bytes
        whole = Signal(unsigned(beat_bits * tile_beats), name="whole")
        ready, valid = Signal(name="ready"), Signal(name="valid")
        last = Const(1)
        if tile_beats > 1:
            beat = Signal(range(tile_beats), name="beat")
            kept = [Signal(beat_bits, name=f"kept{i}", reset_less=True) for i in range(tile_beats - 1)]
            last = beat == tile_beats - 1
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
            for i in range(self._entries):
                with m.If((pick(runs.first, beats.p.run) <= i) & (i <= pick(runs.last, beats.p.run))):
                    m.d.sync += self.exponents[i].eq(beats.p.data[:EXP_BITS])
        return valid, whole, ready

    def _merge(self, m, adapted, counts, valid, whole, ready):
        """The tiles of the base, or of adapters, as it is their turn."""
        order = TileOrder(entries=self._entries, places=self._places, runs=self.runs, counts=counts, head=self._head,
                          logic=self._logic)
        from_base, from_memory = order.is_base(), order.is_adapter()
        m.d.comb += [self.tile.valid.eq(Mux(from_memory, valid, self.base.valid & from_base)),
                     self.tile.payload.eq(Mux(from_memory, whole, self.base.payload)),
                     ready.eq(from_memory & self.tile.ready), self.base.ready.eq(from_base & self.tile.ready)]
        order.follow(m, clear=self.clear, start=self.start, adapted=adapted, matrix=self.matrix,
                     taken=self.tile.valid & self.tile.ready)


class AdapterSums(wiring.Component):
    """A's sums as bf16, with the least scale that each row may have, and by how much B's sums of it are shifted.

    A granule taken in cycle s is at ``o`` in cycle s + 4. `ready` is 1 from two cycles after the last one of the
    command until the next command.

    Parameters
    ----------
    array : ArrayParams                 of the array that makes the sums
    block : Block
    adapter_map : AdapterMap

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

    def __init__(self, array, *, block, adapter_map):
        self._array, Matrix, entries = array, matrices(block), array.entries
        # {matrix: the `Matmul` of its A}
        self._matmuls = {member(Matrix, project): adapter_map[project.name, 0].a for project in block.of(Project)}
        self._granules = max(matmul.rows for matmul in self._matmuls.values()) // array.vector_lanes
        granule = data.StructLayout({"x": data.ArrayLayout(unsigned(16), array.vector_lanes), "row": range(entries),
                                     "part": range(self._granules), "least": 9})
        super().__init__({
            "start": In(1), "matrix": In(Matrix), "runs": In(runs_layout(entries=entries)),
            "exponents": In(data.ArrayLayout(signed(EXP_BITS), entries)),
            "i": In(stream.Signature(array.result_layout)), "o": Out(stream.Signature(granule)),
            "ready": Out(1), "entry": In(range(entries)), "exp": In(signed(EXP_BITS)), "shift": Out(SHIFT_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        part, end = self._count(m)
        pipe = Pipeline(m, self.i, self.o, stages=self.STAGES)
        exponent = self._shift(m)
        least = self._least(m, pipe, exponent)
        self._round(m, pipe)
        m.d.comb += [self.o.p.row.eq(pipe.reg(self.i.p.entry, name="row", stages=self.STAGES)),
                     self.o.p.part.eq(pipe.reg(part, name="at", stages=self.STAGES)), self.o.p.least.eq(least)]
        ended = pipe.reg(end, name="ended", stages=self.STAGES)
        # the buffer knows a row's scale two cycles after its last granule, and is asked for it one cycle after a
        # request
        written = Signal(name="written")
        m.d.sync += written.eq(self.o.valid & ended)
        with m.If(self.start):
            m.d.sync += self.ready.eq(0)
        with m.Elif(written):
            m.d.sync += self.ready.eq(1)
        return m

    def _count(self, m):
        """Which granule comes: of each run n-tile after n-tile, of each of these row after row. Returns (the part of
        its row, it is the command's last one)."""
        i, runs = self.i.p, self.runs
        groups = self._array.columns // self._array.vector_lanes
        run, part = Signal(range(self._array.entries), name="run"), Signal(range(self._granules), name="part")
        last_part = Signal(range(self._granules), name="last_part")        # the first one of the last n-tile
        held = Signal(self.matrix.shape(), name="held", reset_less=True)
        with m.Switch(held):
            for matrix, matmul in self._matmuls.items():
                with m.Case(matrix):
                    m.d.comb += last_part.eq((matmul.n_tiles - 1) * groups)
        first_part = Signal.like(part, name="first_part")
        row_end = i.group == groups - 1
        tile_end = row_end & (i.entry == pick(runs.last, run))
        end = tile_end & (first_part == last_part) & (run + 1 == runs.count)
        with m.If(self.start):
            m.d.sync += [run.eq(0), first_part.eq(0), held.eq(self.matrix)]
        with m.Elif(self.i.valid & tile_end):
            m.d.sync += first_part.eq(first_part + groups)
            with m.If(first_part == last_part):
                m.d.sync += [first_part.eq(0), run.eq(run + 1)]
        m.d.comb += part.eq(first_part + i.group)
        return part, end

    def _shift(self, m):
        """By how much B's sums of an entry are shifted. Returns the exponent of the granule's adapter."""
        i = self.i.p
        exponent = Signal(signed(EXP_BITS), name="exponent")
        # less the exponent of the row's codes
        shifts = [Signal(signed(EXP_BITS + 1), name=f"shift{k}", reset_less=True) for k in range(self._array.entries)]
        m.d.comb += exponent.eq(pick(self.exponents, i.entry))
        with m.If(self.i.valid & self.i.ready):
            for k, shift in enumerate(shifts):
                with m.If(i.entry == k):
                    m.d.sync += shift.eq(exponent - i.exp)
        of_entry = Signal(signed(EXP_BITS + 2), name="of_entry")
        m.d.comb += [of_entry.eq(pick(shifts, self.entry) + self.exp),
                     self.shift.eq(Mux(of_entry < 0, 0, Mux(of_entry > MAX_SHIFT, MAX_SHIFT, of_entry)))]
        return exponent

    def _least(self, m, pipe, exponent):
        """The key of a vector whose scale is at least e_x - exponent (`scale_key`)."""
        least = Signal(signed(EXP_BITS + 3), name="least")
        m.d.comb += least.eq(self.i.p.exp - exponent + (127 + self._array.activation.max_exp))
        clipped = pipe.reg(Mux(least < 0, 0, Mux(least > 255, 255, least))[:8], name="clipped", stages=self.STAGES)
        return Cat(Const(0, 1), clipped)

    def _round(self, m, pipe):
        """Sums as bf16: magnitude, leading zeros, their shift, rounding; a stage each."""
        array, i = self._array, self.i.p
        unit = array.weight.unit_exp + array.activation.unit_exp        # exponent of a sum's last bit
        highest = pipe.reg(i.exp + (unit + array.acc_bits - 1 + 127), name="highest", stages=2)
        for lane in range(array.vector_lanes):
            m.d.comb += self.o.p.x[lane].eq(sum_to_bf16(m, pipe, i.acc[lane], highest, name=f"lane{lane}"))
