"""Bench of a DDR3 memory path: an AXI4 master before LiteDRAM's own Verilog, models of the FPGA's cells, and a chip
that distrusts them behind its pins."""
import random

import cocotb
from cocotb.clock import Clock as CocotbClock
from cocotb.triggers import First, RisingEdge, Timer

from hwgen.params import dram
from sim.ddr3_memory import KEPT, bus_clock, power_up
from sim.dram_units import write_and_read
from sim.stream_bench import bench_params, value_of

PARAMS = bench_params()
MEMORY, PERIOD = getattr(dram, PARAMS["chip"]), 10
WORD, BEAT = MEMORY.data_width // 8, MEMORY.port_width // 8
SIZE = MEMORY.row_bytes * MEMORY.banks << KEPT


async def begin(dut, skew, mute=0):
    """Behind the start-up, or its failure: the clock of the memory path's bus."""
    for name, member in vars(dut).items():
        if name.startswith("m_axi_") and not name.endswith("ready"):
            member.value = 0
    dut.skew.value, dut.mute.value = skew, mute
    CocotbClock(dut.clk, PERIOD, unit="ns").start(start_high=False)
    _, clock = await bus_clock(dut, MEMORY, PERIOD, PARAMS.get("machine"))
    await First(RisingEdge(dut.memory_ready), RisingEdge(dut.memory_failed), Timer(40, "ms"))
    await clock.edge()
    return clock


def checked(dut):
    """What the chip has counted; it has no complaint."""
    error = value_of(dut.chip_error)
    assert error == 0, f"error {error} in the chip's cycle {value_of(dut.chip_error_cycle)} (ddr3_chip.v)"
    return {name: value_of(getattr(dut, f"chip_{name}")) for name in ("refreshes", "activates", "reads", "writes")}


class Master:
    """An AXI4 master of one burst at a time. (That of cocotbext-axi looks at what is there before its clock's edge: it
    takes a clock that the bench makes.)"""

    def __init__(self, dut, clock):
        self.dut, self.clock = dut, clock

    async def _until(self, name, most=1000):
        """To the edge that ends a cycle in which a signal was 1. Eight refreshes take 400 of a fast master's."""
        for _ in range(most):
            await self.clock.sample()
            there = value_of(getattr(self.dut, f"m_axi_{name}"))
            word = value_of(self.dut.m_axi_rdata)
            await self.clock.edge()
            if there:
                return word
        raise AssertionError(f"{name} did not come in {most} cycles")

    async def _address(self, channel, beats, address):
        dut = self.dut
        for name, value in dict(addr=address, len=beats - 1, size=BEAT.bit_length() - 1, burst=1, valid=1).items():
            getattr(dut, f"m_axi_{channel}{name}").value = value
        await self._until(f"{channel}ready")
        getattr(dut, f"m_axi_{channel}valid").value = 0

    @staticmethod
    def _bursts(address, length):
        """(first byte, beats) of whole words, which cross no 4 KiB, around some bytes."""
        at, end = address - address % BEAT, address + length
        while at < end:
            upto = min(end, at - at % 4096 + 4096, at + 128 * BEAT)
            yield at, -(-(upto - at) // BEAT)
            at = upto

    async def write(self, address, data):
        dut = self.dut
        for at, beats in self._bursts(address, len(data)):
            await self._address("aw", beats, at)
            for beat in range(beats):
                places = range(at + beat * BEAT - address, at + beat * BEAT - address + BEAT)
                inside = [0 <= place < len(data) for place in places]
                dut.m_axi_wdata.value = sum(data[place] << 8 * i for i, place in enumerate(places) if inside[i])
                dut.m_axi_wstrb.value = sum(bit << i for i, bit in enumerate(inside))
                dut.m_axi_wlast.value, dut.m_axi_wvalid.value = int(beat == beats - 1), 1
                await self._until("wready")
            dut.m_axi_wvalid.value, dut.m_axi_bready.value = 0, 1
            await self._until("bvalid")
            dut.m_axi_bready.value = 0

    async def read(self, address, length):
        found = b""
        for at, beats in self._bursts(address, length):
            await self._address("ar", beats, at)
            self.dut.m_axi_rready.value = 1
            for _ in range(beats):
                found += (await self._until("rvalid")).to_bytes(BEAT, "little")
            self.dut.m_axi_rready.value = 0
        return found[address % BEAT:][:length]


@cocotb.test()
async def bursts(dut):
    """Random bursts all over the chip: what was written is read, and nothing else has changed."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await begin(dut, PARAMS["skew"])
    checked(dut)
    assert value_of(dut.memory_ready) and not value_of(dut.memory_failed)
    before = checked(dut)

    def garbage(address, length):
        places = range(address - address % WORD, address + length + WORD, WORD)
        data = b"".join(power_up(MEMORY, place).to_bytes(WORD, "little") for place in places)
        return data[address % WORD:][:length]

    def draws():
        for _ in range(PARAMS["bursts"]):
            address = rng.choice([8192 * rng.randrange(3), rng.randrange(8192, SIZE - 8192)]) + rng.randrange(8192)
            yield address, rng.choice([16, 1, rng.randrange(1, 40), rng.randrange(1, 3000)])

    master = Master(dut, clock)
    await write_and_read(rng, draws(), master.write, master.read, garbage)
    counts = checked(dut)
    assert all(counts[name] > before[name] for name in counts)


@cocotb.test()
async def levelling_fails(dut):
    """A lane that says nothing, or whose data come later than all bitslips: no memory, and no hanging."""
    await begin(dut, PARAMS["skew"], PARAMS["mute"])
    assert value_of(dut.memory_failed) and not value_of(dut.memory_ready)
    assert not any(value_of(getattr(dut, f"m_axi_{name}")) for name in ("awready", "wready", "arready"))
    checked(dut)
