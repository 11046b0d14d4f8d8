"""Bench of the whole decoder: passes in, tokens and cycles out, against what the golden model said (given as
parameters)."""
from collections import deque
from pathlib import Path
import random

import cocotb

from hwgen.golden.weights import ROM_LATENCY
from hwgen.host.serving.scheduler import TURNAROUND
from hwgen.lib.layouts import command_layout, kv_answer_layout, kv_command_layout, outcome_layout
from hwgen.params.counters import EVENTS
from hwgen.params.errors import ErrorCode, KvOp
from hwgen.top import make
from hwgen.units.weights import request_layout
from sim.axi_memory import kv_memory
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset, value_of

PARAMS = bench_params()
DESIGN = small_design(**PARAMS["changes"])
SIZES = make.request_sizes(DESIGN)
# passes: {entries, tokens, outcomes, phases, counters, signatures}; operations: {operation, error, cycles}
STEPS = PARAMS["steps"]
PASSES = [step for step in STEPS if "entries" in step]


class Weights(StreamSource):
    """The memory of a machine whose weights are streamed: a request's first beat comes when the ROM's would, the others
    in the cycles after it."""

    def __init__(self, dut, clock):
        self._data, self._first = Path(PARAMS["weights"]).read_bytes(), deque()
        super().__init__(dut, "weight_beats", clock, idle=self._too_early)
        self._requests = StreamSink(dut, "weight_req", clock, shape=request_layout(stream_beats=DESIGN.stream_beats))
        cocotb.start_soon(self._serve())

    def _too_early(self, cycle):
        while len(self._first) > len(self._queue):
            self._first.popleft()
        return cycle < self._first[0]

    def restart(self):
        super().restart()
        self.clear(), self._first.clear(), self._requests.clear()

    async def _serve(self):
        size = DESIGN.hw.beat_bytes
        while True:
            await self.clock.edge()
            for cycle, request in self._requests.received:
                step = DESIGN.hw.tile_beats if request["stride"] else 1
                self._first.extend([cycle + ROM_LATENCY] * request["count"])
                self.send([int.from_bytes(self._data[size * (request["address"] + i * step):][:size], "little")
                           for i in range(request["count"])])
            self._requests.clear()


async def keys_and_values(dut, clock):
    """The cycle model's memory of keys and values, which a reset makes forget what it owes."""
    rng = random.Random(cocotb.RANDOM_SEED)
    dut.kv_base.value = base = rng.randrange(1, 1 << 12) << 12
    memory, writes = kv_memory(dut, clock, DESIGN, rng, base)
    while True:
        await clock.edge()
        if clock.in_reset:
            memory.forget()
            writes.clear()


def optional(dut, name):
    """A port, or None: ports of no width are not there."""
    return getattr(dut, name, None)


class Machine:
    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock = dut, clock
        self.command = StreamSource(dut, "command", clock, idle=idle, shape=command_layout(SIZES))
        self.outcome = StreamSink(dut, "outcome", clock, stall=stall, shape=outcome_layout(SIZES))
        self.kv_command = StreamSource(dut, "kv_command", clock,
                                       shape=kv_command_layout(slots=SIZES.slots, context=SIZES.context))
        self.kv_answer = StreamSink(dut, "kv_answer", clock, stall=stall, shape=kv_answer_layout())
        if DESIGN.hw.source == "stream":
            Weights(dut, clock)
        if DESIGN.hw.kv_port:
            cocotb.start_soon(keys_and_values(dut, clock))
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
        self.command.send(commands(entries))
        outputs = max(1, sum(e[3] for e in entries))
        await self.outcome.wait(before + outputs, timeout=200_000)
        start = self.command.sent[-len(entries)][0]
        return start, self.outcome.received[before:]

    async def operate(self, step):
        """An operation on the KV memory. Returns the cycles it took."""
        before = len(self.kv_answer.received)
        self.kv_command.send([step["operation"]])
        assert (await self.kv_answer.wait(before + 1))[-1] == {"error": step["error"]}
        return self.kv_answer.cycles[-1] - self.kv_command.sent[-1][0]

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
        return [[await self.read("signature", layer * DESIGN.hw.entries + i) for i in range(n)]
                for layer in range(DESIGN.layers)]


def commands(entries):
    return [{"slot": s, "position": p, "token": t, "want": w, "last": int(i == len(entries) - 1), "none": 0}
            for i, (s, p, t, w) in enumerate(entries)]


