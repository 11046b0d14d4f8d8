"""Codes of a whole model that are chosen for its inputs on a calibration text; `models.rounding` chooses those of a
matrix.

Layer by layer, each matrix sees the inputs that the machine will give it: those of the matrices before it as they are
rounded, themselves rounded to the activations' format. Before that, channels are balanced: a gain of a norm times 2**k
and the columns behind it times 2**-k are the same model, to the last bit, and so are rows of values or of "up" and the
columns behind them. (SmoothQuant, Xiao et al., 2022, arXiv 2211.10438, and AWQ, Lin et al., 2023, arXiv 2306.00978, do
that with other numbers than powers of two.)
"""
import contextlib
import hashlib
from pathlib import Path

import numpy as np

from ..models import DEMO, ModelError, kept
from ..models.accuracy import windows
from ..models.quantize import bf16, bf16_values, quantize, quantize_matrix, score_factor
from ..models.reference import Reference
from ..models.rounding import DAMPING, compensated
from ..params.block import Project
from ..params.formats import E2M1
from ..params.stream import HEAD
from .accuracy import PartlyFp8, fp8_rounded

__all__ = ["Texts", "balanced", "calibration_texts", "compensate", "identity", "kept_in"]

METHOD = 1      # changes when results do

#: How much of the channels' differences is taken from the activations: those that are tried.
SHARES = (0.5, 1.0)
#: A balance is taken if it makes the error this much of what it is without, or less.
HELPS = 0.95
SAMPLE = 256        # tokens on which it is tried
FURTHEST = 12       # binades that a channel is moved, at most
#: Of the mean of its diagonal, added to that of the LM head's H: a tied table is rows of embeddings too, which want the
#: least error without H.
TABLE_DAMPING = 0.05


class Texts(Reference):
    """A model's layers over several texts at once: a row is a token of one of them, in order."""

    def __init__(self, shape, weights, texts):
        super().__init__(shape, weights, keep=False)
        lengths = [len(text) for text in texts]
        self._slices = [slice(end - length, end) for end, length in zip(np.cumsum(lengths), lengths)]
        self._tokens, self._positions = np.concatenate(texts), np.concatenate([np.arange(n) for n in lengths])
        self._turns = self.turns(self._positions)

    def start(self):
        """The residual before the layers: [tokens, hidden]."""
        return self.embedded(self._tokens, self._positions)

    def layer(self, i, x):
        """And after a layer."""
        keys, values = (np.empty((self.shape.num_key_value_heads, len(x), self.shape.head_dim), np.float32)
                        for _ in range(2))
        return self._layer(i, x, keys, values, self._turns[i])

    def _attention(self, q, keys, values, window):
        return np.concatenate([super(Texts, self)._attention(q[:, here], keys[:, here], values[:, here], window)
                               for here in self._slices])


class _Exact(Texts):
    """Float32. ``seen(matrix name in the block, x, weights)`` is called with what goes into each matrix."""

    def __init__(self, checkpoint, texts, seen):
        super().__init__(checkpoint.shape, checkpoint.tensor, texts)
        self._names, self._seen = {matrix.tensor: matrix.name for matrix in checkpoint.shape.block.matrices}, seen

    def times(self, x, name):
        weights = self._weights[name]
        self._seen(self._names[name.split(".", 3)[3]], x, weights)
        return x @ weights.T


def _scales(shape, recipe, name):
    """`quantize_matrix`'s options of a matrix, or of "head"."""
    return {"rows": recipe.row_offsets(name), "blocks": recipe.largest_block(shape)}


