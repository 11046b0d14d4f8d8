"""Single wrong bits that may have made a residual what it is: a probe for each kind of place where a bit may be."""
import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..golden import residual
from ..golden.decoder import GoldenDecoder
from ..golden.numbers import bf16, bf16_value, fp8_ints
from ..golden.qk_norm import qk_norm
from ..golden.rmsnorm import norm_factor, rms_norm
from ..golden.rope import rope_angles
from ..golden.swiglu import activate
from ..golden.vector_buffer import quantize
from ..golden.weights import block_offsets, expanded, stored_codes
from ..golden.wired import Effects
from ..lib.layouts import EXP_BITS
from ..lib.wires import registers
from ..models.pack import sections as packed
from ..models.wires import fixed_matrices, matrix_name
from ..params.hardware import MAX_HEAD_ROW
from ..params.stream import BLOCK, EMBEDDING
from ..params.tables import ROPE_BLOCK
from .faults import ConstantFault, KvFault, WeightFault, WireFault, constants, rope_entry
from .stages import Stages, put

__all__ = ["PROBES", "Case", "Suspect"]

_CHUNK = 1_000_000          # numbers at a time in the widest stage
_MOST = 200e9               # multiplications for the candidates of a matrix: with more it is left out


@dataclass
class Suspect:
    """A wrong bit that gives the first wrong signature.

    alter       callable that puts it into a copy of a `GoldenDecoder`: weights from the start, a bit of the KV memory before the pass in
                which it is felt. None for constants
    local       it is of nothing but the layer
    explained   passes, from the first on, in which the machine gave what a machine with it would give
    """
    fault: object
    unit: str
    where: str
    alter: object
    local: bool = True
    explained: int = 0


class Case:
    """A wrong signature: of the entry at position p of a slot, after a layer. All before it is right.

    Parameters
    ----------
    decoder : GoldenDecoder         what it holds in its KV memory is lost
    blocks : KvBlocks               who owns the KV memory
    index, slot, seen : ints        the layer, the entry's slot, and the signature
    x : int64 [p + 1, hidden_size]  residuals before the layer of the slot's positions up to the entry's
    token : int                     the entry's
    old : int                       positions that earlier passes have written

    Attributes
    ----------
    tried, untried  how many bits the probes have tried, and what they have left out
    """

    def __init__(self, quantized, decoder, blocks, *, index, slot, seen, x, token, old):
        self.design, self.quantized, self.decoder, self.blocks = decoder.design, quantized, decoder, blocks
        self.index, self.slot, self.seen, self.x, self.token, self.old = index, slot, seen, x, token, old
        self.layer, self.stages = decoder.weights[index], Stages(decoder, index, x)
        self.tried, self.untried = 0, []

    @cached_property
    def stored(self):
        """Bytes of the layer's sections of the weight stream, by their names: uint8 [beats, beat_bytes]."""
        return {section.name: beats for section, beats in zip(self._sections, packed(self.quantized, self.design)) if section.layer == self.index}

    @property
    def _sections(self):
        """Of the stream, up to the layer's last."""
        sections = list(self.design.stream)
        return sections[:1 + max(i for i, section in enumerate(sections) if section.layer == self.index)]

    def hits(self, x):
        """Of residuals after the layer, which the machine may have had."""
        return [i for i, crc in enumerate(self.decoder.signature(x)) if crc == self.seen]

    def altered(self, alter):
        """A copy of the golden decoder with something wrong."""
        d = copy.copy(self.decoder)
        d.__class__, d.weights = _Broken, [*d.weights]
        d.reset()
        if alter is not None:
            alter(d)
        return d

    def replay(self, decoder):
        """The signature that the whole layer gives on another decoder."""
        decoder.reset()
        positions = self.stages.positions
        return decoder.signature(decoder.layer(self.index, self.x, np.full_like(positions, self.slot), positions)[-1:])[0]

    def setting(self, attribute, value):
        """What puts something of the layer into a decoder."""
        def alter(decoder):
            decoder.weights[self.index] = layer = copy.copy(decoder.weights[self.index])
            setattr(layer, attribute, value)
        return alter

    def weight(self, section, address, bit, alter, local=True):
        """The `Suspect` of a bit of a byte of a section of the stream."""
        beat, byte = divmod(int(address), self.design.hw.beat_bytes)
        fault = WeightFault(section.address + beat, byte, int(bit))
        return Suspect(fault, "weights", fault.where(self.design), alter, local)


