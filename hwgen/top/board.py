"""The machine as it goes onto a board: weights inside or in a memory beside it, registers over a UART."""
from dataclasses import fields

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, connect

from ..lib.axi import lite_slave, read_master, write_master
from ..lib.skid import Skid
from ..params.axi import AxiShape, CardShape, LoaderShape
from ..params.kv_port import KV_PREFIX
from ..params.loader import SILENT_BITS
from ..units.uart import UartReceiver, UartTransmitter
from ..units.uart_bridge import UartBridge
from .axi import AxiDecoder, card_pins
from .kv_port import kv_bus_ports

__all__ = ["BUSES", "BoardMachine", "memory_buses", "memory_ports"]

#: Results that wait for a host that asks for several at a time.
BUSES = AxiShape(host="queue", queue=32)


def memory_buses(axi, card=False):
    """`LoaderShape` of a board's machine whose memory wants an `AxiShape`, or `CardShape` if weights come from a
    card."""
    shape = CardShape if card else LoaderShape
    return shape(**{field.name: getattr(axi, field.name) for field in fields(AxiShape)}
                 | {"host": BUSES.host, "queue": BUSES.queue})


def memory_ports(design, axi):
    """Members of a machine whose weights, or keys and values too, are in a memory beside it, and of its card."""
    return {**write_master(axi), **read_master(axi), **(kv_bus_ports(design, axi) if design.hw.kv_port else {}),
            "memory_ready": In(1), "memory_failed": In(1), **(card_pins() if axi.card else {})}


class BoardMachine(wiring.Component):
    """An `AxiDecoder` behind a `UartBridge`.

    Parameters
    ----------
    design : Design         with its weights inside, or with source "stream" for weights in a memory on AXI4, which come
                            over the UART once (docs/memory_loader.md)
    divisor : int           cycles per bit of the UART
    rom_file, wires         as of `Decoder`
    axi : LoaderShape       the port of the memory, for source "stream"
    card : CardTiming       how a card is read, for a `CardShape`

    Members
    -------
    clk, rst                clock, and synchronous reset
    rx, tx                  the UART
    led                     0: alive, 1: a pass is under way, 2: a byte came, 3: one went, 7..4: phase of the pass
    m_axi_*                 AXI4 master of the memory, for source "stream"; m_axi_kv_*: the one of keys and values
    memory_ready, memory_failed     its start-up is over, or has failed: levels, of the machine's clock
    card_*                  pins of the card, for a `CardShape`

    Raises
    ------
    ValueError              for a design with source "stream" without a memory, or the other way round
    """

    def __init__(self, design, *, divisor, rom_file=None, wires=None, axi=None, card=None):
        if axi and design.hw.source != "stream":
            raise ValueError(f"Weight source must be 'stream' on a board with a memory, not {design.hw.source!r}")
        if not axi and not design.hw.inside:
            raise ValueError("A board's machine keeps its weights in itself: "
                             "take source=rom or source=wired for the shape")
        self._design, self._divisor, self._rom_file, self._wires = design, divisor, rom_file, wires
        self._axi, self._card = axi or BUSES, card
        if axi and design.hw.kv_port not in (0, axi.data_width):
            raise ValueError(f"KV port must be {axi.data_width} bits on a memory with ports of as many, or 0 for keys "
                             f"and values in the machine, not {design.hw.kv_port}")
        self._memory = memory_ports(design, axi) if axi else {}
        super().__init__({"clk": In(1), "rst": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), "led": Out(8),
                          **self._memory})

    @property
    def design(self):
        return self._design

    @property
    def axi(self):
        return self._axi

    def _cut_addresses(self, m, machine):
        """A skid on the addresses of each bus: a controller with two ports decides late whose it takes, and the readers
        must not wait for that."""
        for prefix in ("m_axi_", KV_PREFIX):
            theirs = {name: getattr(machine, f"{prefix}{name}") for name in ("araddr", "arlen")}
            m.submodules[f"{prefix}skid"] = skid = DomainRenamer("board")(Skid(StructLayout(
                {name: len(value) for name, value in theirs.items()})))
            m.d.comb += [skid.i.valid.eq(getattr(machine, f"{prefix}arvalid")),
                         getattr(machine, f"{prefix}arready").eq(skid.i.ready),
                         *(skid.i.p[name].eq(value) for name, value in theirs.items()),
                         getattr(self, f"{prefix}arvalid").eq(skid.o.valid),
                         skid.o.ready.eq(getattr(self, f"{prefix}arready")),
                         *(getattr(self, f"{prefix}{name}").eq(skid.o.p[name]) for name in theirs)]

    def elaborate(self, platform):
        m = Module()
        # The machine has a domain "sync" of its own, which another one above it may not have.
        m.domains.board = ClockDomain(local=True)
        m.d.comb += [ClockSignal("board").eq(self.clk), ResetSignal("board").eq(self.rst)]
        m.submodules.machine = machine = AxiDecoder(self._design, self._axi, rom_file=self._rom_file, wires=self._wires,
                                                    silence=SILENT_BITS * self._divisor, card=self._card)
        width = machine.registers.address_width
        receiver, transmitter = UartReceiver(self._divisor), UartTransmitter(self._divisor)
        bridge = UartBridge(width, self._divisor)
        for name, unit in (("receiver", receiver), ("transmitter", transmitter), ("bridge", bridge)):
            m.submodules[name] = DomainRenamer("board")(unit)
        connect(m, bridge.tx, transmitter.i)
        m.d.comb += [machine.aclk.eq(self.clk), machine.aresetn.eq(~self.rst), receiver.rx.eq(self.rx),
                     self.tx.eq(transmitter.tx), bridge.rx_data.eq(receiver.data)]
        if self._memory:
            m.d.comb += [machine.rx_valid.eq(receiver.valid), machine.rx_data.eq(receiver.data),
                         bridge.rx_valid.eq(receiver.valid & ~machine.raw)]
            for name, member in self._memory.items():
                ours, theirs = getattr(self, name), getattr(machine, name)
                m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)
            if self._design.hw.kv_port:
                self._cut_addresses(m, machine)
        else:
            m.d.comb += bridge.rx_valid.eq(receiver.valid)
        for name, member in lite_slave(width).items():
            ours, theirs = getattr(bridge, name.replace("s_axi", "m_axi")), getattr(machine, name)
            m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)

        # Lights that are on long enough to be seen: a fraction of a second behind what they show.
        count = Signal(25)
        m.d.board += count.eq(count + 1)
        seen = Signal(3)
        events = Cat(machine.busy, receiver.valid, bridge.tx.valid)
        with m.If(count[:22] == 0):
            m.d.board += [self.led[1:4].eq(seen), seen.eq(events)]
        with m.Else():
            m.d.board += seen.eq(seen | events)
        m.d.comb += [self.led[0].eq(count[-1]), self.led[4:].eq(machine.phase)]
        return m
