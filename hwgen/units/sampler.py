"""Choice of the next token, from the LM head's sums."""
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..lib.arith import (constant_rom, leading_zeros, magnitude, pwl_lookup, round_fixed, shift_up, shift_window,
                         window_amount)
from ..lib.layouts import EXP_BITS
from ..lib.pipeline import Link, Pipeline
from ..lib.softcap import SOFTCAP_STAGES, softcap
from ..lib.threefry import THREEFRY_STAGES, threefry
from ..params.hardware import MAX_HEAD_ROW
from ..params.tables import (NOISE_FRACTION, SCORE_BITS, SCORE_FRACTION, gumbel_table, neg_log_octaves, neg_log_table)

__all__ = ["NOISE_STAGES", "Sampler", "gumbel_noise"]

_TEMPERATURE_FRACTION = 8
NOISE_STAGES = 7


class Sampler(wiring.Component):
    """The best token of each row, while the LM head's results go by: a granule per cycle.

    Greedy: the largest sum, the lowest index on a tie; a softcap of the logits changes nothing of that. With sampler
    "gumbel", and a temperature that is not 0: the largest sum of logit (or softcapped logit) / temperature and Gumbel
    noise, which is a sample of the softmax; the noise of a token depends on seed, row key and token only. Outputs of
    the LM head beyond vocab_size are ignored. A result leaves when its row's last granule has passed:
    ``golden.sampler.sample_latency`` cycles from that granule to ``done``.

    Parameters
    ----------
    results : Results                           the array's sums
    vocab_size : int                            at least 1
    acc_unit : int                              exponent of a sum's unit before the scales
    sampler : str                               "greedy" or "gumbel"
    final_logit_softcapping : float or None     a logit x is ``c * tanh(x / c)`` with this c above 0

    Members
    -------
    cmd : In(stream {n})             the LM head's sums of rows 0 to n - 1 come next
    exp : In(signed)                 the LM head's weight exponent; taken with ``cmd``
    i : In(stream `Results.layout`)  sums, by n-tile, row and group
    o : Out(stream {row, token})     in order of rows
    done : Out(1)                    the cycle after the last row's result was taken

    and only with sampler "gumbel"

    inv_temperature : In(16)         1 / temperature in units of 2**-8, 0 for greedy; taken with ``cmd``
    seed : In(32)                    taken with ``cmd``
    key : In(32 bits, T times)       tells rows apart in the noise; held from ``cmd`` to ``done``
    """
    def __init__(self, *, results, vocab_size, acc_unit, sampler, final_logit_softcapping=None):
        self._results, self._vocab_size, self._acc_unit = results, vocab_size, acc_unit
        self._gumbel, self._softcap = sampler == "gumbel", final_logit_softcapping
        self._entries, self._lanes = results.entries, results.vector_lanes
        self._tiles = -(-vocab_size // results.columns)
        members = {
            "cmd": In(stream.Signature(data.StructLayout({"n": range(results.entries + 1)}))),
            "exp": In(signed(EXP_BITS)),
            "i": In(stream.Signature(results.layout)),
            "o": Out(stream.Signature(data.StructLayout({
                "row": range(results.entries), "token": range(vocab_size)}))),
            "done": Out(1),
        }
        if self._gumbel:
            members |= {"inv_temperature": In(16), "seed": In(32),
                        "key": In(data.ArrayLayout(unsigned(32), results.entries))}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        i = self.i.payload
        active = Signal()
        last_row = Signal(range(self._entries), reset_less=True)
        start = Signal()
        m.d.comb += [self.cmd.ready.eq(~active), start.eq(self.cmd.valid & ~active)]
        with m.If(start):
            m.d.sync += [active.eq(1), last_row.eq(self.cmd.payload.n - 1)]

        # Where the granule stands. Columns and lanes are powers of two, so a token's bits are lane, group and n-tile.
        granules = Link("granules")
        m.d.comb += [granules.valid.eq(self.i.valid & active), self.i.ready.eq(granules.ready & active)]
        sums, exp = list(i.acc), i.exp
        tile = Signal(range(self._tiles))
        last_group = self._results.groups - 1
        row_end = (tile == self._tiles - 1) & (i.group == last_group)
        with m.If(granules.valid & granules.ready & (i.group == last_group) & (i.entry == last_row)):
            m.d.sync += tile.eq(Mux(row_end, 0, tile + 1))
        tag = Cat((tile == 0) & (i.group == 0), row_end, i.entry, i.group, tile)

        if self._results.row_offsets:     # sums of different rows in the same unit
            aligned = Link("aligned")
            pipe = Pipeline(m, granules, aligned, stages=1, name="align")
            shifts = [offset[:MAX_HEAD_ROW.bit_length()] for offset in i.rows]
            sums = [pipe.reg((x << shift).as_signed(), name=f"aligned{j}")
                    for j, (x, shift) in enumerate(zip(sums, shifts))]
            tag, exp, granules = pipe.reg(tag, name="tag_aligned"), pipe.reg(exp, name="exp_aligned"), aligned
        if self._gumbel:
            self._choose(m, *self._scores(m, granules, tag, start, last_row, sums, exp))
        else:
            self._choose(m, granules, tag, sums)

        end = self.o.valid & self.o.ready & (self.o.payload.row == last_row)
        m.d.sync += self.done.eq(end)
        with m.If(end):
            m.d.sync += active.eq(0)
        return m

    def _choose(self, m, i, tag, scores):
        """From granules of scores at link ``i`` to `o`. ``scores`` may be a function that makes them: they get a
        stage."""
        lanes, vocab = self._lanes, self._vocab_size
        levels = (lanes - 1).bit_length()
        first_stages = 1 if callable(scores) else 0

        best_of = Link("best_of")
        pipe = Pipeline(m, i, best_of, stages=first_stages + levels, name="best")
        if first_stages:
            scores = [pipe.reg(score, name=f"score{j}") for j, score in enumerate(scores(m))]
            tag = pipe.reg(tag, name="tag_score")
        # Lanes beyond the vocabulary stand at the end: where the lower of two is, so is the higher.
        index = tag[2 + len(self.i.payload.entry):]
        whole, rest = divmod(vocab, lanes)
        if vocab % self._results.columns == 0:
            inside = [Const(1)] * lanes
        else:
            inside = [(index < whole) | ((index == whole) & (j < rest)) for j in range(lanes)]
        found = [(valid, score, Const(0, 0)) for valid, score in zip(inside, scores)]
        for level in range(levels):
            found = [pipe.reg(self._better(low, high), name=f"best{level}_{j}")
                     for j, (low, high) in enumerate(zip(found[::2], found[1::2]))]
        (valid, score, lane), = found
        tag = pipe.reg(tag, name="tag_best", stages=levels)
        first, row_end = tag[0], tag[1]
        row, index = tag[2:2 + len(self.i.payload.entry)], tag[2 + len(self.i.payload.entry):]
        token = Cat(lane, index)[:len(self.o.payload.token)]

        # The best of each row so far. A row's granules may follow each other, so read and write are one stage.
        m.submodules.best = best = Memory(shape=data.StructLayout({"score": score.shape(), "token": len(token)}),
                                          depth=max(2, self._entries), init=[])
        read, write = best.read_port(domain="comb"), best.write_port()
        take = Signal()
        out = Pipeline(m, best_of, self.o, stages=1, take=row_end, name="out")
        m.d.comb += [
            read.addr.eq(row),
            take.eq(first | valid & (score > read.data.score)),
            write.addr.eq(row),
            write.data.score.eq(score),
            write.data.token.eq(token),
            write.en.eq(take & best_of.valid & out.advance),
            self.o.payload.row.eq(out.reg(row, name="out_row")),
            self.o.payload.token.eq(out.reg(Mux(take, token, read.data.token), name="out_token")),
        ]

    @staticmethod
    def _better(low, high):
        """(valid, score, index bits) of the better of two: the lower one when equal."""
        take = high[0] & (high[1] > low[1])
        score = Mux(take, high[1], low[1])
        return low[0], score.as_signed(), Cat(Mux(take, high[2], low[2]), take)

    # -- sampling

    def _scores(self, m, i, tag, start, last_row, sums, sums_exp):
        """(link, tag, scores) of the granules: logits / temperature plus noise, or the sums themselves when greedy."""
        lanes = self._lanes
        exp, factor = Signal.like(self.exp, reset_less=True,
                                  name="held_exp"), Signal(16, reset_less=True, name="factor")
        with m.If(start):
            m.d.sync += [exp.eq(self.exp), factor.eq(self.inv_temperature)]

        logits, joined = Link("logits"), Link("joined")
        stages = 4 + (SOFTCAP_STAGES if self._softcap else 0)
        pipe = Pipeline(m, i, logits, stages=stages, name="logit")
        tag = pipe.reg(tag, name="tag_logit", stages=stages)
        bits = len(sums[0])
        left = exp + sums_exp + (self._acc_unit + SCORE_FRACTION)
        amount = pipe.reg(window_amount(m, left, bits, SCORE_BITS, name="logit"), name="amount")
        scaled, whole = [], []
        for j in range(lanes):
            sign, value = pipe.reg(magnitude(m, sums[j], name=f"sum{j}"), name=f"sum{j}")
            shifted = pipe.reg(shift_window(m, value, amount, SCORE_BITS, name=f"logit{j}"), name=f"window{j}")
            logit = pipe.reg(round_fixed(m, pipe.reg(sign, name=f"sign{j}"), *shifted, name=f"logit{j}"),
                             name=f"logit{j}")
            if self._softcap:
                logit = softcap(m, pipe, self._softcap, logit, name=f"capped{j}")
            # below 2**23 * 2**16 / 2**8 = 2**31
            scaled.append(pipe.reg((logit * factor >> _TEMPERATURE_FRACTION)[:32].as_signed(), name=f"scaled{j}"))
            whole.append(pipe.reg(sums[j], name=f"whole{j}", stages=stages))

        noisy = Link("noisy")
        noise = self._noise(m, noisy, start, last_row)
        m.d.comb += [joined.valid.eq(logits.valid & noisy.valid), logits.ready.eq(joined.ready & noisy.valid),
                     noisy.ready.eq(joined.ready & logits.valid)]

        def scores(m):
            width = max(bits, 33)
            for j in range(lanes):
                score = Signal(signed(width), name=f"score{j}_d")
                m.d.comb += score.eq(Mux(factor == 0, whole[j], scaled[j] + noise[j]))
                yield score
        return joined, tag, scores

    def _noise(self, m, o, start, last_row):
        """Noise of all granules from a start on, in their order, as fast as they are taken at ``o``."""
        lanes, groups, tiles = self._lanes, self._results.groups, self._tiles
        seed = Signal(32, reset_less=True, name="held_seed")
        running = Link("running")
        row, group = Signal(range(self._entries), name="row"), Signal(range(groups), name="group")
        tile = Signal(range(tiles))
        pipe = Pipeline(m, running, o, stages=THREEFRY_STAGES + NOISE_STAGES, name="noise")
        with m.If(start):
            m.d.sync += [running.valid.eq(1), seed.eq(self.seed)]
        with m.If(running.valid & running.ready):
            m.d.sync += group.eq(group + 1)
            with m.If(group == groups - 1):
                m.d.sync += [group.eq(0), row.eq(row + 1)]
                with m.If(row == last_row):
                    m.d.sync += [row.eq(0), tile.eq(tile + 1)]
                    with m.If(tile == tiles - 1):
                        m.d.sync += [tile.eq(0), running.valid.eq(0)]

        several = self._entries > 1
        pairs = (Cat(Const(p, (lanes // 2 - 1).bit_length()), group, tile) for p in range(lanes // 2))     # index / 2
        words = threefry(m, pipe, pairs, seed, Array(self.key)[row] if several else self.key[0], key_stays=not several,
                         name="threefry")
        return [gumbel_noise(m, pipe, word, f"noise{j}") for j, word in enumerate(w for pair in words for w in pair)]


def gumbel_noise(m, pipe, word, name):
    """-ln(-ln(1 - w)) + 4 of a random word, w = (word + 1/2) / 2**32, in units of 2**-SCORE_FRACTION, 7 stages
    later."""
    log, final = neg_log_table(), gumbel_table()
    upper = word[31]
    # Stage 1: twice the word or its complement, and 1: min(w, 1 - w) in units of 2**-33.
    v = Cat(Const(1, 1), word[:31] ^ upper.replicate(31))
    zeros, _ = leading_zeros(m, v, name=f"{name}_v")
    v, zeros, upper = pipe.reg((v, zeros, upper), name=f"{name}_1")
    # Stages 2, 3, 4: N = -ln of it.
    octave = constant_rom(m, neg_log_octaves(), zeros, range(max(neg_log_octaves()) + 1), name=f"{name}_octave")
    x, octave = pipe.reg((shift_up(m, v, zeros, 16, name=f"{name}_m")[0][:15], octave), name=f"{name}_2")
    base, slope = pwl_lookup(m, log, x[log.fraction_bits:], name=f"{name}_log")
    base, slope, f = pipe.reg((octave + base, slope, x[:log.fraction_bits]), name=f"{name}_3")
    # at least ln(2), at most 33 ln(2), give or take 2**-10.8
    n = pipe.reg((base + (slope * f >> log.fraction_bits))[:NOISE_FRACTION + 5], name=f"{name}_4")
    # Stages 5, 6, 7: by w below 1/2, by N above.
    small, upper = pipe.reg((v[19:32], upper), name=f"{name}_small", stages=3)
    above, _ = leading_zeros(m, n[NOISE_FRACTION - 1:], name=f"{name}_n")
    large = (n << above)[NOISE_FRACTION - 9:NOISE_FRACTION + 4]
    index = Mux(upper, Cat(large[10:], (6 - above)[:3]), small[10:])[:6]
    index, f, n = pipe.reg((index, Mux(upper, large[:10], small[:10]), Mux(upper, 0, n)), name=f"{name}_5")
    base, slope = pwl_lookup(m, final, index, name=f"{name}_final")
    base, slope, f = pipe.reg((n + base, slope, f), name=f"{name}_6")
    y = (base + (slope * f >> final.fraction_bits))[NOISE_FRACTION - SCORE_FRACTION:NOISE_FRACTION + 5]
    return pipe.reg(y, name=f"{name}_7")
