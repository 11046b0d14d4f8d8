"""Matrices whose codes are in a file: of a model that is gone through matrix by matrix, as it is written, one is in
memory at a time."""
import os
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .quantize import Matrix

__all__ = ["Store"]


class Store:
    """A file without a name in a folder, which ends with its last matrix."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)
        weakref.finalize(self, self._file.close)

    def put(self, matrix: Matrix) -> Matrix:
        """The same matrix, whose codes are in the file. OSError, of the folder, if it does not take them."""
        try:
            return _Stored(matrix, self._written(matrix.codes), None if matrix.lo is None else self._written(matrix.lo))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder)) from None

    def _written(self, codes):
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(np.ascontiguousarray(codes).data)
        self._file.flush()
        return partial(self._mapped, start, codes.shape)

    def _mapped(self, start, shape):
        return np.memmap(self._file, np.uint8, "r", start, shape).view(np.ndarray)


class _Stored(Matrix):
    """Codes are mapped when they are asked for, and as long as somebody holds them."""

    def __init__(self, matrix: Matrix, codes: Callable, lo: Callable | None) -> None:
        vars(self).update(exponent=matrix.exponent, fmt=matrix.fmt, rows=matrix.rows, blocks=matrix.blocks,
                          _codes=codes, _lo=lo)

    codes = property(lambda self: self._codes())                # type: ignore[assignment]
    lo = property(lambda self: self._lo and self._lo())         # type: ignore[assignment]
