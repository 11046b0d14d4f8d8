"""The sequencer of two half-batches that alternate: one on the array, the other in the engines beside it."""
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.pick import pick
from ..lib.pieces import Pieces
from ..lib.steps import matrices, phase_shape
from ..params.block import Norm, Project
from ..params.phases import member, turn
from ..params.stream import FINAL_NORM, HEAD
from .sequencer import sequencer_ports, sums_biased, take_entries

__all__ = ["AlternatingSequencer"]


def _of(half, pair):
    """The one of two that is a half-batch's."""
    return Mux(half, pair[1], pair[0])


def _is(kind, *kinds):
    """Whether a piece's kind is one of some."""
    return kind.as_value().matches(*(k.value for k in kinds))


@dataclass
class _Halves:
    """The entries of a pass by half-batch: lists of two."""
    rows: int           # entries that a half-batch may have
    counts: list        # how many it has ...
    wanted: list        # ... how many of them want output ...
    want_rows: list     # ... and which, as a list

    def entry_of(self, half, index):
        """The entry of the pass that is number ``index`` of a half-batch."""
        return index + Mux(half, self.rows, 0)

    def want_row(self, half, index):
        """The entry, within its half-batch, that is number ``index`` of those that want output."""
        return _of(half, [pick(rows, index) for rows in self.want_rows])


@dataclass
class _Walk:
    """What the walk through the pieces tells the rest of the sequencer."""
    idle: Signal        # there is no pass
    finish: Signal      # the pass ends
    running: Signal     # the piece is a matrix ...
    done: Signal        # ... whose engine's `done` this is
    set_off: Signal     # a record's norm is asked for
    start: Signal       # KV write and attention begin


@dataclass
class _Norms:
    """The norms of the half-batches. Lists of two say of each half-batch's norm that is under way or to come, or else
    of its latest one:"""
    pending: list       # it has not ended
    final: list         # it is the final norm
    normed: list        # it has ended, and no matrix has read it yet
    exps: list          # the exponents of its record, when it has ended
    of_sums: list       # where sums are normed: it is one of sums ...
    layers: list        # ... its layer ...
    closes: list        # ... and whether it is the layer's last step
    free: Value = 1             # none is pending of the piece's half; without norms of sums never when a record comes
    all_end: Value = None       # where sums are normed: the one that ends is the last one pending