def check_tokens(outcomes, expected):
    wanted = {int(k): v for k, v in expected["tokens"].items()}
    assert not any(o["error"] for _, o in outcomes)
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
    for expected in STEPS:
        if "operation" in expected:
            assert await machine.operate(expected) == expected["cycles"]
            continue
        machine.phases.clear()
        start, outcomes = await machine.run(expected["entries"])
        check_tokens(outcomes, expected)
        assert [cycle - start for cycle, _ in outcomes] == expected["outcomes"]
        end = start + expected["outcomes"][-1]
        phases = [[max(0, cycle - start), phase, layer] for cycle, phase, layer in machine.phases if cycle <= end]
        assert phases == expected["phases"]
        assert await machine.signatures(len(expected["entries"])) == expected["signatures"]
        assert value_of(dut.model_id) == PARAMS.get("weights_id", value_of(dut.model_id))
        for index, event in enumerate(EVENTS):
            assert await machine.read("counter", index) == expected["counters"][event], event


@cocotb.test()
@cocotb.parametrize(("pattern", [(0.7, 0), (0, 0.7), (0.5, 0.5)]))
async def stalled(dut, pattern):
    """Hesitating hosts change when, never what; and an unhindered pass after that takes as long as ever."""
    clock = await start_clock_reset(dut)
    machine = Machine(dut, clock, *pattern)
    for expected in STEPS[:STEPS.index(PASSES[1]) + 1]:
        if "operation" in expected:
            await machine.operate(expected)
            continue
        _, outcomes = await machine.run(expected["entries"])
        check_tokens(outcomes, expected)
        assert await machine.signatures(len(expected["entries"])) == expected["signatures"]


# which takes too long for it
@cocotb.test(skip="refused" not in PARAMS or cocotb.SIM_NAME.lower().startswith("icarus"))
async def refused(dut):
    """Wrong entries and operations beside right ones: what golden refuses is refused, with its codes; the others
    run."""
    machine = Machine(dut, await start_clock_reset(dut), stall=0.5)
    for step in PARAMS["refused"]:
        if "operation" in step:
            await machine.operate(step)
            continue
        before = len(machine.outcome.received)
        machine.command.send(commands([entry[:4] for entry in step["entries"]]))
        while not (machine.outcome.items[before:] and machine.outcome.items[-1]["last"]):
            await machine.clock.edge()
        results = machine.outcome.items[before:]
        # once, however many there are
        told = [error for error in step["errors"] if error != ErrorCode.TOO_MANY_ENTRIES]
        told += [ErrorCode.TOO_MANY_ENTRIES] * (ErrorCode.TOO_MANY_ENTRIES in step["errors"])
        assert sorted(r["error"] for r in results if r["error"]) == sorted(told)
        assert {str(r["entry"]): r["token"] for r in results if not r["error"]
                and not r["none"]} == {str(k): v for k, v in step["tokens"].items()}
        assert await machine.signatures(step["rows"]) == step["signatures"]


@cocotb.test(skip=cocotb.SIM_NAME.lower().startswith("icarus"))
async def ended_by_no_entry(dut):
    """A pass may be ended by a transfer of its own, which alone is none; and an operation waits for the end of a
    pass."""
    machine, expected = Machine(dut, await start_clock_reset(dut)), PASSES[0]
    end = {"slot": 0, "position": 0, "token": 0, "want": 0, "last": 1, "none": 1}
    machine.command.send([end])
    empty, = await machine.outcome.wait(1)
    assert (empty["error"], empty["none"], empty["last"]) == (ErrorCode.EMPTY_PASS, 1, 1)
    machine.command.send([*({**command, "last": 0} for command in commands(expected["entries"])), end])
    await machine.command.drained()
    machine.kv_command.send([{"op": int(KvOp.FREE), "slot": 0, "other": 0, "length": 0}])
    assert await machine.kv_answer.wait(1, timeout=200_000) == [{"error": ErrorCode.OK}]
    check_tokens(machine.outcome.received[1:], expected)
    assert machine.kv_command.sent[0][0] > machine.outcome.cycles[-1]


@cocotb.test()
async def reset_in_flight(dut):
    """A reset in the middle of a pass; then everything from the start."""
    clock = await start_clock_reset(dut)
    machine = Machine(dut, clock)
    rng = random.Random(cocotb.RANDOM_SEED)
    first = PASSES[0]
    for _ in range(3):
        machine.command.send(commands(first["entries"]))
        await clock.edge(rng.randrange(2, first["outcomes"][-1]))
        machine.command.clear()
        await clock.reset()
        machine.outcome.clear()
    start, outcomes = await machine.run(first["entries"])
    check_tokens(outcomes, first)
    assert [cycle - start for cycle, _ in outcomes] == first["outcomes"]


@cocotb.test()
async def back_to_back(dut):
    """A host that has the next pass at hand waits as long as the scheduler reckons with."""
    clock = await start_clock_reset(dut)
    machine = Machine(dut, clock)
    entries = [(slot, position, token, 1) for slot, position, token, _ in PASSES[0]["entries"]]
    slot, position, *_ = entries[-1]
    machine.command.send([*commands(entries), *commands([(slot, position + 1, 0, 1)])])
    await machine.outcome.wait(len(entries) + 1, timeout=200_000)
    assert machine.command.sent[-1][0] - machine.outcome.cycles[len(entries) - 1] == TURNAROUND
