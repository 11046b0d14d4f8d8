"""Whether a model's numbers suit the machine: the residual's range, each matrix's rounding, their cost on a text."""
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..lib.memory import give_back
from ..models.accuracy import KL_CAP, Agreement
from ..models.checkpoint import Checkpoint
from ..models.quantize import Matrix, QuantizedModel, quantize, quantize_head, quantize_matrix
from ..params.formats import E2M1, FORMATS
from ..params.hardware import MOST_FRACTION, Recipe
from ..params.stream import BLOCK
from .rounded import Exact, Rounded, matrix_of

__all__ = ["CALIBRATION", "HEADROOM", "HELPS", "KL_LIMIT", "MATRIX_LIMIT", "ROUNDING_LIMIT", "MatrixRange", "Ranges",
           "advice", "calibration", "fitting_fraction", "lines", "measure", "problems", "rounded_anew"]

TOKENS = 128        # of a text: bounds what measuring costs

#: A text of several kinds, for models that have a tokenizer; written for this.
CALIBRATION = """\
The harbour was quiet when the ferry left at 6:45. Three people stood on deck, and none of them \
spoke until the lights were far behind.
def area(width, height=2.5):
    return width * height  # 3 * 2.5 = 7.5
Der Zug nach Norden hat heute 20 Minuten Verspätung. ¿Dónde está la biblioteca?
"""

#: The residual should be able to hold so many times the largest number of the text: others are longer.
HEADROOM = 2
#: Rounding of the residual, of its rms, in all but a tenth of the tokens. Measured: the demo model (its head untied),
#: scaled by powers of two so that what it computes stays the same, has KL 0.0058 instead of 0.0057 where this is 0.04,
#: 0.0084 instead of 0.0054 at 0.08, 0.015 instead of 0.005 at 0.16.
ROUNDING_LIMIT = 1 / 16
#: Error of half of a matrix's rows, of their size. Matrices of trained and of random models have 0.013 (E3M4) to 0.029
#: (E4M3), whatever their size. Measured: one weight 50 times the largest of its matrix, in the demo model, makes it
#: 0.06 to 0.11, and the KL up to seventy times as large.
MATRIX_LIMIT = 0.04
#: The same of a matrix in E2M1. Random ones have 0.11.
E2M1_LIMIT = 0.2
#: Capped KL of the text's next tokens from float32's. Models that suit have 0.005 to 0.07 (docs/accuracy.md).
KL_LIMIT = 0.1
#: An option is named if it makes the capped KL this much of what it was, or less. Measured with outliers in one to all
#: matrices of the shipped models: the golden model's on another text is then 0.2 to 0.65 of what it was.
HELPS = 1 / 2

MATRICES = 3        # are named
_CHUNK = 1 << 20    # weights that are compared at once


