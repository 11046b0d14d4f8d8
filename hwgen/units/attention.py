"""Attention of one entry after another: scores, softmax and weighted sums over the rows of the KV cache."""
from functools import reduce
from operator import and_
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.arith import Pipeline, leading_zeros, magnitude, pwl_line, pwl_lookup, round_bf16, shift_up, unpack_bf16
from ..lib.fp8_dot import Product, add_carry, add_pairs, decode_operand, operand_layout
from ..lib.layouts import (EXP_BITS, head_meta_layout, head_read_layout, k_row_layout, kv_read_layout, place_layout, slice_layout,
                           v_row_layout)
from ..lib.norm import one
from ..lib.ram import BlockRam
from ..lib.skid import SkidRegister
from ..lib.softcap import SOFTCAP_STAGES, softcap
from ..lib.verilog import shared
from ..params.tables import SCORE_BITS, SCORE_FRACTION, exp2_thresholds, reciprocal_table

__all__ = ["Attention"]

JOBS = 16            # commands and jobs that the queues hold: more than can be on their way
FRACTION_BITS = 15   # of the sum's mantissa


# The stages, each a module of its own within the unit; the unit's methods fill them.

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


class _Job(NamedTuple):
    """What the K stage hands on of a job, which waits for the V stage as long as ``pending``.

    maxima, top         the largest score of each query head; the largest exponent of a V row
    rows                the number of rows, less one
    bank                half of the memories in which the job is
    memories, exponents BlockRams of the scores, one for each query head, and of the exponents of V rows
    """
    pending: object
    maxima: list
    top: object
    rows: object
    bank: object
    memories: list
    exponents: object


