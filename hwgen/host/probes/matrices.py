"""Wrong bits of the projects' matrices, where they are in the weight stream."""
from collections.abc import Callable, Iterator

import numpy as np

from ...golden.numbers import fp8_ints
from ...golden.vector_buffer import quantize
from ...golden.weights import block_offsets, expanded, stored_codes
from ...params.stream import BLOCK
from .broken import cut
from .case import MOST, Alter, Case, Suspect, batches

__all__ = ["felt", "probe_matrices"]


def probe_matrices(case: Case) -> Iterator[Suspect]:
    """Every bit of each project's matrix that is in the stream: codes, and offsets of blocks and of rows."""
    for name in filter(case.design.stream.has_tiles, case.stages.projects):
        size = getattr(case.layer, name).size
        if 8 * size * case.stages.behind(name) > MOST:
            case.untried.append(f"weights of {name}, of which there are too many")
        else:
            matrix = _Matrix(case, name)
            yield from matrix.codes()
            yield from matrix.block_offsets()
            yield from matrix.row_offsets()


class _Matrix:
    """A project's matrix [rows, cols] as it is stored, and the sums that it gives: int [m, rows], with exponents [m] of
    their inputs."""

    def __init__(self, case: Case, name: str):
        design, fmt = case.design, case.design.recipe.activation_format
        self.case, self.name = case, name
        self.section, self.ints = design.stream[name, case.index], getattr(case.layer, name)
        self.narrow = self.section.tiling.narrow                                # two codes in a byte
        rows, cols = self.ints.shape
        self.stored, self.offsets = (_as_rows(part, self.section)[:rows, :cols] for part in _stored(case, self.section))
        codes, _ = quantize(case.stages.inputs[name], fmt)
        self.inputs = fp8_ints(codes, fmt)                                      # [m, cols]
        acc, self.exp = case.decoder.products(case.index, case.stages.projects[name], case.stages.inputs[name])
        self.acc = acc.astype(np.int64)

    def codes(self) -> Iterator[Suspect]:
        """Bits of the codes."""
        stream = self.case.design.stream
        for bit in range(4 if self.narrow else 8):
            wrong = self._ints(self.stored ^ 1 << bit, self.offsets)
            self.case.tried += wrong.size

            def suspect(r, c, wrong=wrong, bit=bit):
                return self.case.weight(self.section, stream.byte(self.section, r, c), bit + self.narrow * 4 * (c % 2),
                                        self._wrong(r, c, wrong[r, c]))
            yield from self._felt(self._delta(wrong), suspect)

    def block_offsets(self) -> Iterator[Suspect]:
        """Bits of the offsets of its rows' blocks."""
        stream, starts = self.case.design.stream, np.arange(0, self.ints.shape[1], BLOCK)
        for bit in range(4 if self.section.tiling.block_steps else 0):
            wrong = self._ints(self.stored, self.offsets ^ 1 << bit)
            self.case.tried += len(self.ints) * len(starts)

            def suspect(r, b, wrong=wrong, bit=bit):
                columns = slice(b * BLOCK, (b + 1) * BLOCK)
                return self.case.weight(self.section, stream.block_byte(self.section, r, b), bit + 4 * (r % 2),
                                        self._wrong(r, columns, wrong[r, columns]))
            yield from self._felt(np.add.reduceat(self._delta(wrong), starts, axis=2), suspect)

    def row_offsets(self) -> Iterator[Suspect]:
        """Bits of the offsets of its rows."""
        case, stages, name, right = self.case, self.case.stages, self.name, self.case.layer.rows[self.name]
        for bit in range(4 if case.design.scaled else 0):
            assert right is not None
            case.tried += len(right)
            r = np.arange(len(right))
            before = stages.outputs(name, r, self.acc, self.exp)
            after = stages.outputs(name, r, self.acc, self.exp, rows=right ^ 1 << bit)
            r = np.flatnonzero((before != after).any(axis=0))
            for part in batches(len(r), len(case.x) * len(right)):
                for hit in r[part][case.hits(stages.after_outputs(name, r[part], after[:, r[part]]))]:
                    wrong = right.copy()
                    wrong[hit] ^= 1 << bit
                    alter = case.setting("rows", {**case.layer.rows, name: wrong})
                    yield case.weight(self.section, case.design.stream.row_byte(self.section, hit),
                                      bit + 4 * (hit % 2), alter)

    def _ints(self, codes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """What the array multiplies by."""
        design = self.case.design
        fmt = design.array_format if self.narrow else design.recipe.weight_format
        return fp8_ints(expanded(codes, offsets, fmt, design.largest_block) if self.narrow else codes, fmt)

    def _delta(self, wrong: np.ndarray) -> np.ndarray:
        """[m, rows, cols]: what each weight alone, as ``wrong`` has it, adds to its row's sum."""
        design, inputs = self.case.design, self.inputs[:, None]
        bits = design.array_format.product_bits(design.recipe.activation_format)
        return cut(wrong * inputs, bits) - self.ints.astype(np.int64) * inputs

    def _felt(self, delta: np.ndarray, suspect: Callable[[int, int], Suspect]) -> Iterator[Suspect]:
        return felt(self.case, self.name, self.acc, self.exp, delta, suspect)

    def _wrong(self, row: int, column: int | slice, value) -> Alter:
        """Puts a wrong weight, or block of weights, into a decoder."""
        def alter(decoder):
            matrix = self.ints.copy()
            matrix[row, column] = value
            self.case.setting(self.name, matrix)(decoder)
            decoder.weight = matrix, row, column
        return alter


def felt(case: Case, name: str, acc: np.ndarray, exp: np.ndarray, delta: np.ndarray,
         suspect: Callable[[int, int], Suspect]) -> Iterator[Suspect]:
    """Of differences [m, rows, places] of a project's sums int [m, rows], those that give the wrong signature: what
    ``suspect`` makes of (row, place)."""
    stages = case.stages
    r, c = np.nonzero(delta.any(axis=0))
    if not len(r):
        return
    before = stages.outputs(name, r, acc[:, r], exp)
    after = stages.outputs(name, r, acc[:, r] + delta[:, r, c], exp)
    changed = (before != after).any(axis=0)
    r, c, after = r[changed], c[changed], after[:, changed]
    if not len(r):
        return
    # many bits do the same to the same row: one of each goes through the layer
    _, first, which = np.unique(np.vstack([r, after]), axis=1, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    for part in batches(len(first), len(case.x) * delta.shape[1]):
        chosen = first[part]
        for hit in case.hits(stages.after_outputs(name, r[chosen], after[:, chosen])):
            for i in np.flatnonzero(which == part.start + hit):
                yield suspect(r[i], c[i])


def _stored(case: Case, section) -> tuple[np.ndarray, np.ndarray]:
    """(Codes, offsets of blocks) of a matrix as they are stored, for each tile [n_tiles, k_tiles, columns, lanes]."""
    here = case.stored[section.name], case.design, section._replace(address=0)
    codes = stored_codes(*here)
    if not section.tiling.block_steps:
        return codes, np.zeros_like(codes)
    offsets = block_offsets(*here)[:, np.arange(section.matmul.cols) // BLOCK]
    return codes, offsets.reshape(len(codes), codes.shape[2], -1, codes.shape[3]).swapaxes(1, 2)


def _as_rows(tiles: np.ndarray, section) -> np.ndarray:
    """The same as [rows, cols]."""
    return tiles.transpose(0, 2, 1, 3).reshape(section.matmul.rows, section.matmul.cols)
