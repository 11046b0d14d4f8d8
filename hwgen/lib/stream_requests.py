"""What a pass asks of the weight stream: its header, a row of each entry, and the body, in this order. A part of the
dispatcher."""
from typing import NamedTuple

from amaranth.hdl import Array, Cat, Const, Mux, Signal, signed
from amaranth.lib import memory
from amaranth.lib.data import StructLayout, View

from ..params.phases import turn
from ..params.stream import EMBEDDING, FINAL_NORM, HEAD, HEADER, POSITIONS
from .pieces import Pieces

__all__ = ["Pass", "Requests"]


class Pass(NamedTuple):
    """What asking and receiving have in common of the pass under way.

    both        of two half-batches: the second has entries
    wants_head  of each half-batch: it wants the LM head
    finish      its last tile is taken, in this cycle
    """
    both: Signal
    wants_head: Signal
    finish: Signal

    def pieces(self, m, params, name):
        """A walk of its own, submodule ``name``, through the pieces of a pass of two half-batches. Its ``step`` is for
        the caller to drive."""
        m.submodules[name] = pieces = Pieces(block=params.block, layers=params.layers)
        m.d.comb += [pieces.both.eq(self.both), pieces.head.eq(self.wants_head), pieces.restart.eq(self.finish)]
        return pieces


class _Body(NamedTuple):
    """The requests of the body, one after the other.

    address, count  beats of the current one
    step            in: it is taken
    last            none follows it
    there           it may be asked for
    """
    address: Signal
    count: Signal
    step: Signal
    last: object
    there: object


