"""A model as it was published: its shape, its tensors one at a time, and its tokenizer."""
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..params.checks import one_line
from ..params.model import ModelShape

if TYPE_CHECKING:
    from .options import About
    from .quantize import QuantizedModel
    from .tokenizer import Tokenizer

__all__ = ["Checkpoint", "ModelError", "check_tensors", "finite", "random_checkpoint", "tensor_shapes"]


class ModelError(Exception):
    """A model that cannot be used. The message is one line: which file or tensor, what is wrong, what to do."""

    def __init__(self, message: object) -> None:
        super().__init__(one_line(str(message)))


def tensor_shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a checkpoint, with Hugging Face's names; the tied LM head is not one."""
    names: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_size, shape.hidden_size)}
    if shape.learned_positions:
        names["model.embed_positions.weight"] = (shape.max_position_embeddings, shape.hidden_size)
    for i in range(shape.num_hidden_layers):
        names |= {f"model.layers.{i}.{name}": size for name, size in shape.layer_tensors().items()}
    names["model.norm.weight"] = (shape.hidden_size,)
    if shape.block.final_bias:
        names["model.norm.bias"] = (shape.hidden_size,)
    if not shape.tie_word_embeddings:
        names["lm_head.weight"] = (shape.vocab_size, shape.hidden_size)
    if shape.head_bias:
        names["lm_head.bias"] = (shape.vocab_size,)
    return names


def check_tensors(shape: ModelShape, found: Mapping[str, Sequence[int]], source: str | Path,
                  ignored: Callable[[str], bool] = lambda name: False,
                  spelled: Callable[[str], str] = lambda name: name,
                  wanted: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """ModelError unless ``found`` (name -> shape, from the files' headers) is what a model of that shape has, or
    ``wanted``.

    ``ignored`` says of a name whether it may be there all the same, ``spelled`` what the file calls a tensor.
    """
    wanted = tensor_shapes(shape) if wanted is None else wanted
    for name, size in wanted.items():
        if name not in found:
            packed = next((other for other in found if other.startswith(name.removesuffix("weight"))), None)
            if packed:
                raise ModelError(f"{source}: tensor {name} must be there, not {spelled(packed)} in its place: "
                                 "use the model with plain weights, neither packed nor with an adapter")
            raise ModelError(f"{source}: tensor {name} is missing: fetch the model again")
        if tuple(found[name]) != size:
            raise ModelError(f"{source}: tensor {spelled(name)} must be {list(size)} by the configuration, "
                             f"not {list(found[name])}")
    for name in found:
        if name not in wanted and not ignored(name):
            raise ModelError(f"{source}: tensor {spelled(name)} is none of this model: its architecture is "
                             "not supported")


def finite(values: np.ndarray, noun: str) -> np.ndarray:
    """The array, or a ModelError that names the first number that is none."""
    # One sum finds the usual case, all finite, without a temporary of the tensor's size; float64 cannot overflow.
    with np.errstate(invalid="ignore"):  # inf - inf
        total = values.sum(dtype=np.float64)
    if not np.isfinite(total):
        where = np.argwhere(~np.isfinite(values))[0]
        raise ModelError(f"{noun} must be finite, not {values[tuple(where)]} at {where.tolist()}: the file is damaged "
                         "or overflowed")
    return values


class Checkpoint:
    """What :func:`hwgen.models.load` returns.

    Parameters
    ----------
    shape : ModelShape
    source : str               the file or folder, for messages
    read : callable            tensor name -> float32 array
    tokenizer : Tokenizer or None
    about : About or None      what was taken from which file and key, and warnings of what was not

    Attributes
    ----------
    kept : QuantizedModel or None              where the files have codes: its tensors are what these stand for
    largest_residual : float or None           and the residual's largest magnitude on the text for which they were made
    in_blocks : set                            names of tensors that the files have in MXFP4, and that are nothing else
    modules : dict or None                     of a folder: transformers' name of each module with a matrix -> the
                                               tensor that it is, or None where the machine has not the file's matrix of
                                               a layer as it is
    """

    kept: "QuantizedModel | None" = None
    largest_residual: float | None = None
    modules: dict[str, str | None] | None = None
    in_blocks: frozenset[str] = frozenset()

    def __init__(self, shape: ModelShape, source: str, read: Callable[[str], np.ndarray],
                 tokenizer: "Tokenizer | None" = None, about: "About | None" = None) -> None:
        self.shape = shape
        self.source = source
        self.tokenizer = tokenizer
        self._about = about
        self._read = read
        self._shapes = tensor_shapes(shape)

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of a conversation, or None."""
        return None if self.tokenizer is None else self.tokenizer.chat_template

    @property
    def notes(self) -> dict[str, str]:
        """What was taken from where, for people: label -> text."""
        return {key: text for source in (self._about, self.tokenizer)
                for key, text in getattr(source, "notes", {}).items()}

    @property
    def warnings(self) -> list[str]:
        """What the files say and the machine does not do: a line each, which starts with the file."""
        return [line for source in (self._about, self.tokenizer) for line in getattr(source, "warnings", [])]

    def with_tensors(self, read: Callable[[str], np.ndarray]) -> "Checkpoint":
        """The same model with other numbers: ``read`` is tensor name -> float32 array."""
        return Checkpoint(self.shape, self.source, read, self.tokenizer, self._about)

    def names(self) -> list[str]:
        """The names that :meth:`tensor` takes, in the file's usual order."""
        return list(self._shapes)

    def tensor(self, name: str) -> np.ndarray:
        """The tensor as float32, all finite, of the shape that ``shape`` asks for: matrices are [outputs, inputs].

        It is read at each call and not kept. ``lm_head.weight`` of a tied model is its embedding table.
        """
        if name == "lm_head.weight" and self.shape.tie_word_embeddings:
            name = "model.embed_tokens.weight"
        with np.errstate(all="ignore"):     # what is not finite is refused below
            values = self._read(name)
        if values.shape != self._shapes[name]:
            raise ModelError(f"{self.source}: tensor {name} must be {list(self._shapes[name])} "
                             f"by the configuration, not {list(values.shape)}")
        return finite(values, f"{self.source}: tensor {name}")


def random_checkpoint(shape: ModelShape, seed: int = 0) -> Checkpoint:
    """A checkpoint of that shape with random weights that keep activations near 1, for tests; no tokenizer."""
    shapes = tensor_shapes(shape)

    def read(name):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        size = shapes[name]
        if name.endswith(".bias"):
            return (0.3 * rng.standard_normal(size)).astype(np.float32)
        if len(size) == 1:
            return (1 + 0.2 * rng.standard_normal(size)).astype(np.float32)
        return (rng.standard_normal(size, dtype=np.float32) / np.float32(size[1] ** 0.5)).astype(np.float32)

    return Checkpoint(shape, f"random {shape.name}", read)
