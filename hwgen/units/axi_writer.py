"""Beats into a memory on an AXI4 bus, one after the other."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..lib.axi import write_master
from ..lib.layouts import kv_put_layout
from .axi_reader import ReadError

__all__ = ["AxiWriter"]


class AxiWriter(wiring.Component):
    """Writes beats to an AXI4 memory: each is a burst of its own, whose words come behind the address, and the next one
    is taken when the memory has answered.

    With a memory that takes everything at once and answers a cycle after a burst's last word, a beat of n words is
    taken every n + 3 cycles.

    Parameters
    ----------
    axi : AxiShape
    beats, beat_bytes : int     of the memory, and of a beat: a power of two

    Members
    -------
    put : In(stream)            `kv_put_layout`: {address, data, strobe}
    settled : Out(1)            all that was taken is in the memory
    m_axi_*                     AXI4 write channels
    base : In(address_width)    address of the first beat; bits 11..0 are taken as 0
    timeout : In(32)            cycles without an answer after which an error is reported; 0: never
    error : Out                 {valid, code, address}: for one cycle, of the beat that failed

    Raises
    ------
    ValueError                  if the address width does not reach all beats
    """

    def __init__(self, axi, *, beats, beat_bytes):
        axi.check_reach(beats * beat_bytes)
        self._axi, self._beat_bytes = axi, beat_bytes
        super().__init__({
            "put": In(stream.Signature(kv_put_layout(beats=beats, beat_bytes=beat_bytes))), "settled": Out(1),
            **write_master(axi), "base": In(axi.address_width), "timeout": In(32),
            "error": Out(StructLayout({"valid": 1, "code": ReadError, "address": axi.address_width}))})

    def elaborate(self, platform):
        m = Module()
        axi, size = self._axi, self._beat_bytes
        words, per_word = max(1, size // axi.word_bytes), max(1, axi.word_bytes // size)
        put = self.put.payload
        data, strobe = (Signal(max(bits, wide), reset_less=True, name=name)
                        for bits, wide, name in ((8 * size, axi.data_width, "data"), (size, axi.word_bytes, "strobe")))
        left = Signal(range(words))
        place = (put.address << exact_log2(size))[exact_log2(axi.word_bytes):] << exact_log2(axi.word_bytes)
        m.d.comb += [self.m_axi_awlen.eq(words - 1), self.m_axi_awsize.eq(exact_log2(axi.word_bytes)),
                     self.m_axi_awburst.eq(1), self.m_axi_awcache.eq(0b0011), self.m_axi_bready.eq(1),
                     self.m_axi_wdata.eq(data), self.m_axi_wstrb.eq(strobe), self.m_axi_wlast.eq(left == 0)]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += [self.put.ready.eq(1), self.settled.eq(1)]
                m.d.sync += [self.m_axi_awaddr.eq(Cat(Const(0, 12), self.base[12:]) + place), left.eq(words - 1)]
                if per_word == 1:
                    m.d.sync += [data.eq(put.data), strobe.eq(put.strobe)]
                else:
                    lane = put.address[:exact_log2(per_word)]
                    m.d.sync += [data.eq(put.data.replicate(per_word)), strobe.eq(0),
                                 strobe.word_select(lane, size).eq(put.strobe)]
                with m.If(self.put.valid):
                    m.d.sync += self.m_axi_awvalid.eq(1)
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                with m.If(self.m_axi_awready):
                    m.d.sync += [self.m_axi_awvalid.eq(0), self.m_axi_wvalid.eq(1)]
                    m.next = "WORDS"
            with m.State("WORDS"):
                with m.If(self.m_axi_wready):
                    m.d.sync += [data.eq(data >> axi.data_width), strobe.eq(strobe >> axi.word_bytes),
                                 left.eq(left - 1)]
                    with m.If(left == 0):
                        m.d.sync += self.m_axi_wvalid.eq(0)
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                with m.If(self.m_axi_bvalid):
                    m.next = "IDLE"
        self._watch(m, fsm.ongoing("IDLE"), fsm.ongoing("ANSWER"))
        return m

    def _watch(self, m, idle, waits):
        """Errors: of answers, of those that nobody waits for, and of a memory that takes or answers nothing, which is
        reported once."""
        silent = Signal(32)
        moves = (idle | self.m_axi_bvalid | self.m_axi_awvalid & self.m_axi_awready
                 | self.m_axi_wvalid & self.m_axi_wready)
        with m.If(moves):
            m.d.sync += silent.eq(0)
        with m.Elif(silent != self.timeout):
            m.d.sync += silent.eq(silent + 1)
        error = self.error
        m.d.sync += [error.valid.eq(0), error.address.eq(self.m_axi_awaddr)]
        with m.If(self.m_axi_bvalid & ~waits):
            m.d.sync += [error.valid.eq(1), error.code.eq(ReadError.PROTOCOL)]
        with m.Elif(self.m_axi_bvalid & self.m_axi_bresp[1]):
            m.d.sync += [error.valid.eq(1),
                         error.code.eq(Mux(self.m_axi_bresp[0], ReadError.DECODE, ReadError.SLAVE))]
        with m.Elif(~moves & (silent + 1 == self.timeout)):
            m.d.sync += [error.valid.eq(1), error.code.eq(ReadError.TIMEOUT)]