@dataclass(frozen=True)
class MatrixRange:
    """error: of the median row, of its size (root of squares); peak: the largest weight, of the matrix's rms; limit: of
    the error; anew: blocks of 32 inputs that are not what the model's files have, which has them in MXFP4, and all of
    them."""
    error: float
    peak: float
    limit: float = MATRIX_LIMIT
    anew: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Ranges:
    """The results of `measure` for a model in a recipe, with a residual of ``fraction`` fraction bits.

    ``largest`` and ``rms`` are those of the residual's points: the embeddings, then after each attention and each MLP:
    float [points] and [points, tokens]. ``matrices``: tensor name -> `MatrixRange`. ``cost``: of the machine's
    roundings, against float32, an `Agreement`.
    """
    fraction: int
    largest: np.ndarray
    rms: np.ndarray
    matrices: dict[str, MatrixRange]
    cost: Agreement

    @cached_property
    def rounding(self) -> np.ndarray:
        """Error of the residual's roundings at each point, of its rms, in nine tenths of the tokens, times 2**fraction.

        Each rounding is off by 1/sqrt(12) of the last place, and they add up as a random walk. Tokens whose numbers are
        all 0 do not count.
        """
        walk = np.sqrt(np.arange(1, len(self.rms) + 1) / 12)
        return np.array([w / np.quantile(rms[rms > 0], 0.1) if (rms > 0).any() else 0.0
                         for w, rms in zip(walk, self.rms)])

    @property
    def fractions(self) -> range:
        """The values of residual_fraction, 0 to 32, that suit: neither too coarse nor clipped. Maybe none."""
        largest, finest = self.largest.max(), self.rounding.max()
        if not (np.isfinite(largest) and np.isfinite(finest)):
            return range(0)
        highest = math.floor(31 - math.log2(HEADROOM * largest)) if largest else MOST_FRACTION
        lowest = math.ceil(math.log2(finest / ROUNDING_LIMIT)) if finest else 0
        return range(max(lowest, 0), min(highest, MOST_FRACTION) + 1)

    @property
    def fitting(self) -> int | None:
        """The ``fraction`` if it suits; else that in the middle of those that do, or None."""
        suitable = self.fractions
        if self.fraction in suitable:
            return self.fraction
        return suitable[len(suitable) // 2] if suitable else None


def calibration(checkpoint: Checkpoint, text: str = CALIBRATION) -> list[int]:
    """Up to TOKENS tokens to measure a model with: of a text, or random ones if it has no tokenizer. A list."""
    limit = min(TOKENS, checkpoint.shape.longest_context)
    tokens = checkpoint.tokenizer.encode(text)[:limit] if checkpoint.tokenizer else []
    return tokens or np.random.default_rng(0).integers(0, checkpoint.shape.vocab_size, limit).tolist()


def fitting_fraction(checkpoint: Checkpoint, fraction: int) -> int | None:
    """``fraction`` if it suits the model's residual, else one that does, or None if none does. Reads each tensor
    once."""
    with np.errstate(all="ignore"):
        exact = Exact(checkpoint.shape, checkpoint.tensor)
        exact.hidden(calibration(checkpoint))
    return _ranges_of(exact, checkpoint, fraction, {}, None).fitting


def _ranges_of(exact, checkpoint, fraction, matrices, cost):
    """The `Ranges` of what a run has seen; of codes that are kept also what the text saw for which they were made."""
    largest, rms = (np.nan_to_num(np.array(values), nan=np.inf) for values in (exact.largest, exact.rms))
    if checkpoint.largest_residual is not None:
        largest[largest.argmax()] = max(largest.max(), checkpoint.largest_residual)
    return Ranges(fraction, largest, rms, matrices, cost)


def _compare(weights, matrix, factor, in_blocks=False):
    """`MatrixRange` of a matrix, which may be one of MXFP4 blocks, and its codes."""
    step = max(1, _CHUNK // weights.shape[1])
    of_errors, of_exact, largest, anew, blocks_in_all = [], [], 0.0, 0, 0
    codes, second = matrix.codes, matrix.lo
    for start in range(0, len(weights), step):
        here = slice(start, start + step)
        exact = np.ldexp(weights[here] * np.float32(factor), -matrix.exponent)      # as large as codes: squares fit
        here_too = here, slice(weights.shape[1])        # without what is behind it
        lo = second if second is None else second[here_too]
        rows, blocks = (part if part is None else part[here] for part in (matrix.rows, matrix.blocks))
        off = Matrix(codes[here_too], 0, matrix.fmt, lo, rows, blocks).values() - exact
        of_errors.append(np.einsum("ij,ij->i", off, off))
        of_exact.append(np.einsum("ij,ij->i", exact, exact))
        largest = max(largest, np.abs(exact).max())
        if in_blocks:
            changed = off.reshape(len(off), -1, BLOCK).any(axis=2)
            anew, blocks_in_all = anew + int(changed.sum()), blocks_in_all + changed.size
    errors, sizes = np.concatenate(of_errors), np.concatenate(of_exact)
    if not sizes.any():
        return MatrixRange(0.0, 0.0, anew=(anew, blocks_in_all))
    real = sizes > 0
    return MatrixRange(float(np.sqrt(np.median(errors[real] / sizes[real]))),
                       float(largest / np.sqrt(sizes.sum() / weights.size)), E2M1_LIMIT if matrix.fmt == E2M1
                       else MATRIX_LIMIT, (anew, blocks_in_all))


def _cost(reference, logits):
    """`Agreement` of logits [n, vocab] with the reference's. (Which tokens really come next is not asked.)"""
    sums = Agreement()
    for a, b in zip(np.array_split(reference, 8), np.array_split(logits, 8)):       # bounds the float64 temporaries
        sums.add(a, b, np.zeros(len(a), int))
    return sums


def measure(checkpoint: Checkpoint, quantized: QuantizedModel, fraction: int,
            tokens: Sequence[int]) -> tuple[Ranges, np.ndarray]:
    """(`Ranges` of a quantized model and its checkpoint on a text, logits of float32 [n, vocab]).

    Reads each matrix once (a tied table twice), gains and biases twice, and keeps none.
    """
    matrices = {}

    def weights(name):
        values = checkpoint.tensor(name)
        if values.ndim == 2 and name not in matrices:
            matrix, factor = matrix_of(quantized, name)
            matrices[name] = _compare(values, matrix, factor, name in checkpoint.in_blocks)
        return values

    with np.errstate(all="ignore"):         # what is no number is said to be so
        exact = Exact(checkpoint.shape, weights, own_head=not quantized.recipe.ties(checkpoint.shape))
        logits = exact.logits(tokens)
        cost = _cost(logits, Rounded(checkpoint, quantized, quantized.recipe, fraction).logits(tokens))
    return _ranges_of(exact, checkpoint, fraction, matrices, cost), logits


# -- what to say

def _where(point):
    """A point of the residual in words."""
    layer, half = divmod(point - 1, 2)
    return "in the embeddings" if point == 0 else f"after the {'MLP' if half else 'attention'} of layer {layer}"


def _number(x):
    return f"{x:.3g}" if x < 10 or x >= 1e12 else f"{x:,.0f}"


def _residual_problem(ranges):
    """A sentence, or None."""
    limit, suitable, best = 2.0 ** (31 - ranges.fraction), ranges.fractions, ranges.fitting
    if best == ranges.fraction:
        return None
    if HEADROOM * ranges.largest.max() > limit:
        point = int(ranges.largest.argmax())
        text = (f"the residual reaches {_number(ranges.largest[point])} {_where(point)}, and with "
                f"residual_fraction={ranges.fraction} it holds numbers below {_number(limit)}")
    else:
        point = int(ranges.rounding.argmax())
        off = ranges.rounding[point] / 2.0 ** ranges.fraction
        text = (f"the residual is so small {_where(point)} that residual_fraction={ranges.fraction} rounds it "
                + (f"by {off:.0%} of its size" if off < 1 else "away"))
    if best is None:
        return f"{text}: no residual_fraction fits this model"
    every = f"{suitable[0]} to {suitable[-1]} fit" if len(suitable) > 1 else "the only one that fits"
    return f"{text}: take residual_fraction={best} in --shape ({every})"


def _options(recipe):
    """(What to take, Recipe) of other formats. (Of those with offsets or E2M1 `hwgen accuracy` makes a table.)"""
    changed = next(fmt for fmt in FORMATS.values() if fmt != recipe.activation_format)
    if recipe.scales != "matrix" or recipe.overrides:
        yield f"activations={changed} in --formats", dataclasses.replace(recipe, activation_format=changed)
        return
    other = next(fmt for fmt in FORMATS.values() if fmt != recipe.weight_format)

    def option(text, **changes):
        return text, dataclasses.replace(recipe, **changes)

    yield option(f"weights={other} in --formats", weight_format=other)
    if recipe.head == "single":
        yield option("--head pair", head="pair")
        yield option(f"weights={other} in --formats and --head pair", weight_format=other, head="pair")
    yield option(f"activations={changed} in --formats", activation_format=changed)
    yield option(f"weights={other},activations={changed} in --formats", weight_format=other, activation_format=changed)


def _no_help(recipe):
    """That none of `_options` is much better."""
    if recipe.scales == "matrix" and not recipe.overrides:
        return "no other format makes it half of that"
    return "other activations do not make it half of that (hwgen accuracy MODEL --recipe R compares formats of weights)"


def _in(recipe, quantized, checkpoint, others):
    """A quantized model in another recipe, whose codes are made anew where they must be; ``others`` keeps them."""
    tied = recipe.ties(checkpoint.shape)
    if recipe.weight_format != quantized.recipe.weight_format:
        if not others:
            others.append(quantize(checkpoint, dataclasses.replace(recipe, head="pair")))
        model = others[0]
        if recipe.head == "single":
            head, embedding = (dataclasses.replace(table, lo=None) for table in (model.head, model.embedding))
            positions = model.positions and dataclasses.replace(model.positions, lo=None)
            model = dataclasses.replace(model, head=head, embedding=head if tied else embedding, positions=positions)
    elif recipe.head != quantized.recipe.head:
        of_bias = ("lm_head.bias", "model.norm.weight") if checkpoint.shape.head_bias else ()
        head, _ = quantize_head(checkpoint.tensor("lm_head.weight"), recipe, *map(checkpoint.tensor, of_bias))
        embedding = quantize_matrix(checkpoint.tensor("model.embed_tokens.weight"), recipe.weight_format, pair=True)
        positions = quantized.positions and quantize_matrix(checkpoint.tensor("model.embed_positions.weight"),
                                                            recipe.weight_format, pair=True)
        model = dataclasses.replace(quantized, head=head, embedding=head if tied else embedding, positions=positions)
    else:
        model = quantized
    return dataclasses.replace(model, recipe=recipe)


def problems(checkpoint: Checkpoint, quantized: QuantizedModel, ranges: Ranges, logits: np.ndarray,
             tokens: Sequence[int]) -> list[str]:
    """Sentences that name each part of a model that does not suit the machine and, last, a remedy; none if all suits.

    What helps is tried: of the options that make the capped KL on the text small, the first that is within a fourth of
    the best is named.
    """
    found, fmt = list(filter(None, [_residual_problem(ranges)])), quantized.recipe.weight_format
    fraction, cost = ranges.fitting, ranges.cost

    others = []

    def trial(recipe):
        with np.errstate(all="ignore"):
            model = quantized if recipe == quantized.recipe else _in(recipe, quantized, checkpoint, others)
            there = Rounded(checkpoint, model, recipe, ranges.fraction if fraction is None else fraction)
            return _cost(logits, there.logits(tokens))

    if fraction not in (None, ranges.fraction):
        cost = trial(quantized.recipe)
        if cost.top1 > ranges.cost.top1:
            found[0] += (f"; there the likeliest token of a short text is float32's at {cost.top1:.0%} of its places, "
                         f"here at {ranges.cost.top1:.0%}")
    bad = sorted((-matrix.error, name) for name, matrix in ranges.matrices.items() if matrix.error > matrix.limit)
    found += [f"{name} does not suit {'e2m1' if ranges.matrices[name].limit == E2M1_LIMIT else fmt}: half of its rows "
              f"are off by {-error:.1%} of their "
              f"size or more (usual are {'11%' if ranges.matrices[name].limit == E2M1_LIMIT else '1.3% to 2.9%'}); "
              f"its largest weight is {ranges.matrices[name].peak:,.0f} times its rms"
              for error, name in bad[:MATRICES]]
    if bad[MATRICES:]:
        found.append(f"and {len(bad) - MATRICES} more of {len(ranges.matrices)} matrices do not suit {fmt}")
    found += _anew(ranges.matrices)
    if bad or cost.capped_kl > KL_LIMIT:
        kl = cost.capped_kl
        tried = [(trial(recipe).capped_kl, text) for text, recipe in _options(quantized.recipe)]
        limit = min(HELPS * kl, 1.25 * min(tried)[0])
        helps = [f": take {text}, where it is {less:.3f}" for less, text in tried if less <= limit]
        found.append(f"rounding costs KL {kl:.3f} from float32 on a short text"
                     + (helps or [f", and {_no_help(quantized.recipe)}"])[0])
    return found


def _anew(matrices):
    """What of matrices in MXFP4, name -> `MatrixRange`, is rounded anew: a sentence in a list, or none."""
    changed = {name: matrix.anew for name, matrix in matrices.items() if matrix.anew[0]}
    if not changed:
        return []
    name, (anew, of) = max(changed.items(), key=lambda item: item[1][0] / item[1][1])
    return [f"{len(changed)} of the {sum(matrix.anew[1] > 0 for matrix in matrices.values())} matrices that are in "
            f"MXFP4 are rounded anew: of {name} {anew:,} of {of:,} blocks. Formats e2m1 and a large block_range in "
            "--formats keep blocks, but not those of queries, which have the scale of scores in them"]


def rounded_anew(checkpoint: Checkpoint, quantized: QuantizedModel) -> list[str]:
    """The sentence that `problems` has of a model's matrices in MXFP4, in a list, or none. Reads each of them once."""
    found = {}
    for name in sorted(checkpoint.in_blocks):
        matrix, factor = matrix_of(quantized, name)
        found[name] = _compare(checkpoint.tensor(name), matrix, factor, True)
    return _anew(found)


def advice(checkpoint: Checkpoint, quantized: QuantizedModel, fraction: int,
           text: str = CALIBRATION) -> tuple[Ranges, list[str]]:
    """(`Ranges`, sentences of `problems`) of a quantized model and its checkpoint."""
    tokens = calibration(checkpoint, text)
    ranges, logits = measure(checkpoint, quantized, fraction, tokens)
    give_back()     # tables as float32, of which `problems` makes others
    return ranges, problems(checkpoint, quantized, ranges, logits, tokens)


def lines(ranges: Ranges, recipe: Recipe, sentences: Sequence[str]) -> Iterator[str]:
    """Everything, as lines to print: a table of the residual, one of the matrices, and the sentences of `problems`."""
    yield f"\n{'residual':44}{'largest':>14}{'rms':>14}{'rounded by':>12}"
    for point, (largest, rms, rounding) in enumerate(zip(ranges.largest, ranges.rms, ranges.rounding)):
        yield f"{_where(point):44}{largest:14.4g}{np.median(rms):14.4g}{rounding / 2.0 ** ranges.fraction:12.3%}"
    suitable = ranges.fractions
    yield (f"residual_fraction={ranges.fraction} holds numbers below {_number(2.0 ** (31 - ranges.fraction))}; "
           + (f"{suitable[0]} to {suitable[-1]} fit" if suitable else "none fits"))
    yield f"\n{f'matrix in {recipe.weight_format}':44}{'rows off by':>14}{'largest/rms':>14}"
    for name, matrix in ranges.matrices.items():
        yield f"{name:44}{matrix.error:14.2%}{matrix.peak:14.1f}"
    cost = ranges.cost
    yield (f"\nrounding costs KL {cost.capped_kl:.4f} from float32 on {cost.tokens} tokens, of each at most {KL_CAP} "
           f"(all: {cost.kl:.4f}); the likeliest token is the same at {cost.top1:.0%} of the places")
    yield from (f"warning: {sentence}" for sentence in sentences) if sentences else ["all of it suits the machine"]
