"""The frame of a GGUF file, checked before the gguf package reads it: that package trusts counts and offsets.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and what llama.cpp refuses (`gguf_init_from_file`).
"""
import math
import mmap
import struct
from pathlib import Path

from ..params.checks import shown
from .checkpoint import ModelError
from .files import open_file

__all__ = ["check_header"]

_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}      # type of a value -> bytes
_STRING, _ARRAY = 8, 9
_LONGEST_NAME = 1 << 16
_MOST_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32


class _Cursor:
    """Reads numbers and strings one after another; ValueError where the file ends too early."""

    def __init__(self, data: mmap.mmap, order: str) -> None:
        self._data, self._order, self.at = data, order, 0

    def skip(self, count: int, size: int = 1) -> None:
        if count * size > len(self._data) - self.at:
            raise ValueError(f"it ends at byte {len(self._data)}, within what its header promises")
        self.at += count * size

    def number(self, form: str) -> int:
        start = self.at
        self.skip(struct.calcsize(form))
        return struct.unpack_from(self._order + form, self._data, start)[0]

    def text(self, longest: int | None = None) -> bytes:
        length = self.number("Q")
        if longest is not None and length > longest:
            raise ValueError(f"a name of {shown(length)} bytes")
        start = self.at
        self.skip(length)
        return bytes(self._data[start:self.at])

    def value(self, kind: int) -> bytes | None:
        """Skip a value; an integer's is returned."""
        if kind == _STRING:
            self.text()
        elif kind == _ARRAY:
            element, count = self.number("I"), self.number("Q")
            if element in _SCALARS:
                self.skip(count, _SCALARS[element])
            elif element == _STRING:
                self.skip(count, 8)         # at least the lengths: bounds the loop
                self.at -= 8 * count
                for _ in range(count):
                    self.skip(self.number("Q"))
            else:
                raise ValueError(f"an array of type {element}")
        elif kind in _SCALARS:
            start = self.at
            self.skip(_SCALARS[kind])
            return self._data[start:self.at]
        else:
            raise ValueError(f"a value of type {kind}")
        return None


def check_header(path: str | Path) -> None:
    """ModelError, in one line, unless ``path`` is a GGUF file whose metadata and tensors lie in it as its header says.

    The tensors must follow one another without overlap or hole, as every writer stores them and llama.cpp demands.
    """
    with open_file(path) as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path}: File must be GGUF, or a folder in Hugging Face's layout be given instead")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                _check(data, path)
            except ValueError as error:
                raise ModelError(f"{path}: File must be whole GGUF: it is truncated or damaged, fetch it "
                                 f"again ({error})") from None


def _check(data, path):
    if len(data) < 24:
        raise ValueError(f"it ends at byte {len(data)}, within what its header promises")
    order = "<" if struct.unpack_from("<I", data, 4)[0] & 0xFFFF else ">"
    cursor = _Cursor(data, order)
    cursor.skip(4)
    version = cursor.number("I")
    if version == 1:
        raise ModelError(f"{path}: File must be GGUF of version 2 or 3, not 1: convert the model again")
    if version not in (2, 3):
        raise ValueError(f"version {version}, and 2 and 3 are known")
    tensors, pairs = cursor.number("Q"), cursor.number("Q")
    alignment, seen = _DEFAULT_ALIGNMENT, set()
    for number in range(pairs):
        key = cursor.text(_LONGEST_NAME)
        if key in seen:
            raise ValueError(f"key {shown(key.decode(errors='replace'))} stands twice")
        seen.add(key)
        kind = cursor.number("I")
        value = cursor.value(kind)
        if key == b"general.alignment":
            if kind != 4:
                raise ValueError("general.alignment is no 32-bit number")
            assert value is not None        # of a number
            alignment = struct.unpack(order + "I", value)[0]
            if alignment == 0 or alignment & (alignment - 1):
                raise ValueError(f"general.alignment is {alignment}, no power of two")
    _check_tensors(cursor, tensors, alignment, len(data))


def _check_tensors(cursor, tensors, alignment, size):
    from gguf.constants import GGML_QUANT_SIZES
    sizes = {int(kind): row for kind, row in GGML_QUANT_SIZES.items()}
    expected, found = 0, []
    for number in range(tensors):
        name = cursor.text(_LONGEST_NAME).decode(errors="replace")
        dimensions = cursor.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(f"tensor {shown(name)} has {dimensions} dimensions")
        shape = [cursor.number("Q") for _ in range(dimensions)]
        kind, offset = cursor.number("I"), cursor.number("Q")
        if kind not in sizes:
            raise ValueError(f"tensor {shown(name)} is of type {kind}")
        block, length = sizes[kind]
        width = shape[0] if shape else 1
        if width % block:
            raise ValueError(f"tensor {shown(name)} has rows of {width}, no multiple of {block}")
        if offset != expected:
            raise ValueError(f"tensor {shown(name)} lies at {offset} and not at {expected}, behind the one before")
        end = offset + math.prod(shape) // block * length
        expected = -(-end // alignment) * alignment
        found.append(end)
    start = -(-cursor.at // alignment) * alignment
    if found and start + found[-1] > size:
        raise ValueError(f"it must be {start + found[-1]} bytes long by its header, and is {size}")
