"""A DDR3 memory path and its chip, as a bench has them: LiteDRAM's own Verilog, and what is behind its pins."""
from cocotb.clock import Clock as CocotbClock
from cocotb.triggers import RisingEdge, Timer

from hwgen.fpga.dram import axi_ports, memory_verilog
from hwgen.fpga.dram_phys import pin_ports
from hwgen.host.links.ddr3 import ddr3_verilog, simulated_ddr3
from sim.dram_units import SEEN, declared, reader_before, seen_ports
from sim.stream_bench import Clock

__all__ = ["Behind", "KEPT", "ddr3_and_chip", "ddr3_reader", "bus_clock", "power_up"]

#: Bits of the rows that the chip keeps: 4 MB. MHz of the oscillator, of which the simulation takes no notice.
KEPT, OSCILLATOR = 8, 100

_TOP = """\
module {name} (
    input wire clk,
{ports},
    input wire [{skew}:0] skew,
    input wire [{mute}:0] mute,
{seen},
    output wire memory_clock,
    output wire memory_reset,
    input wire machine_clock,
    input wire machine_reset,
    output wire memory_ready,
    output wire memory_failed
);
{body}
{chip}
endmodule
"""


def _top(name, memory, clock, members, body, crossing=False):
    own = ["clk", "memory_clock", "memory_reset", "memory_ready", "memory_failed",
           *["machine_clock", "machine_reset"] * crossing,
           *(port for port, _, _ in axi_ports(memory) + pin_ports(memory))]
    path = f"  memory memory (.rst(1'b0), {', '.join(f'.{port}({port})' for port in own)});"
    lanes = memory.data_width // 8
    return _TOP.format(name=name, ports=declared(members), skew=3 * lanes - 1, mute=lanes - 1,
                       seen=seen_ports(), body=body + path,
                       chip=ddr3_verilog(memory, clock, KEPT, skew="skew", mute="mute",
                                         **{seen: f"chip_{seen}" for seen in SEEN}))


def _path(memory, clock, crossing, settings):
    return memory_verilog(memory, clock, crossing=crossing, input_clk_freq=OSCILLATOR * 1e6, **settings).values()


def ddr3_and_chip(memory, clock, name, crossing=False, **settings):
    """Verilog of a module whose ports are the memory path's AXI4, and what a chip tells and suffers. ``clk`` is the
    clock of the pins, a multiple of `memory_clock`. ``crossing``: its AXI4 is on a `machine_clock`."""
    return simulated_ddr3(memory, [_top(name, memory, clock, axi_ports(memory), "", crossing),
                                   *_path(memory, clock, crossing, settings)])


def ddr3_reader(memory, clock, design, axi, name, crossing=False, **settings):
    """Verilog of an `AxiReader` in front of the memory path and its chip; its ports are the reader's but for the bus,
    and what a chip tells and suffers. ``crossing``: the reader is on a `machine_clock`."""
    whose = "machine" if crossing else "memory"
    reader, own, body = reader_before(memory, design, axi, f"{whose}_clock", f"{whose}_reset")
    return simulated_ddr3(memory, [_top(name, memory, clock, own, body, crossing),
                                   *_path(memory, clock, crossing, settings), reader])


def power_up(memory, address):
    """What the chip has at a word of the bus (a byte address) behind power-up: numbers, or arrays of them."""
    word = address // (memory.data_width // 8)
    column, line = word % memory.columns, word // memory.columns
    place = ((line % memory.banks << KEPT) + line // memory.banks) * memory.columns + column
    return (place * 40503 ^ place >> 8) & (1 << memory.data_width) - 1


class Behind:
    """A bench's design whose clock is the memory's, or the machine's, for what takes the clock for ``clk``."""

    def __init__(self, dut, whose="memory"):
        self._dut = dut
        self.clk, self.rst = (getattr(dut, f"{whose}_{name}") for name in ("clock", "reset"))

    def __getattr__(self, name):
        return getattr(self._dut, name)


async def bus_clock(dut, memory, period, machine=None):
    """(`Behind`, `Clock`) of what is before the memory path, in a design whose ``clk`` has a period of so many ns; with
    a crossing ``machine`` is that of its own clock, in ps."""
    if machine is None:
        behind = Behind(dut)
        return behind, Clock(behind, memory.phy.phases * period)
    behind = Behind(dut, "machine")
    dut.machine_reset.value = 1
    await Timer(1, unit="ps")       # its edges are at no time of the memory's
    CocotbClock(dut.machine_clock, machine, unit="ps").start()
    for _ in range(3):
        await RisingEdge(dut.machine_clock)
    dut.machine_reset.value = 0
    return behind, Clock(behind, machine / 1000)
