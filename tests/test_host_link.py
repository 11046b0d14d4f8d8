"""Forks, truncations and refusals as a host sees them, on the golden model."""
from dataclasses import replace

import pytest

from hwgen.host.driver import CheckedLink
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry, EntryError, KvError, LinkError
from hwgen.host.links.verilated import TraceError, VerilatedLink
from hwgen.params.errors import ErrorCode
from sim.designs import small_design
from sim.passes import random_model

DESIGN = small_design(entries=3, slots=3, context=12, kv_block=4, kv_blocks=5)
TEXT = [3, 14, 15, 9, 26, 5, 35]


@pytest.fixture
def link():
    return GoldenLink(DESIGN, random_model(DESIGN))


def prefill(link, slot, tokens, start=0):
    """The signatures of a text's tokens, one a pass."""
    return [link.run_pass([Entry(slot, start + i, token)]).check().signatures for i, token in enumerate(tokens)]


def test_a_fork_goes_on_like_the_text_itself(link):
    expected = prefill(link, 0, TEXT)
    link.fork(0, 2, 5)
    prefill(link, 0, [1, 2], start=7)
    assert prefill(link, 2, TEXT[5:], start=5) == expected[5:]


def test_a_truncated_slot_forgets(link):
    expected = prefill(link, 0, TEXT)
    link.truncate(0, 2)
    prefill(link, 0, [1, 2, 4], start=2)
    link.truncate(0, 2)
    assert prefill(link, 0, TEXT[2:], start=2) == expected[2:]
    link.free(0)
    assert prefill(link, 0, TEXT) == expected


def test_a_refused_entry_harms_no_other(link):
    alone = link.run_pass([Entry(1, 0, 7, True)])
    link.free(1)
    result = link.run_pass([Entry(0, 4, 7, True), Entry(1, 0, 7, True), Entry(2, 0, 36 + 1, True)])
    assert result.tokens == {1: alone.tokens[0]} and result.signatures == alone.signatures
    assert {i: error.code for i, error in result.errors.items()} == {0: ErrorCode.POSITION, 2: ErrorCode.TOKEN}
    with pytest.raises(EntryError, match=r"Entry 0 \(slot 0, position 4, token 7\) was refused: the position must be "
                                         r"the slot's length"):
        result.check()


def test_a_pass_of_nothing(link):
    with pytest.raises(EntryError, match="Pass was refused: a pass must have at least one entry"):
        link.run_pass([]).check()


def test_a_link_that_knows_no_counters(link):
    class Silent(GoldenLink):
        def run_pass(self, entries):
            return replace(super().run_pass(entries), counters={})

    with CheckedLink(Silent(DESIGN, random_model(DESIGN)), link) as checked:
        assert not checked.run_pass([Entry(0, 0, 3, True)]).counters


def test_refused_operations(link):
    prefill(link, 0, TEXT)
    with pytest.raises(KvError, match="Fork of slot 0 to slot 0 with 3 positions was refused: a fork must go to "
                                      "another slot") as caught:
        link.fork(0, 0, 3)
    assert caught.value.code == ErrorCode.OTHER
    with pytest.raises(KvError,
                       match="Truncate of slot 0 to 8 positions was refused: the length must be at most the slot's"):
        link.truncate(0, 8)
    link.fork(0, 1, 1)
    with pytest.raises(KvError, match="must go to an empty slot"):
        link.fork(0, 1, 1)


@pytest.mark.parametrize("entry, complaint", [((4, 0, 0), "Slot must be 0 to 2, not 4"),
                                              ((0, 16, 0), "Position must be 0 to 11, not 16"),
                                              ((0, 0, 64), "Token must be 0 to 36, not 64"), ((0, 0, -1), "not -1")])
def test_what_does_not_fit_the_ports(link, entry, complaint):
    with pytest.raises(ValueError, match=complaint):
        link.run_pass([Entry(*entry)])


def test_a_waveform_that_cannot_be_written(tmp_path):
    """A simulator that says so, and ends, when it is asked for a pass, or at the end."""
    for script, ask in (("read x; echo {}; read x; echo 'CHECK failed: abort' >&2; echo 'No space left on device' "
                         ">&2; exit 3", True),
                        ("read x; echo {}; read x; echo 'No space left on device' >&2; exit 3", True),
                        ("read x; echo {}; read x; echo 'No space left on device' >&2; exit 3", False)):
        (tmp_path / "model").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "model").chmod(0o700)
        with pytest.raises(TraceError, match="The waveform cannot be written: No space left on device"):
            with VerilatedLink(DESIGN, tmp_path / "model", trace=tmp_path / "x.vcd") as link:
                if ask:
                    link.reset()


def test_a_simulator_that_may_not_be_executed(tmp_path):
    (tmp_path / "model").touch(mode=0o600)
    with pytest.raises(LinkError, match="model: Permission denied .may programs be executed there"):
        VerilatedLink(DESIGN, tmp_path / "model")
