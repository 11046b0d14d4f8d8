"""Designs that are broken on purpose: a piece of a class's source is another, and a proof of it must fail."""
import contextlib
import inspect
import sys
from typing import NamedTuple

__all__ = ["Break", "broken"]


class Break(NamedTuple):
    """In the source of ``part`` (a class or function), ``old``, which must be there once, is ``new``."""
    part: type
    old: str
    new: str


@contextlib.contextmanager
def broken(change):
    """Within, whoever imported the part has the broken one.

    Raises
    ------
    ValueError      if ``old`` is not in the part's source exactly once: the source has changed, and so must the break
    """
    part, old, new = change
    module, source = sys.modules[part.__module__], inspect.getsource(part)
    if source.count(old) != 1:
        raise ValueError(f"Source of {part.__qualname__} must have {old!r} once, not {source.count(old)} times")
    namespace = dict(vars(module))
    exec(compile(source.replace(old, new), module.__file__, "exec"), namespace)
    made, users = namespace[part.__name__], [(user, name) for user in list(sys.modules.values())
                                             if user.__name__.split(".")[0] in
                                             ("hwgen", "formal", "amaranth") for name, value in list(vars(user).items())
                                             if value is part]
    for user, name in users:
        setattr(user, name, made)
    try:
        yield
    finally:
        for user, name in users:
            setattr(user, name, part)
