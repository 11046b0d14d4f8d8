"""Bench of BoardMachine: frames on its UART pins, what golden says of passes and operations, and its lights."""
from types import SimpleNamespace

import cocotb
from cocotb.triggers import FallingEdge, with_timeout

from hwgen.golden.uart import BITS, waveform
from hwgen.golden.uart_bridge import frame
from hwgen.params.frames import START, WRITE
from hwgen.top.board import BUSES
from sim.axi_host import Host
from sim.designs import small_design
from sim.stream_bench import bench_params, start_clock_reset, value_of

PARAMS = bench_params()
DESIGN = small_design(**PARAMS["changes"])
DIVISOR = PARAMS["divisor"]
#: The lights change once in so many cycles, and the first of them is the highest bit of the count.
SLOW, BLINK = 1 << 22, 24


class Line:
    """Registers over the pins, as `Host` wants them: an access is a frame there and one back."""

    def __init__(self, dut, clock):
        self.dut, self.clock, self.sequence = dut, clock, 0

    async def _byte(self):
        """The next byte of the machine, whose bits are looked at in their middle."""
        await with_timeout(FallingEdge(self.dut.tx), 10_000 * self.clock.period, "ns")
        levels = []
        await self.clock.edge(DIVISOR // 2)
        for k in range(BITS):
            await self.clock.sample()
            levels.append(value_of(self.dut.tx))
            if k < BITS - 1:
                await self.clock.edge(DIVISOR)
        byte = sum(level << k for k, level in enumerate(levels[1:-1]))
        assert levels == list(waveform([byte], 1))
        return byte

    async def send(self, data):
        for level in waveform(data, 1):
            self.dut.rx.value = level
            await self.clock.edge(DIVISOR)

    async def _exchange(self, data):
        """The answer's bytes."""
        answer, request = [], frame(self.sequence, data)
        self.sequence = self.sequence % 255 + 1
        hears = cocotb.start_soon(self._answer(answer))
        await self.send(request)
        await hears
        assert bytes(answer) == frame(request[1], bytes(answer[3:-2]))
        return bytes(answer[3:-2])

    async def _answer(self, answer):
        while len(answer) < 3 or len(answer) < 5 + answer[2]:
            answer.append(await self._byte())
        assert answer[0] == START
        await self.clock.edge()

    async def read(self, address, count):
        status, *data = await self._exchange(bytes([0]) + address.to_bytes(2, "little"))
        assert len(data) == count
        return SimpleNamespace(resp=status, data=bytes(data))

    async def write(self, address, data):
        status, = await self._exchange(bytes([WRITE]) + address.to_bytes(2, "little") + data)
        return SimpleNamespace(resp=status)


class BoardHost(Host):
    """There is no interrupt: it asks again."""

    async def interrupt(self, cycles=0):
        """What asks takes longer than this."""


async def begin(dut):
    clock = await start_clock_reset(dut)
    dut.rx.value = 1
    await clock.edge(2 * BITS * DIVISOR)
    return clock, BoardHost(dut, clock, DESIGN, BUSES, master=Line(dut, clock))


@cocotb.test()
async def steps(dut):
    """Passes and operations, right ones and wrong ones."""
    _, host = await begin(dut)
    await host.write("CONTROL", run=1)
    for step in PARAMS["steps"]:
        if "operation" in step:
            assert await host.operate(**step["operation"]) == step["error"]
            continue
        results = await host.run(step["entries"])
        # those beyond the last place have one for all
        assert {r["error"] for r in results if r["error"]} == set(step["errors"])
        assert {str(r["entry"]): r["token"] for r in results if not r["error"] and not r["none"]} == step["tokens"]
        assert await host.signatures(DESIGN.layers, DESIGN.hw.entries, step["rows"]) == step["signatures"]
    assert await host.read("WEIGHTS_ID") == PARAMS["weights_id"]


@cocotb.test()
async def reset(dut):
    """A reset in the middle of a frame, or of an answer, ends both."""
    clock, host = await begin(dut)
    for length in (5, 8):
        await host.write("IRQ_ENABLE", done=1, result=1)
        request = frame(77, bytes([0, host.registers["IRQ_ENABLE"].offset, 0]))
        await host.master.send(request[:length])
        await clock.edge(6 * DIVISOR)
        await clock.reset()
        await clock.edge(2 * BITS * DIVISOR)
        assert value_of(dut.tx) == 1
        host.master.sequence = 0
        assert await host.read("IRQ_ENABLE") == 0


@cocotb.test()
async def lights(dut):
    """They show for a while what was for a moment; the count is set, as nobody waits for so long in a simulation."""
    clock, host = await begin(dut)

    async def count_to(value):
        dut.count.value = value
        await clock.edge()

    async def shown():
        await clock.sample()
        led = value_of(dut.led)
        await clock.edge()
        return led

    async def next_shown():
        await count_to(SLOW - 2)
        await clock.edge(3)
        first, second = [await shown() >> 1 & 7 for _ in range(2)]
        assert first == second
        return first

    await count_to(7)
    await next_shown()
    assert await next_shown() == 0 and await next_shown() == 0
    await host.master.send([0])                     # a byte that begins no frame
    await clock.edge(2 * DIVISOR)
    assert [await next_shown() for _ in range(3)] == [0b010, 0b000, 0b000]
    await host.read("ID")
    assert [await next_shown() for _ in range(2)] == [0b110, 0b000]
    await host.write("CONTROL", run=1)
    phases = set()

    async def watch():
        while True:
            phases.add(await shown() >> 4)
    watching = cocotb.start_soon(watch())
    await host.run([[0, 0, 1, 1, 0]])
    watching.cancel()
    await clock.edge()
    assert phases == set(PARAMS["phases"])
    assert [await next_shown() for _ in range(2)] == [0b111, 0b000]
    for bit in range(BLINK + 1):                    # a carry into each bit, and none where a bit is 0
        await count_to((1 << bit) - 1)
        await clock.edge()
        await clock.sample()
        assert value_of(dut.count) == (1 << bit) + 1 and value_of(dut.led) & 1 == (bit == BLINK)
        await clock.edge()
