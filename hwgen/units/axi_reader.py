"""The weight stream out of a memory on an AXI4 bus."""
from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import enum, fifo, stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..lib.axi import read_master
from ..lib.ram import BlockRam
from ..params.axi import AXI_EVENTS, PAGE
from .weights import beat_layout, request_layout

__all__ = ["AxiReader", "ReadError", "DESCRIPTORS"]

DESCRIPTORS = 4     # requests whose beats have not all been handed out, where a word holds several beats


class ReadError(enum.Enum, shape=3):
    """What went wrong on the bus."""
    NONE = 0
    SLAVE = 1       # the memory answered SLVERR
    DECODE = 2      # nothing answers at that address: DECERR
    PROTOCOL = 3    # a burst's last word came early, late or unasked
    TIMEOUT = 4     # no word for too long


class AxiReader(wiring.Component):
    """A source of the weight stream (as `RomSource` is one) that reads it from an AXI4 memory.

    Requests become INCR bursts, the words come through a FIFO and leave as beats. A burst is asked for when the FIFO
    has room for the longest: ``rready`` is always high. All of a request is asked for at once, as far as there is room,
    so the reader runs ahead of the machine by up to `AxiShape.fifo_words`. Words may be narrower or wider than beats.

    With a memory that keeps up, a beat leaves every cycle, or every ``beat_bytes / word_bytes`` cycles. A request taken
    in cycle s has its address out in s + 2; a word received in cycle r is a beat's (last) in r + 2 at the earliest.

    A word that comes with an error is delivered as zeros, so that a pass ends as every other: ``error`` says that it
    happened, ``beats_bad`` goes with the beat.

    Parameters
    ----------
    axi : AxiShape
    stream_beats : int          of the whole stream
    beat_bytes : int            of a beat, a power of two
    tile_beats : int            B: how far apart beats of a request with ``stride`` are

    Members
    -------
    req : In(stream)            `request_layout`
    beats : Out(stream)         `beat_layout`
    beats_bad : Out(1)          the beat has words that could not be read
    m_axi_*                     AXI4 read channels
    base : In(address_width)    address of the stream's first byte; bits 11..0 are taken as 0. To be changed between
                                passes only
    flush : In(1)               drop everything: hold it until ``flushed``. Bursts that the bus owes are waited for
    flushed : Out(1)            nothing is under way
    timeout : In(32)            cycles without a word, while some are owed, after which an error is reported; 0: never
    error : Out                 {valid, code, address}: for one cycle, of the word that failed (of the oldest one owed,
                                for a timeout)
    activity : Out              for counters, see `hwgen.params.axi.AXI_EVENTS`

    Raises
    ------
    ValueError                  if the address width does not reach all of the stream
    """

    def __init__(self, axi, *, stream_beats, beat_bytes, tile_beats):
        axi.check_reach(stream_beats * beat_bytes)
        self._axi, self._stream_beats, self._beat_bytes, self._tile_beats = axi, stream_beats, beat_bytes, tile_beats
        self._request = request_layout(stream_beats=stream_beats)
        super().__init__({
            "req": In(stream.Signature(self._request)),
            "beats": Out(stream.Signature(unsigned(beat_layout(beat_bytes=beat_bytes).size))), "beats_bad": Out(1),
            **read_master(axi),
            "base": In(axi.address_width), "flush": In(1), "flushed": Out(1), "timeout": In(32),
            "error": Out(StructLayout({"valid": 1, "code": ReadError, "address": axi.address_width})),
            "activity": Out(StructLayout(dict.fromkeys(AXI_EVENTS, 1))),
        })

    def elaborate(self, platform):
        m = Module()
        axi = self._axi
        self._clear = clear = Signal()      # nothing is owed any more: forget what has come
        m.submodules.owed = self._owed = owed = fifo.SyncFIFO(width=axi.address_width + 8, depth=axi.outstanding)
        m.d.comb += [self.flushed.eq(~owed.r_rdy & ~self.m_axi_arvalid), clear.eq(self.flush & self.flushed)]
        self._place = Signal()              # a request's descriptor has one

        free = Signal(range(axi.fifo_words + 1), init=axi.fifo_words)   # places of the FIFO that no burst was promised
        room = (free >> exact_log2(axi.burst_words)).any()              # for the longest burst
        taken, promised = self._ask(m, room)
        left = self._hand_out(m, self._receive(m), taken)
        m.d.sync += free.eq(free - promised + left)     # what is flushed leaves the FIFO as well
        with m.If(clear):
            m.d.sync += free.eq(axi.fifo_words)
        return m

    def _ask(self, m, room):
        """Requests become bursts. Returns (a request is taken, words that a burst is asked for)."""
        axi, stream_beats, beat_bytes = self._axi, self._stream_beats, self._beat_bytes
        per_beat = exact_log2(max(1, beat_bytes // axi.word_bytes))
        per_word = exact_log2(max(1, axi.word_bytes // beat_bytes))
        longest, page = axi.burst_words, exact_log2(PAGE // axi.word_bytes)
        words = -(-stream_beats * beat_bytes // axi.word_bytes)

        # A piece is what lies side by side: a whole request, or a beat of one with stride.
        active = Signal()
        word = Signal(range(words), reset_less=True)        # the next burst's first
        left = Signal(range(words + 1), reset_less=True)    # words of the piece
        pieces = Signal(range(stream_beats + 1), reset_less=True)    # behind this one
        beat = Signal(range(stream_beats), reset_less=True)          # the next one's
        request = self.req.payload

        def word_of(beat):
            return (beat << per_beat) >> per_word

        length = Signal(range(longest + 1))
        to_end = longest - word[:exact_log2(longest)]
        go, taken = Signal(name="go"), Signal()
        m.d.comb += [self.req.ready.eq(~active & ~self.flush & self._place), taken.eq(self.req.valid & self.req.ready),
                     length.eq(Mux(left < to_end, left, to_end)),
                     go.eq(active & ~self.flush & room & self._owed.w_rdy & (~self.m_axi_arvalid | self.m_axi_arready))]
        with m.If(go):
            m.d.sync += [word.eq(word + length), left.eq(left - length)]
            with m.If(left == length):
                m.d.sync += [active.eq(pieces != 0), pieces.eq(pieces - 1), beat.eq(beat + self._tile_beats),
                             word.eq(word_of(beat)), left.eq(1 << per_beat)]
        with m.If(taken):
            m.d.sync += [active.eq(1), word.eq(word_of(request.address)), beat.eq(request.address + self._tile_beats)]
            with m.If(request.stride):
                m.d.sync += [pieces.eq(request.count - 1), left.eq(1 << per_beat)]
            with m.Else():
                begun = request.address[:per_word]      # beats of the first word that are not wanted
                beats = begun + request.count + (1 << per_word) - 1
                m.d.sync += [pieces.eq(0), left.eq((beats << per_beat) >> per_word)]
        with m.If(self._clear):
            m.d.sync += active.eq(0)

        # No burst crosses 4 KiB, so that only pages are added.
        address = Signal(axi.address_width)
        in_page = Cat(Const(0, 12 - page), word[:page])
        m.d.comb += address.eq(Cat(in_page, Const(0, 12 - len(in_page)), self.base[12:] + word[page:]))
        m.d.comb += [self._owed.w_en.eq(go), self._owed.w_data.eq(Cat(address, (length - 1)[:8]))]
        with m.If(go):
            m.d.sync += [self.m_axi_arvalid.eq(1), self.m_axi_araddr.eq(address), self.m_axi_arlen.eq(length - 1)]
        with m.Elif(self.m_axi_arready):
            m.d.sync += self.m_axi_arvalid.eq(0)
        m.d.comb += [self.m_axi_arsize.eq(exact_log2(axi.word_bytes)), self.m_axi_arburst.eq(1),
                     self.m_axi_arcache.eq(0b0011),
                     self.activity.axi_bursts.eq(self.m_axi_arvalid & self.m_axi_arready),
                     self.activity.axi_full.eq(active & ~room)]
        return taken, Mux(go, length, 0)

    def _receive(self, m):
        """Words come, for which there is room. Returns that one is to be kept."""
        axi, owed = self._axi, self._owed
        index = Signal(8)           # of the word in its burst
        address, length = owed.r_data[:axi.address_width], owed.r_data[axi.address_width:]
        came, last = Signal(name="came"), Signal()
        m.d.comb += [self.m_axi_rready.eq(1), came.eq(self.m_axi_rvalid & owed.r_rdy), last.eq(index == length),
                     owed.r_en.eq(came & last)]
        with m.If(came):
            m.d.sync += index.eq(Mux(last, 0, index + 1))

        # A memory that is silent is reported once, until it speaks.
        silent = Signal(32)
        waits = owed.r_rdy & ~self.m_axi_rvalid
        with m.If(~waits):
            m.d.sync += silent.eq(0)
        with m.Elif(silent != self.timeout):
            m.d.sync += silent.eq(silent + 1)
        m.d.comb += [self.activity.axi_words.eq(came), self.activity.axi_waits.eq(waits)]

        error = self.error
        low = address[:12] + (index << exact_log2(axi.word_bytes))
        m.d.sync += [error.valid.eq(0), error.address.eq(Cat(low[:12], address[12:]))]
        with m.If(came & self.m_axi_rresp[1]):
            m.d.sync += [error.valid.eq(1), error.code.eq(Mux(self.m_axi_rresp[0], ReadError.DECODE, ReadError.SLAVE))]
        with m.Elif(self.m_axi_rvalid & ((self.m_axi_rlast != last) | ~owed.r_rdy)):
            m.d.sync += [error.valid.eq(1), error.code.eq(ReadError.PROTOCOL)]
        with m.Elif(waits & (silent + 1 == self.timeout)):
            m.d.sync += [error.valid.eq(1), error.code.eq(ReadError.TIMEOUT)]
        return came

    def _hand_out(self, m, came, taken):
        """Words leave the FIFO as beats. Returns that one leaves."""
        bits, size = self._axi.data_width, 8 * self._beat_bytes
        words, shown, used, leave = self._keep(m, came)
        word, bad = words.read_data[:bits], words.read_data[bits]
        offered = shown & ~self.flush
        if size == bits:
            m.d.comb += [self._place.eq(1), self.beats.valid.eq(offered), self.beats.payload.eq(word),
                         self.beats_bad.eq(bad), used.eq(offered & self.beats.ready)]
        elif size > bits:
            self._gather(m, word, bad, offered, used)
        else:
            self._take_apart(m, word, bad, offered, used, taken)
        return leave

    def _keep(self, m, came):
        """The FIFO of words. Returns (its memory, whose word is ``shown``, is ``used``; one leaves the memory)."""
        axi = self._axi
        m.submodules.words = words = BlockRam(axi.data_width + 1, axi.fifo_words)
        there = Signal(range(axi.fifo_words + 1))       # words in the memory
        shown, step, leave, used = Signal(name="shown"), Signal(name="step"), Signal(name="leave"), Signal(name="used")
        bad = self.m_axi_rresp[1]
        m.d.comb += [words.write_en.eq(came), words.write_data.eq(Cat(Mux(bad, 0, self.m_axi_rdata), bad)),
                     step.eq(~shown | used), leave.eq(step & (there != 0)), words.read_en.eq(leave)]
        m.d.sync += there.eq(there + came - leave)
        with m.If(step):
            m.d.sync += shown.eq(leave)
        with m.If(came):
            m.d.sync += words.write_address.eq(words.write_address + 1)     # the depth is a power of two
        with m.If(leave):
            m.d.sync += words.read_address.eq(words.read_address + 1)
        with m.If(self._clear):
            m.d.sync += [there.eq(0), shown.eq(0), words.write_address.eq(0), words.read_address.eq(0)]
        return words, shown, used, leave

    def _gather(self, m, word, bad, offered, used):
        """A beat of several words: its last one is passed through, those before are kept."""
        bits, size = self._axi.data_width, 8 * self._beat_bytes
        n = size // bits
        kept = Signal(size - bits, reset_less=True)
        index, kept_bad = Signal(range(n), name="index"), Signal()
        last = index == n - 1
        m.d.comb += [self._place.eq(1), self.beats.valid.eq(offered & last), self.beats.payload.eq(Cat(kept, word)),
                     self.beats_bad.eq(bad | kept_bad), used.eq(offered & (self.beats.ready | ~last))]
        with m.If(used):
            m.d.sync += [kept.eq(Cat(kept, word)[bits:]), index.eq(index + 1), kept_bad.eq((bad | kept_bad) & ~last)]
        with m.If(self._clear):
            m.d.sync += [index.eq(0), kept_bad.eq(0)]

    def _take_apart(self, m, word, bad, offered, used, taken):
        """Several beats of a word: which of them are wanted, the requests remember."""
        size = 8 * self._beat_bytes
        n = self._axi.data_width // size
        shape = StructLayout({"first": range(n), "count": self._request["count"].shape, "stride": 1})
        m.submodules.wanted = wanted = ResetInserter(self._clear)(fifo.SyncFIFO(width=shape.size, depth=DESCRIPTORS))
        new, now = View(shape, wanted.w_data), View(shape, wanted.r_data)
        asked = self.req.payload
        m.d.comb += [self._place.eq(wanted.w_rdy), wanted.w_en.eq(taken),
                     new.first.eq(asked.address[:exact_log2(n)]), new.count.eq(asked.count),
                     new.stride.eq(asked.stride)]
        given = Signal(range(self._stream_beats + 1))    # beats of the request
        offset = Signal(range(n))
        place = Signal(range(n))
        transfer, last = Signal(name="transfer"), Signal()
        m.d.comb += [place.eq(now.first + offset), self.beats.valid.eq(offered),
                     transfer.eq(offered & self.beats.ready),
                     self.beats.payload.eq(word.word_select(place, size)), self.beats_bad.eq(bad),
                     last.eq(given + 1 == now.count), wanted.r_en.eq(transfer & last),
                     used.eq(transfer & (last | now.stride | (place == n - 1)))]
        with m.If(transfer):
            m.d.sync += [given.eq(given + 1), offset.eq(offset + Mux(now.stride, self._tile_beats, 1))]
            with m.If(last):
                m.d.sync += [given.eq(0), offset.eq(0)]
        with m.If(self._clear):
            m.d.sync += [given.eq(0), offset.eq(0)]
