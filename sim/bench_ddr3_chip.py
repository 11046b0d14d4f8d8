"""Bench of the simulated chip of DDR3: it does what its data sheet says, and finds each fault of a controller."""
import re
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

from hwgen.host.links import ddr3
from sim.stream_bench import bench_params, value_of

P = bench_params()["parameters"]
SOURCE = (Path(ddr3.__file__).parent / "ddr3_chip.v").read_text()
CODES = {name: int(code) for name, code in re.findall(r"\b([A-Z_]+) = (\d+)[,;]", SOURCE.split("localparam BANKS")[0])}
MODE_0, MODE_2 = (P["CL"] - 4) // 2 << 5 | 1 << 8, (P["CWL"] - 5) << 3
NOP, MODE, REFRESH, PRECHARGE, ACTIVATE, WRITE, READ, CALIBRATE = 7, 0, 1, 2, 3, 4, 5, 6
ALL = 1 << 10


class Pins:
    """The chip's pins, slot by slot: in the first half of a cycle ck is low, and it rises in its middle."""

    def __init__(self, dut):
        self.dut, self.slot, self.data = dut, 0, {}     # slot: (dq, dqs), which are driven

    async def step(self):
        dut, ck = self.dut, self.slot % 2
        dut.ck.value = ck
        dq, dqs = self.data.pop(self.slot, (0, None))
        dut.dq_drive.value, dut.dqs_drive.value = int(dqs is not None), int(dqs is not None)
        dut.dq_out.value, dut.dqs_out.value = dq, dqs or 0
        dut.clk.value = 1 - self.slot % 2
        self.slot += 1
        await Timer(5, "ns")

    async def command(self, command=NOP, ba=0, a=0, wait=0):
        """A cycle with a command, and ``wait`` without."""
        dut = self.dut
        for cycle in range(wait + 1):
            now = command if cycle == 0 else NOP
            dut.ras_n.value, dut.cas_n.value, dut.we_n.value = now >> 2, now >> 1 & 1, now & 1
            dut.ba.value, dut.a.value = ba, a
            await self.step()
            await self.step()

    def write(self, words, late=0, strobe=True):
        """Data of a write whose command comes next: each is there a slot before its edge."""
        first = self.slot + 2 * P["CWL"] + late
        for n, word in enumerate(words):
            self.data[first + n] = word, 0b11 * (n % 2 if strobe else 0)
        self.data[first + len(words)] = 0, 0

    async def start(self, *, power=None, modes=(2, 3, 1, 0), calibrate=True, wait=None):
        self.dut.cke.value, self.dut.cut.value = 0, 1
        await self.step()
        await self.step()
        self.dut.cut.value = 0
        for name in ("ras_n", "cas_n", "we_n"):
            getattr(self.dut, name).value = 1
        for name in ("dm", "skew", "mute", "flip", "flip_address", "flip_bits"):
            getattr(self.dut, name).value = 0
        await self.command(wait=P["POWER_UP"] + 2 if power is None else power)
        self.dut.cke.value = 1
        await self.command(wait=P["T_XPR"])
        for number in modes:
            await self.command(MODE, number, {0: MODE_0, 2: MODE_2}.get(number, 0), P["T_MOD"])
        if calibrate:
            await self.command(CALIBRATE, 0, ALL, P["T_ZQ"] if wait is None else wait)

    async def end(self):
        await self.command(wait=20)
        return value_of(self.dut.error)


async def opened(pins, ba=0, row=0, wait=None):
    await pins.command(ACTIVATE, ba, row, P["T_RAS"] if wait is None else wait)


@cocotb.test()
async def writes_and_reads(dut):
    """A burst is read as it was written, at its time, lane by lane as late as the way is; the first word is where the
    strobe's first edge is."""
    pins = Pins(dut)
    await pins.start()
    words = [0x1234, 0x5678, 0x9ABC, 0xDEF0, 0x0FED, 0xCBA9, 0x8765, 0x4321]
    await opened(pins)
    pins.write(words)
    await pins.command(WRITE, 0, 8, P["CWL"] + 4 + P["T_WTR"])
    for skew in (0, 0b011_001):
        dut.skew.value = skew
        seen = {}
        for slot in range(2 * P["CL"] + 16):
            if slot < 2:
                dut.ras_n.value, dut.cas_n.value, dut.we_n.value, dut.a.value = 1, 0, 1, 8
            else:
                dut.cas_n.value = 1
            await pins.step()
            seen[slot] = dut.dq_seen.value, dut.dqs_seen.value
        for lane in range(2):
            late = skew >> 3 * lane & 7
            for n, word in enumerate(words):
                # the command's edge was in slot 1, and is seen at once: behind flip-flops it would be a slot later
                dq, dqs = seen[2 * P["CL"] + late + n]
                assert int(dq) >> 8 * lane & 0xFF == word >> 8 * lane & 0xFF and int(dqs) >> lane & 1 == 1 - n % 2
    assert await pins.end() == 0 and value_of(dut.reads) == 2 and value_of(dut.writes) == 1


