"""Wrong bits of the memory for adapters: of an adapter's A, B and exponents, in the layer of the wrong signature."""
from collections.abc import Iterator

import numpy as np

from ...golden.adapters import codes_of
from ...golden.numbers import fp8_ints
from ...golden.vector_buffer import quantize
from ...lib.layouts import EXP_BITS
from ...models.adapter_codes import beat_exponent, pack_adapter
from ..diagnosis.faults import AdapterFault
from .broken import flipped_exponent
from .case import MOST, Case, Suspect, batches
from .matrices import felt

__all__ = ["probe_adapters"]


def probe_adapters(case: Case) -> Iterator[Suspect]:
    """Every bit of what the entry's adapter has for each project of the layer."""
    if case.adapter is None:
        return
    memory = pack_adapter(case.adapter[1], case.design)
    for name in case.stages.projects:
        part = _Part(case, name, memory)
        if 8 * (part.a.size + part.b.size) * case.stages.behind(name) > MOST:
            case.untried.append(f"the adapter of {name}, whose bits are too many")
        else:
            yield from part.exponents()
            yield from part.codes_of_a()
            yield from part.codes_of_b()


class _Part:
    """What an adapter has for a project, as it is stored: A uint8 [R, cols], B uint8 [rows, R]; and the project's sums.
    """

    def __init__(self, case: Case, name: str, memory: np.ndarray):
        design, decoder = case.design, case.decoder
        assert case.adapter is not None
        self.number, _ = case.adapter
        self.case, self.name, self.place = case, name, design.adapter_map[name, case.index]
        weights, inputs = getattr(case.layer, name), case.stages.inputs[name]
        ranks = design.hw.adapter_rank * len(case.stages.projects[name].matrices)
        self.exponent = beat_exponent(memory[self.place.address], design.array_format)
        self.a = self._stored(memory, self.place.a_address, self.place.a)[:ranks, :weights.shape[1]]
        self.b = self._stored(memory, self.place.b_address, self.place.b)[:len(weights), :ranks]
        self.fmt, self.act = design.array_format, design.recipe.activation_format
        self.inputs = fp8_ints(quantize(inputs, self.act)[0], self.act).astype(np.float64)      # [m, cols]
        self.of_base, self.exp = decoder.matmul(inputs, weights)
        self.inner = self.inputs @ fp8_ints(self.a, self.fmt).T                                 # [m, R]
        self.z, self.shift = codes_of(design, self.inner, self.exp, self.exponent)

    def _stored(self, memory, address, matmul):
        """Codes of a matrix's tiles, as rows."""
        hw = self.case.design.hw
        tiles = memory[address:address + matmul.tiles * hw.tile_beats]
        tiles = tiles.reshape(matmul.n_tiles, matmul.k_tiles, hw.columns, hw.lanes)
        return tiles.transpose(0, 2, 1, 3).reshape(matmul.n_tiles * hw.columns, matmul.k_tiles * hw.lanes)

    def _sums(self, z, shift):
        """Sums of the project, [..., m, rows], of codes of A's sums [..., m, R] and how far B's are shifted."""
        return self.of_base + np.ldexp(fp8_ints(z, self.act) @ fp8_ints(self.b, self.fmt).T.astype(np.float64),
                                       shift[..., None].astype(np.int32))

    def exponents(self) -> Iterator[Suspect]:
        """Bits of the exponent."""
        for bit in range(EXP_BITS):
            self.case.tried += 1
            wrong = flipped_exponent(self.exponent, bit)
            sums = self._sums(*codes_of(self.case.design, self.inner, self.exp, wrong))
            if self._hits(sums[None]):
                fault = AdapterFault.of_exponent(self.case.design, self.number, self.place, bit)
                yield self._suspect(fault, lambda a, b, exponent, wrong=wrong: (a, b, wrong))

    def codes_of_a(self) -> Iterator[Suspect]:
        """Bits of A: those that make the same of its sums go through the layer once."""
        design, right = self.case.design, fp8_ints(self.a, self.fmt)
        rows, columns = np.indices(self.a.shape).reshape(2, -1)
        for bit in range(self.fmt.bits):
            wrong = fp8_ints(self.a ^ 1 << bit, self.fmt)
            self.case.tried += wrong.size
            for part in batches(len(rows), self.inner.size):
                r, c = rows[part], columns[part]
                inner = np.repeat(self.inner[None], len(r), axis=0)
                inner[np.arange(len(r)), :, r] += (self.inputs[:, c] * (wrong - right)[r, c]).T
                z, shift = codes_of(design, inner.reshape(-1, inner.shape[2]), np.tile(self.exp, len(r)), self.exponent)
                z, shift = z.reshape(inner.shape), shift.reshape(inner.shape[:2])
                changed = np.flatnonzero((z != self.z).any(axis=(1, 2)) | (shift != self.shift).any(axis=1))
                if not len(changed):
                    continue
                made = np.concatenate([z[changed].reshape(len(changed), -1), shift[changed].astype(np.uint8)], axis=1)
                _, first, which = np.unique(made, axis=0, return_index=True, return_inverse=True)
                which = which.reshape(-1)
                for some in batches(len(first), self.of_base.size):
                    chosen = changed[first[some]]
                    for hit in self._hits(self._sums(z[chosen], shift[chosen])):
                        for i in changed[which == some.start + hit]:
                            yield self._wrong("a", int(r[i]), int(c[i]), bit, wrong[r[i], c[i]])

    def codes_of_b(self) -> Iterator[Suspect]:
        """Bits of B."""
        z, right = fp8_ints(self.z, self.act).astype(np.int64), fp8_ints(self.b, self.fmt)
        sums = self._sums(self.z, self.shift).astype(np.int64)
        for bit in range(self.fmt.bits):
            wrong = fp8_ints(self.b ^ 1 << bit, self.fmt)
            self.case.tried += wrong.size
            delta = (z[:, None] * (wrong - right).astype(np.int64)) << self.shift[:, None, None].astype(np.int64)

            def suspect(r, c, wrong=wrong, bit=bit):
                return self._wrong("b", int(r), int(c), bit, wrong[r, c])
            yield from felt(self.case, self.name, sums, self.exp, delta, suspect)

    def _hits(self, sums):
        return self.case.hits(self.case.stages.after_sums(self.name, sums, self.exp))

    def _wrong(self, which: str, row: int, column: int, bit: int, value) -> Suspect:
        """The `Suspect` of a bit of a code of A or B, with which that is ``value``."""
        def change(a, b, exponent):
            a, b = a.copy(), b.copy()
            (a if which == "a" else b)[row, column] = value
            return a, b, exponent
        fault = AdapterFault.of_code(self.case.design, self.number, self.place, which, row, column, bit)
        return self._suspect(fault, change)

    def _suspect(self, fault, change):
        key, number = (self.name, self.case.index), self.number
        return Suspect(fault, fault.unit, fault.where(self.case.design),
                       lambda decoder: decoder.change_adapter(number, key, change))
