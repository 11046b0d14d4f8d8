"""Both ends of a UART in one component, so that one build serves both benches."""
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen.units.uart import UartReceiver, UartTransmitter


class Uart(wiring.Component):
    def __init__(self, divisor):
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1), "rx": In(1), "valid": Out(1), "data": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter = transmitter = UartTransmitter(self._divisor)
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        connect(m, flipped(self.i), transmitter.i)
        m.d.comb += [self.tx.eq(transmitter.tx), receiver.rx.eq(self.rx), self.valid.eq(receiver.valid),
                     self.data.eq(receiver.data)]
        return m
