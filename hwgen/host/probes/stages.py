"""One layer of the golden model by stages: what is at each, and what the layer would give with something else there."""
import numpy as np

from ...golden import residual
from ...golden.attention import attention_entries
from ...golden.convert import convert_gate_up, convert_qkv
from ...golden.decoder import GoldenDecoder
from ...golden.numbers import acc_to_bf16, bf16
from ...golden.qk_norm import qk_norm
from ...golden.rmsnorm import rms_norm
from ...golden.rope import turned
from ...golden.swiglu import activate
from ...golden.vector_buffer import quantize
from ...params.block import Norm, Project

__all__ = ["Stages", "put"]


class Stages:
    """What is at each stage of a layer for the entry at position p of a slot, and ways from there to the end.

    The ways, methods `after_...`, take n candidates side by side, arrays of n rows, and give the entry's n residuals
    after the layer.

    Parameters
    ----------
    decoder : GoldenDecoder
    index : int                     the layer
    x : int64 [p + 1, hidden_size]  residuals before the layer of the slot's positions up to the entry's

    Attributes
    ----------
    inputs      bf16 of each project by its name, [p + 1, inputs] or of the entry alone [1, inputs]
    rows        fixed-point rows that each norm reads, by its name: [p + 1, hidden_size] or [1, hidden_size]
    raw         [p + 1, qkv_heads, head], before a norm of queries and keys
    heads       the same, before RoPE; stored: codes and exponents, as attention reads them
    base        residual [1, hidden_size] that the sums of `Block.added` are added to, by their names
    added       the same, after that
    gates, products     [1, outputs of `Block.into_ff`], [1, ff]
    """

    def __init__(self, decoder: GoldenDecoder, index: int, x: np.ndarray) -> None:
        self.decoder, self.design, self.index, self.x = decoder, decoder.design, index, x
        d, block = decoder, decoder.design.block
        self.layer, self.positions, self.own = d.weights[index], np.arange(len(x)), x[-1:]
        self.projects = {project.name: project for project in block.of(Project)}
        self.norms = {norm.name: norm for norm in block.of(Norm)}
        self._norm_of = {project.name: norm.name for project in block.added if (norm := block.norm_after(project))}
        projects = block.into_heads, block.from_heads, block.into_ff, block.from_ff
        heads, attended, mlp, last = (project.name for project in projects)

        self.inputs = {heads: d.normed(index, block.into_heads, x)}
        self.rows = {block.norm_before(block.into_heads).name: x}
        self.raw = self._convert(self.inputs[heads])
        self.angles = d.angles(index, self.positions)                           # [p + 1, head/2, 2], or None
        late = block.qk_norm is not None and block.qk_norm.after_rotary
        self.heads = self._early_norm(self.raw)
        self.to_norm = turned(self.design, self.raw, self.angles) if late else self.raw
        self.stored = d.stored(index, self.heads, self.angles)
        self.inputs[attended] = self.attend_stored(*(part[None] for part in self.stored))
        self.base, self.added = {attended: self.own}, {}
        self._add(attended)
        self.base[last] = self.added[attended]
        read = self.own if block.parallel else self.base[last]
        self.rows.setdefault(block.norm_before(block.into_ff).name, read)
        self.inputs[mlp] = d.normed(index, block.into_ff, read)
        self.gates = d.converted_gates(index, self.inputs[mlp])
        self.inputs[last] = self.products = activate(block, self.gates)
        self._add(last)

    def _add(self, name):
        """Fill in what a project makes of its inputs behind the array."""
        if name in self._norm_of:
            r = np.arange(self.design.model.hidden_size)
            sums = self.decoder.products(self.index, self.projects[name], self.inputs[name])
            self.rows[self._norm_of[name]] = self.outputs(name, r, *sums)
        self.added[name] = self.decoder.add(self.index, self.base[name], self.inputs[name], self.projects[name])

    def _convert(self, y):
        project = self.design.block.into_heads
        bias = self.layer.vectors.get(self.design.block.bias_of(project).name)
        acc, exp = self.decoder.products(self.index, project, y)
        return convert_qkv(acc, exp, self.layer.exps, self.design, bias, self.layer.rows[project.name])

    def _early_norm(self, heads):
        norm = self.design.block.qk_norm
        return heads if norm is None or norm.after_rotary else self.qk_normed(heads)

    def qk_normed(self, heads: np.ndarray) -> np.ndarray:
        """[..., qkv_heads, head], queries and keys normed."""
        block = self.design.block
        gains = (self.layer.vectors[block.gain_of(matrix).name] for matrix in (block.queries, block.keys))
        return qk_norm(self.design, heads.reshape(-1, *heads.shape[-2:]), *gains).reshape(heads.shape)

    # -- behind the array

    def outputs(self, name: str, r: np.ndarray, acc: np.ndarray, exp: np.ndarray, bias: np.ndarray | None = None,
                rows: np.ndarray | None = None) -> np.ndarray:
        """What a project's sums [m, n] of its rows r become behind the array: [m, n].

        Numbers of ``raw``; of ``products``; of the residual after the add; or of the sums that a norm takes.
        ``exp``: exponents of the inputs [m]; ``bias``, ``rows``: their biases and offsets, if they are not the layer's.
        """
        project, design, layer = self.projects[name], self.design, self.layer
        if bias is None and design.block.biased(project):
            bias = layer.vectors[design.block.bias_of(project).name][r]
        exp = np.asarray(exp, np.int64)
        if rows is None and (stored := layer.rows[name]) is not None:
            rows = stored[r]
        if project.sink in ("residual", "sums"):
            sums = np.asarray(acc, np.int64), exp, layer.exps[project.matrices[0]], design
            if project.sink == "sums":
                return residual.set_sums(*sums, bias=bias, rows=rows)
            return residual.add(self.base[name][:, r], *sums, bias=bias, rows=rows)
        offsets = 0 if rows is None else rows
        values = acc_to_bf16(acc, exp[:, None] + self._exponents(project)[r] + offsets + design.acc_unit)
        values = values if bias is None else bf16(values + bias)
        if project.sink == "heads":
            return values
        if not design.block.gated:
            return activate(design.block, values)
        pair = np.stack([self.gates[0, r & ~1], self.gates[0, r | 1]], axis=-1)
        pair[np.arange(len(r)), r % 2] = values[0]
        return activate(design.block, pair).T

    def after_outputs(self, name: str, r: np.ndarray, new: np.ndarray) -> np.ndarray:
        """With numbers [m, n] of `outputs`, one for each candidate, instead of those of the rows r."""
        sink = self.projects[name].sink
        if sink == "heads":
            return self.after_raw(put(self.raw, r, new))
        if sink == "activation":
            return self.after_products(put(self.products, r // (1 + self.design.block.gated), new))
        if sink == "residual":
            return self._after_add(name, put(self.added[name], r, new))
        norm = self._norm_of[name]
        return self.after_normed(norm, rms_norm(self.design, put(self.rows[norm], r, new), self.layer.gains[norm]))

    def after_sums(self, name: str, acc: np.ndarray, exp: np.ndarray) -> np.ndarray:
        """With other sums of all of a project's rows: [n, m, outputs], m of them of inputs with exponents [m]."""
        project, design, layer = self.projects[name], self.design, self.layer
        n, bias, rows = len(acc), layer.vectors.get(design.block.bias_of(project).name), layer.rows[name]
        acc, exp = acc.reshape(-1, acc.shape[2]), np.tile(exp, n)
        if project.sink == "heads":
            return self.after_raw(convert_qkv(acc, exp, layer.exps, design, bias, rows).reshape(n, *self.raw.shape))
        if project.sink == "activation":
            return self._after_gates(convert_gate_up(acc, exp, layer.exps, design, bias, rows))
        sums = acc.astype(np.int64), exp, layer.exps[project.matrices[0]], design
        if project.sink == "sums":
            norm = self._norm_of[name]
            row = residual.set_sums(*sums, bias=bias, rows=rows)
            return self.after_normed(norm, rms_norm(design, row, layer.gains[norm]))
        return self._after_add(name, residual.add(np.repeat(self.base[name], n, axis=0), *sums, bias=bias, rows=rows))

    def _exponents(self, project):
        """Of the matrix of each of a project's rows."""
        design, block = self.design, self.design.block
        sizes = {"heads": design.heads * design.padded_head_dim, "kv_heads": design.kv_heads * design.padded_head_dim,
                 "ff": design.padded_intermediate_size}
        rows = [np.full(sizes[block.matrix(name).rows], self.layer.exps[name]) for name in project.matrices]
        return np.stack(rows, axis=1).reshape(-1) if project.interleaved else np.concatenate(rows)

    def behind(self, name: str) -> int:
        """Weights of the projects that a number behind this one has yet to go through."""
        names = list(self.projects)
        following = names[names.index(name) + 1:]
        block = self.design.block
        if block.parallel and name != block.into_ff.name:           # attention changes nothing in the MLP
            following = [other for other in following if other not in (block.into_ff.name, block.from_ff.name)]
        return sum(getattr(self.layer, other).size for other in following)

    # -- to the end of the layer

    def after_normed(self, name: str, y: np.ndarray) -> np.ndarray:
        """With other results of a norm: bf16 [n * m, hidden_size], where it has read m rows."""
        if self.norms[name].writes == "residual":
            project = next(project for project, norm in self._norm_of.items() if norm == name)
            return self._after_add(project, residual.add_values(self.base[project], y, self.design))
        block = self.design.block
        if self.norms[name] == block.norm_before(block.into_ff) and not block.parallel:
            return self._after_gates(self.decoder.converted_gates(self.index, y))
        values = self._attend_raw(self._convert(y).reshape(-1, *self.raw.shape))
        gates = self.decoder.converted_gates(self.index, y[len(self.x) - 1::len(self.x)]) if block.parallel else None
        return self.after_attention(values, gates=gates)

    def after_x(self, x: np.ndarray) -> np.ndarray:
        """With other residuals of the entry before the layer."""
        heads = np.repeat(self.heads[None], len(x), axis=0)
        heads[:, -1] = self.decoder.heads(self.index, x)
        gates = self.decoder.gates(self.index, x) if self.design.block.parallel else None
        return self.after_attention(self.attend(heads), x, gates)

    def after_raw(self, raw: np.ndarray) -> np.ndarray:
        """[n, p + 1, qkv_heads, head], before a norm of queries and keys."""
        return self.after_attention(self._attend_raw(raw))

    def _attend_raw(self, raw):
        return self.attend(self._early_norm(raw))

    def after_qk_norm(self, heads: np.ndarray) -> np.ndarray:
        """[n, p + 1, qkv_heads, head], behind the norm of queries and keys."""
        norm = self.design.block.qk_norm
        assert norm is not None
        if not norm.after_rotary:
            return self.after_attention(self.attend(heads))
        return self.after_attention(self.attend_stored(*quantize(heads, self.design.recipe.kv_format)))

    def after_angles(self, angles: np.ndarray) -> np.ndarray:
        """[n, p + 1, head/2, 2]: what RoPE turns by."""
        return self.after_attention(self.attend(np.repeat(self.heads[None], len(angles), axis=0), angles))

    def attend(self, heads: np.ndarray, angles: np.ndarray | None = None) -> np.ndarray:
        """[n, p + 1, qkv_heads, head] before RoPE -> [n, heads * head]."""
        if angles is None and self.angles is not None:
            angles = np.broadcast_to(self.angles, (len(heads), *self.angles.shape))
        angles = angles if angles is None else angles.reshape(-1, *angles.shape[2:])
        codes, exps = self.decoder.stored(self.index, heads.reshape(-1, *heads.shape[2:]), angles)
        return self.attend_stored(codes.reshape(heads.shape), exps.reshape(heads.shape[:3]))

    def attend_stored(self, codes: np.ndarray, exps: np.ndarray) -> np.ndarray:
        """The same, from what is stored: candidates are K/V heads of one entry that sees them all."""
        design, block, (n, rows) = self.design, self.design.block, codes.shape[:2]
        keys, values, queries = map(design.heads_of, (block.keys, block.values, block.queries))
        k, k_exp, v, v_exp = (part[:, :, which].swapaxes(0, 1).reshape(rows, n * design.kv_heads, *part.shape[3:])
                              for which in (keys, values) for part in (codes, exps))
        q, q_exp = codes[:, -1, queries].reshape(-1, design.padded_head_dim), exps[:, -1, queries].reshape(-1)
        return self.weighted(k, k_exp, v, v_exp, q, q_exp).reshape(n, -1)

    def weighted(self, k: np.ndarray, k_exp: np.ndarray, v: np.ndarray, v_exp: np.ndarray, q: np.ndarray,
                 q_exp: np.ndarray) -> np.ndarray:
        """Attention of K/V heads [p + 1, m, head] with exponents [p + 1, m], and their groups' queries
        [m * group, head] -> as those."""
        window = self.design.window(self.index)
        return attention_entries(self.design, q[None], q_exp[None], self.positions[-1:], k, k_exp, v, v_exp, window)[0]

    def after_attention(self, values: np.ndarray, x: np.ndarray | None = None,
                        gates: np.ndarray | None = None) -> np.ndarray:
        """Results of attention [n, heads * head], in some cases with other residuals before the layer, or other `gates`
        of a parallel block."""
        return self._after_middle(self.decoder.attended(self.index, self.own if x is None else x, values), gates)

    def _after_middle(self, x, gates=None):
        if gates is None:
            gates = self.gates if self.design.block.parallel else self.decoder.gates(self.index, x)
        return self.decoder.gated(self.index, x, gates)

    def _after_add(self, project, x):
        return x if project == self.design.block.from_ff.name else self._after_middle(x)

    def _after_gates(self, gates):
        return self.after_products(activate(self.design.block, gates))

    def after_products(self, values: np.ndarray) -> np.ndarray:
        """Inputs of `Block.from_ff`: [n, ff]."""
        project = self.design.block.from_ff
        return self.decoder.add(self.index, self.base[project.name], values, project)


def put(base: np.ndarray, r: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Copies of an array of m rows [m, ...] with element r of all the rows after the first axis set: [n, m, ...], or
    [n, ...] if m is 1."""
    out = np.repeat(base.reshape(1, len(base), -1), len(r), axis=0)
    out[np.arange(len(r)), :, r] = new.T
    out = out.reshape(len(r), *base.shape)
    return out if base.ndim > 2 else out[:, 0]
