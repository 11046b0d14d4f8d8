"""The whole decoder in numpy: tokens and signatures of every pass, bit for bit.

Weights are taken as integers (codes in units of the format), in float64 where they are multiplied, so a matrix product
is BLAS's and exact: sums stay below 2**53 (docs/architecture.md). Rows and columns are in the stored order of the
hardware: heads padded to `Design.padded_head_dim`, RoPE pairs side by side, gates and ups in turn.
"""
import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..params.block import Norm, Project
from ..params.design import Design
from ..params.errors import ErrorCode, KvOp
from ..params.stream import BLOCK
from . import adapters, residual
from .admission import Admitted, admit_pass
from .attention import attention_entries
from .convert import convert_gate_up, convert_qkv
from .kv_cache import KvBlocks, kv_arrays, kv_copy, kv_write
from .numbers import bf16_value, fp8_ints
from .qk_norm import qk_norm
from .quantized import QuantizedAdapter, QuantizedModel
from .rmsnorm import rms_norm
from .rope import rope_angles, turned
from .sampler import sample
from .swiglu import activate
from .vector_buffer import quantize

__all__ = ["GoldenDecoder"]

_SCORES = 4_000_000     # scores at a time: bounds the temporaries of long texts
# weights at a time in float64: all of a large model would take gigabytes, and these stay in the processor's cache
_PART = 1 << 17


class _Layer:
    """One layer's integers, exponents, offsets of rows, gains and biases.

    The matrices of a `Project` are one array, by its name as attribute: integers [outputs, inputs] as the machine
    stores them. ``exps``: exponents by name of the matrix, in units of the array's format. ``rows``: by name of the
    project, int64 [outputs], or None. ``gains``: bf16 values by name of the norm. ``vectors``: bf16 values by name of
    the `Vector`, of biases in the order of their project's rows, of queries and keys in the stored order of a head.
    """

    def __init__(self, design, layer):
        block = design.block
        for project in block.of(Project):
            rows = _rows(design, project, {name: _ints(getattr(layer, name)) for name in project.matrices})
            setattr(self, project.name, np.ascontiguousarray(_padded(design, project.inputs, rows.T).T))
        self.exps = {matrix.name: design.stored_exponent(getattr(layer, matrix.name)) for matrix in block.matrices}
        self.rows = {project.name: _rows(design, project,
                                         {name: getattr(layer, name).rows[:, None].astype(np.int64)
                                          for name in project.matrices})[:, 0]
                     if design.scaled else None for project in block.of(Project)}
        self.gains = {norm.name: bf16_value(getattr(layer, norm.gain)) for norm in block.of(Norm)}
        self.vectors = {}
        if block.qk_norm:
            self.vectors |= {name: _padded(design, "heads", bf16_value(getattr(layer, name))[:, None],
                                           rotary=True)[:, 0]
                             for name in (block.gain_of(matrix).name for matrix in (block.queries, block.keys))}
        for project in block.of(Project):
            if block.biased(project):
                biases = {name: bf16_value(getattr(layer, f"{name}_bias")) if block.matrix(name).biased
                          else np.zeros(getattr(layer, name).size[0])
                          for name in project.matrices}
                rows = _rows(design, project, {name: bias[:, None] for name, bias in biases.items()})
                self.vectors[block.bias_of(project).name] = rows[:, 0]


def _padded(design, kind, rows, rotary=False):
    """Rows that are those of heads, of the MLP or of the residual, [n, m], as the machine stores them; the residual's
    padding is left out."""
    model = design.model
    if kind == "ff":
        return np.pad(rows, [(0, design.padded_intermediate_size - model.intermediate_size), (0, 0)])
    if kind == "hidden":
        return rows
    heads = rows.reshape(-1, model.head_dim, rows.shape[1])
    if rotary:
        half = (model.head_dim if model.rotary_dim is None else model.rotary_dim) // 2
        pairs = [element for i in range(half) for element in (i, i + half)]
        heads = heads[:, pairs + list(range(2 * half, model.head_dim))]
    return np.pad(heads, [(0, 0), (0, design.padded_head_dim - model.head_dim), (0, 0)]).reshape(-1, rows.shape[1])


def _rows(design, project, values):
    """The rows of a project's matrices, name -> [outputs, n], in the order in which the machine has them."""
    found = []
    for name in project.matrices:
        matrix = design.block.matrix(name)
        found.append(_padded(design, matrix.rows, values[name], matrix.rotary))
    return np.stack(found, axis=1).reshape(-1, found[0].shape[1]) if project.interleaved else np.concatenate(found)


