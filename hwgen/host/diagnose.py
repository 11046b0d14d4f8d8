"""Which unit of a machine is wrong, from nothing but the signatures that a self-test has read.

Up to the first wrong residual the golden model knows every number in the machine. So each single wrong bit that can reach that residual (in
the weights of its layer, in the KV rows that it reads, in the tables of constants) is tried on the golden model: what it would make of
it is compared with what the machine has made of it, 32 bits of CRC. What passes is then run as a whole, against all that the machine gave.
"""
import copy
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..golden import residual
from ..golden.attention import attention_entries
from ..golden.convert import convert_gate_up, convert_qkv
from ..golden.decoder import GoldenDecoder
from ..golden.numbers import acc_to_bf16, bf16_value, fp8_ints
from ..golden.rmsnorm import norm_factor, rms_norm
from ..golden.rope import rope_angles
from ..golden.swiglu import activate
from ..golden.vector_buffer import quantize
from ..lib.layouts import EXP_BITS
from ..models.pack import sections as packed
from ..params.tables import ROPE_BLOCK, changed
from ..params.stream import EMBEDDING
from .faults import ConstantFault, KvFault, WeightFault, constants, rewired
from .link import LinkError

__all__ = ["Diagnosis", "diagnose"]

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


@dataclass
class Diagnosis:
    """What can be said. ``suspects`` are those that explain most passes; ``again`` says whether a second run was as the first."""
    suspects: list
    passes: int
    tried: int
    untried: list
    again: bool
    hint: str       # if nobody is suspect

    @property
    def unit(self):
        """The unit, or what it cannot be told from."""
        units = list(dict.fromkeys(suspect.unit for suspect in self.suspects))
        return ("cannot tell between " if len(units) > 1 else "") + " and ".join(units) if units else "cannot tell the unit"

    def lines(self):
        found = self.suspects
        yield f"unit: {self.unit}"
        yield from (f"  {suspect.where}" for suspect in found[:4])
        if len(found) > 4:
            yield f"  or {len(found) - 4} other bits with the same effect"
        if found:
            whole = found[0].explained == self.passes
            yield (f"because: of {self.tried:,} wrong bits tried on the golden model, {'only this gives' if len(found) == 1 else 'only these give'} what "
                   "the machine gave " + (f"in all {self.passes} passes" if whole else f"in the first {found[0].explained} passes; then something else "
                                                                                     "is wrong too"))
        else:
            yield f"because: {self.hint}"
        if self.untried:
            yield f"not tried: {', '.join(self.untried)}"
        yield ("a second run gave the same: the fault stays" if self.again else
               "a second run gave something else: a bit flipped once, or timing is not met")


def diagnose(link, quantized, golden, mismatch):
    """A `Diagnosis` of the machine behind ``link``, from a `Mismatch` of `driver.selftest` with the same golden model."""
    design, runs, number = link.design, mismatch.runs, mismatch.number
    layer, row = mismatch.layer, mismatch.row
    try:
        link.reset()
        again = all(_same(link.run_pass(entries), result) for entries, result in runs[:number + 1])
    except LinkError:
        again = False
    if layer is None:
        return Diagnosis([], len(runs), 0, [], again, "all residuals are right, so it is the final norm, the LM head's weights, or the sampler")
    entry = runs[number][0][row]
    search = _Search(design, quantized, golden, runs, number, layer, entry, again)
    suspects = search.suspects()
    return Diagnosis(suspects, len(runs), search.tried, search.untried, again, _hint(entry, search.tried))


def _same(a, b):
    return a.signatures == b.signatures and a.tokens == b.tokens


def _hint(entry, tried):
    """What is left if no single wrong bit explains it."""
    return (f"none of {tried:,} wrong bits tried on the golden model gives what the machine gave, so several are wrong, or logic or timing. "
            + ("Position 0 was right in all layers, where rope, the scores of attention and the weights of Q and K do nothing: look there first"
               if entry.position else "It is not rope or the scores of attention, which do nothing at position 0"))


