"""A text goes on by itself: the token that a pass gave is the next pass's entry."""
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.layouts import command_layout, outcome_layout

__all__ = ["DecodeLoop"]


class DecodeLoop(wiring.Component):
    """Stands between a host and a machine, and starts passes of its own.

    While ``left`` is not 0, a pass whose last entry wanted a token is followed by one of a single entry: the same slot, the next
    position, that token, the next key. It is offered the cycle after the token was taken by the host, who gets all results as ever,
    and slows the loop when it does not take them. The loop ends (``left`` becomes 0) behind ``left`` passes, after the token ``stop``
    if ``stopping``, when the slot is full, or behind an error. The host's entries wait while a pass is under way that may be followed.

    Parameters
    ----------
    design : Design

    Members
    -------
    entry : In(stream)          the host's entries
    command : Out(stream)       to the machine
    result : In(stream)         from the machine
    outcome : Out(stream)       to the host
    load : In(1), count : In(16)        set ``left``, in any cycle
    left : Out(16)              passes that may still follow
    stop, stopping : In         the token behind which nothing follows, and whether there is one
    """

    def __init__(self, design):
        self._design = design
        command, outcome = command_layout(design), outcome_layout(design)
        super().__init__({
            "entry": In(stream.Signature(command)), "command": Out(stream.Signature(command)),
            "result": In(stream.Signature(outcome)), "outcome": Out(stream.Signature(outcome)),
            "load": In(1), "count": In(16), "left": Out(16), "stop": In(range(design.model.vocab_size)), "stopping": In(1)})

    def elaborate(self, platform):
        m = Module()
        entry, command, result, outcome = self.entry, self.command, self.result, self.outcome
        following = Signal()                                            # the loop has an entry to give
        own = Signal(command.p.shape(), reset_less=True)                # that entry
        full, wanted, under_way = Signal(reset_less=True), Signal(reset_less=True), Signal()
        hold = under_way & (self.left != 0)
        m.d.comb += [command.valid.eq(Mux(following, 1, entry.valid & ~hold)), entry.ready.eq(command.ready & ~following & ~hold),
                     command.payload.eq(Mux(following, own.as_value(), entry.payload.as_value()))]
        with m.If(command.valid & command.ready):
            m.d.sync += [following.eq(0), own.slot.eq(command.p.slot), own.position.eq(command.p.position + 1), own.want.eq(1), own.last.eq(1), own.none.eq(command.p.none),
                         full.eq(command.p.position == self._design.hw.context - 1), wanted.eq(command.p.want)]
            if "key" in command.p.shape().members:
                m.d.sync += own.key.eq(command.p.key + 1)
            m.d.sync += under_way.eq(command.p.last)

        m.d.comb += [outcome.valid.eq(result.valid), outcome.payload.eq(result.payload), result.ready.eq(outcome.ready)]
        with m.If(result.valid & result.ready & result.p.last):
            m.d.sync += [under_way.eq(0), own.token.eq(result.p.token)]
            with m.If((self.left != 0) & ~result.p.none):
                m.d.sync += self.left.eq(0)
                with m.If(wanted & ~full & (result.p.error == 0) & ~(self.stopping & (result.p.token == self.stop))):
                    m.d.sync += [following.eq(1), self.left.eq(self.left - 1)]
        with m.If(self.load):
            m.d.sync += self.left.eq(self.count)
        return m