class Attention(wiring.Component):
    """Attention of entries over the rows 0..position of their slots, or the last of them where the layer has a window (`Design.window`).

    An entry is one *job* per K/V head, in order. A job passes through: the queries of the head's group are loaded; the *K stage*
    streams K rows and stores a score per query head, with their maximum and that of the V exponents; the *V stage*
    streams V rows, turns scores into weights, and sums weights and weighted rows; the *output* divides. All four work on
    successive jobs at once, across entries and commands too. `golden.attention.attention_cycles` has the cycles: a job takes
    rows * head / A of them, and one more; rows are position + 1, or the window if that is less.

    Keys and values of all positions up to an entry's must be in the cache, and its queries in the qkv buffer, when its
    command is given.

    Parameters
    ----------
    design : Design

    Members
    -------
    cmd : In(stream)        `place_layout`: {entry, slot, position, layer, last}
    q_r : Out(stream)       `head_read_layout`: {row, part, meta}, for the qkv buffer; meta is 0
    q_i : In(stream)        `slice_layout`: {codes, exp, meta}, its answers
    k_req, v_req : Out(stream)    `kv_read_layout`, for the KV cache
    k_o : In(stream)        `k_row_layout`, its answers
    v_o : In(stream)        `v_row_layout`, its answers
    o : Out(stream)         {x: bf16[V], entry, part, last}: parts (head * Design.head) / V + granule in order; ``last`` is the entry's last
    done : Out(1)           up for one cycle, that after the last granule of a command with ``last`` was taken
    """

    def __init__(self, design):
        self._design = design
        lanes, v = design.hw.attention_lanes, design.hw.vector_lanes
        super().__init__({
            "cmd": In(stream.Signature(place_layout(design))),
            "q_r": Out(stream.Signature(head_read_layout(design))),
            "q_i": In(stream.Signature(slice_layout(lanes, head_meta_layout(design)))),
            "k_req": Out(stream.Signature(kv_read_layout(design))),
            "k_o": In(stream.Signature(k_row_layout(design))),
            "v_req": Out(stream.Signature(kv_read_layout(design))),
            "v_o": In(stream.Signature(v_row_layout(design))),
            "o": Out(stream.Signature(data.StructLayout({
                "x": data.ArrayLayout(unsigned(16), v), "entry": range(design.hw.entries),
                "part": range(design.heads * design.head // v), "last": 1}))),
            "done": Out(1),
        })

    # Shapes

    @property
    def _parts(self):
        """Words of a row."""
        return self._design.head // self._design.hw.attention_lanes

    @property
    def _weight_max(self):
        """The largest weight, 2**max_exp, as an integer."""
        fmt = self._design.recipe.p_format
        return 1 << (fmt.max_exp - fmt.unit_exp)

    @property
    def _sum_max(self):
        """The largest sum of weights."""
        return self._weight_max * self._design.rows_seen()

    @property
    def _numerator_bits(self):
        """Bits of the magnitude of a numerator."""
        return (self._sum_max * self._design.recipe.kv_format.max_int).bit_length()

    # -- requests

    def _queries(self, m):
        """Takes commands and asks for the queries of their jobs. Returns the queues (K jobs, V jobs, entries) and their layouts."""
        design, cmd, r = self._design, self.cmd, self.q_r
        windowed = any(design.window(layer) for layer in range(design.layers))
        job_layout = data.StructLayout({field: kv_read_layout(design)[field].shape
                                        for field in ("slot", "layer", "head", "position")}
                                       | ({"first": range(design.hw.context)} if windowed else {}))
        entry_layout = data.StructLayout({"entry": range(design.hw.entries), "last": 1})
        m.submodules.k_jobs = k_jobs = SyncFIFO(width=max(1, job_layout.size), depth=JOBS)
        m.submodules.v_jobs = v_jobs = SyncFIFO(width=max(1, job_layout.size), depth=JOBS)
        m.submodules.entries = entries = SyncFIFO(width=max(1, entry_layout.size), depth=JOBS)

        busy, first, last, fire = Signal(name="busy"), Signal(name="first"), Signal(name="last"), Signal(name="fire")
        place = Signal(place_layout(design), reset_less=True)
        kv_head, query, part = (Signal(range(design.kv_heads), name="kv_head"), Signal(range(design.group), name="query"),
                                Signal(range(self._parts)))
        row = Signal.like(r.p.row, reset_less=True)
        last_part, last_query, last_head = part == self._parts - 1, query == design.group - 1, kv_head == design.kv_heads - 1
        # of a cycle ago: a place more than one
        room = Signal(name="room")
        m.d.sync += room.eq(reduce(and_, (queue.w_level < JOBS - 1 for queue in (k_jobs, v_jobs, entries))))
        m.d.comb += [first.eq((query == 0) & (part == 0)), last.eq(last_part & last_query & last_head),
                     r.valid.eq(busy & (~first | room)), r.p.row.eq(row), r.p.part.eq(part), fire.eq(r.valid & r.ready),
                     cmd.ready.eq(~busy | fire & last)]
        with m.If(fire):
            m.d.sync += part.eq(part + 1)
            with m.If(last_part):
                m.d.sync += [part.eq(0), query.eq(query + 1), row.eq(row + 1)]
                with m.If(last_query):
                    m.d.sync += [query.eq(0), kv_head.eq(Mux(last_head, 0, kv_head + 1))]
        with m.If(cmd.ready):
            heads = Signal(range(design.hw.entries * design.qkv_heads))     # rows are few: a constant per entry
            with m.Switch(cmd.p.entry):
                for entry in range(design.hw.entries):
                    with m.Case(entry):
                        m.d.comb += heads.eq(entry * design.qkv_heads + design.heads_of(design.block.queries).start)
            m.d.sync += [busy.eq(cmd.valid), place.eq(cmd.p), row.eq(heads)]

        job = Cat(place.slot, place.layer, kv_head, place.position, *([_first(m, design, place)] if windowed else []))
        m.d.comb += [k_jobs.w_data.eq(job), v_jobs.w_data.eq(job), entries.w_data.eq(Cat(place.entry, place.last)),
                     k_jobs.w_en.eq(fire & first), v_jobs.w_en.eq(fire & first), entries.w_en.eq(fire & first & (kv_head == 0))]
        return (k_jobs, job_layout), (v_jobs, job_layout), (entries, entry_layout)

    def _rows(self, m, jobs, port, name):
        """Asks for all rows of each job in the queue. What is asked leaves from a register: the cache looks up much of it."""
        fifo, layout = jobs
        m.submodules[f"{name}_request"] = register = SkidRegister(port.payload.shape())
        connect(m, register.o, flipped(port))
        request = register.i
        job = data.View(layout, fifo.r_data[:layout.size])
        position, part = Signal.like(request.p.position, name=f"{name}_position"), Signal(range(self._parts), name=f"{name}_part")
        counted, begun = position, None
        if "first" in layout.members:           # jobs follow each other without a cycle between, in which the counter could be loaded
            counted, begun = Signal.like(position, name=f"{name}_counted"), Signal(name=f"{name}_begun")
            m.d.comb += position.eq(Mux(begun, counted, job.first))
        last_part, last = part == self._parts - 1, Signal(name=f"{name}_last")
        m.d.comb += [request.valid.eq(fifo.r_rdy), request.p.position.eq(position), request.p.part.eq(part),
                     *(request.p[field].eq(job[field]) for field in ("slot", "layer", "head")),
                     last.eq(last_part & (position == job.position)), request.p.last.eq(last),
                     fifo.r_en.eq(request.ready & last)]
        with m.If(request.valid & request.ready):
            m.d.sync += part.eq(part + 1)
            with m.If(last_part):
                m.d.sync += [part.eq(0), counted.eq(Mux(last, 0, position + 1))]
                if begun is not None:
                    m.d.sync += begun.eq(~last)

    # -- K stage

    def _load(self, m, swap):
        """Collects the queries of a job. Returns (complete, words [G][W], exponents [G]); free again after ``swap``."""
        design, parts = self._design, self._parts
        words = design.group * parts
        codes = [Signal(8 * design.hw.attention_lanes, reset_less=True, name=f"next_q{k}") for k in range(words)]
        exps = [Signal(signed(EXP_BITS), reset_less=True, name=f"next_q_exp{k}") for k in range(words)]
        count, complete = Signal(range(words), name="count"), Signal()
        m.d.comb += self.q_i.ready.eq(~complete)
        with m.If(self.q_i.valid & self.q_i.ready):      # the last word comes in at the end; the others move up
            m.d.sync += [count.eq(Mux(count == words - 1, 0, count + 1)), complete.eq(count == words - 1)]
            for chain, new in ((codes, self.q_i.p.codes.as_value()), (exps, self.q_i.p.exp)):
                m.d.sync += [register.eq(following) for register, following in zip(chain, [*chain[1:], new])]
        with m.If(swap):
            m.d.sync += complete.eq(0)
        return complete, [codes[g * parts:(g + 1) * parts] for g in range(design.group)], exps[parts - 1::parts]

    def _scores(self, m, take):
        """The K stage. Returns a `_Job`, which waits for the V stage to ``take`` it."""
        design, parts, fmt = self._design, self._parts, self._design.recipe.kv_format
        group, lanes, k = design.group, design.hw.attention_lanes, self.k_o

        # Queries of the current job
        swap, have = Signal(name="swap"), Signal()
        complete, loaded, loaded_exps = self._load(m, swap)
        q = [[Signal.like(word, name=f"q{g}_{w}") for w, word in enumerate(words)] for g, words in enumerate(loaded)]
        q_exp = [Signal.like(exp, name=f"q_exp{g}") for g, exp in enumerate(loaded_exps)]
        taken = Signal()
        m.d.comb += [taken.eq(k.valid & k.ready), swap.eq(complete & (~have | taken & k.p.last))]
        with m.If(taken):               # words of a row come in turn: the one that is next stands first
            m.d.sync += [word.eq(following) for words in q for word, following in zip(words, [*words[1:], words[0]]) if parts > 1]
        with m.If(swap):
            m.d.sync += [have.eq(1), Cat(q).eq(Cat(loaded)), Cat(q_exp).eq(Cat(loaded_exps))]
        with m.Elif(taken & k.p.last):
            m.d.sync += have.eq(0)
        part = Signal(range(parts))
        with m.If(taken):
            m.d.sync += part.eq(Mux(part == parts - 1, 0, part + 1))

        # Stages: products, their sum, the score, its softcap; then the score is stored
        tree_stages = _tree_stages(lanes)
        dot_stages = 1 + tree_stages + 1
        enter, final = stream.Signature(0).create(), stream.Signature(0).create()
        pipe = Pipeline(m, enter, final, stages=dot_stages + 3 + (SOFTCAP_STAGES if design.model.score_cap else 0), name="k_pipe")
        m.d.comb += [enter.valid.eq(k.valid & have), k.ready.eq(enter.ready & have)]
        row_end = pipe.reg(part == parts - 1, name="k_row_end", stages=pipe.stages)
        last = pipe.reg(k.p.last, name="k_last", stages=pipe.stages)
        v_exp = pipe.reg(k.p.v_exp, name="k_v_exp", stages=pipe.stages)
        starts = pipe.reg(part == 0, name="k_starts", stages=dot_stages - 1)

        operands = _operands(m, k.p.codes, fmt, "k")
        width = fmt.accumulator_bits(fmt, design.head)
        scores = []
        for g in range(group):
            unit = _Dot(fmt, lanes, width)
            m.submodules[f"dot{g}"] = shared(unit, unit.module_name)
            m.d.comb += [unit.advance.eq(pipe.advance), unit.add.eq(pipe.valid[dot_stages - 1]), unit.starts.eq(starts),
                         unit.query.eq(q[g][0]), unit.operands.eq(Cat(operands))]
            dot = unit.dot
            # S = floor(dot * 2**(left - 1) + 1/2), left from the exponents
            left = pipe.reg(q_exp[g] + k.p.exp, name=f"exponent{g}") + (2 * fmt.unit_exp + SCORE_FRACTION + 1)
            amount = pipe.reg(_amount(m, left, width, f"score{g}"), name=f"amount{g}", stages=dot_stages - 1)
            scores.append(_score(m, pipe, dot, amount, f"score{g}"))
            if design.model.score_cap:
                scores[g] = softcap(m, pipe, design.model.score_cap, scores[g], name=f"capped{g}")

        # Their memory and maximum; the next job's wait until this one has been taken
        pending, fresh, bank = Signal(name="pending"), Signal(init=1, name="fresh"), Signal()
        row, rows = Signal(range(design.rows_seen()), name="row"), Signal(range(design.rows_seen()), reset_less=True)
        top = Signal(signed(EXP_BITS), reset_less=True)
        maxima = [Signal(signed(SCORE_BITS), reset_less=True, name=f"max{g}") for g in range(group)]
        memories = [BlockRam(SCORE_BITS, 2 * design.rows_seen()) for _ in range(group)]
        exponents = BlockRam(EXP_BITS, 2 * design.rows_seen())
        store = Signal()
        m.d.comb += [final.ready.eq(~pending), store.eq(final.valid & ~pending & row_end)]
        for g, (memory, score) in enumerate(zip(memories, scores)):
            m.submodules[f"scores{g}"] = memory
            m.d.comb += memory.write_data.eq(score)
            with m.If(store & (fresh | (score > maxima[g]))):
                m.d.sync += maxima[g].eq(score)
        m.submodules.exponents = exponents
        m.d.comb += exponents.write_data.eq(v_exp)
        with m.If(store & (fresh | (v_exp > top))):
            m.d.sync += top.eq(v_exp)
        for memory in (*memories, exponents):
            m.d.comb += [memory.write_en.eq(store), memory.write_address.eq(Cat(bank, row))]
        with m.If(take):
            m.d.sync += pending.eq(0)
        with m.If(store):
            m.d.sync += [fresh.eq(last), row.eq(Mux(last, 0, row + 1))]
            with m.If(last):
                m.d.sync += [pending.eq(1), rows.eq(row), bank.eq(~bank)]
        return _Job(pending, maxima, top, rows, ~bank, memories, exponents)

    # -- V stage

    def _weigh(self, softmax, m, take, job, hold):
        """The V stage, in the modules of softmax and of values: takes jobs that are pending, and hands sums to ``hold`` (a stream whose
        payload is a list of lists)."""
        design, parts = self._design, self._parts
        kv, fmt = design.recipe.kv_format, design.recipe.p_format
        group, lanes, v = design.group, design.hw.attention_lanes, self.v_o
        rows, memories, exponents = job.rows, job.memories, job.exponents

        # A slot for each word of each row, then one that clears the sums
        busy, clear, last = Signal(name="busy"), Signal(name="clear"), Signal()
        row, last_row, part = Signal.like(rows, name="row"), Signal.like(rows, reset_less=True, name="last_row"), Signal(range(parts))
        v_bank = Signal()
        maxima_v = [Signal(signed(SCORE_BITS), reset_less=True, name=f"v_max{g}") for g in range(group)]
        top_v = Signal(signed(EXP_BITS), reset_less=True)
        enter, final = stream.Signature(0).create(), stream.Signature(0).create()
        starved = Signal()
        pipe = Pipeline(m, enter, final, stages=6, wait=starved, name="v_pipe")
        m.d.comb += [take.eq(job.pending & ~busy & pipe.advance), enter.valid.eq(busy | clear),
                     last.eq((part == parts - 1) & (row == last_row))]
        with m.If(pipe.advance):
            m.d.sync += clear.eq(busy & last)
            with m.If(busy):
                m.d.sync += part.eq(part + 1)
                with m.If(part == parts - 1):
                    m.d.sync += [part.eq(0), row.eq(row + 1)]
                with m.If(last):
                    m.d.sync += busy.eq(0)
            with m.If(take):
                m.d.sync += [busy.eq(1), row.eq(0), last_row.eq(rows), v_bank.eq(job.bank), top_v.eq(job.top),
                             *(a.eq(b) for a, b in zip(maxima_v, job.maxima))]
        clears = [clear]
        for k in range(1, 7):
            clears.append(pipe.reg(clears[-1], name=f"clear{k}"))
        top_out = pipe.reg(top_v, name="v_top", stages=6)
        adds_sum = pipe.reg(part == 0, name="adds_sum", stages=6)

        # Weights
        for memory in (*memories, exponents):
            m.d.comb += [memory.read_en.eq(pipe.advance), memory.read_address.eq(Cat(v_bank, row))]
        beside = _Stages(softmax, pipe.advance)
        gap = beside.reg((top_v - exponents.read_data.as_signed())[:EXP_BITS], name="gap")            # at least 0
        weights, sums = [], []
        for g in range(group):
            d = beside.reg((maxima_v[g] - memories[g].read_data.as_signed())[:SCORE_BITS], name=f"d{g}")
            plain, scaled = _exp2(softmax, beside, d, gap, fmt, f"exp{g}")
            weights.append(scaled)
            decoded = [beside.reg(x, name=f"z{g}_{n}") for n, x in zip(("shift", "significand"), _decoded(plain, fmt))]
            integer = beside.reg((decoded[1] << decoded[0])[:self._weight_max.bit_length()], name=f"z{g}")
            total = Signal(range(self._sum_max + 1), name=f"z_total{g}")
            with softmax.If(pipe.advance & pipe.valid[6]):
                with softmax.If(clears[6]):
                    softmax.d.sync += total.eq(0)
                with softmax.Elif(adds_sum):
                    softmax.d.sync += total.eq(total + integer)
            sums.append(total)

        # Weighted rows: words of a row come in turn, and the sums turn with them
        # valid[4] & ~clears[4], valid[6] & clears[6]: registers, for all stages wait for them
        weighs, ends = Signal(name="weighs"), Signal()
        with m.If(pipe.advance):
            m.d.sync += [weighs.eq(pipe.valid[3] & ~clears[3]), ends.eq(pipe.valid[5] & clears[5])]
        m.d.comb += [starved.eq(weighs & ~v.valid), v.ready.eq(weighs & pipe.advance)]
        operands = _operands(m, v.p.codes, kv, "v")
        numerators = []
        for g in range(group):
            unit = _Numerators(fmt, kv, lanes, parts, self._weight_max, self._numerator_bits + 1)
            m.submodules[f"numerators{g}"] = shared(unit, unit.module_name)
            m.d.comb += [unit.advance.eq(pipe.advance), unit.add.eq(pipe.valid[6]), unit.clear.eq(clears[6]),
                         unit.weight.eq(weights[g]), unit.operands.eq(Cat(operands))]
            numerators.append(unit.totals)

        # At the end of a job all of them at once
        free, hand_over = hold
        m.d.comb += [final.ready.eq(free | ~ends), hand_over.eq(pipe.advance & ends)]
        return sums, [[[totals.word_select(w * lanes + i, self._numerator_bits + 1).as_signed() for i in range(lanes)]
                       for w in range(parts)] for totals in numerators], top_out

    # -- output

    def _divide(self, m, results, hold, entries):
        """Sends granule after granule of a finished job through the division."""
        design, v = self._design, self._design.hw.vector_lanes
        sums, numerators, top = results
        free, hand_over = hold
        granules = design.head // v

        flat = [x for words in numerators for word in words for x in word]
        held = [Signal.like(x, reset_less=True, name=f"held{k}") for k, x in enumerate(flat)]
        held_sums = [Signal.like(x, reset_less=True, name=f"held_sum{g}") for g, x in enumerate(sums)]
        held_top = Signal.like(top, reset_less=True)
        valid, granule, query = Signal(name="valid"), Signal(range(granules), name="granule"), Signal(range(design.group))
        last_granule, last_query = granule == granules - 1, query == design.group - 1
        source = stream.Signature(0).create()
        pipe = Pipeline(m, source, self.o, stages=7, name="o_pipe")
        m.d.comb += [free.eq(~valid), source.valid.eq(valid)]
        # Until they are handed over, whatever is there is held: so a thousand registers do not wait for what decides.
        with m.If(~valid):
            m.d.sync += [valid.eq(hand_over), held_top.eq(top), *(a.eq(b) for a, b in zip(held, flat)),
                         *(a.eq(b) for a, b in zip(held_sums, sums))]
        with m.Elif(pipe.advance):
            m.d.sync += [a.eq(b) for a, b in zip(held, held[v:])]
            m.d.sync += granule.eq(granule + 1)
            with m.If(last_granule):
                m.d.sync += [granule.eq(0), query.eq(query + 1), *(a.eq(b) for a, b in zip(held_sums, held_sums[1:]))]
                with m.If(last_query):
                    m.d.sync += [query.eq(0), valid.eq(0)]

        # Stages 1 to 4: reciprocal of the sum, whose highest bit is at least that of one weight
        lowest = self._weight_max.bit_length() - 1
        z = Cat(Const(0, max(0, FRACTION_BITS - lowest)), held_sums[0])
        lowest = max(lowest, FRACTION_BITS)
        zeros, _ = leading_zeros(m, z[lowest:], name="z")
        zeros = pipe.reg(zeros, name="z_zeros")
        mantissa = pipe.reg((pipe.reg(z, name="z_1") << zeros)[:len(z)][-1 - FRACTION_BITS:-1], name="z_mantissa")
        table = reciprocal_table()
        index, f = mantissa[table.fraction_bits:], mantissa[:table.fraction_bits]
        base, slope = (pipe.reg(x, name=f"z_{n}") for n, x in zip(("base", "slope"), pwl_lookup(m, table, index, name="z")))
        reciprocal = pipe.reg(pwl_line(m, table, base, slope, pipe.reg(f, name="z_f"), name="z"), name="reciprocal")

        # The product of a significand and the reciprocal has its highest bit in one of these places; what that makes of the exponent
        lowest = (128 * min(min(b, b + s) for b, s in zip(table.base, table.slope))).bit_length() - 1
        highest = (255 * max(table.base)).bit_length() - 1
        exponents = [pipe.reg(zeros - (len(held_sums[0]) - 1) + place - 7 - table.out_fraction, name=f"o_exponent{place}", stages=3)
                     for place in range(highest, lowest - 1, -1)]                               # at stage 4

        # Beside them: numerators to bf16; then their product, rounded
        unit = design.recipe.kv_format.unit_exp + 127
        biased = pipe.reg(held_top + (unit + self._numerator_bits - 1), name="n_exponent", stages=2)
        for i in range(v):
            sign, mag = magnitude(m, held[i], name=f"n{i}")
            sign, mag = pipe.reg(sign, name=f"n{i}_sign", stages=3), pipe.reg(mag[:self._numerator_bits], name=f"n{i}_1")
            count, zero = leading_zeros(m, mag, name=f"n{i}")
            count, zero, mag = (pipe.reg(x, name=f"n{i}_{n}") for n, x in (("count", count), ("zero", zero), ("2", mag)))
            top, sticky = pipe.reg(shift_up(m, mag, count, 9, name=f"n{i}"), name=f"n{i}_normal")
            exponent = pipe.reg(biased - count, name=f"n{i}_exponent")
            zero = pipe.reg(zero, name=f"n{i}_zero_3")
            x = unpack_bf16(pipe.reg(round_bf16(m, sign, top, exponent, zero=zero, sticky=sticky, name=f"n{i}"), name=f"n{i}_bf16"))
            product = pipe.reg((one(x) * reciprocal)[:highest + 1], name=f"o{i}_product")
            normal, exponent = pipe.reg(_normal(m, product,
                                                [pipe.reg(x.exponent + e, name=f"o{i}_exponent{k}") for k, e in enumerate(exponents)],
                                                f"o{i}"), name=f"o{i}_normal")
            o = round_bf16(m, pipe.reg(x.sign, name=f"o{i}_sign", stages=2), normal, exponent,
                           zero=pipe.reg(x.zero, name=f"o{i}_zero", stages=2),
                           name=f"o{i}")
            m.d.comb += self.o.p.x[i].eq(pipe.reg(o, name=f"o{i}"))

        # Its address
        fifo, layout = entries
        entry, part = data.View(layout, fifo.r_data[:layout.size]), Signal.like(self.o.p.part)
        fire = self.o.valid & self.o.ready
        m.d.comb += [self.o.p.entry.eq(entry.entry), self.o.p.part.eq(part), fifo.r_en.eq(fire & self.o.p.last),
                     self.o.p.last.eq(part == design.heads * granules - 1)]
        with m.If(fire):
            m.d.sync += part.eq(Mux(self.o.p.last, 0, part + 1))
        m.d.sync += self.done.eq(fire & self.o.p.last & entry.last)

    def elaborate(self, platform):
        m = Module()
        m.submodules.requests = requests = _Requests()
        m.submodules.scores = scores = _Scores()
        m.submodules.softmax = softmax = _Softmax()
        m.submodules.values = values = _Values()
        m.submodules.division = division = _Division()
        k_jobs, v_jobs, entries = self._queries(requests.m)
        self._rows(requests.m, k_jobs, self.k_req, "k")
        self._rows(requests.m, v_jobs, self.v_req, "v")
        take = Signal()
        hold = Signal(name="hold_free"), Signal(name="hand_over")
        job = self._scores(scores.m, take)
        self._divide(division.m, self._weigh(softmax.m, values.m, take, job, hold), hold, entries)
        return m


def _first(m, design, place):
    """The first position that an entry sees."""
    layers = {}
    for layer in range(design.layers):
        layers.setdefault(design.window(layer) or design.hw.context, []).append(layer)
    window, first = Signal(range(design.hw.context + 1), name="window"), Signal(signed(len(place.position) + 2), name="first_signed")
    with m.Switch(place.layer):
        for size, of in layers.items():
            with m.Case(*of):
                m.d.comb += window.eq(size)
    m.d.comb += first.eq(place.position + 1 - window)
    return Mux(first[-1], 0, first[:len(place.position)])


# Products and sums

class _Stages(Pipeline):
    """Registers of a part in a module of its own, under its parent's enable."""

    def __init__(self, m, advance):
        self._m, self.advance = m, advance


class _Dot(wiring.Component):
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
        pipe = _Stages(m, self.advance)
        terms = [_product(m, pipe, Product(fmt, fmt), self.query.word_select(i, 8),
                          data.View(layout, self.operands.word_select(i, layout.size)), f"lane{i}") for i in range(self._lanes)]
        value, carry = _sum(m, pipe, terms, "dot")
        total = Signal(signed(self._width), reset_less=True)
        with m.If(self.advance & self.add):
            m.d.sync += total.eq(add_carry(Mux(self.starts, 0, total), value, carry, self._width))
        m.d.comb += self.dot.eq(total)
        return m


class _Numerators(wiring.Component):
    """A query head's weighted sums: emitted once, one instance per query head of a group.

    Members
    -------
    advance : In(1)                 everything moves
    weight : In(8)                  a code, stage 4
    operands : In                   stage 4: lanes decoded codes
    add, clear : In(1)              stage 6: the products are added, or all sums start from 0
    totals : Out                    parts * lanes signed sums; those of the word that is added next come first
    """

    def __init__(self, fmt, kv, lanes, parts, weight_max, bits):
        self._fmt, self._kv, self._lanes, self._parts, self._weight_max, self._bits = fmt, kv, lanes, parts, weight_max, bits
        super().__init__({"advance": In(1), "weight": In(8), "operands": In(lanes * operand_layout(kv).size), "add": In(1),
                          "clear": In(1), "totals": Out(parts * lanes * bits)})

    @property
    def module_name(self):
        return f"attention_numerators_{self._fmt}_{self._kv}_l{self._lanes}_p{self._parts}_b{self._bits}"

    def elaborate(self, platform):
        m = Module()
        layout, bits = operand_layout(self._kv), self._bits
        pipe = _Stages(m, self.advance)
        product_bits = (self._weight_max * self._kv.max_int).bit_length() + 1
        words = [[] for _ in range(self._parts)]
        for i in range(self._lanes):
            operand = data.View(layout, self.operands.word_select(i, layout.size))
            term, carry = _product(m, pipe, Product(self._fmt, self._kv), self.weight, operand, f"lane{i}")
            term, carry = (pipe.reg(x, name=f"lane{i}_{n}") for n, x in (("term", term[:product_bits]), ("carry", carry)))
            totals = [Signal(signed(bits), name=f"lane{i}_total{w}") for w in range(self._parts)]
            new = add_carry(totals[0], term, carry, bits)
            with m.If(self.advance & self.add):
                with m.If(self.clear):
                    m.d.sync += [total.eq(0) for total in totals]
                with m.Else():
                    m.d.sync += [total.eq(following) for total, following in zip(totals, [*totals[1:], new])]
            for word, total in zip(words, totals):
                word.append(total)
        m.d.comb += self.totals.eq(Cat(words))
        return m


def _operands(m, codes, fmt, name):
    """Decoded codes, for `Product`."""
    operands = [Signal(operand_layout(fmt), name=f"{name}{i}") for i, _ in enumerate(codes)]
    for operand, code in zip(operands, codes):
        m.d.comb += [operand[field].eq(value) for field, value in decode_operand(fmt, code).items()]
    return operands


def _product(m, pipe, product, code, operand, name):
    """(value, carry) of a product, from a register on: the product is their sum, and value signed."""
    bits, negative, shift = (pipe.reg(x, name=f"{name}_{n}") for n, x in
                             zip(("sig", "negative", "shift"), product.multiply(m, code, operand, name=name)))
    return product.align(m, bits, negative, shift, name=name), negative


def _tree_stages(lanes):
    """Registers in `_sum`."""
    return 1 + max(0, -(-max(0, lanes.bit_length() - 2) // 2) - 1)


def _sum(m, pipe, terms, name):
    """(value, carry) of the sum of such pairs: one addition, a register, then registers between every two more."""
    values, carries = [value for value, _ in terms], [carry for _, carry in terms]
    for stage in range(_tree_stages(len(terms))):
        values, carries = add_pairs(m, values, carries[::-1], 2 if stage else 1, f"{name}_stage{stage}")
        values, carries = (pipe.reg(list(x), name=f"{name}_{n}{stage}") for n, x in (("sum", values), ("carry", carries[::-1])))
    (value,), (carry,) = add_pairs(m, values, carries[::-1], 2, f"{name}_end")
    return value, carry


# Scores

def _amount(m, left, width, name):
    """How far `_score` shifts right a value of ``width`` bits to multiply it by ``2**left``; from some amount on all are alike."""
    count = (SCORE_BITS + width - 1).bit_length()
    right = Signal(signed(max(len(left), count) + 2), name=f"{name}_right")
    m.d.comb += right.eq(SCORE_BITS - left)
    return Mux(right[-1], 0, right[:count] | right[count:].any().replicate(count))


def _score(m, pipe, dot, amount, name):
    """``floor(dot * 2**(left - 1) + 1/2)``, saturated to SCORE_BITS bits, 3 stages later; ``amount`` as `_amount` made it.

    A negative x is shifted as ~x, of which floor is the complement of the floor wanted, so all is done on magnitudes.
    """
    sign = dot[-1]
    overflow, split = Const(0, 1), min(3, len(amount) - 1)
    current = Cat(sign.replicate(SCORE_BITS), dot[:-1] ^ sign.replicate(len(dot) - 1))
    # From the largest step down: a step of n leaves a window of SCORE_BITS + n - 1 bits, in which the result lies.
    current = Cat(current, Const(0, max(0, SCORE_BITS + (1 << len(amount)) - 1 - len(current))))
    for k in reversed(range(len(amount))):
        step, bit = 1 << k, amount[k]
        need = SCORE_BITS + step - 1
        shifted = Signal(need, name=f"{name}_window{k}")
        m.d.comb += shifted.eq(Mux(bit, current[step:], current))
        overflow, current = overflow | ~bit & current[need:].any(), shifted
        if k == split:
            current, overflow, sign, amount = (pipe.reg(x, name=f"{name}_{n}") for n, x in (
                ("coarse", current), ("coarse_overflow", overflow), ("coarse_sign", sign), ("fine_amount", amount[:k])))
    current, overflow, sign = (pipe.reg(x, name=f"{name}_{n}") for n, x in (
        ("fine", current), ("fine_overflow", overflow), ("fine_sign", sign)))
    # One bit below the result's last: adding it rounds.
    kept, guard = Cat(current[1:] ^ sign.replicate(SCORE_BITS - 1), sign), current[0] ^ sign
    over = overflow | ~sign & current.all()
    rounded = Mux(over, Cat((~sign).replicate(SCORE_BITS - 1), sign), (kept + guard)[:SCORE_BITS])
    return pipe.reg(rounded.as_signed(), name=name)


# Weights

def _exp2(m, pipe, d, gap, fmt, name):
    """Codes of ``2**(fmt.max_exp - d)`` and ``2**(fmt.max_exp - d - gap)``, 8 bits each, 2 stages later.

    ``d`` has SCORE_FRACTION fraction bits, ``gap`` none: so both compare the same fraction with the thresholds.
    """
    thresholds, steps = exp2_thresholds(fmt), 1 << fmt.man_bits
    octaves = (thresholds[-1] >> SCORE_FRACTION) + 1      # from the next on the result is 0
    fraction, whole = d[:SCORE_FRACTION], d[SCORE_FRACTION:]
    cuts = [tuple(t & ((1 << SCORE_FRACTION) - 1) for t in thresholds if t >> SCORE_FRACTION == k) for k in range(octaves)]
    counts = {cut: pipe.reg(_count(m, fraction, cut, f"{name}_{k}"), name=f"{name}_count{k}") for k, cut in enumerate(dict.fromkeys(cuts))}

    def code(octave, name):
        """What the code is in an octave: the one at its begin, less the thresholds passed."""
        octave = pipe.reg(Mux(octave >= octaves, octaves, octave)[:octaves.bit_length()], name=f"{name}_octave")
        out = Signal(7, name=f"{name}_code")
        normal = [k for k in range(octaves) if cuts[k] == cuts[0] and all(c == cuts[0] for c in cuts[:k])]
        with m.Switch(octave):
            for k in range(len(normal), octaves):
                begin = len(thresholds) - sum(t < k << SCORE_FRACTION for t in thresholds)
                with m.Case(k):
                    m.d.comb += out.eq(begin - counts[cuts[k]])
            with m.Case(octaves):
                m.d.comb += out.eq(0)
            with m.Default():
                m.d.comb += out.eq(len(thresholds) - Cat(Const(0, fmt.man_bits), octave) - counts[cuts[0]])
        assert len(cuts[0]) == steps
        return Cat(pipe.reg(out, name=name), Const(0, 1))

    return code(whole, f"{name}_plain"), code(whole + gap, f"{name}_scaled")


def _decoded(code, fmt):
    """(shift, significand) of a code without sign."""
    operand = decode_operand(fmt, code)
    return operand["shift"][:fmt.max_shift.bit_length()], operand["sig"]


def _count(m, value, thresholds, name):
    """How many of the ascending thresholds are at most ``value``."""
    reached = [_at_least(value, t) for t in thresholds]
    count = Signal(range(len(thresholds) + 1), name=f"{name}_thresholds")
    # Binary search: the reached ones are the lowest.
    def search(low, high):                                # low <= count <= high
        if low == high:
            return Const(low, len(count))
        middle = (low + high) // 2
        return Mux(reached[middle], search(middle + 1, high), search(low, middle))
    m.d.comb += count.eq(search(0, len(thresholds)))
    return count


def _at_least(value, threshold):
    """``value >= threshold`` for a constant, as a few gates: synthesizers would spend a subtraction on each."""
    out = Const(1, 1)
    for i, bit in enumerate(value):
        out = bit & out if threshold >> i & 1 else bit | out
    return out


# Output

def _normal(m, value, exponents, name):
    """(normalized, exponent): shifted left until the highest bit is set, and which of the exponents belongs to so many places."""
    exponent = exponents[0]
    for k, other in enumerate(exponents[1:]):
        shifted = Signal(len(value), name=f"{name}_normal{k}")
        m.d.comb += shifted.eq(Mux(value[-1], value, value << 1))
        exponent = Mux(value[-1], exponent, other)
        value = shifted
    return value, exponent
