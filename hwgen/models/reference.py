"""The float32 model that everything else is judged against: a `Block` in plain numpy."""
import math
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from ..params.block import Attend, Norm, Project, Store
from ..params.model import ModelShape
from .checkpoint import Checkpoint, tensor_shapes

__all__ = ["KvCache", "Reference"]


class KvCache:
    """Keys (rotated) and values of one sequence, per layer [kv_heads, positions, head_dim]."""

    def __init__(self, shape: ModelShape, positions: int) -> None:
        size = (shape.num_hidden_layers, shape.num_key_value_heads, positions, shape.head_dim)
        self.length = 0
        self.keys = np.zeros(size, np.float32)
        self.values = np.zeros(size, np.float32)

    def room_for(self, positions: int) -> None:
        """Grow to hold so many positions, at least doubling."""
        if positions > self.keys.shape[2]:
            grown = max(positions, 2 * self.keys.shape[2]) - self.keys.shape[2]
            pad = [(0, 0), (0, 0), (0, grown), (0, 0)]
            self.keys, self.values = np.pad(self.keys, pad), np.pad(self.values, pad)


def _rms_norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * gain


def _softcapped(x, cap):
    return x if cap is None else np.float32(cap) * np.tanh(x / np.float32(cap))


def _silu(x):
    with np.errstate(over="ignore"):  # exp of a large number is inf, and x / inf the 0 that is right
        return x / (1 + np.exp(-x))


_ERF = np.array([math.erf(i / 64) for i in range(-384, 385)])


def _erf(x):
    """Of float64, within 2e-9: Taylor's series around the nearest 1/64, to the third power; 1 from 6 on."""
    x = np.clip(x, -6, 6)
    at = np.rint(64 * x) / 64
    d = x - at
    slope = 2 / math.sqrt(math.pi) * np.exp(-at * at)
    return _ERF[(64 * np.nan_to_num(at)).astype(int) + 384] + slope * d * (1 - at * d + (2 * at * at - 1) / 3 * d * d)


def _gelu(x):
    x = x.astype(np.float64)
    return (0.5 * x * (1 + _erf(x * 0.5**0.5))).astype(np.float32)


def _gelu_tanh(x):
    with np.errstate(over="ignore"):  # tanh of inf is the 1 that is right
        return np.float32(0.5) * x * (1 + np.tanh(np.float32((2 / math.pi) ** 0.5)
                                                  * (x + np.float32(0.044715) * x * x * x)))


def _quick_gelu(x):
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(np.float32(-1.702) * x))


def _relu(x):
    return np.maximum(x, 0)


def _relu2(x):
    return np.square(_relu(x))


_ACTIVATIONS = {"silu": _silu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "quick_gelu": _quick_gelu, "relu": _relu,
                "relu2": _relu2}

#: What `Project.inputs` calls the inputs of its matrices, and `_layer`.
_INPUTS = {"hidden": "normed", "heads": "attended", "ff": "activated"}


class _Unkept:
    """Weights by name, each read whenever it is asked for."""

    def __init__(self, read):
        self._read = read

    def __getitem__(self, name):
        return self._read(name)


