"""Admission: what the host asks for is checked before the machine acts on it, and what is wrong is answered."""
from dataclasses import dataclass

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ..lib.layouts import (
    ADMIT, ERROR_BITS, ask_layout, command_layout, kv_answer_layout, kv_command_layout, outcome_layout,
)
from ..lib.skid import Skid
from ..params.errors import ErrorCode, KvOp

__all__ = ["Admission", "row_result_layout"]


def row_result_layout(sizes):
    """A result of the sequencer, which counts only entries that were let in."""
    return data.StructLayout({name: field.shape for name, field in outcome_layout(sizes) if name != "error"})


@dataclass
class _Pass:
    """The pass that is being admitted."""
    closed: Signal      # its ``last`` has been accepted
    count: Signal       # entries so far
    rows: Signal        # of those, let in
    told: Signal        # that they are too many


@dataclass
class _Entry:
    """The entry that is looked at."""
    held: Signal        # `command_layout`
    holding: Signal     # there is one
    done: Signal        # this cycle lets it in or refuses it
    excess: Signal      # it is one more than the pass may have
    wrong: Signal       # by itself ...
    own_error: Signal   # ... with this error
    asking: Signal      # the KV memory is asked, or has answered ...
    answered: Signal    # ... in the cycle before ...
    error: Signal       # ... with this error
    admitted: Signal
    final: Signal       # it ends a pass of which nothing was let in


