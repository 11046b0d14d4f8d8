"""A board whose weights are in a memory beside its FPGA, for tests: any port, no pins."""
import dataclasses
from typing import NamedTuple

from hwgen.fpga.boards import board
from hwgen.params.axi import AxiShape
from hwgen.params.dram import GENSDRPHY, Phy

__all__ = ["Memory", "memory_board"]


class Memory(NamedTuple):
    """What hwgen wants to know of a board's memory."""
    title: str = "a memory"
    size: int = 1 << 20
    data_width: int = 16
    address_width: int = 20
    phy: Phy = GENSDRPHY        # it has the machine's clock

    def axi(self):
        return AxiShape(data_width=self.data_width, address_width=self.address_width, burst=64, outstanding=4,
                        prefetch=256)


def memory_board(**more):
    """A `Board`; keywords are of `Memory`."""
    return dataclasses.replace(board("ulx3s-85f"), name="with-memory", memory=Memory(**more), model="mini",
                               shape="tiny,context=64,source=stream", baud=11_250_000)