class Reference:
    """Float32 forward pass. A subclass sees, or changes, what goes into a matrix by overriding :meth:`times`,
    the residual by :meth:`residual`, and the softmax by :meth:`probabilities`.

    Parameters
    ----------
    shape : ModelShape
    weights : callable      tensor name -> float32 array; each is read once and kept ...
    keep : bool             ... unless this is false: then it is read whenever it is needed, and only one is in memory
    own_head : bool         read the LM head by its own name, though it is the embedding table
    """

    def __init__(self, shape: ModelShape, weights: Callable[[str], np.ndarray], *, keep: bool = True,
                 own_head: bool = False) -> None:
        self.shape = shape
        tied = shape.tie_word_embeddings and not own_head
        self._head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        names = {**tensor_shapes(shape), self._head: ()}
        self._weights = {name: weights(name) for name in names} if keep else _Unkept(weights)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """The reference of a Checkpoint."""
        return cls(checkpoint.shape, checkpoint.tensor)

    def cache(self, positions: int = 64) -> KvCache:
        """An empty cache with room for so many positions; it grows by itself."""
        return KvCache(self.shape, positions)

    def logits(self, tokens: Sequence[int] | np.ndarray, cache: KvCache | None = None) -> np.ndarray:
        """Logits after each of ``tokens``, float32 [len(tokens), vocab_size].

        With a cache the tokens continue what it holds, and it takes them in; without, they are a text from its start.
        """
        return self.head(self.hidden(tokens, cache))

    def head(self, hidden: np.ndarray) -> np.ndarray:
        """Logits of final hidden states: [n, hidden_size] -> [n, vocab_size]. Apart, because it can be large."""
        logits = hidden @ self._weights[self._head].T
        return _softcapped(logits + self._weights["lm_head.bias"] if self.shape.head_bias else logits,
                           self.shape.final_logit_softcapping)

    def residual(self, x: np.ndarray) -> np.ndarray:
        """The residual [n, hidden_size], where it is new: the embeddings, and after each attention and each MLP."""
        return x

    def times(self, x: np.ndarray, name: str) -> np.ndarray:
        """A layer's matrix applied to rows, without its bias: [n, inputs] -> [n, outputs]."""
        return x @ self._weights[name].T

    def probabilities(self, p: np.ndarray) -> np.ndarray:
        """Of one head, before they are divided by their sum: the largest of each row is 1. [n, positions] -> the
        same."""
        return p

    def hidden(self, tokens: Sequence[int] | np.ndarray, cache: KvCache | None = None) -> np.ndarray:
        """Hidden states after the final norm, float32 [len(tokens), hidden_size]; the cache is as in :meth:`logits`."""
        cache = cache or self.cache(len(tokens))
        start, end = cache.length, cache.length + len(tokens)
        cache.room_for(end)
        positions = np.arange(start, end)
        turns, x = self.turns(positions), self.embedded(tokens, positions)
        for i in range(self.shape.num_hidden_layers):
            x = self._layer(i, x, cache.keys[i, :, :end], cache.values[i, :, :end], turns[i])
        cache.length = end
        return self.normed(x)

    def turns(self, positions: np.ndarray) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """Of each layer, the cosines and sines of its RoPE at positions [n], float32 [n, head_dim/2]; None where it has
        none."""
        found = []
        for rope in self.shape.ropes():
            angles = positions[:, None] * self.shape.rope_frequencies(rope)
            found.append((np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)))
        of = map(self.shape.rope_of, range(self.shape.num_hidden_layers))
        return [None if rope is None else found[rope] for rope in of]

    def embedded(self, tokens: Sequence[int] | np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The residual before the layers: [n] twice -> [n, hidden]."""
        x = self._weights["model.embed_tokens.weight"][np.asarray(tokens)]
        if self.shape.learned_positions:
            x = x + self._weights["model.embed_positions.weight"][positions]
        return self.residual(x)

    def normed(self, x: np.ndarray) -> np.ndarray:
        """The residual after the final norm: [n, hidden] -> the same."""
        x = _rms_norm(x, self._weights["model.norm.weight"], self.shape.rms_norm_eps)
        return x + self._weights["model.norm.bias"] if self.shape.block.final_bias else x

    def _layer(self, i, x, keys, values, turn):
        """The residual after a layer: [n, hidden] -> the same.

        Keys and values of the n tokens are put at the end of ``keys`` and ``values``, [kv_heads, end, head_dim].
        ``turn``: the cosines and sines of the layer's RoPE, or None.
        """
        layer, n, window, block = f"model.layers.{i}.", len(x), self.shape.layer_type(i).window, self.shape.block
        has = {"residual": x}

        def put(place, y):
            has[place] = self.residual(has["residual"] + y) if place == "residual" else y

        for step in block.steps:
            if isinstance(step, Norm):
                y = has[step.reads]
                put(step.writes, y if step.plain else _rms_norm(y, self._weights[layer + step.tensor],
                                                                self.shape.rms_norm_eps))
            elif isinstance(step, Project):
                sums = {matrix.name: self._sums(has[_INPUTS[step.inputs]], layer, matrix)
                        for matrix in block.matrices if matrix.name in step.matrices}
                if step.sink == "heads":
                    has |= {"queries": self._turned(sums[block.queries.name], layer, block.queries, turn),
                            "keys": self._turned(sums[block.keys.name], layer, block.keys, turn),
                            "values": self._heads(sums[block.values.name])}
                elif step.sink == "activation":
                    has["activated"] = self._activated(*(sums[name] for name in step.matrices))
                else:
                    put(step.sink, *sums.values())
            elif isinstance(step, Store):
                keys[:, -n:], values[:, -n:] = has["keys"], has["values"]
            elif isinstance(step, Attend):
                has["attended"] = self._attention(has["queries"], keys, values, window)
            else:
                raise TypeError(f"Step {step!r} has no meaning here")
        return has["residual"]

    def _sums(self, x, layer, matrix):  # [n, inputs] -> [n, outputs]
        sums = self.times(x, layer + matrix.tensor)
        return sums + self._weights[layer + matrix.bias] if matrix.biased else sums

    def _activated(self, gate, up=1):  # [n, ff] -> [n, ff]; without a gate the ups take its place
        return _ACTIVATIONS[self.shape.block.activation](gate) * up

    def _heads(self, x):  # [n, heads * head_dim] -> [heads, n, head_dim]
        return x.reshape(len(x), -1, self.shape.head_dim).swapaxes(0, 1)

    def _turned(self, x, layer, matrix, turn):  # [n, heads * head_dim] -> [heads, n, head_dim]
        norm = self.shape.block.qk_norm
        if norm is None:
            return self._rotated(self._heads(x), turn)
        gain = self._weights[layer + (norm.q_tensor if matrix == self.shape.block.queries else norm.k_tensor)]

        def normed(heads):  # [heads, n, head_dim] -> the same
            if norm.span == "head":
                return _rms_norm(heads, gain, self.shape.rms_norm_eps)
            return self._heads(_rms_norm(heads.swapaxes(0, 1).reshape(len(x), -1), gain, self.shape.rms_norm_eps))

        heads = self._heads(x)
        return normed(self._rotated(heads, turn)) if norm.after_rotary else self._rotated(normed(heads), turn)

    def _rotated(self, x, turn):  # [heads, n, head_dim] -> the same
        if turn is None:
            return x
        size = x.shape[-1] if self.shape.rotary_dim is None else self.shape.rotary_dim
        cos, sin = (values[:, :size // 2] for values in turn)
        a, b, rest = np.split(x, [size // 2, size], axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)

    # [heads, n, head_dim], [kv_heads, end, head_dim] twice -> [n, q_size]
    def _attention(self, q, keys, values, window):
        heads, n, head_dim = q.shape
        end = keys.shape[1]
        scale = np.float32(1 / math.sqrt(head_dim) if self.shape.score_scale is None else self.shape.score_scale)
        ago = np.arange(end - n, end)[:, None] - np.arange(end)  # [n, end]
        unseen = ago < 0 if window is None else (ago < 0) | (ago >= window)
        out = np.empty((n, heads, head_dim), np.float32)
        for head in range(heads):  # one at a time: scores of all heads at once would be the largest array by far
            kv = head // self.shape.group_size
            scores = _softcapped(q[head] @ keys[kv].T * scale, self.shape.attn_logit_softcapping)
            scores[unseen] = -np.inf
            p = self.probabilities(np.exp(scores - scores.max(-1, keepdims=True)))
            out[:, head] = p @ values[kv] / p.sum(-1, keepdims=True)
        return out.reshape(n, -1)
