"""Memory chips beside a machine, by their data sheets, and the bus between chip and machine that follows."""
import math
from dataclasses import dataclass, field
from typing import Any

from .axi import AxiShape

__all__ = ["A7DDRPHY", "CheckStep", "Ddr3", "ECP5DDRPHY", "GENSDRPHY", "LaneStep", "MT41K128M16", "MT41K256M16",
           "MT48LC16M16", "POSTPONED", "Phy", "QUEUE", "Sdram", "StartPlan", "StartStep"]

#: Refreshes that a controller does together, at most: banks are closed for them once.
POSTPONED = 8
#: Words of the queue between machine and memory, where they have two clocks.
QUEUE = 16


@dataclass(frozen=True)
class StartStep:
    """A write that the start-up of a memory does: ``data`` to the register at a byte ``address``, then ``wait`` cycles
    of nothing."""
    address: int
    data: int
    wait: int


@dataclass(frozen=True)
class LaneStep(StartStep):
    """A write of the bit of the lane that is levelled, bit 0 for lane 0."""


@dataclass(frozen=True)
class CheckStep(StartStep):
    """A read of the register. The bits that ``masks`` has for the lane that is levelled must be those of ``data``."""
    masks: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StartPlan:
    """The start-up of a memory whose reads must be levelled (docs/ddr3_start.md).

    Parameters
    ----------
    lanes, bitslips, delays     lanes of data, each of which has so many bitslips by so many delays
    tries                       to set a lane to what was found, before it counts as failed
    first                       what comes before the levelling
    reset, delay, bitslip       set a lane's two counters to 0; add 1 to one of them, which wraps
    test                        writes and reads, with `CheckStep`s
    last, failure               what comes behind it; what does instead if a lane found nothing
    """
    lanes: int
    bitslips: int
    delays: int
    tries: int
    first: tuple[StartStep, ...]
    reset: tuple[StartStep, ...]
    delay: tuple[StartStep, ...]
    bitslip: tuple[StartStep, ...]
    test: tuple[StartStep, ...]
    last: tuple[StartStep, ...]
    failure: tuple[StartStep, ...]


@dataclass(frozen=True, kw_only=True)
class Phy:
    """What is between a controller and the pins of its chip.

    Parameters
    ----------
    name            its class in `litedram.phy`
    phases          cycles of the chip in one of the controller's
    words           words of data in one of the controller's, at most
    own_clocks      LiteDRAM makes its clocks from the oscillator's; else it has the machine's
    postponed       refreshes that its controller does together
    """
    name: str
    phases: int
    words: int
    own_clocks: bool
    postponed: int = POSTPONED


#: Of SDR, of an ECP5's DDR3, of an Artix-7's. The last is faster than its machine: of one refresh at a time the queue
#: between them hides the most (docs/dram.md).
GENSDRPHY = Phy(name="GENSDRPHY", phases=1, words=1, own_clocks=False)
ECP5DDRPHY = Phy(name="ECP5DDRPHY", phases=2, words=4, own_clocks=True)
A7DDRPHY = Phy(name="A7DDRPHY", phases=4, words=8, own_clocks=True, postponed=1)


@dataclass(frozen=True, kw_only=True)
class Sdram:
    """A chip of SDR SDRAM. Another type of memory is another class with the same properties.

    Parameters
    ----------
    title                   as people know it
    name                    its class in `litedram.modules`
    data_width              bits of its data
    port_width              bits of a word of the AXI4 port that the controller is given: docs/dram.md says why they are
                            as many
    banks, rows, columns    words of ``data_width`` bits
    cas_latency             cycles from a read to its data
    t_*                     ns: the data sheet's limits between commands. rcd activate to read or write; rp precharge to
                            activate; ras activate to precharge; rc activate to activate of the bank, rrd of another
                            bank; rfc refresh to anything; wr last data to precharge; refi between refreshes, on average
    power_up                ns of nothing before the first command
    mode_cycles             cycles from a mode register's load to anything
    phy                     what its board has between controller and chip. (Not in the repr, which names the folder of
                            a build)
    """
    title: str
    name: str
    data_width: int
    port_width: int
    banks: int
    rows: int
    columns: int
    cas_latency: int
    t_rcd: float
    t_rp: float
    t_ras: float
    t_rc: float
    t_rrd: float
    t_rfc: float
    t_wr: float
    t_refi: float
    power_up: float
    mode_cycles: int
    phy: Phy = field(default=GENSDRPHY, repr=False)

    @property
    def cycle_bits(self) -> int:
        """Bits of data in a cycle of the controller, at most."""
        return self.phy.words * self.data_width

    @property
    def size(self) -> int:
        """Bytes."""
        return self.banks * self.rows * self.columns * self.data_width // 8

    @property
    def address_width(self) -> int:
        """Bits of a byte address."""
        return (self.size - 1).bit_length()

    @property
    def row_bytes(self) -> int:
        """Bytes that lie side by side in a row of a bank."""
        return self.columns * self.data_width // 8

    def cycles(self, name: str, clock: float) -> int:
        """The least cycles that keep a limit ``t_NAME`` at ``clock`` MHz. Between refreshes it is the most."""
        count = getattr(self, f"t_{name}") * clock / 1000
        return math.floor(count) if name == "refi" else max(1, math.ceil(count - 1e-9))

    def axi(self, **more: Any) -> AxiShape:
        """The `AxiShape` of a machine on this memory."""
        its: dict[str, Any] = dict(data_width=self.port_width, address_width=self.address_width, burst=256,
                                   outstanding=4, prefetch=1024, host="queue", queue=32)
        return AxiShape(**its | more)


