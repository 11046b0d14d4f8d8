"""The float32 model that everything else is judged against: Llama in plain numpy."""
import math

import numpy as np

from .checkpoint import tensor_shapes

__all__ = ["KvCache", "Reference"]


class KvCache:
    """Keys (rotated) and values of one sequence, per layer [kv_heads, positions, head_dim]."""

    def __init__(self, shape, positions):
        size = (shape.num_hidden_layers, shape.num_key_value_heads, positions, shape.head_dim)
        self.length = 0
        self.keys = np.zeros(size, np.float32)
        self.values = np.zeros(size, np.float32)

    def room_for(self, positions):
        """Grow to hold so many positions, at least doubling."""
        if positions > self.keys.shape[2]:
            grown = max(positions, 2 * self.keys.shape[2]) - self.keys.shape[2]
            pad = [(0, 0), (0, 0), (0, grown), (0, 0)]
            self.keys, self.values = np.pad(self.keys, pad), np.pad(self.values, pad)


def _rms_norm(x, gain, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * gain


def _silu(x):
    with np.errstate(over="ignore"):  # exp of a large number is inf, and x / inf the 0 that is right
        return x / (1 + np.exp(-x))


class _Unkept:
    """Weights by name, each read whenever it is asked for."""

    def __init__(self, read):
        self._read = read

    def __getitem__(self, name):
        return self._read(name)


class Reference:
    """Float32 forward pass. A subclass sees, or changes, what goes into a matrix by overriding :meth:`times`, and the residual by :meth:`residual`.

    Parameters
    ----------
    shape : ModelShape
    weights : callable      tensor name -> float32 array; each is read once and kept ...
    keep : bool             ... unless this is false: then it is read whenever it is needed, and only one is in memory
    """

    def __init__(self, shape, weights, *, keep=True):
        self.shape = shape
        self._weights = {name: weights(name) for name in tensor_shapes(shape)} if keep else _Unkept(weights)
        self._head = "model.embed_tokens.weight" if shape.tie_word_embeddings else "lm_head.weight"
        self._frequencies = shape.rope_frequencies()

    @classmethod
    def of(cls, checkpoint):
        """The reference of a Checkpoint."""
        return cls(checkpoint.shape, checkpoint.tensor)

    def cache(self, positions=64):
        """An empty cache with room for so many positions; it grows by itself."""
        return KvCache(self.shape, positions)

    def logits(self, tokens, cache=None):
        """Logits after each of ``tokens``, float32 [len(tokens), vocab_size].

        With a cache the tokens continue what it holds, and it takes them in; without, they are a text from its start.
        """
        return self.head(self.hidden(tokens, cache))

    def head(self, hidden):
        """Logits of final hidden states: [n, hidden_size] -> [n, vocab_size]. Apart, because it can be large."""
        return hidden @ self._weights[self._head].T

    def residual(self, x):
        """The residual [n, hidden_size], where it is new: the embeddings, and after each attention and each MLP."""
        return x

    def times(self, x, name):
        """A layer's matrix applied to rows: [n, inputs] -> [n, outputs]."""
        return x @ self._weights[name].T

    def hidden(self, tokens, cache=None):
        """Hidden states after the final norm, float32 [len(tokens), hidden_size]; the cache is as in :meth:`logits`."""
        shape, w = self.shape, self._weights
        cache = cache or self.cache(len(tokens))
        start, end = cache.length, cache.length + len(tokens)
        cache.room_for(end)
        angles = np.arange(start, end)[:, None] * self._frequencies  # [n, head_dim/2]
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

        x = self.residual(w["model.embed_tokens.weight"][np.asarray(tokens)])  # [n, hidden]
        for i in range(shape.num_hidden_layers):
            layer = f"model.layers.{i}."
            y = _rms_norm(x, w[layer + "input_layernorm.weight"], shape.rms_norm_eps)
            q = self._rotated(self.times(y, layer + "self_attn.q_proj.weight"), cos, sin)  # [heads, n, head_dim]
            cache.keys[i, :, start:end] = self._rotated(self.times(y, layer + "self_attn.k_proj.weight"), cos, sin)
            cache.values[i, :, start:end] = self._heads(self.times(y, layer + "self_attn.v_proj.weight"))
            attended = self._attention(q, cache.keys[i, :, :end], cache.values[i, :, :end])
            x = self.residual(x + self.times(attended, layer + "self_attn.o_proj.weight"))
            y = _rms_norm(x, w[layer + "post_attention_layernorm.weight"], shape.rms_norm_eps)
            h = _silu(self.times(y, layer + "mlp.gate_proj.weight")) * self.times(y, layer + "mlp.up_proj.weight")
            x = self.residual(x + self.times(h, layer + "mlp.down_proj.weight"))
        cache.length = end
        return _rms_norm(x, w["model.norm.weight"], shape.rms_norm_eps)

    def _heads(self, x):  # [n, heads * head_dim] -> [heads, n, head_dim]
        return x.reshape(len(x), -1, self.shape.head_dim).swapaxes(0, 1)

    def _rotated(self, x, cos, sin):  # [n, heads * head_dim] -> [heads, n, head_dim]
        a, b = np.split(self._heads(x), 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def _attention(self, q, keys, values):  # [heads, n, head_dim], [kv_heads, end, head_dim] twice -> [n, q_size]
        heads, n, head_dim = q.shape
        end = keys.shape[1]
        future = np.arange(end) > np.arange(end - n, end)[:, None]  # [n, end]
        out = np.empty((n, heads, head_dim), np.float32)
        for head in range(heads):  # one at a time: scores of all heads at once would be the largest array by far
            kv = head // self.shape.group_size
            scores = q[head] @ keys[kv].T * np.float32(1 / math.sqrt(head_dim))
            scores[future] = -np.inf
            p = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, head] = p @ values[kv] / p.sum(-1, keepdims=True)
        return out.reshape(n, -1)
