"""Dot products and weighted sums of FP8 codes, as attention makes them: exact, in stages under its enable."""
from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .fp8_dot import Product, add_carry, add_pairs, decode_operand, operand_layout
from .layouts import row_names
from .pipeline import Registers

__all__ = ["Dot", "Numerators", "WEIGHED", "operands_of", "row_stages", "row_sum", "summed", "tree_stages"]

#: Stage of attention's V stage in which a word meets its weights.
WEIGHED = 4


def summed(rows):
    """The stage behind which a word is in the sums, or the words of some rows are."""
    return 6 + row_stages(rows)


def row_stages(rows):
    """Registers in `row_sum`: one behind every two additions."""
    return -(-(rows.bit_length() - 1) // 2)


def row_sum(m, pipe, values, carries, name):
    """(value, carry) of the sum of such pairs (`hwgen.lib.fp8_dot.add_pairs`) of some rows, from a register on; of a
    single row it is that row's."""
    for stage in range(row_stages(len(values))):
        values, carries = add_pairs(m, values, carries, 2, f"{name}_rows{stage}")
        values, carries = (pipe.reg(list(x), name=f"{name}_{n}{stage}")
                           for n, x in (("rows", values), ("row_carry", carries)))
    (value,), (carry,) = values, carries
    return value, carry


class Dot(wiring.Component):
    """A query head's dot products: emitted once, one instance per query head of a group.

    Members
    -------
    advance : In(1)                 everything moves
    query : In(lanes codes)         stage 0
    operands : In                   stage 0: lanes decoded codes
    add, starts : In(1)             last stage: a word's sum is added to what its row has, or starts from 0
    dot : Out(signed)               the next cycle
    """

    def __init__(self, fmt, lanes, width):
        self._fmt, self._lanes, self._width = fmt, lanes, width
        super().__init__({"advance": In(1), "query": In(8 * lanes), "operands": In(lanes * operand_layout(fmt).size),
                          "add": In(1), "starts": In(1), "dot": Out(signed(width))})

    @property
    def module_name(self):
        return f"attention_dot_{self._fmt}_l{self._lanes}_w{self._width}"

    def elaborate(self, platform):
        m = Module()
        fmt, layout = self._fmt, operand_layout(self._fmt)
        pipe = Registers(m, self.advance)
        terms = [_product(m, pipe, Product(fmt, fmt), self.query.word_select(i, 8),
                          data.View(layout, self.operands.word_select(i, layout.size)), f"lane{i}")
                 for i in range(self._lanes)]
        value, carry = _sum(m, pipe, terms, "dot")
        total = Signal(signed(self._width), reset_less=True)
        with m.If(self.advance & self.add):
            m.d.sync += total.eq(add_carry(Mux(self.starts, 0, total), value, carry, self._width))
        m.d.comb += self.dot.eq(total)
        return m


class Numerators(wiring.Component):
    """A query head's weighted sums: emitted once, one instance per query head of a group.

    Members
    -------
    advance : In(1)                 everything moves
    weight : In(8 * rows)           a code of each row, stage WEIGHED
    operands : In                   stage WEIGHED: lanes decoded codes of each row
    add, clear : In(1)              stage `summed`: the products are added, or all sums start from 0
    turn : In(1)                    only with ``turns``, and without ``advance``: the next word's sums come first
    totals : Out                    words * lanes signed sums; those of the word that is added next come first
    """

    def __init__(self, fmt, kv, lanes, words, weight_max, bits, turns=False, rows=1):
        self._turns, self._rows = turns, rows
        self._fmt, self._kv, self._lanes, self._words = fmt, kv, lanes, words
        self._weight_max, self._bits = weight_max, bits
        super().__init__({"advance": In(1), "weight": In(8 * rows),
                          "operands": In(rows * lanes * operand_layout(kv).size),
                          "add": In(1), "clear": In(1), "totals": Out(words * lanes * bits),
                          **({"turn": In(1)} if turns else {})})

    @property
    def module_name(self):
        name = f"attention_numerators_{self._fmt}_{self._kv}_l{self._lanes}_p{self._words}_b{self._bits}"
        return name + "_t" * self._turns + (f"_r{self._rows}" if self._rows > 1 else "")

    def elaborate(self, platform):
        m = Module()
        layout, bits = operand_layout(self._kv), self._bits
        pipe = Registers(m, self.advance)
        product_bits = (self._weight_max * self._kv.max_int).bit_length() + 1
        words = [[] for _ in range(self._words)]
        for i in range(self._lanes):
            terms, carries = [], []
            for row, name in enumerate(row_names(f"lane{i}", self._rows)):
                operand = data.View(layout, self.operands.word_select(row * self._lanes + i, layout.size))
                term, carry = _product(m, pipe, Product(self._fmt, self._kv), self.weight.word_select(row, 8), operand,
                                       name)
                for many, n, x in ((terms, "term", term[:product_bits]), (carries, "carry", carry)):
                    many.append(pipe.reg(x, name=f"{name}_{n}"))
            term, carry = row_sum(m, pipe, terms, carries, f"lane{i}")
            totals = [Signal(signed(bits), name=f"lane{i}_total{w}") for w in range(self._words)]
            new = add_carry(totals[0], term, carry, bits)
            with m.If(self.advance & self.add):
                with m.If(self.clear):
                    m.d.sync += [total.eq(0) for total in totals]
                with m.Else():
                    m.d.sync += [total.eq(following) for total, following in zip(totals, [*totals[1:], new])]
            if self._turns:
                with m.Elif(self.turn):
                    m.d.sync += [total.eq(following) for total, following in zip(totals, [*totals[1:], totals[0]])]
            for word, total in zip(words, totals):
                word.append(total)
        m.d.comb += self.totals.eq(Cat(words))
        return m


def operands_of(m, codes, fmt, name):
    """Decoded codes, for `hwgen.lib.fp8_dot.Product`: combinational."""
    operands = [Signal(operand_layout(fmt), name=f"{name}{i}") for i, _ in enumerate(codes)]
    for operand, code in zip(operands, codes):
        m.d.comb += [operand[field].eq(value) for field, value in decode_operand(fmt, code).items()]
    return operands


def _product(m, pipe, product, code, operand, name):
    """(value, carry) of a product, from a register on: the product is their sum, and value signed."""
    bits, negative, shift = (pipe.reg(x, name=f"{name}_{n}") for n, x in
                             zip(("sig", "negative", "shift"), product.multiply(m, code, operand, name=name)))
    return product.align(m, bits, negative, shift, name=name), negative


def tree_stages(lanes):
    """Registers in `_sum`: one behind the first addition, then one behind every two more, but for the last."""
    return 1 + max(0, -(-max(0, lanes.bit_length() - 2) // 2) - 1)


def _sum(m, pipe, terms, name):
    """(value, carry) of the sum of such pairs: one addition, a register, then registers between every two more."""
    values, carries = [value for value, _ in terms], [carry for _, carry in terms]
    for stage in range(tree_stages(len(terms))):
        values, carries = add_pairs(m, values, carries[::-1], 2 if stage else 1, f"{name}_stage{stage}")
        values, carries = (pipe.reg(list(x), name=f"{name}_{n}{stage}")
                           for n, x in (("sum", values), ("carry", carries[::-1])))
    (value,), (carry,) = add_pairs(m, values, carries[::-1], 2, f"{name}_end")
    return value, carry
