"""Bits of the KV memory that have flipped between an earlier pass and this one."""
from collections.abc import Iterator

import numpy as np

from ...lib.layouts import EXP_BITS
from ..diagnosis.faults import KvFault
from .broken import flipped_exponent
from .case import Case, Suspect, batches

__all__ = ["probe_kv_memory"]

_MEMORIES = ("k_codes", "k_exps", "v_codes", "v_exps")


def probe_kv_memory(case: Case) -> Iterator[Suspect]:
    """Every bit of the rows that earlier passes have written."""
    if case.design.hw.kv_ecc:           # a wrong bit is corrected
        return
    rows = _Rows(case)
    for which, memory in enumerate(_MEMORIES):
        for bit in range(EXP_BITS if memory.endswith("exps") else 8):
            yield from rows.flips(which, bit)


class _Rows:
    """What the layer reads of the KV memory, [p + 1, kv_heads, ...] each, and what attention makes of it for each K/V
    head's group."""

    def __init__(self, case: Case):
        design, block, stages = case.design, case.design.block, case.stages
        codes, exps = stages.stored
        keys, values, queries = map(design.heads_of, (block.keys, block.values, block.queries))
        self.case, self.kv_heads, self.head = case, design.kv_heads, design.padded_head_dim
        self.stored = [codes[:, keys], exps[:, keys], codes[:, values], exps[:, values]]        # as _MEMORIES
        self.q = codes[-1, queries].reshape(self.kv_heads, design.group, -1)
        self.q_exp = exps[-1, queries].reshape(self.kv_heads, -1)
        self.before = stages.inputs[block.from_heads.name].reshape(self.kv_heads, -1)

    def flips(self, which: int, bit: int) -> Iterator[Suspect]:
        """That bit of each word of the which-th memory."""
        case, is_exps = self.case, _MEMORIES[which].endswith("exps")
        shape = (case.old, self.kv_heads) if is_exps else (case.old, self.kv_heads, self.head)
        at, head, *element = np.indices(shape).reshape(len(shape), -1)
        case.tried += len(at)
        for part in batches(len(at), len(case.x) * self.head):
            p, h, *e = (indices[part] for indices in (at, head, *element))
            out = self._attended(which, bit, p, h, e)
            felt = np.flatnonzero((out != self.before[h]).any(axis=1))
            values = np.repeat(self.before[None], len(felt), axis=0)
            values[np.arange(len(felt)), h[felt]] = out[felt]
            for hit in case.hits(case.stages.after_attention(values.reshape(len(felt), -1))):
                i = felt[hit]
                yield _suspect(case, _MEMORIES[which], int(p[i]), int(h[i]), int(e[0][i]) if e else None, bit)

    def _attended(self, which: int, bit: int, p: np.ndarray, h: np.ndarray, e: list[np.ndarray]) -> np.ndarray:
        """Results of attention of the groups of K/V heads h[n], each with one bit wrong at position p[n] (and element
        e[n] of a code)."""
        rows = [values[:, h].copy() for values in self.stored]
        here = (p, np.arange(len(p)), *e)
        rows[which][here] = rows[which][here] ^ 1 << bit if e else flipped_exponent(rows[which][here], bit)
        k, k_exp, v, v_exp = rows
        q, q_exp = self.q[h].reshape(-1, self.head), self.q_exp[h].reshape(-1)
        return self.case.stages.weighted(k, k_exp, v, v_exp, q, q_exp).reshape(len(p), -1)


def _suspect(case: Case, memory: str, position: int, head: int, element: int | None, bit: int) -> Suspect:
    design, hw = case.design, case.design.hw
    block, offset = divmod(position, hw.kv_block)
    if hw.paged:
        block = case.blocks.tables[case.slot][block]
    fault = KvFault.at(design, memory, case.index, head, block, offset, element, bit)

    def alter(decoder):
        array = getattr(decoder.kv, memory.replace("exps", "exp"))
        at = (case.index, case.slot, position, head) + (() if element is None else (element,))
        array[at] = flipped_exponent(array[at], bit) if element is None else array[at] ^ 1 << bit
    unit = "kv_port" if hw.kv_port else "kv_cache"
    return Suspect(fault, unit, f"{fault.where(design)} (slot {case.slot}, position {position})", alter)
