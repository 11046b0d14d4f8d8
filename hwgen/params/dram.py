"""Memory chips beside a machine, by their data sheets, and the bus between chip and machine that follows."""
import math
from dataclasses import dataclass
from typing import Any

from .axi import AxiShape

__all__ = ["MT48LC16M16", "POSTPONED", "Sdram", "StartStep"]

#: Refreshes that the controller does together: banks are closed for them once.
POSTPONED = 8


@dataclass(frozen=True)
class StartStep:
    """A write that the start-up of a memory does: ``data`` to the register at a byte ``address``, then ``wait`` cycles
    of nothing."""
    address: int
    data: int
    wait: int


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
