"""Enumerations for signals, of what the block of a design has: their members follow from it, and are numbered from 0
on."""
import functools
import types

from amaranth.lib import enum

from ..params.block import Norm, Project
from ..params.phases import phases, turn
from ..params.stream import HEAD

__all__ = ["matrices", "numbered", "phase_shape", "piece_kinds"]


def numbered(name, members):
    """An Amaranth enumeration called ``name`` of upper-case names, as wide as its last number."""
    def fill(namespace):
        for number, member in enumerate(members):
            namespace[member.upper()] = number
    return types.new_class(name, (enum.Enum,), {"shape": (len(members) - 1).bit_length()}, fill)


@functools.cache
def phase_shape(block):
    """`hwgen.params.phases.phases`."""
    return numbered("PhaseShape", [phase.name for phase in phases(block)])


@functools.cache
def matrices(block):
    """What goes through the array, as the sequencer commands it: the projects of a layer in order, and HEAD."""
    return numbered("Matrix", [*(project.name for project in block.of(Project)), HEAD])


@functools.cache
def piece_kinds(block):
    """{step of the block, or HEAD: member of the enumeration of kinds of pieces (`hwgen.lib.pieces`)}.

    A record of a norm of the residual is called by its number. RECORD_1 is the final norm's too, and is the first of a
    pass.
    """
    order, residual = turn(block), [norm for norm in block.of(Norm) if norm.reads == "residual"]
    steps = [order.opening, *order.attention, *order.mlp, *order.rest]
    late = [norm for norm in block.of(Norm) if norm.reads == "sums"]
    steps = [*(step for step in steps if step not in late), HEAD, *late]
    names = [f"record_{residual.index(step) + 1}" if step in residual else getattr(step, "name", step)
             for step in steps]
    return dict(zip(steps, numbered("Kind", names)))
