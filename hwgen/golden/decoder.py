"""The whole decoder in numpy: tokens and signatures of every pass, bit for bit.

Weights are taken as integers (codes in units of the format) in float64, so a matrix product is one BLAS call and exact:
sums stay below 2**53 (docs/architecture.md). Rows and columns are in the stored order of the hardware: heads padded to
`Design.head`, RoPE pairs side by side, gates and ups in turn.
"""
import numpy as np

from ..params.errors import KvOp
from . import residual
from .admission import admit_pass
from .attention import attention_entries
from .convert import convert_gate_up, convert_qkv
from .kv_cache import KvBlocks, kv_arrays, kv_copy, kv_write
from .numbers import bf16_value, fp8_ints
from .rmsnorm import rms_norm
from .rope import rope_angles, turned
from .sampler import sample
from .swiglu import activate
from .vector_buffer import quantize

__all__ = ["GoldenDecoder"]

_SCORES = 4_000_000     # scores at a time: bounds the temporaries of long texts


class _Layer:
    """One layer's integers and exponents."""

    def __init__(self, design, layer):
        model = design.model
        heads, kv, size = model.num_attention_heads, model.num_key_value_heads, model.head_dim
        pairs = np.arange(size).reshape(2, -1).T.reshape(-1)                     # 0, size/2, 1, size/2 + 1, ...

        def stored(matrix, count, order):                                        # -> [count * head, hidden_size]
            rows = np.zeros((count, design.head, model.hidden_size))
            rows[:, :size] = fp8_ints(matrix.codes, matrix.fmt).reshape(count, size, -1)[:, order]
            return rows.reshape(count * design.head, -1)

        plain = np.arange(size)
        self.qkv = np.concatenate([stored(layer.k, kv, pairs), stored(layer.v, kv, plain), stored(layer.q, heads, pairs)])
        o = np.zeros((model.hidden_size, heads, design.head))
        o[:, :, :size] = _ints(layer.o).reshape(model.hidden_size, heads, size)
        self.o = o.reshape(model.hidden_size, -1)
        pad = design.ff - model.intermediate_size
        gate_up = np.stack([_ints(layer.gate), _ints(layer.up)], axis=1).reshape(2 * model.intermediate_size, -1)
        self.gate_up = np.pad(gate_up, [(0, 2 * pad), (0, 0)])
        self.down = np.pad(_ints(layer.down), [(0, 0), (0, pad)])
        self.gain_1, self.gain_2 = bf16_value(layer.input_gain), bf16_value(layer.post_gain)
        # as in the stream's records
        self.exps_1 = [layer.q.exponent, layer.k.exponent, layer.v.exponent, layer.o.exponent]
        self.exps_2 = [layer.gate.exponent, layer.up.exponent, layer.down.exponent]


def _ints(matrix):
    """A Matrix's values in units of 2**(unit_exp + exponent), float64: [outputs, inputs]. A pair is one integer."""
    ints = fp8_ints(matrix.codes, matrix.fmt).astype(np.float64)
    return ints if matrix.lo is None else ints + fp8_ints(matrix.lo, matrix.fmt)


