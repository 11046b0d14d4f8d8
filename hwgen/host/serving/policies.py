"""Who gets the entries of the next pass, and who gives way when the KV memory is full."""
import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from .scheduler import Sequence

__all__ = ["ORDERS", "Policy"]

#: Order -> key by which the running sequences are sorted (they come oldest first, and sorting is stable).
ORDERS = {
    "fcfs": lambda s: 0,
    "decode-first": lambda s: s.prefilling,
    "prefill-first": lambda s: not s.prefilling,
    "fair": lambda s: s.last_pass,
}


@dataclass(frozen=True)
class Policy:
    """How a scheduler fills passes.

    Parameters
    ----------
    order : str         fcfs: who came first; decode-first: nobody's next token waits for another's prompt;
                        prefill-first: first tokens come early; fair: who waited longest
    budget : int        most prompt tokens in a pass, of all sequences (None: as many as entries are free)
    chunk : int         most prompt tokens of one sequence in a pass (None: no limit)
    full : str          KV memory full: "recompute" frees the youngest's at once, to compute it again later; "keep" lets
                        whoever needs more wait with what it has, and frees only when nothing else can go on
    """
    order: str = "decode-first"
    budget: int | None = None
    chunk: int | None = None
    full: str = "recompute"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"Order must be one of {', '.join(ORDERS)}, not {self.order!r}")
        for noun, value in (("Budget", self.budget), ("Chunk", self.chunk)):
            if value is not None and value < 1:
                raise ValueError(f"{noun} must be at least 1 token, not {value}")
        if self.full not in ("recompute", "keep"):
            raise ValueError(f"Full must be recompute or keep, not {self.full!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``order,budget=8,chunk=4,full=keep``, in any order, all of them optional. ValueError with one line."""
        found: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            key, equals, value = part.partition("=")
            key, value = (key.strip(), value.strip()) if equals else ("order", part)
            if key not in cls.__dataclass_fields__ or key in found:
                raise ValueError(f"Policy must be an order ({', '.join(ORDERS)}), budget=N, chunk=N, full=recompute "
                                 f"or full=keep, each once, not {part!r}")
            if key in ("budget", "chunk"):
                if not re.fullmatch("[0-9]{1,10}", value):
                    raise ValueError(f"Policy's {key} must be an integer of up to 10 digits, not {value[:20]!r}")
                found[key] = int(value)
            else:
                found[key] = value
        return cls(**found)

    def __str__(self):
        default = type(self)()
        return ",".join([self.order, *(f"{field.name}={getattr(self, field.name)}"
                                       for field in dataclasses.fields(self)[1:]
                                       if getattr(self, field.name) != getattr(default, field.name))])

    def plan(self, sequences: Iterable["Sequence"], entries: int) -> list[tuple["Sequence", int]]:
        """[(sequence, tokens)] of the next pass: ``sequences`` oldest first, each with ``wanted`` tokens to run, at
        most ``entries`` in all."""
        plan, budget = [], entries if self.budget is None else self.budget
        for sequence in sorted(sequences, key=ORDERS[self.order]):
            count = min(sequence.wanted, entries)
            if sequence.prefilling:
                count = min(count, budget, count if self.chunk is None else self.chunk)
                budget -= count
            if count:
                plan.append((sequence, count))
                entries -= count
        return plan