#: Micron's 256 Mbit chip of 16 bits, speed grade -75 (its data sheet), as LiteX has it for the ULX3S. A row is
#: refreshed every 64 ms, in 8192 refreshes.
MT48LC16M16 = Sdram(title="32 MB of SDRAM", name="MT48LC16M16", data_width=16, port_width=16, banks=4, rows=8192,
                    columns=512, cas_latency=2, t_rcd=20, t_rp=20, t_ras=44, t_rc=66, t_rrd=15, t_rfc=66,
                    t_wr=15, t_refi=64e6 / 8192, power_up=100_000, mode_cycles=2)


@dataclass(frozen=True, kw_only=True)
class Ddr3(Sdram):
    """A chip of DDR3 SDRAM, whose clock is a multiple of the controller's, and whose bursts have eight words.

    ``cas_latency`` and ``mode_cycles`` are cycles of the chip. Further values of its data sheet:

    cas_write_latency           cycles of the chip from a write to its data
    t_faw                       ns in which at most four rows are opened
    dll_cycles, zq_cycles       cycles of the chip behind a reset of its DLL before a read, and for the first
                                calibration of its drivers
    power_up                    ns without CKE before the first command
    """
    cas_write_latency: int
    t_faw: float
    dll_cycles: int
    zq_cycles: int
    phy: Phy = field(default=ECP5DDRPHY, repr=False)

    def axi(self, **more: Any) -> AxiShape:
        # a burst is as many bytes as a row has: fewer words are ahead than of SDR, in whose cycle a word is 2 bytes
        return super().axi(**dict(burst=128, prefetch=512) | more)


#: Micron's 4 Gbit chip of 16 bits (its data sheet, speed grade -125), as LiteX has it for the ECPIX-5. At its lowest
#: latencies: the controller's clock is far below the chip's best. The data sheet has 300 MHz as the chip's lowest clock
#: with its DLL; LiteX runs boards below it, and so does hwgen (docs/ddr3_start.md).
MT41K256M16 = Ddr3(title="512 MB of DDR3", name="MT41K256M16", data_width=16, port_width=128, banks=8, rows=32768,
                   columns=1024, cas_latency=6, cas_write_latency=5, t_rcd=13.75, t_rp=13.75, t_ras=35, t_rc=48.75,
                   t_rrd=7.5, t_rfc=260, t_wr=15, t_refi=64e6 / 8192, t_faw=40, power_up=500_000, mode_cycles=4,
                   dll_cycles=512, zq_cycles=512)
#: Micron's 2 Gbit chip of 16 bits (its data sheet, speed grade -125), as LiteX has it for the Arty A7. Its CAS latency
#: is a cycle longer than the least at 400 MHz: LiteDRAM has no levelling of writes on an Artix-7, and adds it.
MT41K128M16 = Ddr3(title="256 MB of DDR3", name="MT41K128M16", data_width=16, port_width=128, banks=8, rows=16384,
                   columns=1024, cas_latency=7, cas_write_latency=5, t_rcd=13.75, t_rp=13.75, t_ras=35, t_rc=48.75,
                   t_rrd=7.5, t_rfc=160, t_wr=15, t_refi=64e6 / 8192, t_faw=40, power_up=500_000, mode_cycles=4,
                   dll_cycles=512, zq_cycles=512, phy=A7DDRPHY)
