"""Registers over a UART: frames in, AXI4-Lite out."""
from typing import NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.crc.catalog import CRC16_IBM_3740
from amaranth.lib.wiring import In, Out

from ..lib.axi import lite_slave
from ..params.frames import FIRST, FIXED, MALFORMED, MAX_BYTES, SILENCE, START, WRITE

__all__ = ["UartBridge"]


class _Request(NamedTuple):
    """The request that is received, or executed.

    sequence, length    its number, and its bytes
    last, known         the number of the one that was executed before, if there was one
    write               port of its memory, at ``at``
    at, end             bytes that are done with; these are all
    byte, here          the next one, which is there one cycle after ``at`` has moved
    step                ``at`` moves on, in this cycle
    given_up            nothing has come for some time
    """
    sequence: Signal
    length: Signal
    last: Signal
    known: Signal
    write: object
    at: Signal
    end: object
    byte: object
    here: Signal
    step: Signal
    given_up: Signal


class _Operation(NamedTuple):
    """The operation under way.

    code                its first byte
    left                words, the current one included
    address, word       of the current access; ``place`` counts bytes in them
    status_at, status   the place of its status in the answer; the first error
    """
    code: Signal
    left: Signal
    address: Signal
    word: Signal
    place: Signal
    status_at: Signal
    status: Signal


class _Answer(NamedTuple):
    """How many bytes the answer has, the one that is sent, and the ports of their memory."""
    used: Signal
    sent: Signal
    write: object
    read: object

    def put(self, data, where=None):
        """Write a byte of the answer, by default behind the others."""
        where = self.used if where is None else where
        return [self.write.en.eq(1), self.write.addr.eq(where), self.write.data.eq(data)]


class _Check(NamedTuple):
    """The CRC. A byte counts one cycle after it came or went, so it is known two cycles after the last one.

    ``anew``: it is, in the next cycle, in which no byte counts.
    """
    crc: object
    counted: Signal
    counts: Signal
    anew: Signal

    def count(self, data):
        """Take a byte into it."""
        return [self.counted.eq(data), self.counts.eq(1)]