class AlternatingSequencer(wiring.Component):
    """Takes the entries of a pass and drives every engine through it, two half-batches in turn.

    The first T / 2 entries are half-batch 0, the others 1. The sequencer walks through the pieces of the weight stream
    (`hwgen.lib.pieces`). A matrix takes the array from the cycle in which its input is there to its engine's `done`;
    the next piece follows in the cycle after that. A record takes one cycle and sets off its norm, which then runs
    beside the array, as KV write and attention do after a QKV matrix. `golden.alternating` has the cycles.

    Entries of one slot must come in the order of their positions: those of half-batch 0 do not see the keys of 1.

    Members
    -------
    As `Sequencer`, but for: commands name entries within their half-batch (``dispatch`` and ``angle``: within the
    pass), and

    half, layer     Out         of the piece at the array
    norm_half       Out         of the norm
    norm_layer      Out         where sums are normed: its layer ...
    norm_sums       Out(1)      ... and whether it is one of sums
    norming, writing, attending     Out(1)      a norm is under way; a KV write; one of it and attention
    convert_idle    In(1)       all results of the QKV matrix have been taken, padding included
    exps            Out         exponents of the matrices of ``half``
    keys            Out         of ``half``'s head rows
    """

    def __init__(self, design):
        self._design = design
        self._rows = design.hw.entries // 2
        super().__init__({
            **sequencer_ports(design),
            "half": Out(1), "norm_half": Out(1), "norming": Out(1), "writing": Out(1), "attending": Out(1),
            "convert_idle": In(1),
            **({"norm_layer": Out(range(design.layers)), "norm_sums": Out(1)} if design.block.post_norms else {}),
        })

    def elaborate(self, platform):
        m = Module()
        walk = _Walk(idle=Signal(name="idle"), finish=Signal(name="finish"), running=Signal(name="running"),
                     done=Signal(name="done"), set_off=Signal(name="set_off"), start=Signal(name="start"))
        entry_at, collected, closed = take_entries(m, self, self._design, walk.idle, walk.finish)
        halves = self._count(m, collected)
        heads = Cat(w != 0 for w in halves.wanted)      # whether a half-batch has an LM head
        m.d.comb += self.dispatch.p.head.eq(heads)

        m.submodules.pieces = pieces = Pieces(block=self._design.block, layers=self._design.layers)
        half = pieces.half
        m.d.comb += [pieces.both.eq(halves.counts[1] != 0), pieces.head.eq(heads), pieces.restart.eq(walk.finish),
                     self.half.eq(half)]
        norms = self._norm(m, pieces, halves, walk.set_off)
        attended = self._attention(m, pieces, halves, entry_at, walk.start)
        end = self._array(m, pieces, halves, norms.normed, attended, walk)
        nothing = heads == 0
        finishing = self._go_through(m, pieces, halves, norms, walk, closed, end, nothing)
        self._answer(m, half, halves, heads, finishing, nothing)
        if self._design.hw.sampler == "gumbel":
            for i in range(self._rows):
                row = _of(half, [rows[i] for rows in halves.want_rows])
                m.d.comb += self.keys[i].eq(entry_at(halves.entry_of(half, row)).key)
        return m

    def _count(self, m, collected):
        """How many entries each half-batch has and wants output of. Returns `_Halves`."""
        rows, n = self._rows, range(self._rows + 1)
        counts, wanted = ([Signal(n, name=f"{name}{half}") for half in (0, 1)] for name in ("count", "wanted"))
        want_rows = [[Signal(range(rows), name=f"want_row{half}_{i}") for i in range(rows)] for half in (0, 1)]
        entered = ~self.command.payload.none
        wants = self.command.payload.want & entered
        for half in (0, 1):
            with m.If(self.command.ready & ((collected >= rows) == half)):
                for i in range(rows):       # counts when ``wanted`` moves on, as in `take_entries`
                    with m.If(wanted[half] == i):
                        m.d.sync += want_rows[half][i].eq(collected - half * rows)
                with m.If(self.command.valid):
                    m.d.sync += [counts[half].eq(counts[half] + entered), wanted[half].eq(wanted[half] + wants)]
        return _Halves(rows, counts, wanted, want_rows)

    # -- norms

    def _norm(self, m, pieces, halves, set_off):
        """The norm that ``set_off`` asks for, of the piece's half-batch: at once, or after the one that is under way.

        There is never more than one to come: a half-batch's next record is behind a matrix that waits for its norm.
        Returns `_Norms`.
        """
        rows, block, here = self._rows, self._design.block, self.norm_half
        norms = self._norm_registers()
        index = Signal(range(rows + 1), name="norm_index")
        left = Signal(range(rows + 1), name="norm_left")        # rows that have ended
        last, count = Signal(name="norm_last"), Signal(range(rows + 1), name="norm_count")
        is_final = _of(here, norms.final)
        ends = self.norm_done & (left + 1 == count)
        if block.post_norms:
            ends = Mux(self.norm_sums, self.add_done, ends)
            self._add(m, norms, count, last)
        if any(norm.plain for norm in block.of(Norm)):          # then all of those before matrices are
            m.d.comb += self.norm.p.plain.eq(~is_final & ~self.norm_sums)
        if block.final_bias:
            m.d.comb += self.norm.p.final.eq(is_final)
        m.d.comb += [self.norming.eq(norms.pending[0] | norms.pending[1]),
                     count.eq(Mux(is_final, _of(here, halves.wanted), _of(here, halves.counts))),
                     self.norm.valid.eq(self.norming & (index != count)), self.norm.p.row.eq(index),
                     self.norm.p.last.eq(index + 1 == count),
                     self.norm.p.entry.eq(Mux(is_final, halves.want_row(here, index), index)), last.eq(ends),
                     self.exps.eq(_of(pieces.half, [exps.as_value() for exps in norms.exps]))]
        with m.If(self.norm.valid & self.norm.ready):
            m.d.sync += index.eq(index + 1)
        with m.If(self.norm_done):
            m.d.sync += left.eq(left + 1)
        with m.If(last):
            m.d.sync += [index.eq(0), left.eq(0)]
        self._take_turns(m, pieces, norms, set_off, last)
        if block.post_norms:
            norms.free = ~_of(pieces.half, norms.pending)
            norms.all_end = last & ~_of(here, norms.pending[::-1])
        return norms

    def _norm_registers(self):
        def pair(name, shape=1):
            return [Signal(shape, name=f"{name}{half}") for half in (0, 1)]

        return _Norms(pending=pair("norm_pending"), final=pair("norm_final"), normed=pair("normed"),
                      exps=pair("exps", self.exps.shape()), of_sums=pair("norm_sums"),
                      layers=pair("norm_layer", self.layer.shape()), closes=pair("norm_closes"))

    def _add(self, m, norms, count, last):
        """A norm of sums: its results are added to the residual."""
        here, given = self.norm_half, Signal(name="given_add")
        m.d.comb += [self.norm_sums.eq(self.norming & _of(here, norms.of_sums)),
                     self.norm_layer.eq(_of(here, norms.layers)), self.add.valid.eq(self.norm_sums & ~given),
                     self.add.p.n.eq(count), self.add.p.final.eq(_of(here, norms.closes))]
        with m.If(self.add.valid & self.add.ready):
            m.d.sync += given.eq(1)
        with m.If(last):
            m.d.sync += given.eq(0)

    def _take_turns(self, m, pieces, norms, set_off, last):
        """Which half-batch has the norm unit: that of the norm under way until its ``last``, then the other one if it
        waits."""
        here, posts = self.norm_half, self._design.block.post_norms
        late = [pieces.kinds[norm] for norm in self._design.block.of(Norm) if norm.reads == "sums"]
        for half in (0, 1):
            other = 1 - half
            with m.If(last & (here == half)):
                m.d.sync += norms.pending[half].eq(0)
                with m.If(~self.norm_sums) if posts else nullcontext():
                    m.d.sync += [norms.normed[half].eq(1), norms.exps[half].eq(self.exps_in)]
                with m.If(norms.pending[other]):
                    m.d.sync += here.eq(other)
            with m.If(set_off & (pieces.half == half)):
                m.d.sync += [norms.pending[half].eq(1), norms.final[half].eq(pieces.final)]
                if posts:
                    m.d.sync += [norms.of_sums[half].eq(reduce(or_, (pieces.kind == kind for kind in late))),
                                 norms.layers[half].eq(pieces.layer), norms.closes[half].eq(pieces.kind == late[-1])]
                with m.If(~norms.pending[other] | last):
                    m.d.sync += here.eq(half)

    # -- attention

    def _attention(self, m, pieces, halves, entry_at, start):
        """KV write and attention of the half-batch whose QKV matrix ends with ``start``.

        Returns the register that says that attention has ended, which the matrix that reads it clears.
        """
        rows = self._rows
        reading, attended = Signal(name="attention_reading"), Signal(name="attended")
        half, layer = Signal(name="attention_half"), Signal.like(self.layer, name="attention_layer")
        index, count = Signal(range(rows + 1), name="attention_index"), Signal(range(rows + 1), name="attention_count")
        entry = entry_at(halves.entry_of(half, index))
        m.d.comb += [count.eq(_of(half, halves.counts)), self.attending.eq(self.writing | reading)]
        for out, active in ((self.kv_write, self.writing), (self.attend, reading)):
            m.d.comb += [out.valid.eq(active & (index != count)), out.p.entry.eq(index),
                         out.p.last.eq(index + 1 == count), out.p.slot.eq(entry.slot),
                         out.p.position.eq(entry.position), out.p.layer.eq(layer)]
            with m.If(out.valid & out.ready):
                m.d.sync += index.eq(index + 1)
        with m.If(start):
            m.d.sync += [self.writing.eq(1), half.eq(pieces.half), layer.eq(pieces.layer)]
        with m.If(self.kv_write_done):
            m.d.sync += [self.writing.eq(0), reading.eq(1), index.eq(0)]
        with m.If(self.attend_done):
            m.d.sync += [reading.eq(0), attended.eq(1), index.eq(0)]
        return attended

    # -- the array

    def _array(self, m, pieces, halves, normed, attended, walk):
        """The matrix at the array: it begins when its input is there. Returns the signal that it ends, in a cycle of
        its own."""
        block, kind, kinds = self._design.block, pieces.kind, pieces.kinds
        head = kinds[HEAD]
        go, end, seen = Signal(name="go"), Signal(name="end"), Signal(name="seen")
        # the first matrix behind a norm waits for it; others of a parallel block read what that has read
        firsts = (block.projects(norm.name)[0] for norm in block.of(Norm) if norm.writes == "normed")
        of_norm = _is(kind, *(kinds[step] for step in firsts), head)
        ready = Mux(of_norm, _of(pieces.half, normed), Mux(kind == kinds[block.from_heads], attended, 1))
        if block.post_norms:        # the LM head also waits for the other half's: behind it the pass is over
            ready &= ~(_is(kind, head) & self.norming)
        m.d.sync += go.eq(walk.running & ready & ~end)      # a register: commands of all engines hang on it
        registers = self._command(m, pieces, halves, go)

        m.d.comb += end.eq(go & (walk.done | seen) & (self.convert_idle | (kind != kinds[block.into_heads])))
        m.d.sync += seen.eq((seen | walk.done) & ~end)
        with m.If(end):
            m.d.sync += [register.eq(0) for register in registers]
            with m.If(of_norm):
                for half in (0, 1):
                    with m.If(pieces.half == half):
                        m.d.sync += normed[half].eq(0)
            with m.If(kind == kinds[block.from_heads]):
                m.d.sync += attended.eq(0)
        return end

    def _command(self, m, pieces, halves, go):
        """The commands of a matrix, once each while it is to ``go``: to the feeder, and to what takes its results.
        Returns the registers that must be 0 before the next one."""
        design, block, kind, kinds = self._design, self._design.block, pieces.kind, pieces.kinds
        head, posts = kinds[HEAD], block.post_norms
        given_feed, given_sink = (Signal(name=f"given_{name}") for name in ("feed", "sink"))
        waited = Signal(range(design.head_delay + 1))
        held = (kind == head) & (waited != design.head_delay)
        count = Signal(range(self._rows + 1))
        m.d.comb += [count.eq(Mux(kind == head, _of(pieces.half, halves.wanted), _of(pieces.half, halves.counts))),
                     self.feed.valid.eq(go & ~given_feed & ~held), self.feed.p.n.eq(count)]
        m.d.sync += waited.eq(Mux(go & held, waited + 1, waited))
        with m.If(self.feed.valid & self.feed.ready):
            m.d.sync += given_feed.eq(1)
        sums = self.sum if posts else self.add
        for sink, steps in ((self.convert, block.converted), (sums, block.added), (self.sample, (HEAD,))):
            m.d.comb += [sink.valid.eq(go & ~given_sink & _is(kind, *(kinds[step] for step in steps))),
                         sink.p.n.eq(count)]
            with m.If(sink.valid & sink.ready):
                m.d.sync += given_sink.eq(1)
        m.d.comb += self.convert.p[block.into_ff.name].eq(kind == kinds[block.into_ff])
        if not posts:
            m.d.comb += self.add.p.final.eq(kind == kinds[block.from_ff])
        elif sums_biased(block):
            m.d.comb += self.sum.p[block.from_ff.name].eq(kind == kinds[block.from_ff])
        return given_feed, given_sink, waited

    # -- the pass

    def _go_through(self, m, pieces, halves, norms, walk, closed, end, nothing):
        """The states of a pass: from the embedding through the pieces to its end. Returns that it is in the last
        one."""
        design, posts, PhaseShape = self._design, self._design.block.post_norms, phase_shape(self._design.block)
        embedded, angled = Signal(name="embedded"), Signal()
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += [walk.idle.eq(1), self.phase.eq(PhaseShape.IDLE)]
                with m.If(closed):
                    m.next = "EMBED"
            with m.State("EMBED"):
                m.d.comb += self.phase.eq(PhaseShape.EMBED)
                m.d.sync += [embedded.eq(embedded | self.embed_done), angled.eq(angled | self.angle_done)]
                with m.If((embedded | self.embed_done) & (angled | self.angle_done)):
                    m.next = "PIECES"
            with m.State("PIECES"):
                self._piece(m, pieces, walk, norms.free, end)
                m.d.comb += pieces.step.eq(walk.set_off | end)
                with m.If(end & pieces.last):
                    m.next = "FINISH"
                if posts:       # where nobody wants output the last piece is a norm
                    with m.If(walk.set_off & pieces.last):
                        m.next = "LAST_NORM"
            if posts:
                with m.State("LAST_NORM"):
                    m.d.comb += [self.phase.eq(member(PhaseShape, design.block.steps[-1])),
                                 self.layer.eq(design.layers - 1)]
                    with m.If(norms.all_end):
                        m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += self.phase.eq(PhaseShape.FINISH)
                # a pass without output still answers, so that its host knows that it is over
                with m.If(~nothing | self.outcome.ready):
                    m.d.comb += walk.finish.eq(1)
                    m.d.sync += [embedded.eq(0), angled.eq(0), *(s.eq(0) for s in (*halves.counts, *halves.wanted))]
                    m.next = "IDLE"
        return fsm.ongoing("FINISH")

    def _piece(self, m, pieces, walk, free, end):
        """What a piece is: a record, which sets off its norm when its half-batch is ``free``, or a matrix with its
        engine's `done`."""
        block, kind, kinds = self._design.block, pieces.kind, pieces.kinds
        head, PhaseShape, Matrix = kinds[HEAD], phase_shape(block), matrices(block)
        done = {"heads": self.qkv_done, "activation": self.swiglu_done}
        sums_done = self.sum_done if block.post_norms else self.add_done

        def matrix(step, finished):
            m.d.comb += [self.phase.eq(member(PhaseShape, step)), self.feed.p.matrix.eq(member(Matrix, step)),
                         walk.running.eq(1), walk.done.eq(finished)]

        with m.If(~pieces.final & (kind != head)):
            m.d.comb += self.layer.eq(pieces.layer)
        with m.Switch(kind):
            for norm in block.of(Norm):
                with m.Case(kinds[norm]):
                    phase = member(PhaseShape, norm)
                    if norm == turn(block).opening:
                        phase = Mux(pieces.final, member(PhaseShape, FINAL_NORM), phase)
                    m.d.comb += [self.phase.eq(phase), walk.set_off.eq(free)]
            for step in block.of(Project):
                with m.Case(kinds[step]):
                    matrix(step, done.get(step.sink, sums_done))
                    if step == block.into_heads:
                        m.d.comb += walk.start.eq(end)
            with m.Case(head):
                matrix(HEAD, self.sample_done)

    def _answer(self, m, half, halves, heads, finishing, nothing):
        """The sampler's results as outcomes of the pass, or the one of a pass without output."""
        m.d.comb += self.sampled.ready.eq(self.outcome.ready)      # whatever the phase: in the last one there is none
        with m.If(finishing):
            m.d.comb += [self.outcome.valid.eq(nothing), self.outcome.p.none.eq(1), self.outcome.p.last.eq(1)]
        with m.Else():
            m.d.comb += self.outcome.valid.eq(self.sampled.valid)
            row = self.sampled.p.row
            m.d.comb += [self.outcome.p.entry.eq(halves.entry_of(half, halves.want_row(half, row))),
                         self.outcome.p.token.eq(self.sampled.p.token),
                         self.outcome.p.last.eq((row + 1 == _of(half, halves.wanted)) & (half | ~heads[1]))]
