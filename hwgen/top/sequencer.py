"""The sequencer: one pass over all layers, phase after phase."""
from collections.abc import Callable
from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.layouts import EXP_BITS, command_layout
from ..lib.pick import pick
from ..lib.steps import matrices, phase_shape
from ..params.block import Attend, Norm, Store
from ..params.phases import member
from ..params.stream import FINAL_NORM, HEAD
from ..units.admission import row_result_layout
from . import make

__all__ = ["Sequencer", "sequencer_ports", "take_entries"]


class _Entries(NamedTuple):
    """The entries of a pass."""
    at: Callable            # the entry of an index
    collected: Signal       # how many there are
    wanted: Signal          # how many of them want output ...
    want_rows: list         # ... and which


class Sequencer(wiring.Component):
    """Takes the entries of a pass and drives every engine through it.

    The phases of the block (`hwgen.params.phases.phases`) follow each other strictly; an engine's `done` in cycle d
    lets the next phase give its commands in cycle d + 1. A pass starts when its ``last`` has come, so its cycles do not
    depend on how its entries came. A new pass is accepted when the last result of the one before has been taken.

    Members
    -------
    command         In(stream)     entries of a pass, at least one and at most T; ``last`` comes with the final one, or
                                   after it with ``none``
    outcome         Out(stream)    one result per entry that wanted output, in order of the entries
    phase, layer    Out            where the machine is; for waveforms, traces and routing
    dispatch, angle, norm, kv_write, attend, feed, convert, add, sample    Out(streams)    commands of the engines
    sum             Out(stream)    where sums are normed: of what takes them; ``add`` then is of the norm's results
    sampled         In(stream)     {row, token} of the sampler, row counting only entries that wanted output
    *_done          In(1)          one cycle each, at or before which the engine's output is readable
    exps, exps_in   Out, In        exponents of the current phases' matrices, copied from the dispatcher when a norm
                                   ends
    keys            Out            only with sampler "gumbel": key of each head row, for its noise
    """

    def __init__(self, design):
        self._design = design
        super().__init__(sequencer_ports(design))

    def elaborate(self, platform):
        m = Module()
        idle, finish = self.phase == phase_shape(self._design.block).IDLE, Signal()
        entries = self._entries(m, idle, finish)
        self._phases(m, entries, finish)
        self._answer(m, entries)
        return m

    def _entries(self, m, idle, finish):
        """The entries of the pass, and those of which output is wanted. Returns `_Entries`."""
        design, count = self._design, self._design.hw.entries
        entry_at, collected, closed = take_entries(m, self, design, idle, finish)
        wanted = Signal(range(count + 1))
        want_rows = [Signal(range(count), name=f"want_row{i}") for i in range(count)]
        for i in range(count):              # counts when ``wanted`` moves on, as in `take_entries`
            with m.If(self.command.ready & (wanted == i)):
                m.d.sync += want_rows[i].eq(collected)
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += wanted.eq(wanted + (self.command.payload.want & ~self.command.payload.none))
        with m.If(idle & closed):
            m.d.sync += self.phase.eq(phase_shape(design.block).EMBED)
        m.d.comb += self.dispatch.p.head.eq(wanted != 0)
        if design.hw.sampler == "gumbel":
            m.d.comb += [self.keys[i].eq(entry_at(want_rows[i]).key) for i in range(count)]
        return _Entries(entry_at, collected, wanted, want_rows)

    def _phases(self, m, entries, finish):
        """One phase after the other, each of one engine."""
        design, block, PhaseShape = self._design, self._design.block, phase_shape(self._design.block)
        wanted = entries.wanted
        embedded, angled = Signal(name="embedded"), Signal()

        def go(phase):
            m.d.sync += self.phase.eq(phase)

        first, *_, last = (member(PhaseShape, step) for step in block.steps)
        final_norm, lm_head = member(PhaseShape, FINAL_NORM), member(PhaseShape, HEAD)
        with m.Switch(self.phase):
            with m.Case(PhaseShape.EMBED):
                m.d.sync += [embedded.eq(embedded | self.embed_done), angled.eq(angled | self.angle_done)]
                with m.If((embedded | self.embed_done) & (angled | self.angle_done)):
                    go(first)
            for step, follows in zip(block.steps, block.steps[1:]):
                with m.Case(member(PhaseShape, step)):
                    with m.If(self._step(m, step, entries)):
                        go(member(PhaseShape, follows))
            with m.Case(last):
                with m.If(self._step(m, block.steps[-1], entries)):
                    with m.If(self.layer == design.layers - 1):
                        m.d.sync += self.layer.eq(0)
                        go(Mux(wanted == 0, PhaseShape.FINISH, final_norm))
                    with m.Else():
                        m.d.sync += self.layer.eq(self.layer + 1)
                        go(first)
            with m.Case(final_norm):
                fields = {"final": 1} if block.final_bias else {}
                with m.If(self._norm(m, "normf", wanted, lambda i: pick(entries.want_rows, i), **fields)):
                    go(lm_head)
            with m.Case(lm_head):
                matrix = member(matrices(block), HEAD)
                with m.If(self._matmul(m, "head", matrix, wanted, self.sample, self.sample_done, design.head_delay)):
                    go(PhaseShape.FINISH)
            with m.Case(PhaseShape.FINISH):
                # a pass without output still answers, so that its host knows that it is over
                with m.If((wanted != 0) | self.outcome.ready):
                    m.d.comb += finish.eq(1)
                    m.d.sync += [wanted.eq(0), embedded.eq(0), angled.eq(0)]
                    go(PhaseShape.IDLE)

    def _answer(self, m, entries):
        """The sampler's results as outcomes of the pass, or the one of a pass without output."""
        wanted = entries.wanted
        m.d.comb += self.sampled.ready.eq(self.outcome.ready)      # whatever the phase: in the last one there is none
        with m.If(self.phase == phase_shape(self._design.block).FINISH):
            m.d.comb += [self.outcome.valid.eq(wanted == 0), self.outcome.p.none.eq(1), self.outcome.p.last.eq(1)]
        with m.Else():
            m.d.comb += self.outcome.valid.eq(self.sampled.valid)
            m.d.comb += [self.outcome.p.entry.eq(pick(entries.want_rows, self.sampled.p.row)),
                         self.outcome.p.token.eq(self.sampled.p.token),
                         self.outcome.p.last.eq(self.sampled.p.row + 1 == wanted)]

    # -- one engine, one phase: within it, these give the engine's commands, and return the condition that ends it

    def _step(self, m, step, entries):
        """A layer's step."""
        block, count, name = self._design.block, entries.collected, step.name
        if isinstance(step, Store):
            return self._each(m, "kv", self.kv_write, count, self.kv_write_done, lambda i: self._place(entries, i))
        if isinstance(step, Attend):
            return self._each(m, "attend", self.attend, count, self.attend_done, lambda i: self._place(entries, i))
        if isinstance(step, Norm) and step.writes == "residual":
            return self._post_norm(m, name.replace("_", ""), count, final=int(step is block.steps[-1]))
        if isinstance(step, Norm):
            fields = {"plain": int(step.plain)} if any(norm.plain for norm in block.of(Norm)) else {}
            return self._norm(m, name.replace("_", ""), count, lambda i: i, **fields)
        sink, done, fields = self._sink(step)
        return self._matmul(m, name, member(matrices(block), step), count, sink, done, **fields)

    def _sink(self, step):
        """(What takes a matrix's results, its `done`, {field of its command: value})."""
        block = self._design.block
        if step.sink == "sums":
            fields = {block.from_ff.name: int(step == block.from_ff)} if sums_biased(block) else {}
            return self.sum, self.sum_done, fields
        if step.sink == "residual":
            return self.add, self.add_done, {"final": int(step is block.steps[-1])}
        done = {"heads": self.qkv_done, "activation": self.swiglu_done}[step.sink]
        return self.convert, done, {block.into_ff.name: int(step.sink == "activation")}

    def _place(self, entries, index):
        """A command that says where the keys and values of an entry are."""
        entry = entries.at(index)
        return {"entry": index, "slot": entry.slot, "position": entry.position, "layer": self.layer}

    def _norm(self, m, name, count, entry_of, **fields):
        """Norm the rows of some entries; their exponents are there when the last one ends."""
        left = Signal(range(self._design.hw.entries + 1), name=f"left_{name}")     # commands that have ended
        last = self.norm_done & (left + 1 == count)
        with m.If(self.norm_done):
            m.d.sync += left.eq(Mux(last, 0, left + 1))
        with m.If(last):
            m.d.sync += self.exps.eq(self.exps_in)
        return self._each(m, name, self.norm, count, last, lambda i: {"entry": entry_of(i), "row": i, **fields})

    def _post_norm(self, m, name, count, **fields):
        """Norm the sums and add the results to the residual."""
        given = self._once(m, f"sink_{name}", self.add, n=count, **fields)
        with m.If(self.add_done):
            m.d.sync += given.eq(0)
        return self._each(m, name, self.norm, count, self.add_done, lambda i: {"entry": i, "row": i})

    def _matmul(self, m, name, matrix, count, sink, done, delay=0, **fields):
        """Feed a matrix to the array, ``delay`` cycles after the beginning of the phase, and its results to a sink."""
        given = (self._once(m, f"feed_{name}", self.feed, delay, matrix=matrix, n=count),
                 self._once(m, f"sink_{name}", sink, n=count, **fields))
        with m.If(done):
            m.d.sync += [g.eq(0) for g in given]
        return done

    def _each(self, m, name, out, count, done, fields):
        """Give a command for each of ``count`` entries: ``fields`` makes it from the entry's index."""
        index = Signal(range(self._design.hw.entries + 1), name=f"index_{name}")
        m.d.comb += [out.valid.eq(index != count), out.p.last.eq(index + 1 == count)]
        m.d.comb += [out.p[k].eq(v) for k, v in fields(index).items()]
        with m.If(out.valid & out.ready):
            m.d.sync += index.eq(index + 1)
        with m.If(done):
            m.d.sync += index.eq(0)
        return done

    def _once(self, m, name, out, delay=0, **fields):
        """Offer one command during the current phase, once, ``delay`` cycles after its beginning. Returns the register
        that says that it was taken, to be cleared when the phase ends."""
        given, waited = Signal(name=f"given_{name}"), Signal(range(delay + 1), name=f"waited_{name}")
        m.d.comb += out.valid.eq(~given & (waited == delay))
        m.d.sync += waited.eq(Mux(given, 0, Mux(waited == delay, delay, waited + 1)))
        m.d.comb += [out.p[k].eq(v) for k, v in fields.items()]
        with m.If(out.valid & out.ready):
            m.d.sync += given.eq(1)
        return given


