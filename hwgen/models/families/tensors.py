"""Tensors of the machine's model, made from those of a file.

A `Plan` has a `Recipe` for each tensor; the functions below are the ways in which families store a model otherwise.
Each takes a plan and the `Given` options (or returns a function that does), changes the plan, and returns what it
folded, in words, or None. They apply to weights and biases alike, so that their order is that of the sums: what a norm
adds (`norm_biases`) comes before what is done to the rows of a matrix.
"""
import dataclasses
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

import numpy as np

from ...params.block import Norm
from ...params.model import ModelShape

__all__ = ["EMBEDDING", "FINAL_NORM", "HEAD", "Plan", "Recipe", "attention_factor", "by_kv_head", "centred",
           "factors", "fused", "interleaved",
           "no_final_bias", "no_gains", "norm_biases", "plus_one", "stacked", "two_norms"]

POSITIONS = "model.embed_positions.weight"
EMBEDDING, FINAL_NORM, FINAL_BIAS = "model.embed_tokens.weight", "model.norm.weight", "model.norm.bias"
HEAD, HEAD_BIAS = "lm_head.weight", "lm_head.bias"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a tensor is made.

    needs : dict        the file's tensors that it is made from -> the shape of each
    make : callable     (name -> float32 array) -> float32 array
    """
    needs: dict[str, tuple[int, ...]]
    make: Callable[[Callable[[str], np.ndarray]], np.ndarray]

    def then(self, function: Callable[[np.ndarray], np.ndarray]) -> "Recipe":
        """This, and then a function of the array."""
        return Recipe(self.needs, lambda read: np.asarray(function(self.make(read)), np.float32))


class Plan:
    """A `Recipe` for each tensor of a `ModelShape`: at first, the file has it as it is, and biases that it has not are
    zero.

    Parameters
    ----------
    shape : ModelShape
    sizes : dict             name -> shape of every tensor of the machine's model
    spelled : callable       name -> the file's
    own_biases : set         names of the matrices whose bias the file has
    tied : bool              the file's head is its embedding table (the machine's may be a table of its own all the
                             same)
    transposed : bool        the file has the matrices of layers as [inputs, outputs], as Conv1D of transformers does
    """

    def __init__(self, shape: ModelShape, sizes: dict[str, tuple[int, ...]],
                 spelled: Callable[[str], str] = lambda name: name, own_biases: Set[str] = frozenset(),
                 tied: bool = False, transposed: bool = False) -> None:
        self.shape, self.sizes, self.spelled, self.tied, self.transposed = shape, sizes, spelled, tied, transposed
        self.recipes = {name: self.stored(name, size) for name, size in sizes.items()}
        self._stored = dict(self.recipes)
        for matrix in shape.block.matrices:
            if matrix.biased and matrix.name not in own_biases:
                for name in self.of(matrix.bias):
                    self.recipes[name] = _constant(0, sizes[name])
        if tied and HEAD in self.recipes:
            self.recipes[HEAD] = self.stored(EMBEDDING, sizes[HEAD])

    def stored(self, name: str, size: tuple[int, ...]) -> Recipe:
        """The recipe of a tensor as the file has it."""
        file = self.spelled(name)
        if self.transposed and len(size) == 2 and name.startswith("model.layers."):
            return Recipe({file: tuple(size)[::-1]}, lambda read: read(file).T)
        return Recipe({file: tuple(size)}, lambda read: read(file))

    def of(self, *tensors: str) -> list[str]:
        """Full names: of a layer's tensor, that of each layer; those that the model has."""
        every = [[name] if name in self.recipes else [layer + name for layer in self.layers()] for name in tensors]
        return [name for names in every for name in names if name in self.recipes]

    def layers(self) -> list[str]:
        """What stands before the names of each layer's tensors."""
        return [f"model.layers.{i}." for i in range(self.shape.num_hidden_layers)]

    def change(self, *tensors: str, to: Callable[[np.ndarray], np.ndarray]) -> None:
        """A function of arrays is applied to these tensors, as `of` takes them."""
        for name in self.of(*tensors):
            self.recipes[name] = self.recipes[name].then(to)

    def needs(self) -> dict[str, tuple[int, ...]]:
        """The file's tensors that must be there -> their shapes."""
        return {name: size for recipe in self.recipes.values() for name, size in recipe.needs.items()}

    def made_of(self, files: Iterable[str]) -> frozenset[str]:
        """Names of the tensors that are made of these of the file's, and of no others."""
        return frozenset(name for name, recipe in self.recipes.items() if recipe.needs
                         and recipe.needs.keys() <= set(files))

    def modules(self, spelled: Callable[[str], str]) -> dict[str, str | None]:
        """The file's modules with a matrix -> the tensor of a layer that this is, untouched and part of nothing else;
        None for others. ``spelled``: see `Plan`."""
        users = [file for recipe in self.recipes.values() for file in recipe.needs]
        found: dict[str, str | None] = {spelled(HEAD).removesuffix(".weight"): None}       # a tied one too
        for name, recipe in self.recipes.items():
            if len(self.sizes[name]) == 2:
                alone = (name.startswith("model.layers.") and recipe is self._stored[name]
                         and all(users.count(file) == 1 for file in recipe.needs))
                module = (spelled(name) if alone or not name.startswith("model.layers.")
                          else next(iter(recipe.needs), name))
                found[module.removesuffix(".weight")] = name if alone else None
        return found

    def gains(self) -> list[str]:
        """Names of the gains of all norms, those of queries and keys too."""
        heads = self.shape.block.qk_norm
        return [norm.tensor for norm in self.shape.block.of(Norm) if not norm.plain] + [FINAL_NORM] + (
            [heads.q_tensor, heads.k_tensor] if heads else [])

    def both(self, *matrices: str) -> list[str]:
        """Names of weight and bias of these matrices."""
        found = [self.shape.block.matrix(name) for name in matrices]
        return [name for matrix in found for name in (matrix.tensor, matrix.bias)]


