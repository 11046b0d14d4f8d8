"""Assumptions by name: each is a number with its unit and source, and a command line changes it by ``field=value``."""
import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeVar

from ..params.checks import shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["given", "listed", "parsed", "within"]

#: Bounds of the numbers, beyond which floats end.
_LEAST, _MOST = 1e-9, 1e15
_Value = TypeVar("_Value")


def given(default: _Value, unit: str, source: str) -> _Value:
    """A field of a dataclass that is an assumption."""
    return dataclasses.field(default=default, metadata={"unit": unit, "source": source})


def _fields(assumptions):
    return [f for f in dataclasses.fields(assumptions) if f.metadata]


def within(assumptions: "DataclassInstance", none: Collection[str] = ()) -> None:
    """ValueError for a number that is not above 0, or so small or large that floats end; those of ``none`` may be 0."""
    for f in _fields(assumptions):
        value = getattr(assumptions, f.name)
        if f.type in (int, float):
            if not (value > 0 or f.name in none and value == 0):
                raise ValueError(f"{f.name} must be {'at least' if f.name in none else 'above'} 0, not {value}")
            if not (value == 0 or _LEAST <= value <= _MOST):
                raise ValueError(f"{f.name} must be {_LEAST:g} to {_MOST:g}, not {shown(value)}")


def parsed(kind: "type[DataclassInstance]", text: str) -> dict[str, Any]:
    """{field: value} of ``field=value`` pairs with commas, of a dataclass with assumptions. ValueError with one
    line."""
    types, found = {f.name: f.type for f in _fields(kind)}, {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (word.strip() for word in part.partition("="))
        if key not in types or key in found:
            raise ValueError(f"Assumption must be one of {', '.join(types)}, each once, not {part!r}")
        try:
            found[key] = types[key](value)
        except ValueError:
            raise ValueError(f"{key} must be a number, not {value!r}") from None
    return found


def listed(assumptions: "DataclassInstance") -> list[tuple[str, str, str]]:
    """[(name, value with its unit, source)]"""
    def spelled(value):
        return f"{value:g}" if isinstance(value, float) and value >= 1e6 else str(value)
    return [(f.name, f"{spelled(getattr(assumptions, f.name))} {f.metadata['unit']}".strip(), f.metadata["source"])
            for f in _fields(assumptions)]
