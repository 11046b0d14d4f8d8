"""Bench of the AXI4 reader: values, cycles, bursts, errors, with a memory of our own and with cocotbext-axi's."""
import random

import cocotb

from hwgen.golden import axi_reader as golden
from hwgen.params.axi import AXI_EVENTS, AxiShape
from hwgen.units.axi_reader import ReadError
from hwgen.units.weights import request_layout
from sim.axi_memory import AxiMemory, Timing
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset, value_of
from sim.weights_units import random_stream

PARAMS = bench_params()
DESIGN = small_design(source="stream", **PARAMS["changes"])
AXI = AxiShape(**PARAMS["axi"])
HW = DESIGN.hw
STREAM = random_stream(DESIGN)
BASES = random.Random(f"bases {cocotb.RANDOM_SEED}")
BRIEF = PARAMS.get("brief", False)      # less of the same, for widths beside the first ones


class Bench:
    def __init__(self, dut, clock, idle=0, stall=0, timing=None):
        self.dut, self.clock = dut, clock
        self.req = StreamSource(dut, "req", clock, idle=idle, shape=request_layout(stream_beats=DESIGN.stream_beats))
        self.beats = StreamSink(dut, "beats", clock, stall=stall)
        self.memory = AxiMemory(dut, clock, STREAM.tobytes(), width=AXI.data_width, outstanding=AXI.outstanding,
                                timing=timing)
        self.move()
        self.bad = []       # numbers of the beats that were marked
        self.errors = []    # (code, address)
        self.events = dict.fromkeys(AXI_EVENTS, 0)
        cocotb.start_soon(self._watch())

    def move(self):
        """The stream lies elsewhere: so each bit of an address is now 0, now 1."""
        self.base = self.memory.base = BASES.randrange(((1 << AXI.address_width) - STREAM.size >> 12) + 1) << 12
        self.dut.base.value = self.base

    async def _watch(self):
        taken = 0
        while True:
            await self.clock.sample()
            if self.clock.in_reset:
                taken = 0
            else:
                if value_of(self.dut.beats__valid) and value_of(self.dut.beats__ready):
                    if value_of(self.dut.beats_bad):
                        self.bad.append(taken)
                    taken += 1
                bits = value_of(self.dut.error)
                if bits & 1:
                    self.errors.append((ReadError(bits >> 1 & 7), bits >> 4))
                bits = value_of(self.dut.activity)
                for i, name in enumerate(self.events):
                    self.events[name] += bits >> i & 1
            await self.clock.edge()

    def clear(self):
        self.beats.clear()
        self.bad.clear()
        self.errors.clear()
        self.memory.clear()

    def send(self, requests):
        self.req.send([dict(zip(("address", "count", "stride"), request)) for request in requests])

    async def check(self, requests, timeout=100_000):
        """All beats of requests, in order."""
        want = [int.from_bytes(STREAM[beat].tobytes(), "little") for beat in wanted(requests)]
        assert await self.beats.wait(len(want), timeout=timeout) == want


def wanted(requests):
    """Numbers of the beats that requests want."""
    return [address + i * (HW.tile_beats if stride else 1) for address, count, stride in requests for i in range(count)]


def a_pass(rng):
    """The requests of a pass, which ends early: the body is long."""
    tokens = [rng.randrange(DESIGN.model.vocab_size) for _ in range(HW.entries)]
    size, table = DESIGN.header_beats, DESIGN.head_matmul
    rows = [(DESIGN.embed_address + t // HW.columns * table.k_tiles * HW.tile_beats + t % HW.columns * HW.tile_beats
             // HW.columns,
             table.k_tiles, 1) for t in tokens]
    return [(0, size, 0), *rows, (DESIGN.body_address,
                                  min(PARAMS.get("beats", 40), DESIGN.stream_beats - DESIGN.body_address), 0)]