class Requests:
    """Asks for what a pass needs, and keeps of its rows what their receiver needs of them.

    Everything is in the module ``m`` of the dispatcher. Commands are taken at ``cmd``, the header's request in the
    cycle of the first one; a row's requests begin in the cycle after its command, those of the body in the cycle after
    the last row's. Then nothing is taken until ``current.finish``.

    Parameters
    ----------
    m : Module
    params : StreamParams
    cmd, req : streams of `hwgen.units.dispatcher.Dispatcher`
    current : Pass          its ``both`` and ``wants_head`` are set here

    Attributes
    ----------
    row : View              of the row that is to be received: {entry, column, last}, with ``position_column`` where
                            positions are learned; columns count in a beat. With offsets of rows ``offset`` (and
                            ``position_offset``) too: its place in a beat of these
    next_row : Signal       in: it has been received
    begun : Value           a pass has begun, and is not over
    """

    def __init__(self, m, params, cmd, req, current):
        self._m, self._params, self._cmd, self._req, self._pass = m, params, cmd, req, current
        self._table, self._beats = params.head_matmul, params.stream.beats
        self._learned = params.positions > 0
        self._columns = params.columns // params.tile_beats             # of a beat
        self._take = cmd.valid & cmd.ready
        self.next_row = Signal()
        self._keep_rows()
        self._take_commands()
        self._ask()

    # -- rows

    @property
    def _numbers(self):
        """Of a command: the numbers of its rows, each in its table."""
        p = self._cmd.p
        return (p.token, p.position) if self._learned else (p.token,)

    @property
    def _column_bits(self):
        """Of a row's number: (bits of the column within a beat, bits of the column within an n-tile)."""
        return (self._columns - 1).bit_length(), (self._params.columns - 1).bit_length()

    @property
    def _offset_bits(self):
        """Of a row's number: those that tell it from the others whose offsets are in the same beat."""
        return (self._params.columns * self._params.stream[EMBEDDING].tiling.row_tiles - 1).bit_length()

    def _keep_rows(self):
        """The rows asked for wait, in the order of the commands, until they come: a register of one, or a memory."""
        m, entries, cmd, take, columns = self._m, self._params.entries, self._cmd, self._take, self._columns
        (low, _), token = self._column_bits, cmd.p.token
        offsets = ("offset", "position_offset")[:self._params.tables] if self._params.row_offsets else ()
        shape = StructLayout({"entry": range(entries), "column": range(columns), "last": 1,
                              **({"position_column": range(columns)} if self._learned else {}),
                              **dict.fromkeys(offsets, self._offset_bits)})

        def low_bits(number, bits):
            return number[:bits], Const(0, max(0, bits - len(number)))

        places = [bits for number in self._numbers[:len(offsets)] for bits in low_bits(number, self._offset_bits)]
        new = View(shape, Cat(cmd.p.entry, *low_bits(token, low), cmd.p.last,
                              *(low_bits(cmd.p.position, low) if self._learned else ()), *places))
        if entries == 1:
            self.row = Signal(shape, reset_less=True)
            with m.If(take):
                m.d.sync += self.row.eq(new)
            return
        m.submodules.rows = rows = memory.Memory(shape=shape, depth=entries, init=[])
        write, read = rows.write_port(), rows.read_port(domain="comb")
        m.d.comb += [write.en.eq(take), write.data.eq(new)]
        self.row = read.data
        for port, step in ((write, take), (read, self.next_row)):
            with m.If(self._pass.finish):
                m.d.sync += port.addr.eq(0)
            with m.Elif(step):
                m.d.sync += port.addr.eq(port.addr + 1)

    def _take_commands(self):
        """The command whose rows are asked for: ``_address`` of the next request, ``_waiting`` for it, ``_last`` of the
        pass."""
        m, params, cmd = self._m, self._params, self._cmd
        self._waiting = Signal(name="waiting")
        self._address = Signal(range(self._beats), name="address", reset_less=True)
        self._last = Signal(name="last", reset_less=True)
        with m.If(self._take):
            if params.halves == 2:
                m.d.sync += self._pass.both.eq(cmd.p.entry >= params.entries // 2)
            m.d.sync += [self._waiting.eq(1), self._last.eq(cmd.p.last), self._pass.wants_head.eq(cmd.p.head),
                         self._address.eq(self._row_address(EMBEDDING, cmd.p.token))]

    def _row_address(self, section, number):
        """A row's first beat, in a table without offsets: beats of an n-tile's columns are behind each other."""
        low, high = self._column_bits
        per_tile = self._table.k_tiles * self._table.codes * self._params.tile_beats
        return self._params.stream[section].address + (number >> high) * per_tile + number[low:high]

    def _row_requests(self):
        """(all rows of the entry have been asked for, in this cycle; the request is for a single beat, of offsets)."""
        if self._params.row_offsets:
            return self._offset_and_codes()
        if self._learned:
            return self._token_and_position(), Const(0)
        return self._req.ready, Const(0)

    def _token_and_position(self):
        """Two requests for each entry: the row of its token, and that of its position. Gives that the second one is
        taken."""
        m = self._m
        second = Signal()
        follows = Signal(range(self._beats), reset_less=True)
        asked = self._req.ready & second
        with m.If(self._take):
            m.d.sync += follows.eq(self._row_address(POSITIONS, self._cmd.p.position))
        with m.If(self._waiting & self._req.ready):
            m.d.sync += second.eq(~second)
            with m.If(~second):
                m.d.sync += self._address.eq(follows)
        return asked

    def _offset_and_codes(self):
        """Two requests for each row of an entry, its offset's beat and its codes': (the last one is taken, the current
        one is for an offset)."""
        m, stream, address = self._m, self._params.stream, self._address
        tiling = stream[EMBEDDING].tiling
        (low, high), addresses = self._column_bits, []
        for name, number in zip((EMBEDDING, POSITIONS), self._numbers):
            first, group = stream[name].address, number >> self._offset_bits
            addresses += [first + group * (1 + tiling.row_tiles * tiling.n_tile_beats),
                          (first + 1) + (number >> high) * tiling.n_tile_beats + group + number[low:high]]
        number = Signal(range(len(addresses)), name="row_request")
        follow = [Signal.like(address, name=f"follows{i}", reset_less=True) for i in range(1, len(addresses))]
        last = number == len(addresses) - 1
        with m.If(self._take):
            m.d.sync += [register.eq(value) for register, value in zip((address, *follow), addresses)]
        with m.If(self._waiting & self._req.ready):
            m.d.sync += number.eq(Mux(last, 0, number + 1))
            with m.If(~last):
                m.d.sync += [register.eq(value) for register, value in zip((address, *follow), follow)]
        return self._req.ready & last, ~number[0]

    # -- all of them in order

    def _ask(self):
        """Header, rows, body; then the pass's end is waited for."""
        m, params, cmd, req, request = self._m, self._params, self._cmd, self._req, self._req.payload
        asked, single = self._row_requests()
        body = self._body()
        row_beats = self._table.k_tiles * self._table.codes
        with m.FSM(name="ask") as fsm:
            with m.State("IDLE"):
                m.d.comb += [req.valid.eq(cmd.valid), cmd.ready.eq(req.ready),
                             request.address.eq(0), request.count.eq(params.stream[HEADER].beats)]
                with m.If(self._take):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += [req.valid.eq(self._waiting), cmd.ready.eq(~self._waiting | (asked & ~self._last)),
                             request.address.eq(self._address),
                             request.count.eq(Mux(single, 1, row_beats) if params.row_offsets else row_beats),
                             request.stride.eq(~single if params.row_offsets else 1)]
                with m.If(asked & self._waiting):
                    with m.If(~self._take):
                        m.d.sync += self._waiting.eq(0)
                    with m.If(self._last):
                        m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += [req.valid.eq(body.there), request.address.eq(body.address), request.count.eq(body.count),
                             body.step.eq(req.ready & body.there)]
                with m.If(body.step & body.last):
                    m.next = "ASKED"
            with m.State("ASKED"):
                with m.If(self._pass.finish):
                    m.next = "IDLE"
        self.begun = ~fsm.ongoing("IDLE")

    # -- body

    def _body(self):
        """Its requests (`_Body`): a single one, or one for each piece of a pass of two half-batches."""
        params, stream = self._params, self._params.stream
        address, count = (Signal(range(self._beats), name="body_address"),
                          Signal(range(self._beats + 1), name="body_count"))
        body = _Body(address, count, Signal(name="body_step"), 1, 1)
        if params.halves == 1:
            self._m.d.comb += [address.eq(stream.body), count.eq(
                Mux(self._pass.wants_head, stream.all_end - stream.body, stream[FINAL_NORM].address - stream.body))]
            return body
        pieces = self._pass.pieces(self._m, params, "asked")
        return self._mixed_layers(pieces, body) if params.mixed_layers else self._equal_layers(pieces, body)

    def _mixed_layers(self, pieces, body):
        """Pieces where each layer has a length of its own: their places are looked up."""
        m, params, stream = self._m, self._params, self._params.stream
        opening = pieces.kinds[turn(params.block).opening]
        with m.Switch(pieces.kind):
            for kind, name in pieces.sections():
                with m.Case(kind):
                    sections = [stream[name, layer] for layer in range(params.layers)]
                    for signal, field in ((body.address, "address"), (body.count, "beats")):
                        found = Array([getattr(section, field) for section in sections])[pieces.layer]
                        if kind == opening:
                            found = Mux(pieces.final, getattr(stream[FINAL_NORM], field), found)
                        m.d.comb += signal.eq(found)
            with m.Default():
                m.d.comb += [body.address.eq(stream[HEAD].address), body.count.eq(stream[HEAD].beats)]
        m.d.comb += pieces.step.eq(body.step)
        return body._replace(last=pieces.last)

    def _equal_layers(self, pieces, body):
        """Pieces where all layers are alike: a piece's place is the layer's and the one in the layer.

        These stand in registers before they are added: the next piece is found while one is asked for. The first one is
        found from the last row's request on.
        """
        m, stream, step = self._m, self._params.stream, body.step
        base = Signal(range(self._beats), init=stream.body)        # of the layer whose number is the round's
        place = Signal.like(body.address, name="body_place", reset_less=True)
        of = Signal.like(body.address, name="body_of", reset_less=True)
        last = Signal(name="body_last", reset_less=True)
        there, find = Signal(name="body_there"), Signal(name="body_find")
        offset_of, count_of = self._piece_in_layer(pieces, body)
        of_head = pieces.kind == pieces.kinds[HEAD]
        wanted = self._waiting & self._last         # from the next cycle on
        m.d.comb += [find.eq((wanted | there) & (~there | step) & ~(there & step & last)), pieces.step.eq(find),
                     body.address.eq(of + place)]
        with m.If(find):
            m.d.sync += [there.eq(1), place.eq(offset_of), body.count.eq(count_of), last.eq(pieces.last),
                         of.eq(Mux(of_head, stream[HEAD].address, base))]
        with m.Elif(step):
            m.d.sync += there.eq(0)
        with m.If(self._pass.finish):
            m.d.sync += base.eq(stream.body)
        with m.Elif(find & pieces.climb):
            m.d.sync += base.eq(base + stream.layer_beats)
        return body._replace(last=last, there=there)

    def _piece_in_layer(self, pieces, body):
        """(Where the piece of the walk begins, from the layer of its round on; its beats), combinational."""
        m, params, stream = self._m, self._params, self._params.stream
        offset_of = Signal(signed(len(body.address) + 1), name="offset_of_piece")
        count_of = Signal.like(body.count, name="count_of_piece")
        order = turn(params.block)
        opening, of_mlp = pieces.kinds[order.opening], [pieces.kinds[step] for step in order.mlp]
        with m.Switch(pieces.kind):
            for kind, name in pieces.sections():
                with m.Case(kind):
                    section = stream[name, 0]
                    offset = section.address - stream.body
                    before = offset - stream.layer_beats        # in the layer before it
                    beats = section.beats
                    if kind == opening:
                        found = offset
                        if beats != stream[FINAL_NORM].beats:   # the final norm's has other vectors
                            beats = Mux(pieces.final, stream[FINAL_NORM].beats, beats)
                    else:
                        found = before if kind in of_mlp else Mux(pieces.odd, before, offset)
                    m.d.comb += [count_of.eq(beats), offset_of.eq(found)]
            with m.Default():
                m.d.comb += count_of.eq(stream[HEAD].beats)
        return offset_of, count_of
