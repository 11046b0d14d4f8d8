"""Bytes of a line into a memory on an AXI4 bus, and back as a checksum."""
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import fifo, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..lib.axi import read_master, write_master
from ..params.loader import BURST, LoadError

__all__ = ["MemoryLoader"]


class _Word(NamedTuple):
    """The word that bytes go through."""
    word: Signal
    place: Signal       # of the byte in it
    full: Signal        # while a block is checked: there is one
    push: Signal        # while it is loaded: all of its bytes have come
    step: Signal        # the next byte
    counts: Signal      # this one is the block's
    ends: Signal        # it is the last one of the word ...
    final: Signal       # ... of the block


class _Burst(NamedTuple):
    """The block's next burst on the bus, or the one whose words go."""
    at: Signal          # its first word
    left: Signal        # words of the block from there on
    length: Signal
    to_end: Signal      # words to where no burst may cross
    index: Signal       # of the word in it
    last: Value         # that is its last one
    owed: Signal        # words that the memory has not given yet


class MemoryLoader(wiring.Component):
    """Writes blocks of bytes that come one by one into a memory, and reads blocks back, of which it says the CRC-32
    (that of zlib).

    While a block is loaded all bytes are its own (``raw``), up to its length. Words gather in a FIFO; a burst is
    offered when all of its words are there, so the memory never waits for the line, and the line has the time of a
    burst's bytes for what the memory does. A block that falls silent is given up: then what comes is thrown away until
    there was something and another silence, for it may be the rest of the block.

    A check reads bursts for which there is room, one at a time, and takes a byte a cycle. Errors are kept, the first,
    and end nothing but a block of which words were lost: so the bus is owed nothing when ``busy`` ends. Cycles:
    `hwgen.golden.memory_loader`.

    Parameters
    ----------
    axi : AxiShape          of whose bursts the loader's have at most `hwgen.params.loader.BURST` words
    silence : int           cycles without a byte that end a block

    Members
    -------
    rx_valid, rx_data       a byte has come: `UartReceiver`
    raw : Out(1)            bytes are the loader's
    address : In            where the block is, in bytes; bits within a word are taken as 0
    length : In             its bytes, 1 at least
    load, check : In(1)     begin; to be given only while not ``busy``
    busy : Out(1)
    reads : Out(1)          a check is under way: what comes on the read channels is the loader's
    m_axi_*                 AXI4 write and read channels
    timeout : In(32)        cycles for which the memory may owe something and be silent; 0: any number
    count : Out             bytes of the block that came or were read
    crc : Out(32)           of these
    error : Out(3)          `LoadError` of the block
    """

    def __init__(self, axi, silence):
        if silence < 2:
            raise ValueError(f"Silence must be at least 2 cycles, not {silence}")
        self._axi, self._silence = axi, silence
        wide = axi.address_width
        super().__init__({
            "rx_valid": In(1), "rx_data": In(8), "raw": Out(1), "address": In(wide), "length": In(wide),
            "load": In(1), "check": In(1), "busy": Out(1), "reads": Out(1), **write_master(axi), **read_master(axi),
            "timeout": In(32), "count": Out(wide), "crc": Out(32), "error": Out(3)})

    def elaborate(self, platform):
        m = Module()
        axi = self._axi
        self._longest = longest = min(BURST, axi.burst_words)
        self._begin = begin = Signal()
        self._loads = Signal()                  # the block is loaded, not checked
        m.submodules.words = self._words = ResetInserter(begin)(
            fifo.SyncFIFO(width=axi.data_width, depth=2 * longest))
        self._found = Signal(3)                 # an error of this cycle
        self._stopped = stopped = Signal()      # words were lost: the rest of the block is not written
        at_rest = self._bus(m)
        limit = Signal(axi.address_width, reset_less=True)
        m.d.comb += begin.eq(self.load | self.check)
        with m.If(begin):
            m.d.sync += [self._loads.eq(self.load), limit.eq(self.length), self.count.eq(0), self.error.eq(0),
                         stopped.eq(0)]
        with m.Elif((self.error == LoadError.NONE) & (self._found != LoadError.NONE)):
            m.d.sync += self.error.eq(self._found)
        self._line(m, self._word(m, limit), at_rest)
        return m

    # -- the line

    def _word(self, m, limit):
        """Bytes go through a word: from above while they come, below while they are read. Returns `_Word`."""
        axi, words = self._axi, self._words
        word = Signal(axi.data_width, reset_less=True, name="word")
        place = Signal(exact_log2(axi.word_bytes))      # of the byte in it
        full, push, step = Signal(), Signal(), Signal()
        m.submodules.checksum = crc = CRC32_ISO_HDLC(data_width=8).create()
        counts = Signal()
        m.d.comb += [crc.start.eq(self._begin), crc.valid.eq(counts),
                     crc.data.eq(Mux(self._loads, self.rx_data, word[:8])), self.crc.eq(crc.crc),
                     words.w_data.eq(Mux(self._loads, word, self.m_axi_rdata))]
        ends, final = Signal(name="ends"), Signal()     # of the word, of the block
        m.d.comb += [ends.eq(place == axi.word_bytes - 1), final.eq(self.count + 1 == limit)]
        m.d.sync += push.eq(0)
        with m.If(step):
            m.d.sync += [place.eq(place + 1), word.eq(Cat(word, self.rx_data)[8:])]
        with m.If(counts):
            m.d.sync += self.count.eq(self.count + 1)
        with m.If(push):
            m.d.comb += words.w_en.eq(1)
            with m.If(~words.w_rdy):
                m.d.sync += self._stopped.eq(1)
                m.d.comb += self._found.eq(LoadError.OVERRUN)
        return _Word(word, place, full, push, step, counts, ends, final)

    def _line(self, m, at, at_rest):
        """A block from its command to its end: bytes of the line that is loaded, or of the memory that is checked."""
        silent = Signal(range(self._silence))
        heard, quiet = Signal(), Signal()
        m.d.sync += silent.eq(Mux(self.rx_valid | quiet, 0, silent + 1))
        m.d.comb += [quiet.eq(silent == self._silence - 1), self.busy.eq(1)]
        with m.FSM(name="bytes"):
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [silent.eq(0), at.place.eq(0), at.full.eq(0)]
                with m.If(self.load):
                    m.next = "LOAD"
                with m.Elif(self.check):
                    m.next = "CHECK"
            with m.State("LOAD"):
                m.d.comb += [self.raw.eq(1), at.counts.eq(self.rx_valid), at.step.eq(self.rx_valid)]
                with m.If(self.rx_valid):
                    m.d.sync += at.push.eq(at.ends)
                    with m.If(at.final):
                        m.next = "FILL"
                        with m.If(at.ends):
                            m.next = "DRAIN"
                with m.Elif(quiet):
                    m.d.comb += self._found.eq(LoadError.SILENCE)
                    m.d.sync += [self._stopped.eq(1), heard.eq(0)]
                    m.next = "DEAF"
            with m.State("FILL"):               # the last word to its end
                m.d.comb += at.step.eq(1)
                m.d.sync += at.push.eq(at.ends)
                with m.If(at.ends):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(at_rest):
                    m.next = "IDLE"
            with m.State("DEAF"):
                m.d.comb += self.raw.eq(1)
                with m.If(self.rx_valid):
                    m.d.sync += heard.eq(1)
                with m.Elif(quiet & heard):
                    m.next = "DRAIN"
            with m.State("CHECK"):
                self._read_bytes(m, at)
                with m.If(at.full & at.final):
                    m.next = "IDLE"

    def _read_bytes(self, m, at):
        """A byte a cycle of the words that come from the memory."""
        words = self._words
        m.d.comb += [self.reads.eq(1), at.counts.eq(at.full), at.step.eq(at.full),
                     words.r_en.eq((~at.full | at.ends) & ~(at.full & at.final))]
        with m.If(words.r_en):
            m.d.sync += at.full.eq(words.r_rdy)
        with m.If(words.r_en & words.r_rdy):
            m.d.sync += at.word.eq(words.r_data)

    # -- the bus

    def _bus(self, m):
        """Words of the FIFO go to the memory in bursts, or come from it. Returns that all is done."""
        at_rest, waits = Signal(), Signal(name="waits")
        burst = self._burst(m)
        self._offer(m, burst)
        self._transfer(m, burst, at_rest, waits)
        self._receive(m, burst.owed, waits)
        self._watch(m, waits)
        return at_rest

    def _burst(self, m):
        """Where the block's next burst is."""
        axi, longest, size = self._axi, self._longest, exact_log2(self._axi.word_bytes)
        wide = axi.address_width - size
        length, index = Signal(range(longest + 1), name="length"), Signal(8, name="index")
        burst = _Burst(at=Signal(wide, name="at"), left=Signal(wide + 1, name="left"), length=length,
                       to_end=Signal(range(longest + 1)), index=index, last=index == length - 1,
                       owed=Signal(range(longest + 1), name="owed"))
        m.d.comb += burst.to_end.eq(longest - burst.at[:exact_log2(longest)])
        with m.If(self._begin):
            words = (self.length + (axi.word_bytes - 1)) >> size
            m.d.sync += [burst.at.eq(self.address[size:]), burst.left.eq(words)]
        return burst

    def _offer(self, m, burst):
        """What the channels say of a burst and its words, whether they are valid or not."""
        size, words = exact_log2(self._axi.word_bytes), self._words
        for channel in "aw", "ar":
            out = {name: getattr(self, f"m_axi_{channel}{name}") for name in ("size", "burst", "cache", "addr", "len")}
            # a burst that is offered lies behind ``at``, which goes on when it is taken
            m.d.comb += [out["size"].eq(size), out["burst"].eq(1), out["cache"].eq(0b0011),
                         out["addr"].eq(Cat(Const(0, size), burst.at)), out["len"].eq(burst.length - 1)]
        odd = self._last_bytes(m)
        m.d.comb += [self.m_axi_wdata.eq(words.r_data), self.m_axi_wlast.eq(burst.last),
                     self.m_axi_wstrb.eq(Mux(burst.last & (burst.left == 0), odd, -1)),
                     self.m_axi_bready.eq(1), self.m_axi_rready.eq(1)]

    def _transfer(self, m, burst, at_rest, waits):
        """A burst after the other: planned, filled with words or given room for them, offered, and answered."""
        words, length, left = self._words, burst.length, burst.left
        move_on = [burst.at.eq(burst.at + length), left.eq(left - length), burst.index.eq(0)]
        with m.FSM(name="bus"):
            with m.State("IDLE"):
                m.d.comb += at_rest.eq(1)
                with m.If(self._begin):
                    m.next = "PLAN"
            with m.State("PLAN"):
                m.d.sync += length.eq(Mux(left < burst.to_end, left, burst.to_end))
                m.next = "GATHER"
                with m.If(left == 0):
                    m.next = "IDLE"
            with m.State("GATHER"):
                with m.If(self._stopped):
                    m.next = "IDLE"
                with m.Elif(self._loads):
                    with m.If(words.level >= length):
                        m.next = "WRITE"
                with m.Elif((burst.owed == 0) & (words.level <= self._longest)):
                    m.next = "READ"
            with m.State("WRITE"):
                m.d.comb += [self.m_axi_awvalid.eq(1), waits.eq(~self.m_axi_awready)]
                with m.If(self.m_axi_awready):
                    m.d.sync += move_on
                    m.next = "WORDS"
            with m.State("WORDS"):
                m.d.comb += [self.m_axi_wvalid.eq(1), words.r_en.eq(self.m_axi_wready), waits.eq(~self.m_axi_wready)]
                with m.If(self.m_axi_wready):
                    m.d.sync += burst.index.eq(burst.index + 1)
                    with m.If(burst.last):
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += waits.eq(~self.m_axi_bvalid)
                with m.If(self.m_axi_bvalid):
                    with m.If(self.m_axi_bresp[1]):
                        m.d.comb += self._found.eq(Mux(self.m_axi_bresp[0], LoadError.DECODE, LoadError.SLAVE))
                    m.next = "PLAN"
            with m.State("READ"):
                m.d.comb += [self.m_axi_arvalid.eq(1), waits.eq(~self.m_axi_arready)]
                with m.If(self.m_axi_arready):
                    m.d.sync += [*move_on, burst.owed.eq(length)]
                    m.next = "PLAN"

    def _receive(self, m, owed, waits):
        """Words that the memory owes go into the FIFO; the first that is wrong is an error."""
        words, came = self._words, self.m_axi_rvalid & self.reads
        with m.If(owed != 0):
            m.d.comb += [waits.eq(~self.m_axi_rvalid), words.w_en.eq(came)]
            with m.If(came):
                m.d.sync += owed.eq(owed - 1)
        with m.If(came):
            with m.If(self.m_axi_rresp[1]):
                m.d.comb += self._found.eq(Mux(self.m_axi_rresp[0], LoadError.DECODE, LoadError.SLAVE))
            with m.Elif((owed == 0) | (self.m_axi_rlast != (owed == 1))):
                m.d.comb += self._found.eq(LoadError.PROTOCOL)

    def _watch(self, m, waits):
        """A memory that is silent for too long is an error, once, until it speaks."""
        silent = Signal(32, name="owing")
        with m.If(~waits):
            m.d.sync += silent.eq(0)
        with m.Elif(silent != self.timeout):
            m.d.sync += silent.eq(silent + 1)
            with m.If(silent + 1 == self.timeout):
                m.d.comb += self._found.eq(LoadError.TIMEOUT)

    def _last_bytes(self, m):
        """The strobe of the block's last word."""
        of = exact_log2(self._axi.word_bytes)
        odd, strobe = Signal(of, name="odd"), Signal(self._axi.word_bytes)
        with m.If(self._begin):
            m.d.sync += odd.eq(self.length[:of])
        m.d.comb += strobe.eq(Cat((odd == 0) | (odd > k) for k in range(self._axi.word_bytes)))
        return strobe
