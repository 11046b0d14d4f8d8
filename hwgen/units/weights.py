"""Where weights come from, and where they go: sources of the weight stream, and its dispatcher."""
import contextlib
from functools import cache, reduce
from operator import or_

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.data import ArrayLayout, StructLayout, View
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.layouts import EXP_BITS, OFFSET_BITS, embed_layout, tile_layout
from ..lib.pieces import Pieces
from ..lib.rom import FileRom
from ..lib.steps import numbered
from ..lib.tiles import TileReader
from ..params.block import Norm, Project
from ..params.phases import turn
from ..params.stream import EMBEDDING, FINAL_NORM, HEAD, HEADER, POSITIONS

__all__ = ["Dispatcher", "RomSource", "StreamPort", "beat_layout", "gain_layout", "request_layout", "row_layout", "vector_layout"]


def request_layout(design):
    """Beats wanted: ``count`` of them (at least 1) from ``address``; the next is 1 further, or B with ``stride``."""
    return StructLayout({"address": range(design.stream_beats), "count": range(design.stream_beats + 1), "stride": 1})


def beat_layout(design):
    """A beat of the stream, byte 0 in the least significant bits. (Ports are plain vectors: Verilog of named elements is long.)"""
    return ArrayLayout(unsigned(8), design.hw.beat_bytes)


def row_layout(design):
    """An embedding row wanted, and where positions are learned, that of a position. ``head``: the LM head is wanted too, by each
    half-batch; it counts with ``last``."""
    return StructLayout({"entry": range(design.hw.entries), "token": range(design.model.vocab_size), "last": 1,
                         "head": design.hw.halves, **({"position": range(design.hw.context)} if design.model.learned_positions else {})})


