"""Bench of the model of an SD card: what is right has no error, and each thing that is wrong has its own."""
import random

import cocotb

from hwgen.golden.card_reader import crc16, frame
from sim.stream_bench import bench_params, start_clock_reset, value_of

SLOW, FAST = bench_params()["slow"], bench_params()["fast"]
WOKEN, RATE_SLOW, RATE_FAST, PROTECTION, FRAME, ORDER, ARGUMENT, SELECT, EARLY = range(1, 10)


class Host:
    """The pins. A byte's bits go at the fall of the clock, and come at its rise."""

    def __init__(self, dut, clock):
        self.dut, self.clock, self.period = dut, clock, SLOW

    async def power(self, rng, **card):
        dut = self.dut
        usual = dict(present=0, seed=rng.getrandbits(32), kind=0, deaf=0, starts=0, waits=3, fault=0, fault_block=0,
                     fault_times=0)
        for name, level in (usual | card).items():
            getattr(dut, f"card_{name}").value = level
        dut.cs_n.value, dut.sck.value, dut.mosi.value, self.period = 1, 0, 1, SLOW
        await self.clock.edge(2)
        dut.card_present.value = 1
        await self.clock.edge(SLOW)

    async def byte(self, out=0xFF, bits=8):
        came, dut = 0, self.dut
        for place in range(7, 7 - bits, -1):
            dut.mosi.value = out >> place & 1
            dut.card_content.value = self.content()
            await self.clock.edge(self.period - self.period // 2)
            dut.sck.value = 1
            await self.clock.edge(self.period // 2 - 1)
            await self.clock.sample()
            came = came << 1 | value_of(dut.miso)
            await self.clock.edge()
            dut.sck.value = 0
        return came

    def content(self):
        return value_of(self.dut.card_at_block) * 3 + value_of(self.dut.card_at_byte) & 0xFF

    async def bytes(self, count, out=0xFF):
        return [await self.byte(out) for _ in range(count)]

    async def wake(self, count=10):
        await self.bytes(count)
        self.dut.cs_n.value = 0

    async def raw(self, words, more=0):
        """R1, and as many bytes behind it."""
        for word in words:
            await self.byte(word)
        if words[0] & 0x3F == 12:
            await self.byte()
        for _ in range(9):
            if (answer := await self.byte()) < 0x80:
                rest = await self.bytes(more)
                return (answer, *rest) if more else answer
        return None

    async def command(self, number, argument=0, more=0):
        await self.byte()
        return await self.raw(frame(number, argument), more)

    async def start(self, upto=6):
        """What is right, or its beginning."""
        await self.wake()
        steps = ((0, 0, 1), (8, 0x1AA, (1, 0, 0, 1, 0xAA)), (59, 1, 1), (55, 0, 1), (41, 1 << 30, 0), (58, 0, (0, 0xC0, 0xFF, 0x80, 0)))
        for number, argument, answer in steps[:upto]:
            assert await self.command(number, argument, 4 * isinstance(answer, tuple)) == answer
        if upto > 4:
            self.period = FAST

    async def block(self):
        for _ in range(4):
            if (token := await self.byte()) != 0xFF:
                break
        assert token == 0xFE
        data = bytes(await self.bytes(512))
        return data, int.from_bytes(bytes(await self.bytes(2)), "big")

    async def error(self):
        await self.clock.sample()
        error = value_of(self.dut.card_error)
        await self.clock.edge()
        return error


def crooked(number, argument, place, bit):
    """A command of which a bit is wrong."""
    words = bytearray(frame(number, argument))
    words[place] ^= 1 << bit
    return bytes(words)


async def deselect(host):
    host.dut.cs_n.value = 1
    await host.clock.edge(2)


async def hurry(host, period):
    host.period = period
    await host.byte()


async def early(host):
    await host.raw(frame(55, 0))
    await host.raw(frame(55, 0))


async def half_a_command(host):
    await host.byte()
    await host.byte(0x40)
    await deselect(host)


async def reads_twice(host):
    await host.command(18)
    await host.command(18)


async def deselects_a_read(host):
    await host.command(18)
    await deselect(host)


#: {what: (its code, how much of the start comes before, what is done)}
WRONG = {
    "a fast clock before it is ready": (RATE_SLOW, 4, lambda host: hurry(host, SLOW - 1)),
    "too fast a clock": (RATE_FAST, 6, lambda host: hurry(host, FAST - 1)),
    "CMD0 with a wrong CRC": (PROTECTION, 0, lambda host: host.raw(crooked(0, 0, 5, 3))),
    "CMD8 with a wrong bit": (PROTECTION, 1, lambda host: host.raw(crooked(8, 0x1AA, 4, 0))),
    "a command without its last bit": (FRAME, 1, lambda host: host.raw(crooked(8, 0x1AA, 5, 0))),
    "a byte of no command": (FRAME, 6, lambda host: host.byte(0x18)),
    "no reset": (ORDER, 0, lambda host: host.command(8, 0x1AA)),
    "no check": (ORDER, 1, lambda host: host.command(41, 1 << 30)),
    "no CMD55": (ORDER, 3, lambda host: host.command(41, 1 << 30)),
    "a read before it is ready": (ORDER, 4, lambda host: host.command(18)),
    "a read in a read": (ORDER, 6, reads_twice),
    "a stop of nothing": (ORDER, 6, lambda host: host.command(12)),
    "an unknown command": (ORDER, 6, lambda host: host.command(24)),
    "another voltage": (ARGUMENT, 1, lambda host: host.command(8, 0x2AA)),
    "no HCS": (ARGUMENT, 4, lambda host: host.command(41)),
    "a block that is not there": (ARGUMENT, 6, lambda host: host.command(18, 1 << 20)),
    "half a command": (SELECT, 6, half_a_command),
    "a read that is left": (SELECT, 6, deselects_a_read),
    "no byte between": (EARLY, 6, early),
}


@cocotb.test()
async def wrong(dut):
    host = Host(dut, await start_clock_reset(dut))
    rng = random.Random(cocotb.RANDOM_SEED)
    for what, (code, upto, act) in WRONG.items():
        await host.power(rng)
        await host.start(upto)
        assert await host.error() == 0, what
        await act(host)
        assert await host.error() == code, what


@cocotb.test()
async def too_few_clocks(dut):
    """74 of them are enough."""
    host = Host(dut, await start_clock_reset(dut))
    for bits, code in ((73, WOKEN), (74, 0)):
        await host.power(random.Random(bits))
        for _ in range(bits // 8):
            await host.byte()
        await host.byte(bits=bits % 8)
        dut.cs_n.value = 0
        await host.command(0)
        assert await host.error() == code


@cocotb.test()
async def right(dut):
    """Blocks with their CRC, from where they were asked for, until they are stopped."""
    host, rng = Host(dut, await start_clock_reset(dut)), random.Random(cocotb.RANDOM_SEED)
    await host.power(rng)
    await host.start()
    for first, count in ((5, 1), (0, 1)):
        assert await host.command(18, first) == 0
        for block in range(first, first + count):
            data, crc = await host.block()
            assert data == bytes(3 * block + k & 0xFF for k in range(512)) and crc == crc16(data)
        assert await host.command(12) == 0
        while await host.byte() == 0:
            pass
    assert await host.error() == 0 and value_of(dut.card_blocks) >= 2


@cocotb.test()
async def kinds(dut):
    """What other cards say, and one whose CRC was not asked for."""
    host, rng = Host(dut, await start_clock_reset(dut)), random.Random(cocotb.RANDOM_SEED)
    await host.power(rng, kind=2)
    await host.start(1)
    assert await host.command(8, 0x1AA) == 5
    await host.power(rng, kind=1)
    await host.start(5)
    assert (await host.command(58, 0, 4))[1] >> 6 == 2
    await host.power(rng, starts=1)
    await host.start(3)
    assert [await host.command(number, 1 << 30) for number in (55, 41, 55, 41)] == [1, 1, 1, 0]
    assert await host.error() == 0
