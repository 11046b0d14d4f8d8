"""Registers over a UART: frames in, AXI4-Lite out."""
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.crc.catalog import CRC16_IBM_3740
from amaranth.lib.wiring import In, Out

from ..lib.axi import lite_slave
from ..params.frames import FIRST, FIXED, MALFORMED, MAX_BYTES, SILENCE, START, WRITE

__all__ = ["UartBridge"]


class UartBridge(wiring.Component):
    """Executes requests (`hwgen.params.frames`) on an AXI4-Lite bus, and answers them.

    A request with a wrong CRC, or one that stops in the middle, is dropped; its sender repeats it. One with the sequence number of the
    request before is answered as that was, and not executed again: an answer that was lost costs nothing. What comes while a
    request is executed or answered is dropped. One access at a time; `golden.uart_bridge` has the cycles.

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
        m.submodules.request = request = memory.Memory(shape=8, depth=256, init=[])
        m.submodules.answer = answer = memory.Memory(shape=8, depth=256, init=[])
        request_write, request_read = request.write_port(), request.read_port()
        answer_write, answer_read = answer.write_port(), answer.read_port()
        sent = Signal(8, reset_less=True)
        m.submodules.crc = crc = CRC16_IBM_3740(data_width=8).create()

        sequence, length = Signal(8, name="sequence"), Signal(8)     # of the request that is received
        last, known = Signal(8, name="last"), Signal()           # of the one that was executed
        at = Signal(8)                              # bytes of the request that are done with
        used = Signal(8)                            # bytes of the answer
        m.d.comb += [request_write.addr.eq(at), request_write.data.eq(self.rx_data), request_read.addr.eq(at), answer_read.addr.eq(at)]

        # A frame that has stopped in the middle ends after some time.
        silent = Signal(range(self._silence))
        given_up = Signal()
        m.d.sync += silent.eq(Mux(self.rx_valid, 0, silent + 1))
        m.d.comb += given_up.eq((silent == self._silence - 1) & ~self.rx_valid)

        # A byte of the request is there one cycle after ``at`` has moved.
        here = Signal()
        step = Signal()
        m.d.sync += here.eq(~step)
        with m.If(step):
            m.d.sync += at.eq(at + 1)
        byte = request_read.data
        end = at == length

        # The operation under way.
        operation = Signal(8)
        left = Signal(7)                            # words, the current one included
        address = Signal(16)
        word, place = Signal(32, name="word"), Signal(2)
        status_at, status = Signal(8, name="status_at"), Signal(8)
        wanted = (left << 2)[:9]                    # bytes that the words take

        m.d.comb += [self.m_axi_awaddr.eq(address), self.m_axi_araddr.eq(address), self.m_axi_wdata.eq(word),
                     self.m_axi_wstrb.eq(0b1111), self.m_axi_bready.eq(1)]

        def put(data, where=used):
            """Write a byte of the answer."""
            return [answer_write.en.eq(1), answer_write.addr.eq(where), answer_write.data.eq(data)]

        # A byte counts for the CRC one cycle after it came or went: it is known two cycles after the last one.
        counted, counts = Signal(8, reset_less=True, name="counted"), Signal()
        anew = Signal(name="anew")                  # the CRC is, in the next cycle: no byte counts in that
        m.d.sync += [counts.eq(0), crc.start.eq(anew)]
        m.d.comb += [crc.data.eq(counted), crc.valid.eq(counts)]

        def count(data):
            return [counted.eq(data), counts.eq(1)]

        def send(data):
            """Offer a byte that counts for the CRC, which is started anew by START's state."""
            m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(data)]
            with m.If(self.tx.ready):
                m.d.sync += count(data)

        def abandon():
            with m.If(given_up):
                m.next = "HUNT"

        with m.FSM():
            with m.State("HUNT"):
                m.d.comb += anew.eq(1)
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
                with m.If(self.rx_valid & ~end):
                    m.d.comb += [request_write.en.eq(1), step.eq(1)]
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
                            m.d.sync += [known.eq(1), last.eq(sequence), at.eq(0), here.eq(0), used.eq(0)]
                            m.next = "OPERATION"

            with m.State("OPERATION"):
                m.d.sync += [operation.eq(byte), left.eq(byte[:6] + 1), status_at.eq(used), status.eq(0), place.eq(0)]
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
                with m.If(operation & WRITE):
                    m.next = "WORD"
                    with m.If((used == MAX_BYTES) | (length - at < wanted)):
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
                    m.d.comb += put(MALFORMED)
                    m.d.sync += used.eq(used + 1)
                m.next = "START"

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
                m.d.comb += put(word[:8])
                m.d.sync += [used.eq(used + 1), word.eq(word >> 8), place.eq(place + 1)]
                with m.If(place == 3):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += left.eq(left - 1)
                with m.If((operation & FIXED) == 0):
                    m.d.sync += address.eq(address + 4)
                with m.If(left == 1):
                    m.d.comb += put(status, status_at)
                    m.next = "OPERATION"
                with m.Else():
                    m.next = "READ"
                    with m.If(operation & WRITE):
                        m.next = "WORD"

            with m.State("START"):
                m.d.comb += [self.tx.valid.eq(1), self.tx.payload.eq(START), anew.eq(1)]
                m.d.sync += at.eq(0)
                with m.If(self.tx.ready):
                    m.next = "SEND_SEQUENCE"
            with m.State("SEND_SEQUENCE"):
                send(sequence)
                with m.If(self.tx.ready):
                    m.next = "SEND_LENGTH"
            with m.State("SEND_LENGTH"):
                send(used)
                with m.If(self.tx.ready):
                    m.next = "SETTLE"
                    with m.If(used != 0):
                        m.next = "LOAD"
            # The memory's output has a register: it is too slow for the CRC behind it. A byte on the wire takes longer than this.
            with m.State("LOAD"):
                m.next = "LOADED"
            with m.State("LOADED"):
                m.d.sync += sent.eq(answer_read.data)
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
        return m
