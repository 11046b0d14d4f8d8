"""Bytes over two wires: 8 data bits, no parity, one stop bit."""
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter", "check_divisor"]


def check_divisor(divisor):
    """Refuse a number of cycles per bit that `UartReceiver` cannot sample. Raises ValueError."""
    if not 4 <= divisor < 1 << 16:
        raise ValueError(f"Cycles per bit must be 4 to 65535, not {divisor}: take a baud rate that fits the clock")


class UartTransmitter(wiring.Component):
    """A byte, least significant bit first. A byte taken in cycle s drives its start bit in the cycles s + 1 to s +
    divisor; the next is taken in cycle s + 10 * divisor, so that its start bit follows the stop bit directly.

    Parameters
    ----------
    divisor : int       cycles per bit, 4 to 65535

    Members
    -------
    i : In(stream)      bytes
    tx : Out(1)         the wire, 1 when idle
    """

    def __init__(self, divisor):
        check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        left = Signal(range(self._divisor), reset_less=True)    # cycles of the bit after this one
        bits = Signal(range(11))                # start, data and stop bits that are not over
        word = Signal(9, reset_less=True)       # bits after the one on the wire
        m.d.comb += self.i.ready.eq((bits == 0) | ((bits == 1) & (left == 0)))
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Elif(bits != 0):
            m.d.sync += [left.eq(self._divisor - 1), bits.eq(bits - 1), Cat(self.tx, word).eq(Cat(word, 1))]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [left.eq(self._divisor - 1), bits.eq(10), self.tx.eq(0), word.eq(Cat(self.i.payload, 1))]
        return m


class UartReceiver(wiring.Component):
    """What comes on a wire, as bytes, each for one cycle: nobody can hold it back.

    The wire passes two flip-flops. A bit is sampled in its middle; a start bit that is gone by then was noise, and a
    byte without a stop bit is dropped. A byte whose start bit begins in cycle s is there in cycle
    `golden.uart.received_cycle(s, divisor)`. The sender's clock may be off by 4 % (half a bit in ten, less the sampling
    grid).

    Parameters
    ----------
    divisor : int       cycles per bit, 4 to 65535

    Members
    -------
    rx : In(1)          the wire, 1 when idle
    valid : Out(1)      a byte is there
    data : Out(8)
    """

    def __init__(self, divisor):
        check_divisor(divisor)
        self._divisor = divisor
        super().__init__({"rx": In(1), "valid": Out(1), "data": Out(8)})

    def elaborate(self, platform):
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)
        left = Signal(range(self._divisor), reset_less=True)
        bits = Signal(range(11))                # start, data and stop bits to sample
        m.d.sync += self.valid.eq(0)
        with m.If(bits == 0):
            with m.If(~rx):
                m.d.sync += [bits.eq(10), left.eq(self._divisor // 2 - 1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Else():
            m.d.sync += [left.eq(self._divisor - 1), bits.eq(bits - 1)]
            with m.If(bits == 10):
                with m.If(rx):
                    m.d.sync += bits.eq(0)
            with m.Elif(bits == 1):
                m.d.sync += self.valid.eq(rx)
            with m.Else():
                m.d.sync += self.data.eq(Cat(self.data[1:], rx))
        return m
