"""Texts go on by themselves: the tokens that a pass gave are the next pass's entries."""
from dataclasses import dataclass

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.layouts import command_layout, outcome_layout

__all__ = ["DecodeLoop"]


@dataclass
class _Pass:
    """The pass that goes to the machine, an entry at a time, and what becomes of its entries."""
    table: list         # of each entry: what follows it
    may: Signal         # of each entry: it gives a token that may be followed
    goes: Signal        # of each entry: it is followed
    given: Signal       # entries so far
    index: Signal       # while ``following``: the entry of the table to give next, or to pass over
    following: Signal   # the entries are those of the table, and not the host's
    under_way: Signal   # the machine has all of the pass, and has not given its last result


class DecodeLoop(wiring.Component):
    """Stands between a host and a machine, and starts passes of its own.

    While ``left`` is not 0, a pass that gave tokens is followed by one of the entries that gave them, in their order:
    each with the same slot and adapter, the next position, its token, the next key. An entry does not go on behind the
    token ``stop`` if ``stopping``, when its slot is full, or behind an error; an entry that wanted no token does not
    either. The first is offered two cycles after the pass's last result was taken by the host, who gets all results as
    ever (``entry`` counts those of the pass), and slows the loop when it does not take them; each entry before another
    one that goes on takes a cycle, whether it goes on or not. The loop ends (``left`` becomes 0) behind ``left``
    passes, or when no entry goes on. A pass that gives no token neither starts nor ends it. The host's entries wait
    while a pass is under way that may be followed.

    Parameters
    ----------
    sizes : RequestSizes    of the machine

    Members
    -------
    entry : In(stream)          the host's entries
    command : Out(stream)       to the machine, which takes none from a pass's last entry to its last result
    result : In(stream)         from the machine
    outcome : Out(stream)       to the host
    load : In(1), count : In(16)        set ``left``, in any cycle
    left : Out(16)              passes that may still follow
    stop, stopping : In         the token behind which nothing follows, and whether there is one
    """

    def __init__(self, *, sizes):
        self._sizes = sizes
        command, outcome = command_layout(sizes), outcome_layout(sizes)
        super().__init__({
            "entry": In(stream.Signature(command)), "command": Out(stream.Signature(command)),
            "result": In(stream.Signature(outcome)), "outcome": Out(stream.Signature(outcome)),
            "load": In(1), "count": In(16), "left": Out(16), "stop": In(range(sizes.vocab_size)),
            "stopping": In(1)})

    def elaborate(self, platform):
        m = Module()
        n = self._sizes.entries
        table = [Signal(self.command.p.shape(), name=f"own{i}", reset_less=True) for i in range(n)]
        current = _Pass(table, may=Signal(n, name="may"), goes=Signal(n, name="goes"),
                        given=Signal(range(n + 1), name="given"), index=Signal(range(n), name="index"),
                        following=Signal(name="following"), under_way=Signal(name="under_way"))
        self._offer(m, current)
        self._take(m, current)
        self._follow(m, current)
        with m.If(self.load):
            m.d.sync += self.left.eq(self.count)
        return m

    def _offer(self, m, current):
        """To the machine: the entries that follow a pass, or else the host's."""
        entry, command, table, goes, index = self.entry, self.command, current.table, current.goes, current.index
        n = len(table)
        later = (goes >> index)[1:].any() if n > 1 else 0           # another one goes on
        own = data.View(command.p.shape(), Array(x.as_value() for x in table)[index] if n > 1 else table[0].as_value())
        hold = current.under_way & (self.left != 0)
        following = current.following
        m.d.comb += [command.valid.eq(Mux(following, goes.bit_select(index, 1), entry.valid & ~hold)),
                     entry.ready.eq(command.ready & ~following & ~hold),
                     command.payload.eq(Mux(following, own.as_value(), entry.payload.as_value()))]
        with m.If(following):
            m.d.comb += command.p.last.eq(~later)
            with m.If(command.ready | ~goes.bit_select(index, 1)):
                m.d.sync += index.eq(index + 1)

    def _take(self, m, current):
        """The machine takes an entry: what would follow it goes into the table.

        Entries move up: what follows an entry is written no later than where it is read.
        """
        command, given, may = self.command, current.given, current.may
        with m.If(command.valid & command.ready):
            for i, x in enumerate(current.table):
                with m.If((given == i) & ~command.p.none):
                    m.d.sync += [given.eq(i + 1), x.slot.eq(command.p.slot), x.position.eq(command.p.position + 1),
                                 x.want.eq(1),
                                 x.none.eq(0),
                                 may[i].eq(command.p.want & (command.p.position != self._sizes.context - 1))]
                    if self._sizes.keyed:
                        m.d.sync += x.key.eq(command.p.key + 1)
                    if self._sizes.adapters:
                        m.d.sync += x.adapter.eq(command.p.adapter)
            m.d.sync += current.under_way.eq(command.p.last)
            with m.If(command.p.last):
                m.d.sync += [given.eq(0), current.goes.eq(0), current.following.eq(0)]

    def _follow(self, m, current):
        """Results go to the host; what follows from a result is found in the cycle behind it."""
        command, result, outcome, goes = self.command, self.result, self.outcome, current.goes
        m.d.comb += [outcome.valid.eq(result.valid), outcome.payload.eq(result.payload), result.ready.eq(outcome.ready)]
        seen, came = Signal(outcome.p.shape(), reset_less=True, name="seen"), Signal(name="came")
        m.d.sync += [seen.eq(result.p), came.eq(result.valid & result.ready)]
        gave, on = Signal(name="gave"), Signal()           # the pass gave tokens, this one included; this one goes on
        before = Signal()
        m.d.comb += [on.eq(~seen.none & (seen.error == 0) & current.may.bit_select(seen.entry, 1)
                           & ~(self.stopping & (seen.token == self.stop))),
                     gave.eq(before | ~seen.none)]
        with m.If(came):
            with m.If(~seen.none):
                m.d.sync += [goes.bit_select(seen.entry, 1).eq(on), before.eq(1)]
                for i, x in enumerate(current.table):
                    with m.If(seen.entry == i):
                        m.d.sync += x.token.eq(seen.token)
            with m.If(seen.last):
                m.d.sync += before.eq(0)
                with m.If(~(command.valid & command.ready)):        # the next pass has not begun
                    m.d.sync += current.under_way.eq(0)
                self._end_pass(m, current, gave, on)

    def _end_pass(self, m, current, gave, on):
        """With the pass's last result: the entries that go on are the next pass, or the loop ends."""
        with m.If((self.left != 0) & gave):
            with m.If(on | current.goes.any()):
                m.d.sync += [current.following.eq(1), current.index.eq(0), self.left.eq(self.left - 1)]
            with m.Else():
                m.d.sync += self.left.eq(0)
