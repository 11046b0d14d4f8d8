"""The host's end of the registers against a machine that answers what no machine of hwgen does."""

import pytest

from hwgen.host.links.link import Entry, LinkError
from hwgen.host.links.register_link import RegisterLink
from hwgen.params.errors import ErrorCode
from tests.register_model import AXI, DESIGN, MODEL, Registers


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
