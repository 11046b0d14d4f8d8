"""The sequencer of two half-batches that alternate: one on the array, the other in the engines beside it."""
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.pieces import Pieces
from ..lib.steps import matrices, phase_shape
from ..params.block import Norm, Project
from ..params.phases import member, turn
from ..params.stream import FINAL_NORM, HEAD
from .sequencer import pick, sequencer_ports, sums_biased, take_entries

__all__ = ["AlternatingSequencer"]


class AlternatingSequencer(wiring.Component):
    """Takes the entries of a pass and drives every engine through it, two half-batches in turn.

    The first T / 2 entries are half-batch 0, the others 1. The sequencer walks through the pieces of the weight stream
    (`hwgen.lib.pieces`). A matrix takes the array from the cycle in which its input is there to its engine's `done`; the next piece follows
    in the cycle after that. A record takes one cycle and sets off its norm, which then runs beside the array, as KV write and attention
    do after a QKV matrix. `golden.alternating` has the cycles.

    Entries of one slot must come in the order of their positions: those of half-batch 0 do not see the keys of 1.

    Members
    -------
    As `Sequencer`, but for: commands name entries within their half-batch (``dispatch`` and ``angle``: within the pass), and

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
            "half": Out(1), "norm_half": Out(1), "norming": Out(1), "writing": Out(1), "attending": Out(1), "convert_idle": In(1),
            **({"norm_layer": Out(range(design.layers)), "norm_sums": Out(1)} if design.block.post_norms else {}),
        })

    def elaborate(self, platform):
        m = Module()
        design, rows, n = self._design, self._rows, range(self._rows + 1)
        block, Matrix, PhaseShape = design.block, matrices(design.block), phase_shape(design.block)
        posts = block.post_norms

        # The entries of the pass, and how many each half-batch has and wants output of
        idle, finish = Signal(name="idle"), Signal()
        entry_at, collected, closed = take_entries(m, self, design, idle, finish)
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
        heads = Cat(w != 0 for w in wanted)
        m.d.comb += self.dispatch.p.head.eq(heads)

        def of(half, pair):
            return Mux(half, pair[1], pair[0])

        def entry_of(half, index):
            """The entry of the pass that is number ``index`` of a half-batch."""
            return index + Mux(half, rows, 0)

        def want_row(half, index):
            return of(half, [pick(row, index) for row in want_rows])

        m.submodules.pieces = pieces = Pieces(design)
        kind, half = pieces.kind, pieces.half
        m.d.comb += [pieces.both.eq(counts[1] != 0), pieces.head.eq(heads), pieces.restart.eq(finish), self.half.eq(half)]

        kinds, head = pieces.kinds, pieces.kinds[HEAD]

        def kind_is(*kinds):
            return kind.as_value().matches(*(k.value for k in kinds))

        # What each half-batch has ready: its norm's rows, its attention's
        normed = [Signal(name=f"normed{h}") for h in (0, 1)]
        attended, set_off, start = Signal(name="attended"), Signal(name="set_off"), Signal()
        # ``free``: of the piece's half no norm is under way or to come. Without norms of sums there never is when a record comes
        # ``normed_all``: the last norm ends
        free, normed_all = self._norm(m, pieces, normed, counts, wanted, want_row, set_off)
        self._attention(m, pieces, attended, counts, lambda half, i: entry_at(entry_of(half, i)), start)

        # The array: its piece's commands, and the end of it
        go, done, end, seen = Signal(name="go"), Signal(name="done"), Signal(name="end"), Signal(name="seen")
        # the first matrix behind a norm waits for it; others of a parallel block read what that has read
        of_norm = kind_is(*(kinds[block.projects(norm.name)[0]] for norm in block.of(Norm) if norm.writes == "normed"), head)
        running = Signal()
        ready = Mux(of_norm, of(half, normed), Mux(kind == kinds[block.from_heads], attended, 1))
        if posts:       # the LM head also waits for the other half's: behind it the pass is over
            ready &= ~(kind_is(head) & self.norming)
        m.d.sync += go.eq(running & ready & ~end)       # a register: commands of all engines hang on it
        given = {name: Signal(name=f"given_{name}") for name in ("feed", "sink")}
        waited = Signal(range(design.head_delay + 1))
        held = (kind == head) & (waited != design.head_delay)
        count = Signal(n)
        m.d.comb += [count.eq(Mux(kind == head, of(half, wanted), of(half, counts))),
                     self.feed.valid.eq(go & ~given["feed"] & ~held), self.feed.p.n.eq(count)]
        m.d.sync += waited.eq(Mux(go & held, waited + 1, waited))
        with m.If(self.feed.valid & self.feed.ready):
            m.d.sync += given["feed"].eq(1)
        sums = self.sum if posts else self.add
        sinks = ((self.convert, block.converted), (sums, block.added), (self.sample, (HEAD,)))
        for sink, of_sink in sinks:
            m.d.comb += [sink.valid.eq(go & ~given["sink"] & kind_is(*(kinds[step] for step in of_sink))), sink.p.n.eq(count)]
            with m.If(sink.valid & sink.ready):
                m.d.sync += given["sink"].eq(1)
        m.d.comb += self.convert.p[block.into_ff.name].eq(kind == kinds[block.into_ff])
        if not posts:
            m.d.comb += self.add.p.final.eq(kind == kinds[block.from_ff])
        elif sums_biased(block):
            m.d.comb += self.sum.p[block.from_ff.name].eq(kind == kinds[block.from_ff])

        m.d.comb += end.eq(go & (done | seen) & (self.convert_idle | (kind != kinds[block.into_heads])))
        m.d.sync += seen.eq((seen | done) & ~end)
        with m.If(end):
            m.d.sync += [*(g.eq(0) for g in given.values()), waited.eq(0)]
            with m.If(of_norm):
                for h in (0, 1):
                    with m.If(half == h):
                        m.d.sync += normed[h].eq(0)
            with m.If(kind == kinds[block.from_heads]):
                m.d.sync += attended.eq(0)

        sums_done = self.sum_done if posts else self.add_done

        def matrix(step, finished):
            m.d.comb += [self.phase.eq(member(PhaseShape, step)), self.feed.p.matrix.eq(member(Matrix, step)), running.eq(1),
                         done.eq(finished)]

        # -- the pass
        embedded, angled = Signal(name="embedded"), Signal()
        nothing = heads == 0
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += [idle.eq(1), self.phase.eq(PhaseShape.IDLE)]
                with m.If(closed):
                    m.next = "EMBED"
            with m.State("EMBED"):
                m.d.comb += self.phase.eq(PhaseShape.EMBED)
                m.d.sync += [embedded.eq(embedded | self.embed_done), angled.eq(angled | self.angle_done)]
                with m.If((embedded | self.embed_done) & (angled | self.angle_done)):
                    m.next = "PIECES"
            with m.State("PIECES"):
                with m.If(~pieces.final & (kind != head)):
                    m.d.comb += self.layer.eq(pieces.layer)
                with m.Switch(kind):
                    for norm in block.of(Norm):
                        with m.Case(kinds[norm]):
                            phase = member(PhaseShape, norm)
                            if norm == turn(block).opening:
                                phase = Mux(pieces.final, member(PhaseShape, FINAL_NORM), phase)
                            m.d.comb += [self.phase.eq(phase), set_off.eq(free)]
                    for step in block.of(Project):
                        with m.Case(kinds[step]):
                            matrix(step, {"heads": self.qkv_done, "activation": self.swiglu_done}.get(step.sink, sums_done))
                            if step == block.into_heads:
                                m.d.comb += start.eq(end)
                    with m.Case(head):
                        matrix(HEAD, self.sample_done)
                m.d.comb += pieces.step.eq(set_off | end)
                with m.If(end & pieces.last):
                    m.next = "FINISH"
                if posts:       # where nobody wants output the last piece is a norm
                    with m.If(set_off & pieces.last):
                        m.next = "LAST_NORM"
            if posts:
                with m.State("LAST_NORM"):
                    m.d.comb += [self.phase.eq(member(PhaseShape, block.steps[-1])), self.layer.eq(design.layers - 1)]
                    with m.If(normed_all):
                        m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += self.phase.eq(PhaseShape.FINISH)
                # a pass without output still answers, so that its host knows that it is over
                with m.If(~nothing | self.outcome.ready):
                    m.d.comb += finish.eq(1)
                    m.d.sync += [embedded.eq(0), angled.eq(0), *(s.eq(0) for s in (*counts, *wanted))]
                    m.next = "IDLE"

        m.d.comb += self.sampled.ready.eq(self.outcome.ready)      # whatever the phase: in the last one there is none
        with m.If(fsm.ongoing("FINISH")):
            m.d.comb += [self.outcome.valid.eq(nothing), self.outcome.p.none.eq(1), self.outcome.p.last.eq(1)]
        with m.Else():
            m.d.comb += self.outcome.valid.eq(self.sampled.valid)
            m.d.comb += [self.outcome.p.entry.eq(entry_of(half, want_row(half, self.sampled.p.row))),
                         self.outcome.p.token.eq(self.sampled.p.token),
                         self.outcome.p.last.eq((self.sampled.p.row + 1 == of(half, wanted)) & (half | ~heads[1]))]
        if design.hw.sampler == "gumbel":
            m.d.comb += [self.keys[i].eq(entry_at(entry_of(half, of(half, [row[i] for row in want_rows]))).key) for i in range(rows)]
        return m

    def _norm(self, m, pieces, normed, counts, wanted, want_row, set_off):
        """The norm that ``set_off`` asks for, of the piece's half-batch: at once, or after the one that is under way.

        There is never more than one to come: a half-batch's next record is behind a matrix that waits for its norm.
        """
        rows, block = self._rows, self._design.block
        posts = block.post_norms
        index, left = Signal(range(rows + 1), name="norm_index"), Signal(range(rows + 1), name="norm_left")     # left: rows that have ended
        pending, final = ([Signal(name=f"{name}{half}") for half in (0, 1)] for name in ("norm_pending", "norm_final"))
        exps = [Signal(self.exps.shape(), name=f"exps{half}") for half in (0, 1)]
        here, last, count = self.norm_half, Signal(name="norm_last"), Signal(range(rows + 1), name="norm_count")
        is_final = Mux(here, final[1], final[0])
        ends = self.norm_done & (left + 1 == count)
        if posts:
            of_sums, layers = ([Signal(shape, name=f"norm_{name}{half}") for half in (0, 1)] for name, shape in (
                ("sums", 1), ("layer", self.norm_layer.shape())))
            closes = [Signal(name=f"norm_closes{half}") for half in (0, 1)]             # the layer
            late = [pieces.kinds[norm] for norm in block.of(Norm) if norm.reads == "sums"]
            is_sums, given = self.norm_sums, Signal(name="given_add")
            ends = Mux(is_sums, self.add_done, ends)
            m.d.comb += [is_sums.eq(self.norming & Mux(here, of_sums[1], of_sums[0])), self.norm_layer.eq(Mux(here, layers[1], layers[0])),
                         self.add.valid.eq(is_sums & ~given), self.add.p.n.eq(count), self.add.p.final.eq(Mux(here, closes[1], closes[0]))]
            with m.If(self.add.valid & self.add.ready):
                m.d.sync += given.eq(1)
            with m.If(last):
                m.d.sync += given.eq(0)
        if any(norm.plain for norm in block.of(Norm)):          # then all of those before matrices are
            m.d.comb += self.norm.p.plain.eq(~is_final & ~is_sums)
        if block.final_bias:
            m.d.comb += self.norm.p.final.eq(is_final)
        m.d.comb += [self.norming.eq(pending[0] | pending[1]),
                     count.eq(Mux(is_final, Mux(here, wanted[1], wanted[0]), Mux(here, counts[1], counts[0]))),
                     self.norm.valid.eq(self.norming & (index != count)), self.norm.p.row.eq(index),
                     self.norm.p.last.eq(index + 1 == count),
                     self.norm.p.entry.eq(Mux(is_final, want_row(here, index), index)), last.eq(ends),
                     self.exps.eq(Mux(pieces.half, exps[1].as_value(), exps[0].as_value()))]
        with m.If(self.norm.valid & self.norm.ready):
            m.d.sync += index.eq(index + 1)
        with m.If(self.norm_done):
            m.d.sync += left.eq(left + 1)
        with m.If(last):
            m.d.sync += [index.eq(0), left.eq(0)]
        for half in (0, 1):
            with m.If(last & (here == half)):
                if posts:
                    m.d.sync += pending[half].eq(0)
                    with m.If(~is_sums):
                        m.d.sync += [normed[half].eq(1), exps[half].eq(self.exps_in)]
                else:
                    m.d.sync += [pending[half].eq(0), normed[half].eq(1), exps[half].eq(self.exps_in)]
                with m.If(pending[1 - half]):
                    m.d.sync += here.eq(1 - half)
            with m.If(set_off & (pieces.half == half)):
                m.d.sync += [pending[half].eq(1), final[half].eq(pieces.final)]
                if posts:
                    m.d.sync += [of_sums[half].eq(reduce(or_, (pieces.kind == kind for kind in late))), layers[half].eq(pieces.layer),
                                 closes[half].eq(pieces.kind == late[-1])]
                with m.If(~pending[1 - half] | last):
                    m.d.sync += here.eq(half)
        if not posts:
            return 1, None
        return ~Mux(pieces.half, pending[1], pending[0]), last & ~Mux(here, pending[0], pending[1])

    def _attention(self, m, pieces, attended, counts, entry_at, start):
        """KV write and attention of the half-batch whose QKV matrix ends with ``start``."""
        rows = self._rows
        reading = Signal(name="attention_reading")
        half, layer = Signal(name="attention_half"), Signal.like(self.layer, name="attention_layer")
        index, count = Signal(range(rows + 1), name="attention_index"), Signal(range(rows + 1), name="attention_count")
        entry = entry_at(half, index)
        m.d.comb += [count.eq(Mux(half, counts[1], counts[0])), self.attending.eq(self.writing | reading)]
        for out, active in ((self.kv_write, self.writing), (self.attend, reading)):
            m.d.comb += [out.valid.eq(active & (index != count)), out.p.entry.eq(index), out.p.last.eq(index + 1 == count),
                         out.p.slot.eq(entry.slot), out.p.position.eq(entry.position), out.p.layer.eq(layer)]
            with m.If(out.valid & out.ready):
                m.d.sync += index.eq(index + 1)
        with m.If(start):
            m.d.sync += [self.writing.eq(1), half.eq(pieces.half), layer.eq(pieces.layer)]
        with m.If(self.kv_write_done):
            m.d.sync += [self.writing.eq(0), reading.eq(1), index.eq(0)]
        with m.If(self.attend_done):
            m.d.sync += [reading.eq(0), attended.eq(1), index.eq(0)]
