"""Golden twin of hwgen/units/convert.py: the array's sums of QKV and of gate/up as bf16."""
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design
from .numbers import acc_to_bf16, bf16


def latency(design: Design) -> int:
    """Cycles from taking a granule to first offering it converted, the same for both matrices."""
    return 4 + 6 * (design.block.biased(*design.block.converted))


def convert_qkv(acc: ArrayLike, exponents: ArrayLike, exps: Mapping[str, int], design: Design,
                bias: ArrayLike | None = None, rows: np.ndarray | None = None) -> np.ndarray:
    """Sums of the QKV matrix -> bf16 values of the heads, padding dropped.

    acc int64 [n, rows or more], exponents [n] of the activations, exps {matrix: exponent} (others are ignored),
    bias None or bf16 [rows or more]: added to the rounded sums; rows None or int64 [rows or more]: added to the
    exponent of each -> float64 [n, qkv_heads, head_dim]: K heads, V heads, Q heads
    """
    weight = np.empty(design.qkv_heads, np.int64)
    for name in design.block.into_heads.matrices:
        weight[design.heads_of(design.block.matrix(name))] = exps[name]
    width = design.padded_head_dim
    sums = np.asarray(acc)[:, :design.qkv_heads * width].reshape(-1, design.qkv_heads, width)
    scale = np.asarray(exponents, np.int64)[:, None] + weight + design.acc_unit                # [n, qkv_heads]
    scale = scale[:, :, None] + (0 if rows is None else rows[:sums[0].size].reshape(sums[0].shape))
    return _biased(acc_to_bf16(sums, scale), bias)


def convert_gate_up(acc: ArrayLike, exponents: ArrayLike, exps: Mapping[str, int], design: Design,
                    bias: ArrayLike | None = None, rows: np.ndarray | None = None) -> np.ndarray:
    """Sums of the gate/up matrix -> bf16 values [n, 2 * ff], gates and ups in turn; [n, ff] ups where there is no gate.

    acc, exponents, exps, bias and rows as `convert_qkv`
    """
    weight = np.tile([exps[name] for name in design.block.into_ff.matrices], design.padded_intermediate_size)
    sums = np.asarray(acc)[:, :len(weight)]
    scale = np.asarray(exponents, np.int64)[:, None] + weight + design.acc_unit
    return _biased(acc_to_bf16(sums, scale if rows is None else scale + rows[:len(weight)]), bias)


def _biased(x, bias):
    """bf16(x + bias) of each row. Where float64 rounds a sum, the smaller number is too small to change the larger one
    in bf16."""
    return x if bias is None else bf16(x + np.asarray(bias)[:x[0].size].reshape(x[0].shape))


def granules(design: Design, gate_up: bool, n: int) -> Iterator[tuple[int, int, int, int | None, int, bool]]:
    """(n-tile, entry, group, head, part, last) of each granule of a command, in order; head is None where it is
    padding."""
    block = design.block
    matmul = design.matmul((block.into_ff if gate_up else block.into_heads).name)
    v = design.hw.vector_lanes
    groups, head_parts = design.hw.columns // v, design.padded_head_dim // v
    real = (len(block.into_ff.matrices) * design.padded_intermediate_size // v if gate_up
            else design.qkv_heads * head_parts)
    for tile in range(matmul.n_tiles):
        for entry in range(n):
            for group in range(groups):
                index = tile * groups + group
                head, part = (0, index) if gate_up else divmod(index, head_parts)
                yield (tile, entry, group, head if index < real else None, part,
                       index == real - 1 and entry == n - 1)
