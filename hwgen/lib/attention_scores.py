"""The K stage of `hwgen.units.attention`: a score for each row and query head, with their maximum."""
from typing import NamedTuple

from amaranth.hdl import Cat, Mux, Signal, signed
from amaranth.lib import stream

from ..params.tables import SCORE_BITS, SCORE_FRACTION
from .attention_sums import Dot, operands_of, tree_stages
from .layouts import EXP_BITS, row_names
from .pipeline import Pipeline
from .ram import BlockRam
from .softcap import SOFTCAP_STAGES, softcap
from .softmax import SCORE_STAGES, score, score_amount
from .verilog import shared

__all__ = ["Job", "score_rows"]


class Job(NamedTuple):
    """What the K stage hands on of a job, which waits for the V stage as long as ``pending``.

    maxima, top         the largest score of each query head; the largest exponent of a V row
    last_row            the number of rows, or of groups of rows, less one
    bank                half of the memories in which the job is
    memories, exponents BlockRams of the scores, one for each query head, and of the exponents of V rows; of groups of
                        rows with a bit behind them for each row, that it counts
    begins              the next job's queries become current, in this cycle
    """
    pending: object
    maxima: list
    top: object
    last_row: object
    bank: object
    memories: list
    exponents: object
    begins: object


class _Queries(NamedTuple):
    """Of the K stage's job: a row of K is taken only while it is there.

    have        it is there
    words       of each query head those of a row, the one that is next first
    exponents   of each query head
    part        number of the word that is next
    swap        the next job's become current, in this cycle
    """
    have: Signal
    words: list
    exponents: list
    part: Signal
    swap: Signal


def _load(m, sizes, group, q_i, swap):
    """Collects the queries of a job. Returns (complete, words [G][W], exponents [G]); free again after ``swap``."""
    per_head, words = sizes.words, group * sizes.words
    codes = [Signal(8 * sizes.lanes, reset_less=True, name=f"next_q{k}") for k in range(words)]
    exps = [Signal(signed(EXP_BITS), reset_less=True, name=f"next_q_exp{k}") for k in range(words)]
    count, complete = Signal(range(words), name="count"), Signal()
    m.d.comb += q_i.ready.eq(~complete)
    with m.If(q_i.valid & q_i.ready):      # the last word comes in at the end; the others move up
        m.d.sync += [count.eq(Mux(count == words - 1, 0, count + 1)), complete.eq(count == words - 1)]
        for chain, new in ((codes, q_i.p.codes.as_value()), (exps, q_i.p.exp)):
            m.d.sync += [register.eq(following) for register, following in zip(chain, [*chain[1:], new])]
    with m.If(swap):
        m.d.sync += complete.eq(0)
    return complete, [codes[g * per_head:(g + 1) * per_head] for g in range(group)], exps[per_head - 1::per_head]


def _current(m, sizes, group, q_i, k):
    """The `_Queries` of the job whose rows come; the next job's are taken in the cycle of its last row, if they are
    complete."""
    swap, have = Signal(name="swap"), Signal()
    complete, loaded, loaded_exps = _load(m, sizes, group, q_i, swap)
    q = [[Signal.like(word, name=f"q{g}_{w}") for w, word in enumerate(words)] for g, words in enumerate(loaded)]
    q_exp = [Signal.like(exp, name=f"q_exp{g}") for g, exp in enumerate(loaded_exps)]
    taken = Signal()
    m.d.comb += [taken.eq(k.valid & k.ready), swap.eq(complete & (~have | taken & k.p.last))]
    with m.If(taken):               # words of a row come in turn: the one that is next stands first
        m.d.sync += [word.eq(following) for words in q
                     for word, following in zip(words, [*words[1:], words[0]]) if sizes.words > 1]
    with m.If(swap):
        m.d.sync += [have.eq(1), Cat(q).eq(Cat(loaded)), Cat(q_exp).eq(Cat(loaded_exps))]
    with m.Elif(taken & k.p.last):
        m.d.sync += have.eq(0)
    part = Signal(range(sizes.words))
    with m.If(taken):
        m.d.sync += part.eq(Mux(part == sizes.words - 1, 0, part + 1))
    return _Queries(have, q, q_exp, part, swap)


