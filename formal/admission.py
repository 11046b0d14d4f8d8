"""What `Admission` promises: to the KV memory what `formal.kv_blocks` assumes, and to all others that a stream is
one."""
from amaranth.hdl import Signal

from hwgen.lib.layouts import ADMIT
from hwgen.top import make
from hwgen.units.admission import Admission
from sim.designs import small_design

from .broken import Break
from .harness import Harness
from .proofs import Proof
from .stream import gives, takes

__all__ = ["PROOFS"]


def _harness(**shape):
    design = small_design(**shape)
    unit = make.admission(design)
    h = Harness(unit)
    for name in ("command", "kv_command", "result"):
        takes(h, getattr(unit, name))

    # The sequencer is ready from the end of a pass to the ``last`` of the next, and has results of a pass only.
    runs = Signal()
    outcome = unit.outcome
    with h.m.If(unit.entry.valid & unit.entry.ready & unit.entry.p.last):
        h.m.d.sync += runs.eq(1)
    with h.m.Elif(outcome.valid & outcome.ready & outcome.p.last):
        h.m.d.sync += runs.eq(0)
    h.assume((runs | unit.entry.ready) & (runs | ~unit.result.valid))

    for name in ("outcome", "kv_answer", "entry", "ask"):
        gives(h, getattr(unit, name), name)
    ask, refusals = unit.ask, h.inside._queue_refusals.refusals
    h.never("no_slot", ask.valid & (ask.p.slot >= design.hw.slots))
    h.never("beyond_context", ask.valid & (ask.p.op == ADMIT) & (ask.p.length >= design.hw.context))
    granted = Signal()          # in the cycle before
    h.m.d.sync += granted.eq(ask.valid & ask.ready & (ask.p.op == ADMIT) & (unit.error == 0))
    h.never("let_in_unasked", unit.entry.valid & ~unit.entry.p.none & ~granted)
    h.never("refusal_lost", refusals.w_en & ~refusals.w_rdy)
    return h


_BREAKS = {name: Break(Admission, old, new) for name, old, new in [
    ("outcome_withdrawn", "with m.If(refusals.r_rdy):", "with m.If(refusals.r_rdy & ~entry.done):"),
    ("outcome_changed", "refusals.r_en.eq(self.outcome.ready)", "refusals.r_en.eq(1)"),
    ("kv_answer_withdrawn", "with m.If(self.kv_answer.valid & self.kv_answer.ready):",
     "with m.If(self.kv_answer.valid):"),
    ("kv_answer_changed", "self.kv_command.ready.eq(~opened & ~operating & ~self.kv_answer.valid",
     "self.kv_command.ready.eq(~opened & ~operating"),
    ("entry_withdrawn", "self.entry.valid.eq(admitted |", "self.entry.valid.eq(admitted | self.outcome.ready |"),
    ("entry_changed", "self.entry.p.eq(held)", "self.entry.p.eq(self.command.p)"),
    ("ask_withdrawn", "ask.valid.eq(entry.asking & ~entry.answered | allowed)",
     "ask.valid.eq(entry.asking & ~entry.answered | allowed & self.outcome.ready)"),
    ("ask_changed", "ask.p.eq(operation)", "ask.p.eq(self.kv_command.p)"),
    ("no_slot", "with m.Elif(_beyond(held.slot, sizes.slots)):", "with m.Elif(0):"),
    ("beyond_context", "with m.Elif(_beyond(held.position, sizes.context)):", "with m.Elif(0):"),
    ("let_in_unasked", "self.entry.p.none.eq(~admitted)", "self.entry.p.none.eq(0)"),
    ("refusal_lost", "depth=entries + 2", "depth=entries"),
]}

PROOFS = [Proof("Admission", ", ".join(f"{field} {value}" for field, value in shape.items()),
                lambda shape=shape: _harness(**shape),
                breaks=_BREAKS if not k else {}, depth=12)
          for k, shape in enumerate([dict(entries=2, slots=3, context=6, kv_block=2),
                                     dict(entries=1, slots=1, context=8, kv_block=2),
                                     dict(entries=3, slots=2, context=5, kv_block=1, sampler="gumbel")])]
