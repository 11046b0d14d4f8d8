"""The output of `hwgen.units.attention`: weighted sums divided by the sum of their weights, as bf16."""
from typing import NamedTuple

from amaranth.hdl import Mux, Signal
from amaranth.lib import stream

from .pipeline import Pipeline
from .softmax import QUOTIENT_STAGES, quotient, reciprocal

__all__ = ["Division", "Hold", "Results"]


class Results(NamedTuple):
    """Of a job that ends.

    sums        of the weights, of each query head
    numerators  sums of the weighted rows, of each query head, word and lane
    top         the exponent of the numerators
    """
    sums: list
    numerators: list
    top: object


class Hold(NamedTuple):
    """The hand-over of `Results` to the output: it is ``free`` to take them; they are final, ``hand_over``. Where they
    wait in their place, ``free`` says that the output has had them all.

    ends        they are final, and wait for ``free``
    turns       of each query head: the sums of the next word are wanted; None where they are held
    """
    free: Signal
    hand_over: Signal
    ends: Signal
    turns: list | None


class Division:
    """What divides the `Results` of jobs and sends them to ``o``: `held` while the next ones are summed, or `in_place`.

    Parameters
    ----------
    o : stream              of `hwgen.units.attention.Attention`
    sizes, group            `KvSizes`, query heads of a K/V head
    fmt : Fp8               of keys and values
    numerator_bits : int    of the magnitude of a numerator
    weight_max : int        the largest weight: a sum has one at least
    """

    def __init__(self, o, *, sizes, group, fmt, numerator_bits, weight_max):
        self._o, self._sizes, self._group, self._fmt = o, sizes, group, fmt
        self._numerator_bits, self._weight_max = numerator_bits, weight_max

    def held(self, m, results, hold):
        """Sends granule after granule of a finished job through the division: a reciprocal, and beside it numerators to
        bf16; then their product."""
        held, valid = self._registers(results), Signal()
        source = stream.Signature(0).create()
        pipe = Pipeline(m, source, self._o, stages=QUOTIENT_STAGES, name="o_pipe")
        m.d.comb += [hold.free.eq(~valid), source.valid.eq(valid)]
        self._hold_results(m, results, held, valid, hold.hand_over, pipe.advance)
        self._quotients(m, pipe, held.numerators[:len(self._o.p.x)], held.sums[0], held.top)

    def in_place(self, m, results, hold):
        """The same from where the sums are: the word of a query head that comes first, a part of it after another."""
        v, words = len(self._o.p.x), self._sizes.words
        parts = self._sizes.lanes // v
        source, sent = stream.Signature(0).create(), Signal(name="sent")
        pipe = Pipeline(m, source, self._o, stages=QUOTIENT_STAGES, name="o_pipe")
        part, word, query = (Signal(range(count), name=name) for count, name in (
            (parts, "part_of_word"), (words, "word"), (self._group, "query")))
        goes, last_part, last_word, last_query = (Signal(name="goes"), part == parts - 1, word == words - 1,
                                                  query == self._group - 1)
        m.d.comb += [hold.free.eq(sent), source.valid.eq(hold.ends & ~sent), goes.eq(source.valid & pipe.advance),
                     *(turn.eq(goes & last_part & (query == g)) for g, turn in enumerate(hold.turns))]
        with m.If(goes):
            m.d.sync += part.eq(part + 1)
            with m.If(last_part):
                m.d.sync += [part.eq(0), word.eq(word + 1)]
                with m.If(last_word):
                    m.d.sync += [word.eq(0), query.eq(Mux(last_query, 0, query + 1)), sent.eq(last_query)]
        with m.If(hold.hand_over):
            m.d.sync += sent.eq(0)

        chosen = [Signal.like(x, name=f"chosen{i}") for i, x in enumerate(results.numerators[0][0][:v])]
        total = Signal.like(results.sums[0], name="chosen_sum")
        with m.Switch(query):
            for g, numerators in enumerate(results.numerators):
                with m.Case(g):
                    m.d.comb += total.eq(results.sums[g])
                    with m.Switch(part):
                        for k in range(parts):
                            with m.Case(k):
                                m.d.comb += [a.eq(b) for a, b in zip(chosen, numerators[0][k * v:(k + 1) * v])]
        self._quotients(m, pipe, chosen, total, results.top)

    def _quotients(self, m, pipe, numerators, total, top):
        """What goes out: V numerators divided by the sum of their weights."""
        divisor = reciprocal(m, pipe, total, self._weight_max)       # at least one weight
        unit = self._fmt.unit_exp + 127
        biased = pipe.reg(top + (unit + self._numerator_bits - 1), name="n_exponent", stages=2)
        for i, numerator in enumerate(numerators):
            m.d.comb += self._o.p.x[i].eq(quotient(m, pipe, numerator, self._numerator_bits, biased, divisor, i))

    def _registers(self, results):
        """For `Results`, with the numerators in one list: of the granule that is next first."""
        flat = [x for words in results.numerators for word in words for x in word]
        return Results([Signal.like(x, reset_less=True, name=f"held_sum{g}") for g, x in enumerate(results.sums)],
                        [Signal.like(x, reset_less=True, name=f"held{k}") for k, x in enumerate(flat)],
                        Signal.like(results.top, reset_less=True, name="held_top"))

    def _hold_results(self, m, results, held, valid, hand_over, advance):
        """Takes results and moves them on, a granule with each ``advance``.

        Until they are handed over, whatever is there is held: so a thousand registers do not wait for what decides.
        """
        v, granules = len(self._o.p.x), self._sizes.head_dim // len(self._o.p.x)
        granule, query = Signal(range(granules), name="granule"), Signal(range(self._group))
        last_granule, last_query = granule == granules - 1, query == self._group - 1
        flat = [x for words in results.numerators for word in words for x in word]
        with m.If(~valid):
            m.d.sync += [valid.eq(hand_over), held.top.eq(results.top),
                         *(a.eq(b) for a, b in zip(held.numerators, flat)),
                         *(a.eq(b) for a, b in zip(held.sums, results.sums))]
        with m.Elif(advance):
            m.d.sync += [a.eq(b) for a, b in zip(held.numerators, held.numerators[v:])]
            m.d.sync += granule.eq(granule + 1)
            with m.If(last_granule):
                m.d.sync += [granule.eq(0), query.eq(query + 1), *(a.eq(b) for a, b in zip(held.sums, held.sums[1:]))]
                with m.If(last_query):
                    m.d.sync += [query.eq(0), valid.eq(0)]
