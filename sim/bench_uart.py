"""Bench of UartTransmitter and UartReceiver on each other and on a wire driven by the bench."""
import random

import cocotb
from cocotb.triggers import ReadOnly

from hwgen.golden import uart as golden
from sim.stream_bench import StreamSource, bench_params, start_clock_reset

PARAMS = bench_params()
DIVISOR = PARAMS["divisor"]


async def start(dut, **more):
    dut.rx.value = 1
    clock = await start_clock_reset(dut)
    dut.rx.value = 1
    await clock.edge(2 * DIVISOR)      # the wire was low during the reset: a glitch, or nothing
    return clock, StreamSource(dut, "i", clock, shape=8, **more)


class Bytes:
    """What the receiver gives: [(cycle, byte)]."""

    def __init__(self, dut, clock):
        self.found = []
        self.levels = []
        cocotb.start_soon(self._run(dut, clock))

    async def _run(self, dut, clock):
        while True:
            await clock.sample()
            self.levels.append((clock.cycle, int(dut.tx.value)))
            if dut.valid.value:
                self.found.append((clock.cycle, int(dut.data.value)))
            await clock.edge()


async def drive(dut, clock, levels):
    """Put levels on the wire, one per cycle; returns the cycle of the first."""
    first = clock.cycle
    for level in levels:
        dut.rx.value = level
        await clock.edge()
    return first


@cocotb.test()
@cocotb.parametrize(idle=[0, 0.3])
async def transmits(dut, idle):
    clock, source = await start(dut, idle=idle)
    seen = Bytes(dut, clock)
    data = [0x00, 0xFF, 0xA5, 0x5A] + random.Random(cocotb.RANDOM_SEED).choices(range(256), k=12)
    source.send(data)
    await source.drained()
    await clock.edge(12 * DIVISOR)
    wire = dict(seen.levels)
    driven = set()
    for (cycle, _), byte in zip(source.sent, data):
        for i, level in enumerate(golden.waveform([byte], DIVISOR)):
            assert wire[cycle + 1 + i] == level, (byte, i)
            driven.add(cycle + 1 + i)
    assert all(level for cycle, level in seen.levels if cycle not in driven)
    if not idle:
        taken = [cycle for cycle, _ in source.sent]
        assert taken == [taken[0] + golden.BITS * DIVISOR * i for i in range(len(data))]


@cocotb.test()
async def receives_every_byte(dut):
    clock, _ = await start(dut)
    seen = Bytes(dut, clock)
    data = list(range(256))
    random.Random(cocotb.RANDOM_SEED).shuffle(data)
    first = await drive(dut, clock, golden.waveform(data, DIVISOR))
    await clock.edge(2 * DIVISOR)
    assert seen.found == [(golden.received_cycle(first + golden.BITS * DIVISOR * i, DIVISOR), byte)
                          for i, byte in enumerate(data)]


@cocotb.test()
async def a_glitch_and_a_missing_stop_bit(dut):
    clock, _ = await start(dut)
    seen = Bytes(dut, clock)
    # shorter than half a bit: no start
    await drive(dut, clock, [0] * max(1, DIVISOR // 2 - 1) + [1] * (12 * DIVISOR))
    await drive(dut, clock, golden.waveform([0x0F], DIVISOR)[:-DIVISOR] + [0] * DIVISOR + [1] * (12 * DIVISOR))
    assert seen.found == []
    await drive(dut, clock, golden.waveform([0x33], DIVISOR) + [1] * DIVISOR)
    assert [byte for _, byte in seen.found] == [0x33]


@cocotb.test(skip=DIVISOR < 25)
@cocotb.parametrize(off=[-0.04, 0.04])
async def a_clock_that_is_off(dut, off):
    clock, _ = await start(dut)
    seen = Bytes(dut, clock)
    data = [0x00, 0xFF, 0x55, 0xC3]
    levels = golden.waveform(data, 1)
    await drive(dut, clock, [levels[int(i / (DIVISOR * (1 + off)))]
                             for i in range(int(len(levels) * DIVISOR * (1 + off)))] + [1] * DIVISOR)
    await clock.edge(DIVISOR)
    assert [byte for _, byte in seen.found] == data


@cocotb.test()
async def reset_in_flight(dut):
    clock, source = await start(dut)
    seen = Bytes(dut, clock)
    source.send([0x00, 0x00])
    await drive(dut, clock, golden.waveform([0x00], DIVISOR)[:5 * DIVISOR])
    source.clear()
    dut.rx.value = 1
    await clock.reset()
    dut.rx.value = 1
    seen.levels.clear()
    await clock.edge(12 * DIVISOR)
    await ReadOnly()
    assert seen.found == [] and all(level for _, level in seen.levels)
    await clock.edge()
    await drive(dut, clock, golden.waveform([0x77], DIVISOR) + [1] * DIVISOR)
    assert [byte for _, byte in seen.found] == [0x77]
