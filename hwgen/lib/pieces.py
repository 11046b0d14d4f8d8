"""The order in which two alternating half-batches need the records and matrices of the weight stream."""
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..params.block import Norm, Project
from ..params.phases import Turn, turn
from ..params.stream import HEAD
from .steps import piece_kinds

__all__ = ["Pieces"]


class _Exists(NamedTuple):
    """Which pieces a step has."""
    attends: Signal     # attention, and the rest behind it
    mlp: Signal
    record: Signal      # the opening one of a layer, or that of the final norm


class Pieces(wiring.Component):
    """Walks through the pieces of a pass, one per ``step``.

    They are those of steps -1, 0 ... 2 * layers, each a `hwgen.params.phases.Turn` without what does not exist, and
    then the LM heads. In an even step x is half-batch 0, in an odd one 1, and y is the other. The state is step = 2 *
    round - odd.

    Parameters
    ----------
    block : Block
    layers : int            at least 1

    Members
    -------
    both : In(1)            half-batch 1 has entries
    head : In(2)            half-batch 0, 1 wants output
    step, restart : In(1)   to the next piece; to the first one
    kind, half, layer : Out the piece; ``layer`` is that of the layer behind it for records, and undefined for the LM
    head
    final : Out(1)          it is the record of the final norm
    after : Out             the next piece's kind, if it is not the ``last``
    last : Out(1)
    odd : Out(1)            of the step
    climb : Out(1)          the next piece is of the next round

    Attributes
    ----------
    kinds : dict            `hwgen.lib.steps.piece_kinds`
    """

    def __init__(self, *, block, layers):
        self._layers, self._block = layers, block
        self.kinds = piece_kinds(block)
        order = turn(block)
        attention, mlp, rest = ([self.kinds[step] for step in steps]
                                for steps in (order.attention, order.mlp, order.rest))
        self._order = Turn(attention, mlp, self.kinds[order.opening], rest)     # of kinds
        kind = type(self.kinds[HEAD])
        super().__init__({"both": In(1), "head": In(2), "step": In(1), "restart": In(1), "kind": Out(kind),
                          "half": Out(1), "layer": Out(range(layers)), "final": Out(1), "after": Out(kind),
                          "last": Out(1), "odd": Out(1, init=1), "climb": Out(1)})

    def sections(self):
        """(kind, name in the stream) of the pieces of a layer, but for the LM head."""
        return [(self.kinds[step], step.name) for step in self._block.steps if isinstance(step, (Norm, Project))]

    def elaborate(self, platform):
        m = Module()
        round_ = Signal(range(self._layers + 1), name="round")
        head_half = Signal()
        odd, layers = self.odd, self._layers
        here = self._exists(m, round_ == 0, round_ == layers, odd, "here")
        # the next step: of the next round if this one is even
        later = self._exists(m, odd & (round_ == 0), Mux(odd, round_ == layers, round_ == layers - 1), ~odd, "next")

        leaves = Signal()       # the step's last piece
        done = Signal()         # ... and no other step has any
        m.d.comb += [done.eq(~(later.attends | later.mlp | later.record) | (~odd & (round_ == layers))),
                     self.climb.eq(leaves & ~odd)]
        self._follow(m, here, leaves, head_half)
        self._leave(m, later, leaves, done)
        self._locate(m, round_, head_half)
        with m.If(self.step):
            m.d.sync += self.kind.eq(self.after)
            with m.If(self.kind == self.kinds[HEAD]):
                m.d.sync += head_half.eq(1)
            with m.Elif(leaves):
                m.d.sync += [odd.eq(~odd), round_.eq(round_ + ~odd), head_half.eq(~self.head[0])]
        with m.If(self.restart):
            m.d.sync += [self.kind.eq(self._order.opening), odd.eq(1), round_.eq(0), head_half.eq(0)]
        return m

    def _exists(self, m, round_is_0, round_is_last, odd, name):
        """Which pieces a step has: `_Exists`."""
        x, y = Mux(odd, self.both, 1), Mux(odd, 1, self.both)
        found = _Exists(*(Signal(name=f"{name}_{what}") for what in _Exists._fields))
        m.d.comb += [found.attends.eq(x & Mux(odd, ~round_is_0, ~round_is_last)), found.mlp.eq(y & ~round_is_0),
                     found.record.eq(y & (~round_is_last | Mux(odd, self.head[0], self.head[1])))]
        return found

    def _follow(self, m, here, leaves, head_half):
        """What comes after a piece in its step, of which ``here`` says what it has; or it ``leaves`` the step."""
        order, head = self._order, self.kinds[HEAD]

        def follow(kinds):
            for kind, follows in pairwise(kinds):
                with m.Case(kind):
                    m.d.comb += self.after.eq(follows)

        with m.Switch(self.kind):
            follow(order.attention)
            with m.Case(order.attention[-1]):
                m.d.comb += self.after.eq(Mux(here.mlp, order.mlp[0], Mux(here.record, order.opening, order.rest[0])))
            follow(order.mlp)
            with m.Case(order.mlp[-1]):
                with m.If(here.record):
                    m.d.comb += self.after.eq(order.opening)
                with m.Elif(here.attends):
                    m.d.comb += self.after.eq(order.rest[0])
                with m.Else():
                    m.d.comb += leaves.eq(1)
            with m.Case(order.opening):
                with m.If(here.attends):
                    m.d.comb += self.after.eq(order.rest[0])
                with m.Else():
                    m.d.comb += leaves.eq(1)
            follow(order.rest)
            with m.Case(order.rest[-1]):
                m.d.comb += leaves.eq(1)
            with m.Case(head):
                m.d.comb += [self.after.eq(head), self.last.eq(head_half | ~self.head[1])]

    def _leave(self, m, later, leaves, done):
        """What comes after a step: the first piece of the next one, or where all are ``done`` the LM heads."""
        order = self._order
        with m.If(leaves):
            m.d.comb += self.after.eq(Mux(later.attends, order.attention[0],
                                          Mux(later.mlp, order.mlp[0], order.opening)))
            with m.If(done):
                m.d.comb += [self.after.eq(self.kinds[HEAD]), self.last.eq(~self.head.any())]

    def _locate(self, m, round_, head_half):
        """Layer and half-batch of the piece. Of the half that attends the layer is round, or in an odd step the one
        before; of the other the MLP's is the one before."""
        kind, odd = self.kind, self.odd
        of_mlp, opens = Signal(name="of_mlp"), kind == self._order.opening
        m.d.comb += [of_mlp.eq(reduce(or_, (kind == piece for piece in self._order.mlp))),
                     self.layer.eq(Mux(opens | ~odd & ~of_mlp, round_, round_ - 1)),
                     self.final.eq(opens & (round_ == self._layers)),
                     self.half.eq(Mux(kind == self.kinds[HEAD], head_half, odd ^ (of_mlp | opens)))]
