"""Rounding a matrix to the machine's codes so that what it makes of its inputs changes least.

The error of a row w rounded to q, over inputs x, is (w - q) H (w - q)', with H the sum of x'x. GPTQ (Frantar et al.,
2022, arXiv 2210.17323) rounds one column after the other and lets those to come take up its error, through the Cholesky
factor of H's inverse; what it leaves is improved by coordinate descent (QuantEase, Behdin et al., 2023, arXiv
2309.01885): each weight is rounded anew, the others as they are. Exponents of rows and blocks are those with the least
error before that, one binade below what holds the largest weight included.

Here matrices are float32 [inputs, outputs], so that a column's step is on contiguous numbers, in units of their rows'
scales.
"""
import numpy as np

from ..params.formats import Fp8
from ..params.stream import BLOCK
from .quantize import Matrix, encode

__all__ = ["compensated", "nearest"]

#: Added to H's diagonal, of its mean. (GPTQ takes 0.01; with some thousand tokens this is as good on them, and better
#: on other text.)
DAMPING = 0.05
SWEEPS = 3          # of coordinate descent
LOWER = 2           # binades below the largest weight's exponent that are tried
_ROWS = 4096        # rows at once: bounds the temporaries


def nearest(x: np.ndarray, fmt: Fp8) -> np.ndarray:
    """The nearest values of a format, ties to even, saturating: float32 of any shape -> the same."""
    # A number 2**(23 - man_bits) times the first power of two of x has the format's step as its last place: adding it
    # rounds.
    bits = np.maximum(x.view(np.int32) & 0x7F800000, (128 - fmt.bias) << 23)
    big = (bits + ((23 - fmt.man_bits) << 23)).view(np.float32) * np.float32(1.5)
    rounded = np.add(x, big)
    rounded -= big
    return np.clip(rounded, -np.float32(fmt.max_value), np.float32(fmt.max_value), out=rounded)


def _fitting(largest, fmt):
    """`scale_exponent` of each of an array: int32."""
    fraction, exponent = np.frexp(largest)
    limit, top = np.frexp(np.float32(fmt.max_value))
    return np.where(largest > 0, exponent - top + (fraction > limit), -512).astype(np.int32)


