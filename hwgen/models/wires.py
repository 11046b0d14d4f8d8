"""The matrices of a quantized model for a machine in which they are logic."""
from collections.abc import Callable

import numpy as np

from ..params.block import Project
from ..params.design import Design
from ..params.stream import BLOCK, HEAD
from ..params.wired import FixedMatrix
from .pack import _codes, _offsets
from .quantize import QuantizedModel

__all__ = ["different_rows", "fixed_matrices", "matrix_name"]


def matrix_name(name: str, layer: int | None) -> str:
    """What the matrix of a project of a layer, or the LM head (layer None), is called in the Verilog."""
    return name if layer is None else f"{name}_{layer}"


#: The latest of `fixed_matrices`: a machine's Verilog and its golden model want the same, one after the other.
_LATEST = {}


def fixed_matrices(quantized: QuantizedModel, design: Design,
                   progress: Callable[[int, int], object] | None = None) -> dict[tuple[str, int | None], FixedMatrix]:
    """{(project's name, layer): `FixedMatrix`} of all layers, in order, and the LM head's, with layer None: of the
    matrices that are logic.

    ``progress`` as `FixedMatrix`; weights are counted over all of them.
    """
    key = quantized.digest, design
    if key not in _LATEST:
        found = _made(quantized, design, progress)
        _LATEST.clear()
        _LATEST[key] = found
    return _LATEST[key]


def different_rows(quantized: QuantizedModel, design: Design) -> dict[tuple[str, int | None], int]:
    """{(project's name, layer): how many different rows of weights it has}, keys as of `fixed_matrices`: equal rows are
    the same logic, and rows of zeros are none."""
    return {key: len(np.unique(ints[ints.any(axis=1)], axis=0)) for key, ints, *_ in _wanted(quantized, design)}


def _wanted(quantized, design):
    """[(key, integers, offsets of rows, exponents, matmul)] of all matrices that are logic."""
    wanted: list[tuple] = []
    block = design.block
    for index, layer in enumerate(quantized.layers):
        for project in block.of(Project):
            if not design.hw.is_logic(project.name):
                continue
            first = getattr(layer, project.matrices[0])
            ints = _ints(_codes(layer, design, project), first.fmt,
                         _offsets(layer, design, project, "blocks", first.blocks is not None))
            exponents = {name: design.stored_exponent(getattr(layer, name)) for name in project.matrices}
            wanted.append(((project.name, index), ints,
                           _offsets(layer, design, project, "rows", design.scaled), exponents,
                           design.matmul(project.name)))
    if not design.hw.is_logic(HEAD):
        return wanted
    head = quantized.head
    ints = _ints(head.codes, head.fmt, head.blocks)
    if head.lo is not None:
        ints = ints + head.fmt.values()[head.lo]
    return [*wanted, ((HEAD, None), ints, head.rows, {HEAD: design.stored_exponent(head)}, design.head_matmul)]


def _made(quantized, design, progress):
    wanted = _wanted(quantized, design)
    done, total = 0, sum(ints.size for _, ints, *_ in wanted)
    found = {}
    for key, ints, rows, exponents, matmul in wanted:
        padded = np.pad(ints, [(0, matmul.rows - ints.shape[0]), (0, matmul.cols - ints.shape[1])])
        found[key] = FixedMatrix(padded, design.recipe.activation_format, design.hw.wire_levels, rows, exponents,
                                 progress and _from(progress, done, total, ints.size / padded.size))
        done += ints.size
    return found


def _from(progress, done, total, part):
    """Progress of one matrix as that of all."""
    return lambda weights, _: progress(done + round(part * weights), total)


def _ints(codes, fmt, blocks):
    """Codes as integers in units of their format, times 2 to the power of their blocks' offsets."""
    ints = fmt.values()[codes]
    return ints if blocks is None else ints << blocks.repeat(BLOCK, axis=1)[:, :ints.shape[1]].astype(np.int64)
