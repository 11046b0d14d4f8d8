"""Pins of boards that amaranth-boards does not have."""
from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal

__all__ = ["TangNano20KPlatform"]


class TangNano20KPlatform:
    """Sipeed's Tang Nano 20K, from its maker's examples: uart/src/top.cst, picorv32/src/fpga_project.cst (levels) and led/flow_led of
    https://github.com/sipeed/TangNano-20K-example. The UART is that of the BL616, the second of its two serial ports on USB.
    """
    default_clk = "clk27"
    resources = [
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP")),
        Resource("uart", 0, Subsignal("rx", Pins("70", dir="i")), Subsignal("tx", Pins("69", dir="o")),
                 Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP")),
        *(Resource("led", number, PinsN(str(15 + number), dir="o"), Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP", DRIVE="8")) for number in range(6)),
    ]
