"""Bench of DecodeLoop, between a host and a machine that gives random tokens."""
import random

import cocotb

from hwgen.golden import decode_loop as golden
from hwgen.lib.layouts import command_layout, outcome_layout
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

DESIGN = small_design(**bench_params())
COMMAND, OUTCOME = command_layout(DESIGN), outcome_layout(DESIGN)
VOCAB, CONTEXT, SLOTS = DESIGN.model.vocab_size, DESIGN.hw.context, DESIGN.hw.slots


class Bench:
    async def start(self, dut, idle=0, stall=0):
        self.dut, self.clock = dut, await start_clock_reset(dut)
        self.entry = StreamSource(dut, "entry", self.clock, idle=idle, shape=COMMAND)
        self.command = StreamSink(dut, "command", self.clock, stall=stall, shape=COMMAND)
        self.result = StreamSource(dut, "result", self.clock, idle=idle, shape=OUTCOME)
        self.outcome = StreamSink(dut, "outcome", self.clock, stall=stall, shape=OUTCOME)
        return self

    async def load(self, count, stop=None):
        self.dut.load.value, self.dut.count.value = 1, count
        self.dut.stop.value, self.dut.stopping.value = stop or 0, stop is not None
        await self.clock.edge()
        self.dut.load.value = 0


def entry_of(rng, position=None):
    values = {"slot": rng.randrange(SLOTS), "position": rng.randrange(CONTEXT) if position is None else position, "token": rng.randrange(VOCAB),
              "want": rng.random() < 0.8, "last": 1, "key": rng.getrandbits(32), "none": 0}
    return {name: int(values[name]) for name in COMMAND.members}


def outcome_of(rng, entry, tokens):
    values = {"entry": 0, "token": rng.choice(tokens), "none": not entry["want"], "last": 1, "error": 0}
    return {name: int(values[name]) for name in OUTCOME.members}


async def machine(bench, rng, tokens):
    """Answers each command with a result, some cycles later."""
    done = 0
    while True:
        entry = (await bench.command.wait(done + 1))[done]
        done += 1
        await bench.clock.edge(rng.randrange(4))
        bench.result.send([outcome_of(rng, entry, tokens)])


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def passes(dut, pattern):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, *pattern)
    cocotb.start_soon(machine(bench, rng, range(VOCAB)))
    commands, followed = [], []
    for _ in range(40):
        left = rng.choice([0, 1, 2, 3, 9])
        stop = rng.randrange(VOCAB) if rng.random() < 0.5 else None
        await bench.load(left, stop)
        # a prompt in one or two passes, of which only the last may want a token
        host = [entry_of(rng, rng.choice([None, 0, CONTEXT - 3, CONTEXT - 1])) for _ in range(rng.randrange(1, 3))]
        for entry in host[:-1]:
            entry["want"] = 0
        bench.entry.send(host)
        for entry in host:
            while entry is not None:
                commands.append(entry)
                await bench.command.wait(len(commands))
                result = (await bench.outcome.wait(len(commands)))[-1]
                left, entry = golden.follow(DESIGN, left, entry, result, stop)
                followed.append(entry is not None)
        await bench.clock.edge(6)
        assert len(bench.command.items) == len(commands) and bench.command.items == commands
        assert int(dut.left.value) == left
    assert sum(followed) > 20
    if pattern == (0, 0):
        for given, follows, taken in zip(bench.outcome.cycles, followed, bench.command.cycles[1:]):
            assert not follows or taken == given + golden.GAP


@cocotb.test()
async def the_host_waits(dut):
    """An entry that comes while a text goes on is given behind it."""
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    cocotb.start_soon(machine(bench, rng, [1]))
    await bench.load(3)
    first, second = entry_of(rng, 0) | {"want": 1}, entry_of(rng, 7)
    bench.entry.send([first, second])
    entries = await bench.command.wait(5)
    assert [e["position"] for e in entries] == [0, 1, 2, 3, 7] and entries[4] == second


@cocotb.test()
async def stopped_by_software(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    cocotb.start_soon(machine(bench, rng, [1]))
    await bench.load(9)
    bench.entry.send([entry_of(rng, 0) | {"want": 1}])
    await bench.command.wait(2)
    await bench.load(0)
    await bench.clock.edge(40)
    assert len(bench.command.items) in (2, 3)       # one may have been on its way


@cocotb.test()
async def reset_in_flight(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    await bench.load(9)
    bench.entry.send([entry_of(rng, 0) | {"want": 1}])
    await bench.command.wait(1)
    bench.entry.clear()
    await bench.clock.reset()
    bench.command.clear()
    await bench.clock.edge(20)
    assert bench.command.items == [] and not dut.left.value
    bench.entry.send([entry_of(rng, 1)])
    assert len(await bench.command.wait(1)) == 1