def score_rows(m, q_i, k, take, *, sizes, group, fmt, groups_seen, score_cap):
    """The K stage: ``group`` queries at ``q_i`` meet rows at ``k``, both in format ``fmt``. Products, their sum, the
    score, its softcap where there is a ``score_cap``, the largest of the rows that come at once, then the memories of
    ``groups_seen`` such groups of rows.

    Gives a `Job`, which waits for the V stage to ``take`` it. A word of a row is taken in each cycle in which the job
    before does not wait.
    """
    lanes, rows = sizes.lanes, sizes.rows
    queries = _current(m, sizes, group, q_i, k)
    dot_stages = 1 + tree_stages(lanes) + 1
    enter, final = stream.Signature(0).create(), stream.Signature(0).create()
    scored = dot_stages + SCORE_STAGES + (SOFTCAP_STAGES if score_cap else 0)
    pipe = Pipeline(m, enter, final, stages=scored + sizes.row_bits, name="k_pipe")
    m.d.comb += [enter.valid.eq(k.valid & queries.have), k.ready.eq(enter.ready & queries.have)]
    row_end = pipe.reg(queries.part == sizes.words - 1, name="k_row_end", stages=pipe.stages)
    last = pipe.reg(k.p.last, name="k_last", stages=pipe.stages)
    v_exps = [pipe.reg(exp, name=name, stages=scored) for name, exp in zip(row_names("k_v_exp", rows),
                                                                            _of_rows(k.p.v_exp, rows))]
    seen = pipe.reg(k.p.seen, name="k_seen", stages=scored) if rows > 1 else None
    starts = pipe.reg(queries.part == 0, name="k_starts", stages=dot_stages - 1)

    operands = operands_of(m, k.p.codes, fmt, "k")
    width = fmt.accumulator_bits(fmt, sizes.head_dim)
    scores = []
    for g in range(group):
        scores.append([])
        for row, (exp, name) in enumerate(zip(_of_rows(k.p.exp, rows), row_names(str(g), rows))):
            unit = Dot(fmt, lanes, width)
            m.submodules[f"dot{name}"] = shared(unit, unit.module_name)
            m.d.comb += [unit.advance.eq(pipe.advance), unit.add.eq(pipe.valid[dot_stages - 1]), unit.starts.eq(starts),
                         unit.query.eq(queries.words[g][0]),
                         unit.operands.eq(Cat(operands[row * lanes:(row + 1) * lanes]))]
            # S = floor(dot * 2**(left - 1) + 1/2), left from the exponents
            left = pipe.reg(queries.exponents[g] + exp, name=f"exponent{name}") + (2 * fmt.unit_exp + SCORE_FRACTION
                                                                                  + 1)
            amount = pipe.reg(score_amount(m, left, width, f"score{name}"), name=f"amount{name}", stages=dot_stages - 1)
            found = score(m, pipe, unit.dot, amount, f"score{name}")
            scores[g].append(softcap(m, pipe, score_cap, found, name=f"capped{name}") if score_cap else found)
    scores = [_largest(m, pipe, values, SCORE_BITS, seen, f"score{g}") for g, values in enumerate(scores)]
    v_exp = _largest(m, pipe, v_exps, EXP_BITS, seen, "k_v_exp")
    if rows > 1:
        v_exp = v_exp._replace(stored=Cat(v_exp.stored, pipe.reg(seen, name="stored_seen", stages=sizes.row_bits)))
    return _store(m, groups_seen, final, scores, v_exp, row_end, last, take, queries.swap)


def _of_rows(value, rows):
    """[that of each row] of a field of a K row, or of several."""
    return [value] if rows == 1 else [value[row] for row in range(rows)]


class _Found(NamedTuple):
    """What is kept of the rows that come at once: their values, and the largest of those that count."""
    stored: object
    largest: object


def _largest(m, pipe, values, bits, seen, name):
    """`_Found` of the values of some rows, each stored in so many ``bits``, a stage later for each comparison that
    follows another. ``seen``: which rows count, one of them at least."""
    if len(values) == 1:
        return _Found(values[0], values[0])
    levels = len(values).bit_length() - 1
    stored = Cat(Cat(kept, kept[-1].replicate(bits - len(kept))) for kept in (
        pipe.reg(value, name=f"{name}_stored{row}", stages=levels) for row, value in enumerate(values)))
    found = [(value, seen[row]) for row, value in enumerate(values)]
    for level in range(levels):
        pairs, found = zip(found[::2], found[1::2]), []
        for number, ((a, a_counts), (b, b_counts)) in enumerate(pairs):
            better = Signal.like(a, name=f"{name}_better{level}_{number}")
            m.d.comb += better.eq(Mux(~a_counts | (b_counts & (b > a)), b, a))
            found.append((pipe.reg(better, name=f"{name}_most{level}_{number}"),
                          pipe.reg(a_counts | b_counts, name=f"{name}_counts{level}_{number}")))
    return _Found(stored, found[0][0])


def _store(m, rows_seen, final, scores, v_exp, row_end, last, take, begins):
    """Stores a row's scores, and keeps the largest. The next job's wait until this one has been taken."""
    pending, fresh, bank = Signal(name="pending"), Signal(init=1, name="fresh"), Signal()
    row, last_row = Signal(range(rows_seen), name="row"), Signal(range(rows_seen), reset_less=True, name="rows")
    top = Signal(signed(EXP_BITS), reset_less=True)
    maxima = [Signal(signed(SCORE_BITS), reset_less=True, name=f"max{g}") for g in range(len(scores))]
    memories = [BlockRam(max(SCORE_BITS, len(value.stored)), 2 * rows_seen) for value in scores]
    exponents = BlockRam(len(v_exp.stored), 2 * rows_seen)
    store = Signal()
    m.d.comb += [final.ready.eq(~pending), store.eq(final.valid & ~pending & row_end)]
    for g, (memory, value) in enumerate(zip(memories, scores)):
        m.submodules[f"scores{g}"] = memory
        m.d.comb += memory.write_data.eq(value.stored)
        with m.If(store & (fresh | (value.largest > maxima[g]))):
            m.d.sync += maxima[g].eq(value.largest)
    m.submodules.exponents = exponents
    m.d.comb += exponents.write_data.eq(v_exp.stored)
    with m.If(store & (fresh | (v_exp.largest > top))):
        m.d.sync += top.eq(v_exp.largest)
    for memory in (*memories, exponents):
        m.d.comb += [memory.write_en.eq(store), memory.write_address.eq(Cat(bank, row))]
    with m.If(take):
        m.d.sync += pending.eq(0)
    with m.If(store):
        m.d.sync += [fresh.eq(last), row.eq(Mux(last, 0, row + 1))]
        with m.If(last):
            m.d.sync += [pending.eq(1), last_row.eq(row), bank.eq(~bank)]
    return Job(pending, maxima, top, last_row, ~bank, memories, exponents, begins)
