"""Rotary position embedding, and the engine that makes its angles."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.arith import leading_zeros, magnitude, rne_shift, round_bf16, shift_up, unpack_bf16
from ..lib.pipeline import Pipeline
from ..params.tables import ROPE_BLOCK

__all__ = ["Rope"]

_PAIR = data.StructLayout({"cos": signed(16), "sin": signed(16)})      # Q1.14


class Rope(wiring.Component):
    """Turns K and Q heads by the angles of their entries' positions; V heads pass unchanged and in order.

    The rotation is a pipeline of 8 stages, a granule per cycle. The angles of an entry come from one complex
    multiplier, a pair per cycle: n commands that wait in line take ``n * head_dim/2 + 6`` cycles
    (`golden.rope.angle_cycles`). Angles must be complete (``angle_done``) before a granule of their entry comes, and
    stay until overwritten.

    Of several RoPEs a command makes all angles, one after the other, and ``rope`` says by which a granule is turned.
    Without any there are neither tables nor multipliers, and a command is done in the cycle after it was taken.

    Parameters
    ----------
    heads : Heads
    context : int       positions, at least 1
    factors : tuple     the (low, high) tables of `rope_factors`, as long as ``context`` needs, whose rows have
                        ``head_dim / 2`` pairs of each RoPE, one RoPE after the other; of no RoPE they are empty
    straight : bool     some layers have no RoPE: their granules pass unchanged

    Members
    -------
    angle : In(stream {entry, position, last})   make the angles of an entry
    angle_done : Out(1)                          those of the command with ``last`` can be used
    i : In(stream of `Heads.layout`)             bf16, pairs side by side
    o : Out(stream of `Heads.layout`)            the same granules, turned
    rope : In                                    only with several RoPEs: number of the one that turns the granule which
                                                 is taken
    turn : In(1)                                 only with ``straight``, unless there is no RoPE: whether the granule
                                                 which is taken is turned
    """
    def __init__(self, *, heads, context, factors, straight=False):
        self._heads, self._factors = heads, factors
        self._ropes = len(factors[0][0]) // (heads.head_dim // 2)
        super().__init__({
            "angle": In(stream.Signature(data.StructLayout({
                "entry": range(heads.entries), "position": range(context), "last": 1}))),
            "angle_done": Out(1),
            "i": In(stream.Signature(heads.layout)),
            "o": Out(stream.Signature(heads.layout)),
            **({"rope": In(range(self._ropes))} if self._ropes > 1 else {}),
            **({"turn": In(1)} if self._ropes and straight else {}),
        })

    def elaborate(self, platform):
        m = Module()
        lanes, entries = self._heads.vector_lanes, self._heads.entries
        part_bits = (self._heads.parts - 1).bit_length()
        if not self._ropes:
            pipe = Pipeline(m, self.i, self.o, stages=8)
            m.d.comb += [self.o.payload.eq(pipe.reg(self.i.payload, name="passed", stages=8)), self.angle.ready.eq(1)]
            m.d.sync += self.angle_done.eq(self.angle.valid & self.angle.payload.last)
            return m

        table_bits = (self._ropes - 1).bit_length()
        # Row: the granule's pairs, of each RoPE. Padding pairs are never written: they stay (0, 0), and so do padding
        # elements.
        m.submodules.angles = angles = Memory(shape=data.ArrayLayout(_PAIR, lanes // 2),
                                              depth=max(2, entries << part_bits + table_bits),
                                              init=[])
        write, read = angles.write_port(granularity=1), angles.read_port()
        self._make_angles(m, write, part_bits)

        i, o = self.i.payload, self.o.payload
        pipe = Pipeline(m, self.i, self.o, stages=8)
        rope = [self.rope] if self._ropes > 1 else []
        m.d.comb += [read.addr.eq(Cat(i.part, Const(0, part_bits - len(i.part)), *rope, i.entry)),
                     read.en.eq(pipe.advance)]
        plain = self._heads.is_value(i.head)
        if "turn" in self.signature.members:
            plain = plain | ~self.turn
        plain = pipe.reg(plain, name="plain", stages=7)
        for p in range(lanes // 2):
            turned = self._turn(m, pipe, i.x[2 * p], i.x[2 * p + 1], read.data[p], f"p{p}")
            for k, bits in enumerate(turned):
                x = pipe.reg(i.x[2 * p + k], name=f"x{2 * p + k}", stages=7)
                m.d.comb += o.x[2 * p + k].eq(pipe.reg(Mux(plain, x, bits), name=f"y{2 * p + k}"))
        tag = Cat(i.entry, i.head, i.part, i.last)
        m.d.comb += Cat(o.entry, o.head, o.part, o.last).eq(pipe.reg(tag, name="tag", stages=8))
        return m

    def _turn(self, m, pipe, a, b, angle, name):
        """The turned pair before its last register. ``angle`` comes one stage later than ``a`` and ``b``."""
        # Stage 1: how far the smaller element is below the larger one.
        a, b = unpack_bf16(a), unpack_bf16(b)
        above, below = a.exponent - b.exponent, b.exponent - a.exponent
        largest = pipe.reg(Mux(below > 0, b.exponent, a.exponent), name=f"{name}_largest")
        terms = []
        for x, gap, key in ((a, below, "a"), (b, above, "b")):
            gap = Mux(gap < 0, 0, Mux(gap > 16, 16, gap))[:5]       # 16 places leave nothing
            sign, value, gap = pipe.reg((x.sign, x.significand, gap), name=f"{name}_{key}_1")
            # Stage 2: integers of 16 bits and a sign, in units of 2**(largest - 127 - 15).
            value = (Cat(Const(0, 8), value) >> gap)[:16]
            terms.append(pipe.reg(Mux(sign, -value, value)[:17].as_signed(), name=f"{name}_{key}_2"))
        cos, sin = pipe.reg((angle.cos, angle.sin), name=f"{name}_angle")
        # Stages 3, 4: below 2**16 * 2**14 each, so a sum fits signed(32).
        a, b = terms
        ac, bs, bc, as_ = (pipe.reg(x * y, name=f"{name}_{key}")
                           for x, y, key in ((a, cos, "ac"), (b, sin, "bs"), (b, cos, "bc"), (a, sin, "as")))
        sums = [pipe.reg(value[:32].as_signed(), name=f"{name}_{key}")
                for value, key in ((ac - bs, "a_4"), (bc + as_, "b_4"))]
        # Stages 5 to 8: to bf16. Bit 30 of the magnitude has the weight 2**(largest - 127 - 15 - 14 + 30).
        largest = pipe.reg(largest, name=f"{name}_largest_6", stages=5)
        out = []
        for value, key in zip(sums, ("a", "b")):
            sign, value = pipe.reg(magnitude(m, value, name=f"{name}_{key}"), name=f"{name}_{key}_5")
            value = value[:31]
            zeros, zero = leading_zeros(m, value, name=f"{name}_{key}")
            sign, value, zeros, zero = pipe.reg((sign, value, zeros, zero), name=f"{name}_{key}_6")
            top, sticky = shift_up(m, value, zeros, 9, name=f"{name}_{key}")
            sign, top, sticky, biased, zero = pipe.reg((sign, top, sticky, largest + 1 - zeros, zero),
                                                       name=f"{name}_{key}_7")
            out.append(round_bf16(m, sign, top, biased, zero=zero, sticky=sticky, name=f"{name}_{key}"))
        return out

    def _factor_tables(self, m):
        """Read ports of the two tables whose factors a position's angle is made of: by its low and its high bits."""
        factor = data.StructLayout({"cos": signed(18), "sin": signed(18)})       # Q1.16: ±2**16
        tables = []
        for name, rows in zip(("low", "high"), self._factors):
            init = [{"cos": c, "sin": s} for row in rows for c, s in row]
            m.submodules[name] = table = Memory(shape=factor, depth=max(2, len(init)), init=init)
            tables.append(table.read_port())
        return tables

    def _make_angles(self, m, write, part_bits):
        lanes, pairs = self._heads.vector_lanes, self._heads.head_dim // 2
        lane_bits = (lanes // 2 - 1).bit_length()
        block_bits = (ROPE_BLOCK - 1).bit_length()
        tables = self._factor_tables(m)

        # A command loads the addresses of the tables' rows, which then count through the pairs, of one RoPE after the
        # other.
        width = self._ropes * pairs
        active, pair = Signal(name="active"), Signal(range(pairs))
        entry = Signal.like(self.angle.payload.entry, reset_less=True)
        last = Signal(reset_less=True)
        end, which = pair == pairs - 1, []
        if self._ropes > 1:
            rope = Signal(range(self._ropes))
            last_pair, end, which = end, end & (rope == self._ropes - 1), [rope]
        m.d.comb += self.angle.ready.eq(~active | end)
        with m.If(active):
            m.d.sync += [table.addr.eq(table.addr + 1) for table in tables]
            m.d.sync += pair.eq(pair + 1)
            if which:
                with m.If(last_pair):
                    m.d.sync += [pair.eq(0), rope.eq(Mux(end, 0, rope + 1))]
        with m.If(self.angle.ready):
            m.d.sync += [active.eq(self.angle.valid), pair.eq(0), entry.eq(self.angle.payload.entry),
                         last.eq(self.angle.payload.last)]
            position = self.angle.payload.position
            m.d.sync += [tables[0].addr.eq(position[:block_bits] * width),
                         tables[1].addr.eq(position[block_bits:] * width)]

        def later(value, stages, name):
            for k in range(stages):
                register = Signal(Cat(value).shape(), name=f"{name}_{k + 1}")
                m.d.sync += register.eq(value)
                value = register
            return value

        def register(value, name):
            signal = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += signal.eq(value)
            return signal

        # a block memory's output and a multiplier are too much for one stage
        lc, ls, hc, hs = (register(table.data[f], f"{name}_{f}") for name, table in zip(("low", "high"), tables)
                          for f in ("cos", "sin"))
        cc, ss, sc, cs = (register(a * b, name) for a, b, name in ((hc, lc, "cc"), (hs, ls, "ss"), (hs, lc, "sc"),
                                                                   (hc, ls, "cs")))
        cos, sin = register(cc - ss, "cos_sum"), register(sc + cs, "sin_sum")
        # Each factor is within 1/sqrt(2) of 2**16 at the unit circle, so the product is within 92682 of 2**32, which is
        # less than 2**17: the rounded result is at most 2**14, and nothing has to be clipped.
        cos, sin = (register(rne_shift(m, x, 18, name=n)[:16].as_signed(), n) for x, n in ((cos, "cos"), (sin, "sin")))
        valid, done = later(active, 5, "made"), later(active & end & last, 6, "made_last")
        part = pair[lane_bits:]
        row = later(Cat(part, Const(0, part_bits - len(part)), *which, entry), 5, "row")
        column = later(pair[:lane_bits], 5, "column") if lane_bits else Const(0)
        m.d.comb += [write.addr.eq(row), write.en.eq(valid << column), self.angle_done.eq(done)]
        m.d.comb += [write.data[k].as_value().eq(Cat(cos, sin)) for k in range(lanes // 2)]
