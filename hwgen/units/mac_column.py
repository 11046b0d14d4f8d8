"""A column of the MAC array: an exact dot product of L lanes per cycle; and a pair of them."""
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.fp8_dot import PairedProduct, Product, add_carry, add_pairs, fixed_point, operand_layout
from ..lib.layouts import SHIFT_BITS

__all__ = ["Column", "ColumnPair", "middle_stages"]

_LEVELS = 2      # adder levels per pipeline stage behind the first


def middle_stages(lanes):
    """Stages between the first adder level and the accumulator's stage."""
    levels = max(0, lanes.bit_length() - 2)
    return max(0, -(-levels // _LEVELS) - 1)


def _register(m, value, name):
    signal = Signal(len(value), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal


class Column(wiring.Component):
    """One column: its weights, L products, their sum, accumulators of T entries and R finished sums.

    An operation per cycle. What is at ``x`` in cycle t meets the weights of that cycle and accumulates in cycle t +
    stages - 1, its *end*; if its sum is kept, that can be read from cycle t + stages on. All control comes from
    outside, already delayed: `MacArray` has one copy of it for all columns. No register has a reset.

    Parameters
    ----------
    weight, activation : Fp8
    lanes : int                     a power of two
    entries, rows : int             accumulators (T) and finished sums (R)
    acc_bits : int
    shifts : bool                   sums of products are shifted to the left, in a stage more
    multipliers : bool              products by wide multipliers, which an FPGA has, instead of logic: the same sums in
                                    the same cycles

    Members
    -------
    load : In(1), tile : In(L codes)    replaces the weights, from the next cycle on
    x : In(operand_layout) * L          decoded codes (`hwgen.lib.fp8_dot`); with ``multipliers`` instead of it
    fixed : In(signed) * L              ... their values in fixed point (`hwgen.lib.fp8_dot.fixed_point`)
    enable : In(1)                      at an operation's end: accumulate
    first : In(1)                       at its end: the sum starts from 0. If T = 1, one cycle before the end
    entry : In(range(T))                at its end
    shift : In(SHIFT_BITS)              with ``shifts``: one cycle before its end
    keep : In(1), row : In(range(R))    at its end: the sum is finished and goes to this row
    read_row : In(range(R))
    sum : Out(signed(acc_bits))         of ``read_row``, in the same cycle
    """

    def __init__(self, *, weight, activation, lanes, entries, rows, acc_bits, multipliers=False, shifts=False):
        if lanes < 1 or lanes & (lanes - 1):
            raise ValueError(f"Lane count must be a power of two, at least 1, not {lanes}")
        if acc_bits < weight.accumulator_bits(activation, lanes):
            raise ValueError(f"Accumulator must have at least {weight.accumulator_bits(activation, lanes)} bits for "
                             f"{lanes} lanes, not {acc_bits}")
        self._weight, self._activation, self._lanes = weight, activation, lanes
        self._entries, self._rows, self._acc_bits = entries, rows, acc_bits
        self._stages, self._multipliers, self._shifts = 3 + middle_stages(lanes) + shifts, multipliers, shifts
        super().__init__({
            "load": In(1),
            "tile": In(weight.bits * lanes),
            **({"fixed": In(signed(activation.int_bits + 1)).array(lanes)} if multipliers else
               {"x": In(operand_layout(activation)).array(lanes)}),
            "enable": In(1),
            "first": In(1),
            "entry": In(range(entries)),
            **({"shift": In(SHIFT_BITS)} if shifts else {}),
            "keep": In(1),
            "row": In(range(rows)),
            "read_row": In(range(rows)),
            "sum": Out(signed(acc_bits)),
        } | self._own_members())

    def _own_members(self):
        """Those that are others than a column's."""
        return {}

    @property
    def module_name(self):
        """Says all parameters, for `hwgen.lib.verilog.shared`."""
        return (f"mac_column_{self._weight}_{self._activation}_l{self._lanes}_t{self._entries}_r{self._rows}"
                f"_a{self._acc_bits}{'_dsp' if self._multipliers else ''}{'_shift' if self._shifts else ''}")

    @property
    def stages(self):
        """Cycles from an operation's operands to the first in which its sum can be read."""
        return self._stages

    def _active(self, m, value, name):
        """What a weight is until the next tile comes."""
        signal = Signal(value.shape(), name=name, reset_less=True)
        with m.If(self.load):
            m.d.sync += signal.eq(value)
        return signal

    def elaborate(self, platform):
        m = Module()
        lanes = range(self._lanes)
        values, signs = [], []
        if self._multipliers:
            # Weights are shifted as they are loaded, so that nothing stands before a multiplier but registers.
            width = self._weight.int_bits + self._activation.int_bits + 1
            for i in lanes:
                code = self.tile.word_select(i, self._weight.bits)
                weight = self._active(m, fixed_point(self._weight, code).as_signed(), f"lane{i}_weight")
                values.append(_register(m, (weight * self.fixed[i])[:width], f"lane{i}_product"))
            signs = [Const(0, 1)] * self._lanes
        else:
            product, weights = Product(self._weight, self._activation), self._active(m, self.tile, "weights")
            for i in lanes:
                parts = product.multiply(m, weights.word_select(i, self._weight.bits), self.x[i], name=f"lane{i}")
                magnitude, negative, shift = (_register(m, part, f"lane{i}_{name}_r")
                                              for part, name in zip(parts, ("magnitude", "negative", "shift")))
                values.append(product.align(m, magnitude, negative, shift, name=f"lane{i}"))
                signs.append(negative)
        self._accumulate(m, values, signs, self.sum)
        return m

    def _accumulate(self, m, values, signs, sum, prefix=""):
        """The tree behind the products, accumulators and finished sums of one column. ``prefix`` of its names."""
        levels = 1      # in this stage
        for stage in range(1, self._stages - 1 - self._shifts):
            values, signs = add_pairs(m, values, signs, levels, f"{prefix}stage{stage}")
            values = [_register(m, value, f"{prefix}stage{stage}_sum{i}") for i, value in enumerate(values)]
            if not self._multipliers:
                signs = [_register(m, sign, f"{prefix}stage{stage}_sign{i}") for i, sign in enumerate(signs)]
            levels = _LEVELS
        (value,), (sign,) = add_pairs(m, values, signs, levels, f"{prefix}stage{self._stages - 1}")
        if self._shifts:
            # A negative sum is a complement whose carry is still to come: what is shifted in is that carry.
            shifted = value.as_signed()
            for bit in range(SHIFT_BITS):
                wide = Signal(self._acc_bits, name=f"{prefix}shifted{bit}")
                m.d.comb += wide.eq(Mux(self.shift[bit], Cat(sign.replicate(1 << bit), shifted).as_signed(), shifted))
                shifted = wide.as_signed()
            value = _register(m, shifted, f"{prefix}shifted").as_signed()
            sign = _register(m, sign, f"{prefix}shifted_sign")

        total = Signal(self._acc_bits, name=f"{prefix}total")
        if self._entries == 1:
            # Cleared by the next sum's start, which synthesis makes the register's own synchronous reset.
            acc = Signal(self._acc_bits, name=f"{prefix}acc", reset_less=True)
            with m.If(self.enable):
                m.d.sync += acc.eq(total)
            with m.If(self.first):
                m.d.sync += acc.eq(0)
        else:
            m.submodules[f"{prefix}accs"] = accs = Memory(shape=unsigned(self._acc_bits), depth=self._entries, init=[])
            read, write = accs.read_port(domain="comb"), accs.write_port()
            acc = Signal(self._acc_bits, name=f"{prefix}acc")
            m.d.comb += [read.addr.eq(self.entry), acc.eq(Mux(self.first, 0, read.data)),
                         write.addr.eq(self.entry), write.data.eq(total), write.en.eq(self.enable)]
        m.d.comb += total.eq(add_carry(acc, value, sign, self._acc_bits))

        m.submodules[f"{prefix}ring"] = ring = Memory(shape=unsigned(self._acc_bits), depth=self._rows, init=[])
        read, write = ring.read_port(domain="comb"), ring.write_port()
        m.d.comb += [write.addr.eq(self.row), write.data.eq(total), write.en.eq(self.keep),
                     read.addr.eq(self.read_row), sum.eq(read.data)]


class ColumnPair(Column):
    """Two columns that share their multipliers (`hwgen.lib.fp8_dot.PairedProduct`): sums and cycles of two of `Column`.

    Parameters and members are those of a column, but for these:

    tile : In(2 * L codes)              of the one column, then of the other
    x : In(PairedProduct.layout) * L
    sum : Out(signed(acc_bits)) * 2
    """

    def _own_members(self):
        return {"tile": In(2 * self._weight.bits * self._lanes), "x": In(self._product.layout).array(self._lanes),
                "sum": Out(signed(self._acc_bits)).array(2)}

    @property
    def _product(self):
        return PairedProduct(self._weight, self._activation)

    @property
    def module_name(self):
        return f"{super().module_name}_pair"

    def elaborate(self, platform):
        m = Module()
        product, terms = self._product, ([], [])
        for i in range(self._lanes):
            weights = []
            for c in range(2):
                parts = product.weight(self.tile.word_select(c * self._lanes + i, self._weight.bits))
                weights.append([self._active(m, part, f"column{c}_lane{i}_{name}")
                                for part, name in zip(parts, ("sig", "own", "sign"))])
            magnitudes = product.multiply(m, [sig for sig, _, _ in weights], self.x[i], name=f"lane{i}")
            for c, (magnitude, (_, own, sign)) in enumerate(zip(magnitudes, weights)):
                name = f"column{c}_lane{i}"
                magnitude = _register(m, magnitude, f"{name}_magnitude")
                negative = _register(m, sign ^ self.x[i].negative, f"{name}_negative")
                shift = _register(m, product.shift(m, own, self.x[i], name=name), f"{name}_shift")
                terms[c].append((product.align(m, magnitude, negative, shift, name=name), negative))
        for c, of_column in enumerate(terms):
            self._accumulate(m, *zip(*of_column), self.sum[c], prefix=f"column{c}_")
        return m
