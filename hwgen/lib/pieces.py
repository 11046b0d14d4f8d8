"""The order in which two alternating half-batches need the records and matrices of the weight stream."""
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ..params.block import Norm, Project

__all__ = ["Kind", "Pieces", "kinds"]


class Kind(enum.Enum, shape=3):
    """What a piece is: a record (of norm 1 or the final norm, of norm 2), or a matrix."""
    RECORD_1 = 0
    QKV = 1
    GATE_UP = 2
    DOWN = 3
    O = 4
    RECORD_2 = 5
    HEAD = 6


class KindWithPosts(enum.Enum, shape=4):
    """The same where norms of sums have records too."""
    RECORD_1 = 0
    QKV = 1
    GATE_UP = 2
    DOWN = 3
    O = 4
    RECORD_2 = 5
    HEAD = 6
    POST_1 = 7
    POST_2 = 8


def kinds(block):
    """The enumeration of the pieces of a block."""
    return KindWithPosts if block.post_norms else Kind


class Pieces(wiring.Component):
    """Walks through the pieces of a pass, one per ``step``.

    They are those of steps -1, 0 ... 2 * layers, each ``QKV(x) GATE_UP(y) DOWN(y) RECORD_1(y) O(x) RECORD_2(x)`` without what does not
    exist, and then the LM heads. Records of norms of sums, POST_1 and POST_2, stand behind O and DOWN; a parallel block has no RECORD_2.
    In an even step x is half-batch 0, in an odd one 1, and y is the other (docs/architecture.md, section 5).
    The state is step = 2 * round - odd.

    Members
    -------
    both : In(1)            half-batch 1 has entries
    head : In(2)            half-batch 0, 1 wants output
    step, restart : In(1)   to the next piece; to the first one
    kind, half, layer : Out the piece; ``layer`` is that of the layer behind it for records, and undefined for the LM head
    final : Out(1)          it is the record of the final norm
    after : Out(Kind)       the next piece, if it is not the ``last``
    last : Out(1)
    odd : Out(1)            of the step
    climb : Out(1)          the next piece is of the next round
    """

    def __init__(self, design):
        self._layers, self._block = design.layers, design.block
        kind = kinds(design.block)
        super().__init__({"both": In(1), "head": In(2), "step": In(1), "restart": In(1), "kind": Out(kind), "half": Out(1),
                          "layer": Out(range(design.layers)), "final": Out(1), "after": Out(kind), "last": Out(1), "odd": Out(1, init=1),
                          "climb": Out(1)})

    def sections(self):
        """(kind, name in the stream) of the pieces of a layer, but for the LM head."""
        names = [step.name for step in self._block.steps if isinstance(step, (Norm, Project))]
        kind = kinds(self._block)
        return [(kind[{"norm_1": "RECORD_1", "norm_2": "RECORD_2"}.get(name, name.upper())], name) for name in names]

    def elaborate(self, platform):
        m = Module()
        Kind, two_norms = kinds(self._block), not self._block.parallel
        posts = self._block.post_norms
        layers, kind, odd = self._layers, self.kind, self.odd
        round_ = Signal(range(layers + 1), name="round")
        head_half = Signal()

        def exists(round_is_0, round_is_last, odd, name):
            """Whether the step has QKV, O and RECORD_2; GATE_UP and DOWN; RECORD_1."""
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
        with m.Switch(kind):
            with m.Case(Kind.QKV):
                m.d.comb += self.after.eq(Mux(mlp, Kind.GATE_UP, Mux(record, Kind.RECORD_1, Kind.O)))
            with m.Case(Kind.GATE_UP):
                m.d.comb += self.after.eq(Kind.DOWN)
            if posts:
                with m.Case(Kind.DOWN):
                    m.d.comb += self.after.eq(Kind.POST_2)
            with m.Case(Kind.POST_2 if posts else Kind.DOWN):
                with m.If(record):
                    m.d.comb += self.after.eq(Kind.RECORD_1)
                with m.Elif(attends):
                    m.d.comb += self.after.eq(Kind.O)
                with m.Else():
                    m.d.comb += leaves.eq(1)
            with m.Case(Kind.RECORD_1):
                with m.If(attends):
                    m.d.comb += self.after.eq(Kind.O)
                with m.Else():
                    m.d.comb += leaves.eq(1)
            if posts:
                with m.Case(Kind.O):
                    m.d.comb += self.after.eq(Kind.POST_1)
            if two_norms:
                with m.Case(Kind.POST_1 if posts else Kind.O):
                    m.d.comb += self.after.eq(Kind.RECORD_2)
            with m.Case(Kind.RECORD_2 if two_norms else Kind.O):
                m.d.comb += leaves.eq(1)
            with m.Case(Kind.HEAD):
                m.d.comb += [self.after.eq(Kind.HEAD), self.last.eq(head_half | ~self.head[1])]
        with m.If(leaves):
            m.d.comb += self.after.eq(Mux(attends_next, Kind.QKV, Mux(mlp_next, Kind.GATE_UP, Kind.RECORD_1)))
            with m.If(done):
                m.d.comb += [self.after.eq(Kind.HEAD), self.last.eq(~self.head.any())]

        # of the half that attends the layer is round, or in an odd step the one before; of the other the MLP's is the one before
        of_mlp, record_1 = Signal(), kind == Kind.RECORD_1
        of_down = (kind == Kind.DOWN) | (kind == Kind.POST_2) if posts else kind == Kind.DOWN
        m.d.comb += [of_mlp.eq((kind == Kind.GATE_UP) | of_down),
                     self.layer.eq(Mux(record_1 | ~odd & ~of_mlp, round_, round_ - 1)), self.final.eq(record_1 & (round_ == layers)),
                     self.half.eq(Mux(kind == Kind.HEAD, head_half, odd ^ (of_mlp | record_1)))]
        with m.If(self.step):
            m.d.sync += kind.eq(self.after)
            with m.If(kind == Kind.HEAD):
                m.d.sync += head_half.eq(1)
            with m.Elif(leaves):
                m.d.sync += [odd.eq(~odd), round_.eq(round_ + ~odd), head_half.eq(~self.head[0])]
        with m.If(self.restart):
            m.d.sync += [kind.eq(Kind.RECORD_1), odd.eq(1), round_.eq(0), head_half.eq(0)]
        return m
