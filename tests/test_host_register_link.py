"""The host's end of the registers against a machine that answers what no machine of hwgen does."""

import pytest

from hwgen.host.links.link import Entry, LinkError
from hwgen.host.links.register_link import RegisterLink
from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import model_id
from hwgen.params.axi import AxiShape
from hwgen.params.errors import ErrorCode
from hwgen.params.registers import MAGIC, VERSION, design_id, register_map
from sim.designs import small_design

DESIGN, AXI = small_design(source="stream"), AxiShape(host="queue")
MODEL = quantize(random_checkpoint(DESIGN.model), DESIGN.recipe)


class Registers:
    """A port whose registers hold what they are given: enough to connect to, and results in a row."""

    def __init__(self, results=(), **changes):
        self.map, self.results = register_map(DESIGN, AXI), list(results)
        name = DESIGN.model.name.encode()[:16].ljust(16, b"\0")
        words = {"ID": MAGIC, "VERSION": VERSION, "DESIGN_ID": design_id(DESIGN, AXI), "WEIGHTS_ID": model_id(MODEL),
                 **{f"NAME{i}": int.from_bytes(name[4 * i:4 * i + 4], "little") for i in range(4)}} | changes
        self.words = {self.map[register].offset: word for register, word in words.items()}
        self.ready = [1 << 63]          # the result of the pass with which the host connects

    def transact(self, operations):
        return [[self._word(op.address + 4 * i) for i in range(op.count)] if hasattr(op, "count") else self._written(op)
                for op in operations]

    def _word(self, address):
        name = {self.map[r].offset: r for r in ("QUEUE", "RESULT_LO", "RESULT_HI")}.get(address)
        if name is None:
            return self.words.get(address, 0)
        return {"QUEUE": len(self.ready) << 8, "RESULT_LO": self.ready and self.ready[0] & 0xFFFFFFFF,
                "RESULT_HI": self.ready and self.ready[0] >> 32}[name]

    def _written(self, operation):
        if operation.address == self.map["QUEUE"].offset and operation.words[0] >> 16:
            self.ready.pop(0)
            if not self.ready:
                self.ready, self.results = self.results, []

    def read(self, address, count=1):
        return [self._word(address + 4 * i) for i in range(count)]

    def write(self, address, *words):
        pass


def result(token=0, entry=0, error=0, none=0, last=1):
    return token | entry << 32 | error << 48 | none << 62 | last << 63


def linked(*results, **changes):
    return RegisterLink(Registers(results, **changes), DESIGN, AXI, MODEL, patience=0.05)


def test_results_of_a_pass():
    assert linked(result(7, 0, last=0), result(9, 1)).run_pass([Entry(0, 0, 1), Entry(0, 1, 2)]).tokens == {0: 7, 1: 9}


def test_a_pass_of_too_many_entries():
    """Rows are those of the entries that were let in, whatever the one answer for all others is."""
    found = linked(result(error=ErrorCode.TOO_MANY_ENTRIES, none=1, last=0),
                   result(7, 1)).run_pass([Entry(0, i, 1, i == 1) for i in range(5)])
    assert found.tokens == {1: 7} and [len(rows) for rows in found.signatures] == [DESIGN.hw.entries] * DESIGN.layers
    assert {index: error.code for index, error in found.errors.items()} == dict.fromkeys((2, 3, 4),
                                                                                         ErrorCode.TOO_MANY_ENTRIES)


@pytest.mark.parametrize("bad, words", [
    (result(token=37), "token 37, which must be below 37"), (result(token=2**32 - 1), "token 4294967295"),
    (result(entry=1), "entry 1, which must be below 1"),
    (result(error=len(ErrorCode)), f"error {len(ErrorCode)}, which must be below {len(ErrorCode)}"),
    (result(none=1, error=255), "error 255")])
def test_results_that_no_machine_gives_are_refused(bad, words):
    with pytest.raises(LinkError, match=f"The machine gave a result with {words}"):
        linked(bad).run_pass([Entry(0, 0, 1)])
    with pytest.raises(LinkError, match=f"The machine gave a result with {words}"):
        list(linked(bad).follow([Entry(0, 0, 1)], 3))


def test_a_code_that_no_machine_gives_is_refused():
    with pytest.raises(LinkError, match=f"code 200, which must be below {len(ErrorCode)}"):
        linked(KV_ANSWER=200 << 8).operate(2, 0)


def test_a_name_of_control_characters_is_shown_as_such():
    with pytest.raises(LinkError) as caught:
        linked(NAME0=0x1B0A1B0A)
    assert str(caught.value).isprintable() and r"'\n\x1b\n\x1b" in str(caught.value)
