"""Which entries of a pass are let in, and what the others are told."""
import pytest

from hwgen.golden.admission import LATENCY, admit_pass, closed_cycle
from hwgen.golden.kv_cache import KvBlocks, copy_words
from hwgen.params.errors import ErrorCode as E
from hwgen.params.errors import KvOp
from sim.designs import small_design

DESIGN = small_design(entries=3, slots=3, context=12, kv_block=4, kv_blocks=4, vocab_size=37)


def admit(*entries, blocks=None, design=DESIGN):
    return admit_pass(design, blocks or KvBlocks(design), [(*e, 5)[:3] for e in entries])


def test_good_entries():
    a = admit((0, 0), (0, 1), (1, 0))
    assert (a.rows, a.closed, a.answers, a.errors) == ([0, 1, 2], closed_cycle(DESIGN, 3), [],
                                                       {}) and a.closed == LATENCY + 2 + 3 + 3


def test_a_single_slot_has_its_length_at_hand():
    design = small_design(entries=3, slots=1, context=12)
    assert admit((0, 0), (0, 1), design=design).closed == closed_cycle(design, 2) == LATENCY + 1 + 2


@pytest.mark.parametrize("entry, error", [((3, 0), E.SLOT), ((0, 0, 37), E.TOKEN), ((0, 12), E.CONTEXT),
                                          ((0, 2), E.POSITION),
                                          ((0, 0), E.POSITION)])
def test_a_bad_entry_among_good_ones(entry, error):
    a = admit((0, 0), entry, (1, 0))
    assert a.rows == [0, 2] and a.errors == {1: error}
    assert [(x.entry, x.error, x.last) for x in a.answers] == [(1, error, False)]


def test_what_follows_a_refused_entry_has_a_gap():
    blocks = KvBlocks(DESIGN)
    for slot, length in ((0, 12), (1, 4)):
        for position in range(length):
            blocks.admit(slot, position)
    assert admit((1, 4), (1, 5), (0, 0), blocks=blocks).errors == {0: E.NO_BLOCK, 1: E.POSITION, 2: E.CONTEXT}


def test_only_bad_entries():
    a = admit((0, 3), (1, 3))
    assert a.rows == [] and [(x.entry, x.last) for x in a.answers] == [(0, False), (1, True)]


def test_too_many():
    a = admit(*((0, p) for p in range(5)))
    assert a.rows == [0, 1, 2] and a.errors == {3: E.TOO_MANY_ENTRIES, 4: E.TOO_MANY_ENTRIES}
    assert [(x.entry, x.error, x.last) for x in a.answers] == [(None, E.TOO_MANY_ENTRIES, False)]
    assert admit((3, 0), (3, 0), (3, 0), (0, 0)).answers[-1][1:] == (None, E.TOO_MANY_ENTRIES, True)
    assert admit((3, 0), (3, 0), (3, 0), (0, 0), (0, 0)).answers[-1][1:] == (None, E.OK, True)


def test_an_empty_pass():
    a = admit()
    assert (a.rows, a.errors) == ([], {None: E.EMPTY_PASS}) and a.answers == [(LATENCY + 1, None, E.EMPTY_PASS, True)]


def test_a_copy_takes_its_time():
    blocks = KvBlocks(DESIGN)
    for position in range(3):
        blocks.admit(0, position)
    blocks.operate(KvOp.FORK, 0, 1, 3)
    a = admit((1, 3), (0, 3), blocks=blocks)
    assert a.rows == [0, 1] and a.closed == closed_cycle(DESIGN, 2) + (1 + copy_words(DESIGN, 3)) + 1
