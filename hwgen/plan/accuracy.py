"""Accuracy of a recipe: perplexity, KL divergence and top-1 agreement with the float32 model, on a text."""
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from ..golden.decoder import GoldenDecoder
from ..models.accuracy import Agreement, windows
from ..models.checkpoint import Checkpoint
from ..models.quantize import QuantizedModel, quantize, quantize_matrix
from ..models.reference import Reference
from ..params.block import Project
from ..params.design import Design
from ..params.formats import Fp8
from ..params.hardware import HwShape, Recipe
from ..params.stream import HEAD

__all__ = ["PARTS", "PartlyFp8", "compare", "fp8_rounded", "golden", "report", "variants"]

#: What can be FP8 by itself: label -> operands (see PartlyFp8).
PARTS = {"weights only": ("weights",), "activations only": ("activations",), "Q, K and V only": ("heads",),
         "probabilities only": ("p",)}

#: A machine or a model: tokens -> logits [n, vocab].
_Logits = Callable[[Sequence[int]], np.ndarray]


def fp8_rounded(x: np.ndarray, fmt: Fp8, largest: np.ndarray | np.floating | None = None) -> np.ndarray:
    """``x`` rounded to ``fmt``, each row (last axis) with the power-of-two scale that its largest magnitude needs.

    ``largest`` fixes that magnitude instead. float32 [..., n] -> float32 [..., n].
    """
    if largest is None:
        largest = np.abs(x).max(-1, keepdims=True)
    exponent = np.ceil(np.log2(np.maximum(largest, 1e-30) / np.float32(fmt.max_value))).astype(np.int32)
    y = np.ldexp(x, -exponent)
    step = np.maximum(np.frexp(y)[1] - 1, 1 - fmt.bias) - fmt.man_bits
    return np.ldexp(np.clip(np.ldexp(np.rint(np.ldexp(y, -step)), step), -fmt.max_value, fmt.max_value), exponent)


class PartlyFp8(Reference):
    """The float32 model with some operands rounded to FP8 and everything else unchanged: the cost of each operand.

    Parameters
    ----------
    operands : of "weights" (LM head and embedding included), "activations" (inputs of all matrices), "heads" (queries,
        keys, values), "p"
    """

    def __init__(self, checkpoint: Checkpoint, recipe: Recipe, operands: Collection[str]) -> None:
        block, blocks = checkpoint.shape.block, recipe.largest_block(checkpoint.shape)
        project_of = {block.matrix(name).tensor: (name, project.name) for project in block.of(Project)
                      for name in project.matrices}

        def weights(name):
            values = checkpoint.tensor(name)
            if "weights" not in operands or values.ndim == 1:
                return values
            matrix, fmt = HEAD, recipe.format_of(HEAD) if name == "lm_head.weight" else recipe.weight_format
            if name.startswith("model.layers."):
                _, _, layer, tensor = name.split(".", 3)
                matrix, project = project_of[tensor]
                fmt = recipe.format_of(project, int(layer))
            return quantize_matrix(values, fmt, rows=recipe.row_offsets(matrix), blocks=blocks).values()

        super().__init__(checkpoint.shape, weights, own_head=not recipe.ties(checkpoint.shape))
        self._round(recipe, operands)

    def _round(self, recipe, operands):
        """Have what is no weight, of ``operands``, rounded to the recipe's formats."""
        formats = {"activations": recipe.activation_format, "heads": recipe.kv_format, "p": recipe.p_format}
        self._formats = {name: fmt for name, fmt in formats.items() if name in operands}

    def _rounded(self, operand, x):
        return fp8_rounded(x, self._formats[operand]) if operand in self._formats else x

    def head(self, hidden: np.ndarray) -> np.ndarray:
        return super().head(self._rounded("activations", hidden))

    def times(self, x: np.ndarray, name: str) -> np.ndarray:
        return super().times(self._rounded("activations", x), name)

    def _attention(self, q, keys, values, window):
        q, keys, values = (self._rounded("heads", a) for a in (q, keys, values))
        return super()._attention(q, keys, values, window)

    def probabilities(self, p: np.ndarray) -> np.ndarray:
        fmt = self._formats.get("p")
        return p if fmt is None else fp8_rounded(p * np.float32(2.0 ** fmt.max_exp), fmt,
                                                 largest=np.float32(fmt.max_value))


