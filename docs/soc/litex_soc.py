"""An SoC by LiteX around an emitted machine: a VexRiscv, a flash with the weights, a RAM, a UART, the machine
(docs/soc.md).

`tools/soc.py` builds and runs it; nothing here is needed to use a machine in another SoC.
"""
import json
import re

from litex.build.generic_platform import Pins, Subsignal
from litex.build.io import CRG
from litex.build.sim import SimPlatform
from litex.gen import LiteXModule
from litex.soc.integration.common import get_mem_data
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect.axi import AXIInterface, AXILiteInterface
from migen import ClockSignal, Instance, Record, ResetSignal

_PINS = [
    ("sys_clk", 0, Pins(1)),
    ("serial", 0,
     Subsignal("source_valid", Pins(1)), Subsignal("source_ready", Pins(1)), Subsignal("source_data", Pins(8)),
     Subsignal("sink_valid", Pins(1)), Subsignal("sink_ready", Pins(1)), Subsignal("sink_data", Pins(8)))]


class Machine(LiteXModule):
    """A folder that `hwgen emit --bus axi --axi-host queue` wrote, as a module of LiteX.

    ``registers`` is its AXI4-Lite slave, ``weights`` its AXI4 master, ``ev.irq`` its interrupt.
    """

    def __init__(self, platform, folder):
        about = json.loads((folder / "manifest.json").read_text())
        axi = about["bus"]["axi"]
        self.registers = AXILiteInterface(data_width=32, address_width=32)
        self.weights = AXIInterface(data_width=axi["data_width"], address_width=axi["address_width"],
                                    id_width=axi["id_width"])
        self.ev = Record([("irq", 1)])
        self.specials += Instance(about["top"], i_aclk=ClockSignal(), i_aresetn=~ResetSignal(), o_irq=self.ev.irq,
                                  **_wires(about["ports"], "s_axi_", self.registers),
                                  **_wires(about["ports"], "m_axi_", self.weights))
        platform.add_source(str(folder / f"{about['top']}.v"))


def _wires(ports, prefix, bus):
    """The ports of a bus: s_axi_awaddr is bus.aw.addr."""
    found = {}
    for name, port in ports.items():
        if name.startswith(prefix):
            channel, signal = re.fullmatch("(aw|ar|w|r|b)(.*)", name.removeprefix(prefix)).groups()
            wire = getattr(getattr(bus, channel), signal)
            found[f"{port['direction'][0]}_{name}"] = wire if len(wire) == port["width"] else wire[:port["width"]]
    return found


class SoC(SoCCore):
    """The machine's registers are at 0x90000000, where the CPU does not cache. It reads the weights over the bus, as
    another master."""

    def __init__(self, folder):
        image = folder / json.loads((folder / "manifest.json").read_text())["weights"]["image"]
        size = 1 << (image.stat().st_size - 1).bit_length()
        platform = SimPlatform("SIM", _PINS)
        super().__init__(platform, clk_freq=50_000_000, cpu_type="vexriscv", uart_name="sim", with_timer=False,
                         integrated_rom_size=0x10000, integrated_sram_size=0x2000, integrated_main_ram_size=size)
        self.crg = CRG(platform.request("sys_clk"))
        contents = get_mem_data(str(image), endianness="little", data_width=32)
        self.add_rom("flash", origin=0x2000_0000, size=size, contents=contents)
        self.chip = Machine(platform, folder)
        self.bus.add_slave("chip", self.chip.registers, SoCRegion(origin=0x9000_0000, size=0x10000, cached=False))
        self.bus.add_master("chip_weights", self.chip.weights)
        self.irq.add("chip")
