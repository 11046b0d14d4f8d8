import copy
import dataclasses
import random

import numpy as np
import pytest

from hwgen.golden.kv_cache import KvBlocks, copy_words, kv_arrays, kv_write, kv_write_cycles
from hwgen.params.errors import ErrorCode, KvOp
from sim.designs import small_design


def test_rows_are_where_they_were_written():
    design = small_design(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, slots=2, context=5)
    cache, rng, expected = kv_arrays(design), np.random.default_rng(0), {}
    places = [(layer, slot, position) for layer in range(3) for slot in range(2) for position in range(5)]
    for at in rng.permutation(places):
        entry = [rng.integers(0, 256, (2, 8)), rng.integers(-512, 512, 2), rng.integers(0, 256, (2, 8)),
                 rng.integers(-512, 512, 2)]
        kv_write(cache, *at, *entry)
        expected[tuple(at)] = entry
    for layer, slot, position in places:
        rows = cache.slot(layer, slot, position + 1)
        assert all(len(part) == position + 1 and np.array_equal(part[position], want)
                   for part, want in zip(rows, expected[layer, slot, position]))


def test_several_entries_at_once():
    design = small_design(slots=2)
    one, all_at_once, rng = kv_arrays(design), kv_arrays(design), np.random.default_rng(0)
    slots, positions = [1, 0, 1], [4, 2, 5]
    entries = [rng.integers(0, 128, shape) for shape in ((3, 1, 8), (3, 1), (3, 1, 8), (3, 1))]
    kv_write(all_at_once, 1, slots, positions, *entries)
    for i, at in enumerate(zip(slots, positions)):
        kv_write(one, 1, *at, *(part[i] for part in entries))
    assert all(np.array_equal(a, b) for a, b in zip(one, all_at_once))


def test_cycles_grow_with_the_words():
    design = small_design(num_attention_heads=4, num_key_value_heads=2, head_dim=16)      # 2 K + 2 V heads of 2 words
    assert kv_write_cycles(design, 5) - kv_write_cycles(design, 4) == 8


# Who owns the blocks

def paged(**changes):
    return small_design(**{"slots": 3, "context": 12, "kv_block": 4, **changes})


def fill(blocks, slot, count):
    return [blocks.admit(slot, blocks.lengths[slot])[0] for _ in range(count)]


def test_blocks_come_as_they_are_needed():
    blocks = KvBlocks(paged(kv_blocks=4))
    assert fill(blocks, 0, 5) + fill(blocks, 1, 1) == [0] * 6
    assert (blocks.lengths, blocks.tables, blocks.free_blocks) == ([5, 1, 0], [[0, 1], [2], []], 1)
    blocks.check()


def test_freed_blocks_come_again_in_order():
    blocks = KvBlocks(paged(kv_blocks=4))
    fill(blocks, 0, 12)
    assert blocks.operate(KvOp.TRUNCATE, 0, length=3) == (ErrorCode.OK, 5)
    fill(blocks, 1, 12)
    assert blocks.tables == [[0], [1, 2, 3], []]
    assert blocks.admit(2, 0) == (ErrorCode.NO_BLOCK, 1) and blocks.lengths[2] == 0
    blocks.check()


def test_a_fork_shares_and_copies_when_it_writes():
    design = paged()
    blocks = KvBlocks(design)
    fill(blocks, 0, 6)
    assert blocks.operate(KvOp.FORK, 0, 2, 6) == (ErrorCode.OK, 5)
    assert blocks.tables == [[0, 1], [], [0, 1]] and blocks.owners[:2] == [2, 2]
    words = copy_words(design, 2)
    assert words == design.layers * design.kv_heads * 2 and blocks.admit(2, 6) == (ErrorCode.OK, 2 + words)
    assert blocks.tables == [[0, 1], [], [0, 2]] and blocks.owners[:3] == [2, 1, 1]
    assert blocks.admit(0, 6) == (ErrorCode.OK, 2)             # the other one has left it
    assert blocks.admit(0, 7) == blocks.admit(2, 7) == (ErrorCode.OK, 1)
    blocks.check()


def test_a_fork_in_the_middle_of_a_block_copies_only_what_it_has():
    design = paged()
    blocks = KvBlocks(design)
    fill(blocks, 0, 8)
    blocks.operate(KvOp.FORK, 0, 1, 5)
    assert blocks.tables[1] == [0, 1] and blocks.admit(1, 5) == (ErrorCode.OK, 2 + copy_words(design, 1))
    assert blocks.admit(0, 8) == (ErrorCode.OK, 1)             # its next position has a block of its own
    blocks.check()


def test_no_block_for_a_copy():
    blocks = KvBlocks(paged(kv_blocks=1))
    fill(blocks, 0, 2)
    blocks.operate(KvOp.FORK, 0, 1, 2)
    assert blocks.admit(1, 2) == (ErrorCode.NO_BLOCK, 2)
    blocks.operate(KvOp.FREE, 0)
    assert blocks.admit(1, 2) == (ErrorCode.OK, 2) and blocks.tables == [[], [0], []]
    blocks.check()