async def _started(pins, *commands, **more):
    await pins.start(**more)
    for command in commands:
        await pins.command(*command)


#: Code -> (how it starts, commands behind it).
SIMPLE = {
    "EARLY": (dict(power=10), [(REFRESH, 0, 0, 0)]),
    "UNREADY": (dict(modes=(2, 3, 0)), [(ACTIVATE, 0, 0, 0)]),
    "BUSY": (dict(wait=10), [(ACTIVATE, 0, 0, 0)]),
    "OPEN": ({}, [(ACTIVATE, 0, 0, P["T_RC"]), (ACTIVATE, 0, 1, 0)]),
    "CLOSED": ({}, [(READ, 0, 0, 0)]),
    "RCD": ({}, [(ACTIVATE, 0, 0, 0), (READ, 0, 0, 0)]),
    "RP": ({}, [(ACTIVATE, 0, 0, P["T_RC"]), (PRECHARGE, 0, 0, 0), (ACTIVATE, 0, 0, 0)]),
    "RAS": ({}, [(ACTIVATE, 0, 0, 0), (PRECHARGE, 0, 0, 0)]),
    "RRD": ({}, [(ACTIVATE, 0, 0, 0), (ACTIVATE, 1, 0, 0)]),
    "REFRESH_OPEN": ({}, [(ACTIVATE, 0, 0, 20), (REFRESH, 0, 0, 0)]),
    "REFRESH_LATE": ({}, [(REFRESH, 0, 0, 12 * P["T_REFI"])]),
    "MODE_OPEN": ({}, [(ACTIVATE, 0, 0, 20), (MODE, 1, 0, 0)]),
    "FAW": ({}, [(ACTIVATE, bank, 0, P["T_RRD"] - 1) for bank in range(5)]),
    "CCD": ({}, [(ACTIVATE, 0, 0, 20), (READ, 0, 0, 2), (READ, 0, 8, 0)]),
    "COLUMN": ({}, [(ACTIVATE, 0, 0, 20), (READ, 0, 4, 0)]),
    "RTP": ({}, [(ACTIVATE, 0, 0, 20), (READ, 0, 0, 1), (PRECHARGE, 0, 0, 0)]),
    "OUTSIDE": ({}, [(ACTIVATE, 0, 1 << P["KEPT_BITS"], 0)]),
    "STROBE": ({}, [(ACTIVATE, 0, 0, 20), (WRITE, 0, 0, 20)]),
}


@cocotb.test()
@cocotb.parametrize(("code", [*SIMPLE]))
async def faults(dut, code):
    """Each is the first that it says."""
    how, commands = SIMPLE[code]
    pins = Pins(dut)
    await _started(pins, *commands, **how)
    assert await pins.end() == CODES[code]


@cocotb.test()
async def no_fault(dut):
    """The least times of all of these are no fault."""
    pins = Pins(dut)
    await _started(pins, (ACTIVATE, 0, 0, P["T_RAS"] - 1),
                   (PRECHARGE, 0, 0, max(P["T_RP"], P["T_RC"] - P["T_RAS"]) - 1), (ACTIVATE, 0, 0, P["T_RRD"] - 1),
                   (ACTIVATE, 1, 0, P["T_RCD"] - 1), (READ, 1, 0, 3), (READ, 1, 8, 20),
                   (PRECHARGE, 0, ALL, P["T_RP"] - 1), (REFRESH, 0, 0, P["T_RFC"] - 1), (ACTIVATE, 0, 0, 0))
    assert await pins.end() == 0


@cocotb.test()
@cocotb.parametrize(("code", ["MODE", "DLL", "WR", "WTR", "STROBE"]))
async def faults_of_bursts(dut, code):
    """The mode, the DLL, and what comes behind a write's data, or with them."""
    pins = Pins(dut)
    await pins.start(wait=P["T_ZQ"])
    if code == "MODE":
        await pins.command(MODE, 2, MODE_2 + 8, 20)
    if code == "DLL":
        await pins.command(MODE, 0, MODE_0, 20)
    await opened(pins, wait=20)
    if code in ("MODE", "DLL"):
        await pins.command(READ)
    else:
        pins.write(range(8), late=2 * (code == "STROBE"))
        await pins.command(WRITE, 0, 0, P["CWL"] + 3)
        if code == "STROBE":
            await pins.command(wait=20)
        else:
            await pins.command({"WR": PRECHARGE, "WTR": READ}[code])
    assert await pins.end() == CODES[code]