def gain_layout(design):
    """A granule of a norm's gains, as bf16."""
    hw = design.hw
    return StructLayout({"g": ArrayLayout(unsigned(16), hw.vector_lanes), "part": range(design.hidden // hw.vector_lanes)})


def vector_layout(design):
    """A granule of the vectors of a record. ``norm``: whose record, by its number in the block, which the final one's follows if it has
    vectors; ``half``: for which half-batch; ``part``: counts the granules of all vectors of the record."""
    counts = vector_counts(design)
    return StructLayout({"x": ArrayLayout(unsigned(16), design.hw.vector_lanes), "norm": range(len(counts)), "half": range(design.hw.halves),
                         "part": range(max(counts))})


def vector_counts(design):
    """Granules of the vectors of each record of a layer, and of the final norm's if it has any."""
    records = [design.stream[norm.name, 0] for norm in design.block.of(Norm)]
    if design.block.final_vectors:
        records.append(design.stream[FINAL_NORM])
    return [sum(count for _, count in record.vectors) for record in records]


_QUEUE = 8       # beats: more than are on their way, from the address to whoever takes them


class RomSource(wiring.Component):
    """The weight stream in a block memory on the chip.

    A request taken in cycle s has its first beat valid in cycle s + 5 and then one a cycle; the next request is taken in
    the cycle that reads the last beat, so that its beats follow without a bubble. Block memories are all over a chip, and slow (5.6 ns on an
    ECP5): their addresses come from registers that nothing else hangs on, they have no enables, and registers and a queue behind them take what they give.
    So many beats are asked for as it has places.

    Parameters
    ----------
    file : str                  memory image, one beat a line: see `hwgen.lib.rom.FileRom`

    Members
    -------
    req : In(stream)            `request_layout`
    beats : Out(stream)         `beat_layout`
    """

    def __init__(self, design, *, file=None):
        self._design, self._file = design, file
        super().__init__({"req": In(stream.Signature(request_layout(design))), "beats": Out(stream.Signature(unsigned(beat_layout(design).size)))})

    def elaborate(self, platform):
        m = Module()
        hw = self._design.hw
        m.submodules.rom = rom = FileRom(8 * hw.beat_bytes, self._design.stream_beats, file=self._file)
        active, read = Signal(), Signal(name="read")
        request = Signal(self.req.payload.shape(), reset_less=True)     # what is left of it
        address = Signal.like(rom.address, reset_less=True)
        asked, given, found = Signal(name="asked"), Signal(name="given"), Signal()      # the memory has an address; its output a beat; the register behind it
        beat = Signal.like(rom.data, reset_less=True, name="beat")
        m.submodules.queue = queue = memory.Memory(shape=unsigned(8 * hw.beat_bytes), depth=_QUEUE, init=[])
        write, first = queue.write_port(), queue.read_port(domain="comb")
        out, room = Signal(range(_QUEUE + 1), name="out"), Signal(init=1)       # beats asked for and not taken; there may be one more
        held, taken, more = Signal(range(_QUEUE + 1), name="held"), Signal(name="taken"), Signal(name="more")     # beats in the queue
        m.d.comb += [read.eq(active & room), taken.eq(self.beats.valid & self.beats.ready), more.eq(read & ~taken),
                     self.req.ready.eq(~active | (read & (request.count == 1))),
                     rom.en.eq(1), rom.address.eq(address), write.data.eq(beat), write.en.eq(found), self.beats.payload.eq(first.data)]
        m.d.sync += [asked.eq(read), given.eq(asked), found.eq(given), beat.eq(rom.data), address.eq(request.address), out.eq(out + read - taken), held.eq(held + found - taken),
                     room.eq(Mux(more, out < _QUEUE - 1, (out != _QUEUE) | taken)), write.addr.eq(write.addr + found), first.addr.eq(first.addr + taken),
                     self.beats.valid.eq(found | (held > 1) | (held == 1) & ~taken)]
        with m.If(read):
            m.d.sync += [request.address.eq(request.address + Mux(request.stride, hw.tile_beats, 1)),
                         request.count.eq(request.count - 1)]
        with m.If(self.req.ready):
            m.d.sync += active.eq(self.req.valid)
        with m.If(self.req.ready & self.req.valid):
            m.d.sync += request.eq(self.req.payload)
        return m


class StreamPort(wiring.Component):
    """The weight stream outside of the machine: the members of `RomSource`, passed on.

    Members
    -------
    req : In(stream)            from the dispatcher
    beats : Out(stream)         to the dispatcher
    requests : Out(stream)      to the memory
    data : In(stream)           from the memory: the beats of all requests in the order asked for, at any time
    """

    def __init__(self, design):
        request, beat = stream.Signature(request_layout(design)), stream.Signature(unsigned(beat_layout(design).size))
        super().__init__({"req": In(request), "beats": Out(beat), "requests": Out(request), "data": In(beat)})

    def elaborate(self, platform):
        m = Module()
        connect(m, flipped(self.req), flipped(self.requests))
        connect(m, flipped(self.data), flipped(self.beats))
        return m


def _one_of(value, numbers):
    """Whether a value is one of some numbers."""
    return reduce(or_, (value == number for number in numbers), Const(0))


def _pick(m, values, index):
    """``values[index]``: by AND and OR, which is two values to a 4-input LUT; trees of multiplexers take up to twice that."""
    hot = Signal(len(values), name="hot")
    m.d.comb += hot.eq(1 << index[:(len(values) - 1).bit_length()])
    return reduce(or_, (Mux(hot[i], value, 0) for i, value in enumerate(values)))


@cache
def _sections(vectors, offsets):
    """What a beat of the stream may be: RECORD is the exponents of a record, GAINS and VECTORS the rest of it, OFFSETS those of a table's rows."""
    return numbered("Section", ["header", "embed", "record", "gains", "tiles", *["vectors"] * vectors, *["offsets"] * offsets])


class Dispatcher(wiring.Component):
    """Asks for what a pass needs of the weight stream, and hands out what comes.

    A pass is one command per entry, in order, at most T. It reads the header, the embedding row of each entry (and behind it that of
    its position, where they are learned), and the body of the stream from layer 0 on: to the end of the layers, or of the LM head if the
    last command has ``head``. Where two half-batches alternate, each reads the body, a record or matrix at a time, in the order of
    `hwgen.lib.pieces`. The next pass's commands are taken after its last tile was.

    Everything but tiles goes through one register, a granule a cycle. Tiles have none: a tile's last beat is passed
    through beside the B - 1 that were kept, so ``tile`` is as fast as the source, one in B cycles. Where rows have offsets, or matrices are in
    E2M1, tiles are made by a `hwgen.lib.tiles.TileReader`, in the cycles that `params.stream.Tiling` says. ``exps`` change
    in a cycle in which ``gain.ready``: a consumer that is not ready for gains keeps the exponents too. `golden.weights` has
    the cycles.

    Members
    -------
    cmd : In(stream)            `row_layout`
    req : Out(stream)           `request_layout`
    beats : In(stream)          `beat_layout`, in the order asked for
    embed_exp : Out(signed)     exponent of the table, or of its row, that the granule of ``embed`` is of
    model_id : Out(32)          from the header, valid with the pass's first ``embed``; 0 before the first pass
    embed : Out(stream)         `hwgen.lib.layouts.embed_layout`, rows in order, a row's parts in order but hi and lo alternating per L elements
    exps : Out                  exponents of the latest record, valid with its first ``gain``
    gain : Out(stream)          `gain_layout`
    vector : Out(stream)        `vector_layout`, only where records have vectors; ``ready`` must be 1
    tile : Out(stream)          `hwgen.lib.layouts.tile_layout`
    """

    def __init__(self, design):
        self._design = design
        self._norms = [norm.name for norm in design.block.of(Norm)]
        self._vectors = vector_counts(design)
        super().__init__({
            "cmd": In(stream.Signature(row_layout(design))),
            "req": Out(stream.Signature(request_layout(design))),
            "beats": In(stream.Signature(unsigned(beat_layout(design).size))),
            "embed_exp": Out(signed(EXP_BITS)),
            "model_id": Out(32),
            "embed": Out(stream.Signature(embed_layout(design))),
            "exps": Out(ArrayLayout(signed(EXP_BITS), design.block.record_words)),
            "gain": Out(stream.Signature(gain_layout(design))),
            **({"vector": Out(stream.Signature(vector_layout(design)))} if any(self._vectors) else {}),
            "tile": Out(stream.Signature(unsigned(tile_layout(design).size))),
        })

    def elaborate(self, platform):
        m = Module()
        finish = Signal()                       # the pass's last tile is taken
        both = Signal(reset_less=True)          # of a pass of two half-batches: the second has entries
        row, next_row, head, begun = self._ask(m, finish, both)
        self._route(m, row, next_row, head, both, begun, finish)
        return m

    def _pieces(self, m, name, both, head, finish):
        """A walk through the pieces of a pass of two half-batches."""
        m.submodules[name] = pieces = Pieces(self._design)
        m.d.comb += [pieces.both.eq(both), pieces.head.eq(head), pieces.restart.eq(finish)]
        return pieces

    def _body(self, m, both, head, finish, asking):
        """The requests of the body, one after the other: (address, count, step, this is the last one, it is there). ``asking``: they are wanted from the next
        cycle on."""
        design, stream = self._design, self._design.stream
        address, count = Signal(range(design.stream_beats), name="body_address"), Signal(range(design.stream_beats + 1), name="body_count")
        step = Signal(name="body_step")
        if design.hw.halves == 1:
            m.d.comb += [address.eq(stream.body), count.eq(Mux(head, stream.all_end - stream.body, stream[FINAL_NORM].address - stream.body))]
            return address, count, step, 1, 1
        pieces = self._pieces(m, "asked", both, head, finish)
        if design.mixed_layers:
            return *self._body_of_layers(m, pieces, address, count, step), 1
        base = Signal(range(design.stream_beats), init=stream.body)     # of the layer whose number is the round's
        # The piece's place in its layer stands in registers before it is added to that layer's: the next one is found while one is asked for.
        place, of, last = (Signal.like(address, name="body_place", reset_less=True), Signal.like(address, name="body_of", reset_less=True),
                           Signal(name="body_last", reset_less=True))
        there, find = Signal(name="body_there"), Signal(name="body_find")
        offset_of, count_of = Signal(signed(len(address) + 1), name="offset_of_piece"), Signal.like(count, name="count_of_piece")
        order = turn(design.block)
        opening, of_mlp = pieces.kinds[order.opening], [pieces.kinds[step] for step in order.mlp]
        with m.Switch(pieces.kind):
            for kind, name in pieces.sections():
                with m.Case(kind):
                    section = stream[name, 0]
                    offset = section.address - stream.body
                    before = offset - stream.layer_beats        # in the layer before it
                    beats = section.beats
                    if kind == opening and beats != stream[FINAL_NORM].beats:      # the final norm's has other vectors
                        beats = Mux(pieces.final, stream[FINAL_NORM].beats, beats)
                    m.d.comb += [count_of.eq(beats), offset_of.eq(
                        offset if kind == opening else before if kind in of_mlp else
                        Mux(pieces.odd, before, offset))]
            with m.Default():
                m.d.comb += count_of.eq(stream[HEAD].beats)
        of_head = pieces.kind == pieces.kinds[HEAD]
        m.d.comb += [find.eq((asking | there) & (~there | step) & ~(there & step & last)), pieces.step.eq(find), address.eq(of + place)]
        with m.If(find):
            m.d.sync += [there.eq(1), place.eq(offset_of), count.eq(count_of), last.eq(pieces.last), of.eq(Mux(of_head, stream[HEAD].address, base))]
        with m.Elif(step):
            m.d.sync += there.eq(0)
        with m.If(finish):
            m.d.sync += base.eq(stream.body)
        with m.Elif(find & pieces.climb):
            m.d.sync += base.eq(base + stream.layer_beats)
        return address, count, step, last, there

    def _body_of_layers(self, m, pieces, address, count, step):
        """The same where each layer has a length of its own."""
        design, stream = self._design, self._design.stream
        opening = pieces.kinds[turn(design.block).opening]
        with m.Switch(pieces.kind):
            for kind, name in pieces.sections():
                with m.Case(kind):
                    sections = [stream[name, layer] for layer in range(design.layers)]
                    for signal, numbers in ((address, [section.address for section in sections]), (count, [section.beats for section in sections])):
                        found = Array(numbers)[pieces.layer]
                        if kind == opening:
                            found = Mux(pieces.final, getattr(stream[FINAL_NORM], "address" if signal is address else "beats"), found)
                        m.d.comb += signal.eq(found)
            with m.Default():
                m.d.comb += [address.eq(stream[HEAD].address), count.eq(stream[HEAD].beats)]
        m.d.comb += pieces.step.eq(step)
        return address, count, step, pieces.last

    def _ask(self, m, finish, both):
        """Requests, in the order of the stream. Returns the row that is being received, and what concerns the pass."""
        design, hw, table = self._design, self._design.hw, self._design.head_matmul
        columns = hw.columns // hw.tile_beats           # of a beat
        low, high = (columns - 1).bit_length(), (hw.columns - 1).bit_length()
        token, position = self.cmd.p.token, self.cmd.p.position if design.model.learned_positions else None
        take = self.cmd.valid & self.cmd.ready

        # The rows asked for: what the router needs of them until they come.
        learned = design.model.learned_positions
        shape = StructLayout({"entry": range(hw.entries), "column": range(columns), "last": 1,
                              **({"position_column": range(columns)} if learned else {}), **self._offset_fields()})
        new = View(shape, Cat(self.cmd.p.entry, token[:low], Const(0, max(0, low - len(token))), self.cmd.p.last,
                              *((position[:low], Const(0, max(0, low - len(position)))) if learned else ()),
                              *(part for number in ((token, position)[:len(self._offset_fields())]) for part in (
                                  number[:self._offset_bits], Const(0, max(0, self._offset_bits - len(number)))))))
        next_row = Signal()
        if hw.entries == 1:
            row = Signal(shape, reset_less=True)
            with m.If(take):
                m.d.sync += row.eq(new)
        else:
            m.submodules.rows = rows = memory.Memory(shape=shape, depth=hw.entries, init=[])
            write, read = rows.write_port(), rows.read_port(domain="comb")
            m.d.comb += [write.en.eq(take), write.data.eq(new)]
            row = read.data
            for port, step in ((write, take), (read, next_row)):
                with m.If(finish):
                    m.d.sync += port.addr.eq(0)
                with m.Elif(step):
                    m.d.sync += port.addr.eq(port.addr + 1)

        waiting = Signal()                              # a row to ask for
        address = Signal(range(design.stream_beats), reset_less=True)
        last = Signal(reset_less=True)
        head = Signal(hw.halves, reset_less=True)
        with m.If(take):
            if hw.halves == 2:
                m.d.sync += both.eq(self.cmd.p.entry >= hw.entries // 2)
            per_tile = table.k_tiles * table.codes * hw.tile_beats
            m.d.sync += [waiting.eq(1), last.eq(self.cmd.p.last), head.eq(self.cmd.p.head),
                         address.eq(design.stream[EMBEDDING].address + (token >> high) * per_tile + token[low:high])]
        asked, single = self.req.ready, Const(0)        # for all rows of the entry; the request is for a beat of offsets
        if design.scaled:
            asked, single = self._ask_rows(m, take, waiting, address, token, position)
        elif learned:
            # the position's row: it is asked for; its address
            second, follows = Signal(name="second"), Signal(range(design.stream_beats), reset_less=True)
            asked = self.req.ready & second
            with m.If(take):
                m.d.sync += follows.eq(design.stream[POSITIONS].address + (position >> high) * per_tile + position[low:high])
            with m.If(waiting & self.req.ready):
                m.d.sync += second.eq(~second)
                with m.If(~second):
                    m.d.sync += address.eq(follows)
        request = self.req.payload
        body, beats, step, end, there = self._body(m, both, head, finish, waiting & last)
        with m.FSM(name="ask") as fsm:
            with m.State("IDLE"):
                m.d.comb += [self.req.valid.eq(self.cmd.valid), self.cmd.ready.eq(self.req.ready),
                             request.address.eq(0), request.count.eq(design.stream[HEADER].beats)]
                with m.If(take):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += [self.req.valid.eq(waiting), self.cmd.ready.eq(~waiting | (asked & ~last)),
                             request.address.eq(address), request.count.eq(Mux(single, 1, table.k_tiles * table.codes) if design.scaled else
                                                                           table.k_tiles * table.codes),
                             request.stride.eq(~single if design.scaled else 1)]
                with m.If(asked & waiting):
                    with m.If(~take):
                        m.d.sync += waiting.eq(0)
                    with m.If(last):
                        m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += [self.req.valid.eq(there), request.address.eq(body), request.count.eq(beats), step.eq(self.req.ready & there)]
                with m.If(step & end):
                    m.next = "ASKED"
            with m.State("ASKED"):
                with m.If(finish):
                    m.next = "IDLE"
        return row, next_row, head, ~fsm.ongoing("IDLE")

    @property
    def _offset_bits(self):
        """Of a row's number: those that tell it from the others whose offsets are in the same beat."""
        design = self._design
        return (design.hw.columns * design.tiling(design.head_matmul).row_tiles - 1).bit_length()

    def _offset_fields(self):
        """What is kept of an entry until its rows' offsets come."""
        if not self._design.scaled:
            return {}
        return dict.fromkeys(("offset", "position_offset")[:self._design.embedding_rows()], self._offset_bits)

    def _ask_rows(self, m, take, waiting, address, token, position):
        """Two requests for each row of an entry, its offset's beat and its codes': (the last one is taken, the current one is for an offset)."""
        design, table = self._design, self._design.stream[EMBEDDING].tiling
        columns = design.hw.columns // design.hw.tile_beats
        low, high, groups = (columns - 1).bit_length(), (design.hw.columns - 1).bit_length(), self._offset_bits
        addresses = []
        for name, number in zip((EMBEDDING, POSITIONS), (token, position)):
            if number is not None:
                first, group = design.stream[name].address, number >> groups
                addresses += [first + group * (1 + table.row_tiles * table.n_tile_beats),
                              (first + 1) + (number >> high) * table.n_tile_beats + group + number[low:high]]
        number = Signal(range(len(addresses)), name="row_request")
        follow = [Signal.like(address, name=f"follows{i}", reset_less=True) for i in range(1, len(addresses))]
        last = number == len(addresses) - 1
        with m.If(take):
            m.d.sync += [register.eq(value) for register, value in zip((address, *follow), addresses)]
        with m.If(waiting & self.req.ready):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
            with m.If(~last):
                m.d.sync += [register.eq(value) for register, value in zip((address, *follow), follow)]
        return self.req.ready & last, ~number[0]

    def _route(self, m, row, next_row, head, both, begun, finish):
        """What comes, in the order of the stream."""
        design, hw = self._design, self._design.hw
        lanes, beats, headers = hw.vector_lanes, self.beats, self._design.record_header_granules
        Here = _sections(any(self._vectors), design.scaled)
        section, after = Signal(Here, name="section"), Signal(Here, name="after")
        in_tiles = Signal()         # section == TILES. It and `beat_full` are registers: the whole source waits for `beats.ready`
        m.d.comb += after.eq(section)
        m.d.sync += [section.eq(after), in_tiles.eq(after == Here.TILES)]
        pair, learned = design.recipe.head == "pair", design.model.learned_positions

        # The register behind the beats: a granule of V 16-bit words, or 2 V codes of which half count.
        granule = Signal(StructLayout({
            "kind": Here, "words": ArrayLayout(unsigned(16), lanes), "upper": range(max(2, headers)), "entry": range(hw.entries),
            "part": range(max(design.hidden // lanes, *self._vectors)), "lo": 1, "last": 1, **({"position": 1} if learned else {})}),
            reset_less=True)
        full, for_embed, for_norm = (Signal(name=name) for name in ("full", "for_embed", "for_norm"))     # whom it waits for
        leave, move = Signal(name="leave"), Signal()
        m.d.comb += [leave.eq(~(for_embed & ~self.embed.ready | for_norm & ~self.gain.ready)), self.embed.valid.eq(full & for_embed),
                     self.gain.valid.eq(full & (granule.kind == Here.GAINS))]
        with m.If(move):
            m.d.sync += full.eq(1)
        with m.Elif(leave):
            m.d.sync += full.eq(0)
        bits = granule.words.as_value()
        m.d.comb += [self.embed.p.codes.eq(Mux(granule.upper, bits[8 * lanes:], bits[:8 * lanes])), self.gain.p.g.eq(granule.words)]
        m.d.comb += [self.embed.p[name].eq(granule[name]) for name in ("entry", "part", "lo", "last", *(["position"] if learned else []))]
        m.d.comb += self.gain.p.part.eq(granule.part)
        if any(self._vectors):
            of_norm, of_half = Signal(range(len(self._vectors)), name="of_norm"), Signal(range(hw.halves))     # of the granule
            m.d.comb += [self.vector.valid.eq(full & (granule.kind == Here.VECTORS)), self.vector.p.x.eq(granule.words),
                         self.vector.p.part.eq(granule.part), self.vector.p.norm.eq(of_norm), self.vector.p.half.eq(of_half)]
        words = [w[:EXP_BITS].as_signed() for w in granule.words]
        table_exp, position_exp, row_offset = self.embed_exp, [], None
        if design.scaled:
            table_exp, row_offset = Signal(signed(EXP_BITS), name="table_exp"), Signal(OFFSET_BITS, reset_less=True)
            m.d.comb += self.embed_exp.eq(table_exp + row_offset)
        if learned:
            table_exp, position_exp = (Signal(signed(EXP_BITS), name=name) for name in ("table_exp", "position_exp"))
            of_table = Mux(granule.position, position_exp, table_exp)
            m.d.comb += self.embed_exp.eq(of_table if row_offset is None else of_table + row_offset)
            position_exp = [position_exp.eq(words[1])]
        identity = [self.model_id[:16], self.model_id[16:]]
        with m.If(full & (granule.kind == Here.RECORD) & self.gain.ready):
            m.d.sync += [self.exps[i].eq(words[i % lanes]) for i in range(design.block.record_words) if headers == 1]
            for k in range(headers if headers > 1 else 0):
                with m.If(granule.upper == k):
                    m.d.sync += [self.exps[lanes * k + i].eq(words[i]) for i in range(lanes)]
        with m.If(full & (granule.kind == Here.HEADER)):
            if lanes > 2:
                with m.If(granule.upper == 0) if headers > 1 else contextlib.nullcontext():
                    m.d.sync += [table_exp.eq(words[0]), *position_exp, *(identity[i].eq(granule.words[2 + i]) for i in range(2))]
            else:
                with m.If(~granule.upper if headers == 2 else granule.upper == 0):
                    m.d.sync += [table_exp.eq(words[0]), *position_exp]
                with m.Else() if headers == 2 else m.If(granule.upper == 1):
                    m.d.sync += [identity[i].eq(granule.words[i]) for i in range(2)]

        # Which granule of the beat is next. ``part`` counts those of a row, or of the gains; ``upper`` tells header granules apart.
        slices = (hw.lanes // lanes).bit_length() - 1           # bits of a part that count within a beat
        part = Signal(range(max(design.hidden // lanes, *self._vectors)))
        in_beat = Signal(range(design.granules_per_beat))
        beat_full = Signal(init=design.granules_per_beat == 1)      # in_beat is the last
        upper = Signal(range(max(2, headers)))
        lo = Signal()
        column, of_position = row.column, Const(1)
        if learned:
            of_position = Signal()      # of the entry's two rows the second one is being received
            column = Mux(of_position, row.position_column, row.column)
        unit = Cat(part[:slices], column)                       # of V codes, in an embedding beat
        slice_end = part[:slices].all() if slices else Const(1)
        words_end = Const(1) if headers == 1 else upper if headers == 2 else upper == headers - 1
        next_upper = ~words_end if headers <= 2 else Mux(words_end, 0, upper + 1)
        part_end = part == design.hidden // lanes - 1
        row_end = part_end & lo if pair else part_end
        entry_end = row_end & of_position if learned else row_end
        beat_end = Signal()
        # A beat that is wanted but not there counts as waited for, whatever its end will be.
        serial_ready = (~full | leave) & (beat_end | ~beats.valid) & begun
        m.d.comb += move.eq(beats.valid & (~full | leave) & ~in_tiles)
        index = Mux(section == Here.EMBED, unit[1:], in_beat)
        if design.scaled:       # a granule of a beat of offsets, of which one counts
            at, in_granule = Mux(of_position, row.position_offset, row.offset) if learned else row.offset, (4 * lanes - 1).bit_length()
            index = Mux(section == Here.OFFSETS, at[in_granule:], index)
            with m.If(full & (granule.kind == Here.OFFSETS)):
                m.d.sync += row_offset.eq(bits.word_select(at[:in_granule], OFFSET_BITS))
        chosen = _pick(m, [beats.payload[start:start + 16 * lanes] for start in range(0, 8 * hw.beat_bytes, 16 * lanes)],
                       index)
        with m.If(move):
            m.d.sync += [for_embed.eq(section == Here.EMBED), for_norm.eq((section == Here.RECORD) | (section == Here.GAINS)),
                         granule.kind.eq(section), granule.words.eq(chosen), granule.entry.eq(row.entry), granule.part.eq(part),
                         granule.lo.eq(lo), granule.last.eq(row.last & entry_end),
                         *([granule.position.eq(of_position)] if learned else [])]
            restart = beat_end | (section == Here.EMBED)
            m.d.sync += [in_beat.eq(Mux(restart, 0, in_beat + 1)),
                         beat_full.eq(Mux(restart, design.granules_per_beat == 1, in_beat == design.granules_per_beat - 2))]

        # Tiles: those left of the run, and of the current one the beats before the last.
        alternating, step = hw.halves == 2, Signal(name="run_step")
        tiles, empty, record, over, norm, of_final, norm_half = (self._piece_runs if alternating else self._runs)(m, step, both, head, finish)
        if any(self._vectors):
            vectored = Signal()     # the record that is being received has vectors
            of_layer = Const(1) if design.block.final_vectors else ~of_final
            m.d.comb += vectored.eq(of_layer & _one_of(norm, [i for i, count in enumerate(self._vectors) if count]))
            with m.If(move):
                m.d.sync += [of_norm.eq(norm), of_half.eq(norm_half)]
        left = Signal.like(tiles)
        if hw.wired:
            last_beat, kept, beat = Const(1), [], Const(0, 0)       # no tile ever comes
            m.d.comb += beats.ready.eq(serial_ready)
        elif design.scaled or design.narrow:
            m.submodules.reader = reader = TileReader(design)
            m.d.comb += [reader.beats.valid.eq(beats.valid & in_tiles), reader.beats.payload.eq(beats.payload),
                         beats.ready.eq(Mux(in_tiles, reader.beats.ready, serial_ready))]
            connect(m, reader.tile, flipped(self.tile))
            self._matrix(m, reader, of_final)
        else:
            beat = Signal(range(hw.tile_beats))
            last_beat = beat == hw.tile_beats - 1
            kept = [Signal(8 * hw.beat_bytes, name=f"kept{i}", reset_less=True) for i in range(hw.tile_beats - 1)]
            tile_ready = self.tile.ready | ~last_beat      # for itself: what follows from it does not wait for the other sections' ready
            m.d.comb += [self.tile.payload.eq(Cat(*kept, beats.payload)), beats.ready.eq(Mux(in_tiles, tile_ready, serial_ready))]

        def count_tile():
            """A tile leaves."""
            m.d.sync += left.eq(left - 1)
            with m.If(left == 0):
                m.d.comb += step.eq(1)
                if alternating:
                    m.d.sync += left.eq(tiles)
                with m.If(record):
                    m.d.comb += after.eq(Here.RECORD)
                with m.If(over):
                    m.d.comb += after.eq(Here.HEADER)
                    m.d.comb += finish.eq(1)

        def close_record():
            """Behind a record come tiles, or, where its norm is followed by another one, a record; or nothing."""
            if empty is None:
                m.d.comb += after.eq(Here.TILES)
                if alternating:
                    m.d.comb += step.eq(1)
                return
            with m.If(empty):
                m.d.comb += [step.eq(1), after.eq(Here.RECORD)]
                with m.If(over):
                    m.d.comb += [after.eq(Here.HEADER), finish.eq(1)]
            with m.Else():
                m.d.comb += [after.eq(Here.TILES), step.eq(alternating)]

        with m.Switch(section):
            with m.Case(Here.HEADER):
                m.d.comb += beat_end.eq(words_end | beat_full)
                with m.If(move):
                    m.d.sync += [granule.upper.eq(upper), upper.eq(next_upper)]
                    with m.If(words_end):
                        m.d.comb += after.eq(Here.OFFSETS if design.scaled else Here.EMBED)
            with m.Case(Here.EMBED):
                m.d.comb += [beat_end.eq(slice_end), next_row.eq(move & entry_end)]
                with m.If(move):
                    m.d.sync += [granule.upper.eq(unit[0]), part.eq(part + 1)]
                    if pair:
                        with m.If(slice_end):
                            m.d.sync += lo.eq(~lo)
                            with m.If(~lo):
                                m.d.sync += part.eq(Cat(Const(0, slices), part[slices:]))
                    with m.If(row_end):
                        m.d.sync += part.eq(0)
                        if design.scaled:
                            m.d.comb += after.eq(Here.OFFSETS)
                        if learned:
                            m.d.sync += of_position.eq(~of_position)
                        with m.If(row.last & of_position if learned else row.last):
                            m.d.comb += after.eq(Here.RECORD)
            if design.scaled:
                with m.Case(Here.OFFSETS):
                    m.d.comb += beat_end.eq(1)
                    with m.If(move):
                        m.d.comb += after.eq(Here.EMBED)
            with m.Case(Here.RECORD):
                m.d.comb += beat_end.eq(beat_full)
                m.d.sync += left.eq(tiles)
                with m.If(move):
                    m.d.sync += [granule.upper.eq(upper), upper.eq(next_upper)]
                    with m.If(words_end):
                        m.d.comb += after.eq(Here.GAINS)
            with m.Case(Here.GAINS):
                gains_end = part_end
                if any(self._vectors):      # they go on in the same beat
                    gains_end = part_end & ~vectored
                m.d.comb += beat_end.eq(gains_end | beat_full)
                with m.If(move):
                    m.d.sync += part.eq(part + 1)
                    with m.If(part_end):
                        m.d.sync += part.eq(0)
                        if not any(self._vectors):
                            close_record()
                        else:
                            with m.If(vectored):
                                m.d.comb += after.eq(Here.VECTORS)
                            with m.Else():
                                close_record()
            if any(self._vectors):
                with m.Case(Here.VECTORS):
                    vectors_end = Signal()
                    m.d.comb += [vectors_end.eq(part == Array(max(1, count) - 1 for count in self._vectors)[norm]), beat_end.eq(vectors_end | beat_full)]
                    with m.If(move):
                        m.d.sync += part.eq(part + 1)
                        with m.If(vectors_end):
                            m.d.sync += part.eq(0)
                            close_record()
            with m.Case(Here.TILES) if not hw.wired else contextlib.nullcontext():
                if hw.wired:
                    pass
                elif design.scaled or design.narrow:
                    with m.If(self.tile.valid & self.tile.ready):
                        count_tile()
                else:
                    m.d.comb += self.tile.valid.eq(beats.valid & last_beat)
                    with m.If(beats.valid & tile_ready):
                        with m.Switch(beat):
                            for i, register in enumerate(kept):
                                with m.Case(i):
                                    m.d.sync += register.eq(beats.payload)
                        m.d.sync += beat.eq(beat + 1)
                        with m.If(last_beat):
                            count_tile()
        return m

    def _matrix(self, m, reader, of_final):
        """Tell the reader which matrix comes."""
        design, block = self._design, self._design.block
        projects = block.of(Project)
        if design.hw.halves == 2:
            pieces = m.submodules.received
            kinds, kind, layer = [pieces.kinds[project] for project in projects], pieces.kind, pieces.layer
            of_head = kind == pieces.kinds[HEAD]
        else:
            kinds, kind, layer = range(len(projects)), Signal(range(len(projects)), name="project"), Signal(range(design.layers), name="project_layer")
            of_head = of_final
            with m.If(reader.matrix_end & ~of_final):
                m.d.sync += kind.eq(kind + 1)
                with m.If(kind == len(projects) - 1):
                    m.d.sync += [kind.eq(0), layer.eq(Mux(layer == design.layers - 1, 0, layer + 1))]

        def is_(matmul, narrow):
            m.d.comb += [reader.matrix.steps.eq(matmul.k_tiles * matmul.codes - 1), reader.matrix.n_tiles.eq(matmul.n_tiles - 1), reader.matrix.narrow.eq(narrow)]

        with m.If(of_head):
            is_(design.head_matmul, design.stream[HEAD].tiling.narrow)
        with m.Else():
            with m.Switch(kind):
                for number, project in zip(kinds, projects):
                    with m.Case(number):
                        narrow = [design.stream[project.name, i].tiling.narrow for i in range(design.layers)]
                        is_(design.matmul(project.name), narrow[0] if len(set(narrow)) == 1 else Array(map(int, narrow))[layer])

    def _runs(self, m, step, both, head, finish):
        """The runs of tiles behind the records.

        Returns (tiles of the run behind this record, less 1; whether there is none, or None if there always is; a record follows this run;
        nothing does; number of the record's norm; or it is the final one's; of which half-batch it is).
        """
        design, block, norms = self._design, self._design.block, len(self._norms)
        counts = [sum(design.matmul(project.name).tiles for project in block.projects(name)) for name in self._norms]
        counts.append(design.head_matmul.tiles)
        second, final, layer = Signal(range(norms), name="second"), Signal(name="final"), Signal(range(design.layers))
        last = second if norms == 2 else (second == norms - 1) & ~final
        tiles, over, layers_end = Signal(range(max(counts)), name="tiles"), Signal(name="over"), last & (layer == design.layers - 1)
        if norms == 2:
            of_layer = Mux(second, counts[1] - 1, counts[0] - 1)
        else:
            of_layer = Array(max(1, count) - 1 for count in counts[:-1])[second]
        m.d.comb += [tiles.eq(Mux(final, counts[-1] - 1, of_layer)), over.eq(final | layers_end & ~head)]
        with m.If(step):
            with m.If(~final):
                m.d.sync += second.eq(~second if norms == 2 else Mux(last, 0, second + 1))
            with m.If(last):
                m.d.sync += layer.eq(layer + 1)
            with m.If(layers_end):
                m.d.sync += [layer.eq(0), final.eq(head)]
            with m.If(over):
                m.d.sync += final.eq(0)
        empty = None
        if design.hw.wired:
            empty = Const(1)
        elif not all(counts):
            empty = ~final & _one_of(second, [i for i, count in enumerate(counts[:-1]) if not count])
        return tiles, empty, Const(1), over, Mux(final, norms, second) if block.final_vectors else second, final, Const(0)

    def _piece_runs(self, m, step, both, head, finish):
        """The same where each piece is a run of its own: (tiles of the next piece, less 1; it is a record, twice; there is none; as above)."""
        design, block = self._design, self._design.block
        pieces = self._pieces(m, "received", both, head, finish)
        matmuls = {pieces.kinds[step]: design.matmul(step.name) for step in block.of(Project)} | {pieces.kinds[HEAD]: design.head_matmul}
        tiles, record = Signal(range(max(matmul.tiles for matmul in matmuls.values())), name="next_tiles"), Signal(name="next_record")
        with m.Switch(pieces.after):
            for kind, matmul in matmuls.items():
                with m.Case(kind):
                    m.d.comb += tiles.eq(matmul.tiles - 1)
            with m.Default():
                m.d.comb += record.eq(1)
        m.d.comb += pieces.step.eq(step)
        norm = Signal(range(len(self._vectors)), name="received_norm") if any(self._vectors) else Const(0)
        for kind, name in pieces.sections():
            if name in self._norms and any(self._vectors):
                with m.If(pieces.kind == kind):
                    m.d.comb += norm.eq(self._norms.index(name))
        if block.final_vectors:
            with m.If(pieces.final):
                m.d.comb += norm.eq(len(self._norms))
        return tiles, (record | pieces.last if block.post_norms else None), record, pieces.last, norm, pieces.final, pieces.half
