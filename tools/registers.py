"""Put the register map into docs/axi.md: ``python -m tools.registers``."""
import re
from pathlib import Path

from hwgen.emit.registers import Registers
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape

PAGE = Path(__file__).resolve().parent.parent / "docs" / "axi.md"
MARKED = re.compile(r"(<!-- registers -->\n).*?(<!-- end -->)", re.DOTALL)


def table():
    """The registers of the demo shape, with commands and results among them."""
    design = Design(model=DEMO, hw=hw_shape("demo,entries=4,source=stream", DEMO), recipe=Recipe())
    return Registers(design, AxiShape(host="queue", address_width=40), "chip", 0).table(constants=False)


def main():
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARKED.sub(lambda found: found[1] + table() + found[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
