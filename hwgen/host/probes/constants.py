"""Wrong bits of the tables of constants: a unit's results with each, if they are not golden's, go on through the
layer."""
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import numpy as np

from ...golden.rmsnorm import norm_factor
from ...golden.rope import rope_angles
from ...golden.swiglu import activate
from ...params.tables import ROPE_BLOCK
from ..diagnosis.constants import Constant, constants, rope_entry
from ..diagnosis.faults import ConstantFault
from .case import Case, Suspect

__all__ = ["probe_constants"]

_AT_ONCE = 256              # results that go through the layer side by side


class _Stage(NamedTuple):
    """What a unit computes from its tables, and what comes of another result: None if several places in the layer read
    the tables."""
    result: Callable[[], np.ndarray]
    after: Callable[[np.ndarray], np.ndarray] | None


def probe_constants(case: Case) -> Iterator[Suspect]:
    """Every bit of every table that the layer reads."""
    rope, stages = case.design.model.rope_of(case.index), _stages(case)
    for name, table in constants(case.design).items():
        if table.unit != "rope" or rope is not None:
            yield from _table(case, name, table, stages[table.unit], _entries(case, name, table, rope))


def _stages(case: Case) -> dict[str, _Stage]:
    """Those of the units that have tables."""
    design, stages = case.design, case.stages
    rope = design.model.rope_of(case.index)
    normed = [x for name, x in stages.rows.items() if not stages.norms[name].plain]
    return {
        "rope": _Stage(lambda: cast(np.ndarray, rope_angles(design, stages.positions, rope)), stages.after_angles),
        "attention": _Stage(lambda: stages.attend_stored(*(part[None] for part in stages.stored))[0],
                            stages.after_attention),
        "swiglu": _Stage(lambda: activate(design.block, stages.gates)[0], stages.after_products),
        "qk_norm": _Stage(lambda: stages.qk_normed(stages.to_norm), stages.after_qk_norm),
        # all norms may read the entry
        "rmsnorm": _Stage(lambda: np.concatenate([norm_factor(design, x) for x in normed], axis=1), None),
    }


def _entries(case: Case, name: str, table: Constant, rope) -> list[int]:
    """Entries of a table that the layer may read: of RoPE's, those of the positions."""
    entries = range(len(table.entries))
    if table.unit != "rope":
        return list(entries)
    rows = {(p % ROPE_BLOCK if name == "rope_low" else p // ROPE_BLOCK, rope) for p in case.stages.positions.tolist()}
    return [entry for entry in entries if rope_entry(case.design, entry)[:2] in rows]


def _table(case: Case, name: str, table: Constant, stage: _Stage, entries: list[int]) -> Iterator[Suspect]:
    """Those of a table's bits that give the wrong signature."""
    right, faults, results = stage.result(), [], []
    for entry, bit in ((entry, bit) for entry in entries for bit in range(table.bits)):
        if (other := table.flipped(entry, bit)) is None:
            continue
        case.tried += 1
        with table.changed(other):
            result = stage.result()
            if (result == right).all():
                continue
            faults.append(ConstantFault(name, entry, bit))
            results.append(result if stage.after else case.replay(case.decoder))
    for start in range(0, len(faults), _AT_ONCE):
        part = results[start:start + _AT_ONCE]
        if stage.after:
            found = case.hits(stage.after(np.array(part)))
        else:
            found = [i for i, crc in enumerate(part) if crc == case.seen]
        for fault in (faults[start + hit] for hit in found):
            yield Suspect(fault, f"{table.unit}, a constant", fault.where(case.design), None, local=False)
