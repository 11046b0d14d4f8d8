"""What a reader took from a model's files, and what it left: nothing that changes a model's meaning is passed over in
silence."""
from collections.abc import Mapping
from typing import Any

from .json_file import take

__all__ = ["About", "Options"]


class About:
    """What was read where, for people.

    Attributes
    ----------
    notes : dict           label -> text: what was taken, and the file and key that said so
    warnings : list        a line each, which starts with the file: what was left
    """

    def __init__(self) -> None:
        self.notes, self.warnings = {}, []


class Options:
    """A model's options by name. Those that were never taken are in :meth:`left`.

    Parameters
    ----------
    values : dict
    prefix : str       what stands before each name in messages, such as "rope_scaling."
    noun : str         what messages call one
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "", noun: str = "Option") -> None:
        self._values, self._prefix, self._noun, self._taken = values, prefix, noun, set()

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def take(self, name: str, kind: type, *default: Any, **limits: Any) -> Any:
        """A typed value: see :func:`hwgen.models.json_file.take`. A value of null is the default."""
        value = self.raw(name)
        there = {self._prefix + name: value} if name in self._values else {}
        return take(there, self._prefix + name, kind, *default, noun=self._noun, **limits)

    def raw(self, name: str, default: Any = None) -> Any:
        """The value as it stands there, of any type."""
        self._taken.add(name)
        return self._values.get(name, default)

    def left(self, harmless: Mapping[str, Any]) -> list[str]:
        """The names that were not taken, but for ``harmless`` ones: name -> values that change nothing, or ``...`` for
        any value."""
        def changes_nothing(name, value):
            neutral = harmless.get(name, ())
            return neutral is ... or any(type(value) is type(other) and value == other for other in neutral)

        return [self._prefix + name for name, value in self._values.items()
                if name not in self._taken and not changes_nothing(name, value)]
