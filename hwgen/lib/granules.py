"""The register behind the beats of the weight stream: a granule a cycle of all that is no tile. A part of the
dispatcher."""
import contextlib
from functools import cache, reduce
from operator import or_
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Mux, Signal, signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout

from .layouts import EXP_BITS, OFFSET_BITS
from .steps import numbered

__all__ = ["Granules", "Section"]


@cache
def _kinds(vectors, offsets):
    return numbered("Section", ["header", "embed", "record", "gains", "tiles",
                                *["vectors"] * vectors, *["offsets"] * offsets])


class Section(NamedTuple):
    """Of which section of the stream a beat is.

    kinds       what it may be: RECORD is the exponents of a record, GAINS and VECTORS the rest of it, OFFSETS those of
                a table's rows
    now         of the beat that is there, or comes next: a register
    after       what the next one is of: where nothing else is assigned, the same
    in_tiles    ``now`` is TILES: a register, for the whole source waits for ``beats.ready``
    """
    kinds: type
    now: Signal
    after: Signal
    in_tiles: Signal

    @classmethod
    def of(cls, m, params):
        """A `Section` in module ``m``, of a stream (`StreamParams`)."""
        kinds = _kinds(any(params.vector_granules), params.row_offsets)
        section = cls(kinds, Signal(kinds, name="section"), Signal(kinds, name="after"), Signal(name="in_tiles"))
        m.d.comb += section.after.eq(section.now)
        m.d.sync += [section.now.eq(section.after), section.in_tiles.eq(section.after == kinds.TILES)]
        return section


