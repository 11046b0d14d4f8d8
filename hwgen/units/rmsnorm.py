"""RMSNorm of residual rows into bf16 rows."""
import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.arith import (ADD_BF16_STAGES, add_bf16, constant_rom, leading_zeros, magnitude, round_bf16, shift_up,
                         unpack_bf16)
from ..lib.layouts import residual_read_layout, residual_row_layout
from ..lib.norm import inverse_root, normalized, one, reduced, rounded_product, tree_stages
from ..lib.pipeline import Link, Pipeline
from ..params.tables import norm_epsilon

__all__ = ["RmsNorm"]

_ONE = 0x3F80    # in bf16


class RmsNorm(wiring.Component):
    """Normalized rows of the residual, one command each.

    Reads a row twice: for its sum of squares, then to multiply it. Both sweeps and successive commands follow each
    other without a gap, because the second sweep's granules wait in a queue while the reciprocal square root is taken:
    with reads that are answered after R cycles, n commands that wait in line take ``R + 2 * n * hidden/V + adder tree +
    16`` cycles (`golden.rmsnorm.norm_cycles`).

    After a command with ``last`` none is taken until its ``done``, at which the gains are given up.

    With ``plain`` a command says whether its norm is a plain one: then its row is rounded to bf16 and nothing else, in
    the same cycles; the gains are taken as for any norm, and not looked at.

    With ``final_bias`` a command says whether it is of the final norm: then the bias is added to its row.
    It is to be taken at ``bias`` behind the gains, each time, and a granule waits until two of the bias beyond its own,
    or all, have been. Every row takes ``ADD_BF16_STAGES`` more cycles then; to the others 0 is added, which changes
    nothing.

    Parameters
    ----------
    entries : int               rows of the residual and of the result (T), at least 1
    vector_lanes : int          elements of a granule (V), a power of two
    hidden_size : int           elements of a row without padding, at least 1
    padded_hidden_size : int    elements of a row as stored: a multiple of ``vector_lanes``
    rms_norm_eps : float        added to the mean of the squares, above 0
    residual_fraction : int     fraction bits of the residual, 0 to 32
    plain : bool                some norms are plain (`Norm`)
    final_bias : bool           the final norm has a bias

    Members
    -------
    cmd : In(stream {entry, row, last})      normalize residual row ``entry`` into row ``row``; ``last`` of the phase;
                                             with ``plain`` and ``final_bias`` also the flags ``plain`` and ``final``
    read : Out(stream {entry, part})         requests of residual granules, answered in order at
    read_i : In(stream {x, mag})             int32 elements; ``mag``: OR over the whole row of x ^ (x >> 31)
    gain : In(stream {g, part})              bf16 gains, part 0 to the last; waits while gains are held
    bias : In(stream {x, part})              only with ``final_bias``: bf16, part 0 to the last; always ready
    gains_ready : Out(1)                     a whole vector of gains is held
    o : Out(stream {x, row, part})           bf16 elements
    done : Out(1)                            the cycle after the last granule of a command was taken at ``o``
    """
    def __init__(self, *, entries, vector_lanes, hidden_size, padded_hidden_size, rms_norm_eps, residual_fraction,
                 plain=False, final_bias=False):
        self._lanes, self._hidden_size, self._fraction = vector_lanes, hidden_size, residual_fraction
        self._epsilon = norm_epsilon(hidden_size, rms_norm_eps, residual_fraction)
        self._parts = padded_hidden_size // vector_lanes
        self._plain, self._final = plain, final_bias
        part, entry = range(self._parts), range(entries)
        granule = data.ArrayLayout(unsigned(16), vector_lanes)
        self._flags = [*(["plain"] if self._plain else []), *(["final"] if self._final else [])]
        command = {"entry": entry, "row": entry, "last": 1, **dict.fromkeys(self._flags, 1)}
        super().__init__({
            "cmd": In(stream.Signature(data.StructLayout(command))),
            "read": Out(stream.Signature(residual_read_layout(entries=entries, parts=self._parts))),
            "read_i": In(stream.Signature(residual_row_layout(vector_lanes=vector_lanes))),
            "gain": In(stream.Signature(data.StructLayout({"g": granule, "part": part}))),
            **({"bias": In(stream.Signature(data.StructLayout({"x": granule, "part": part})))} if self._final else {}),
            "gains_ready": Out(1),
            "o": Out(stream.Signature(data.StructLayout({"x": granule, "row": entry, "part": part}))),
            "done": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = commands = SyncFIFO(width=len(self.cmd.payload.row) + 1 + len(self._flags), depth=4)
        closing = Signal()                           # a command with `last` is on its way
        self._request(m, commands, closing)
        summing, taking, got = self._sort_answers(m, commands)
        first, end, factor = got == 0, got == self._parts - 1, Link("factor")
        # A command's first granule is there after the command itself.
        plain = [commands.r_data[-len(self._flags)]] if self._plain else []
        scale = self._factor(m, summing, Cat(first, end, *plain), factor)
        front, elements, tag = self._hold_row(m, taking, Cat(got, end, commands.r_data))
        joined = self._join(m, front, factor, tag)
        self._multiply(m, joined, elements, scale, tag, closing)
        return m

    def _tag(self, tag):
        """(Granule, it is its row's last, the command's ``last``, row) of what goes along with a granule; flags
        follow."""
        bits = len(self.gain.payload.part)
        return tag[:bits], tag[bits], tag[bits + 1], tag[bits + 2:len(tag) - len(self._flags)]

    def _request(self, m, commands, closing):
        """Requests: two sweeps per command. The queue ``commands`` tells the receiver what the answers belong to."""
        last_part = self._parts - 1
        active, again = Signal(name="active"), Signal()
        entry = Signal.like(self.cmd.payload.entry, reset_less=True)
        part = Signal(range(self._parts))
        finishing = Signal()
        m.d.comb += [
            self.read.valid.eq(active),
            self.read.payload.entry.eq(entry),
            self.read.payload.part.eq(part),
            finishing.eq(self.read.ready & again & (part == last_part)),
            self.cmd.ready.eq((~active | finishing) & commands.w_rdy & ~closing),
            commands.w_en.eq(self.cmd.valid & self.cmd.ready),
            commands.w_data.eq(Cat(self.cmd.payload.last, self.cmd.payload.row,
                               *(self.cmd.payload[flag] for flag in self._flags))),
        ]
        with m.If(active & self.read.ready):
            m.d.sync += part.eq(part + 1)
            with m.If(part == last_part):
                m.d.sync += [part.eq(0), again.eq(~again)]
        with m.If(commands.w_en):
            m.d.sync += [active.eq(1), entry.eq(self.cmd.payload.entry), closing.eq(self.cmd.payload.last)]
        with m.Elif(finishing):
            m.d.sync += active.eq(0)

    def _sort_answers(self, m, commands):
        """Answers go to the sum, then to the product: (`Link` to the one, to the other, number of the granule)."""
        summing, taking = Link("summing"), Link("taking")
        second = Signal()
        got = Signal(range(self._parts))
        end = got == self._parts - 1
        m.d.comb += [
            summing.valid.eq(self.read_i.valid & ~second),
            taking.valid.eq(self.read_i.valid & second & commands.r_rdy),
            self.read_i.ready.eq(Mux(second, taking.ready & commands.r_rdy, summing.ready)),
            commands.r_en.eq(self.read_i.valid & self.read_i.ready & second & end),
        ]
        with m.If(self.read_i.valid & self.read_i.ready):
            m.d.sync += got.eq(got + 1)
            with m.If(end):
                m.d.sync += [got.eq(0), second.eq(~second)]
        return summing, taking, got

    def _hold_row(self, m, taking, tag):
        """Granules as bf16 wait in a queue for the factor of their row, which comes 5 + tree cycles later: (`Link`,
        elements, tag)."""
        lanes = self._lanes
        converted, front = Link("converted"), Link("front")
        row = Pipeline(m, taking, converted, stages=4, name="row")
        elements = [self._to_bf16(m, row, x, f"x{i}") for i, x in enumerate(self.read_i.payload.x)]
        tag = row.reg(tag, name="tag", stages=4)
        m.submodules.queue = queue = SyncFIFO(width=16 * lanes + len(tag), depth=7 + tree_stages(lanes))
        m.d.comb += [queue.w_data.eq(Cat(*elements, tag)), queue.w_en.eq(converted.valid),
                     converted.ready.eq(queue.w_rdy)]
        leave = Pipeline(m, queue.r_stream, front, stages=1, name="leave")
        granule = leave.reg(queue.r_data, name="granule")
        return front, [granule[16 * i:16 * i + 16] for i in range(lanes)], granule[16 * lanes:]

    def _join(self, m, front, factor, tag):
        """The product starts when its row, its factor and the gains are there, and the bias if it has one: a `Link`."""
        part, row_end, *_ = self._tag(tag)
        joined, ready = Link("joined"), Signal()
        held = self.gains_ready
        if self._final:
            held = held & (~tag[-1] | self._bias_there(m, part))
        m.d.comb += [
            ready.eq(joined.ready & held),
            joined.valid.eq(front.valid & factor.valid & held),
            front.ready.eq(ready & factor.valid),
            factor.ready.eq(ready & front.valid & row_end),
        ]
        return joined

    def _gains(self, m, pipe, part):
        """(The gains of a granule, one stage later; one is written). They are held from the last one of a vector on."""
        m.submodules.gains = gains = Memory(shape=data.ArrayLayout(unsigned(16), self._lanes),
                                            depth=max(2, self._parts), init=[])
        write, read = gains.write_port(), gains.read_port()
        m.d.comb += [
            self.gain.ready.eq(~self.gains_ready),
            write.addr.eq(self.gain.payload.part),
            write.data.eq(self.gain.payload.g),
            write.en.eq(self.gain.valid & self.gain.ready),
            read.addr.eq(part),
            read.en.eq(pipe.advance),
        ]
        return read.data, write.en

    def _multiply(self, m, joined, elements, scale, tag, closing):
        """Rows times factor times gains, and a bias; with the last granule of the last row the gains are given up."""
        stages = 5 + (ADD_BF16_STAGES if self._final else 0)
        pipe = Pipeline(m, joined, self.o, stages=stages, name="product")
        gain, written = self._gains(m, pipe, self._tag(tag)[0])
        if self._plain:
            plain = pipe.reg(tag[-len(self._flags)], name="plain")
            gain = [Mux(plain, _ONE, g) for g in gain]
        if self._final:
            tag = pipe.reg(tag, name="tag_bias", stages=4)
            bias = self._bias(m, pipe, tag)
        tag = pipe.reg(tag, name="tag_o", stages=stages - 4 if self._final else 5)
        for i, x in enumerate(elements):
            y = self._product(m, pipe, x, *scale, gain[i], f"y{i}")
            m.d.comb += self.o.payload.x[i].eq(add_bf16(m, pipe, y, bias[i], name=f"sum{i}") if self._final else y)

        part, row_end, last, row = self._tag(tag)
        m.d.comb += [self.o.payload.part.eq(part), self.o.payload.row.eq(row)]
        m.d.sync += self.done.eq(self.o.valid & self.o.ready & row_end)
        with m.If(self.o.valid & self.o.ready & row_end & last):
            m.d.sync += [closing.eq(0), self.gains_ready.eq(0)]
        with m.If(written & (self.gain.payload.part == self._parts - 1)):
            m.d.sync += self.gains_ready.eq(1)

    def _bias_there(self, m, part):
        """Whether the bias of granule ``part``, which goes up by at most 1 in a cycle, has been taken since gains were
        last given up."""
        parts = self._parts
        count, there = Signal(range(parts + 1), name="bias_count"), Signal(name="bias_there")
        i = self.bias.payload
        # A register, for all that waits hangs on it: it is of the cycle before, and so looks one granule ahead.
        m.d.sync += there.eq((count == parts) | (count > part + 1))
        with m.If(self.bias.valid):
            m.d.sync += count.eq(i.part + 1)
        with m.Elif(~self.gains_ready):
            m.d.sync += count.eq(0)
        return there

    def _bias(self, m, pipe, tag):
        """V numbers of the bias, one stage after a granule's ``tag``; 0 where its norm is not the final one."""
        m.submodules.biases = biases = Memory(shape=self.bias.payload.x.shape(), depth=max(2, self._parts), init=[])
        write, read = biases.write_port(), biases.read_port()
        m.d.comb += [
            self.bias.ready.eq(1), write.en.eq(self.bias.valid), write.addr.eq(self.bias.payload.part),
            write.data.eq(self.bias.payload.x),
            read.en.eq(pipe.advance), read.addr.eq(tag[:len(self.gain.payload.part)]),
        ]
        final = pipe.reg(tag[-1], name="final")
        return [Mux(final, x, 0) for x in read.data]

    def _factor(self, m, i, flags, o):
        """From granules at ``i`` to the factor ``r * 2**(e - 14)`` of their row at ``o``; r has its bit 14 set.

        flags: whether a granule is its row's first, whether it is the last, and, if norms may be plain, whether this
        one is
        """
        k, fraction, lanes, epsilon = self._hidden_size, self._fraction, self._lanes, self._epsilon
        x, mag = self.read_i.payload.x, self.read_i.payload.mag

        sums = Link("sums")
        tree = tree_stages(lanes)
        pipe = Pipeline(m, i, sums, stages=5 + tree, name="square")
        # Stages 1, 2, 3: the shift that leaves 16 bits of the row's largest element: max(0, bit length of mag - 15).
        mag, x = pipe.reg(mag, name="mag"), pipe.reg([*x], name="square_x", stages=2)
        flags = pipe.reg(flags, name="square_front", stages=2)
        zeros, zero = pipe.reg(leading_zeros(m, mag, name="mag"), name="zeros")
        shift = pipe.reg(Mux(zero | (zeros > 16), 0, 16 - zeros)[:5], name="shift")
        flags = pipe.reg(flags, name="square_flags")
        # Stages 4, 5: q = x >> shift fits signed(16), so q * q is at most 2**30.
        q = [pipe.reg((pipe.reg(x[j], name=f"sum_x{j}") >> shift)[:16].as_signed(), name=f"q{j}") for j in range(lanes)]
        terms = [pipe.reg((v * v)[:31].as_unsigned(), name=f"square{j}") for j, v in enumerate(q)]
        term = reduced(pipe, terms, operator.add, name="tree")
        shift, flags = pipe.reg((shift, flags), name="square_tail", stages=2 + tree - 1)
        start = pipe.reg(constant_rom(m, [epsilon >> 2 * s for s in range(17)], shift, range(epsilon + 1),
                                      name="epsilon"), name="start")
        shift, flags = pipe.reg((shift, flags), name="square_end")

        # The sum of k squares and epsilon; offered when the row is complete.
        total = Signal(range(k * 2**30 + epsilon + 1), reset_less=True)
        whole = Link("whole")
        total_shift = Signal.like(shift, reset_less=True)
        total_plain = Signal(reset_less=True)
        # Nothing can be lost by waiting: behind a row's last sum comes at least one granule of its second sweep. And a
        # chain ends here.
        m.d.comb += sums.ready.eq(~whole.valid)
        with m.If(sums.ready & sums.valid):
            m.d.sync += [whole.valid.eq(flags[1]), total.eq(Mux(flags[0], start, total) + term), total_shift.eq(shift)]
            if self._plain:
                m.d.sync += total_plain.eq(flags[2])
        with m.Elif(whole.ready):
            m.d.sync += whole.valid.eq(0)

        # 1 / rms = sqrt(k) * 2**(fraction - shift) / sqrt(total). total is never 0.
        found = Link("found")
        pipe = Pipeline(m, whole, found, stages=4, name="rsqrt")
        y, exponent = inverse_root(m, pipe, total, total_shift, lengths=[k], base=fraction)
        if self._plain:                             # the factor is 1
            plain = pipe.reg(total_plain, name="rsqrt_plain", stages=4)
            y, exponent = Mux(plain, 1 << 14, y), Mux(plain, 0, exponent)
        # It stays until its row has passed, with the next one on its way.
        factor = (Signal(15, reset_less=True, name="factor"),
                  Signal(exponent.shape(), reset_less=True, name="factor_exponent"))
        m.d.comb += found.ready.eq(~o.valid)
        with m.If(found.ready):
            m.d.sync += [o.valid.eq(found.valid), factor[0].eq(y), factor[1].eq(exponent)]
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)
        return factor

    def _to_bf16(self, m, pipe, x, name):
        sign, mag = pipe.reg(magnitude(m, x, name=name), name=f"{name}_1")
        zeros, zero = leading_zeros(m, mag, name=name)
        sign, mag, zeros, zero = pipe.reg((sign, mag, zeros, zero), name=f"{name}_2")
        biased = Const(127 + 31 - self._fraction) - zeros
        top, sticky = shift_up(m, mag, zeros, 9, name=name)
        sign, top, sticky, biased, zero = pipe.reg((sign, top, sticky, biased, zero), name=f"{name}_3")
        y = round_bf16(m, sign, top, biased, zero=zero, sticky=sticky, name=name)
        return pipe.reg(y, name=f"{name}_4")

    def _product(self, m, pipe, x, r, e, gain, name):
        """bf16(bf16(x * r * 2**(e - 14)) * gain); the gain comes one stage later."""
        x = unpack_bf16(x)
        sign, exponent, value, zero = pipe.reg((x.sign, x.exponent + e, one(x) * r, x.zero), name=f"{name}_1")
        a = _inside(m, sign, *normalized(value, exponent), zero, f"{name}_a")
        a, g = unpack_bf16(pipe.reg(a, name=f"{name}_2")), unpack_bf16(pipe.reg(gain, name=f"{name}_gain"))
        exponent, value = a.exponent + g.exponent - 127, one(a) * one(g)
        return rounded_product(m, pipe, a.sign ^ g.sign, exponent, value, a.zero | g.zero, name=name, first=3)


def _inside(m, sign, value, exponent, zero, name):
    """`round_bf16` for x times the factor, whose exponent is never near the ends of the range.

    |x| / rms is at most sqrt(hidden_size), and at least 2**-31 or, where epsilon decides, 2**-24 / sqrt(epsilon).
    """
    fraction, guard, rest = value[-8:-1], value[-9], value[:-9]
    packed = Signal(15, name=f"{name}_packed")
    m.d.comb += packed.eq(Cat(fraction, exponent[:8]) + (guard & (rest.any() | fraction[0])))
    return Mux(zero, 0, Cat(packed, sign))
