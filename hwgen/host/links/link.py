"""What every link to a decoder speaks: passes in, results out, whether it is simulated, emulated or on a board."""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, cast

import numpy as np

from ...models.adapter_codes import QuantizedAdapter, pack_adapter
from ...params.checks import one_line
from ...params.design import Design
from ...params.errors import MEANINGS, ErrorCode, KvOp

__all__ = ["EccState", "Entry", "EntryError", "KvAnswer", "KvError", "Link", "LinkError", "PassResult", "check_fits",
           "check_loaded", "checked_adapter",
           "entry_errors", "noise_key", "refusals"]


class LinkError(Exception):
    """The other side failed; the message is one line."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(str(message)))


class EntryError(LinkError):
    """The machine refused an entry of a pass, and ran the others.

    Attributes
    ----------
    index : int             of the entry in the pass (None: the pass had none)
    entry : Entry
    code : ErrorCode
    """

    def __init__(self, index: int | None, entry: "Entry | None", code: int) -> None:
        self.index, self.entry, self.code = index, entry, ErrorCode(code)
        what = ("Pass" if entry is None else
                f"Entry {index} (slot {entry.slot}, position {entry.position}, token {entry.token})")
        super().__init__(f"{what} was refused: {MEANINGS[self.code]}")


class KvError(LinkError):
    """The machine refused an operation on the KV memory, which stays as it was.

    Attributes
    ----------
    op : KvOp
    slot, other, length : int
    code : ErrorCode
    """

    def __init__(self, op: int, slot: int, other: int, length: int, code: int) -> None:
        self.op, self.slot, self.other, self.length, self.code = KvOp(op), slot, other, length, ErrorCode(code)
        to = {KvOp.FORK: f" to slot {other} with {length} positions", KvOp.TRUNCATE: f" to {length} positions",
              KvOp.FREE: ""}[self.op]
        super().__init__(f"{self.op.name.capitalize()} of slot {slot}{to} was refused: {MEANINGS[self.code]}")


class KvAnswer(NamedTuple):
    """An operation's code, and the cycles from its acceptance to the answer (None: unknown)."""
    error: ErrorCode
    cycles: int | None = None


def noise_key(seed: int, position: int) -> int:
    """Key of the sampler's noise at a position of a text: by its seed and nothing else, so neither slot nor batch
    changes a token.

    32 bits. Seeds below 2**14 with positions below 2**17 have keys of their own (Weyl's sequence: multiples of the
    golden ratio).
    """
    return (seed * 0x9E3779B9 + position) % 2**32


class EccState(NamedTuple):
    """What error correction of the KV memory saw since reset.

    corrected   rows read in which an error was corrected
    failed      rows read in which one could not be
    fault       (slot, position) of the first of those, or None
    """
    corrected: int
    failed: int
    fault: tuple | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of a pass. ``key`` makes the noise of its token where one is sampled; without it, slot and position do.
    ``adapter``: 0, or the number of a loaded one."""
    slot: int
    position: int
    token: int
    want: bool = False
    key: int = cast(int, None)      # __post_init__ puts one there
    adapter: int = 0

    def __post_init__(self) -> None:
        if self.key is None:
            object.__setattr__(self, "key", noise_key(self.slot, self.position))


@dataclass
class PassResult:
    """What a pass gave.

    tokens            {entry index: token} of the entries that wanted output
    signatures        [layers][rows] CRC-32 of the residual after each layer; rows are the entries that were not
                      refused, in order
    phases            [(cycle, phase, layer)]: when each phase began; cycle 0 accepts the first entry
    outcome_cycles    cycle of each outcome
    cycles            cycle of the last outcome
    counters          {event: cycles}; a link that cannot know an event leaves it out
    errors            {entry index: EntryError} of the entries that were refused; {None: EntryError} for a pass without
                      entries
    A link that cannot know a field leaves it None.
    """
    tokens: dict
    signatures: list | None
    phases: list | None = None
    outcome_cycles: list | None = None
    cycles: int | None = None
    counters: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)

    def check(self) -> Self:
        """Raise the first of the errors; else return the result itself."""
        for error in self.errors.values():
            raise error
        return self


def entry_errors(entries: Sequence[Entry], codes: Mapping[int | None, int]) -> dict[int | None, EntryError]:
    """{index: code} -> {index: EntryError}, in the order of the entries."""
    return {i: EntryError(i, None if i is None else entries[i], code)
            for i, code in sorted(codes.items(), key=lambda item: item[0] or 0)}


def check_fits(design: Design, entries: Sequence[Entry] = (), *, slots: Iterable[int] = (), length: int = 0) -> None:
    """ValueError for a number that the machine's ports have no bits for, so that it could not even be refused there."""
    hw = design.hw
    for noun, largest, values in (
            ("Slot", hw.slots - 1, [*(e.slot for e in entries), *slots]),
            ("Position", hw.context - 1, [e.position for e in entries]),
            ("Token", design.model.vocab_size - 1, [e.token for e in entries]),
            ("Length", hw.context, [length]),
            ("Adapter", hw.adapters, [e.adapter for e in entries])):
        for value in values:
            if not 0 <= value < 1 << largest.bit_length():
                raise ValueError(f"{noun} must be 0 to {largest}, not {value}")


