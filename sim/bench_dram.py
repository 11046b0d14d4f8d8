"""Bench of a memory path: an AXI4 master before LiteDRAM's own Verilog, and a chip that distrusts it behind its
pins."""
import random

import cocotb
from cocotb.triggers import RisingEdge, Timer, with_timeout
from cocotbext.axi import AxiBus, AxiMaster

from hwgen.params.dram import MT48LC16M16
from sim.dram_units import chip_address, power_up, write_and_read
from sim.stream_bench import bench_params, start_clock_reset, value_of

PARAMS = bench_params()
MEMORY = MT48LC16M16
WORD = MEMORY.data_width // 8


async def begin(dut):
    """Behind the start-up: (clock, master)."""
    clock = await start_clock_reset(dut)
    await with_timeout(RisingEdge(dut.memory_ready), 30_000 * clock.period, "ns")
    await clock.edge(2)
    return clock, AxiMaster(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, max_burst_len=256)


def checked(dut):
    """What the chip has counted; it has no complaint."""
    error = value_of(dut.chip_error)
    assert error == 0, f"error {error} in the chip's cycle {value_of(dut.chip_error_cycle)}"
    return {name: value_of(getattr(dut, f"chip_{name}")) for name in ("refreshes", "activates", "reads", "writes")}


def garbage(address, length):
    """What is at some bytes behind power-up."""
    words = range(address // WORD, -(-(address + length) // WORD))
    data = b"".join(power_up(MEMORY, chip_address(MEMORY, word * WORD)).to_bytes(WORD, "little") for word in words)
    return data[address % WORD:][:length]


@cocotb.test()
async def bursts(dut):
    """Random bursts all over the chip: what was written is read, and nothing else has changed."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock, master = await begin(dut)
    started = clock.cycle

    async def read(address, length):
        return (await master.read(address, length)).data

    start = MEMORY.row_bytes * rng.randrange(MEMORY.rows - 1)

    def draws():
        """Rows side by side, or the same bank's, or anywhere; whole words, or bytes."""
        for _ in range(PARAMS["bursts"]):
            address = rng.choice([start, start + MEMORY.row_bytes * rng.randrange(-4, 5),
                                  rng.randrange(MEMORY.size - 2048)]) % (MEMORY.size - 2048)
            yield (address + rng.choice([0, rng.randrange(MEMORY.row_bytes)]),
                   rng.choice([WORD, 1, rng.randrange(1, 40), rng.randrange(1, 700)]))

    await write_and_read(rng, draws(), master.write, read, garbage)
    counts = checked(dut)
    assert counts["reads"] and counts["writes"] and counts["activates"] > PARAMS["bursts"] // 4
    assert counts["refreshes"] >= (clock.cycle - started) // MEMORY.cycles("refi", PARAMS["clock"]) - 8


@cocotb.test()
async def flips(dut):
    """A bit that flips in the chip is read."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock, master = await begin(dut)
    address = rng.randrange(MEMORY.size // 4096) * 4096
    data = bytearray(rng.randbytes(256))
    await master.write(address, bytes(data))
    for _ in range(3):
        place = rng.randrange(256)
        bit = rng.randrange(8)
        dut.flip_address.value, dut.flip_bits.value = chip_address(MEMORY,
                                                                   address + place), 1 << (place % WORD * 8 + bit)
        await clock.edge()
        dut.flip.value = 1
        await clock.edge()
        dut.flip.value = 0
        data[place] ^= 1 << bit
    assert (await master.read(address, 256)).data == data
    checked(dut)


@cocotb.test()
async def nothing_before_the_start(dut):
    """Addresses and words that are offered during the start-up wait, and are right behind it."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    words = [rng.randrange(1 << MEMORY.data_width) for _ in range(2)]
    for name, value in dict(awaddr=64, awlen=1, awsize=WORD.bit_length() - 1, awburst=1, awvalid=1, wdata=words[0],
                            wstrb=(1 << WORD) - 1,
                            wvalid=1, bready=1,
                            araddr=64, arlen=1, arsize=WORD.bit_length() - 1, arburst=1).items():
        getattr(dut, f"m_axi_{name}").value = value
    await Timer(15_000 * clock.period, "ns")
    await clock.edge()
    await clock.sample()
    assert not any(value_of(getattr(dut, f"m_axi_{name}"))
                   for name in ("awready", "wready", "arready")) and not value_of(dut.memory_ready)
    await with_timeout(RisingEdge(dut.memory_ready), 15_000 * clock.period, "ns")
    sent = addressed = 0
    while sent < 2 or not addressed:
        await clock.sample()
        w, aw = value_of(dut.m_axi_wready) and sent < 2, value_of(dut.m_axi_awready) and not addressed
        await clock.edge()
        sent, addressed = sent + w, addressed + aw
        dut.m_axi_wvalid.value, dut.m_axi_awvalid.value = int(sent < 2), int(not addressed)
        dut.m_axi_wdata.value, dut.m_axi_wlast.value = words[min(sent, 1)], int(sent == 1)
    dut.m_axi_arvalid.value, dut.m_axi_rready.value = 1, 1
    found = []
    while len(found) < 2:
        await clock.sample()
        if value_of(dut.m_axi_rvalid):
            found.append(value_of(dut.m_axi_rdata))
        taken = value_of(dut.m_axi_arready)
        await clock.edge()
        if taken:
            dut.m_axi_arvalid.value = 0
    assert found == words
    checked(dut)
