"""A checkpoint as FP8 codes: what the golden model computes with, and what the weight stream is packed from."""
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..params.block import Norm, Project
from ..params.checks import without_unused
from ..params.formats import E2M1, Fp8
from ..params.hardware import Recipe
from ..params.model import HEAD_BIAS_COLUMNS, ModelShape
from ..params.stream import BLOCK, HEAD
from .checkpoint import Checkpoint, tensor_shapes

__all__ = ["Layer", "Matrix", "QuantizedModel", "Recipe", "bf16", "bf16_values", "encode", "quantize",
           "quantize_head", "quantize_matrix", "scale_exponent", "score_factor"]

# elements that are converted at once: their float64 temporaries stay in a cache (5 ns an element; 28 at 1 << 20)
_CHUNK = 1 << 15


def encode(values: np.ndarray, fmt: Fp8, exponent: int = 0) -> np.ndarray:
    """FP8 codes of numbers times 2**exponent: nearest, ties to even, saturating. Any float array -> uint8 of the same
    shape."""
    values = np.asarray(values)
    codes = np.empty(values.shape, np.uint8)
    source, target, scale = values.reshape(-1), codes.reshape(-1), exponent
    for start in range(0, source.size, _CHUNK):
        part = source[start:start + _CHUNK]
        part = (np.ldexp(part, scale) if scale else part).astype(np.float64)
        magnitude = np.minimum(np.abs(part), fmt.max_value)
        # below the smallest normal number the step stays; frexp gives 0.5 <= m < 1, hence the - 1
        exponent = np.frexp(np.maximum(magnitude, 2.0 ** (1 - fmt.bias)))[1] - 1
        significand = np.rint(np.ldexp(magnitude, fmt.man_bits - exponent)).astype(np.int32)
        # a normal significand holds the hidden bit, worth one exponent: the sum also carries a rounding up
        code = ((exponent + (fmt.bias - 1)) << fmt.man_bits) + significand
        target[start:start + _CHUNK] = code | np.signbit(part).astype(np.int32) << fmt.bits - 1
    return codes


def bf16(values: np.ndarray) -> np.ndarray:
    """Bit patterns of finite numbers as bfloat16, nearest, ties to even: float32 -> uint16.

    As in the hardware there are no subnormals, and zero is positive.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(rounded & 0x7F80, rounded, 0).astype(np.uint16)


def bf16_values(bits: np.ndarray) -> np.ndarray:
    """The numbers of bfloat16 bit patterns: uint16 -> float32."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def scale_exponent(largest: float, fmt: Fp8) -> int:
    """The smallest exponent e with ``largest <= fmt.max_value * 2**e``; 0 for an all-zero tensor."""
    if largest == 0:
        return 0
    e = math.frexp(largest)[1] - math.frexp(fmt.max_value)[1]
    return e if largest <= math.ldexp(fmt.max_value, e) else e + 1


