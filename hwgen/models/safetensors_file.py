"""Reading a safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes."""
import json
import os

import numpy as np

from ..params.formats import E4M3
from .checkpoint import ModelError

__all__ = ["SafetensorsFile"]

# Any finite E4M3 code as float32, and NaN where the code is NaN, so that a check for finite weights sees it.
_E4M3 = np.array([v * 2.0 ** E4M3.unit_exp if E4M3.is_finite(c) else np.nan for c, v in enumerate(E4M3.values())],
                 np.float32)

_READERS = {  # name -> (type in the file, function to float32)
    "F64": ("<f8", lambda a: a.astype(np.float32)),
    "F32": ("<f4", lambda a: a.astype(np.float32)),
    "F16": ("<f2", lambda a: a.astype(np.float32)),
    "BF16": ("<u2", lambda a: (a.astype(np.uint32) << 16).view(np.float32)),
    "F8_E4M3": ("u1", lambda a: _E4M3[a]),
}


class SafetensorsFile:
    """One file. The header is read and checked at once, tensors one at a time by :meth:`read`.

    Attributes
    ----------
    shapes : dict      name -> tuple of int
    """

    def __init__(self, path):
        self.path = path
        try:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = os.fstat(file.fileno()).st_size
                if size < 8 or 8 + length > size:
                    raise ModelError(f"{path}: File must be at least {8 + length} bytes long by its header, "
                                     f"not {size}: it is truncated or no safetensors file, fetch it again")
                header = json.loads(file.read(length))
            self._start = 8 + length
            self._entries = {name: (entry["dtype"], tuple(entry["shape"]), *entry["data_offsets"])
                             for name, entry in header.items() if name != "__metadata__"}
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelError(f"{path}: Header must be that of a safetensors file: fetch the file again") from None
        end = self._start + max((stop for *_, stop in self._entries.values()), default=0)
        if end > size:
            raise ModelError(f"{path}: File must be {end} bytes long by its header, not {size}: "
                             "it is truncated, fetch it again")
        self.shapes = {name: entry[1] for name, entry in self._entries.items()}

    def is_fp8(self, name):
        return self._entries[name][0].startswith("F8")

    def read(self, name):
        """The tensor as float32."""
        dtype, shape, start, stop = self._entries[name]
        if dtype not in _READERS:
            raise ModelError(f"{self.path}: tensor {name} must be one of {', '.join(_READERS)}, not {dtype}")
        stored, convert = _READERS[dtype]
        count = int(np.prod(shape))
        if stop - start != count * np.dtype(stored).itemsize:
            raise ModelError(f"{self.path}: tensor {name} must be {count * np.dtype(stored).itemsize} bytes long, "
                             f"not {stop - start}: fetch the file again")
        return convert(np.fromfile(self.path, stored, count, offset=self._start + start)).reshape(shape)
