"""Sources of the weight stream: a block memory on the chip, or ports. `hwgen.units.dispatcher` reads it."""
from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.rom import FileRom

__all__ = ["RomSource", "StreamPort", "beat_layout", "request_layout"]


def request_layout(*, stream_beats):
    """Beats of a stream of so many wanted: ``count`` of them (at least 1) from ``address``; the next is 1 further, or B
    with ``stride``."""
    return StructLayout({"address": range(stream_beats), "count": range(stream_beats + 1), "stride": 1})


def beat_layout(*, beat_bytes):
    """A beat of the stream, byte 0 in the least significant bits.

    Ports are plain vectors of its size: Verilog of named elements is long.
    """
    return ArrayLayout(unsigned(8), beat_bytes)


_QUEUE = 8       # beats: more than are on their way, from the address to whoever takes them


class RomSource(wiring.Component):
    """The weight stream in a block memory on the chip.

    A request taken in cycle s has its first beat valid in cycle s + 5 and then one a cycle; the next request is taken
    in the cycle that reads the last beat, so that its beats follow without a bubble. Block memories are all over a
    chip, and slow (5.6 ns on an ECP5): their addresses come from registers that nothing else hangs on, they have no
    enables, and registers and a queue behind them take what they give. So many beats are asked for as it has places.

    Parameters
    ----------
    stream_beats : int          of the whole stream, at least 1
    beat_bytes : int            of a beat
    tile_beats : int            B: how far apart beats of a request with ``stride`` are
    file : str                  memory image, one beat a line: see `hwgen.lib.rom.FileRom`

    Members
    -------
    req : In(stream)            `request_layout`
    beats : Out(stream)         `beat_layout`
    """

    def __init__(self, *, stream_beats, beat_bytes, tile_beats, file=None):
        self._stream_beats, self._tile_beats, self._file = stream_beats, tile_beats, file
        self._beat_bits = beat_layout(beat_bytes=beat_bytes).size
        super().__init__({"req": In(stream.Signature(request_layout(stream_beats=stream_beats))),
                          "beats": Out(stream.Signature(unsigned(self._beat_bits)))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = FileRom(self._beat_bits, self._stream_beats, file=self._file)
        active, read = Signal(), Signal(name="read")
        request = Signal(self.req.payload.shape(), reset_less=True)     # what is left of it
        address = Signal.like(rom.address, reset_less=True)
        # the memory has an address; its output a beat; the register behind it
        asked, given, found = Signal(name="asked"), Signal(name="given"), Signal()
        beat = Signal.like(rom.data, reset_less=True, name="beat")
        m.submodules.queue = queue = memory.Memory(shape=unsigned(self._beat_bits), depth=_QUEUE, init=[])
        write, first = queue.write_port(), queue.read_port(domain="comb")
        # beats asked for and not taken; there may be one more
        out, room = Signal(range(_QUEUE + 1), name="out"), Signal(init=1)
        # beats in the queue
        held, taken, more = Signal(range(_QUEUE + 1), name="held"), Signal(name="taken"), Signal(name="more")
        m.d.comb += [read.eq(active & room), taken.eq(self.beats.valid & self.beats.ready), more.eq(read & ~taken),
                     self.req.ready.eq(~active | (read & (request.count == 1))),
                     rom.en.eq(1), rom.address.eq(address), write.data.eq(beat), write.en.eq(found),
                     self.beats.payload.eq(first.data)]
        m.d.sync += [asked.eq(read), given.eq(asked), found.eq(given), beat.eq(rom.data), address.eq(request.address),
                     out.eq(out + read - taken), held.eq(held + found - taken),
                     room.eq(Mux(more, out < _QUEUE - 1, (out != _QUEUE) | taken)),
                     write.addr.eq(write.addr + found), first.addr.eq(first.addr + taken),
                     self.beats.valid.eq(found | (held > 1) | (held == 1) & ~taken)]
        with m.If(read):
            m.d.sync += [request.address.eq(request.address + Mux(request.stride, self._tile_beats, 1)),
                         request.count.eq(request.count - 1)]
        with m.If(self.req.ready):
            m.d.sync += active.eq(self.req.valid)
        with m.If(self.req.ready & self.req.valid):
            m.d.sync += request.eq(self.req.payload)
        return m


class StreamPort(wiring.Component):
    """The weight stream outside of the machine: the members of `RomSource`, passed on.

    Parameters
    ----------
    stream_beats, beat_bytes : int      as those of `RomSource`

    Members
    -------
    req : In(stream)            from the dispatcher
    beats : Out(stream)         to the dispatcher
    requests : Out(stream)      to the memory
    data : In(stream)           from the memory: the beats of all requests in the order asked for, at any time
    """

    def __init__(self, *, stream_beats, beat_bytes):
        request = stream.Signature(request_layout(stream_beats=stream_beats))
        beat = stream.Signature(unsigned(beat_layout(beat_bytes=beat_bytes).size))
        super().__init__({"req": In(request), "beats": Out(beat), "requests": Out(request), "data": In(beat)})

    def elaborate(self, platform):
        m = Module()
        connect(m, flipped(self.req), flipped(self.requests))
        connect(m, flipped(self.data), flipped(self.beats))
        return m
