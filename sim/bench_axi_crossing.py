"""Bench of the clock crossing: each channel's beats and cycles, on two clocks that have nothing to do with each
other."""
import itertools
import random

import cocotb
from cocotb.clock import Clock as CocotbClock
from cocotb.triggers import ReadOnly, RisingEdge, Timer

from hwgen.golden.axi_crossing import Queue
from hwgen.units.axi_crossing import CHANNELS, RESET_CYCLES
from sim.stream_bench import bench_params, start_clock_reset, value_of

PARAMS = bench_params()
#: ps: the memory's period and its first edge behind the machine's, whose period is 10,000.
PERIOD, LATE, NEAR = PARAMS["period"], PARAMS["late"], 10_000


class Channel:
    """A channel's giver, taker and twin. What a cycle shows is noted when it is settled; the edge that ends it acts."""

    def __init__(self, dut, name, rng, idle, stall):
        fields, forward = CHANNELS[name]
        self.name, self.rng, self.idle, self.stall = name, rng, idle, stall
        giver, taker = ("s_axi_", "m_axi_") if forward else ("m_axi_", "s_axi_")
        self.gives, self.takes = giver[0], taker[0]

        def of(side, field):
            return getattr(dut, f"{side}{name}{field}")
        self.g = {field: of(giver, field) for field in (*fields, "valid", "ready")}
        self.t = {field: of(taker, field) for field in (*fields, "valid", "ready")}
        self.fields = fields
        self.restart()

    def restart(self):
        """There was a reset. The twin begins when the giver finds a place."""
        self.twin, self.left, self.beat, self.wanted = None, 0, None, 0
        self.sent, self.got, self.moved = [], 0, {"s": [], "m": []}

    def drive(self, side, cycle):
        if side == self.gives:
            if self.beat is None and self.left and self.rng.random() >= self.idle:
                self.beat = {field: self.rng.getrandbits(len(self.g[field])) for field in self.fields}
                self.left -= 1
            self.g["valid"].value = self.beat is not None
            for field in self.fields:       # between offers it is anything
                garbage = self.rng.getrandbits(len(self.g[field]))
                self.g[field].value = garbage if self.beat is None else self.beat[field]
        else:
            self.wanted = self.rng.random() >= self.stall
            self.t["ready"].value = int(self.wanted)

    def sample(self, side, cycle):
        """Compare the cycle of a side with the twin's, and the beat that is taken with the one that was given."""
        if side == self.gives:
            ready = bool(value_of(self.g["ready"]))
            if self.twin is None and ready:
                self.twin = Queue(PARAMS["words"] if "data" in self.fields else PARAMS["requests"])
            expected = self.twin is not None and self.twin.ready
            assert ready == expected, f"{self.name}: ready is {ready} in cycle {cycle}, not {expected}"
            return
        valid = bool(value_of(self.t["valid"]))
        expected = self.twin is not None and self.twin.valid
        assert valid == expected, f"{self.name}: valid is {valid} in cycle {cycle}, not {expected}"
        if valid:
            beat = {field: value_of(self.t[field]) for field in self.fields}
            assert beat == self.sent[self.got], f"{self.name}: beat {self.got} is {beat}, not {self.sent[self.got]}"

    def edge(self, side, cycle):
        if self.twin is None:
            return
        if side == self.gives:
            if self.beat is not None and self.twin.ready:
                self.sent.append(self.beat)
                self.moved[side].append(cycle)
            gave = self.beat is not None
            if gave and self.twin.ready:
                self.beat = None
            self.twin.give(gave)
        else:
            if self.twin.valid and self.wanted:
                self.got += 1
                self.moved[side].append(cycle)
            self.twin.take(self.wanted)


class Bench:
    def __init__(self, dut, clock, idle, stall):
        self.dut, self.clock, self.resets, self.rng = dut, clock, 0, random.Random(cocotb.RANDOM_SEED)
        self.channels = [Channel(dut, name, self.rng, idle, stall) for name in CHANNELS]
        self.tasks = [cocotb.start_soon(self._side(side, clk)) for side, clk in (("s", dut.clk), ("m", dut.m_clk))]

    async def _side(self, side, clk):
        for cycle in itertools.count():
            for channel in self.channels:
                channel.drive(side, cycle)
            await ReadOnly()
            if not self.resets:
                for channel in self.channels:
                    channel.sample(side, cycle)
            await RisingEdge(clk)
            if not self.resets:
                for channel in self.channels:
                    channel.edge(side, cycle)

    async def out_of_reset(self):
        while not all(channel.twin for channel in self.channels):
            await RisingEdge(self.dut.clk)

    async def send(self, count):
        """So many beats through each channel."""
        for channel in self.channels:
            channel.left += count
        await self.drained()

    async def drained(self):
        for _ in range(100_000):
            if all(not c.left and c.beat is None and c.twin and c.got == len(c.sent) for c in self.channels):
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError(f"{[(c.name, len(c.sent), c.got) for c in self.channels]} after 100,000 cycles")