def sums_biased(block):
    """Whether what takes sums for a norm has biases, and so must be told of which matrix they are."""
    return block.biased(*block.added)


def sequencer_ports(design):
    """Members of every sequencer; rows are those of a half-batch, or of the whole pass where none alternate."""
    rows = design.hw.entries // design.hw.halves
    entry, row, n = range(design.hw.entries), range(rows), range(rows + 1)
    position, layer, token = range(design.hw.context), range(design.layers), range(design.model.vocab_size)
    block, words = design.block, design.block.record_words
    place = {"entry": row, "slot": range(design.hw.slots), "position": position, "layer": layer}
    plain = {"plain": 1} if any(step.plain for step in block.of(Norm)) else {}
    biased = {block.from_ff.name: 1} if sums_biased(block) else {}

    def command(**fields):
        return Out(stream.Signature(data.StructLayout(fields)))

    return {
        "command": In(stream.Signature(command_layout(make.request_sizes(design)))),
        "outcome": Out(stream.Signature(row_result_layout(make.request_sizes(design)))),
        "phase": Out(phase_shape(block)), "layer": Out(layer),
        "dispatch": command(entry=entry, token=token, last=1, head=design.hw.halves,
                            **({"position": position} if design.model.learned_positions else {})),
        "angle": command(entry=entry, position=position, last=1),
        "norm": command(entry=row, row=row, last=1, **plain, **({"final": 1} if block.final_bias else {})),
        "kv_write": command(**place, last=1),
        "attend": command(**place, last=1),
        "feed": command(matrix=matrices(block), n=n),
        "convert": command(**{block.into_ff.name: 1}, n=n),
        "add": command(n=n, final=1),
        **({"sum": command(n=n, **biased)} if block.post_norms else {}),
        "sample": command(n=n),
        "sampled": In(stream.Signature(data.StructLayout({"row": row, "token": token}))),
        **{f"{name}_done": In(1) for name in ("embed", "angle", "norm", "qkv", "kv_write", "attend", "add",
                                              *(["sum"] if block.post_norms else []), "swiglu", "sample")},
        "exps_in": In(data.ArrayLayout(signed(EXP_BITS), words)),
        "exps": Out(data.ArrayLayout(signed(EXP_BITS), words)),
        **({"keys": Out(data.ArrayLayout(unsigned(32), rows))} if design.hw.sampler == "gumbel" else {}),
    }


