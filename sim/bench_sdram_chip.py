"""Bench of the model of a chip of SDRAM: what is right has no error, and each thing that is wrong has its own."""
import random

import cocotb

from sim.stream_bench import bench_params, start_clock_reset, value_of

LIMITS = bench_params()["limits"]
MODE, REFRESH, PRECHARGE, ACTIVATE, WRITE, READ, STOP = range(7)
ALL, AUTO = 1 << 10, 1 << 10
CL, UP = 2, LIMITS["POWER_UP"]
RCD, RP, RAS, RC, RRD, RFC, WR, MRD = (LIMITS[f"T_{name}"] for name in ("RCD", "RP", "RAS", "RC", "RRD", "RFC",
                                                                        "WR", "MRD"))
#: A start that is as quick as may be: (cycles to the next, command, bank, address).
START = [(RP, PRECHARGE, 0, ALL), (RFC, REFRESH, 0, 0), (RFC, REFRESH, 0, 0), (MRD, MODE, 0, CL << 4)]


class Chip:
    """The pins, which do nothing between commands."""

    def __init__(self, dut, clock):
        self.dut, self.clock = dut, clock
        self.nothing()

    def nothing(self):
        for pin, level in dict(cs_n=0, ras_n=1, cas_n=1, we_n=1, cke=1, dm=0, driven=0).items():
            getattr(self.dut, pin).value = level

    async def cut(self):
        self.nothing()
        self.dut.cut.value = 1
        await self.clock.edge()
        self.dut.cut.value = 0
        await self.clock.edge(UP - 1)

    async def play(self, commands, data=0):
        for wait, command, bank, address in commands:
            self.nothing()
            self.dut.ras_n.value, self.dut.cas_n.value = command >> 2 & 1, command >> 1 & 1
            self.dut.we_n.value, self.dut.ba.value = command & 1, bank
            self.dut.a.value, self.dut.data.value, self.dut.driven.value = address, data, int(command == WRITE)
            await self.clock.edge()
            self.nothing()
            await self.clock.edge(wait - 1)

    async def error(self):
        await self.clock.sample()
        error = value_of(self.dut.error)
        await self.clock.edge()
        return error


#: {what: (its code, commands behind the start)}
WRONG = {
    "open twice": (4, [(RC, ACTIVATE, 1, 3), (1, ACTIVATE, 1, 3)]),
    "closed": (5, [(RC, ACTIVATE, 1, 3), (1, READ, 2, 0)]),
    "closed by a read": (5, [(RAS, ACTIVATE, 1, 3), (2, READ, 1, AUTO), (1, READ, 1, 0)]),
    "rcd": (6, [(RCD - 1, ACTIVATE, 1, 3), (1, READ, 1, 0)]),
    "rp": (7, [(RC, ACTIVATE, 1, 3), (RP - 1, PRECHARGE, 1, 0), (1, ACTIVATE, 1, 4)]),
    "rp behind a read": (7, [(RAS + 2, ACTIVATE, 1, 3), (RP, READ, 1, AUTO), (1, ACTIVATE, 1, 4)]),
    "rp behind a write": (7, [(RAS + 2, ACTIVATE, 1, 3), (WR + RP - 1, WRITE, 1, AUTO), (1, ACTIVATE, 1, 4)]),
    "ras": (8, [(RAS - 1, ACTIVATE, 1, 3), (1, PRECHARGE, 1, 0)]),
    "ras in all": (8, [(RAS - 1, ACTIVATE, 2, 3), (1, PRECHARGE, 1, ALL)]),
    "rc": (9, [(RAS, ACTIVATE, 1, 3), (RC - RAS - 1, PRECHARGE, 1, 0), (1, ACTIVATE, 1, 4)]),
    "rrd": (10, [(RRD - 1, ACTIVATE, 1, 3), (1, ACTIVATE, 2, 3)]),
    "wr": (11, [(RAS, ACTIVATE, 1, 3), (WR - 1, WRITE, 1, 0), (1, PRECHARGE, 1, 0)]),
    "refresh of an open row": (12, [(RC, ACTIVATE, 1, 3), (1, REFRESH, 0, 0)]),
    "mode with an open row": (14, [(RC, ACTIVATE, 1, 3), (1, MODE, 0, CL << 4)]),
    "another mode": (15, [(MRD, MODE, 0, CL << 4 | 1 << 8), (RC, ACTIVATE, 1, 3), (1, READ, 1, 0)]),
    "a write into a read": (16, [(RC, ACTIVATE, 1, 3), (CL, READ, 1, 0), (1, WRITE, 1, 0)]),
    "no command": (17, [(RC, ACTIVATE, 1, 3), (1, STOP, 0, 0)]),
    "during a refresh": (3, [(RFC - 1, REFRESH, 0, 0), (1, ACTIVATE, 1, 3)]),
    "behind the mode": (3, [(MRD - 1, MODE, 0, CL << 4), (1, ACTIVATE, 1, 3)]),
}