class GoldenDecoder:
    """The decoder of one design and one quantized model (`hwgen.models.quantize.QuantizedModel`), with its KV memory.

    What it computes does not depend on the hardware shape, only on model, recipe and residual_fraction; what it admits does. `blocks`
    is who owns the KV memory (`golden.kv_cache.KvBlocks`), `kv` what is in it, and `weights`
    what the layers compute with. `saturated` counts the residual's granules of which a number was clipped, in all passes and texts.
    """

    def __init__(self, design, quantized):
        self.design = design
        self.weights = [_Layer(design, layer) for layer in quantized.layers]
        self._final_gain = bf16_value(quantized.final_gain)
        self.head_weights, self._head_exp = _ints(quantized.head), quantized.head.exponent
        table = quantized.embedding
        self.embedding = table.codes[:, None] if table.lo is None else np.stack([table.codes, table.lo], axis=1)    # [vocab_size, codes, hidden_size]
        self.embed_exp = table.exponent
        self.inv_temperature, self.seed, self.saturated = 0, 0, 0
        self.reset()

    def reset(self):
        """Forget all keys and values."""
        self.kv, self.blocks = kv_arrays(self.design), KvBlocks(self.design)

    # -- pieces of a layer; x is the residual, int64 [n, hidden_size]

    def matmul(self, values, weights):                                          # bf16 [n, k], [m, k] -> acc [n, m], exp [n]
        fmt = self.design.recipe.activation_format
        codes, exponent = quantize(values, fmt)
        return fp8_ints(codes, fmt).astype(np.float64) @ weights.T, exponent

    def add(self, x, values, weights, weight_exp):
        acc, exp = self.matmul(values, weights)
        x = residual.add(x, acc.astype(np.int64), exp, weight_exp, self.design, clipped := [])
        self.saturated += residual.saturated(clipped, self.design)
        return x

    def heads(self, index, x):                                                  # -> bf16 [n, qkv_heads, head]
        layer = self.weights[index]
        return convert_qkv(*self.matmul(rms_norm(self.design, x, layer.gain_1), layer.qkv), dict(zip("qkv", layer.exps_1)), self.design)

    def stored(self, heads, angles):                                            # -> FP8 codes [n, qkv_heads, head], exponents [n, qkv_heads]
        return quantize(turned(self.design, heads, angles), self.design.recipe.kv_format)

    def _attention(self, index, x, slots, positions):                           # -> bf16 [n, heads * head]
        design, kv = self.design, self.design.kv_heads
        codes, exps = self.stored(self.heads(index, x), rope_angles(design, positions))
        kv_write(self.kv, index, slots, positions, codes[:, :kv], exps[:, :kv], codes[:, kv:2 * kv], exps[:, kv:2 * kv])
        out = np.empty((len(x), design.heads, design.head))
        for slot in np.unique(slots):
            of = np.flatnonzero(slots == slot)
            length = positions[of].max() + 1
            rows = self.kv.slot(index, slot, length)
            for part in np.array_split(of, -(-len(of) * length * design.heads // _SCORES)):
                out[part] = attention_entries(design, codes[part, 2 * kv:], exps[part, 2 * kv:], positions[part], *rows)
        return out.reshape(len(x), -1)

    def gates(self, index, x):                                                  # -> bf16 [n, 2 * ff]
        layer = self.weights[index]
        return convert_gate_up(*self.matmul(rms_norm(self.design, x, layer.gain_2), layer.gate_up), dict(zip(("gate", "up"), layer.exps_2)), self.design)

    def attended(self, index, x, values):
        """The residual after attention has given ``values``."""
        layer = self.weights[index]
        return self.add(x, values, layer.o, layer.exps_1[3])

    def gated(self, index, x, gates):
        """The residual after the layer, of that after attention and its `gates`."""
        layer = self.weights[index]
        return self.add(x, activate(self.design.block, gates), layer.down, layer.exps_2[2])

    def layer(self, index, x, slots, positions):
        """The residual after a layer, of that before it."""
        x = self.attended(index, x, self._attention(index, x, slots, positions))
        return self.gated(index, x, self.gates(index, x))

    def signature(self, x):
        """CRCs of residuals, a list."""
        return residual.signature(np.pad(x, [(0, 0), (0, self.design.hidden - x.shape[1])]))

    # -- passes

    def layers(self, entries, signatures=None):
        """The residual after the last layer, int64 [n, hidden_size]; appends each layer's [n] CRCs to ``signatures``.

        ``entries``: (slot, position, token, ...) of each.
        """
        slots, positions, tokens = (np.array([e[i] for e in entries]) for i in range(3))
        x = residual.embed(self.embedding[tokens], self.embed_exp, self.design, clipped := [])
        self.saturated += residual.saturated(clipped, self.design)
        for index in range(self.design.layers):
            x = self.layer(index, x, slots, positions)
            if signatures is not None:
                signatures.append(self.signature(x))
        return x

    def head(self, x):
        """Accumulators of the LM head, float64 [n, vocab_size], and their rows' exponents [n]: logit = acc * 2**(exp + acc_unit)."""
        acc, exp = self.matmul(rms_norm(self.design, x, self._final_gain), self.head_weights)
        return acc, exp + self._head_exp

    def run_pass(self, entries):
        """Entries (slot, position, token, want, key) in order -> ({entry index: token}, signatures [layers][rows], `Admitted`).

        Rows are the entries that were let in, in order.
        """
        admitted, signatures = admit_pass(self.design, self.blocks, entries), []
        rows = [entries[i] for i in admitted.rows]
        if not rows:
            return {}, [[] for _ in range(self.design.layers)], admitted
        x = self.layers(rows, signatures)
        wanted = [i for i, e in enumerate(rows) if e[3]]
        if not wanted:
            return {}, signatures, admitted
        acc, exponents = self.head(x[wanted])
        keys = [rows[i][4] for i in wanted]
        tokens = sample(self.design, acc, exponents, inv_temperature=self.inv_temperature, seed=self.seed, keys=keys)
        return {admitted.rows[i]: int(t) for i, t in zip(wanted, tokens)}, signatures, admitted

    def operate(self, op, slot, other=0, length=0):
        """An operation of `hwgen.params.errors.KvOp` on the KV memory. Returns (`ErrorCode`, cycles)."""
        error, cycles = self.blocks.operate(op, slot, other, length)
        if op == KvOp.FORK and not error:
            kv_copy(self.kv, slot, other, length)
        return error, cycles

    def logits(self, tokens):
        """Logits after each of the tokens of a text, float64 [n, vocab_size], in slot 0 from position 0."""
        acc, exponents = self.head(self.layers([(0, i, t) for i, t in enumerate(tokens)]))
        return np.ldexp(acc, (exponents + self.design.acc_unit)[:, None])
