"""Bench of the AXI4 writer: bytes, cycles, errors, with a memory of our own."""
import random
from types import SimpleNamespace

import cocotb

from hwgen.golden.axi_writer import beat_words, write_period
from hwgen.lib.layouts import kv_put_layout
from hwgen.params.axi import AxiShape
from hwgen.units.axi_reader import ReadError
from sim.axi_memory import AxiWrites
from sim.stream_bench import StreamSource, bench_params, start_clock_reset, value_of

PARAMS = bench_params()
AXI, SIZE, BEATS = AxiShape(**PARAMS["axi"]), PARAMS["beat_bytes"], PARAMS["beats"]


class Bench:
    def __init__(self, dut, clock, idle=0, stall=0, latency=1):
        self.dut, self.clock, self.rng = dut, clock, random.Random(cocotb.RANDOM_SEED)
        self.base = self.rng.randrange(1, 1 << AXI.address_width - 13) << 12
        dut.base.value, dut.timeout.value = self.base, 0
        self.put = StreamSource(dut, "put", clock, idle=idle, shape=kv_put_layout(beats=BEATS, beat_bytes=SIZE))
        # what the write channels need of an `AxiMemory`; a writer has no others
        data = bytearray(self.rng.randbytes(-(-BEATS * SIZE // AXI.word_bytes) * AXI.word_bytes))
        self.memory = SimpleNamespace(dut=dut, clock=clock, word=AXI.word_bytes, base=self.base, data=data)
        self.writes = AxiWrites(self.memory, latency=latency, stall=stall, busy=stall)
        self.errors = []
        cocotb.start_soon(self._watch())

    async def _watch(self):
        while True:
            await self.clock.sample()
            bits = value_of(self.dut.error)
            if bits & 1 and not self.clock.in_reset:
                self.errors.append((ReadError(bits >> 1 & 7), bits >> 4))
            await self.clock.edge()

    def some(self, count):
        return [{"address": self.rng.choice([0, BEATS - 1, self.rng.randrange(BEATS)]),
                 "data": self.rng.getrandbits(8 * SIZE), "strobe": self.rng.choice([(1 << SIZE) - 1,
                                                                                    self.rng.getrandbits(SIZE)])}
                for _ in range(count)]

    async def write(self, beats):
        """Beats, until they are settled; the memory has them, and nothing else of it has changed."""
        want = bytearray(self.memory.data)
        for beat in beats:
            start, words = beat_words(AXI, SIZE, beat["address"], beat["data"].to_bytes(SIZE, "little"), beat["strobe"])
            for number, (word, strobe) in enumerate(words):
                for k in range(AXI.word_bytes):
                    if strobe >> k & 1:
                        want[start + number * AXI.word_bytes + k] = word[k]
        self.put.send(beats)
        await self.put.drained()
        await self.clock.edge()
        while not value_of(self.dut.settled):
            await self.clock.edge()
        assert self.memory.data == want


@cocotb.test()
@cocotb.parametrize(("answer", [1, 6]))
async def cycles(dut, answer):
    """Beat after beat, each in its cycle, with a memory that takes everything."""
    b = Bench(dut, await start_clock_reset(dut), latency=answer)
    await b.write(b.some(12))
    taken = [cycle for cycle, _ in b.put.sent]
    assert [after - before for before, after in zip(taken, taken[1:])] == 11 * [write_period(AXI, SIZE, answer)]
    assert [address - taken[k] for k, (address, _, _) in enumerate(b.writes.addresses)] == 12 * [1]


@cocotb.test()
@cocotb.parametrize(("pattern", [(0.5, 0), (0, 0.6), (0.3, 0.3)]))
async def values(dut, pattern):
    """Who hesitates changes when, never what."""
    b = Bench(dut, await start_clock_reset(dut), *pattern, latency=3)
    for count in (1, 20, 30):
        await b.write(b.some(count))
    assert not b.errors


@cocotb.test()
async def silence(dut):
    """A memory that is silent for so many cycles is reported once, in the next one: before the address, before each
    word and before the answer; what it takes meanwhile begins the count anew."""
    clock = await start_clock_reset(dut)
    b = Bench(dut, clock)
    words = max(1, SIZE // AXI.word_bytes)
    for timeout in (1, 2, 5, 40):
        for heard in range(words + 2):      # steps that the memory takes before it is silent
            beat, = b.some(1)
            dut.timeout.value = 0
            b.put.send([beat])
            await b.put.drained()
            b.writes.mute = heard == 0
            await clock.edge(heard)
            b.writes.mute = True
            dut.timeout.value = timeout
            await clock.edge(7 * timeout + 26)
            word = beat["address"] * SIZE // AXI.word_bytes * AXI.word_bytes
            assert b.errors == [(ReadError.TIMEOUT, b.base + word)], (timeout, heard)
            b.writes.mute = False
            while not value_of(dut.settled):
                await clock.edge()
            b.errors.clear()


@cocotb.test()
async def each_bit_of_the_limit(dut):
    """The count and its limit have 32 bits, and a reset clears the count."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    b = Bench(dut, clock)
    for bit in range(3, 32):
        limit = 1 << bit | rng.randrange(5, 1 << bit) if bit > 3 else 13
        b.writes.mute, dut.timeout.value = True, limit
        b.put.send(b.some(1))
        await b.put.drained()
        await clock.edge(8)
        for silent, errors in ((limit ^ 1 << rng.randrange(3, bit + 1), 0), (limit - 3, 1)):
            b.errors.clear()
            dut.silent.value = silent
            await clock.edge(3)
            assert b.errors == []
            await clock.edge(2)
            assert [error for error, _ in b.errors] == [ReadError.TIMEOUT] * errors
        if bit % 8 == 0:
            b.put.clear()
            await clock.reset()
            assert value_of(dut.silent) == 0 and value_of(dut.settled)
        b.writes.mute = False
        while not value_of(dut.settled):
            await clock.edge()
        b.errors.clear()


@cocotb.test()
async def errors(dut):
    """An answer that is an error, one that nobody waits for, and a memory that is silent: once, with the beat's
    address."""
    b = Bench(dut, await start_clock_reset(dut))
    for code, error in ((2, ReadError.SLAVE), (3, ReadError.DECODE)):
        beat, = b.some(1)
        b.writes.fail = lambda address, code=code: code
        await b.write([beat])
        await b.clock.edge(2)
        word = beat["address"] * SIZE // AXI.word_bytes * AXI.word_bytes
        assert b.errors == [(error, b.base + word)]
        b.errors.clear()
    b.writes.fail = lambda address: 0
    dut.timeout.value = 30
    b.writes.mute = True
    b.put.send(b.some(1))
    await b.clock.edge(100)
    assert [error for error, _ in b.errors] == [ReadError.TIMEOUT]
    b.writes.mute = False
    while not value_of(dut.settled):
        await b.clock.edge()
    b.errors.clear()
    await b.write(b.some(3))
    assert not b.errors
    b.writes._s["bvalid"] = SimpleNamespace(value=0)        # the bench gives an answer of its own
    dut.m_axi_bvalid.value = 1
    await b.clock.edge()
    dut.m_axi_bvalid.value = 0
    await b.clock.edge(3)
    assert [error for error, _ in b.errors] == [ReadError.PROTOCOL]
