"""Twin of `hwgen.units.admission`: which entries of a pass are admitted, how the others are answered, and when."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..params.design import Design
from ..params.errors import ErrorCode
from .kv_cache import KvBlocks, look_up

__all__ = ["LATENCY", "RESULT_LATENCY", "Admitted", "Answer", "admit_pass", "closed_cycle"]

#: Cycles from the acceptance of an entry to that in which it is refused for itself; or else the KV memory is asked,
#: whose answer counts in the next.
LATENCY = 1

#: Cycles from the sequencer's offer of a result to that at ``outcome``: a register.
RESULT_LATENCY = 1


class Answer(NamedTuple):
    """A refusal as it leaves at ``outcome``: its cycle, the entry's index (None: of no entry), the code, and whether it
    ends the pass."""
    cycle: int
    entry: int | None
    error: ErrorCode
    last: bool


@dataclass
class Admitted:
    """The outcome of a pass's entries; cycle 0 accepts the first entry, and the host never stalls.

    rows      indices of the entries that were let in, in the order of their rows in the machine
    closed    cycle in which the sequencer takes the end of the pass; without rows there is no pass
    answers   list of `Answer`
    errors    {index: code} of all that were refused; None for an empty pass
    """
    rows: list[int]
    closed: int
    answers: list[Answer]
    errors: dict[int | None, ErrorCode]


def closed_cycle(design: Design, n: int) -> int:
    """The cycle in which the sequencer takes the end of a pass of n entries that are all right, and for which no block
    is looked at."""
    return LATENCY - 1 + n * (2 + look_up(design))


def admit_pass(design: Design, blocks: KvBlocks, entries: Sequence[tuple[int, ...]]) -> Admitted:
    """Entries (slot, position, token, ...), the final one closing the pass, against `KvBlocks`, which follows. Returns
    `Admitted`.

    An entry is refused for itself `LATENCY` cycles after its acceptance, if the one before it was let in or refused by
    then: the machine holds one more meanwhile.
    """
    errors: dict[int | None, ErrorCode] = {}
    rows, answers, cycle = [], [], LATENCY - 1
    for index, (slot, position, token, *_) in enumerate(entries):
        error, extra = _refusal(design, index, slot, position, token), 0
        if not error:
            error, extra = blocks.admit(slot, position)
            extra += 1
        cycle += 1 + extra
        final = index == len(entries) - 1 and not rows
        if not error:
            rows.append(index)
            continue
        errors[index] = error
        if error != ErrorCode.TOO_MANY_ENTRIES:
            answers.append(Answer(cycle + 1, index, error, final))
        elif index == design.hw.entries:                         # one answer for all of them
            answers.append(Answer(cycle + 1, None, error, final))
        elif final:
            answers.append(Answer(cycle + 1, None, ErrorCode.OK, True))
    if not entries:
        cycle += 1
        errors[None] = ErrorCode.EMPTY_PASS
        answers.append(Answer(cycle + 1, None, ErrorCode.EMPTY_PASS, True))
    return Admitted(rows=rows, closed=cycle, answers=answers, errors=errors)


def _refusal(design: Design, index: int, slot: int, position: int, token: int) -> ErrorCode:
    """What is wrong with an entry by itself, in the order in which the machine looks."""
    if index >= design.hw.entries:
        return ErrorCode.TOO_MANY_ENTRIES
    if slot >= design.hw.slots:
        return ErrorCode.SLOT
    if token >= design.model.vocab_size:
        return ErrorCode.TOKEN
    if position >= design.hw.context:
        return ErrorCode.CONTEXT
    return ErrorCode.OK
