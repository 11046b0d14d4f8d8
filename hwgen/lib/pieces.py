"""The order in which two alternating half-batches need the records and matrices of the weight stream."""
from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..params.block import Norm, Project
from ..params.phases import turn
from ..params.stream import HEAD
from .steps import piece_kinds

__all__ = ["Pieces"]


class Pieces(wiring.Component):
    """Walks through the pieces of a pass, one per ``step``.

    They are those of steps -1, 0 ... 2 * layers, each a `hwgen.params.phases.Turn` without what does not exist, and then the LM heads.
    In an even step x is half-batch 0, in an odd one 1, and y is the other. The state is step = 2 * round - odd.

    Members
    -------
    both : In(1)            half-batch 1 has entries
    head : In(2)            half-batch 0, 1 wants output
    step, restart : In(1)   to the next piece; to the first one
    kind, half, layer : Out the piece; ``layer`` is that of the layer behind it for records, and undefined for the LM head
    final : Out(1)          it is the record of the final norm
    after : Out             the next piece's kind, if it is not the ``last``
    last : Out(1)
    odd : Out(1)            of the step
    climb : Out(1)          the next piece is of the next round

    Attributes
    ----------
    kinds : dict            `hwgen.lib.steps.piece_kinds`
    """

    def __init__(self, design):
        self._layers, self._block = design.layers, design.block
        self.kinds = piece_kinds(design.block)
        kind = type(self.kinds[HEAD])
        super().__init__({"both": In(1), "head": In(2), "step": In(1), "restart": In(1), "kind": Out(kind), "half": Out(1),
                          "layer": Out(range(design.layers)), "final": Out(1), "after": Out(kind), "last": Out(1), "odd": Out(1, init=1),
                          "climb": Out(1)})

    def sections(self):
        """(kind, name in the stream) of the pieces of a layer, but for the LM head."""
        return [(self.kinds[step], step.name) for step in self._block.steps if isinstance(step, (Norm, Project))]

    def elaborate(self, platform):
        m = Module()
        order, head = turn(self._block), self.kinds[HEAD]
        opening = self.kinds[order.opening]
        attention, mlps, rest = ([self.kinds[step] for step in steps] for steps in (order.attention, order.mlp, order.rest))
        layers, kind, odd = self._layers, self.kind, self.odd
        round_ = Signal(range(layers + 1), name="round")
        head_half = Signal()

        def exists(round_is_0, round_is_last, odd, name):
            """Whether the step has the pieces of attention and the rest; those of the MLP; the opening record."""
            x, y = Mux(odd, self.both, 1), Mux(odd, 1, self.both)
            attends, mlp, record = (Signal(name=f"{name}_{what}") for what in ("attends", "mlp", "record"))
            m.d.comb += [attends.eq(x & Mux(odd, ~round_is_0, ~round_is_last)), mlp.eq(y & ~round_is_0),
                         record.eq(y & (~round_is_last | Mux(odd, self.head[0], self.head[1])))]
            return attends, mlp, record

        attends, mlp, record = exists(round_ == 0, round_ == layers, odd, "here")
        # the next step: of the next round if this one is even
        attends_next, mlp_next, record_next = exists(odd & (round_ == 0), Mux(odd, round_ == layers, round_ == layers - 1), ~odd, "next")

        leaves = Signal()       # the step's last piece
        done = Signal()         # ... and no other step has any
        m.d.comb += [done.eq(~(attends_next | mlp_next | record_next) | (~odd & (round_ == layers))),
                     self.climb.eq(leaves & ~odd)]

        def follow(kinds):
            for kind, follows in pairwise(kinds):
                with m.Case(kind):
                    m.d.comb += self.after.eq(follows)

        with m.Switch(kind):
            follow(attention)
            with m.Case(attention[-1]):
                m.d.comb += self.after.eq(Mux(mlp, mlps[0], Mux(record, opening, rest[0])))
            follow(mlps)
            with m.Case(mlps[-1]):
                with m.If(record):
                    m.d.comb += self.after.eq(opening)
                with m.Elif(attends):
                    m.d.comb += self.after.eq(rest[0])
                with m.Else():
                    m.d.comb += leaves.eq(1)
            with m.Case(opening):
                with m.If(attends):
                    m.d.comb += self.after.eq(rest[0])
                with m.Else():
                    m.d.comb += leaves.eq(1)
            follow(rest)
            with m.Case(rest[-1]):
                m.d.comb += leaves.eq(1)
            with m.Case(head):
                m.d.comb += [self.after.eq(head), self.last.eq(head_half | ~self.head[1])]
        with m.If(leaves):
            m.d.comb += self.after.eq(Mux(attends_next, attention[0], Mux(mlp_next, mlps[0], opening)))
            with m.If(done):
                m.d.comb += [self.after.eq(head), self.last.eq(~self.head.any())]

        # of the half that attends the layer is round, or in an odd step the one before; of the other the MLP's is the one before
        of_mlp, opens = Signal(name="of_mlp"), kind == opening
        m.d.comb += [of_mlp.eq(reduce(or_, (kind == piece for piece in mlps))),
                     self.layer.eq(Mux(opens | ~odd & ~of_mlp, round_, round_ - 1)), self.final.eq(opens & (round_ == layers)),
                     self.half.eq(Mux(kind == head, head_half, odd ^ (of_mlp | opens)))]
        with m.If(self.step):
            m.d.sync += kind.eq(self.after)
            with m.If(kind == head):
                m.d.sync += head_half.eq(1)
            with m.Elif(leaves):
                m.d.sync += [odd.eq(~odd), round_.eq(round_ + ~odd), head_half.eq(~self.head[0])]
        with m.If(self.restart):
            m.d.sync += [kind.eq(opening), odd.eq(1), round_.eq(0), head_half.eq(0)]
        return m