async def begin(dut, idle=0, stall=0):
    """The bench at a time behind the reset; the memory's first edge is `LATE` ps behind one of the machine's."""
    clock = await start_clock_reset(dut)
    await Timer(NEAR + LATE, unit="ps")
    CocotbClock(dut.m_clk, PERIOD, unit="ps").start(start_high=True)
    await RisingEdge(dut.clk)
    return Bench(dut, clock, idle, stall)


@cocotb.test()
@cocotb.parametrize(("pattern", [(0, 0), (0.5, 0), (0, 0.5), (0.3, 0.3), (0.9, 0.05), (0.05, 0.9)]))
async def values_and_cycles(dut, pattern):
    """No beat is lost or comes twice, whoever hesitates; each moves in its cycle."""
    bench = await begin(dut, *pattern)
    await bench.send(300)


@cocotb.test()
async def rate(dut):
    """With eight places or more a channel carries a beat in each cycle of the slower clock."""
    bench = await begin(dut)
    await bench.send(400)
    slower = "s" if NEAR > PERIOD else "m"
    for channel in bench.channels:
        cycles = channel.moved[slower][30:300]
        if PARAMS["words" if "data" in channel.fields else "requests"] >= 8:
            assert cycles == list(range(cycles[0], cycles[0] + 270)), channel.name
        else:
            assert len(cycles) == 270


@cocotb.test()
async def one_bit_at_a_time(dut):
    """Of a count that crosses one bit changes at an edge, or none: whatever of it arrives first, it is the count before
    or the one behind."""
    bench = await begin(dut, 0.3, 0.3)
    await bench.out_of_reset()
    counts = [(getattr(getattr(dut, channel.name), f"{which}_cdc__i"), dut.clk if side == "s" else dut.m_clk)
              for channel in bench.channels for which, side in (("produce", channel.gives), ("consume", channel.takes))]
    changes = [0] * len(counts)

    async def watch(number, count, clk):
        before = value_of(count)
        while True:
            await RisingEdge(clk)
            await ReadOnly()
            now = value_of(count)
            assert (now ^ before).bit_count() <= 1, f"{count._path}: {before:#b}, then {now:#b}"
            changes[number] += now != before
            before = now
    for number, count in enumerate(counts):
        cocotb.start_soon(watch(number, *count))
    await bench.send(100)
    assert changes == [100] * len(counts)


@cocotb.test()
@cocotb.parametrize(("side", ["s", "m"]))
async def reset(dut, side):
    """A reset of either side, of one cycle or more, at any time: nothing is taken or offered for some cycles of both,
    and then all begins anew, with nothing of before."""
    bench = await begin(dut, 0.2, 0.4)
    rst, clk = (dut.rst, dut.clk) if side == "s" else (dut.m_rst, dut.m_clk)
    for cycles in (1, 2, 5, 1, 30):
        for channel in bench.channels:
            channel.left += 500
        for _ in range(bench.rng.randrange(60, 130)):
            await RisingEdge(clk)
        rst.value, bench.resets = 1, 1
        for channel in bench.channels:
            channel.restart()
            channel.left = 200
        for _ in range(cycles):
            await RisingEdge(clk)
        rst.value, bench.resets = 0, 0
        clocks = {"s": 0, "m": 0}
        counts = [cocotb.start_soon(_count(clocks, name, each)) for name, each in (("s", dut.clk), ("m", dut.m_clk))]
        while not any(channel.twin for channel in bench.channels):
            await RisingEdge(dut.clk)
        assert min(clocks.values()) >= RESET_CYCLES - 1, clocks
        for count in counts:
            count.cancel()
        await bench.drained()


async def _count(clocks, name, clk):
    while True:
        await RisingEdge(clk)
        clocks[name] += 1


@cocotb.test()
async def levels(dut):
    """What the memory's side says is in a register behind its edge, and seen behind the second edge that follows."""
    bench = await begin(dut)
    await bench.out_of_reset()
    for value in (1, 3, 2, 0, 3, 0):
        await RisingEdge(dut.m_clk)
        dut.m_status.value = 3 - value
        await Timer(PERIOD // 4, unit="ps")     # between two edges it may be anything
        dut.m_status.value = value
        before = value_of(dut.status)
        await RisingEdge(dut.m_clk)
        for seen in (before, value):
            await RisingEdge(dut.clk)
            await ReadOnly()
            assert value_of(dut.status) == seen
        await RisingEdge(dut.clk)
    assert bench.channels[0].sent == []
