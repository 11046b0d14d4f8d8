"""Checks of a user's values: TypeError for a wrong type, ValueError for a value out of bounds. ``noun`` starts the
message."""

import dataclasses
import math
import reprlib
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["check_int", "check_number", "check_power_of_two", "later", "one_line", "shown", "without_unused"]

T = TypeVar("T")

FLOAT_MAX = sys.float_info.max
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def shown(value: object) -> str:
    """A value for a message: in one line, and cut if it is long."""
    try:
        return _REPR.repr(value)
    except ValueError:      # an integer of thousands of digits
        return "a huge number"


def later(default: T) -> T:
    """A field of a dataclass that came later: values that do not use it keep their repr, their digest, and their
    manifest."""
    return dataclasses.field(default=default, metadata={"later": True})


def without_unused(value: "DataclassInstance | type[DataclassInstance]") -> list[dataclasses.Field]:
    """The fields of a dataclass's instance, but for those of `later` that have their default."""
    return [f for f in dataclasses.fields(value) if not (f.metadata.get("later") and getattr(value, f.name)
                                                         == f.default)]


def check_int(noun: str, value: object, low: int | None = None, high: int | None = None) -> None:
    """An integer, of at least ``low``, or from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{noun} must be an integer, not {shown(value)}")
    if high is not None:
        assert low is not None
        if not low <= value <= high:
            raise ValueError(f"{noun} must be {low} to {high}, not {shown(value)}")
    if low is not None and value < low:
        raise ValueError(f"{noun} must be at least {low}, not {shown(value)}")


def check_number(noun: str, value: object) -> None:
    """A positive number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{noun} must be a number, not {shown(value)}")
    if not 0 < value <= FLOAT_MAX or math.isnan(value):
        raise ValueError(f"{noun} must be a positive finite number, not {shown(value)}")


def check_power_of_two(noun: str, value: int) -> None:
    check_int(noun, value)
    if value < 1 or value & (value - 1):
        raise ValueError(f"{noun} must be a power of two, at least 1, not {shown(value)}")


def one_line(text: str, longest: int = 1000) -> str:
    """A message as one line of printable characters, whatever names and values of a file it contains; cut if it is
    long."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."
