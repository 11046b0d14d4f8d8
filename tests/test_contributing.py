"""The lists of docs/CONTRIBUTING.md: each file of a list is there for everything of that kind."""
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from hwgen.fpga.boards import BOARDS
from hwgen.lib.verilog import PARTS
from hwgen.models.families import FAMILIES
from hwgen.params.block import ACTIVATIONS
from hwgen.params.formats import WEIGHTS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "CONTRIBUTING.md").read_text(encoding="utf-8")

UNITS = {path.stem for path in (ROOT / "hwgen" / "units").glob("*.py") if not path.stem.startswith("_")} - PARTS.keys()
KINDS = {"unit": sorted(UNITS),
         "activation": sorted(ACTIVATIONS), "family": sorted(FAMILIES), "board": sorted(BOARDS),
         "format": sorted(WEIGHTS)}

MAKE = "hwgen/top/make/__init__.py"
#: (name, file) that do without, each with its reason.
EXEMPT = {
    ("adapters", "sim/bench_adapters.py"): "sim/test_adapters.py compares whole decoders that have it",
    ("adapters", "tools/mutate.py"): "a pass of a whole decoder for each mutant would take days",
    ("adapters", "tools/coverage.json"): "sim/test_adapters.py compares whole decoders: its branches are counted there",
    **{(name, MAKE): "is made without a design"
       for name in ("axi_crossing",
                    "axi_registers", "card_reader", "counters", "ddr3_start", "memory_loader", "sdram_start", "uart",
                    "uart_bridge", "vector_buffer")},
    **{(name, MAKE): "has several components, each with a function" for name in ("adapters", "weights")},
    ("relu", "hwgen/params/tables.py"): "has no table",
    ("relu2", "hwgen/params/tables.py"): "has no table",
    ("relu", "tests/test_params_tables.py"): "has no table",
    ("relu2", "tests/test_params_tables.py"): "has no table",
}


class Item(NamedTuple):
    file: str
    text: str       # that it must have, or ""

    def of(self, name):
        """The item of a thing of that name."""
        return Item(*(field.replace("NAME", name) for field in self))

    def missing(self, name, root=ROOT):
        """What is not there for a thing of that name, or None."""
        file, text = self.of(name)
        if not (root / file).is_file():
            return f"{file} is not there"
        if text and text.lower() not in (root / file).read_text(encoding="utf-8").lower():
            return f"{file} does not have {text}"
        return None


def lists(page):
    """{kind: its items}"""
    found = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE):
        if match := re.match(r"Add an? (\w+)\n", section):
            items = [Item(file, text) for file, text in re.findall(r"^- `([^`]+)`(?: with `([^`]+)`)?:", section,
                                                                   re.MULTILINE)]
            if items:
                found[match[1]] = items
    return found


LISTS = lists(PAGE)


def test_each_kind_has_a_list():
    assert sorted(LISTS) == sorted(KINDS) and min(map(len, LISTS.values())) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_has_its_files(kind):
    missing = [f"{name}: {said}" for name in KINDS[kind] for item in LISTS[kind]
               if (name, item.of(name).file) not in EXEMPT and (said := item.missing(name))]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("item, said", [
    (Item("hwgen/NAME.py", ""), "hwgen/x.py is not there"),
    (Item("page.md", "(NAME.md)"), "page.md does not have (x.md)"),
    (Item("page.md", "y.md"), None)])
def test_what_is_missing_is_said(tmp_path, item, said):
    (tmp_path / "page.md").write_text("[y](y.md)")
    assert item.missing("x", tmp_path) == said


def test_exemptions_are_of_what_is_missing():
    missing = {(name, item.of(name).file) for kind, names in KINDS.items() for name in names for item in LISTS[kind]
               if item.missing(name)}
    assert [key for key in EXEMPT if key not in missing] == []
