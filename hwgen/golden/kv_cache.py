"""Twin of `hwgen.units.kv_cache`: the keys and values of all slots, the owners of their blocks, and all cycles."""
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..params.design import Design
from ..params.errors import ErrorCode, KvOp
from .kv_port import copy_cycles, write_cycles
from .vector_buffer import READ_LATENCY as HEAD_LATENCY

__all__ = ["READ_LATENCY", "KvBlocks", "KvRows", "copy_words", "kv_arrays", "kv_copy", "kv_write",
           "kv_settled", "kv_write_cycles", "look_up", "read_latency"]

#: Cycles from an accepted read request to its row, without error correction.
READ_LATENCY = 4


def look_up(design: Design) -> int:
    """Cycles until the blocks know a slot's length: none of a single slot's, whose blocks are in order."""
    return int(design.hw.paged)


def read_latency(design: Design) -> int:
    """Cycles from an accepted read request to its row."""
    return READ_LATENCY + design.hw.kv_ecc


class KvRows(NamedTuple):
    """FP8 codes and exponents, indexed [layer, slot, position, K/V head]."""
    k_codes: np.ndarray   # uint8 [layers, slots, context, kv_heads, head_dim]
    k_exp: np.ndarray     # int16 [layers, slots, context, kv_heads]
    v_codes: np.ndarray
    v_exp: np.ndarray

    def slot(self, layer: int, slot: int, length: int) -> "KvRows":
        """The first ``length`` positions of a slot in a layer, as views, for `golden.attention`."""
        return KvRows(*(array[layer, slot, :length] for array in self))


def kv_arrays(design: Design) -> KvRows:
    """Empty `KvRows` of a design. (The hardware's memory is not cleared: a slot's positions are written in order.)"""
    shape = design.layers, design.hw.slots, design.hw.context, design.kv_heads
    return KvRows(*(array for _ in range(2)
                    for array in (np.zeros((*shape, design.padded_head_dim), np.uint8), np.zeros(shape, np.int16))))


def kv_write(rows: KvRows, layer: int, slot: int | np.ndarray, position: int | np.ndarray, k_codes: np.ndarray,
             k_exp: np.ndarray, v_codes: np.ndarray, v_exp: np.ndarray) -> None:
    """One entry's heads [kv_heads, head_dim] and exponents [kv_heads]; arrays of slots and positions write several
    entries."""
    for array, value in zip(rows, (k_codes, k_exp, v_codes, v_exp)):
        array[layer, slot, position] = value


def kv_copy(rows: KvRows, slot: int, other: int, length: int) -> None:
    """The effect of a fork on the memory: ``other`` has the first ``length`` positions of ``slot``, in all layers."""
    for array in rows:
        array[:, other, :length] = array[:, slot, :length]