@cocotb.test()
async def wrong(dut):
    clock = await start_clock_reset(dut)
    chip = Chip(dut, clock)
    for what, (code, commands) in WRONG.items():
        await chip.cut()
        await chip.play(START)
        await chip.play(commands[:-1])
        assert await chip.error() == 0, what
        await chip.cut()
        await chip.play(START)
        await chip.play(commands)
        assert await chip.error() == code, what


@cocotb.test()
async def start(dut):
    """A start that leaves something out, or is too early."""
    clock = await start_clock_reset(dut)
    chip = Chip(dut, clock)
    for left_out, code in ((0, 2), (1, 2), (3, 2)):
        await chip.cut()
        await chip.play(START[:left_out] + START[left_out + 1:])
        await chip.play([(1, ACTIVATE, 0, 0)])
        assert await chip.error() == code
    await chip.cut()
    dut.cut.value = 1
    await clock.edge()
    dut.cut.value = 0
    await clock.edge(UP - 2)
    await chip.play(START)
    assert await chip.error() == 1


@cocotb.test()
async def right(dut):
    """Rows and words at random at the limits: what was written is read CL cycles later, and there is no error."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    chip = Chip(dut, clock)
    await chip.cut()
    await chip.play(START)
    written = {}
    for _ in range(60):
        bank, row, column, value = rng.randrange(4), rng.randrange(4), rng.randrange(4), rng.randrange(1 << 16)
        await chip.play([(RCD, ACTIVATE, bank, row)])
        if (bank, row, column) in written and rng.random() < 0.7:
            read = cocotb.start_soon(found(dut, clock))
            await chip.play([(max(CL + 1, RAS - RCD), READ, bank, column)])
            assert await read == written[bank, row, column]
        else:
            await chip.play([(max(WR, RAS - RCD), WRITE, bank, column)], data=value)
            written[bank, row, column] = value
        await chip.play([(max(RP, RC - RAS), PRECHARGE, bank, rng.choice([0, ALL]))])
        if rng.random() < 0.4:
            await chip.play([(RFC, REFRESH, 0, 0)])
    assert await chip.error() == 0 and value_of(dut.refreshes) > 10


async def found(dut, clock):
    """What is on the pins when the edge comes that is CL behind the one that takes a read."""
    await clock.edge(CL)
    await clock.sample()
    return value_of(dut.seen)


@cocotb.test()
async def refreshes(dut):
    """A chip that is not refreshed says so after as many as may be put off."""
    clock = await start_clock_reset(dut)
    chip = Chip(dut, clock)
    await chip.cut()
    await chip.play(START)
    last = START[2:]
    taken = sum(wait for wait, *_ in last)
    await clock.edge(LIMITS["T_REFI"] * (LIMITS["POSTPONED"] + 1) - taken - 1)
    assert await chip.error() == 0
    await clock.edge(2)
    assert await chip.error() == 13