class _Golden:
    """What `golden` gives."""

    def __init__(self, decoder):
        self._decoder = decoder

    def __call__(self, tokens: Sequence[int]) -> np.ndarray:
        return self._decoder.logits(tokens)

    def clipped(self) -> int:
        return self._decoder.saturated


def golden(checkpoint: Checkpoint, recipe: Recipe, hw: HwShape, quantized: QuantizedModel | None = None) -> _Golden:
    """The machine's own logits, bit for bit: a function of a text's tokens, whose ``clipped()`` counts
    (`GoldenDecoder.saturated`).

    ``quantized``: the model in that recipe, if it is there. Of a shape only residual_fraction changes a logit; what is
    counted depends on vector_lanes too.
    """
    return _Golden(GoldenDecoder(Design(model=checkpoint.shape, hw=hw, recipe=recipe),
                                 quantized or quantize(checkpoint, recipe)))


def variants(checkpoint: Checkpoint, recipes: Mapping[str, Recipe], hw: HwShape, *, parts: bool = False,
             kept: Mapping[str, QuantizedModel] | None = None) -> dict[str, Callable[[], _Logits]]:
    """The machines for `compare`: each part of each format by itself, then the machine of each recipe (label -> Recipe)
    and an HwShape with room for a piece, then those of ``kept``, label -> QuantizedModel."""
    def partly(recipe, operands):
        return lambda: PartlyFp8(checkpoint, recipe, operands).logits

    def machine(recipe, quantized=None):
        return lambda: golden(checkpoint, recipe, hw, quantized)

    found = {}
    if parts:
        plain = {label: r.scales == "matrix" and not r.overrides for label, r in recipes.items()}
        for label, recipe in {r.weight_format.name if plain[label] else label: r
                              for label, r in recipes.items()}.items():
            found |= {f"{label}, {part}": partly(recipe, operands) for part, operands in PARTS.items()}
    found |= {label: machine(recipe) for label, recipe in recipes.items()}
    return found | {label: machine(quantized.recipe, quantized) for label, quantized in (kept or {}).items()}


def compare(checkpoint: Checkpoint, tokens: Sequence[int], models: Mapping[str, Callable[[], _Logits]], *, window: int,
            prefix: Sequence[int] = (),
            progress: Callable[[int, int], object] | None = None) -> dict[str, Agreement]:
    """Run a text through the float32 model and others, and see how far they are apart.

    Parameters
    ----------
    tokens : list of int           the text
    models : dict                  label -> function without arguments that makes a function tokens -> logits [n, vocab]
    window : int                   the text is cut into pieces of so many tokens, each a text of its own
    prefix : list of int           what the model wants before each piece
    progress : callable            called with (done, all) after each piece of each model

    Returns label -> `Agreement`.
    """
    pieces = [[*prefix, *piece] for piece in windows(tokens, window - len(prefix))]
    if not pieces:
        raise ValueError(f"Text must be at least 2 tokens long, not {len(tokens)}")
    first = max(1, len(prefix))                 # what is predicted: all of the text that has something before it
    done, total = 0, len(pieces) * (1 + len(models))

    def run(logits):
        nonlocal done
        for piece in pieces:
            yield logits(piece[:-1])[first - 1:]
            done += 1
            if progress:
                progress(done, total)

    exact = list(run(Reference.of(checkpoint).logits))
    found = {}
    for label, make in models.items():          # one at a time: each holds a copy of the weights
        found[label] = Agreement()
        model = make()
        for logits, piece, reference in zip(run(model), pieces, exact):
            found[label].add(reference, logits, np.asarray(piece[first:]))
        found[label].clipped = getattr(model, "clipped", int)()
    return found


def report(rows: Mapping[str, Agreement]) -> Iterator[str]:
    """Lines of a table of the results of `compare`."""
    first = next(iter(rows.values()))
    clipped, width = any(row.clipped for row in rows.values()), max(28, *(len(label) + 2 for label in rows))
    yield (f"{f'{first.tokens:,} predictions':{width}}{'perplexity':>12}{'against float32':>20}{'KL':>9}{'top-1':>9}"
           + clipped * f"{'clipped':>10}")
    yield f"{'float32':{width}}{first.reference_perplexity:12.3f}"
    for label, row in rows.items():
        yield (f"{label:{width}}{row.perplexity:12.3f}{row.perplexity_increase:+12.2%} \u00b1{row.increase_error:6.2%}"
               f"{row.kl:9.4f}{row.top1:9.2%}" + clipped * f"{row.clipped:10,}")
