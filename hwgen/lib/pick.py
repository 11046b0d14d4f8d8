"""One of several values, by a number."""
from amaranth.hdl import Array

__all__ = ["pick"]


def pick(values, index):
    """values[index]; also of a single one, whose index has no bits."""
    values = list(values)
    return values[0] if len(values) == 1 else Array(values)[index]