@dataclass(frozen=True, eq=False)
class Matrix:
    """One quantized matrix: the weight is the code's value times ``2**exponent``, and where there are offsets, times 2
    to the power of its row's and of its block's.

    Parameters
    ----------
    codes : uint8 [outputs, inputs]
    exponent : int
    lo : uint8 [outputs, inputs] or None     second codes, at the same exponents, to be added
    rows : uint8 [outputs] or None           0 to `Recipe.row_offsets`, of each output
    blocks : uint8 [outputs, ceil(inputs / 32)] or None     0 to 15, of each 32 inputs of each output
    """

    codes: np.ndarray
    exponent: int
    fmt: Fp8
    lo: np.ndarray | None = None
    rows: np.ndarray | None = None
    blocks: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        return self.codes.shape

    def values(self) -> np.ndarray:
        """The weights as float32, exactly: [outputs, inputs]."""
        table = np.ldexp(self.fmt.values().astype(np.float32), self.fmt.unit_exp + self.exponent)
        codes, lo = self.codes, self.lo
        values = np.empty(codes.shape, np.float32)
        step = max(1, _CHUNK // max(1, codes.shape[1]))
        for start in range(0, len(values), step):       # an index takes eight times a code's memory
            part = slice(start, start + step)
            values[part] = table[codes[part]] if lo is None else table[codes[part]] + table[lo[part]]
        offsets = self.offsets()
        return values if offsets is None else np.ldexp(values, offsets, out=values)

    def offsets(self) -> np.ndarray | None:
        """What is added to the exponent of each weight, int32 [outputs, inputs] or [outputs, 1]; None where there is
        nothing."""
        if self.rows is None and self.blocks is None:
            return None
        rows = 0 if self.rows is None else self.rows[:, None].astype(np.int32)
        blocks = (0 if self.blocks is None
                  else self.blocks.repeat(BLOCK, axis=1)[:, :self.codes.shape[1]].astype(np.int32))
        return np.asarray(rows + blocks)


def quantize_matrix(weights: np.ndarray, fmt: Fp8, *, pair: bool = False, rows: int = 0, blocks: int = 0) -> Matrix:
    """Codes of a matrix with one power-of-two scale: float [outputs, inputs] -> Matrix.

    ``rows``: and an offset of each output's, 0 to ``rows``; the exponent is then that of the least row, but no row
    clips.

    In E2M1 scales are those with the least squared error: of each block, with an offset of 0 to ``blocks`` to its
    row's; of rows if that is 0.
    """
    if fmt == E2M1:
        if pair:
            raise ValueError("Format of a pair must be of 8 bits, not e2m1")
        return _in_blocks(weights, rows, blocks)
    offsets, exponent = _row_offsets(weights, fmt, rows)
    if offsets is None and not pair:
        return Matrix(encode(weights, fmt, -exponent), exponent, fmt)
    scaled = np.ldexp(weights, -exponent if offsets is None else -exponent - offsets[:, None].astype(np.int32))
    codes = encode(scaled, fmt)
    lo = None
    if pair:
        table = np.ldexp(fmt.values().astype(np.float32), fmt.unit_exp)
        lo = encode(scaled - table[codes], fmt)
    return Matrix(codes, exponent, fmt, lo, offsets)


def _in_blocks(weights, rows, blocks):
    """The `Matrix` in E2M1."""
    outputs, inputs = weights.shape
    width = BLOCK if blocks else inputs
    count = -(-inputs // width)
    best = np.empty((outputs, count), np.int32)
    for start in range(0, outputs, chunk := max(1, _CHUNK // inputs)):
        here = slice(start, start + chunk)
        part = np.pad(weights[here], [(0, 0), (0, count * width - inputs)]).reshape(-1, count, width)
        best[here] = _least_error(part)
    real = best > _NONE
    if not rows and not blocks:
        largest = np.abs(weights).max(initial=0)
        best = np.full_like(best, scale_exponent(float(largest), E2M1))
        real = best > _NONE
    if not real.any():
        best, real = np.zeros_like(best), np.ones_like(real)
    highest = np.where(real, best, _NONE).max(axis=1)
    # of each row, with which its blocks are in range
    lowest = np.maximum(np.where(real, best, -_NONE).min(axis=1), highest - blocks)
    some = highest > _NONE
    exponent = int(max(lowest[some].min(), lowest[some].max() - rows))
    offsets = np.where(some, np.maximum(lowest - exponent, 0), 0)
    of_blocks = np.where(real, np.clip(best - (exponent + offsets)[:, None], 0, blocks), 0).astype(np.uint8)
    scales = (exponent + offsets)[:, None] + of_blocks.astype(np.int32)
    scaled = np.ldexp(weights, -scales.repeat(width, axis=1)[:, :inputs])
    return Matrix(encode(scaled, E2M1), exponent, E2M1, None, offsets.astype(np.uint8) if rows else None,
                  of_blocks if blocks else None)


_NONE = -10_000      # an exponent of a block of zeros: it may have any


def _least_error(part):
    """The exponent of each block, float [outputs, blocks, width] -> int32 [outputs, blocks]: the least that holds it,
    or one less, which clips."""
    mantissa, exponent = np.frexp(np.abs(part).max(axis=-1))
    holds = exponent + (mantissa > E2M1.max_value / 8) - 3
    table, errors = (E2M1.values() * 2.0 ** E2M1.unit_exp).astype(np.float32), []
    for e in (holds, holds - 1):
        scaled = np.ldexp(part, -e[..., None])
        errors.append(np.ldexp(np.square(table[encode(scaled, E2M1)] - scaled).sum(axis=-1), 2 * (e - holds)))
    return np.where(mantissa == 0, _NONE, holds - (errors[1] < errors[0])).astype(np.int32)


def _row_offsets(weights, fmt, most):
    """(uint8 [outputs], or None without any; the exponent): the least exponents with which nothing clips."""
    if not most:
        return None, scale_exponent(max(float(weights.max(initial=0)), -float(weights.min(initial=0))), fmt)
    largest = np.abs(weights).max(axis=1, initial=0)
    exponents = np.array([scale_exponent(float(row), fmt) for row in largest])
    if not largest.any():
        return np.zeros(len(weights), np.uint8), 0
    exponent = max(int(exponents[largest > 0].min()), int(exponents[largest > 0].max()) - most)
    return np.where(largest > 0, np.maximum(exponents - exponent, 0), 0).astype(np.uint8), exponent


def quantize_head(weights: np.ndarray, recipe: Recipe, bias: np.ndarray | None = None, gains: np.ndarray | None = None,
                  blocks: int = 0) -> tuple[Matrix, float]:
    """An LM head that is no embedding table: float [vocab_size, hidden_size] -> (Matrix [vocab_size, head_inputs],
    float: what its inputs behind hidden_size are).

    ``bias`` [vocab_size] and the final norm's ``gains`` are there where it has a bias. A row's weights of those inputs
    then add up to it: each is what those before it leave, rounded, at the exponent of the others, so that their sum is
    off by no more than one weight is. The inputs are a power of two near what the final norm makes, which the
    activations' scale leaves as it is; or a larger one, if the bias needs it. Without its second codes, the matrix of a
    pair is the single one. ``blocks`` as `quantize_matrix`.
    """
    fmt, pair = recipe.format_of(HEAD), recipe.head == "pair"
    matrix = quantize_matrix(weights, fmt, pair=pair, rows=recipe.row_offsets(HEAD), blocks=blocks)
    if bias is None:
        return matrix, 0.0
    assert gains is not None
    rest = np.ldexp(bias.astype(np.float64), -matrix.exponent
                    - (0 if matrix.rows is None else matrix.rows.astype(np.int32)))
    # the last column is for what is rounded away
    most = np.abs(rest).max() / (fmt.max_value * (HEAD_BIAS_COLUMNS - 1))
    mean = np.square(gains, dtype=np.float64).mean() or 1.0
    number = 2.0 ** max(round(math.log2(mean) / 2), math.ceil(math.log2(max(most, 2.0**-100))))
    rest, columns, values = rest / number, [], np.ldexp(fmt.values().astype(np.float64), fmt.unit_exp)
    for _ in range(HEAD_BIAS_COLUMNS * (1 + pair)):
        columns.append(encode(rest, fmt))
        rest = rest - values[columns[-1]]
    first, *second = np.split(np.stack(columns, axis=1), 1 + pair, axis=1)
    matrix = dataclasses.replace(matrix, codes=np.concatenate([matrix.codes, first], axis=1))
    return dataclasses.replace(matrix, lo=np.concatenate([matrix.lo, *second], axis=1)) if pair else matrix, number


class Layer:
    """One decoder layer: the matrices of its block and its vectors, as attributes by their names there.

    A matrix is a `Matrix`. A vector is bfloat16 bit patterns, uint16: gains of norms [hidden_size], and
    `params.block.Vector` s as the checkpoint has them: gains of queries and keys, and biases by the name of their
    matrix and "_bias".

    What makes queries holds ``log2(e) * score scale`` already (matrix and bias, or, where queries are normed, their
    gain), so that scores come out in the log2 domain and softmax is ``2**(score - maximum)``, without a multiplier for
    either factor.
    """

    def __init__(self, **parts: Matrix | np.ndarray) -> None:
        vars(self).update(parts)

    def matrices(self) -> dict[str, Matrix]:
        """Name -> Matrix, in the order of the block."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Matrix)}

    def vectors(self) -> dict[str, np.ndarray]:
        """Name -> bit patterns, gains of norms first."""
        return {name: part for name, part in vars(self).items() if not isinstance(part, Matrix)}


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantizedModel:
    """A whole model in codes. ``embedding`` is ``head`` itself when the recipe `ties` them; ``final_bias`` is there
    where the final norm has one, and ``positions`` where they are learned. ``head``, ``final_gain`` and ``final_bias``
    are of `ModelShape.head_inputs` elements."""

    shape: ModelShape
    recipe: Recipe
    layers: tuple       # of Layer
    final_gain: np.ndarray
    head: Matrix
    embedding: Matrix
    final_bias: np.ndarray | None = None
    positions: Matrix | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 over shape, recipe, codes, exponents and gains: names the model whatever file it came from."""
        shape = dataclasses.asdict(self.shape)
        del shape["name"]
        for field in dataclasses.fields(self.shape):        # models that do not use what came later keep their digest
            if (field.metadata.get("later") or field.name
                == "sliding_window") and getattr(self.shape, field.name) == field.default:
                del shape[field.name]
        recipe = {f.name: str(getattr(self.recipe, f.name)) for f in without_unused(self.recipe)}
        digest = hashlib.sha256(json.dumps([shape, recipe], sort_keys=True).encode())
        tables = [self.head] if self.embedding is self.head else [self.head, self.embedding]
        tables += [] if self.positions is None else [self.positions]
        for matrix in [m for layer in self.layers for m in layer.matrices().values()] + tables:
            digest.update(f"{matrix.exponent}".encode())
            digest.update(matrix.codes)
            for part in (matrix.lo, matrix.rows, matrix.blocks):
                if part is not None:
                    digest.update(part)
        final = [self.final_gain] if self.final_bias is None else [self.final_gain, self.final_bias]
        for gain in [g for layer in self.layers for g in layer.vectors().values()] + final:
            digest.update(gain.astype("<u2"))
        return digest.hexdigest()


def score_factor(shape: ModelShape) -> float:
    """What makes the queries of a `Layer` has been multiplied by."""
    return math.log2(math.e) * (1 / math.sqrt(shape.head_dim) if shape.score_scale is None else shape.score_scale)


def _layer(i, shape, recipe, made, read):
    """Layer ``i`` in codes: its matrices, gains and biases. ``read``: name -> tensor, ``made``: name and what makes it
    -> `Matrix`."""
    block, blocks = shape.block, recipe.largest_block(shape)
    project_of = {name: project.name for project in block.of(Project) for name in project.matrices}
    prefix = f"model.layers.{i}."
    factor = np.float64(score_factor(shape))

    def scaled(values, scales):
        return values * factor if scales else values

    parts, scores = {}, None if block.qk_norm else block.queries
    for matrix in block.matrices:
        name = prefix + matrix.tensor
        parts[matrix.name] = made(name, lambda name=name, matrix=matrix: quantize_matrix(
            scaled(read(name), matrix == scores), recipe.format_of(project_of[matrix.name], i),
            rows=recipe.row_offsets(matrix.name), blocks=blocks))
    for norm in block.of(Norm):
        parts[norm.gain] = bf16(np.ones(shape.hidden_size, np.float32) if norm.plain
                                else read(prefix + norm.tensor))
    if block.qk_norm:
        for matrix, tensor in ((block.queries, block.qk_norm.q_tensor), (block.keys, block.qk_norm.k_tensor)):
            parts[block.gain_of(matrix).name] = bf16(scaled(read(prefix + tensor), matrix == block.queries))
    for matrix in block.matrices:
        if matrix.biased:
            parts[f"{matrix.name}_bias"] = bf16(scaled(read(prefix + matrix.bias), matrix == scores))
    return Layer(**parts)


def quantize(checkpoint: Checkpoint, recipe: Recipe = Recipe(), progress: Callable[[int, int], object] | None = None,
             matrices: Mapping[str, Matrix] | None = None,
             put: Callable[[Matrix], Matrix] = lambda matrix: matrix) -> QuantizedModel:
    """All of a checkpoint in codes, reading one tensor at a time.

    ``progress``, if given, is called with (tensors done, tensors in all) after each one. ``matrices``: tensor name ->
    the `Matrix` that it has become already (that of queries with `score_factor` in it). ``put``: what a matrix becomes
    as soon as it is made, as `hwgen.models.store.Store.put`. A checkpoint that has codes in that recipe keeps them.
    """
    if checkpoint.kept is not None and checkpoint.kept.recipe == recipe:
        return checkpoint.kept
    shape, matrices = checkpoint.shape, matrices or {}
    total, done = len(tensor_shapes(shape)) + (shape.tie_word_embeddings and not recipe.ties(shape)), 0

    def read(name):
        nonlocal done
        values = checkpoint.tensor(name)
        done += 1
        if progress:
            progress(done, total)
        return values

    recipe.check(shape)
    blocks = recipe.largest_block(shape)

    def made(name, make):
        return put(matrices.get(name) or make())

    def table(name):
        return made(name, lambda: quantize_matrix(read(name), recipe.weight_format, pair=recipe.head == "pair",
                                                  rows=recipe.row_offsets(HEAD)))

    embedding = table("model.embed_tokens.weight")
    positions = table("model.embed_positions.weight") if shape.learned_positions else None
    layers = tuple(_layer(i, shape, recipe, made, read) for i in range(shape.num_hidden_layers))
    gains = read("model.norm.weight")
    final_gain, final_bias = bf16(gains), bf16(read("model.norm.bias")) if shape.block.final_bias else None
    if recipe.ties(shape):
        head = embedding
    elif "lm_head.weight" in matrices:
        head = put(matrices["lm_head.weight"])
    else:
        head, behind = quantize_head(read("lm_head.weight"), recipe, read("lm_head.bias") if shape.head_bias else None,
                                     gains, blocks)
        head = put(head)
    if shape.head_bias:
        assert final_bias is not None       # `ModelShape` has checked it
        final_gain, final_bias = (np.append(vector, bf16(np.full(HEAD_BIAS_COLUMNS, value)))
                                  for vector, value in ((final_gain, 0.0), (final_bias, behind)))
    return QuantizedModel(shape=shape, recipe=recipe, layers=layers, final_gain=final_gain, head=head,
                          embedding=embedding, final_bias=final_bias, positions=positions)
