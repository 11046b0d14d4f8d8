"""Bench of MemoryLoader: bytes in, what stands in the memory, checksums and cycles; a line that loses bytes, and a
memory that stalls, fails and is silent."""
import random
import zlib

import cocotb

from hwgen.golden import memory_loader as golden
from hwgen.params.axi import AxiShape
from hwgen.params.loader import LoadError
from sim.axi_memory import AxiMemory, AxiWrites, Timing
from sim.stream_bench import bench_params, start_clock_reset, value_of

PARAMS = bench_params()
AXI = AxiShape(**PARAMS["axi"])
SILENCE = PARAMS["silence"]
SIZE = 1 << 14          # bytes of the memory
LONG = min(golden.BURST, AXI.burst) * AXI.word_bytes      # of a burst
BRIEF = PARAMS.get("brief", False)


class Bench:
    async def start(self, dut, *, stall=0, busy=0, latency=1, timing=None):
        self.dut, self.clock = dut, await start_clock_reset(dut)
        self.rng = random.Random(f"{cocotb.RANDOM_SEED} {stall} {latency}")
        base = self.rng.randrange((1 << AXI.address_width) // SIZE) * SIZE
        self.memory = AxiMemory(dut, self.clock, bytearray(self.rng.randbytes(SIZE)), base=base, width=AXI.data_width,
                                outstanding=1,
                                timing=timing)
        self.writes = AxiWrites(self.memory, stall=stall, busy=busy, latency=latency)
        self.expected, self.base = bytearray(self.memory.data), base
        return self

    async def begin(self, command, address, length):
        """Begins a block. Returns its cycle 0."""
        dut, start = self.dut, self.clock.cycle
        dut.address.value, dut.length.value = address, length
        getattr(dut, command).value = 1
        await self.clock.edge()
        getattr(dut, command).value = 0
        dut.address.value = self.rng.getrandbits(AXI.address_width)
        dut.length.value = self.rng.getrandbits(AXI.address_width)
        return start

    async def send(self, data, gap):
        """Bytes, each ``gap()`` cycles after the one before. Returns their cycles."""
        came = []
        for byte in data:
            await self.clock.edge(gap() - 1)
            self.dut.rx_valid.value, self.dut.rx_data.value = 1, byte
            came.append(self.clock.cycle)
            await self.clock.edge()
            self.dut.rx_valid.value, self.dut.rx_data.value = 0, self.rng.getrandbits(8)
        return came

    async def idle(self, most=20_000):
        """Waits until it is not busy. Returns that cycle."""
        for _ in range(most):
            await self.clock.sample()
            busy, cycle = value_of(self.dut.busy), self.clock.cycle
            await self.clock.edge()
            if not busy:
                return cycle
        raise AssertionError(f"busy for {most} cycles")

    async def said(self):
        """(count, crc, error, raw)"""
        await self.clock.sample()
        found = tuple(value_of(getattr(self.dut, name)) for name in ("count", "crc", "error", "raw"))
        await self.clock.edge()
        return found

    async def load(self, address, data, gap, *, exact=False):
        """A whole block, which stands in the memory then."""
        self.writes.clear()
        start = await self.begin("load", address, len(data))
        came = [cycle - start for cycle in await self.send(data, gap)]
        end = await self.idle() - start
        place = address - address % AXI.word_bytes - self.base
        self.expected[place:place + len(data)] = data
        assert self.memory.data == self.expected
        assert await self.said() == (len(data), zlib.crc32(data), LoadError.NONE, 0)
        assert [(a, n) for _, a, n in self.writes.addresses] == golden.bursts(AXI, address, len(data))
        if exact:
            block = golden.loaded(AXI, address, came, self.writes.latency)
            assert [(c - start, a, n) for c, a, n in self.writes.addresses] == block.addresses
            assert [c - start for c in self.writes.words] == block.words and end == block.end

    async def check(self, address, length, *, exact=False):
        """The checksum of a block."""
        self.memory.clear()
        start = await self.begin("check", address, length)
        end = await self.idle() - start
        place = address - address % AXI.word_bytes - self.base
        assert await self.said() == (length, zlib.crc32(self.memory.data[place:place + length]), LoadError.NONE, 0)
        assert [(a, n) for _, a, n in self.memory.addresses] == golden.bursts(AXI, address, length)
        if exact:
            block = golden.checked(AXI, address, length, self.memory.timing.latency)
            assert [(c - start, a, n) for c, a, n in self.memory.addresses] == block.addresses
            assert [c - start for c in self.memory.words] == block.words and end == block.end

    def block(self, most=4 * LONG):
        """(address, length) of some block."""
        length = self.rng.choice((1, 2, AXI.word_bytes, self.rng.randint(1, most), self.rng.randint(1, most)))
        return self.base + self.rng.randrange(SIZE - length - AXI.word_bytes), length

    def paced(self):
        """Gaps with which a memory that hesitates keeps up."""
        return lambda: self.rng.choice((6, 8, 20))


@cocotb.test()
@cocotb.parametrize(("latency", (9,) if BRIEF else (1, 9)))
async def cycles(dut, latency):
    """Each address and word in its cycle, of a memory that takes all at once."""
    bench = await Bench().start(dut, latency=latency, timing=Timing(latency=latency))
    for _ in range(3 if BRIEF else 8):
        address, length = bench.block()
        await bench.load(address, bench.rng.randbytes(length), bench.paced(), exact=True)
        await bench.check(address, length, exact=True)
        await bench.check(*bench.block(), exact=True)
    # over pages, one of which a burst does not cross
    over = bench.base + 4096 - 2 * AXI.word_bytes
    await bench.load(over, bench.rng.randbytes(5 * AXI.word_bytes), bench.paced(), exact=True)
    await bench.check(over, 5 * AXI.word_bytes, exact=True)
    await bench.load(bench.base, bench.rng.randbytes(1), bench.paced(), exact=True)


@cocotb.test()
async def values(dut):
    """Memories that hesitate change when, never what."""
    bench = await Bench().start(dut, stall=0.5, busy=0.5, latency=3,
                                timing=Timing(stall=0.5, busy=0.5, refresh=(50, 20), row=(256, 9)))
    for _ in range(3 if BRIEF else 6):
        address, length = bench.block()
        await bench.load(address, bench.rng.randbytes(length), lambda: 40)
        await bench.check(*bench.block())


@cocotb.test()
async def lost_bytes(dut):
    """A block that is not whole ends by itself, what comes late is nobody's, and the next block is as any other."""
    bench = await Bench().start(dut)
    for whole in (1, 2 * LONG + 1):
        address, length = bench.base + bench.rng.randrange(SIZE // 2), whole + 2
        data = bench.rng.randbytes(length)
        await bench.begin("load", address, length)
        await bench.send(data[:whole], lambda: 8)
        await bench.clock.edge(SILENCE - 2)
        assert await bench.said() == (whole, zlib.crc32(data[:whole]), LoadError.NONE, 1)
        await bench.clock.edge(3)
        assert await bench.said() == (whole, zlib.crc32(data[:whole]), LoadError.SILENCE, 1)
        await bench.clock.edge(3 * SILENCE)             # silence alone is no end
        await bench.send(bench.rng.randbytes(9), lambda: SILENCE - 1)
        await bench.clock.edge(SILENCE - 4)
        assert (await bench.said())[2:] == (LoadError.SILENCE, 1)
        await bench.clock.edge(5)
        assert (await bench.said())[2:] == (LoadError.SILENCE, 0)
        await bench.idle()
        await bench.send(bench.rng.randbytes(3), lambda: 2)     # of no block
        # of the block whole bursts may have been written
        place, found = address - address % AXI.word_bytes - bench.base, bench.memory.data
        assert found[:place] == bench.expected[:place]
        assert found[place + length:] == bench.expected[place + length:]
        bench.expected[:] = bench.memory.data
        await bench.load(address, data, lambda: 8, exact=True)


@cocotb.test()
async def overrun(dut):
    """A memory that takes nothing for too long: words are lost, it is said, and the bus is owed nothing when it has
    ended."""
    bench = await Bench().start(dut)
    length = 4 * LONG
    bench.writes.mute = True
    start = await bench.begin("load", bench.base, length)
    await bench.send(bench.rng.randbytes(length), lambda: 3)
    await bench.clock.edge(50)
    assert (await bench.said())[2:] == (LoadError.OVERRUN, 0) and bench.writes.addresses == []
    bench.writes.mute = False
    assert await bench.idle() > start and len(bench.writes.addresses) == 1
    bench.expected[:] = bench.memory.data
    await bench.load(bench.base, bench.rng.randbytes(length), bench.paced(), exact=True)


@cocotb.test()
@cocotb.parametrize(("code", (2, 3)))
async def errors(dut, code):
    """What the memory refuses is reported, the first of it, and the block goes on to its end."""
    bench = await Bench().start(dut)
    length = 3 * LONG
    broken = golden.bursts(AXI, bench.base, length)[1][0]
    bench.writes.fail = lambda address: code if address == broken else 1
    await bench.begin("load", bench.base, length)
    await bench.send(data := bench.rng.randbytes(length), bench.paced())
    await bench.idle()
    assert await bench.said() == (length, zlib.crc32(data), code - 1, 0)
    bench.memory.fail = lambda address: code if address == broken else 5 - code if address > broken else 0
    await bench.begin("check", bench.base, length)
    await bench.idle()
    count, _, error, _ = await bench.said()
    assert (count, error) == (length, code - 1)
    bench.memory.fail = bench.writes.fail = lambda address: 0
    await bench.check(bench.base, length)


@cocotb.test()
async def silence(dut):
    """A memory that is silent is reported; nothing is lost when it speaks."""
    bench = await Bench().start(dut)
    for limit in (20, 0):
        dut.timeout.value = limit
        for mute in (bench.memory, bench.writes):
            loads = mute is bench.writes
            for late in (False, True):          # it is silent from the beginning, or when it has the address
                address, data = bench.base + 64, bench.rng.randbytes(AXI.word_bytes)
                mute.mute, mute.busy = not late, 0
                bench.memory.timing = Timing(busy=1) if not loads and not late else Timing()
                await bench.begin("load" if loads else "check", address, len(data))
                if loads:
                    await bench.send(data, lambda: 4)
                    if late:
                        await bench.clock.edge(4)
                        bench.writes.latency, mute.mute = 1, True
                elif late:
                    mute.mute = True
                await bench.clock.edge(60)
                assert (await bench.said())[2] == (LoadError.TIMEOUT if limit else LoadError.NONE)
                mute.mute, bench.memory.timing = False, Timing()
                await bench.idle()
                await bench.check(address, len(data))
                bench.expected[:] = bench.memory.data


@cocotb.test()
async def how_long_silent(dut):
    """The cycle in which a silence is reported."""
    bench = await Bench().start(dut)
    for limit in (3, 8, 21):        # odd and even ones, with few bits
        dut.timeout.value, bench.memory.timing = limit, Timing(busy=1)
        await bench.begin("check", bench.base, 1)
        offered = False
        while not offered:
            await bench.clock.sample()
            offered = value_of(dut.m_axi_arvalid)
            await bench.clock.edge()
        await bench.clock.edge(limit - 2)
        assert [(await bench.said())[2] for _ in range(2)] == [LoadError.NONE,
                                                               LoadError.TIMEOUT], f"after {limit} cycles"
        bench.memory.timing = Timing()
        await bench.idle()


@cocotb.test()
async def last_word(dut):
    """A memory that marks the wrong word as a burst's last."""
    bench = await Bench().start(dut)
    length = 2 * LONG
    for last in (lambda left: left <= 2, lambda left: 0):
        bench.memory.last = last
        await bench.begin("check", bench.base, length)
        await bench.idle()
        count, crc, error, _ = await bench.said()
        few = all(words == 1 for _, words in golden.bursts(AXI, bench.base, length)) and last(2)
        assert (count, crc) == (length, zlib.crc32(bench.memory.data[:length])) and error == (LoadError.NONE if few
                                                                                              else LoadError.PROTOCOL)


@cocotb.test()
async def reset_in_flight(dut):
    bench = await Bench().start(dut, timing=Timing(latency=9))
    for command in "load", "check":
        for when in (1, 14) if BRIEF else (1, 5, 14):
            await bench.begin(command, bench.base, LONG + 5)
            if command == "load":
                await bench.send(bytes(when), lambda: 3)
            await bench.clock.edge(when)
            bench.memory.forget()
            await bench.clock.reset()
            bench.memory.forget()
            assert await bench.said() == (0, 0, LoadError.NONE, 0)
            bench.expected[:] = bench.memory.data
            await bench.load(bench.base, bench.rng.randbytes(LONG + 3), bench.paced(), exact=True)
            await bench.check(bench.base, LONG + 3, exact=True)
