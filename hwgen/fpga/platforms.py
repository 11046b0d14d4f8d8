"""Pins of boards that amaranth-boards does not have."""
from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
from amaranth_boards.ulx3s import ULX3S_85F_Platform

__all__ = ["TangConsole138KPlatform", "TangNano20KPlatform", "ULX3SCardPlatform"]


class ULX3SCardPlatform(ULX3S_85F_Platform):
    """The ULX3S with its micro-SD slot in SPI mode, for boards of version 2.0 and later: doc/constraints/ulx3s_v20.lpf
    of https://github.com/emard/ulx3s, and the same in LiteX-Boards. What amaranth-boards has are the pins of version
    1.7, on which they are others.

    The board's ESP32 is at the same pins: while ``wifi_en`` is low it is in reset, and leaves them alone.
    """
    resources = [
        *ULX3S_85F_Platform.resources,
        Resource("card", 0, Subsignal("cs_n", Pins("K2", dir="o")), Subsignal("sck", Pins("H2", dir="o")),
                 Subsignal("mosi", Pins("J1", dir="o")),
                 Subsignal("miso", Pins("J3", dir="i")), Subsignal("wifi_en", Pins("F1", dir="o")),
                 Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP", DRIVE="4")),
    ]


class TangNano20KPlatform:
    """Sipeed's Tang Nano 20K, from its maker's examples: uart/src/top.cst, picorv32/src/fpga_project.cst (levels) and
    led/flow_led of https://github.com/sipeed/TangNano-20K-example. The UART is that of the BL616, the second of its two
    serial ports on USB.
    """
    default_clk = "clk27"
    resources = [
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP")),
        Resource("uart", 0, Subsignal("rx", Pins("70", dir="i")), Subsignal("tx", Pins("69", dir="o")),
                 Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP")),
        *(Resource("led", number, PinsN(str(15 + number), dir="o"),
                   Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP", DRIVE="8")) for number in range(6)),
    ]


class TangConsole138KPlatform:
    """Sipeed's Tang Console with its Tang Mega 138K module, from examples/gw5a/tangconsole138k.cst of
    https://github.com/YosysHQ/apicula (a UART example of that folder is for this board). What that file calls lights
    are pins of a PMOD connector: the board has none that the FPGA drives.
    """
    default_clk = "clk50"
    resources = [
        Resource("clk50", 0, Pins("V22", dir="i"), Clock(50e6),
                 Attrs(IO_TYPE="LVCMOS33", PULL_MODE="NONE", BANK_VCCIO="3.3")),
        Resource("uart", 0, Subsignal("rx", Pins("V14", dir="i")), Subsignal("tx", Pins("U15", dir="o")),
                 Attrs(IO_TYPE="LVCMOS33", PULL_MODE="UP", BANK_VCCIO="3.3")),
    ]