@pytest.mark.parametrize("operation, error", [
    ((3, 0), ErrorCode.OPERATION), ((KvOp.FORK, 0, 0, 1), ErrorCode.OTHER), ((KvOp.FORK, 0, 3, 1), ErrorCode.OTHER),
    ((KvOp.FORK, 3, 1, 1), ErrorCode.SLOT), ((KvOp.FREE, 3), ErrorCode.SLOT), ((KvOp.FORK, 0, 2, 6), ErrorCode.LENGTH),
    ((KvOp.FORK, 0, 1, 5), ErrorCode.OCCUPIED), ((KvOp.TRUNCATE, 0, 0, 6), ErrorCode.LENGTH),
    ((KvOp.FREE, 2), ErrorCode.OK)])
def test_refused_operations_change_nothing(operation, error):
    blocks = KvBlocks(paged())
    fill(blocks, 0, 5)
    fill(blocks, 1, 1)
    before = copy.deepcopy(vars(blocks))
    assert blocks.operate(*operation) == (error, 2 if error in (ErrorCode.OPERATION, ErrorCode.SLOT) else 3)
    assert vars(blocks) == before


def test_full_and_gaps():
    blocks = KvBlocks(paged())
    assert blocks.admit(0, 1)[0] == ErrorCode.POSITION
    fill(blocks, 0, 12)
    assert blocks.admit(0, 3)[0] == ErrorCode.CONTEXT


def test_one_slot_has_no_blocks_to_share():
    blocks = KvBlocks(paged(slots=1))
    assert fill(blocks, 0, 12) == [0] * 12 and blocks.tables == [[]]
    assert blocks.operate(KvOp.TRUNCATE, 0, length=3) == (ErrorCode.OK, 2) and blocks.admit(0, 3) == (ErrorCode.OK, 0)
    assert blocks.operate(KvOp.FORK, 0, 0, 1)[0] == ErrorCode.OTHER


# Blocks behind a window