def check_loaded(entries: Iterable[Entry], loaded: set[int]) -> None:
    """LinkError for an entry with an adapter that is not among those loaded: the machine would take what its memory
    holds."""
    if missing := {e.adapter for e in entries} - loaded - {0}:
        raise LinkError(f"Adapter must be one that is loaded, not {min(missing)}")


def checked_adapter(design: Design, number: int, quantized: QuantizedAdapter) -> np.ndarray:
    """The beats of a `QuantizedAdapter` for a machine that has that number. ValueError if it has not."""
    if not 1 <= number <= design.hw.adapters:
        raise ValueError(f"Adapter must be 1 to {design.hw.adapters}, not {number}" if design.hw.adapters
                         else "Shape must have room for adapters: add adapters=1")
    return pack_adapter(quantized, design)


def refusals(design: Design, entries: Sequence[Entry],
             codes: Iterable[tuple[int | None, int]]) -> dict[int | None, EntryError]:
    """{index: EntryError} from what a machine says: pairs of an entry's number (None: of no entry) and a code. It has
    one for all that are too many."""
    found = {}
    for index, code in codes:
        if code == ErrorCode.TOO_MANY_ENTRIES:
            found |= dict.fromkeys(range(design.hw.entries, len(entries)), code)
        elif code:
            found[index] = code
    return entry_errors(entries, found)


class Link:
    """A decoder that takes passes. Use as a context manager, or close()."""

    design: Any = None

    def run_pass(self, entries: Sequence[Entry]) -> PassResult:
        """Run at most ``design.hw.entries`` entries as one pass: list of Entry -> PassResult.

        An entry's position must be its slot's length. Those that are refused are in ``PassResult.errors``, and the
        others run.
        """
        raise NotImplementedError

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> KvAnswer:
        """An operation of `KvOp` between two passes -> KvAnswer."""
        raise NotImplementedError

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        """Make a `QuantizedAdapter` the one of a number, 1 to ``design.hw.adapters``, between two passes."""
        raise LinkError("Link must be golden to load an adapter: others do not do it yet")

    def ecc(self) -> EccState:
        """`EccState` of a design with ``kv_ecc``."""
        raise NotImplementedError

    def fork(self, slot: int, other: int, length: int) -> None:
        """Make the empty slot ``other`` a copy of the first ``length`` positions of ``slot``. Raises KvError."""
        self._operate(KvOp.FORK, slot, other, length)

    def truncate(self, slot: int, length: int) -> None:
        """Keep only the first ``length`` positions of a slot. Raises KvError."""
        self._operate(KvOp.TRUNCATE, slot, 0, length)

    def free(self, slot: int) -> None:
        """Empty a slot; an empty one stays so. Raises KvError."""
        self._operate(KvOp.FREE, slot, 0, 0)

    def _operate(self, op, slot, other, length):
        answer = self.operate(op, slot, other, length)
        if answer.error:
            raise KvError(op, slot, other, length, answer.error)

    def configure(self, inv_temperature: int, seed: int) -> None:
        """Temperature and seed of the passes that follow; 0 is greedy."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget everything but the weights."""
        raise NotImplementedError

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
