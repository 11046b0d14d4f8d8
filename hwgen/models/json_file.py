"""JSON files of a model, and typed values from them."""
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..params.checks import shown
from .checkpoint import ModelError
from .files import open_file

__all__ = ["decode_json", "read_json", "take"]

#: Bytes of a JSON file. The longest index of a published model (some 90,000 tensors) has 9 million; in Python's objects
#: it is up to 20 times as large.
LONGEST = 16 << 20
_MOST_DIGITS = 100  # of an integer; `model_max_length` is often int(1e30). Each is within a float's range.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "a string", list: "a list",
          dict: "an object"}
_REQUIRED = object()


def read_json(path: str | Path, *, default: dict[str, Any] | None = None, longest: int = LONGEST) -> dict[str, Any]:
    """The object (a dict) in a JSON file. ModelError if there is none, in one line; a missing file is ``default``, if
    that is given.

    See :func:`decode_json`; ``longest`` is how many bytes the file may have.
    """
    try:
        with open_file(path) as file:
            data = file.read(longest + 1)
    except FileNotFoundError:
        if default is not None:
            return default
        raise ModelError(f"{path} is missing: a model folder has config.json, model.safetensors and "
                         "tokenizer.json") from None
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    if len(data) > longest:
        raise ModelError(f"{path}: File must be at most {longest} bytes long: it is no such file of a model")
    try:
        value = decode_json(data)
    except ValueError as error:
        raise ModelError(f"{path}: File must be JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: File must be a JSON object, not {shown(value)}")
    return value


def decode_json(data: bytes, *, unique: bool = False) -> Any:
    """The value that JSON text, in bytes, stands for. ValueError (one line) for what is not JSON, and for what readers
    understand differently:

    a key that an object has twice with different values, NaN and numbers too large for a float, integers of more than
    100 digits, minus zero as an integer, half of a surrogate pair, nesting that is too deep for the reader.
    ``unique``: a key that stands twice is refused even with the same value.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(text, parse_int=_int, parse_float=_float, parse_constant=_constant,
                           object_pairs_hook=_unique if unique else _object)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair") from None
    return value


def _int(text):
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    if text == "-0":
        raise ValueError("-0 is no integer")
    return int(text)


def _float(text):
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _constant(text):
    raise ValueError(f"{text} is no number of JSON")


def _object(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in pairs:
            if repr(found[key]) != repr(value):     # 1, 1.0 and true are equal, but do not mean the same
                raise ValueError(f"key {shown(key)} stands twice, with different values")
    return found


def _unique(pairs):
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {shown(key)} stands twice")
        found[key] = value
    return found


def take(config: Mapping[str, Any], key: str, kind: type, default: Any = _REQUIRED, *, low: float | None = None,
         high: float | None = None, of: type | None = None, noun: str = "Option") -> Any:
    """``config[key]``, which must be of ``kind``: int, float (takes integers too), bool, str, list or dict.

    Parameters
    ----------
    default             for a key that is missing or null; without it such a key is refused
    low, high           of a number, or of each in a list
    of                  what each element of a list, or each value of an object, must be
    noun : str          what the message calls it

    TypeError or ValueError with one line, such as "Option head_dim must be an integer, not 'x'".
    """
    value = config.get(key)
    if value is None and (key not in config or default is not _REQUIRED):
        if default is _REQUIRED:
            raise ValueError(f"{noun} {key} is missing")
        return default
    value = _of_kind(f"{noun} {key}", value, kind, low if of is None else None, high if of is None else None)
    if of is not None:
        elements = value.items() if kind is dict else enumerate(value)
        checked = {i: _of_kind(f"{noun} {key}[{shown(i)}]", element, of, low, high) for i, element in elements}
        value = checked if kind is dict else list(checked.values())
    return value


def _of_kind(name, value, kind, low, high):
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} must be {_KINDS[kind]}, not {shown(value)}")
    if kind is float and not abs(value) <= 1.7e308:     # NaN, and integers beyond a float
        raise ValueError(f"{name} must be a finite number, not {shown(value)}")
    if low is not None and value < low or high is not None and value > high:
        bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
        raise ValueError(f"{name} must be {bounds}, not {shown(value)}")
    return float(value) if kind is float else value
