"""Put the ports and the register map into docs/axi.md: ``python -m tools.registers``."""
import re
from pathlib import Path

from hwgen.emit.ports import described_ports, port_table
from hwgen.emit.registers import Registers
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape
from hwgen.top.axi import AxiDecoder

PAGE = Path(__file__).resolve().parent.parent / "docs" / "axi.md"


def design():
    return Design(model=DEMO, hw=hw_shape("demo,entries=4,source=stream", DEMO), recipe=Recipe())


def ports():
    """The ports of the demo shape with its streams of entries and results."""
    return port_table(described_ports(AxiDecoder(design(), AxiShape()), design(), AxiShape())) + "\n"


def table():
    """The registers of the demo shape, with commands and results among them."""
    return Registers(design(), AxiShape(host="queue", address_width=40), "chip", 0).table(constants=False)


def main():
    text = PAGE.read_text(encoding="utf-8")
    for mark, made in (("ports", ports()), ("registers", table())):
        text = re.sub(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", lambda found, made=made: found[1] + made + found[2],
                      text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
