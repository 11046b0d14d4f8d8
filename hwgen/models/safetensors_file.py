"""Safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.

The format is https://github.com/huggingface/safetensors#format; what is checked there is checked here.
"""
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..params.checks import shown
from ..params.formats import E4M3
from .checkpoint import ModelError
from .files import open_file
from .json_file import decode_json, take

__all__ = ["SafetensorsFile", "write_safetensors"]

# Any finite E4M3 code as float32, and NaN where the code is NaN, so that a check for finite weights sees it.
_E4M3 = np.array([v * 2.0 ** E4M3.unit_exp if E4M3.is_finite(c) else np.nan for c, v in enumerate(E4M3.values())],
                 np.float32)

_READERS = {  # name -> (type in the file, function to float32)
    "F64": ("<f8", lambda a: a.astype(np.float32)),     # beyond float32: infinite, and refused as such
    "F32": ("<f4", lambda a: a.astype(np.float32)),
    "F16": ("<f2", lambda a: a.astype(np.float32)),
    "BF16": ("<u2", lambda a: (a.astype(np.uint32) << 16).view(np.float32)),
    "F8_E4M3": ("u1", lambda a: _E4M3[a]),
}

#: What `SafetensorsFile.stored` reads.
_INTEGERS = {"U8": ("u1", lambda a: a), "U16": ("<u2", lambda a: a)}

#: Bits of an element of each type that the format has, those included that are no weights here.
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64,
         **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
         **{f"{kind}{bits}": bits for kind in "IUF" for bits in (16, 32, 64)}, "BF16": 16}
#: Bytes of a header. The format has 100 million; in Python's objects they would be gigabytes, and this is enough for
#: 100,000 tensors.
_LONGEST = 16 << 20
_MOST_DIMENSIONS = 64  # numpy's


class SafetensorsFile:
    """One file. The header is read and checked at once, tensors one at a time by :meth:`read`.

    The tensors' bytes must cover the file without overlap and without a hole, each as long as its type and shape say.

    Attributes
    ----------
    shapes : dict      name -> tuple of int
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_file(path) as file:
                length = int.from_bytes(file.read(8), "little")
                size = os.fstat(file.fileno()).st_size
                if size < 8 or 8 + length > size:
                    raise ModelError(f"{path}: File must be at least {8 + length} bytes long by its header, "
                                     f"not {size}: it is truncated or no safetensors file, fetch it again")
                if length > _LONGEST:
                    raise ModelError(f"{path}: Header must be at most {_LONGEST} bytes long, not {length}")
                header = file.read(length)
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from None
        self._start, self._size = 8 + length, size
        try:
            if not header.startswith(b"{"):
                raise ValueError("Header must be that of a safetensors file")
            self._entries = self._checked(decode_json(header, unique=True))
        except (ValueError, TypeError) as error:
            reason = str(error)
            raise ModelError(f"{path}: {reason if reason[:1].isupper() else f'Header must be JSON ({reason})'}: "
                             "fetch the file again") from None
        self.shapes = {name: entry[1] for name, entry in self._entries.items()}

    def _checked(self, header):
        """Name -> (dtype, shape, start, stop), after the format's rules. ModelError, ValueError or TypeError."""
        take(header, "__metadata__", dict, {}, of=str, noun="Header's")
        entries = {name: _entry(name, take(header, name, dict, noun="Tensor")) for name in header
                   if name != "__metadata__"}
        end = 0
        for name, (_, _, start, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
            if start != end:
                raise ValueError(f"Tensor {name} must begin at byte {end} of the data, where the one before it ends, "
                                 f"not at {start}")
            end = stop
        if self._start + end != self._size:
            short = self._start + end > self._size
            raise ModelError(f"{self.path}: File must be {self._start + end} bytes long by its header, not "
                             f"{self._size}: it is {'truncated' if short else 'damaged'}, fetch it again")
        return entries

    def is_fp8(self, name: str) -> bool:
        return self._entries[name][0].startswith("F8")

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32."""
        return self._read(name, _READERS)

    def read_bytes(self, name: str) -> np.ndarray:
        """A tensor of bytes, U8: uint8."""
        return self._read(name, {"U8": _INTEGERS["U8"]})

    def stored(self, name: str) -> np.ndarray:
        """The integers of a tensor of U8 or U16."""
        return self._read(name, _INTEGERS)

    def _read(self, name, readers):
        dtype, shape, start, stop = self._entries[name]
        if dtype not in readers:
            raise ModelError(f"{self.path}: tensor {name} must be one of {', '.join(readers)}, not {dtype}")
        stored, convert = readers[dtype]
        try:
            values = np.empty(shape, stored)
            with open_file(self.path) as file:
                file.seek(self._start + start)
                count = file.readinto(values.data.cast("B")) if values.size else 0
        except MemoryError:
            raise ModelError(f"{self.path}: tensor {name} must fit into memory, and its {stop - start} "
                             "bytes do not") from None
        except OSError as error:
            raise ModelError(f"{self.path}: {error.strerror}") from None
        if count != stop - start:
            raise ModelError(f"{self.path}: File must stay as it was when it was opened, and it has become shorter")
        with np.errstate(over="ignore"):
            return convert(values)


def write_safetensors(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A file of arrays of uint8 and uint16: name -> array."""
    names, header, end = {np.dtype(stored): name for name, (stored, _) in _INTEGERS.items()}, {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": names[values.dtype], "shape": list(values.shape),
                        "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).data)


def _entry(name, entry):
    """(dtype, shape, start, stop) of a tensor in the header."""
    about = f"Tensor {name}'s"
    unknown = entry.keys() - {"dtype", "shape", "data_offsets"}
    if unknown:
        raise ValueError(f"{about} fields must be dtype, shape and data_offsets, not {shown(min(unknown))}")
    dtype = take(entry, "dtype", str, noun=about)
    if dtype not in _BITS:
        raise ValueError(f"{about} dtype must be one of {', '.join(_BITS)}, not {shown(dtype)}")
    shape = tuple(take(entry, "shape", list, of=int, low=0, noun=about))
    offsets = take(entry, "data_offsets", list, of=int, low=0, noun=about)
    # numpy counts the elements as if no dimension were 0
    if len(shape) > _MOST_DIMENSIONS or 8 * math.prod(max(n, 1) for n in shape) >= 2**63:
        raise ValueError(f"{about} shape must be that of an array, not {shown(list(shape))}")
    bits = math.prod(shape) * _BITS[dtype]
    if len(offsets) != 2 or bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise ValueError(f"{about} data_offsets must be {bits / 8:g} bytes apart by its dtype and shape, not "
                         f"{shown(offsets)}")
    return dtype, shape, *offsets