class UartBridge(wiring.Component):
    """Executes requests (`hwgen.params.frames`) on an AXI4-Lite bus, and answers them.

    A request with a wrong CRC, or one that stops in the middle, is dropped; its sender repeats it. One with the
    sequence number of the request before is answered as that was, and not executed again: an answer that was lost costs
    nothing. What comes while a request is executed or answered is dropped. One access at a time; `golden.uart_bridge`
    has the cycles.

    Parameters
    ----------
    address_width : int     bits of a byte address on the bus, at most 16
    divisor : int           cycles per bit of the UART, for the time of silence that ends a broken frame

    Members
    -------
    rx_valid, rx_data       a byte has come: `UartReceiver`; at most one in two cycles
    tx : Out(stream)        bytes to send
    m_axi_*                 AXI4-Lite master of 32 bits
    """

    def __init__(self, address_width, divisor):
        if not 2 <= address_width <= 16:
            raise ValueError(f"Address width must be 2 to 16 bits, not {address_width}")
        self._silence = SILENCE * 10 * divisor
        bus = wiring.Signature(lite_slave(address_width, "m_axi_")).flip()
        super().__init__({"rx_valid": In(1), "rx_data": In(8), "tx": Out(stream.Signature(8)), **bus.members})

    def elaborate(self, platform):
        m = Module()
        m.submodules.request = request_memory = memory.Memory(shape=8, depth=256, init=[])
        m.submodules.answer = answer_memory = memory.Memory(shape=8, depth=256, init=[])
        request_write, request_read = request_memory.write_port(), request_memory.read_port()
        answer = _Answer(Signal(8, name="used"), Signal(8, reset_less=True, name="sent"),
                         answer_memory.write_port(), answer_memory.read_port())
        m.submodules.crc = crc = CRC16_IBM_3740(data_width=8).create()

        at, length = Signal(8, name="at"), Signal(8, name="length")
        request = _Request(
            sequence=Signal(8, name="sequence"), length=length, last=Signal(8, name="last"), known=Signal(name="known"),
            write=request_write, at=at, end=at == length, byte=request_read.data, here=Signal(name="here"),
            step=Signal(name="step"), given_up=Signal(name="given_up"))
        m.d.comb += [request_write.addr.eq(at), request_write.data.eq(self.rx_data), request_read.addr.eq(at),
                     answer.read.addr.eq(at)]
        self._watch_silence(m, request.given_up)
        m.d.sync += request.here.eq(~request.step)
        with m.If(request.step):
            m.d.sync += at.eq(at + 1)

        operation = _Operation(
            code=Signal(8, name="operation"), left=Signal(7, name="left"), address=Signal(16, name="address"),
            word=Signal(32, name="word"), place=Signal(2, name="place"), status_at=Signal(8, name="status_at"),
            status=Signal(8, name="status"))
        address, word = operation.address, operation.word
        m.d.comb += [self.m_axi_awaddr.eq(address), self.m_axi_araddr.eq(address), self.m_axi_wdata.eq(word),
                     self.m_axi_wstrb.eq(0b1111), self.m_axi_bready.eq(1)]

        # ``counts`` has no name in the Verilog
        check = _Check(crc, Signal(8, reset_less=True, name="counted"), Signal(name="$signal"), Signal(name="anew"))
        m.d.sync += [check.counts.eq(0), crc.start.eq(check.anew)]
        m.d.comb += [crc.data.eq(check.counted), crc.valid.eq(check.counts)]

        with m.FSM():
            self._receive(m, request, answer, check)
            self._read_operation(m, request, answer, operation)
            self._access(m, request, answer, operation)
            self._send(m, request, answer, check)
        return m

    def _watch_silence(self, m, given_up):
        """A frame that has stopped in the middle ends after some time."""
        silent = Signal(range(self._silence))
        m.d.sync += silent.eq(Mux(self.rx_valid, 0, silent + 1))
        m.d.comb += given_up.eq((silent == self._silence - 1) & ~self.rx_valid)

    def _receive(self, m, request, answer, check):
        """States of a frame that comes: what is executed ends in OPERATION, what was executed before in START."""
        sequence, length, last, known, at = request.sequence, request.length, request.last, request.known, request.at
        crc, count = check.crc, check.count

        def abandon():
            with m.If(request.given_up):
                m.next = "HUNT"

        with m.State("HUNT"):
            m.d.comb += check.anew.eq(1)
            m.d.sync += at.eq(0)
            with m.If(self.rx_valid & (self.rx_data == START)):
                m.next = "SEQUENCE"
        with m.State("SEQUENCE"):
            abandon()
            with m.If(self.rx_valid):
                m.d.sync += [*count(self.rx_data), sequence.eq(self.rx_data)]
                m.next = "LENGTH"
        with m.State("LENGTH"):
            abandon()
            with m.If(self.rx_valid):
                m.d.sync += [*count(self.rx_data), length.eq(self.rx_data)]
                m.next = "BYTES"
        with m.State("BYTES"):
            abandon()
            with m.If(self.rx_valid & ~request.end):
                m.d.comb += [request.write.en.eq(1), request.step.eq(1)]
                m.d.sync += count(self.rx_data)
            with m.Elif(self.rx_valid):
                m.next = "CHECK"
                with m.If(self.rx_data != crc.crc[8:]):
                    m.next = "HUNT"
        with m.State("CHECK"):
            abandon()
            with m.If(self.rx_valid):
                m.next = "HUNT"
                with m.If(self.rx_data == crc.crc[:8]):
                    # the memory keeps the answer to the request before, for the case that it is asked again
                    m.next = "START"
                    with m.If(~known | (sequence != last) | (sequence == FIRST)):
                        m.d.sync += [known.eq(1), last.eq(sequence), at.eq(0), request.here.eq(0),
                                         answer.used.eq(0)]
                        m.next = "OPERATION"

    def _read_operation(self, m, request, answer, operation):
        """States of an operation's begin: its code, its address, and whether its words fit into request and answer."""
        byte, end, here, step, used = request.byte, request.end, request.here, request.step, answer.used
        left, address, place = operation.left, operation.address, operation.place
        wanted = (left << 2)[:9]                    # bytes that the words take

        with m.State("OPERATION"):
            m.d.sync += [operation.code.eq(byte), left.eq(byte[:6] + 1), operation.status_at.eq(used),
                         operation.status.eq(0), place.eq(0)]
            with m.If(end):
                m.next = "START"
            with m.Elif(here):
                m.d.comb += step.eq(1)
                m.next = "ADDRESS"
        with m.State("ADDRESS"):
            with m.If(end):
                m.next = "MALFORMED"
            with m.Elif(here):
                m.d.comb += step.eq(1)
                m.d.sync += [address.eq(Cat(address[8:], byte)), place.eq(place + 1)]
                with m.If(place == 1):
                    m.next = "FIT"
        with m.State("FIT"):
            m.d.sync += place.eq(0)
            with m.If(operation.code & WRITE):
                m.next = "WORD"
                with m.If((used == MAX_BYTES) | (request.length - request.at < wanted)):
                    m.next = "MALFORMED"
                with m.Else():
                    m.d.sync += used.eq(used + 1)
            with m.Elif(used + wanted >= MAX_BYTES):
                m.next = "MALFORMED"
            with m.Else():
                m.d.sync += used.eq(used + 1)
                m.next = "READ"
        with m.State("MALFORMED"):
            with m.If(used != MAX_BYTES):
                m.d.comb += answer.put(MALFORMED)
                m.d.sync += used.eq(used + 1)
            m.next = "START"

    def _access(self, m, request, answer, operation):
        """States of the operation's accesses to the bus, one after another: a word is written, or read and kept."""
        byte, here, step, used = request.byte, request.here, request.step, answer.used
        word, place, left, address, status = (operation.word, operation.place, operation.left, operation.address,
                                              operation.status)

        with m.State("WORD"):
            with m.If(here):
                m.d.comb += step.eq(1)
                m.d.sync += [word.eq(Cat(word[8:], byte)), place.eq(place + 1)]
                with m.If(place == 3):
                    m.d.sync += [self.m_axi_awvalid.eq(1), self.m_axi_wvalid.eq(1)]
                    m.next = "WRITE"
        with m.State("WRITE"):
            with m.If(self.m_axi_awready):
                m.d.sync += self.m_axi_awvalid.eq(0)
            with m.If(self.m_axi_wready):
                m.d.sync += self.m_axi_wvalid.eq(0)
            with m.If(self.m_axi_bvalid):
                with m.If(status == 0):
                    m.d.sync += status.eq(self.m_axi_bresp)
                m.next = "NEXT"
        with m.State("READ"):
            m.d.sync += self.m_axi_arvalid.eq(1)
            m.next = "READING"
        with m.State("READING"):
            m.d.comb += self.m_axi_rready.eq(1)
            with m.If(self.m_axi_arready):
                m.d.sync += self.m_axi_arvalid.eq(0)
            with m.If(self.m_axi_rvalid):
                m.d.sync += word.eq(self.m_axi_rdata)
                with m.If(status == 0):
                    m.d.sync += status.eq(self.m_axi_rresp)
                m.next = "KEEP"
        with m.State("KEEP"):
            m.d.comb += answer.put(word[:8])
            m.d.sync += [used.eq(used + 1), word.eq(word >> 8), place.eq(place + 1)]
            with m.If(place == 3):
                m.next = "NEXT"
        with m.State("NEXT"):
            m.d.sync += left.eq(left - 1)
            with m.If((operation.code & FIXED) == 0):
                m.d.sync += address.eq(address + 4)
            with m.If(left == 1):
                m.d.comb += answer.put(status, operation.status_at)
                m.next = "OPERATION"
            with m.Else():
                m.next = "READ"
                with m.If(operation.code & WRITE):
                    m.next = "WORD"

    def _send(self, m, request, answer, check):
        """States of the answer: it is sent again if the request is."""
        at, used, sent, crc, anew = request.at, answer.used, answer.sent, check.crc, check.anew

        def send(data):
            """Offer a byte that counts for the CRC, which is started anew by START's state."""
            m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(data)]
            with m.If(self.tx.ready):
                m.d.sync += check.count(data)

        with m.State("START"):
            m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(START), anew.eq(1)]
            m.d.sync += at.eq(0)
            with m.If(self.tx.ready):
                m.next = "SEND_SEQUENCE"
        with m.State("SEND_SEQUENCE"):
            send(request.sequence)
            with m.If(self.tx.ready):
                m.next = "SEND_LENGTH"
        with m.State("SEND_LENGTH"):
            send(used)
            with m.If(self.tx.ready):
                m.next = "SETTLE"
                with m.If(used != 0):
                    m.next = "LOAD"
        # The memory's output has a register: it is too slow for the CRC behind it. A byte on the wire takes longer than
        # this.
        with m.State("LOAD"):
            m.next = "LOADED"
        with m.State("LOADED"):
            m.d.sync += sent.eq(answer.read.data)
            m.next = "SEND_BYTES"
        with m.State("SEND_BYTES"):
            send(sent)
            with m.If(self.tx.ready):
                m.d.sync += at.eq(at + 1)
                m.next = "LOAD"
                with m.If(at + 1 == used):
                    m.next = "SETTLE"
        with m.State("SETTLE"):
            m.next = "SEND_HIGH"
        with m.State("SEND_HIGH"):
            m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(crc.crc[8:])]
            with m.If(self.tx.ready):
                m.next = "SEND_LOW"
        with m.State("SEND_LOW"):
            m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(crc.crc[:8])]
            with m.If(self.tx.ready):
                m.next = "HUNT"