class _Rounding:
    """Of rows in units of their scales, given H [inputs, inputs]. ``block_range``: the largest offset of a block's
    exponent, or None."""

    def __init__(self, hessian: np.ndarray, fmt: Fp8, pair: bool, block_range: int | None, damping: float) -> None:
        hessian = hessian.astype(np.float64)
        hessian = hessian / (np.trace(hessian) / len(hessian) or 1.0) + damping * np.eye(len(hessian))
        self.hessian = hessian.astype(np.float32)
        self.factor = np.linalg.cholesky(hessian).T.astype(np.float32)
        self.upper = np.linalg.cholesky(np.linalg.inv(hessian)).T.astype(np.float32)
        self.fmt, self.pair, self.range = fmt, pair, block_range

    def round(self, x: np.ndarray) -> np.ndarray:
        """To one code, or the sum of two."""
        hi = nearest(x, self.fmt)
        return hi + nearest(x - hi, self.fmt) if self.pair else hi

    def error(self, off: np.ndarray) -> np.ndarray:
        """Of rows that are off by so much [inputs, rows]: [rows]."""
        return np.square(self.factor @ off).sum(0)

    def _block(self, start, part, scale):
        """(rounded, errors that those behind are told) of a block's weights [BLOCK or fewer, rows], with a scale [rows]
        or 1."""
        part, q, errors = part.copy(), np.empty_like(part), np.empty_like(part)
        upper = self.upper[start:start + len(part), start:start + len(part)]
        for i in range(len(part)):
            q[i] = self.round(part[i] / scale) * scale
            errors[i] = (part[i] - q[i]) / upper[i, i]
            part[i + 1:] -= upper[i, i + 1:, None] * errors[i]
        return q, errors

    def _best_block(self, start, part):
        """(offsets, rounded, errors) of the offset of each row with the least error."""
        assert self.range is not None
        highest = np.clip(_fitting(np.abs(part).max(0), self.fmt), 0, self.range)
        found = None
        for lower in range(min(LOWER, self.range) + 1):
            offsets = np.maximum(highest - lower, 0)
            q, errors = self._block(start, part, np.ldexp(np.float32(1), offsets))
            size = np.square(errors).sum(0)
            if found is None:
                found, least = [offsets, q, errors], size
            else:
                better = size < least
                found = [np.where(better, new, old) for new, old in zip((offsets, q, errors), found)]
                least = np.minimum(size, least)
        return found

    def rows(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """(w [inputs, rows] rounded, offsets of its blocks [blocks, rows] or None)."""
        left, q, blocks = w.copy(), np.empty_like(w), []
        for start in range(0, len(w), BLOCK):
            end = min(start + BLOCK, len(w))
            if self.range is None:
                q[start:end], errors = self._block(start, left[start:end], np.float32(1))
            else:
                offsets, q[start:end], errors = self._best_block(start, left[start:end])
                blocks.append(offsets)
            left[end:] -= self.upper[start:end, end:].T @ errors
        for _ in range(SWEEPS):
            if not self._sweep(w, q, blocks):
                break
        return q, np.array(blocks) if blocks else None

    def _sweep(self, w, q, blocks):
        """Round each weight anew, the others as they are; how many have changed."""
        slope, changed = self.hessian @ (q - w), 0
        for number, start in enumerate(range(0, len(w), BLOCK)):
            end = min(start + BLOCK, len(w))
            scale = np.ldexp(np.float32(1), blocks[number]) if blocks else np.float32(1)
            here, steps = self.hessian[start:end, start:end], np.empty((end - start, w.shape[1]), np.float32)
            for i in range(end - start):
                new = self.round((q[start + i] - slope[start + i] / here[i, i]) / scale) * scale
                steps[i] = new - q[start + i]
                q[start + i] = new
                slope[start + i:end] += here[i:, i, None] * steps[i]
            changed += int(np.count_nonzero(steps))
            slope[end:] += self.hessian[end:, start:end] @ steps
        return changed


def compensated(weights: np.ndarray, hessian: np.ndarray, fmt: Fp8, *, max_row: int = 0, block_range: int | None = None,
                pair: bool = False, damping: float = DAMPING) -> Matrix:
    """A matrix rounded for its inputs: float [outputs, inputs] and H [inputs, inputs] -> Matrix.

    Parameters
    ----------
    max_row : int               the largest offset of a row's exponent; 0: there is one exponent
    block_range : int or None   the largest offset of a block of 32 inputs; None: there are none
    pair : bool                 second codes
    """
    with np.errstate(all="ignore"):     # exponents of rows of zeros
        rounding = _Rounding(hessian, fmt, pair, block_range, damping)
        w = np.ascontiguousarray(weights.T, np.float32)
        exponents = _row_exponents(rounding, w, max_row)
        base = int(exponents.min())
        q, blocks = (np.empty_like(w), None if block_range is None
                     else np.empty((-(-len(w) // BLOCK), w.shape[1]), np.int32))
        for start in range(0, w.shape[1], _ROWS):
            here = slice(start, start + _ROWS)
            q[:, here], offsets = rounding.rows(np.ldexp(w[:, here], -exponents[here]))
            if blocks is not None:
                assert offsets is not None
                blocks[:, here] = offsets
    if blocks is not None:
        q = np.ldexp(q, -blocks.repeat(BLOCK, axis=0)[:len(q)])
    codes = encode(q.T, fmt)
    lo = None
    if pair:
        lo = encode(q.T - np.ldexp(fmt.values().astype(np.float32), fmt.unit_exp)[codes], fmt)
    return Matrix(codes, base, fmt, lo, (exponents - base).astype(np.uint8) if max_row else None,
                  None if blocks is None else np.ascontiguousarray(blocks.T, np.uint8))


def _row_exponents(rounding, w, max_row):
    """Of each row, int32: the least that its weights can have, so with a block's offset 0."""
    highest = _fitting(np.abs(w).max(0), rounding.fmt)
    highest = np.where(highest == -512, highest.min(initial=0, where=highest != -512), highest)
    if not max_row:
        highest = np.full_like(highest, highest.max())
    if rounding.range:
        exponents = highest - max(0, rounding.range - 1)       # compensated, a weight may be larger than the largest
        scaled = np.ldexp(w, rounding.range + 1 - highest)      # in steps of the least exponent
        whole, even = (np.rint(x) == x for x in (scaled, scaled / 2))
        # blocks of MXFP4 that would not stay
        exponents -= (whole.all(axis=0) & ~even.all(axis=0)) * np.int32(min(1, rounding.range))
    else:
        tried = []
        for lower in range(LOWER + 1):
            errors = []
            for start in range(0, w.shape[1], _ROWS):
                part = slice(start, start + _ROWS)
                e = highest[part] - lower
                scaled = np.ldexp(w[:, part], -e)
                errors.append(rounding.error(np.ldexp(rounding.round(scaled) - scaled, e)))
            tried.append(np.concatenate(errors))
        exponents = highest - np.argmin(tried if max_row else [np.full(w.shape[1], errors.sum()) for errors in tried],
                                        axis=0)
    exponents = exponents.astype(np.int32)
    return np.maximum(exponents, exponents.max() - max_row)
