"""Bench of Sampler: values and cycles against its golden twin."""
import cocotb
import numpy as np

from hwgen.golden.sampler import sample, sample_latency, sample_lead
from hwgen.params.hardware import MAX_HEAD_ROW
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, cycles_of, start_clock_reset

DESIGN = small_design(**bench_params()["design"])
UNIT = make.sampler(DESIGN)
T, V, C = DESIGN.hw.entries, DESIGN.hw.vector_lanes, DESIGN.hw.columns
TILES, GROUPS, VOCAB = DESIGN.head_matmul.n_tiles, C // V, DESIGN.model.vocab_size
GUMBEL = DESIGN.hw.sampler == "gumbel"
TEMPERATURES = (0, 1, 100, 256, 700, 65535) if GUMBEL else (0,)


class Case:
    """The LM head's sums for n rows, with the sampler's configuration."""

    def __init__(self, rng, n, inv_temperature):
        self.n, self.inv_temperature = n, inv_temperature
        bits = rng.choice([1, 2, 8, DESIGN.acc_bits - 1], size=(n, 1))           # few bits: many ties
        acc = rng.integers(-2**bits, 2**bits, (n, TILES * C))
        acc[rng.random(acc.shape) < 0.02] = rng.choice([-2**(DESIGN.acc_bits - 1), 2**(DESIGN.acc_bits - 1) - 1])
        for row in range(n):
            if rng.random() < 0.2:
                acc[row] = np.minimum(acc[row], ~acc[row])                       # nothing above zero
            if rng.random() < 0.6:                                               # some are the largest, or a bit less
                near = rng.choice(VOCAB, min(6, VOCAB), replace=False)
                less = 1 << rng.integers(0, bits[row, 0], len(near))
                acc[row, near] = np.maximum(acc[row, :VOCAB].max() - less
                                            * rng.integers(0, 2, len(near)), -2**(DESIGN.acc_bits - 1))
        acc[:, VOCAB:] = np.maximum(acc[:, VOCAB:], acc[:, :VOCAB].max())        # must be ignored
        self.offsets = rng.choice([0, 0, 1, MAX_HEAD_ROW], TILES * C) if DESIGN.scaled else np.zeros(TILES * C, int)
        self.acc, self.seed, self.keys = acc, int(rng.integers(2**32)), rng.integers(0, 2**32, T)
        # mostly such that logits of the row are about 2**5, sometimes at the ends
        fit = 5 - bits[:, 0] - DESIGN.acc_unit
        self.exp = int(rng.integers(-20, 20))
        self.exps = np.where(rng.random(n) < 0.2, rng.choice([-512, 511], n), np.clip(fit - self.exp, -512, 511))

    def tokens(self):
        picked = sample(DESIGN, self.acc << self.offsets, self.exps + self.exp, inv_temperature=self.inv_temperature,
                        seed=self.seed,
                        keys=self.keys[:self.n])
        return [{"row": row, "token": int(token)} for row, token in enumerate(picked)]

    def granules(self):
        acc = self.acc.reshape(self.n, TILES, GROUPS, V).tolist()
        offsets = self.offsets.reshape(TILES, GROUPS, V).tolist()
        return [{"acc": acc[e][t][g], "entry": e, "exp": int(self.exps[e]), "group": g,
                 **({"rows": offsets[t][g]} if DESIGN.scaled else {})}
                for t in range(TILES) for e in range(self.n) for g in range(GROUPS)]


class Bench:
    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock, self.done = dut, clock, cycles_of(dut.done, clock)
        self.cmd = StreamSource(dut, "cmd", clock, idle=idle, shape=UNIT.cmd.payload.shape())
        self.i = StreamSource(dut, "i", clock, idle=idle, shape=UNIT.i.payload.shape())
        self.o = StreamSink(dut, "o", clock, stall=stall, shape=UNIT.o.payload.shape())

    def configure(self, case):
        self.dut.exp.value = case.exp & 1023
        if GUMBEL:
            self.dut.inv_temperature.value, self.dut.seed.value = case.inv_temperature, case.seed
            self.dut.key.value = sum(int(k) << 32 * i for i, k in enumerate(case.keys))

    def start(self, case):
        """Configuration and command; must be called at the time to drive."""
        self.configure(case)
        self.cmd.send([{"n": case.n}])

    async def phase(self, case):
        self.o.clear()
        before = len(self.done)
        self.start(case)
        self.i.send(case.granules())
        assert await self.o.wait(case.n, timeout=100_000) == case.tokens(), (case.inv_temperature, case.seed)
        await self.clock.sample()
        assert self.done[before:] in ([], [self.clock.cycle])
        await self.clock.edge()


@cocotb.test()
async def timing(dut):
    """A granule per cycle; results and done where the golden model has them."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    for inv_temperature in TEMPERATURES[::3]:
        for n in {1, T}:
            clock = await start_clock_reset(dut)
            bench = Bench(dut, clock)
            case = Case(rng, n, inv_temperature)
            bench.start(case)
            await bench.cmd.drained()
            await clock.edge(sample_lead(DESIGN) - 2)
            await clock.sample()
            bench.i.send(case.granules())
            await clock.edge()
            assert await bench.o.wait(n) == case.tokens()
            await clock.edge(2)
            sent = [cycle for cycle, _ in bench.i.sent]
            assert sent == list(range(sent[0], sent[0] + len(sent)))
            assert sent[0] == bench.cmd.sent[0][0] + max(2, sample_lead(DESIGN))
            assert bench.done == [sent[-1] + sample_latency(DESIGN)]
            row_ends = sent[-n * GROUPS:][GROUPS - 1::GROUPS]
            assert bench.o.cycles == [cycle + sample_latency(DESIGN) - 1 for cycle in row_ends]
            bench.cmd.stop(), bench.i.stop(), bench.o.stop()


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng([cocotb.RANDOM_SEED, int(10 * pattern[0]), int(10 * pattern[1])])
    bench = Bench(dut, await start_clock_reset(dut), *pattern)
    for inv_temperature in TEMPERATURES * (5 if pattern == (0, 0) or not GUMBEL else 1):
        await bench.phase(Case(rng, int(rng.integers(1, T + 1)), inv_temperature))


@cocotb.test()
async def configuration_is_taken_with_the_command(dut):
    """And the next command, with its own, waits until the rows of the first are through."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut))
    for inv_temperature in TEMPERATURES:
        case, other = Case(rng, T, inv_temperature), Case(rng, T, 77 if GUMBEL else 0)
        other.keys = case.keys      # are looked at with each row
        bench.o.clear()
        bench.start(case)
        await bench.cmd.drained()
        bench.start(other)
        bench.i.send(case.granules())
        assert await bench.o.wait(T) == case.tokens()
        bench.i.send(other.granules())
        assert await bench.o.wait(2 * T) == case.tokens() + other.tokens()


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = Bench(dut, await start_clock_reset(dut), 0.2, 0.2)
    for inv_temperature in TEMPERATURES[:3]:
        case = Case(rng, T, inv_temperature)
        bench.start(case)
        bench.i.send(case.granules())
        await bench.clock.edge(int(rng.integers(3, 30)))
        bench.cmd.clear(), bench.i.clear()
        await bench.clock.reset()
        await bench.phase(Case(rng, T, inv_temperature))