def _parts(array):
    """Slices of a matrix's rows, of some `_PART` elements each."""
    step = max(1, _PART // array.shape[1])
    return (slice(start, start + step) for start in range(0, len(array), step))


def _ints(matrix):
    """A Matrix's values in units of 2**(unit_exp + exponent), and of its rows' offsets, int16 or int32: [outputs,
    inputs]. A pair is one integer."""
    spelled = matrix.fmt.spelled()
    small = 2 * np.abs(spelled).max() < 1 << 15 and matrix.blocks is None
    ints = np.empty(matrix.codes.shape, np.int16 if small else np.int32)
    for part in _parts(ints):
        values = fp8_ints(matrix.codes[part], matrix.fmt)
        if matrix.blocks is not None:
            values = values << matrix.blocks[part].repeat(BLOCK, axis=1)[:, :values.shape[1]].astype(np.int64)
        ints[part] = values if matrix.lo is None else values + fp8_ints(matrix.lo[part], matrix.fmt)
    return ints


class GoldenDecoder:
    """The decoder of one design and one quantized model (`hwgen.models.quantize.QuantizedModel`), with its KV memory.

    What it computes does not depend on the hardware shape, only on model, recipe and residual_fraction; what it admits
    does. `blocks` is who owns the KV memory (`golden.kv_cache.KvBlocks`), `kv` what is in it, and `weights`
    what the layers compute with. `saturated` counts the residual's granules of which a number was clipped, in all
    passes and texts.
    """

    def __init__(self, design: Design, quantized: QuantizedModel) -> None:
        self.design = design
        self.weights = [_Layer(design, layer) for layer in quantized.layers]
        self._final_gain = bf16_value(quantized.final_gain)
        self._final_bias = None
        if design.block.final_bias:
            assert quantized.final_bias is not None
            self._final_bias = bf16_value(quantized.final_bias)
        self.head_weights, self.head_rows = _ints(quantized.head), quantized.head.rows
        self._head_exp = design.stored_exponent(quantized.head)
        table = quantized.embedding
        # [vocab_size, codes, hidden_size]
        self.embedding = table.codes[:, None] if table.lo is None else np.stack([table.codes, table.lo], axis=1)
        self.embed_exp, self.embed_rows = table.exponent, table.rows       # [vocab_size], or None
        if design.model.learned_positions:
            assert quantized.positions is not None
            table = quantized.positions
            # as `embedding`, by position
            self.positions = table.codes[:, None] if table.lo is None else np.stack([table.codes, table.lo], axis=1)
            self.position_exp, self.position_rows = table.exponent, table.rows
        self.inv_temperature, self.seed, self.saturated = 0, 0, 0
        # number -> {(project, layer): (A, B, exponent)}; the number of each row of the pass
        self._adapters = {}
        self._adapted: np.ndarray | int | None = None
        self.reset()

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        """Make an adapter (`hwgen.models.adapter_codes.QuantizedAdapter`) the one of a number, 1 or more."""
        parts, rank, block = {}, self.design.hw.adapter_rank, self.design.block
        for (name, layer), part in quantized.parts.items():
            project = next(project for project in block.of(Project) if project.name == name)
            weights = getattr(self.weights[layer], name)
            ranks = rank * len(project.matrices)
            a, b = np.zeros((ranks, weights.shape[1])), {}
            for i, matrix in enumerate(project.matrices):
                size = *self.design.model.matrices()[matrix][:1], ranks
                b[matrix] = np.zeros(size)
                if matrix in part.a:
                    rows = slice(i * rank, i * rank + len(part.a[matrix]))
                    a[rows] = _padded(self.design, project.inputs,
                                      fp8_ints(part.a[matrix], self.design.array_format).T.astype(np.float64)).T
                    b[matrix][:, rows] = fp8_ints(part.b[matrix], self.design.array_format)
            parts[name, layer] = a, _rows(self.design, project, b), part.exponent
        self._adapters[number] = parts

    def adapted(self, number: int) -> "GoldenDecoder":
        """A copy for pieces of a layer: all rows have the adapter of that number, or none if it is 0."""
        other = copy.copy(self)
        other._adapted = number or None
        return other

    def products(self, index: int, project: Project, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`matmul` of a layer's matrix, with what the rows' adapters add."""
        acc, exp = self.matmul(values, getattr(self.weights[index], project.name))
        if self._adapted is None:
            return acc, exp
        codes = quantize(values, self.design.recipe.activation_format)[0]
        numbers = np.broadcast_to(self._adapted, len(values))
        for number in set(numbers.tolist()) & self._adapters.keys():
            if part := self._adapters[number].get((project.name, index)):
                rows = numbers == number
                acc[rows] += adapters.added(self.design, codes[rows], exp[rows], *part)
        return acc, exp

    def reset(self) -> None:
        """Forget all keys and values."""
        self.kv, self.blocks = kv_arrays(self.design), KvBlocks(self.design)

    # -- pieces of a layer; x is the residual, int64 [n, hidden_size]

    # bf16 [n, k], [m, k] -> acc [n, m], exp [n]
    def matmul(self, values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fmt = self.design.recipe.activation_format
        codes, exponent = quantize(values, fmt)
        ints, acc = fp8_ints(codes, fmt).astype(np.float64), np.empty((len(codes), len(weights)))
        for part in _parts(weights):
            np.matmul(ints, weights[part].T.astype(np.float64), out=acc[:, part])
        return acc, exponent

    def add(self, index: int, x: np.ndarray, values: np.ndarray, project: Project) -> np.ndarray:
        """The residual and the matrix of one of `Block.added` of a layer times values, normed where the block has a
        norm of sums."""
        design, layer = self.design, self.weights[index]
        bias, clipped = layer.vectors.get(design.block.bias_of(project).name), []
        acc, exp = self.products(index, project, values)
        sums, rows = (acc.astype(np.int64), exp, layer.exps[project.matrices[0]], design,
                      clipped), layer.rows[project.name]
        if norm := design.block.norm_after(project):
            normed = rms_norm(design, residual.set_sums(*sums, bias=bias, rows=rows), layer.gains[norm.name])
            x = residual.add_values(x, normed, design, clipped)
        else:
            x = residual.add(x, *sums, bias=bias, rows=rows)
        self.saturated += residual.saturated(clipped, design)
        return x

    def normed(self, index: int, project: Project, x: np.ndarray) -> np.ndarray:
        """The result of a layer's norm of x: the inputs of a project."""
        norm = self.design.block.norm_before(project)
        return rms_norm(self.design, x, self.weights[index].gains[norm.name], norm.plain)

    def heads(self, index: int, x: np.ndarray) -> np.ndarray:  # -> bf16 [n, qkv_heads, head]
        return self.converted_heads(index, self.normed(index, self.design.block.into_heads, x))

    def converted_heads(self, index: int, y: np.ndarray) -> np.ndarray:
        """Head vectors before RoPE, from the results of their norm."""
        heads = convert_qkv(*self._sums(index, self.design.block.into_heads, y))
        norm = self.design.block.qk_norm
        return heads if norm is None or norm.after_rotary else self._qk_norm(index, heads)

    def _qk_norm(self, index, heads):
        block, vectors = self.design.block, self.weights[index].vectors
        return qk_norm(self.design, heads, *(vectors[block.gain_of(matrix).name]
                                             for matrix in (block.queries, block.keys)))

    def angles(self, index: int, positions: ArrayLike) -> np.ndarray | None:
        """The angles by which a layer rotates its heads at some positions, or None."""
        return rope_angles(self.design, positions, self.design.model.rope_of(index))

    # -> FP8 codes [n, qkv_heads, head], exponents [n, qkv_heads]
    def stored(self, index: int, heads: np.ndarray, angles: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        norm, heads = self.design.block.qk_norm, turned(self.design, heads, angles)
        return quantize(self._qk_norm(index, heads) if norm and norm.after_rotary else heads,
                        self.design.recipe.kv_format)

    def _attention(self, index, x, slots, positions):                           # -> bf16 [n, heads * head]
        design, block = self.design, self.design.block
        keys, values, queries = map(design.heads_of, (block.keys, block.values, block.queries))
        codes, exps = self.stored(index, self.heads(index, x), self.angles(index, positions))
        kv_write(self.kv, index, slots, positions, codes[:, keys], exps[:, keys], codes[:, values], exps[:, values])
        out = np.empty((len(x), design.heads, design.padded_head_dim))
        for slot in np.unique(slots):
            of = np.flatnonzero(slots == slot)
            length = positions[of].max() + 1
            k_codes, k_exp, v_codes, v_exp = self.kv.slot(index, slot, length)
            for part in np.array_split(of, -(-len(of) * length * design.heads // _SCORES)):
                out[part] = attention_entries(design, codes[part, queries], exps[part, queries], positions[part],
                                              k_codes, k_exp, v_codes, v_exp, window=design.window(index))
        return out.reshape(len(x), -1)

    # -> bf16 [n, 2 * ff], or [n, ff] where there is no gate
    def gates(self, index: int, x: np.ndarray) -> np.ndarray:
        """Gates and ups from the residual that the MLP's norm reads: that after attention, or in a parallel block that
        before the layer."""
        return self.converted_gates(index, self.normed(index, self.design.block.into_ff, x))

    def converted_gates(self, index: int, y: np.ndarray) -> np.ndarray:
        return convert_gate_up(*self._sums(index, self.design.block.into_ff, y))

    def _sums(self, index, project, y):                                         # -> what `golden.convert` takes
        layer = self.weights[index]
        bias = layer.vectors.get(self.design.block.bias_of(project).name)
        return *self.products(index, project, y), layer.exps, self.design, bias, layer.rows[project.name]

    def attended(self, index: int, x: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The residual after attention has given ``values``."""
        return self.add(index, x, values, self.design.block.from_heads)

    def gated(self, index: int, x: np.ndarray, gates: np.ndarray) -> np.ndarray:
        """The residual after the layer, of that after attention and its `gates`."""
        return self.add(index, x, activate(self.design.block, gates), self.design.block.from_ff)

    def layer(self, index: int, x: np.ndarray, slots: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The residual after a layer, of that before it."""
        middle = self.attended(index, x, self._attention(index, x, slots, positions))
        return self.gated(index, middle, self.gates(index, x if self.design.block.parallel else middle))

    def signature(self, x: np.ndarray) -> list[int]:
        """CRCs of residuals, a list."""
        return residual.signature(np.pad(x, [(0, 0), (0, self.design.layer_hidden() - x.shape[1])]))

    def embedded(self, tokens: np.ndarray | list[int], positions: np.ndarray | list[int]) -> np.ndarray:
        """The residual before the first layer."""
        x = residual.embed(self.embedding[tokens], self.embed_exponents(tokens), self.design, clipped := [])
        if self.design.model.learned_positions:
            x = residual.embed(self.positions[positions], self.position_exponents(positions), self.design, clipped, x)
        self.saturated += residual.saturated(clipped, self.design)
        return x

    def embed_exponents(self, tokens: np.ndarray | list[int]) -> np.ndarray | int:
        """Exponents of tokens' rows of the embedding table: [n, 1], or one number for all."""
        return (self.embed_exp if self.embed_rows is None
                else self.embed_exp + self.embed_rows[tokens][:, None].astype(np.int64))

    def position_exponents(self, positions: np.ndarray | list[int]) -> np.ndarray | int:
        """The same of the table of learned positions."""
        if self.position_rows is None:
            return self.position_exp
        return self.position_exp + self.position_rows[positions][:, None].astype(np.int64)

    # -- passes

    def layers(self, entries: Sequence[tuple[int, ...]], signatures: list[list[int]] | None = None) -> np.ndarray:
        """The residual after the last layer, int64 [n, hidden_size]; appends each layer's [n] CRCs to ``signatures``.

        ``entries``: (slot, position, token, want, key, adapter or nothing) of each, or their beginnings.
        """
        slots, positions, tokens = (np.array([e[i] for e in entries]) for i in range(3))
        numbers = np.array([e[5] if len(e) > 5 else 0 for e in entries])
        self._adapted = numbers if numbers.any() else None
        x = self.embedded(tokens, positions)
        for index in range(self.design.layers):
            x = self.layer(index, x, slots, positions)
            if signatures is not None:
                signatures.append(self.signature(x))
        self._adapted = None
        return x

    def head(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accumulators of the LM head, float64 [n, vocab_size], and their rows' exponents [n]: logit = acc * 2**(exp +
        acc_unit)."""
        x = np.pad(x, [(0, 0), (0, self.design.model.head_inputs - x.shape[1])])
        acc, exp = self.matmul(rms_norm(self.design, x, self._final_gain, bias=self._final_bias), self.head_weights)
        return acc if self.head_rows is None else np.ldexp(acc, self.head_rows.astype(np.int32)), exp + self._head_exp

    def run_pass(self, entries: Sequence[tuple[int, ...]]) -> tuple[dict[int, int], list[list[int]], Admitted]:
        """Entries (slot, position, token, want, key, and where the machine has adapters, the number of one) in order ->
        ({entry index: token}, signatures [layers][rows], `Admitted`).

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

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> tuple[ErrorCode, int]:
        """An operation of `hwgen.params.errors.KvOp` on the KV memory. Returns (`ErrorCode`, cycles)."""
        error, cycles = self.blocks.operate(op, slot, other, length)
        if op == KvOp.FORK and not error:
            kv_copy(self.kv, slot, other, length)
        return error, cycles

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits after each of the tokens of a text, float64 [n, vocab_size], in slot 0 from position 0; softcapped in
        float64."""
        acc, exponents = self.head(self.layers([(0, i, t) for i, t in enumerate(tokens)]))
        cap = self.design.model.final_logit_softcapping
        logits = np.ldexp(acc, (exponents + self.design.acc_unit)[:, None])
        return logits if cap is None else cap * np.tanh(logits / cap)
