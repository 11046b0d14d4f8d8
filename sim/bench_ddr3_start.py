"""Bench of Ddr3Start: each step in its cycle, and each lane where it works, whatever the bus does."""
import random

import cocotb
from cocotb.triggers import FallingEdge

from hwgen.golden.ddr3_start import Answer, level
from sim.ddr3_units import DELAY, BITSLIP, RESET, SELECT, plan_of
from sim.stream_bench import bench_params, start_clock_reset, value_of

PARAMS = bench_params()
TABLE = PARAMS.pop("table")
PLAN = plan_of(**PARAMS)


class Lanes:
    """A Wishbone slave with lanes that work in some places. It answers as late as it likes, and remembers what."""

    def __init__(self, dut, clock, rng):
        self.dut, self.clock, self.rng = dut, clock, rng
        self.works, self.most, self.refused, self.spoilt = {}, 0, None, 0     # so many tests are spoilt
        self.begin()
        cocotb.start_soon(self._run())

    def begin(self):
        self.answers, self.steps, self.lane, self.places = [], [], 0, [[0, 0] for _ in range(PLAN.lanes)]
        self.waited, self.late = 0, None

    def _data(self, address):
        """What is read: right in the bits of each lane that works, and anything in the others."""
        right = next(step.data for step in PLAN.test if step.address == address and hasattr(step, "masks"))
        masks = next(step.masks for step in PLAN.test if step.address == address and hasattr(step, "masks"))
        word = self.rng.getrandbits(32)
        for lane, mask in enumerate(masks):
            works = tuple(self.places[lane]) in self.works[lane] and not (self.spoilt and lane == self.lane)
            word = word & ~mask | (right if works else right ^ self.rng.choice([mask, mask & -mask])) & mask
        if self.spoilt and address == PLAN.test[-1].address:
            self.spoilt -= 1
        return word

    def _written(self, address, data):
        if address == SELECT and data:
            self.lane = data.bit_length() - 1
        place = self.places[self.lane]
        if address == RESET:
            place[:] = 0, 0
        elif address == BITSLIP:
            place[0] = (place[0] + 1) % PLAN.bitslips
        elif address == DELAY:
            place[1] = (place[1] + 1) % PLAN.delays

    async def _run(self):
        dut = self.dut
        while True:
            await FallingEdge(dut.clk)      # so that it may answer in the cycle of the offer
            if self.clock.in_reset:
                self.begin()
            if self.clock.in_reset or not value_of(dut.wb_cyc):
                dut.wb_ack.value = dut.wb_err.value = 0
                continue
            assert value_of(dut.wb_stb)
            address = value_of(dut.wb_adr) * 4
            step = address, value_of(dut.wb_dat_w) if value_of(dut.wb_we) else None
            if self.late is None:
                self.late = self.rng.randint(0, self.most)
                self.steps.append((self.clock.cycle, *step))
            assert step == self.steps[-1][1:]
            if self.late:
                self.late -= 1
                dut.wb_ack.value = dut.wb_err.value = 0
                continue
            refused, self.late = len(self.answers) == self.refused, None
            word = self._data(address) if step[1] is None else self.rng.getrandbits(32)
            if step[1] is not None:
                self._written(*step)
            self.answers.append(Answer(self.clock.cycle - self.steps[-1][0], refused, word))
            dut.wb_ack.value, dut.wb_err.value, dut.wb_dat_r.value = int(not refused), int(refused), word


async def run(dut, clock, bus):
    """Until ``ready`` or ``failed``, which stay; what the unit did is golden's. Returns golden's `Started`."""
    await clock.reset()
    seen = {}
    for _ in range(60_000):
        await clock.sample()
        for name in ("ready", "failed"):
            if value_of(getattr(dut, name)):
                seen.setdefault(name, clock.cycle)
        if seen:
            break
        await clock.edge()
    for _ in range(5):
        await clock.edge()
        await clock.sample()
        assert {name for name in ("ready", "failed") if value_of(getattr(dut, name))} == set(seen)
    await clock.edge()
    wanted = level(PLAN, bus.answers, TABLE)
    assert bus.steps == wanted.steps
    assert seen == {"failed" if wanted.failed else "ready": wanted.cycle}
    return wanted


def some(rng, longest=PLAN.delays):
    """Places that work: some runs at one bitslip or two, and some that stand alone."""
    places = set()
    for bitslip in rng.sample(range(PLAN.bitslips), rng.randint(1, 2)):
        length = rng.randint(1, longest)
        first = rng.randint(0, PLAN.delays - length)
        places |= {(bitslip, delay) for delay in range(first, first + length)}
    return places | {(rng.randrange(PLAN.bitslips), rng.randrange(PLAN.delays)) for _ in range(rng.randint(0, 2))}


@cocotb.test()
@cocotb.parametrize(("most", [0, 3]))
async def levels(dut, most):
    """Again after a reset, in the middle and at the end: each lane works where it was set to."""
    rng = random.Random(f"{cocotb.RANDOM_SEED} {most}")
    clock = await start_clock_reset(dut)
    bus = Lanes(dut, clock, rng)
    bus.most = most
    for cut in (False, True, False, False):
        bus.works = [some(rng) for _ in range(PLAN.lanes)]
        if cut:
            await clock.reset()
            await clock.edge(rng.randrange(2000))
            continue
        started = await run(dut, clock, bus)
        assert not started.failed
        assert [tuple(place) for place in bus.places] == started.places
        assert all(place in works for place, works in zip(started.places, bus.works, strict=True))


@cocotb.test()
async def nothing_works(dut):
    """One lane after the other, and the first one alone."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bus = Lanes(dut, clock, rng)
    for lane in range(PLAN.lanes):
        bus.works = [some(rng) if other < lane else set() for other in range(PLAN.lanes)]
        started = await run(dut, clock, bus)
        assert started.failed and len(started.places) == lane


@cocotb.test()
async def spotty(dut):
    """A lane is set again if it does not work where it should, but not for ever."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bus = Lanes(dut, clock, rng)
    for times in (1, PLAN.tries - 1, PLAN.tries):
        bus.works = [{(1, 1)} for _ in range(PLAN.lanes)]
        bus.spoilt = 0
        task = cocotb.start_soon(run(dut, clock, bus))
        # the first lane's place has been tried once when its second reset comes
        await clock.edge(2)
        while sum(address == RESET for _, address, _ in bus.steps) < 2:
            await clock.edge()
        bus.spoilt = times
        assert (await task).failed == (times == PLAN.tries)


@cocotb.test()
async def refused(dut):
    """A step that is refused is the last."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock = await start_clock_reset(dut)
    bus = Lanes(dut, clock, rng)
    bus.works = [{(1, 2)} for _ in range(PLAN.lanes)]
    whole = len((await run(dut, clock, bus)).steps)
    for last in (0, 1, whole // 3, whole // 2, whole - 1):
        bus.refused = last
        started = await run(dut, clock, bus)
        assert started.failed and len(started.steps) == last + 1