#: A function of a plan, and of `Given` or the metadata of a GGUF file: it says what it did, or None.
Fold = Callable[[Plan, Any], str | None]


def _constant(value: float, size: tuple[int, ...]) -> Recipe:
    return Recipe({}, lambda read: np.full(size, value, np.float32))


def factors(embedding: Callable[[Any], float] = lambda given: 1.0, residual: Callable[[Any], float] = lambda given: 1.0,
            logits: Callable[[Any], float] = lambda given: 1.0) -> Fold:
    """Factors of the embedding, of what is added to the residual, and of the logits, each a function of `Given`.

    Where the embedding is the head too, the final norm's gain takes the embedding's factor back.
    """
    def fold(plan, given):
        said = {"embedding": embedding(given), "residual": residual(given), "logits": logits(given)}
        plan.change(EMBEDDING, to=lambda w: w * np.float32(said["embedding"]))
        added = [norm.tensor for norm in plan.shape.block.of(Norm) if norm.reads == "sums"] or plan.both("o", "down")
        plan.change(*added, to=lambda w: w * np.float32(said["residual"]))
        gain = said["logits"] / said["embedding"] if plan.shape.tie_word_embeddings else said["logits"]
        plan.change(FINAL_NORM, FINAL_BIAS, to=lambda w: w * np.float32(gain))
        plan.change(HEAD_BIAS, to=lambda w: w * np.float32(said["logits"]))
        return ", ".join(f"{name} times {value:g}" for name, value in said.items() if value != 1) or None

    return fold


def attention_factor(plan: Plan, factors: Sequence[float]) -> str | None:
    """A factor of cosines and sines, of each layer: its square goes into the turned elements of the queries, or into
    the gains of their norm."""
    shape, norm = plan.shape, plan.shape.block.qk_norm
    turned = shape.head_dim if shape.rotary_dim is None else shape.rotary_dim
    for i, factor in enumerate(factors):
        if factor == 1:
            continue
        if norm and norm.after_rotary:
            raise ValueError(f"Attention factor of RoPE must be 1, not {factor:g}: the norm after RoPE would undo it")

        def scale(w, factor=factor):
            heads = w.reshape(-1, shape.head_dim, *w.shape[1:]).copy()
            heads[:, :turned] *= factor ** 2
            return heads.reshape(w.shape)

        plan.change(*(f"model.layers.{i}.{name}" for name in ([norm.q_tensor] if norm else plan.both("q"))), to=scale)
    found = sorted(set(factors) - {1})
    return (f"attention factor {', '.join(f'{factor:g}' for factor in found)} squared into the queries"
            if found else None)


def plus_one(plan: Plan, given: object) -> str:
    """Gains that are stored less 1."""
    plan.change(*plan.gains(), to=lambda w: w + 1)
    return "1 added to the gains"


def no_gains(plan: Plan, given: object) -> None:
    """Norms without a gain."""
    for name in plan.of(*plan.gains()):
        plan.recipes[name] = _constant(1, plan.sizes[name])


def no_final_bias(plan: Plan, given: object) -> None:
    """A final norm that adds nothing."""
    plan.recipes[FINAL_BIAS] = _constant(0, plan.sizes[FINAL_BIAS])


def stacked(shape: ModelShape, names: Sequence[str]) -> list[np.ndarray]:
    """Rows of a fused matrix's parts, which are one after the other."""
    ends = np.cumsum([shape.matrices()[name][0] for name in names])
    return [np.arange(end - shape.matrices()[name][0], end) for name, end in zip(names, ends, strict=True)]


