"""Bench of the whole decoder: passes in, tokens and cycles out, against what the golden model said (given as parameters)."""
import random

import cocotb

from hwgen.params.phases import EVENTS
from hwgen.top.sequencer import command_layout, outcome_layout
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset, value_of

PARAMS = bench_params()
DESIGN = small_design(**PARAMS["changes"])
PASSES = PARAMS["passes"]       # of {entries, tokens, outcomes, phases, counters, signatures}


def optional(dut, name):
    """A port, or None: ports of no width are not there."""
    return getattr(dut, name, None)


class Machine:
    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock = dut, clock
        self.command = StreamSource(dut, "command", clock, idle=idle, shape=command_layout(DESIGN))
        self.outcome = StreamSink(dut, "outcome", clock, stall=stall, shape=outcome_layout(DESIGN))
        self.phases = []
        cocotb.start_soon(self._watch())

    async def _watch(self):
        layer = optional(self.dut, "layer")
        while True:
            await self.clock.sample()
            now = [value_of(self.dut.phase), value_of(layer) if layer is not None else 0]
            if not self.phases or self.phases[-1][1:] != now:
                self.phases.append([self.clock.cycle, *now])
            await self.clock.edge()

    async def run(self, entries):
        """One pass. Returns (start cycle, outcomes with cycles)."""
        before = len(self.outcome.received)
        self.command.send([{"slot": s, "position": p, "token": t, "want": w, "last": int(i == len(entries) - 1)}
                           for i, (s, p, t, w) in enumerate(entries)])
        outputs = max(1, sum(e[3] for e in entries))
        await self.outcome.wait(before + outputs, timeout=200_000)
        start = self.command.sent[-len(entries)][0]
        return start, self.outcome.received[before:]

    async def read(self, port, address):
        select = optional(self.dut, f"{port}_address")
        if select is not None:
            select.value = address
        await self.clock.edge()
        await self.clock.sample()
        value = value_of(getattr(self.dut, f"{port}_data"))
        await self.clock.edge()
        return value

    async def signatures(self, n):
        return [[await self.read("signature", layer * DESIGN.hw.entries + i) for i in range(n)] for layer in range(DESIGN.layers)]


def check_tokens(outcomes, expected):
    wanted = {int(k): v for k, v in expected["tokens"].items()}
    got = [(o["entry"], o["token"], o["none"], o["last"]) for _, o in outcomes]
    if not wanted:
        assert [(none, last) for *_, none, last in got] == [(1, 1)]
    else:
        assert got == [(e, t, 0, int(i == len(wanted) - 1)) for i, (e, t) in enumerate(sorted(wanted.items()))]


@cocotb.test()
async def cycles_and_values(dut):
    """Every pass: tokens, signatures, counters, and each phase and outcome in its cycle."""
    clock = await start_clock_reset(dut)
    machine = Machine(dut, clock)
    for expected in PASSES:
        machine.phases.clear()
        start, outcomes = await machine.run(expected["entries"])
        check_tokens(outcomes, expected)
        assert [cycle - start for cycle, _ in outcomes] == expected["outcomes"]
        end = start + expected["outcomes"][-1]
        phases = [[max(0, cycle - start), phase, layer] for cycle, phase, layer in machine.phases if cycle <= end]
        assert phases == expected["phases"]
        assert await machine.signatures(len(expected["entries"])) == expected["signatures"]
        for index, event in enumerate(EVENTS):
            assert await machine.read("counter", index) == expected["counters"][event], event


@cocotb.test()
@cocotb.parametrize(("pattern", [(0.7, 0), (0, 0.7), (0.5, 0.5)]))
async def stalled(dut, pattern):
    """Hesitating hosts change when, never what; and an unhindered pass after that takes as long as ever."""
    clock = await start_clock_reset(dut)
    machine = Machine(dut, clock, *pattern)
    for expected in PASSES[:2]:
        _, outcomes = await machine.run(expected["entries"])
        check_tokens(outcomes, expected)
        assert await machine.signatures(len(expected["entries"])) == expected["signatures"]


@cocotb.test()
async def reset_in_flight(dut):
    """A reset in the middle of a pass; then everything from the start."""
    clock = await start_clock_reset(dut)
    machine = Machine(dut, clock)
    rng = random.Random(cocotb.RANDOM_SEED)
    first = PASSES[0]
    for _ in range(3):
        machine.command.send([{"slot": s, "position": p, "token": t, "want": w, "last": int(i == len(first["entries"]) - 1)}
                              for i, (s, p, t, w) in enumerate(first["entries"])])
        await clock.edge(rng.randrange(2, first["outcomes"][-1]))
        machine.command.clear()
        await clock.reset()
        machine.outcome.clear()
    start, outcomes = await machine.run(first["entries"])
    check_tokens(outcomes, first)
    assert [cycle - start for cycle, _ in outcomes] == first["outcomes"]
