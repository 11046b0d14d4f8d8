"""The phases of a pass by number, and the order of two half-batches: RTL, golden model and traces share them."""
import functools
from enum import Enum, IntEnum
from typing import Any, NamedTuple, TypeVar

from .block import Block, Norm, Project, Step
from .stream import FINAL_NORM, HEAD

__all__ = ["Turn", "member", "phases", "turn"]

E = TypeVar("E", bound=Enum)


@functools.cache
def phases(block: Block) -> Any:      # an enum whose members only a block has
    """The phases of a block's machine, an IntEnum: EMBED, one for each step, and the end. Those of norms of sums have
    the last numbers."""
    late = [norm for norm in block.of(Norm) if norm.reads == "sums"]
    steps = [step for step in block.steps if step not in late]
    names = ["idle", "embed", *(step.name for step in steps), FINAL_NORM, HEAD, "finish", *(norm.name for norm in late)]
    return IntEnum("Phase", [name.upper() for name in names], start=0)


def member(enumeration: type[E], step: Step | str) -> E:
    """The member of an enumeration that is of a step of the block, or of FINAL_NORM or HEAD: they are called alike."""
    return enumeration[(step if isinstance(step, str) else step.name).upper()]


class Turn(NamedTuple):
    """The pieces of the weight stream that two half-batches, x and y, read in a turn, in this order
    (docs/architecture.md, section 5).

    attention   steps of x: what makes keys, values and queries
    mlp         steps of y: from `Block.into_ff` to the end of the layer
    opening     of y: the next layer's first norm, or the final norm
    rest        steps of x: what follows attention, up to the MLP. Attention is under way before them
    """
    attention: tuple[Norm | Project, ...]
    mlp: tuple[Norm | Project, ...]
    opening: Norm
    rest: tuple[Norm | Project, ...]


def turn(block: Block) -> Turn:
    """The `Turn` of a block: x has come to a layer's attention, y to the MLP of the layer before or, if x is half-batch
    1, of the same."""
    opening, *steps = (step for step in block.steps if isinstance(step, (Norm, Project)))
    assert isinstance(opening, Norm)
    attended, mlp = steps.index(block.from_heads), steps.index(block.into_ff)
    return Turn(tuple(steps[:attended]), tuple(steps[mlp:]), opening, tuple(steps[attended:mlp]))