def by_kv_head(shape: ModelShape, names: Sequence[str]) -> list[np.ndarray]:
    """Rows of queries, keys and values whose matrix has, for each KV head, its queries, its key and its value."""
    heads = np.arange(shape.q_size + 2 * shape.kv_size).reshape(shape.num_key_value_heads, shape.group_size + 2,
                                                                shape.head_dim)
    return [heads[:, :-2].reshape(-1), heads[:, -2].reshape(-1), heads[:, -1].reshape(-1)]


def fused(tensor: str, *names: str, order: Callable[[ModelShape, Sequence[str]], list[np.ndarray]] = stacked) -> Fold:
    """Matrices that the file has as one, ``tensor`` (without "weight"). ``order``: (shape, names) -> the rows of
    each."""
    def fold(plan, given):
        block, parts = plan.shape.block, order(plan.shape, names)
        total = sum(map(len, parts))
        for name, rows in zip(names, parts, strict=True):
            matrix = block.matrix(name)
            for part, kind in ((matrix.tensor, "weight"), (matrix.bias, "bias")):
                for full in plan.of(part):
                    if plan.recipes[full].needs:
                        whole = plan.stored(full.removesuffix(part) + f"{tensor}.{kind}",
                                            (total, *plan.sizes[full][1:]))
                        plan.recipes[full] = whole.then(lambda w, rows=rows: w[rows])
        return f"{', '.join(names)} from one matrix"

    return fold


def interleaved(plan: Plan, given: object) -> str:
    """Queries and keys whose rotary pairs stand side by side; here pair i is elements i and i + half of the turned
    ones."""
    shape, norm = plan.shape, plan.shape.block.qk_norm
    turned = shape.head_dim if shape.rotary_dim is None else shape.rotary_dim
    order = np.concatenate([np.arange(0, turned, 2), np.arange(1, turned, 2), np.arange(turned, shape.head_dim)])

    def reorder(w):
        return w.reshape(-1, shape.head_dim, *w.shape[1:])[:, order].reshape(w.shape)

    plan.change(*plan.both("q", "k"), *((norm.q_tensor, norm.k_tensor) if norm else ()), to=reorder)
    return "rows of queries and keys reordered"


def centred(plan: Plan, given: object) -> str:
    """LayerNorm without its mean: what is added to the residual has none."""
    plan.change(EMBEDDING, POSITIONS, to=lambda w: w - w.mean(1, keepdims=True, dtype=np.float64))
    plan.change(*plan.both("o", "down"), to=lambda w: w - w.mean(0, dtype=np.float64))
    return "mean of LayerNorm"


def _readers(plan, norm):
    """Matrices that read what a norm writes."""
    return [name for project in plan.shape.block.projects(norm) if project.inputs == "hidden"
            for name in project.matrices]


def norm_biases(plan: Plan, given: object) -> str:
    """What a norm adds goes through the matrices that read it, into their biases. The final norm keeps its bias."""
    _through(plan, {name: norm.tensor for norm in plan.shape.block.of(Norm) for name in _readers(plan, norm.name)})
    return "bias of LayerNorm"


def _through(plan, norms):
    """``norms``: matrix -> the norm that it reads, in the file."""
    for name, gain in norms.items():
        matrix = plan.shape.block.matrix(name)
        for layer in plan.layers():
            bias = plan.stored(layer + gain.removesuffix("weight") + "bias", (plan.shape.hidden_size,))
            plan.recipes[layer + matrix.bias] = _sum(plan.recipes[layer + matrix.bias],
                                                     plan.recipes[layer + matrix.tensor], bias)


def _product(weight, gains):
    return Recipe(weight.needs | gains.needs, lambda read: weight.make(read) * gains.make(read))


def _sum(own, weight, bias):
    def make(read):
        return (own.make(read) + weight.make(read).astype(np.float64) @ bias.make(read)).astype(np.float32)

    return Recipe(own.needs | weight.needs | bias.needs, make)


def two_norms(attention: str, mlp: str) -> Fold:
    """Attention and MLP of a parallel block with a norm each (its gain and bias), named as in the file: the gains go
    into the columns."""
    def fold(plan, given):
        block = plan.shape.block
        norm, = block.of(Norm)
        norms = {name: attention if name in ("q", "k", "v") else mlp for name in _readers(plan, norm.name)}
        _through(plan, norms)
        for name, gain in norms.items():
            for layer in plan.layers():
                tensor = layer + block.matrix(name).tensor
                gains = plan.stored(layer + gain, (plan.shape.hidden_size,))
                plan.recipes[tensor] = _product(plan.recipes[tensor], gains)
        for name in plan.of(norm.tensor):
            plan.recipes[name] = _constant(1, plan.sizes[name])
        return "gains and biases of two norms of one residual"

    return fold
