"""A golden decoder with something wrong in it, and what a wrong bit makes of a number."""
import copy
from collections.abc import Callable
from typing import Any, Self, TypeVar

import numpy as np

from ...golden.decoder import GoldenDecoder
from ...golden.numbers import fp8_ints
from ...golden.vector_buffer import quantize
from ...golden.wired import Effects
from ...lib.layouts import EXP_BITS
from ...params.wired import FixedMatrix

__all__ = ["BrokenDecoder", "Stuck", "cut", "flipped_exponent"]


#: One, or an array of them.
_Exponent = TypeVar("_Exponent", int, np.ndarray)


def cut(product: np.ndarray, bits: int) -> np.ndarray:
    """As the array has a product: with the bits that those of finite codes need."""
    return np.sign(product) * (np.abs(product) & (1 << bits) - 1)


def flipped_exponent(value: _Exponent, bit: int) -> _Exponent:
    """A signed exponent of EXP_BITS bits, or an array of them, with a bit wrong."""
    half = 1 << EXP_BITS - 1
    return ((value & 2 * half - 1 ^ 1 << bit) + half & 2 * half - 1) - half


class Stuck:
    """Sums of a matrix that is logic, with a register that keeps one value, in the bits that a unit of these matrices
    has for them.

    Parameters
    ----------
    matrix : FixedMatrix
    wires : dict    all of the machine's
    """

    def __init__(self, matrix: FixedMatrix, wires: dict) -> None:
        self._matrix, self._effects = matrix, Effects(matrix)
        self._half = 1 << max(other.bits for other in wires.values()) - 1

    def nodes(self, x: np.ndarray) -> list[np.ndarray]:
        """Of inputs int64 [m, inputs], without those that fill a slice."""
        return self._matrix.plan.network.nodes(np.pad(x, [(0, 0), (0, self._matrix.size[1] - x.shape[1])]))

    def sums(self, acc: np.ndarray, register: tuple, value: int, nodes: list[np.ndarray]) -> np.ndarray:
        """int64 [m, outputs] -> what they become."""
        wrong, part = self._effects.effect(register, value, nodes)
        return (acc + np.outer(wrong, part[:acc.shape[1]]) + self._half & 2 * self._half - 1) - self._half


class BrokenDecoder(GoldenDecoder):
    """A golden decoder with something wrong.

    weight      (matrix, row, column or columns) of a wrong weight, or of a block of them, whose codes may not be finite
    stuck       (matrix, its `Stuck`, register, value) of a register that keeps a value
    """
    weight: tuple[Any, ...] = None, None, None
    stuck: tuple[Any, ...] = None, None, None, None

    @classmethod
    def of(cls, decoder: GoldenDecoder, alter: Callable[["BrokenDecoder"], None] | None) -> Self:
        """A copy of a decoder, reset, with what ``alter`` puts into it (nothing if that is None)."""
        broken: Any = copy.copy(decoder)
        broken.__class__, broken.weights = cls, [*broken.weights]
        broken.reset()
        if alter is not None:
            alter(broken)
        return broken

    def change_adapter(self, number: int, key: tuple[str, int], change: Callable[..., tuple]) -> None:
        """What an adapter has for (project, layer) ``key``, (A, B, exponent), becomes what ``change`` makes of it."""
        parts = self._adapters[number]
        self._adapters = {**self._adapters, number: {**parts, key: change(*parts[key])}}

    def matmul(self, values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        acc, exp = super().matmul(values, weights)
        fmt = self.design.recipe.activation_format
        matrix, stuck, register, value = self.stuck
        if weights is matrix:
            codes = fp8_ints(quantize(values, fmt)[0], fmt)
            wrong = stuck.sums(acc.astype(np.int64), register, value, stuck.nodes(codes.astype(np.int64)))
            return wrong.astype(np.float64), exp
        matrix, row, column = self.weight
        if weights is matrix:
            product = fp8_ints(quantize(values, fmt)[0][:, column], fmt) * weights[row, column].astype(np.int64)
            off = cut(product, self.design.array_format.product_bits(fmt)) - product
            acc[:, row] += off if off.ndim == 1 else off.sum(axis=1)
        return acc, exp