def take_entries(m, seq, design, idle, finish):
    """Takes the entries of a pass in ``idle``, and when it is closed passes them on to dispatcher and angle engine,
    each at its own pace.

    Returns (the entry of an index, how many are known, whether those are all); ``finish`` forgets them.
    """
    entries = design.hw.entries
    layout = command_layout(make.request_sizes(design))
    table = [Signal(layout, name=f"entry{i}") for i in range(entries)]
    collected, closed = Signal(range(entries + 1), name="collected"), Signal()

    def entry_at(index):
        return data.View(layout, pick([t.as_value() for t in table], index))

    m.d.comb += seq.command.ready.eq(idle & ~closed)
    for i in range(entries):    # whether there is one comes late in the cycle; it counts when ``collected`` moves on
        with m.If(seq.command.ready & (collected == i)):
            m.d.sync += table[i].eq(seq.command.payload)
    with m.If(seq.command.valid & seq.command.ready):
        m.d.sync += [collected.eq(collected + ~seq.command.payload.none), closed.eq(seq.command.payload.last)]
    of_dispatch = ("token", "position") if design.model.learned_positions else ("token",)
    for out, fields in ((seq.dispatch, of_dispatch), (seq.angle, ("position",))):
        sent = Signal(range(entries + 1), name=f"sent_{fields[0]}")
        entry = entry_at(sent)
        m.d.comb += [out.valid.eq(closed & (sent != collected)), out.p.entry.eq(sent),
                     out.p.last.eq(sent + 1 == collected)]
        m.d.comb += [out.p[f].eq(entry[f]) for f in fields]
        with m.If(out.valid & out.ready):
            m.d.sync += sent.eq(sent + 1)
        with m.If(finish):
            m.d.sync += sent.eq(0)
    with m.If(finish):
        m.d.sync += [collected.eq(0), closed.eq(0)]
    return entry_at, collected, closed
