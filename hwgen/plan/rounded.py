"""Float32 models that `plan.ranges` compares: one that is exact, and one with the machine's roundings."""
from collections.abc import Callable

import numpy as np

from ..models.checkpoint import Checkpoint, tensor_shapes
from ..models.quantize import Matrix, QuantizedModel, bf16, bf16_values, score_factor
from ..models.reference import Reference
from ..params.hardware import Recipe
from ..params.model import ModelShape
from .accuracy import PartlyFp8

__all__ = ["Exact", "Rounded", "matrix_of"]


class Exact(Reference):
    """Float32, which reads each tensor when it needs it, and sees the residual."""

    def __init__(self, shape: ModelShape, weights: Callable[[str], np.ndarray], *, own_head: bool = False) -> None:
        super().__init__(shape, weights, keep=False, own_head=own_head)
        self.largest, self.rms = [], []

    def residual(self, x: np.ndarray) -> np.ndarray:
        self.largest.append(np.abs(x).max())
        self.rms.append(np.sqrt((x.astype(np.float64) ** 2).mean(-1)))
        return x


class Rounded(PartlyFp8):
    """The machine's roundings in float32: weights, activations, Q, K, V, probabilities, residual (not bf16, tables)."""

    def __init__(self, checkpoint: Checkpoint, quantized: QuantizedModel, recipe: Recipe, fraction: int) -> None:
        sizes = tensor_shapes(checkpoint.shape)

        def weights(name):
            if name == "lm_head.bias":      # it is in the matrix, with inputs of its own
                return np.float32(0)
            if len(sizes.get(name, ())) == 1:       # gains and biases
                return bf16_values(bf16(checkpoint.tensor(name)))
            matrix, factor = matrix_of(quantized, name)
            values = matrix.values()
            return np.divide(values, np.float32(factor), out=values)

        Reference.__init__(self, checkpoint.shape, weights, keep=False, own_head=not recipe.ties(checkpoint.shape))
        self._round(recipe, ("activations", "heads", "p"))
        self._step = np.float32(2.0 ** -fraction)
        shape = checkpoint.shape
        self._behind = np.zeros(0, np.float32)
        if shape.head_bias:
            assert quantized.final_bias is not None
            self._behind = bf16_values(quantized.final_bias[shape.hidden_size:])

    def head(self, hidden: np.ndarray) -> np.ndarray:
        return super().head(np.concatenate([hidden, np.broadcast_to(self._behind, (len(hidden), len(self._behind)))],
                                           axis=1))

    def residual(self, x: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(x / self._step), np.float32(-2.0**31), np.float32(2.0**31)) * self._step


def matrix_of(quantized: QuantizedModel, name: str) -> tuple[Matrix, float]:
    """(The Matrix of a tensor's name, what the tensor was multiplied by.)"""
    if name == "model.embed_positions.weight":
        assert quantized.positions is not None
        return quantized.positions, 1
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        return quantized.embedding if name.startswith("model") else quantized.head, 1
    _, _, layer, tensor = name.split(".", 3)
    block = quantized.shape.block
    matrix = next(matrix for matrix in block.matrices if matrix.tensor == tensor)
    # a norm of the queries would undo a factor in their matrix
    factor = score_factor(quantized.shape) if matrix == block.queries and not block.qk_norm else 1
    return quantized.layers[int(layer)].matrices()[matrix.name], factor
