"""Matrices in MXFP4 (OCP's Microscaling formats, version 1.0) as gpt-oss's safetensors hold them: codes in one tensor,
scales in another."""
from collections.abc import Sequence

import numpy as np

from ..params.formats import E2M1
from ..params.stream import BLOCK

__all__ = ["BLOCKS", "SCALES", "dequantized", "matrix_shape"]

#: What stands behind the name of a matrix in the names of its codes and of its scales.
BLOCKS, SCALES = "_blocks", "_scales"

_VALUES = (E2M1.values() * 2.0 ** E2M1.unit_exp).astype(np.float32)
_BIAS, _NAN = 127, 255      # of E8M0


def matrix_shape(blocks: Sequence[int], scales: Sequence[int]) -> tuple[int, ...] | None:
    """The shape of a matrix whose codes and scales have these shapes, [..., rows, inputs / 32, 16] and [..., rows,
    inputs / 32]; None if they are of none."""
    if len(blocks) < 3 or blocks[-1] != BLOCK // 2 or tuple(blocks[:-1]) != tuple(scales):
        return None
    return (*blocks[:-2], blocks[-2] * BLOCK)


def dequantized(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The numbers, exactly: uint8 [..., rows, n, 16], uint8 [..., rows, n] -> float32 [..., rows, 32 n].

    Byte k of a block holds elements 2k, in its lower half, and 2k + 1. (GGUF's type has k and k + 16 there; the gguf
    package reads it.) A scale is 2**(byte - 127), and 255 is NaN, as OCP says.
    """
    values = np.stack([_VALUES[blocks & 15], _VALUES[blocks >> 4]], axis=-1).reshape(*scales.shape, BLOCK)
    exponents = np.where(scales == _NAN, 0, scales.astype(np.int32) - _BIAS)[..., None]
    values = np.where((scales == _NAN)[..., None], np.float32(np.nan), np.ldexp(values, exponents))
    return values.reshape(*scales.shape[:-1], -1)