def _batches(count, width):
    """Slices of so many candidates of so many numbers each."""
    size = max(1, _CHUNK // width)
    return (slice(start, start + size) for start in range(0, count, size))


def _constants(case):
    """Bits of the tables: of their unit's results for each, those that are not golden's go on through the layer."""
    design, stages = case.design, case.stages
    rope, normed = design.model.rope_of(case.index), [x for name, x in stages.rows.items() if not stages.norms[name].plain]
    found = {
        "rope": (lambda: rope_angles(design, stages.positions, rope), stages.after_angles),
        "attention": (lambda: stages.attend_stored(*(part[None] for part in stages.stored))[0], stages.after_attention),
        "swiglu": (lambda: activate(design.block, stages.gates)[0], stages.after_products),
        "qk_norm": (lambda: stages.qk_normed(stages.to_norm), stages.after_qk_norm),
        # all norms may read the entry
        "rmsnorm": (lambda: np.concatenate([norm_factor(design, x) for x in normed], axis=1), None)}
    for name, table in constants(design).items():
        if table.unit == "rope" and rope is None:
            continue
        stage, rest = found[table.unit]
        right, faults, results = stage(), [], []
        for entry in range(len(table.entries)):
            if table.unit == "rope" and rope_entry(design, entry)[:2] not in _rope_rows(name, stages.positions, rope):
                continue
            for bit in range(table.bits):
                if (other := table.flipped(entry, bit)) is None:
                    continue
                case.tried += 1
                with table.changed(other):
                    result = stage()
                    if (result == right).all():
                        continue
                    faults.append(ConstantFault(name, entry, bit))
                    results.append(result if rest else case.replay(case.decoder))
        for start in range(0, len(faults), 256):
            part = results[start:start + 256]
            for hit in case.hits(rest(np.array(part))) if rest else [i for i, crc in enumerate(part) if crc == case.seen]:
                fault = faults[start + hit]
                yield Suspect(fault, f"{table.unit}, a constant", fault.where(design), None, local=False)


def _rope_rows(name, positions, rope):
    """(row of a table, RoPE) that positions read."""
    return {(p % ROPE_BLOCK if name == "rope_low" else p // ROPE_BLOCK, rope) for p in positions.tolist()}


def _exponents(case):
    """Of the matrices, in the records; those of matrices that are logic are logic too."""
    for norm in case.stages.norms if not case.design.hw.wired else ():
        section = case.design.stream[norm, case.index]
        for i, name in enumerate(section.exponents):
            for bit in range(EXP_BITS):
                case.tried += 1
                alter = case.setting("exps", {**case.layer.exps, name: _flip_exp(case.layer.exps[name], bit)})
                if case.replay(case.altered(alter)) == case.seen:
                    yield case.weight(section, 2 * i + bit // 8, bit % 8, alter)


def _vectors(case):
    """Gains and biases, in the records."""
    design, v = case.design, case.design.hw.vector_lanes
    for norm in case.stages.norms.values():
        section = design.stream[norm.name, case.index]
        words = case.stored[section.name].reshape(-1).view("<u2")
        start = design.record_header_granules * v
        if not norm.plain:
            yield from _words(case, section, words, start, "gains", norm.name, _gains(case.stages, norm.name))
        start += design.hidden
        for vector, (name, granules) in zip(design.block.vectors(norm.name), section.vectors):
            after = _biases(case.stages, vector.project) if vector.project else _qk_gains(case.stages, vector)
            yield from _words(case, section, words, start, "vectors", name, after)
            start += granules * v


def _words(case, section, words, start, attribute, name, after):
    """bf16 numbers of a record from a word on, ``name`` of the layer's ``attribute``.

    ``after(i, values)``: residuals after the layer, each with a value instead of the i-th number.
    """
    right = getattr(case.layer, attribute)
    own = words[start:start + len(right[name])]
    width = len(case.x) * max([case.design.hidden, *(project.rows for project in map(case.design.matmul, case.stages.projects))])
    for bit in range(16):
        wrong = own ^ np.uint16(1 << bit)
        case.tried += int((wrong & 0x7F80 != 0x7F80).sum())         # others are no numbers of the machine's
        values = bf16_value(np.where((wrong & 0x7F80 == 0) | (wrong & 0x7F80 == 0x7F80), 0, wrong))
        felt = np.flatnonzero((wrong & 0x7F80 != 0x7F80) & (values != right[name]))
        for part in _batches(len(felt), width):
            i = felt[part]
            for hit in case.hits(after(i, values[i])):
                changed = right[name].copy()
                changed[i[hit]] = values[i[hit]]
                yield case.weight(section, 2 * (start + i[hit]) + bit // 8, bit % 8, case.setting(attribute, {**right, name: changed}))


def _gains(stages, norm):
    """What comes of other gains of a norm."""
    x, gains = stages.rows[norm], stages.layer.gains[norm]
    right, unit = (rms_norm(stages.design, x, gain)[:, None] for gain in (gains, np.ones_like(gains)))      # [m, 1, hidden_size]
    return lambda i, values: stages.after_normed(norm, put(right, i, bf16(unit[:, 0, i] * values)).reshape(-1, x.shape[1]))


def _qk_gains(stages, vector):
    """What comes of other gains of queries or of keys."""
    block, vectors, head = stages.design.block, stages.layer.vectors, stages.design.head
    ones = (np.ones_like(vectors[block.gain_of(matrix).name]) for matrix in (block.queries, block.keys))
    right, unit = stages.qk_normed(stages.to_norm), qk_norm(stages.design, stages.to_norm, *ones)
    of = stages.design.heads_of(block.matrix(vector.matrix))

    def after(i, values):
        gains = np.repeat(vectors[vector.name][None], len(i), axis=0)
        gains[np.arange(len(i)), i] = values
        heads = np.repeat(right[None], len(i), axis=0)
        heads[:, :, of] = bf16(unit[:, of] * gains.reshape(len(i), 1, -1, head))
        return stages.after_qk_norm(heads)
    return after


def _biases(stages, project):
    """What comes of other biases of a project."""
    acc, exp = stages.decoder.matmul(stages.inputs[project], getattr(stages.layer, project))
    return lambda i, values: stages.after_outputs(project, i, stages.outputs(project, i, acc[:, i], exp, values))


def _embedding(case):
    """Codes of the entry's row."""
    if case.index:
        return
    design, table, row = case.design, case.decoder.embedding, case.decoder.embedding[case.token]
    section = design.stream[EMBEDDING]
    for code in range(len(row)):
        for bit in range(8):
            wrong = row[code] ^ 1 << bit
            case.tried += len(wrong)
            for part in _batches(len(wrong), len(case.x) * design.matmul(design.block.into_heads.name).rows):
                i = np.arange(len(wrong))[part]
                codes = np.repeat(table[[case.token]], len(i), axis=0)
                codes[np.arange(len(i)), code, i] = wrong[i]
                x = residual.embed(codes, case.decoder.embed_exponents([case.token]), design)
                if design.model.learned_positions:
                    own = case.decoder.positions[[len(case.x) - 1]].repeat(len(i), axis=0)
                    x = residual.embed(own, case.decoder.position_exponents([len(case.x) - 1]), design, x=x)
                for hit in i[case.hits(case.stages.after_x(x))]:
                    alter = _embed(case.token, code, hit, wrong[hit], _tied(design))
                    yield case.weight(section, design.stream.byte(section, case.token, hit, code), bit, alter, local=False)


def _embedding_offset(case):
    """The offset of the entry's row."""
    if case.index or not case.design.scaled:
        return
    design, right = case.design, case.decoder.embed_rows
    section = design.stream[EMBEDDING]
    for bit in range(4):
        case.tried += 1
        wrong = right.copy()
        wrong[case.token] ^= 1 << bit

        def alter(decoder, wrong=wrong):
            decoder.embed_rows = wrong
            if _tied(design):
                decoder.head_rows = wrong & MAX_HEAD_ROW
        broken = case.altered(alter)
        x = broken.embedded([case.token], [len(case.x) - 1])
        for _ in case.hits(case.stages.after_x(x)):
            yield case.weight(section, design.stream.row_byte(section, case.token), bit + 4 * (case.token % 2), alter, local=False)


def _matrices(case):
    """Every bit of the codes of each project's matrix, where it is in the stream."""
    for name in case.stages.projects if not case.design.hw.wired else ():
        size = getattr(case.layer, name).size
        if 8 * size * case.stages.behind(name) > _MOST:
            case.untried.append(f"weights of {name}, of which there are too many")
        else:
            yield from _matrix(case, name)


def _matrix(case, name):
    design, recipe, stages = case.design, case.design.recipe, case.stages
    section, ints = design.stream[name, case.index], getattr(case.layer, name)
    codes, offsets = (_rows_of(part, section)[:ints.shape[0], :ints.shape[1]] for part in _stored(case, section))
    fmt, narrow = (design.array_format, True) if section.tiling.narrow else (recipe.weight_format, False)

    def as_ints(codes, offsets):
        return fp8_ints(expanded(codes, offsets, fmt, design.largest_block) if narrow else codes, fmt)
    a, exp = quantize(stages.inputs[name], recipe.activation_format)
    a = fp8_ints(a, recipe.activation_format)                               # [m, cols]
    width = design.array_format.product_bits(recipe.activation_format)
    acc = a @ ints.T.astype(np.int64)

    def delta(wrong):       # [m, rows, cols]
        return _cut(wrong * a[:, None], width) - ints.astype(np.int64) * a[:, None]

    for bit in range(4 if narrow else 8):
        wrong = as_ints(codes ^ 1 << bit, offsets)
        case.tried += wrong.size
        yield from _felt(case, name, acc, exp, delta(wrong), lambda r, c, wrong=wrong, bit=bit: case.weight(
            section, design.stream.byte(section, r, c), bit + narrow * 4 * (c % 2), _wrong(case, name, r, c, wrong[r, c])))
    for bit in range(4 if section.tiling.block_steps else 0):
        wrong = as_ints(codes, offsets ^ 1 << bit)
        starts = np.arange(0, ints.shape[1], BLOCK)
        case.tried += len(ints) * len(starts)
        yield from _felt(case, name, acc, exp, np.add.reduceat(delta(wrong), starts, axis=2), lambda r, b, wrong=wrong, bit=bit: case.weight(
            section, design.stream.block_byte(section, r, b), bit + 4 * (r % 2), _wrong(
                case, name, r, slice(b * BLOCK, (b + 1) * BLOCK), wrong[r, b * BLOCK:(b + 1) * BLOCK])))
    yield from _row_offsets(case, name, acc, exp)


def _row_offsets(case, name, acc, exp):
    """Bits of the offsets of a project's rows."""
    design, stages, right = case.design, case.stages, case.layer.rows[name]
    section = design.stream[name, case.index]
    for bit in range(4 if design.scaled else 0):
        case.tried += len(right)
        r = np.arange(len(right))
        before, after = stages.outputs(name, r, acc, exp), stages.outputs(name, r, acc, exp, rows=right ^ 1 << bit)
        r = np.flatnonzero((before != after).any(axis=0))
        for part in _batches(len(r), len(case.x) * len(right)):
            for hit in r[part][case.hits(stages.after_outputs(name, r[part], after[:, r[part]]))]:
                wrong = right.copy()
                wrong[hit] ^= 1 << bit
                alter = case.setting("rows", {**case.layer.rows, name: wrong})
                yield case.weight(section, design.stream.row_byte(section, hit), bit + 4 * (hit % 2), alter)


def _felt(case, name, acc, exp, delta, suspect):
    """The `Suspect` s that ``suspect`` makes of (row, place) of differences of sums [m, rows, places], of those that give the wrong signature."""
    stages = case.stages
    r, c = np.nonzero(delta.any(axis=0))
    for _ in range(bool(len(r))):
        before, after = stages.outputs(name, r, acc[:, r], exp), stages.outputs(name, r, acc[:, r] + delta[:, r, c], exp)
        felt = (before != after).any(axis=0)
        r, c, after = r[felt], c[felt], after[:, felt]
        if not len(r):
            continue
        _, first, which = np.unique(np.vstack([r, after]), axis=1, return_index=True, return_inverse=True)
        which = which.reshape(-1)
        for part in _batches(len(first), len(case.x) * delta.shape[1]):
            chosen = first[part]
            for hit in case.hits(stages.after_outputs(name, r[chosen], after[:, chosen])):
                for i in np.flatnonzero(which == part.start + hit):
                    yield suspect(r[i], c[i])


def _stored(case, section):
    """(Codes, offsets of blocks) of a matrix as they are stored, for each tile [n_tiles, k_tiles, columns, lanes]."""
    here = case.stored[section.name], case.design, section._replace(address=0)
    codes = stored_codes(*here)
    if not section.tiling.block_steps:
        return codes, np.zeros_like(codes)
    offsets = block_offsets(*here)[:, np.arange(section.matmul.cols) // BLOCK]
    return codes, offsets.reshape(len(codes), codes.shape[2], -1, codes.shape[3]).swapaxes(1, 2)


def _rows_of(tiles, section):
    """The same as rows: [rows, cols]."""
    return tiles.transpose(0, 2, 1, 3).reshape(section.matmul.rows, section.matmul.cols)


def _wrong(case, name, row, column, value):
    """What puts a wrong weight into a decoder."""
    def alter(decoder):
        matrix = getattr(case.layer, name).copy()
        matrix[row, column] = value
        case.setting(name, matrix)(decoder)
        decoder.weight = matrix, row, column
    return alter


def _wires(case):
    """Every register of the matrices that are logic, always 0 and always 1."""
    design, fmt = case.design, case.design.recipe.activation_format
    if not design.hw.wired:
        return
    wires = fixed_matrices(case.quantized, design)
    for name in case.stages.projects:
        matrix, ints = wires[name, case.index], getattr(case.layer, name)
        words = registers(matrix.plan)
        if 2 * sum(map(len, words.values())) * (ints.size + case.stages.behind(name)) > _MOST:
            case.untried.append(f"registers of {name}, of which there are too many")
            continue
        codes, exp = quantize(case.stages.inputs[name], fmt)
        a = fp8_ints(codes, fmt).astype(np.int64)
        acc, stuck = a @ ints.T.astype(np.int64), _Stuck(matrix, wires)
        nodes = stuck.nodes(a)
        places = [(word, bit, value, register) for word, of in words.items() for bit, register in enumerate(of) for value in (0, 1)]
        case.tried += len(places)
        for part in _batches(len(places), len(case.x) * max(acc.shape[1], case.design.ff)):
            new = np.array([stuck.sums(acc, register, value, nodes) for *_, value, register in places[part]])
            felt = np.flatnonzero((new != acc).any(axis=(1, 2)))
            for hit in felt[case.hits(case.stages.after_sums(name, new[felt], exp))] if len(felt) else ():
                word, bit, value, register = places[part.start + hit]
                fault = WireFault(f"{matrix_name(name, case.index)}.{word}", bit, value)
                yield Suspect(fault, "wired", f"{fault.where(design)}: layer {case.index}, {name}, {_register_text(register)}", _keeps(ints, stuck, register, value))


def _register_text(register):
    kind, at, *rest = register
    return {"carry": f"carry of adder {at}", "sum": f"sum of adder {at}", "shift": f"number {at} times {1 << rest[0] if rest else 1}",
            "delay": f"number {at}, delayed"}[kind]


def _keeps(ints, stuck, register, value):
    """What puts a register that keeps a value into a decoder."""
    def alter(decoder):
        decoder.stuck = ints, stuck, register, value
    return alter


class _Stuck:
    """Sums of a matrix with a register that keeps one value, in the bits that a unit of these matrices has for them."""

    def __init__(self, matrix, wires):
        self._matrix, self._effects, self._half = matrix, Effects(matrix), 1 << max(other.bits for other in wires.values()) - 1

    def nodes(self, x):
        """Of inputs int64 [m, inputs], without those that fill a slice."""
        return self._matrix.plan.network.nodes(np.pad(x, [(0, 0), (0, self._matrix.size[1] - x.shape[1])]))

    def sums(self, acc, register, value, nodes):
        """int64 [m, outputs] -> what they become."""
        wrong, part = self._effects.effect(register, value, nodes)
        return (acc + np.outer(wrong, part[:acc.shape[1]]) + self._half & 2 * self._half - 1) - self._half


def _kv_memory(case):
    """Every bit of the rows that earlier passes have written, flipped between that and this pass."""
    design, block, stages, kv, old = case.design, case.design.block, case.stages, case.design.kv_heads, case.old
    if design.hw.kv_ecc:        # a wrong bit is corrected
        return
    codes, exps = stages.stored
    keys, values, queries = map(design.heads_of, (block.keys, block.values, block.queries))
    stored = [codes[:, keys], exps[:, keys], codes[:, values], exps[:, values]]
    q, q_exp = codes[-1, queries].reshape(kv, design.group, -1), exps[-1, queries].reshape(kv, -1)
    before = stages.inputs[block.from_heads.name].reshape(kv, -1)
    for which, memory in enumerate(("k_codes", "k_exps", "v_codes", "v_exps")):
        shape = (old, kv) if which % 2 else (old, kv, design.head)
        at, head, *element = np.indices(shape).reshape(len(shape), -1)
        for bit in range(EXP_BITS if which % 2 else 8):
            case.tried += len(at)
            for part in _batches(len(at), len(case.x) * design.head):
                p, h, *e = (indices[part] for indices in (at, head, *element))
                rows = [values[:, h].copy() for values in stored]
                here = (p, np.arange(len(p)), *e)
                rows[which][here] = _flip_exp(rows[which][here], bit) if which % 2 else rows[which][here] ^ 1 << bit
                out = stages.weighted(*rows, q[h].reshape(-1, design.head), q_exp[h].reshape(-1)).reshape(len(p), -1)
                felt = np.flatnonzero((out != before[h]).any(axis=1))
                values = np.repeat(before[None], len(felt), axis=0)
                values[np.arange(len(felt)), h[felt]] = out[felt]
                for hit in case.hits(stages.after_attention(values.reshape(len(felt), -1))):
                    i = felt[hit]
                    yield _kv_suspect(case, memory, int(p[i]), int(h[i]), int(e[0][i]) if e else None, bit)


def _kv_suspect(case, memory, position, head, element, bit):
    design, hw = case.design, case.design.hw
    block, offset = divmod(position, hw.kv_block)
    if hw.paged:
        block = case.blocks.tables[case.slot][block]
    fault = KvFault.at(design, memory, case.index, head, block, offset, element, bit)

    def alter(decoder):
        array = getattr(decoder.kv, memory.replace("exps", "exp"))
        at = (case.index, case.slot, position, head) + (() if element is None else (element,))
        array[at] = _flip_exp(array[at], bit) if element is None else array[at] ^ 1 << bit
    return Suspect(fault, "kv_cache", f"{fault.where(design)} (slot {case.slot}, position {position})", alter)


#: What each tries: callables of a `Case` that yield `Suspect` s. A new kind of engine brings its own.
PROBES = (_constants, _vectors, _exponents, _embedding, _embedding_offset, _matrices, _wires, _kv_memory)


def _cut(product, bits):
    """As the array has it, whose products have the bits that those of finite codes need."""
    return np.sign(product) * (np.abs(product) & (1 << bits) - 1)


class _Broken(GoldenDecoder):
    """A golden decoder with something wrong. ``weight``: (matrix, row, column or columns) of one, or of a block, whose code may not be finite."""
    weight = None, None, None
    stuck = None, None, None, None      # (matrix, its `_Stuck`, register, value)

    def matmul(self, values, weights):
        acc, exp = super().matmul(values, weights)
        matrix, stuck, register, value = self.stuck
        if weights is matrix:
            a = fp8_ints(quantize(values, self.design.recipe.activation_format)[0], self.design.recipe.activation_format)
            return stuck.sums(acc.astype(np.int64), register, value, stuck.nodes(a.astype(np.int64))), exp
        matrix, row, column = self.weight
        if weights is matrix:
            fmt = self.design.recipe.activation_format
            product = fp8_ints(quantize(values, fmt)[0][:, column], fmt) * weights[row, column].astype(np.int64)
            off = _cut(product, self.design.array_format.product_bits(fmt)) - product
            acc[:, row] += off if off.ndim == 1 else off.sum(axis=1)
        return acc, exp


def _flip_exp(value, bit):
    """Of a signed exponent of EXP_BITS bits; arrays too."""
    half = 1 << EXP_BITS - 1
    return ((value & 2 * half - 1 ^ 1 << bit) + half & 2 * half - 1) - half


def _tied(design):
    """Whether the LM head reads what the embedding reads."""
    return design.model.tie_word_embeddings and not design.hw.wired


def _embed(token, code, i, wrong, tied):
    """What puts a wrong code of a token's embedding into a decoder."""
    def alter(decoder):
        decoder.embedding = decoder.embedding.copy()
        decoder.embedding[token, code, i] = wrong
        if tied:
            decoder.head_weights = decoder.head_weights.copy()
            decoder.head_weights[token] = fp8_ints(decoder.embedding[token], decoder.design.recipe.weight_format).sum(axis=0)
    return alter
