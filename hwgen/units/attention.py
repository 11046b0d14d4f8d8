"""Attention of one entry after another: scores, softmax and weighted sums over the rows of the KV cache."""
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..lib.attention_output import Division, Hold, Results
from ..lib.attention_requests import ask_queries, ask_rows, offer_jobs
from ..lib.attention_scores import score_rows
from ..lib.attention_sums import WEIGHED, Numerators, operands_of, row_sum, summed
from ..lib.layouts import (EXP_BITS, head_meta_layout, head_read_layout, k_row_layout, kv_job_layout, kv_read_layout,
                           place_layout, row_names, slice_layout, v_row_layout)
from ..lib.pipeline import Pipeline, Registers
from ..lib.softmax import exp2_codes, unpack_code
from ..lib.verilog import shared
from ..params.tables import SCORE_BITS

__all__ = ["Attention"]


# The stages, each a module of its own within the unit.

class _Stage(Elaboratable):
    def __init__(self):
        self.m = Module()

    def elaborate(self, platform):
        return self.m


class _Requests(_Stage):
    """Asks for the queries of commands, and for the rows of their jobs."""


class _Scores(_Stage):
    """The K stage: a score for each row and query head, with their maximum."""


class _Softmax(_Stage):
    """The first half of the V stage: scores to weights, and the sum of these."""


class _Values(_Stage):
    """The second half of the V stage: sums of rows times weights."""


class _Division(_Stage):
    """The output: weighted sums divided by the sum of their weights, as bf16."""


class _Slots(NamedTuple):
    """Of the V stage's job: a slot of the pipeline for each word of each row, then one that clears the sums.

    pipe        the pipeline of slots
    final       its end
    starved     in: a word is needed that has not come
    row, bank   of the slot that enters: where the memories have its scores
    maxima, top of the job, as in `hwgen.lib.attention_scores.Job`
    clears      of each stage: its slot clears the sums
    adds_sum    behind stage `summed`: the slot is of a row's first word, with which its weight is added
    top_out     behind stage `summed`
    """
    pipe: Pipeline
    final: object
    starved: Signal
    row: Signal
    bank: Signal
    maxima: list
    top: Signal
    clears: list
    adds_sum: object
    top_out: object