class Admission(wiring.Component):
    """Stands between the host and the sequencer: lets in the entries of a pass that are right, and refuses the others.

    An entry that is accepted in cycle s is refused in cycle s + 1 if it is wrong by itself. The others are let in or
    refused in cycle s + 2, or s + 3 where slots share blocks; later only where the KV memory must look at a block's
    owners (a cycle) or copy a block for it (`golden.admission`). One more entry is accepted meanwhile. It is refused
    with the first of: more entries than T, slot, token, position beyond the context, position not the slot's next, no
    block. What is wrong with one entry is nothing to those of other slots. A refusal is at ``outcome`` from the next
    cycle on, before all tokens of the pass; it waits in a queue that has room for all that a pass can make, so a host
    may give all entries before it looks at results.

    The ``last`` entry, right or wrong, closes the pass; the sequencer then runs those that were let in, or, if there
    are none, the last refusal ends the pass.

    Operations on the KV memory are accepted between passes, one at a time, before a pass that is offered at the same
    time. The answer to one that is accepted in cycle s is there in cycle s + 2, or s + 3 where slots share blocks, and
    a cycle later for each block that it shares or drops.

    Parameters
    ----------
    sizes : RequestSizes    of the machine

    Members
    -------
    command     In(stream)      `command_layout`: the host's entries
    outcome     Out(stream)     `outcome_layout`: the host's results; ``entry`` counts the host's entries
    kv_command  In(stream)      `kv_command_layout`
    kv_answer   Out(stream)     `kv_answer_layout`
    entry       Out(stream)     `command_layout`, for the sequencer, which must be ready from the end of a pass to the
                                ``last`` of the next
    result      In(stream)      `row_result_layout`, from the sequencer; ``entry`` counts those let in
    ask         Out(stream)     `ask_layout`, for the KV memory, with ``error`` In in the cycle of the transfer
    opens       Out(1)          the first entry of a pass is accepted ...
    opened      Out(1)          ... and has been, and the pass's last outcome has not been taken
    """

    def __init__(self, *, sizes):
        self._sizes, place = sizes, dict(slots=sizes.slots, context=sizes.context)
        super().__init__({
            "command": In(stream.Signature(command_layout(sizes))),
            "outcome": Out(stream.Signature(outcome_layout(sizes))),
            "kv_command": In(stream.Signature(kv_command_layout(**place))),
            "kv_answer": Out(stream.Signature(kv_answer_layout())),
            "entry": Out(stream.Signature(command_layout(sizes))),
            "result": In(stream.Signature(row_result_layout(sizes))),
            "ask": Out(stream.Signature(ask_layout(**place))), "error": In(ERROR_BITS),
            "opens": Out(1), "opened": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        most = range(self._sizes.entries + 1)
        of_pass = _Pass(closed=Signal(name="closed"), count=Signal(most, name="count"),
                        rows=Signal(most, name="rows"), told=Signal(name="told"))
        entry = _Entry(
            held=Signal(command_layout(self._sizes), reset_less=True, name="held"), holding=Signal(name="holding"),
            done=Signal(name="done"), excess=Signal(name="excess"), wrong=Signal(name="wrong"),
            own_error=Signal(ERROR_BITS, name="own_error"), asking=Signal(name="asking"),
            answered=Signal(name="answered"), error=Signal(ERROR_BITS, reset_less=True, name="answered_error"),
            admitted=Signal(name="admitted"), final=Signal(name="final"))
        operation = Signal(self.kv_command.p.shape(), reset_less=True, name="operation")
        operating = Signal()
        self._accept(m, of_pass, entry, operation, operating)
        self._check(m, of_pass, entry)
        self._let_in(m, of_pass, entry)
        self._answer(m, of_pass, entry)
        allowed = self._operate(m, operation, operating)
        self._ask(m, entry, operation, operating, allowed)
        return m

    def _accept(self, m, of_pass, entry, operation, operating):
        """What comes in: entries of a pass, or operations between passes."""
        opened, closed, held, holding = self.opened, of_pass.closed, entry.held, entry.holding
        # so nobody outside waits for the KV memory's answer, which comes late in the cycle
        m.submodules.entries = skid = Skid(command_layout(self._sizes))
        ready = Signal(name="ready")            # the sequencer was; while a pass has not been closed it stays so
        m.d.sync += ready.eq(self.entry.ready)
        may = ~closed & ready & ~operating & (opened | ~self.kv_command.valid)
        m.d.comb += [self.kv_command.ready.eq(~opened & ~operating & ~self.kv_answer.valid & ready),
                     self.command.ready.eq(skid.i.ready & may), skid.i.valid.eq(self.command.valid & may),
                     skid.i.payload.eq(self.command.p),
                     skid.o.ready.eq(~holding | entry.done), self.opens.eq(self.command.valid & may & ~opened)]
        with m.If(entry.done):
            m.d.sync += holding.eq(0)
        with m.If(skid.o.valid & skid.o.ready):
            m.d.sync += [held.eq(skid.o.p), holding.eq(1)]
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [opened.eq(1), closed.eq(self.command.p.last)]
        with m.If(self.kv_command.valid & self.kv_command.ready):
            m.d.sync += [operation.eq(self.kv_command.p), operating.eq(1)]

    def _check(self, m, of_pass, entry):
        """What is wrong with the entry by itself."""
        sizes, held, error = self._sizes, entry.held, entry.own_error
        m.d.comb += [entry.excess.eq(of_pass.count == sizes.entries), entry.wrong.eq(1)]
        with m.If(entry.excess):
            m.d.comb += error.eq(ErrorCode.TOO_MANY_ENTRIES)
        with m.Elif(_beyond(held.slot, sizes.slots)):
            m.d.comb += error.eq(ErrorCode.SLOT)
        with m.Elif(_beyond(held.token, sizes.vocab_size)):
            m.d.comb += error.eq(ErrorCode.TOKEN)
        with m.Elif(_beyond(held.position, sizes.context)):
            m.d.comb += error.eq(ErrorCode.CONTEXT)
        with m.Else():
            m.d.comb += entry.wrong.eq(0)

    def _let_in(self, m, of_pass, entry):
        """What is right goes to the sequencer if the KV memory agrees; its answer comes late in its cycle, and counts
        in the next."""
        held, answered, admitted, count, rows = entry.held, entry.answered, entry.admitted, of_pass.count, of_pass.rows
        m.d.sync += [answered.eq(entry.asking & ~answered & self.ask.ready), entry.error.eq(self.error)]
        m.d.comb += [entry.asking.eq(entry.holding & ~held.none & ~entry.wrong),
                     admitted.eq(answered & (entry.error == ErrorCode.OK)),
                     entry.done.eq(entry.holding & (held.none | entry.wrong | answered)),
                     entry.final.eq(held.last & ~admitted & (rows == 0)),
                     self.entry.valid.eq(admitted | entry.done & held.last & (rows != 0)), self.entry.p.eq(held),
                     self.entry.p.none.eq(~admitted)]
        with m.If(entry.done & ~held.none):
            m.d.sync += [rows.eq(rows + admitted), count.eq(Mux(entry.excess, count, count + 1)),
                         of_pass.told.eq(entry.excess)]

    def _answer(self, m, of_pass, entry):
        """Refusals, and behind them the results of what was let in."""
        entries, count, rows = self._sizes.entries, of_pass.count, of_pass.rows
        ended = self.outcome.valid & self.outcome.ready & self.outcome.p.last
        refusals = self._queue_refusals(m, of_pass, entry)
        first = data.View(_refusal_layout(self._sizes.entries), refusals.r_data)
        index_of = Array(Signal(range(entries), name=f"index_of_row{i}", reset_less=True) for i in range(entries))
        with m.If(entry.asking):        # until it is known whether it was admitted, which is when ``rows`` moves on
            m.d.sync += index_of[rows].eq(count)
        with m.If(refusals.r_rdy):
            m.d.comb += [self.outcome.valid.eq(1), refusals.r_en.eq(self.outcome.ready),
                         *(self.outcome.p[field].eq(first[field]) for field in ("entry", "none", "last", "error"))]
        with m.Else():
            m.d.comb += [self.outcome.valid.eq(self.result.valid), self.result.ready.eq(self.outcome.ready),
                         self.outcome.p.entry.eq(index_of[self.result.p.entry]),
                         *(self.outcome.p[field].eq(self.result.p[field]) for field in ("token", "none", "last"))]
        with m.If(ended):
            m.d.sync += [self.opened.eq(0), of_pass.closed.eq(0), count.eq(0), rows.eq(0), of_pass.told.eq(0)]

    def _queue_refusals(self, m, of_pass, entry):
        """A queue of `_refusal_layout`: of entries that are refused, and of what ends a pass of which nothing was let
        in."""
        entries, held, count, excess, told = self._sizes.entries, entry.held, of_pass.count, entry.excess, of_pass.told
        item = Signal(_refusal_layout(entries))
        m.submodules.refusals = refusals = SyncFIFO(width=item.shape().size, depth=entries + 2)
        refused = ~held.none & ~entry.admitted & ~(excess & told)
        of_none = Mux(count == 0, ErrorCode.EMPTY_PASS, ErrorCode.OK)
        of_entry = Mux(excess & told, ErrorCode.OK, Mux(entry.wrong, entry.own_error, entry.error))
        m.d.comb += [item.entry.eq(count), item.none.eq(~refused | excess), item.last.eq(entry.final),
                     item.error.eq(Mux(held.none, of_none, of_entry)),
                     refusals.w_data.eq(item), refusals.w_en.eq(entry.done & (refused | entry.final))]
        return refusals

    def _operate(self, m, operation, operating):
        """An operation on the KV memory, which is refused if it is wrong by itself. Returns that it is not."""
        refusal = Signal(ERROR_BITS)
        with m.If(_beyond(operation.op, len(KvOp))):
            m.d.comb += refusal.eq(ErrorCode.OPERATION)
        with m.Elif(_beyond(operation.slot, self._sizes.slots)):
            m.d.comb += refusal.eq(ErrorCode.SLOT)
        allowed = operating & (refusal == ErrorCode.OK)
        with m.If(operating & (self.ask.ready | ~allowed)):
            m.d.sync += [operating.eq(0), self.kv_answer.valid.eq(1),
                         self.kv_answer.p.error.eq(Mux(allowed, self.error, refusal))]
        with m.If(self.kv_answer.valid & self.kv_answer.ready):
            m.d.sync += self.kv_answer.valid.eq(0)
        return allowed

    def _ask(self, m, entry, operation, operating, allowed):
        """The KV memory is asked to do the operation, or to admit the entry."""
        ask = self.ask
        m.d.comb += ask.valid.eq(entry.asking & ~entry.answered | allowed)
        with m.If(operating):
            m.d.comb += ask.p.eq(operation)
        with m.Else():
            m.d.comb += [ask.p.op.eq(ADMIT), ask.p.slot.eq(entry.held.slot), ask.p.length.eq(entry.held.position)]


def _beyond(value, limit):
    """Whether a number is not below ``limit``; never, where its bits cannot say so."""
    return value >= limit if limit < 1 << len(value) else Const(0, 1)


def _refusal_layout(entries):
    return data.StructLayout({"entry": range(entries), "none": 1, "last": 1, "error": ERROR_BITS})