class Granules:
    """Takes granules out of beats, one a cycle, and hands them on from a register: V words of 16 bits, or 2 V codes of
    which half count.

    Everything is in the module ``m`` of the dispatcher. A granule moves into the register in the cycle in which
    ``move``; it leaves, and the next one may move, in the cycle in which its user is ready. What is not for ``embed``
    nor ``gain`` leaves in the next cycle. The section decides what comes next: it drives ``part``, ``upper``, ``lo``,
    ``of_position``, ``beat_end`` and what of ``held`` is its own.

    Parameters
    ----------
    m : Module
    params : StreamParams
    ports : `hwgen.units.dispatcher.Dispatcher`
    requests : `hwgen.lib.stream_requests.Requests`
    section : Section

    Attributes
    ----------
    held, full : Signal     the granule in the register; there is one
    move : Signal           one more is taken, in this cycle
    ready : Value           the beat, which is none of tiles, is done with in this cycle
    part, upper, lo         of the next granule: its number in its row, in the gains or the vectors; its number in the
                            header or the exponents, or which half of it counts; its codes are the low ones
    of_position             it is of the row of the entry's position
    in_beat, beat_full      its number in the beat; it is the beat's last: a register, as `Section.in_tiles` is
    beat_end : Signal       in: it is the last one that is wanted of the beat
    unit                    of an embedding beat: which V codes are next
    slice_end, words_end, part_end, row_end, entry_end
                            it is the last one of the beat's part of a row, of header or exponents, of a row's codes, of
                            a row, of an entry
    """

    def __init__(self, m, params, ports, requests, section):
        self._m, self._params, self._ports, self._row, self._section = m, params, ports, requests.row, section.now
        self._lanes, self._headers = params.vector_lanes, params.header_granules
        self._learned, self._vectors = params.positions > 0, params.vector_granules
        self._kinds = section.kinds
        self._row_offset = Signal(OFFSET_BITS, name="row_offset", reset_less=True) if params.row_offsets else None
        self._hold()
        self._hand_out()
        self._keep_exponents()
        self._count()
        self._take(requests.begun, section.in_tiles)

    def _hold(self):
        """The register, and which user its granule waits for."""
        m, ports = self._m, self._ports
        self.held = Signal(StructLayout({
            "kind": self._kinds, "words": ArrayLayout(unsigned(16), self._lanes), "upper": range(max(2, self._headers)),
            "entry": range(self._params.entries), "part": self._part_shape(), "lo": 1, "last": 1,
            **({"position": 1} if self._learned else {})}), name="granule", reset_less=True)
        self.full, self._leave, self.move = Signal(name="full"), Signal(name="leave"), Signal(name="move")
        self._for_embed, self._for_norm = Signal(name="for_embed"), Signal(name="for_norm")
        m.d.comb += [self._leave.eq(~(self._for_embed & ~ports.embed.ready | self._for_norm & ~ports.gain.ready)),
                     ports.embed.valid.eq(self.full & self._for_embed),
                     ports.gain.valid.eq(self.full & (self.held.kind == self._kinds.GAINS))]
        with m.If(self.move):
            m.d.sync += self.full.eq(1)
        with m.Elif(self._leave):
            m.d.sync += self.full.eq(0)

    def _part_shape(self):
        return range(max(self._params.row_granules, *self._vectors))

    def _hand_out(self):
        """The granule at the outputs."""
        m, ports, held, lanes = self._m, self._ports, self.held, self._lanes
        self._bits = held.words.as_value()
        m.d.comb += [ports.embed.p.codes.eq(Mux(held.upper, self._bits[8 * lanes:], self._bits[:8 * lanes])),
                     ports.gain.p.g.eq(held.words)]
        m.d.comb += [ports.embed.p[name].eq(held[name])
                     for name in ("entry", "part", "lo", "last", *(["position"] if self._learned else []))]
        m.d.comb += ports.gain.p.part.eq(held.part)
        if any(self._vectors):
            self._of_norm, self._of_half = (Signal(range(len(self._vectors)), name="of_norm"),
                                            Signal(range(self._params.halves), name="of_half"))
            m.d.comb += [ports.vector.valid.eq(self.full & (held.kind == self._kinds.VECTORS)),
                         ports.vector.p.x.eq(held.words), ports.vector.p.part.eq(held.part),
                         ports.vector.p.norm.eq(self._of_norm), ports.vector.p.half.eq(self._of_half)]

    def note_record(self, norm, half):
        """Of which record a granule of vectors is: of the one that is being received as it moves."""
        with self._m.If(self.move):
            self._m.d.sync += [self._of_norm.eq(norm), self._of_half.eq(half)]

    # -- what is kept of header and records

    def _keep_exponents(self):
        """Exponents of tables and records, and the model's identity, a cycle after their granule moved."""
        m, ports, held, lanes, headers = self._m, self._ports, self.held, self._lanes, self._headers
        words = [word[:EXP_BITS].as_signed() for word in held.words]
        of_tables = self._table_exponents()
        with m.If(self.full & (held.kind == self._kinds.RECORD) & ports.gain.ready):
            if headers == 1:
                m.d.sync += [ports.exps[i].eq(words[i % lanes]) for i in range(self._params.block.record_words)]
            else:
                for k in range(headers):
                    with m.If(held.upper == k):
                        m.d.sync += [ports.exps[lanes * k + i].eq(words[i]) for i in range(lanes)]
        identity = [ports.model_id[:16], ports.model_id[16:]]
        table_exponents = [exponent.eq(word) for exponent, word in zip(of_tables, words)]
        with m.If(self.full & (held.kind == self._kinds.HEADER)):
            if lanes > 2:           # all of it in one granule
                with m.If(held.upper == 0) if headers > 1 else contextlib.nullcontext():
                    m.d.sync += [*table_exponents, *(identity[i].eq(held.words[2 + i]) for i in range(2))]
            else:
                with m.If(~held.upper if headers == 2 else held.upper == 0):
                    m.d.sync += table_exponents
                with m.Else() if headers == 2 else m.If(held.upper == 1):
                    m.d.sync += [identity[i].eq(held.words[i]) for i in range(2)]

    def _table_exponents(self):
        """Registers of the tables' exponents, in the header's order. ``embed_exp`` is of the table that a granule is
        of, and of its row."""
        m, embed_exp, row_offsets = self._m, self._ports.embed_exp, self._params.row_offsets
        if not row_offsets and not self._learned:
            return [embed_exp]
        table_exp = Signal(signed(EXP_BITS), name="table_exp")
        if row_offsets:
            m.d.comb += embed_exp.eq(table_exp + self._row_offset)
        if not self._learned:
            return [table_exp]
        table_exp, position_exp = (Signal(signed(EXP_BITS), name=name) for name in ("table_exp", "position_exp"))
        of_table = Mux(self.held.position, position_exp, table_exp)
        m.d.comb += embed_exp.eq(of_table + self._row_offset if row_offsets else of_table)
        return [table_exp, position_exp]

    # -- which granule is next

    def _count(self):
        """Counters of granules, and the ends that follow from them."""
        params, row, lanes, headers = self._params, self._row, self._lanes, self._headers
        self._slices = (params.lanes // lanes).bit_length() - 1          # bits of a part that count within a beat
        self.part = Signal(self._part_shape(), name="part")
        self.in_beat = Signal(range(params.granules_per_beat), name="in_beat")
        self.beat_full = Signal(name="beat_full", init=params.granules_per_beat == 1)      # in_beat is the last
        self.upper, self.lo = Signal(range(max(2, headers)), name="upper"), Signal(name="lo")
        column, self.of_position = row.column, Const(1)
        if self._learned:
            self.of_position = Signal(name="of_position")
            column = Mux(self.of_position, row.position_column, row.column)
        self.unit = Cat(self.part[:self._slices], column)
        self.slice_end = self.part[:self._slices].all() if self._slices else Const(1)
        self.words_end = Const(1) if headers == 1 else self.upper if headers == 2 else self.upper == headers - 1
        self._next_upper = ~self.words_end if headers <= 2 else Mux(self.words_end, 0, self.upper + 1)
        self.part_end = self.part == params.row_granules - 1
        self.row_end = self.part_end & self.lo if params.pair else self.part_end
        self.entry_end = self.row_end & self.of_position if self._learned else self.row_end
        self.beat_end = Signal(name="beat_end")

    def count_words(self):
        """A granule of the header, or of a record's exponents, has moved."""
        self._m.d.sync += [self.held.upper.eq(self.upper), self.upper.eq(self._next_upper)]

    def count_slices(self):
        """Beats of hi and lo codes are in turn: lo codes begin where the hi codes of the beat before did."""
        m, part, slices = self._m, self.part, self._slices
        with m.If(self.slice_end):
            m.d.sync += self.lo.eq(~self.lo)
            with m.If(~self.lo):
                m.d.sync += part.eq(Cat(Const(0, slices), part[slices:]))

    def _take(self, begun, in_tiles):
        """Moves the next granule of the beat into the register, when that is free."""
        m, row, held, kinds = self._m, self._row, self.held, self._kinds
        beats, section = self._ports.beats, self._section
        # A beat that is wanted but not there counts as waited for, whatever its end will be.
        self.ready = (~self.full | self._leave) & (self.beat_end | ~beats.valid) & begun
        m.d.comb += self.move.eq(beats.valid & (~self.full | self._leave) & ~in_tiles)
        chosen = self._chosen()
        with m.If(self.move):
            m.d.sync += [self._for_embed.eq(section == kinds.EMBED),
                         self._for_norm.eq((section == kinds.RECORD) | (section == kinds.GAINS)),
                         held.kind.eq(section), held.words.eq(chosen), held.entry.eq(row.entry),
                         held.part.eq(self.part), held.lo.eq(self.lo), held.last.eq(row.last & self.entry_end),
                         *([held.position.eq(self.of_position)] if self._learned else [])]
            restart = self.beat_end | (section == kinds.EMBED)
            per_beat = self._params.granules_per_beat
            m.d.sync += [self.in_beat.eq(Mux(restart, 0, self.in_beat + 1)),
                         self.beat_full.eq(Mux(restart, per_beat == 1, self.in_beat == per_beat - 2))]

    def _chosen(self):
        """The granule of the beat that is next. Of a beat of offsets it is the one that has the row's, of which
        ``_row_offset`` is kept."""
        m, row, lanes, kinds = self._m, self._row, self._lanes, self._kinds
        index = Mux(self._section == kinds.EMBED, self.unit[1:], self.in_beat)
        if self._params.row_offsets:
            at = Mux(self.of_position, row.position_offset, row.offset) if self._learned else row.offset
            in_granule = (4 * lanes - 1).bit_length()
            index = Mux(self._section == kinds.OFFSETS, at[in_granule:], index)
            with m.If(self.full & (self.held.kind == kinds.OFFSETS)):
                m.d.sync += self._row_offset.eq(self._bits.word_select(at[:in_granule], OFFSET_BITS))
        beat, bits = self._ports.beats.payload, 8 * self._params.beat_bytes
        return _pick(m, [beat[start:start + 16 * lanes] for start in range(0, bits, 16 * lanes)], index)


def _pick(m, values, index):
    """``values[index]``: by AND and OR, which is two values to a 4-input LUT; trees of multiplexers take up to twice
    that."""
    hot = Signal(len(values), name="hot")
    m.d.comb += hot.eq(1 << index[:(len(values) - 1).bit_length()])
    return reduce(or_, (Mux(hot[i], value, 0) for i, value in enumerate(values)))