def some_requests(rng, count):
    for _ in range(count):
        stride = rng.randrange(2)
        step = HW.tile_beats if stride else 1
        beats = min(rng.choice([1, 1, 2, 3, rng.randint(1, 24)]), (DESIGN.stream_beats - 1) // step + 1)
        yield rng.randrange(DESIGN.stream_beats - (beats - 1) * step), beats, stride


def strided(rng):
    """A request with stride, which is to be the first after a reset: nothing is left of another one."""
    beats = min(3, (DESIGN.stream_beats - 1) // HW.tile_beats + 1)
    return rng.randrange(DESIGN.stream_beats - (beats - 1) * HW.tile_beats), beats, 1


@cocotb.test()
@cocotb.parametrize(("latency", [1, 40] if BRIEF else [1, 7, 40, 150]))
async def cycles(dut, latency):
    """Each address, word and beat in its cycle, with a memory of fixed latency."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {latency}")
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock, timing=Timing(latency=latency))
    for requests in ([strided(rng)], a_pass(rng), list(some_requests(rng, 8))):
        bench.clear()
        bench.send(requests)
        await bench.check(requests)
        start = bench.req.sent[-len(requests)][0]
        want = golden.reading(DESIGN, AXI, requests, latency)
        assert [(c - start, a - bench.base, n) for c, a, n in bench.memory.addresses] == [(c, b.offset, b.words)
                                                                                          for c, b in want.addresses]
        assert [c - start for c in bench.memory.words] == want.words
        assert [c - start for c in bench.beats.cycles] == want.beats
        await clock.edge(latency)


@cocotb.test()
@cocotb.parametrize(("pattern", [(0.5, 0.5)] if BRIEF else [(0, 0), (0.5, 0), (0.5, 0.5), (0.1, 0.9)]))
async def values(dut, pattern):
    """Hesitating machines and memories change when, never what; the events count what happened."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {pattern}")
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock, *pattern)
    for timing in (Timing(stall=pattern[0], busy=pattern[1]),
                   Timing(latency=30, refresh=(50, 20), busy=0.5, row=(256, 9))):
        bench.memory.timing = timing
        bench.clear()
        requests = [*a_pass(rng), *some_requests(rng, 6)]
        before = dict(bench.events)
        bench.send(requests)
        await bench.check(requests)
        await clock.edge(2)
        assert bench.events["axi_words"] - before["axi_words"] == len(bench.memory.words)
        assert bench.events["axi_bursts"] - before["axi_bursts"] == len(bench.memory.addresses)
        assert [b for request in requests for b in golden.bursts(DESIGN, AXI, *request)] == \
            [golden.Burst(a - bench.base, n) for _, a, n in bench.memory.addresses]
    assert bench.errors == [] and bench.bad == []


@cocotb.test()
@cocotb.parametrize(("code", [2] if BRIEF else [2, 3]))
async def errors(dut, code):
    """Words that cannot be read are zeros in beats that say so, the others are as ever; each is reported with its
    address."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {code}")
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock, 0, 0.2, Timing(stall=0.2))
    requests = a_pass(rng)
    words = [bench.base + b.offset + i * AXI.word_bytes for r in requests for b in golden.bursts(DESIGN, AXI, *r)
             for i in range(b.words)]
    broken = set(rng.sample(sorted(set(words)), max(1, len(set(words)) // 6)))
    bench.memory.fail = lambda address: code if address in broken else rng.choice([0, 1])
    bench.send(requests)
    want, bad = [], []
    for i, beat in enumerate(wanted(requests)):
        data = bytearray(STREAM[beat].tobytes())
        for j in range(len(data)):
            address = bench.base + beat * HW.beat_bytes + j
            if address - address % AXI.word_bytes in broken:
                data[j] = 0
                bad.append(i)
        want.append(int.from_bytes(data, "little"))
    assert await bench.beats.wait(len(want)) == want
    assert bench.bad == sorted(set(bad))
    assert bench.errors == [(ReadError(code - 1), address) for address in words if address in broken]
    bench.memory.fail = lambda address: 0
    bench.clear()
    requests = [*a_pass(rng), *some_requests(rng, 3)]
    bench.send(requests)
    bench.bad.clear()
    await bench.check(requests)
    assert bench.bad == []


@cocotb.test()
async def silence(dut):
    """A memory that owes words is reported once, and nothing is lost when it speaks."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock)
    requests = a_pass(rng)
    for limit in (0, 20, 22, 39, 57):
        dut.timeout.value = limit
        bench.clear()
        bench.memory.mute = True
        start = clock.cycle
        bench.send(requests)
        await clock.edge(60)
        waits = bench.events["axi_waits"]
        await clock.edge(40)
        assert bench.events["axi_waits"] - waits == 40
        address = bench.base
        assert bench.errors == ([(ReadError.TIMEOUT, address)] if limit else [])
        bench.memory.mute = False
        await bench.check(requests)
        assert len(bench.errors) == (limit > 0) and clock.cycle > start + 100
        await clock.edge(20)
        waits = bench.events["axi_waits"]
        await clock.edge(10)
        assert bench.events["axi_waits"] == waits          # nothing is owed