class KvBlocks:
    """Which blocks each slot owns. Nothing here knows what is in them: a fork means `kv_copy`, whatever the blocks.

    A slot of length n owns ceil(n / kv_block) blocks, in the order of its positions; slots may own a block together. A
    position is written only to a block of one owner: before a shared one is written its slot gets a copy. A block
    without owner is free. Freed blocks are taken again in the order in which they were freed, before those never used.

    Where all layers have a window, a slot gives back the blocks that it will not need again (`Design.given_back`): at
    most one as a position is admitted, before that takes a block. They stay given back whatever is truncated, and a
    fork has them neither.

    Attributes
    ----------
    lengths : list of int           positions of each slot
    tables : list of lists of int   blocks of each slot; None where one was given back
    owners : list of int            slots that own each block
    own : list of bool              known, without a look at ``owners``: the slot's last block is its alone
    """

    def __init__(self, design: Design) -> None:
        self._design = design
        hw = design.hw
        self.lengths, self.tables, self.own = [0] * hw.slots, [[] for _ in range(hw.slots)], [False] * hw.slots
        self.owners = [0] * hw.blocks
        self._freed, self._unused = [], 0

    @property
    def free_blocks(self) -> int:
        return len(self._freed) + self._design.hw.blocks - self._unused

    def _take(self) -> int:
        if self._freed:
            return self._freed.pop(0)
        self._unused += 1
        return self._unused - 1

    def admit(self, slot: int, position: int) -> tuple[ErrorCode, int]:
        """Make room for a slot's next position. Returns (`ErrorCode`, cycles more than the one in which it is asked
        for)."""
        hw = self._design.hw
        if position != self.lengths[slot]:
            return ErrorCode.CONTEXT if self.lengths[slot] == hw.context else ErrorCode.POSITION, look_up(self._design)
        extra, table, used = look_up(self._design), self.tables[slot], position % hw.kv_block
        if self._behind(slot) < self._design.given_back(position + 1):
            self._drop(table[self._behind(slot)])
            table[self._behind(slot)] = None
            extra += 2
        if hw.paged and not used:
            if not self.free_blocks:
                return ErrorCode.NO_BLOCK, extra
            table.append(self._take())
            self.owners[table[-1]] = 1
            self.own[slot] = True
        elif hw.paged and not self.own[slot]:
            extra += 1                                           # a look at the owners
            if self.owners[table[-1]] > 1:
                if not self.free_blocks:
                    return ErrorCode.NO_BLOCK, extra
                extra += copy_words(self._design, used)
                self.owners[table[-1]] -= 1
                table[-1] = self._take()
                self.owners[table[-1]] = 1
            self.own[slot] = True
        self.lengths[slot] += 1
        return ErrorCode.OK, extra

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> tuple[ErrorCode, int]:
        """An operation of `KvOp`. Returns (`ErrorCode`, cycles from its acceptance to its answer)."""
        hw = self._design.hw
        error, cycles = self.refusal(op, slot, other, length), 2 + look_up(self._design)
        if error:
            return error, 2 if error in (ErrorCode.OPERATION, ErrorCode.SLOT) else cycles
        blocks = -(-length // hw.kv_block)
        if op == KvOp.FORK:
            self.tables[other] = self.tables[slot][:blocks]
            shared = _owned(self.tables[other])
            for block in shared:
                self.owners[block] += 1
            if shared:
                self.own[slot] = self.own[other] = False
            self.lengths[other] = length
            return ErrorCode.OK, cycles + len(shared)
        length, blocks = (length, blocks) if op == KvOp.TRUNCATE else (0, 0)
        self.lengths[slot] = length
        dropped = _owned(self.tables[slot][blocks:])
        del self.tables[slot][blocks:]
        if dropped:
            self.own[slot] = False
        for block in dropped:
            self._drop(block)
        return ErrorCode.OK, cycles + len(dropped)

    def _behind(self, slot: int) -> int:
        """Blocks that a slot has given back."""
        return self.tables[slot].count(None)

    def _drop(self, block: int) -> None:
        """A block has an owner less."""
        self.owners[block] -= 1
        if not self.owners[block]:
            self._freed.append(block)

    def refusal(self, op: int, slot: int, other: int = 0, length: int = 0) -> ErrorCode:
        """The `ErrorCode` with which an operation would be answered."""
        if op not in list(KvOp):
            return ErrorCode.OPERATION
        if slot >= self._design.hw.slots:
            return ErrorCode.SLOT
        if op == KvOp.FORK and (other == slot or other >= self._design.hw.slots):
            return ErrorCode.OTHER
        if op != KvOp.FREE and length > self.lengths[slot]:
            return ErrorCode.LENGTH
        seen = max(0, length + 1 - self._design.rows_seen())        # first position that the next one sees
        if op != KvOp.FREE and length and seen < self._behind(slot) * self._design.hw.kv_block:
            return ErrorCode.WINDOW
        if op == KvOp.FORK and self.lengths[other]:
            return ErrorCode.OCCUPIED
        return ErrorCode.OK

    def check(self) -> None:
        """AssertionError unless each block is free once, or owned as often as tables name it; and tables are as long as
        they should be."""
        hw = self._design.hw
        named = [block for table in self.tables for block in _owned(table)]
        free = [*self._freed, *range(self._unused, hw.blocks)]
        assert self.owners == [named.count(block) for block in range(hw.blocks)]
        assert sorted({*named, *free}) == list(range(hw.blocks)) and len(set(named)) + len(free) == hw.blocks
        if hw.paged:
            assert [len(table) for table in self.tables] == [-(-length // hw.kv_block) for length in self.lengths]
            assert all(block is None for slot, table in enumerate(self.tables) for block in table[:self._behind(slot)])


def _owned(table: Iterable[int | None]) -> list[int]:
    return [block for block in table if block is not None]


def copy_words(design: Design, positions: int) -> int:
    """Cycles of a copy of a block's first ``positions``: one for each word of K, or for words that are read at once,
    and one of V at the same time. Of a memory outside `hwgen.golden.kv_port.copy_cycles`."""
    if design.hw.kv_port:
        return copy_cycles(design, positions)
    groups = -(-positions // design.hw.attention_rows)
    return design.layers * design.kv_heads * groups * (design.padded_head_dim // design.hw.attention_lanes)


def kv_write_cycles(design: Design, entries: int, *, read_latency: int = 2) -> int:
    """Cycle of `done` of `KvWriter`, from the accept of the first of ``entries`` commands that follow each other.

    A command's first request goes out in the cycle after it, and the next command is taken with the last request of
    this one. A slice that the buffer answers is taken in the same cycle, and is readable in the next. A memory outside
    takes them more slowly.
    """
    if design.hw.kv_port:
        return write_cycles(design, entries, 1 + HEAD_LATENCY).done
    requests = entries * 2 * design.kv_heads * (design.padded_head_dim // design.hw.attention_lanes)
    return requests + HEAD_LATENCY + 1


def kv_settled(design: Design, entries: int) -> int:
    """Cycles from the one after that of `kv_write_cycles` until what was written is in a memory outside."""
    if not design.hw.kv_port:
        return 0
    written = write_cycles(design, entries, 1 + HEAD_LATENCY)
    return written.settled - written.done - 1