class _Balance:
    """What is tried of a layer: the powers of two of its channels."""

    def __init__(self, shape, recipe, layer):
        self.shape, self.recipe, self.number = shape, recipe, layer
        self.block, self._tried = shape.block, {}

    def seen(self, name, x, weights):
        """Inputs [tokens, inputs] of a matrix [outputs, inputs]."""
        project = next(project for project in self.block.of(Project) if name in project.matrices)
        place = self._place(project)
        if place is None:
            return
        if place not in self._tried:
            self._tried[place] = {share: [self._powers(place, x, share), 0.0] for share in (0.0, *SHARES)}
        some = x[::max(1, len(x) // SAMPLE)]
        exact, fmt = some @ weights.T, self.recipe.format_of(project.name, self.number)
        for tried in self._tried[place].values():
            powers = self._columns(place, tried[0])
            rounded = quantize_matrix(np.ldexp(weights, powers), fmt, **_scales(self.shape, self.recipe, name)).values()
            tried[1] += np.square(fp8_rounded(np.ldexp(some, -powers), self.recipe.activation_format) @ rounded.T
                                  - exact, dtype=np.float64).sum()

    def _place(self, project):
        """Where a project's inputs can be scaled: the tensor that makes them, or None."""
        if project.inputs == "hidden":
            norm = self.block.norm_before(project)
            return None if norm.plain else norm.tensor
        if project.inputs == "heads":
            return self.block.values.tensor
        return self.block.matrix(self.block.into_ff.matrices[-1]).tensor if self.block.gated else None

    def _columns(self, place, powers):
        """Of the channels of what makes them, those of what reads them: heads of queries share their values."""
        if place != self.block.values.tensor:
            return powers
        return powers.reshape(-1, 1, self.shape.head_dim).repeat(self.shape.group_size, axis=1).reshape(-1)

    def _powers(self, place, x, share):
        size = np.sqrt(np.square(x, dtype=np.float64).mean(0))
        if place == self.block.values.tensor:
            size = size.reshape(self.shape.num_key_value_heads, -1, self.shape.head_dim).max(1).reshape(-1)
        if not (size > 0).any():
            return np.zeros(len(size), np.int32)
        logs = np.log2(np.maximum(size, size.max() * 2.0**-40))
        return np.clip(np.rint(share * (logs - np.median(logs))), -FURTHEST, FURTHEST).astype(np.int32)

    def found(self):
        """Tensor name -> [(axis, powers of two that it is multiplied with)]."""
        prefix, found = f"model.layers.{self.number}.", {}
        for place, tried in self._tried.items():
            best = min(tried.values(), key=lambda each: each[1])
            if not best[1] <= HELPS * tried[0.0][1]:
                continue
            if not best[0].any():
                continue
            found.setdefault(prefix + place, []).append((0, -best[0]))
            matrix = next((matrix for matrix in self.block.matrices if matrix.tensor == place), None)
            if matrix is not None and matrix.biased:
                found.setdefault(prefix + matrix.bias, []).append((0, -best[0]))
            for project in self.block.of(Project):
                if self._place(project) == place:
                    for name in project.matrices:
                        found.setdefault(prefix + self.block.matrix(name).tensor,
                                         []).append((-1, self._columns(place, best[0])))
        return found


def balanced(checkpoint, powers):
    """The same model, with some tensors' channels times powers of two: tensor name -> [(axis, int [channels])] (-1:
    columns)."""
    def read(name):
        values = checkpoint.tensor(name)
        for axis, power in powers.get(name, ()):
            values = np.ldexp(values, power if axis == -1 or values.ndim == 1 else power[:, None])
        return values

    return checkpoint.with_tensors(read)


class _Rounded(PartlyFp8, Texts):
    """The machine's roundings in float32. A matrix is rounded for its inputs when they come; ``matrices`` has them by
    the tensors' names."""

    def __init__(self, checkpoint, recipe, texts, matrices, done):
        self.matrices, self.recipe, self._done, self._checkpoint = matrices, recipe, done, checkpoint

        def weights(name):
            if name in matrices:
                return matrices[name].values()
            values = checkpoint.tensor(name)
            return bf16_values(bf16(values)) if values.ndim == 1 else values

        Texts.__init__(self, checkpoint.shape, weights, texts)
        self._round(recipe, ("activations", "heads", "p"))
        block = checkpoint.shape.block
        self._of = {matrix.tensor: (matrix, project.name) for project in block.of(Project) for matrix in block.matrices
                    if matrix.name in project.matrices}
        self._inputs: tuple = None, None      # (layer, project), and its inputs' products

    def times(self, x, name):
        x = self._rounded("activations", x)
        _, _, layer, tensor = name.split(".", 3)
        matrix, project = self._of[tensor]
        if self._inputs[0] != (layer, project):
            self._inputs = (layer, project), x.T @ x
        block, recipe = self.shape.block, self.recipe
        factor = np.float64(score_factor(self.shape)) if matrix == block.queries and not block.qk_norm else 1
        fmt = recipe.format_of(project, int(layer))
        made = compensated(self._checkpoint.tensor(name) * factor, self._inputs[1], fmt,
                           max_row=recipe.row_offsets(matrix.name), block_range=_blocks(self.shape, recipe, fmt))
        self.matrices[name] = made
        self._done()
        return x @ (made.values() / np.float32(factor)).T


def _blocks(shape, recipe, fmt):
    """`compensated`'s block_range."""
    return (recipe.largest_block(shape) or None) if fmt.bits == 4 else None


def _table(weights, hessian, shape, recipe, fmt, damping):
    return compensated(weights, hessian, fmt, max_row=recipe.row_offsets(HEAD), block_range=_blocks(shape, recipe, fmt),
                       pair=recipe.head == "pair", damping=damping)


def compensate(checkpoint, recipe, texts, progress=None, *, balance=True):
    """(`QuantizedModel`, largest magnitude of the residual) of a checkpoint, for texts (lists of tokens, each at most
    the model's context).

    ``progress`` is called with (steps done, steps in all). A head with a bias is rounded to nearest, and so are tables
    that are no head.
    """
    shape = checkpoint.shape
    recipe.check(shape)
    # blocks that are in MXFP4 stay
    balance = balance and not (checkpoint.in_blocks and E2M1 in recipe.formats(shape))
    layers, done = shape.num_hidden_layers, 0
    total = layers + 1 + layers * len(shape.block.matrices)

    def step():
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    def seen(*what):
        if balance:
            assert found is not None        # a layer is under way
            found.seen(*what)

    found: _Balance | None = None
    powers, largest = {}, 0.0
    exact = _Exact(checkpoint, texts, seen)
    with np.errstate(over="ignore"):
        x = exact.start()
        for i in range(layers):
            largest, found = max(largest, float(np.abs(x).max())), _Balance(shape, recipe, i)
            x = exact.layer(i, x)
            powers |= found.found()
            step()
    largest, matrices = max(largest, float(np.abs(x).max())), {}
    checkpoint = balanced(checkpoint, powers)
    tied = recipe.ties(shape)
    if tied:        # embeddings come first, so the head is rounded for the exact inputs
        inputs = fp8_rounded(exact.normed(x), recipe.activation_format)
        matrices["model.embed_tokens.weight"] = _table(checkpoint.tensor("model.embed_tokens.weight"),
                                                       inputs.T @ inputs, shape, recipe, recipe.weight_format,
                                                       TABLE_DAMPING)
        step()
    else:
        matrices["model.embed_tokens.weight"] = quantize_matrix(checkpoint.tensor("model.embed_tokens.weight"),
                                                                recipe.weight_format, pair=recipe.head == "pair",
                                                                **_scales(shape, recipe, HEAD))
    rounded = _Rounded(checkpoint, recipe, texts, matrices, step)
    x = rounded.start()
    for i in range(layers):
        x = rounded.layer(i, x)
    if not tied and not shape.head_bias:
        inputs = fp8_rounded(rounded.normed(x), recipe.activation_format)
        matrices["lm_head.weight"] = _table(checkpoint.tensor("lm_head.weight"), inputs.T @ inputs, shape, recipe,
                                            recipe.format_of(HEAD), DAMPING)
        step()
    return quantize(checkpoint, recipe, matrices=matrices), largest


def calibration_texts(checkpoint, text=None, count=8192):
    """The first ``count`` tokens of a text (None: the one that comes with hwgen) in pieces of at most 256, each as a
    text of its own: lists of tokens.

    ValueError if there are fewer than 2.
    """
    text = (DEMO / "calibration.txt").read_text(encoding="utf-8") if text is None else text
    tokens = checkpoint.tokenizer.encode(text, special=False)[:count]
    if len(tokens) < 2:
        raise ValueError(f"Calibration text must be at least 2 tokens long, not {len(tokens)}")
    prefix = checkpoint.tokenizer.encode("")
    return [[*prefix, *piece] for piece in windows(tokens, min(256, checkpoint.shape.longest_context) - len(prefix))]


def identity(checkpoint, recipe, texts):
    """A text that differs where a result of `compensate` would: of all weights, of the recipe, the calibration text,
    and the way it is done."""
    in_blocks = [sorted(checkpoint.in_blocks)] if checkpoint.in_blocks else []
    digest = hashlib.sha256(repr((METHOD, checkpoint.shape, recipe, texts, *in_blocks)).encode())
    for name in checkpoint.names():
        digest.update(checkpoint.tensor(name))
    return digest.hexdigest()[:32]


def kept_in(folder, checkpoint, recipe, texts, progress=None):
    """(`QuantizedModel` of `compensate`, whether it was there): from a folder where the same was kept, or made, and
    kept there.

    What is damaged is made anew.
    """
    source = f"{Path(checkpoint.source).name}, {identity(checkpoint, recipe, texts)}"
    if kept.made_from(folder) == source:
        with contextlib.suppress(ModelError):
            return kept.load_kept(folder, need_tokenizer=checkpoint.tokenizer is not None).kept, True
    quantized, largest = compensate(checkpoint, recipe, texts, progress)
    kept.keep(quantized, checkpoint, folder, largest=largest, source=source)
    return quantized, False