def windowed(window, **changes):
    return KvBlocks(paged(**{"slots": 2, "context": 40, "entries": 1, "sliding_window": window, **changes}))


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("window, entries", [(1, 1), (3, 1), (4, 1), (6, 1), (8, 1), (2, 3), (6, 3)])
def test_what_is_given_back(window, entries, size):
    """A block goes with the first position that is T - 1 behind one which sees nothing of it, and another may have it
    then."""
    blocks = windowed(window, entries=entries, kv_block=size)
    most = 0
    for position in range(40):
        before = blocks.tables[0].count(None)
        error, cycles = blocks.admit(0, position)
        unseen = [b for b in range(40 // size) if (b + 1) * size <= position - (entries - 1) - (window - 1)]
        assert [b for b, block in enumerate(blocks.tables[0]) if block is None] == unseen
        assert (error, cycles) == (ErrorCode.OK, 1 + 2 * (len(unseen) - before))
        blocks.check()
        most = max(most, len(set(blocks.tables[0]) - {None}))
        assert blocks._design.most_blocks(position + 1) == most


def test_a_text_longer_than_the_memory():
    """An entry may take the block that it gives back. A single slot has a block table then."""
    blocks = windowed(5, kv_blocks=2, slots=1)
    assert fill(blocks, 0, 40) == [ErrorCode.OK] * 40
    assert blocks.tables[0] == [None] * 8 + [0, 1] and not blocks.free_blocks
    assert fill(windowed(6, kv_blocks=2), 0, 9) == [ErrorCode.OK] * 8 + [ErrorCode.NO_BLOCK]        # position 8 sees 3


def test_forks_share_what_is_left():
    blocks = windowed(6)
    fill(blocks, 0, 19)
    assert blocks.tables[0][:3] == [None] * 3 and blocks.free_blocks == 18
    assert blocks.operate(KvOp.FORK, 0, 1, 18) == (ErrorCode.OK, 3 + 2) and blocks.tables[1] == blocks.tables[0]
    fill(blocks, 0, 8)
    assert blocks.free_blocks == 16                             # the other has what one has given back
    fill(blocks, 1, 9)
    assert blocks.free_blocks == 16 and blocks.tables[0][5:] != blocks.tables[1][5:]
    for slot in range(2):
        blocks.check()
        blocks.operate(KvOp.FREE, slot)
    assert blocks.free_blocks == 20


@pytest.mark.parametrize("operation, error", [
    ((KvOp.TRUNCATE, 0, 0, 17), ErrorCode.OK), ((KvOp.TRUNCATE, 0, 0, 16), ErrorCode.WINDOW),
    ((KvOp.TRUNCATE, 0, 0, 1), ErrorCode.WINDOW),
    ((KvOp.FORK, 0, 1, 17), ErrorCode.OK), ((KvOp.FORK, 0, 1, 16), ErrorCode.WINDOW),
    ((KvOp.TRUNCATE, 0, 0, 0), ErrorCode.OK),
    ((KvOp.FORK, 0, 1, 0), ErrorCode.OK)])
def test_going_back_to_what_is_left(operation, error):
    """Of 19 positions with a window of 6 those from 12 are left: what position 17 sees."""
    blocks = windowed(6)
    fill(blocks, 0, 19)
    before = copy.deepcopy(vars(blocks))
    assert blocks.operate(*operation)[0] == error
    blocks.check()
    assert not error or vars(blocks) == before
    slot = operation[2]
    fill(blocks, slot, 40 - blocks.lengths[slot])
    assert blocks.lengths[slot] == 40


def test_nothing_is_given_back():
    """Where a layer sees all, where there is one slot, and where no block can fall behind."""
    layers = [{"window": 3}, {}]
    for blocks in (windowed(None, layer_types=layers), windowed(3, slots=1), windowed(33, entries=5)):
        fill(blocks, 0, 40)
        assert blocks._design.positions_kept is None and None not in blocks.tables[0]


@pytest.mark.parametrize("seed", range(4))
def test_a_pass_finds_what_it_sees(seed):
    """All that the entries of a pass see is there when all are let in, and a slot can go back to where it was
    before."""
    rng = random.Random(seed)
    window, size = rng.randint(1, 9), rng.choice([1, 2, 4])
    blocks = windowed(window, entries=rng.choice([1, 3, 7]), slots=3, kv_block=size,
                      kv_blocks=rng.randint(20, 40) // size)
    given_back = 0
    for _ in range(300):
        starts, rows = list(blocks.lengths), []
        for _ in range(rng.randint(1, blocks._design.hw.entries)):
            slot = rng.randrange(3)
            if blocks.lengths[slot] < 40 and not blocks.admit(slot, blocks.lengths[slot])[0]:
                rows.append((slot, blocks.lengths[slot] - 1))
        for slot, position in rows:
            assert None not in {blocks.tables[slot][p // size]
                                for p in range(max(0, position - window + 1), position + 1)}
        given_back += sum(table.count(None) for table in blocks.tables)
        for slot, start in enumerate(starts):
            if rng.random() < 0.3:
                assert not blocks.operate(KvOp.TRUNCATE, slot, length=rng.randint(start, blocks.lengths[slot]))[0]
            if rng.random() < 0.02:
                blocks.operate(KvOp.FREE, slot)
        blocks.check()
    assert given_back


@pytest.mark.parametrize("seed", range(8))
def test_random_histories_lose_no_block(seed):
    """Against sets of who may read what: a position written by one slot is never seen by another, unless it was
    forked."""
    rng = random.Random(seed)
    design = paged(slots=4, context=rng.randint(1, 13), kv_block=rng.choice([1, 2, 4, 16]))
    if seed >= 4:
        design = paged(slots=4, context=25, kv_block=rng.choice([1, 2, 4]), entries=rng.choice([1, 3]),
                       sliding_window=rng.randint(1, 6))
    design = dataclasses.replace(design, hw=dataclasses.replace(design.hw,
                                                                kv_blocks=rng.randint(1,
                                                                                      4 * design.hw.blocks_per_slot)))
    blocks, content, texts, refused = KvBlocks(design), {}, [[] for _ in range(4)], set()
    size = design.hw.kv_block

    def has(slot):
        """The positions that a slot has: at least what its next one sees."""
        length = blocks.lengths[slot]
        return range(min(blocks.tables[slot].count(None) * size, max(0, length + 1 - design.rows_seen())), length)

    def seen(slot):
        return [content[blocks.tables[slot][p // size], p % size] for p in has(slot)]

    for step in range(600):
        slot, other = rng.randrange(4), rng.randrange(4)
        op, length = rng.choice(list(KvOp)), rng.randint(0, design.hw.context)
        if rng.random() < 0.8:
            p, before = blocks.lengths[slot], list(blocks.tables[slot])
            error, extra = blocks.admit(slot, p)
            if not error:
                if extra > 2:                                  # the copy
                    content |= {(blocks.tables[slot][-1], i): content[before[-1], i] for i in range(p % size)}
                content[blocks.tables[slot][-1], p % size] = step
                texts[slot].append(step)
        else:
            error, _ = blocks.operate(op, slot, other, length)
            if not error and op == KvOp.FORK:
                texts[other] = texts[slot][:length]
            elif not error:
                del texts[slot][length if op == KvOp.TRUNCATE else 0:]
        refused.add(error)
        blocks.check()
        assert [seen(s) for s in range(4)] == [[texts[s][p] for p in has(s)] for s in range(4)]
    assert ErrorCode.OK in refused and len(refused) > 2
    for slot in range(4):
        blocks.operate(KvOp.FREE, slot)
    assert blocks.free_blocks == design.hw.blocks and not any(blocks.owners)


@pytest.mark.parametrize("changes, complaint", [
    (dict(kv_blocks=10), "must be 1 to 9 .* or 0 for that, not 10"), (dict(kv_blocks=-1), "not -1"),
    (dict(slots=1, kv_blocks=2), "single slot must be at least what it has at once, 3, not 2"),
    (dict(kv_ecc=2), "True or False, not 2"),
    (dict(slots=1, kv_blocks=1, sliding_window=3, entries=2), "at once, 2, not 1"),
    (dict(kv_blocks=1.0), "integer, not 1.0")])
def test_wrong_shapes(changes, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        paged(**changes)