class Attention(wiring.Component):
    """Attention of entries over the rows 0..position of their slots, or the last of them where the layer has a window
    (`Design.window`).

    An entry is one *job* per K/V head, in order. A job passes through: the queries of the head's group are loaded; the
    *K stage* streams K rows and stores a score per query head, with their maximum and that of the V exponents; the *V
    stage* streams V rows, turns scores into weights, and sums weights and weighted rows; the *output* divides. All four
    work on successive jobs at once, across entries and commands too. `golden.attention.attention_cycles` has the
    cycles: a job takes rows * head_dim / A of them, and one more; rows are position + 1, or the window if that is less.
    Of several rows at once (`KvSizes.rows`) it takes a cycle for each group of them.

    Keys and values of all positions up to an entry's must be in the cache, and its queries in the qkv buffer, when its
    command is given.

    Parameters
    ----------
    sizes : KvSizes
    entries : int                   entries that commands are of, T
    num_attention_heads : int       query heads; those that share a K/V head are its group
    vector_lanes : int              elements that go out at once, V: divides the rows' length
    kv_format, p_format : Fp8       of queries, keys and values; of the weights
    windows : sequence              of each layer: positions that an entry sees, its own included, fewer than the
                                    context; None: all
    score_cap : float or None       scores s are ``c * tanh(s / c)``
    outside : bool                  rows come from a memory outside, whole jobs in order: all K rows of a job, then its
                                    V rows. A job is asked for when its queries are there and the K rows of the job
                                    before have come
    hold : bool                     the sums of a job are held while they are divided; or they wait in their place, and
                                    with them the next job's

    Members
    -------
    cmd : In(stream)        `place_layout`: {entry, slot, position, layer, last}
    q_r : Out(stream)       `head_read_layout`: {row, part, meta}, for the qkv buffer; meta is 0
    q_i : In(stream)        `slice_layout`: {codes, exp, meta}, its answers
    k_req, v_req : Out(stream)    `kv_read_layout`, for the KV cache; or, with ``outside``, ...
    jobs : Out(stream)      ... `kv_job_layout`
    k_o : In(stream)        `k_row_layout`, its answers
    v_o : In(stream)        `v_row_layout`, its answers
    o : Out(stream)         {x: bf16[V], entry, part, last}: parts (head * head_dim) / V + granule in order; ``last`` is
                            the entry's last
    done : Out(1)           up for one cycle, that after the last granule of a command with ``last`` was taken
    """

    def __init__(self, *, sizes, entries, num_attention_heads, vector_lanes, kv_format, p_format, windows,
                 score_cap=None, outside=False, hold=True):
        self._outside, self._hold = outside, hold
        self._sizes, self._entries, self._windows = sizes, entries, windows
        self._kv_format, self._p_format, self._score_cap = kv_format, p_format, score_cap
        self._group, self._vector_lanes = num_attention_heads // sizes.num_key_value_heads, vector_lanes
        heads = num_attention_heads + 2 * sizes.num_key_value_heads         # of an entry, in the buffer
        request = stream.Signature(kv_read_layout(sizes))
        super().__init__({
            "cmd": In(stream.Signature(place_layout(sizes, entries))),
            "q_r": Out(stream.Signature(head_read_layout(sizes, entries * heads))),
            "q_i": In(stream.Signature(slice_layout(sizes.lanes, head_meta_layout(sizes)))),
            **({"jobs": Out(stream.Signature(kv_job_layout(sizes, any(windows))))} if outside else {}),
            **({} if outside else {"k_req": Out(request)}),
            "k_o": In(stream.Signature(k_row_layout(sizes.lanes, sizes.rows))),
            **({} if outside else {"v_req": Out(request)}),
            "v_o": In(stream.Signature(v_row_layout(sizes.lanes, sizes.rows))),
            "o": Out(stream.Signature(data.StructLayout({
                "x": data.ArrayLayout(unsigned(16), vector_lanes), "entry": range(entries),
                "part": range(num_attention_heads * sizes.head_dim // vector_lanes), "last": 1}))),
            "done": Out(1),
        })

    # -- shapes

    @property
    def _rows_seen(self):
        """The most rows that an entry sees, in any layer."""
        return max(window or self._sizes.context for window in self._windows)

    @property
    def _groups_seen(self):
        """The most groups of rows that come at once: those of a window may begin and end anywhere in one."""
        rows = self._sizes.rows
        return min(-(-self._sizes.context // rows), (self._rows_seen + rows - 2) // rows + 1)

    @property
    def _weight_max(self):
        """The largest weight, 2**max_exp, as an integer."""
        return 1 << (self._p_format.max_exp - self._p_format.unit_exp)

    @property
    def _sum_max(self):
        """The largest sum of weights."""
        return self._weight_max * max(self._rows_seen, self._sizes.rows)

    @property
    def _numerator_bits(self):
        """Bits of the magnitude of a numerator."""
        return (self._sum_max * self._kv_format.max_int).bit_length()

    def elaborate(self, platform):
        m = Module()
        m.submodules.requests = requests = _Requests()
        m.submodules.scores = scores = _Scores()
        m.submodules.softmax = softmax = _Softmax()
        m.submodules.values = values = _Values()
        m.submodules.division = division = _Division()
        k_jobs, v_jobs, entry_queue = ask_queries(requests.m, self.cmd, self.q_r, sizes=self._sizes,
                                                  entries=self._entries, group=self._group, windows=self._windows,
                                                  outside=self._outside)
        if not self._outside:
            ask_rows(requests.m, k_jobs, self.k_req, self._sizes, "k")
            ask_rows(requests.m, v_jobs, self.v_req, self._sizes, "v")
        take = Signal()
        turns = None if self._hold else [Signal(name=f"turn{g}") for g in range(self._group)]
        hold = Hold(Signal(name="hold_free"), Signal(name="hand_over"), Signal(name="ends"), turns)
        job = score_rows(scores.m, self.q_i, self.k_o, take, sizes=self._sizes, group=self._group, fmt=self._kv_format,
                         groups_seen=self._groups_seen, score_cap=self._score_cap)
        if self._outside:
            offer_jobs(requests.m, k_jobs, job.begins, self.jobs)
        slots = self._slots(values.m, job, take)
        weights, sums = self._weigh(softmax.m, values.m, slots, job)
        numerators = self._sum_rows(values.m, slots, weights, hold)
        divide = Division(self.o, sizes=self._sizes, group=self._group, fmt=self._kv_format,
                          numerator_bits=self._numerator_bits, weight_max=self._weight_max)
        (divide.held if self._hold else divide.in_place)(division.m, Results(sums, numerators, slots.top_out), hold)
        self._address(division.m, entry_queue)
        return m

    # -- V stage

    def _slots(self, m, job, take):
        """Takes jobs that are pending. Gives the `_Slots`, one of which enters in each cycle in which the pipeline
        moves."""
        words = self._sizes.words
        busy, clear, last = Signal(name="busy"), Signal(name="clear"), Signal()
        row = Signal.like(job.last_row, name="row")
        last_row = Signal.like(job.last_row, reset_less=True, name="last_row")
        part = Signal(range(words))
        v_bank = Signal()
        maxima = [Signal(signed(SCORE_BITS), reset_less=True, name=f"v_max{g}") for g in range(self._group)]
        top_v = Signal(signed(EXP_BITS), reset_less=True)
        enter, final = stream.Signature(0).create(), stream.Signature(0).create()
        starved = Signal()
        end = summed(self._sizes.rows)
        pipe = Pipeline(m, enter, final, stages=end, wait=starved, name="v_pipe")
        m.d.comb += [take.eq(job.pending & ~busy & pipe.advance), enter.valid.eq(busy | clear),
                     last.eq((part == words - 1) & (row == last_row))]
        with m.If(pipe.advance):
            m.d.sync += clear.eq(busy & last)
            with m.If(busy):
                m.d.sync += part.eq(part + 1)
                with m.If(part == words - 1):
                    m.d.sync += [part.eq(0), row.eq(row + 1)]
                with m.If(last):
                    m.d.sync += busy.eq(0)
            with m.If(take):
                m.d.sync += [busy.eq(1), row.eq(0), last_row.eq(job.last_row), v_bank.eq(job.bank), top_v.eq(job.top),
                             *(a.eq(b) for a, b in zip(maxima, job.maxima))]
        clears = [clear]
        for k in range(1, end + 1):
            clears.append(pipe.reg(clears[-1], name=f"clear{k}"))
        top_out = pipe.reg(top_v, name="v_top", stages=end)
        adds_sum = pipe.reg(part == 0, name="adds_sum", stages=end)
        return _Slots(pipe, final, starved, row, v_bank, maxima, top_v, clears, adds_sum, top_out)

    def _weigh(self, m, values, slots, job):
        """Scores to weights, and the sum of these, in the module of softmax. Gives of each query head (the weights of
        the rows as codes, in stage WEIGHED; the sum so far)."""
        pipe, fmt, memories, exponents = slots.pipe, self._p_format, job.memories, job.exponents
        rows, end = self._sizes.rows, summed(self._sizes.rows)
        for memory in (*memories, exponents):
            values.d.comb += [memory.read_en.eq(pipe.advance), memory.read_address.eq(Cat(slots.bank, slots.row))]
        beside = Registers(m, pipe.advance)
        # at least 0, where the row counts
        gaps = [beside.reg((slots.top - exponents.read_data.word_select(row, EXP_BITS).as_signed())[:EXP_BITS],
                           name=name) for row, name in enumerate(row_names("gap", rows))]
        seen = exponents.read_data[rows * EXP_BITS:]
        weights, sums = [], []
        for g, (maximum, memory) in enumerate(zip(slots.maxima, memories)):
            codes, integers = [], []
            for row, (gap, name) in enumerate(zip(gaps, row_names(str(g), rows))):
                d = (maximum - memory.read_data.word_select(row, SCORE_BITS).as_signed())[:SCORE_BITS]
                if rows > 1:        # beyond all thresholds: a weight of 0
                    d = d | (~seen[row]).replicate(SCORE_BITS)
                plain, scaled = exp2_codes(m, beside, beside.reg(d, name=f"d{name}"), gap, fmt, f"exp{name}")
                codes.append(scaled)
                shift, significand = (beside.reg(x, name=f"z{name}_{n}")
                                      for n, x in zip(("shift", "significand"), unpack_code(plain, fmt)))
                integers.append(beside.reg((significand << shift)[:self._weight_max.bit_length()], name=f"z{name}"))
            weights.append(Cat(codes))
            integer = self._sum_weights(m, beside, integers, f"z{g}")
            total = Signal(range(self._sum_max + 1), name=f"z_total{g}")
            with m.If(pipe.advance & pipe.valid[end]):
                with m.If(slots.clears[end]):
                    m.d.sync += total.eq(0)
                with m.Elif(slots.adds_sum):
                    m.d.sync += total.eq(total + integer)
            sums.append(total)
        return weights, sums

    def _sum_weights(self, m, pipe, integers, name):
        """The sum of the weights of rows that come at once, as late as `Numerators` has that of its products."""
        if len(integers) == 1:
            return integers[0]
        value, _ = row_sum(m, pipe, [Cat(integer, 0) for integer in integers], [Const(0)] * len(integers), name)
        return value

    def _sum_rows(self, m, slots, weights, hold):
        """Weighted rows: words of a row come in turn, and the sums turn with them. Gives the numerators of `Results`,
        which are handed over at the end of a job, all of them at once."""
        pipe, clears, v = slots.pipe, slots.clears, self.v_o
        kv, fmt, lanes, words = self._kv_format, self._p_format, self._sizes.lanes, self._sizes.words
        end = summed(self._sizes.rows)
        # Of the slot in stage WEIGHED that it has a word, of that behind `summed` that it clears: registers, for all
        # stages wait for them
        weighs, ends = Signal(name="weighs"), hold.ends
        with m.If(pipe.advance):
            m.d.sync += [weighs.eq(pipe.valid[WEIGHED - 1] & ~clears[WEIGHED - 1]),
                         ends.eq(pipe.valid[end - 1] & clears[end - 1])]
        m.d.comb += [slots.starved.eq(weighs & ~v.valid), v.ready.eq(weighs & pipe.advance)]
        operands = operands_of(m, v.p.codes, kv, "v")
        bits, numerators = self._numerator_bits + 1, []
        for g, weight in enumerate(weights):
            unit = Numerators(fmt, kv, lanes, words, self._weight_max, bits, turns=not self._hold,
                              rows=self._sizes.rows)
            m.submodules[f"numerators{g}"] = shared(unit, unit.module_name)
            m.d.comb += [unit.advance.eq(pipe.advance), unit.add.eq(pipe.valid[end]), unit.clear.eq(clears[end]),
                         unit.weight.eq(weight), unit.operands.eq(Cat(operands))]
            if hold.turns:
                m.d.comb += unit.turn.eq(hold.turns[g])
            numerators.append([[unit.totals.word_select(w * lanes + i, bits).as_signed() for i in range(lanes)]
                               for w in range(words)])
        m.d.comb += [slots.final.ready.eq(hold.free | ~ends), hold.hand_over.eq(pipe.advance & ends)]
        return numerators

    # -- output

    def _address(self, m, entry_queue):
        """Where the granule at ``o`` belongs, and when a command is done."""
        entry, part = entry_queue.item, Signal.like(self.o.p.part, name="part")
        granules = self._group * self._sizes.num_key_value_heads * self._sizes.head_dim // self._vector_lanes
        fire = self.o.valid & self.o.ready
        m.d.comb += [self.o.p.entry.eq(entry.entry), self.o.p.part.eq(part),
                     entry_queue.fifo.r_en.eq(fire & self.o.p.last), self.o.p.last.eq(part == granules - 1)]
        with m.If(fire):
            m.d.sync += part.eq(Mux(self.o.p.last, 0, part + 1))
        m.d.sync += self.done.eq(fire & self.o.p.last & entry.last)