@cocotb.test()
async def a_long_silence(dut):
    """Its count has 32 bits. It is set, as nobody waits for so long in a simulation."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock)
    for bit in range(3, 32):
        limit, requests = (1 << bit) + rng.randrange(1 << bit), list(some_requests(rng, 1))
        dut.timeout.value = limit
        bench.clear()
        bench.move()
        bench.memory.mute = True
        bench.send(requests)
        await clock.edge(20)
        for silent, errors in ((limit ^ 1 << rng.randrange(3, bit + 1), 0), (limit - 3, 1)):
            bench.errors.clear()
            dut.silent.value = silent
            await clock.edge(3)
            await clock.sample()
            assert bench.errors == []
            await clock.edge()
            assert bench.errors == [(ReadError.TIMEOUT,
                                     bench.base + golden.bursts(DESIGN, AXI, *requests[0])[0].offset)] * errors
        bench.memory.mute = False
        await bench.check(requests)


@cocotb.test()
async def offers_wait_for_nobody(dut):
    """A beat is offered whether or not anyone is ready for it."""
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock, stall=1)
    bench.send([(0, DESIGN.header_beats, 0)])
    await clock.edge(100 + 10 * HW.beat_bytes)
    await clock.sample()
    assert value_of(dut.beats__valid) and bench.beats.items == []


@cocotb.test()
async def last_word(dut):
    """A memory that ends bursts wrongly, or speaks unasked, is reported; what it says is taken as it was asked for."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock)
    for last, wrong in ((lambda left: left <= 2, lambda words: words > 1), (lambda left: 0, lambda words: True)):
        bench.memory.last = last
        bench.clear()
        requests = a_pass(rng)
        bench.send(requests)
        await bench.check(requests)
        assert [code for code, _ in bench.errors] == [ReadError.PROTOCOL] * sum(wrong(n)
                                                                                for _, _, n in bench.memory.addresses)
    bench.memory.last = None
    bench.clear()
    bench.memory._queue.append([0, bench.base, 1])
    await clock.edge(5)
    assert [code for code, _ in bench.errors] == [ReadError.PROTOCOL] and bench.beats.items == []
    bench.clear()
    requests = list(some_requests(rng, 5))
    bench.send(requests)
    await bench.check(requests)
    assert bench.errors == []


@cocotb.test()
@cocotb.parametrize(("when", [5, 30] if BRIEF else [1, 2, 3, 9, 30]))
async def flush_in_flight(dut, when):
    """Everything is dropped, what the bus owes is waited for, and the next requests are served as the first."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {when}")
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock, 0, 0.3, Timing(latency=12, busy=0.4))
    for _ in range(2):
        bench.send(a_pass(rng))
        await clock.edge(when)
        bench.req.clear()
        bench.beats.stop()
        dut.flush.value = 1
        for _ in range(5000):
            await clock.sample()
            if value_of(dut.flushed):
                break
            await clock.edge()
        assert value_of(dut.flushed) and not bench.memory._queue
        await clock.edge()
        dut.flush.value = 0
        bench.beats = StreamSink(dut, "beats", clock, stall=0.3)
        bench.clear()
        requests = [*a_pass(rng), *some_requests(rng, 3)]
        bench.send(requests)
        await bench.check(requests)


@cocotb.test()
@cocotb.parametrize(("when", [9] if BRIEF else [1, 3, 9, 40]))
async def reset_in_flight(dut, when):
    """A reset of machine and bus; then everything in its cycle."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {when}")
    clock = await start_clock_reset(dut)
    bench = Bench(dut, clock, timing=Timing(latency=9))
    bench.send(a_pass(rng))
    await clock.edge(when)
    bench.req.clear()
    bench.memory.forget()
    await clock.reset()
    bench.memory.forget()
    bench.clear()
    requests = [strided(rng), *a_pass(rng)]
    bench.send(requests)
    await bench.check(requests)
    start = bench.req.sent[-len(requests)][0]
    assert [c - start for c in bench.beats.cycles] == golden.reading(DESIGN, AXI, requests, 9).beats