class _Search:
    """Candidates side by side, through one layer of the golden model.

    The entry whose signature is wrong is at position p of its slot; ``x`` are the residuals before the layer of the positions 0 to p, which are
    right. Arrays of n candidates have n rows.
    """

    def __init__(self, design, quantized, golden, runs, number, layer, entry, again):
        self.design, self.quantized, self.golden, self.runs, self.number = design, quantized, golden, runs, number
        self.index, self.again, self.tried, self.untried = layer, again, 0, []
        of = [(e, row[0]) for entries, result in runs for e, *row in zip(entries, result.signatures[layer]) if e.slot == entry.slot]
        n, self.slot = entry.position + 1, entry.slot
        self.old = min(e.position for e in runs[number][0] if e.slot == entry.slot)     # positions that earlier passes have written
        self.seen = of[entry.position][1]
        self.decoder = d = copy.copy(golden.decoder)
        self.tokens, positions = np.array([e.token for e, _ in of]), np.arange(len(of))
        d.reset()
        x = residual.embed(d.embedding[self.tokens], d.embed_exp, design)
        for i in range(layer):
            x = d.layer(i, x, np.full_like(positions, self.slot), positions)
        self.whole = x, [crc for _, crc in of]
        self.x, self.own, self.positions, self.slots = x[:n], x[n - 1:n], positions[:n], np.full(n, self.slot)
        self.layer = d.weights[layer]

        # what golden has at each stage
        self.heads = d.heads(layer, self.x)                                     # [p + 1, qkv_heads, head]
        self.angles = rope_angles(design, self.positions)                       # [p + 1, head/2, 2]
        self.stored = d.stored(self.heads, self.angles)                         # codes [p + 1, qkv_heads, head], exponents [p + 1, qkv_heads]
        self.values = self._attend(self.heads[None])                            # [1, heads * head]
        self.middle = d.attended(layer, self.own, self.values)                  # [1, hidden_size]
        self.gates = d.gates(layer, self.middle)                                # [1, 2 * ff]
        self.products = activate(design.block, self.gates)                      # [1, ff]
        self.after = self._after_swiglu(self.products)                          # [1, hidden_size]

    # -- from a stage to the end of the layer

    def _attend(self, heads, angles=None):
        """[n, p + 1, qkv_heads, head] -> [n, heads * head]."""
        n = len(heads)
        angles = np.tile(self.angles, (n, 1, 1)) if angles is None else angles.reshape(-1, *angles.shape[2:])
        codes, exps = self.decoder.stored(heads.reshape(-1, *heads.shape[2:]), angles)
        return self._attend_stored(codes.reshape(heads.shape), exps.reshape(heads.shape[:3]))

    def _attend_stored(self, codes, exps):
        """The same, from what is stored: candidates are K/V heads of one entry that sees them all."""
        kv, (n, rows), design = self.design.kv_heads, codes.shape[:2], self.design
        parts = (part[:, :, which].swapaxes(0, 1).reshape(rows, n * kv, *part.shape[3:]) for which in (slice(0, kv), slice(kv, 2 * kv))
                 for part in (codes, exps))
        return self._weighted(*parts, codes[:, -1, 2 * kv:].reshape(-1, design.head), exps[:, -1, 2 * kv:].reshape(-1)).reshape(n, -1)

    def _weighted(self, k, k_exp, v, v_exp, q, q_exp):
        """Attention of K/V heads [p + 1, m, head] with exponents [p + 1, m], and their groups' queries [m * group, head] -> as those."""
        return attention_entries(self.design, q[None], q_exp[None], self.positions[-1:], k, k_exp, v, v_exp)[0]

    def _after_attention(self, values):
        return self._after_middle(self.decoder.attended(self.index, self.own, values))

    def _after_middle(self, x):
        return self.decoder.gated(self.index, x, self.decoder.gates(self.index, x))

    def _after_gates(self, gates):
        return self._after_swiglu(activate(self.design.block, gates))

    def _after_swiglu(self, values):
        return self.decoder.add(self.middle, values, self.layer.down, self.layer.exps_2[2])

    def _hits(self, x):
        """Of residuals after the layer, which the machine may have had."""
        return [i for i, crc in enumerate(self.decoder.signature(x)) if crc == self.seen]

    # -- candidates

    def suspects(self):
        """All wrong bits that give what the machine gave; those that do so in most passes."""
        found = [*self._constants(), *self._gains(), *self._exponents()]
        if self.index == 0:
            found += self._embedding()
        for name in ("qkv", "o", "gate_up", "down"):
            found += self._matrix(name)
        if not self.design.hw.kv_ecc:       # there a wrong bit is corrected
            found += self._kv_memory()
        if not self.again:                  # weights and constants stay wrong
            found = [s for s in found if isinstance(s.fault, KvFault)] or found
        # Many bits have the same effect on one entry. Those of the layer alone must have it on the slot's others too, before a whole machine is tried.
        for end in range(len(self.x) + 1, len(self.whole[0]) + 1):
            left = [s for s in found if not s.local or self._continues(s, end)]
            if not any(s.local for s in left):
                break
            found = left
        for suspect in found:
            suspect.explained = self._explained(suspect)
        most = max((s.explained for s in found), default=0)
        return [s for s in found if s.explained == most > self.number]

    def _altered(self, alter):
        """A copy of the golden decoder with something wrong."""
        d = copy.copy(self.decoder)
        d.__class__, d.weights = _Broken, [*d.weights]
        d.reset()
        if alter is not None:
            alter(d)
        return d

    def _replay(self, decoder):
        """The signature that the whole layer gives on another decoder."""
        decoder.reset()
        return decoder.signature(decoder.layer(self.index, self.x, self.slots, self.positions)[-1:])[0]

    def _constants(self):
        """Bits of the tables: of their unit's results for each, those that are not golden's go on through the layer."""
        design, heads = self.design, self.heads[None]
        stages = {
            "rope": (lambda: rope_angles(design, self.positions), lambda angles: self._after_attention(
                self._attend(np.repeat(heads, len(angles), axis=0), angles))),
            "attention": (lambda: self._attend_stored(*(part[None] for part in self.stored))[0], self._after_attention),
            "swiglu": (lambda: activate(design.block, self.gates)[0], self._after_swiglu),
            # both norms may read the entry
            "rmsnorm": (lambda: np.concatenate([norm_factor(design, x) for x in (self.x, self.middle)], axis=1), None)}
        for name, table in constants(design).items():
            stage, rest = stages[table.unit]
            right, faults, results = stage(), [], []
            for entry in range(len(table.entries)):
                if name.startswith("rope") and entry // design.model.head_dim not in self._rope_rows(name):
                    continue
                for bit in range(table.bits):
                    if (other := table.flipped(entry, bit)) is None:
                        continue
                    self.tried += 1
                    with changed(table.function, other):
                        result = stage()
                        if (result == right).all():
                            continue
                        faults.append(ConstantFault(name, entry, bit))
                        results.append(result if rest else self._replay(self.decoder))
            for start in range(0, len(faults), 256):
                part = results[start:start + 256]
                for hit in self._hits(rest(np.array(part))) if rest else [i for i, crc in enumerate(part) if crc == self.seen]:
                    fault = faults[start + hit]
                    yield Suspect(fault, f"{table.unit}, a constant", fault.where(design), None, local=False)

    def _rope_rows(self, name):
        """The rows of a table that the positions read."""
        return {p % ROPE_BLOCK if name == "rope_low" else p // ROPE_BLOCK for p in self.positions.tolist()}

    def _weight(self, start, address, bit, alter, local=True):
        beat, byte = divmod(int(address), self.design.hw.beat_bytes)
        fault = WeightFault(start + beat, byte, int(bit))
        return Suspect(fault, "weights", fault.where(self.design), alter, local)

    def _set(self, attribute, value):
        """What puts a layer's value into a decoder."""
        def alter(decoder):
            decoder.weights[self.index] = layer = copy.copy(decoder.weights[self.index])
            setattr(layer, attribute, value)
        return alter

    def _record(self, norm):
        """First beat of the record of a norm."""
        return self.design.stream[f"norm_{norm}", self.index].address

    def _exponents(self):
        """Of the matrices, in the records."""
        for norm, exps in ((1, self.layer.exps_1), (2, self.layer.exps_2)):
            for i in range(len(exps)):
                for bit in range(EXP_BITS):
                    self.tried += 1
                    alter = self._set(f"exps_{norm}", [*exps[:i], _flip_exp(exps[i], bit), *exps[i + 1:]])
                    if self._replay(self._altered(alter)) == self.seen:
                        yield self._weight(self._record(norm), 2 * i + bit // 8, bit % 8, alter)

    def _gains(self):
        """Of the norms, in the records."""
        design, start = self.design, 2 * self.design.record_header_granules * self.design.hw.vector_lanes
        own = self.quantized.layers[self.index]
        for norm, words, x, rest in ((1, own.input_gain, self.x, self._after_norm_1), (2, own.post_gain, self.middle, self._after_norm_2)):
            right = getattr(self.layer, f"gain_{norm}")
            for bit in range(16):
                wrong = words ^ np.uint16(1 << bit)
                i = np.flatnonzero(wrong & 0x7F80 != 0x7F80)        # others are no numbers of the machine's
                self.tried += len(i)
                values = bf16_value(np.where((wrong & 0x7F80 == 0) | (wrong & 0x7F80 == 0x7F80), 0, wrong))
                gains = np.repeat(right[None], len(i), axis=0)
                gains[np.arange(len(i)), i] = values[i]
                y = rms_norm(design, np.tile(x, (len(i), 1)), np.repeat(gains, len(x), axis=0))
                for hit in self._hits(rest(y)):
                    yield self._weight(self._record(norm), start + 2 * i[hit] + bit // 8, bit % 8, self._set(f"gain_{norm}", gains[hit]))

    def _after_norm_1(self, y):
        heads = convert_qkv(*self.decoder.matmul(y, self.layer.qkv), dict(zip("qkv", self.layer.exps_1)), self.design)
        return self._after_attention(self._attend(heads.reshape(-1, *self.heads.shape)))

    def _after_norm_2(self, y):
        exps = dict(zip(("gate", "up"), self.layer.exps_2))
        return self._after_gates(convert_gate_up(*self.decoder.matmul(y, self.layer.gate_up), exps, self.design))

    def _embedding(self):
        """Codes of the entry's row."""
        d, token = self.decoder, int(self.tokens[len(self.x) - 1])
        tied = self.design.model.tie_word_embeddings
        table = self.design.stream[EMBEDDING]
        for code, row in enumerate(d.embedding[token]):
            for bit in range(8):
                wrong = row ^ 1 << bit
                x = np.repeat(d.embedding[[token]], len(row), axis=0)
                x[np.arange(len(row)), code, np.arange(len(row))] = wrong
                x = residual.embed(x, d.embed_exp, self.design)
                self.tried += len(row)
                heads = np.repeat(self.heads[None], len(row), axis=0)
                heads[:, -1] = d.heads(self.index, x)
                middle = d.attended(self.index, x, self._attend(heads))
                for i in self._hits(d.gated(self.index, middle, d.gates(self.index, middle))):
                    yield self._weight(table.address, self.design.stream.byte(table, token, i, code), bit, _embed(token, code, i, wrong[i], tied), local=False)

    def _matrix(self, name):
        """Every bit of a matrix's codes."""
        design, layer = self.design, self.layer
        section = design.stream[name, self.index]
        matmul = section.matmul
        ints = getattr(layer, name)
        codes = self._codes(name, matmul)[:ints.shape[0], :ints.shape[1]]
        inputs, outcome = {
            "qkv": (lambda: rms_norm(design, self.x, layer.gain_1), lambda r, new: self._after_attention(self._attend(_put(self.heads, r, new)))),
            "o": (lambda: self.values, lambda r, new: self._after_middle(_put(self.middle, r, new))),
            "gate_up": (lambda: rms_norm(design, self.middle, layer.gain_2), lambda r, new: self._after_swiglu(_put(self.products, r // 2, new))),
            "down": (lambda: self.products, lambda r, new: _put(self.after, r, new)),
        }[name]
        a, exp = quantize(inputs(), design.recipe.activation_format)
        a = fp8_ints(a, design.recipe.activation_format)                        # [m, cols]
        width = design.recipe.weight_format.product_bits(design.recipe.activation_format)
        acc = a @ ints.T.astype(np.int64)
        behind = {"qkv": layer.o.size + layer.gate_up.size + layer.down.size, "o": layer.gate_up.size + layer.down.size, "gate_up": layer.down.size}
        if 8 * ints.size * behind.get(name, 0) > _MOST:
            self.untried.append(f"weights of {name}, of which there are too many")
            return
        for bit in range(8):
            wrong = fp8_ints(codes ^ 1 << bit, design.recipe.weight_format)
            self.tried += wrong.size
            delta = _cut(wrong * a[:, None], width) - ints.astype(np.int64) * a[:, None]        # [m, rows, cols]
            r, c = np.nonzero(delta.any(axis=0))
            before, after = self._outputs(name, r, acc[:, r], exp), self._outputs(name, r, acc[:, r] + delta[:, r, c], exp)
            felt = (before != after).any(axis=0)
            r, c, after = r[felt], c[felt], after[:, felt]
            if not len(r):
                continue
            _, first, which = np.unique(np.vstack([r, after]), axis=1, return_index=True, return_inverse=True)
            which = which.reshape(-1)
            size = max(1, _CHUNK // (len(self.positions) * ints.shape[0]))
            for at in range(0, len(first), size):
                chosen = first[at:at + size]
                for hit in self._hits(outcome(r[chosen], after[:, chosen])):
                    for i in np.flatnonzero(which == at + hit):
                        yield self._weight(section.address, design.stream.byte(section, r[i], c[i]), bit, self._wrong(name, r[i], c[i], wrong[r[i], c[i]]))

    def _wrong(self, name, row, column, value):
        """What puts a wrong weight into a decoder."""
        def alter(decoder):
            matrix = getattr(self.layer, name).copy()
            matrix[row, column] = value
            self._set(name, matrix)(decoder)
            decoder.weight = matrix, row, column
        return alter

    def _outputs(self, name, r, acc, exp):
        """What the sums [m, n] of the rows r become behind the array, of gate and up behind SwiGLU: [m, n]."""
        design, layer = self.design, self.layer
        exp = np.asarray(exp, np.int64)[:, None]
        if name == "qkv":
            head = r // design.head
            weight = np.array(layer.exps_1)[np.where(head < design.kv_heads, 1, np.where(head < 2 * design.kv_heads, 2, 0))]
            return acc_to_bf16(acc, exp + weight + design.acc_unit)
        if name == "gate_up":
            pair = np.stack([self.gates[0, r & ~1], self.gates[0, r | 1]], axis=-1)
            pair[np.arange(len(r)), r % 2] = acc_to_bf16(acc, exp + np.array(layer.exps_2)[r % 2] + design.acc_unit)[0]
            return activate(design.block, pair).T
        x, weight = (self.own, layer.exps_1[3]) if name == "o" else (self.middle, layer.exps_2[2])
        return residual.add(x[:, r], acc, exp[:, 0], weight, design)

    def _codes(self, name, matmul):
        """A matrix of the layer as it is stored: uint8 [rows, cols]."""
        number = 1 + 6 * self.index + {"qkv": 1, "o": 2, "gate_up": 4, "down": 5}[name]
        beats, = islice(packed(self.quantized, self.design), number, number + 1)
        hw = self.design.hw
        return beats.reshape(matmul.n_tiles, matmul.k_tiles, hw.columns, hw.lanes).transpose(0, 2, 1, 3).reshape(matmul.rows, matmul.cols)

    def _kv_memory(self):
        """Every bit of the rows that earlier passes have written, flipped between that and this pass."""
        design, kv, old = self.design, self.design.kv_heads, self.old
        codes, exps = self.stored
        stored = [codes[:, :kv], exps[:, :kv], codes[:, kv:2 * kv], exps[:, kv:2 * kv]]
        q, q_exp = codes[-1, 2 * kv:].reshape(kv, design.group, -1), exps[-1, 2 * kv:].reshape(kv, -1)
        before = self.values.reshape(kv, -1)
        for which, memory in enumerate(("k_codes", "k_exps", "v_codes", "v_exps")):
            shape = (old, kv) if which % 2 else (old, kv, design.head)
            at, head, *element = np.indices(shape).reshape(len(shape), -1)
            for bit in range(EXP_BITS if which % 2 else 8):
                self.tried += len(at)
                size = max(1, _CHUNK // (len(self.positions) * design.head))
                for start in range(0, len(at), size):
                    p, h, *e = (part[start:start + size] for part in (at, head, *element))
                    rows = [part[:, h].copy() for part in stored]
                    here = (p, np.arange(len(p)), *e)
                    rows[which][here] = _flip_exp(rows[which][here], bit) if which % 2 else rows[which][here] ^ 1 << bit
                    out = self._weighted(*rows, q[h].reshape(-1, design.head), q_exp[h].reshape(-1)).reshape(len(p), -1)
                    felt = np.flatnonzero((out != before[h]).any(axis=1))
                    values = np.repeat(before[None], len(felt), axis=0)
                    values[np.arange(len(felt)), h[felt]] = out[felt]
                    for hit in self._hits(self._after_attention(values.reshape(len(felt), -1))):
                        i = felt[hit]
                        yield self._kv_suspect(memory, int(p[i]), int(h[i]), int(e[0][i]) if e else None, bit)

    def _kv_suspect(self, memory, position, head, element, bit):
        hw, blocks = self.design.hw, self.golden.decoder.blocks
        block, offset = divmod(position, hw.kv_block)
        if hw.paged:
            block = blocks.tables[self.slot][block]
        fault = KvFault.at(self.design, memory, self.index, head, block, offset, element, bit)

        def alter(decoder):
            array = getattr(decoder.kv, memory.replace("exps", "exp"))
            at = (self.index, self.slot, position, head) + (() if element is None else (element,))
            array[at] = _flip_exp(array[at], bit) if element is None else array[at] ^ 1 << bit
        return Suspect(fault, "kv_cache", f"{fault.where(self.design)} (slot {self.slot}, position {position})", alter)

    def _continues(self, suspect, end):
        """Whether a wrong bit in this layer does to the last of ``end`` entries of the slot what happened to it."""
        flips, (x, seen) = isinstance(suspect.fault, KvFault), self.whole
        d = self._altered(None if flips else suspect.alter)
        for first, after in ((0, self.old), (self.old, end)) if flips else ((0, end),):
            if first:
                suspect.alter(d)
            positions = np.arange(first, after)
            x_after = d.layer(self.index, x[first:after], np.full_like(positions, self.slot), positions)
        return d.signature(x_after[-1:]) == [seen[end - 1]]

    def _explained(self, suspect):
        """How many passes from the first on a whole machine with that bit wrong gives what this one gave."""
        flips = isinstance(suspect.fault, KvFault)
        decoder = self._altered(None if flips else suspect.alter)
        with rewired(self.design, [suspect.fault]):
            for number, (entries, result) in enumerate(self.runs):
                if flips and number == self.number:
                    suspect.alter(decoder)
                tokens, signatures, _ = decoder.run_pass([(e.slot, e.position, e.token, e.want, e.key) for e in entries])
                if (tokens, signatures) != (result.tokens, result.signatures):
                    return number
        return len(self.runs)


def _put(base, r, new):
    """Copies of an array of m rows [m, ...] with element r of all the rows after the first axis set: [n, m, ...], or [n, ...] if m is 1."""
    out = np.repeat(base.reshape(1, len(base), -1), len(r), axis=0)
    out[np.arange(len(r)), :, r] = new.T
    out = out.reshape(len(r), *base.shape)
    return out if base.ndim > 2 else out[:, 0]


def _cut(product, bits):
    """As the array has it, whose products have the bits that those of finite codes need."""
    return np.sign(product) * (np.abs(product) & (1 << bits) - 1)


class _Broken(GoldenDecoder):
    """A golden decoder with something wrong. ``weight``: (matrix, row, column) of one whose code may not be finite."""
    weight = None, None, None

    def matmul(self, values, weights):
        acc, exp = super().matmul(values, weights)
        matrix, row, column = self.weight
        if weights is matrix:
            fmt, recipe = self.design.recipe.activation_format, self.design.recipe
            product = fp8_ints(quantize(values, fmt)[0][:, column], fmt) * int(weights[row, column])
            acc[:, row] += _cut(product, recipe.weight_format.product_bits(fmt)) - product
        return acc, exp


def _flip_exp(value, bit):
    """Of a signed exponent of EXP_BITS bits; arrays too."""
    half = 1 << EXP_BITS - 1
    return ((value & 2 * half - 1 ^ 1 << bit) + half & 2 * half - 1) - half


def _embed(token, code, i, wrong, tied):
    """What puts a wrong code of a token's embedding into a decoder."""
    def alter(decoder):
        decoder.embedding = decoder.embedding.copy()
        decoder.embedding[token, code, i] = wrong
        if tied:
            decoder.head_weights = decoder.head_weights.copy()
            decoder.head_weights[token] = fp8_ints(decoder.embedding[token], decoder.design.recipe.weight_format).sum(axis=0)
    return alter
