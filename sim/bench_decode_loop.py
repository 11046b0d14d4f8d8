"""Bench of DecodeLoop, between a host and a machine that gives random tokens."""
import random

import cocotb

from hwgen.golden import decode_loop as golden
from hwgen.lib.layouts import command_layout, outcome_layout
from hwgen.params.errors import ErrorCode
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

DESIGN = small_design(**bench_params())
COMMAND, OUTCOME = command_layout(make.request_sizes(DESIGN)), outcome_layout(make.request_sizes(DESIGN))
REFUSALS = [code for code in ErrorCode if ErrorCode.OK < code <= ErrorCode.NO_BLOCK]      # of a pass or an entry
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


def entry_of(rng, position=None, last=1):
    values = {"slot": rng.randrange(SLOTS), "position": rng.randrange(CONTEXT) if position is None else position,
              "token": rng.randrange(VOCAB),
              "want": rng.random() < 0.8, "last": last, "key": rng.getrandbits(32), "none": 0}
    return {name: int(values[name]) for name in COMMAND.members}


def pass_of(rng, most=DESIGN.hw.entries + 1):
    """Entries of a pass, now and then one more than the machine takes; some passes are ended by a transfer of their
    own."""
    n, alone = rng.randrange(1, most + 1), rng.random() < 0.2
    return [entry_of(rng, rng.choice([None, 0, CONTEXT - 3, CONTEXT - 1]), last=i == n - 1 and not alone)
            for i in range(n)] \
        + [entry_of(rng) | {"none": 1}] * alone


def real(entries):
    return [entry for entry in entries if not entry["none"]]


def outcomes_of(rng, entries, tokens, errors):
    """What a machine answers: the tokens of those that want one in order, some errors before them; a word for itself
    where there are none."""
    results = [{"entry": i, "token": rng.choice(tokens), "none": 0, "error": 0}
               for i, e in enumerate(real(entries)[:DESIGN.hw.entries])
               if e["want"]]
    for result in results:
        if rng.random() < errors:
            result["error"] = rng.choice(REFUSALS)
    results.sort(key=lambda r: r["error"] == 0)
    # nothing but errors: their pass may end by itself
    if not results or results[-1]["error"] and rng.random() < 0.7:
        results.append({"entry": 0, "token": 0, "none": 1, "error": 0})
    return [{name: int({**r, "last": r is results[-1]}[name]) for name in OUTCOME.members} for r in results]


async def machine(bench, rng, tokens, log=None, errors=0):
    """Answers each pass some cycles later. ``log``: a list of the passes' (entries, results)."""
    done = 0
    while True:
        entries = []
        while not entries or not entries[-1]["last"]:
            entries.append((await bench.command.wait(done + 1))[done])
            done += 1
        await bench.clock.edge(rng.randrange(4))
        results = outcomes_of(rng, entries, tokens, errors)
        if log is not None:
            log.append((entries, results))
        bench.result.send(results)


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def passes(dut, pattern):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, *pattern)
    log = []
    cocotb.start_soon(machine(bench, rng, range(VOCAB), log, errors=0.1))
    expected, results, number, followed = [], 0, 0, []
    for _ in range(40):
        left = rng.choice([0, 1, 2, 3, 9])
        stop = rng.randrange(VOCAB) if rng.random() < 0.5 else None
        await bench.load(left, stop)
        # a prompt in one or two passes, of which only the last may want tokens
        host = [pass_of(rng) for _ in range(rng.randrange(1, 3))]
        for entries in host[:-1]:
            for entry in entries:
                entry["want"] = 0
        bench.entry.send([entry for entries in host for entry in entries])
        for entries in host:
            while entries:
                first = len(expected)
                expected += entries
                await bench.command.wait(len(expected))
                while len(log) == number:
                    await bench.clock.edge()
                given, answered = log[number]
                number += 1
                results += len(answered)
                outcomes = (await bench.outcome.wait(results))[results - len(answered):results]
                assert outcomes == answered and given == entries
                if pattern == (0, 0) and followed:
                    start, cycles = followed.pop()
                    assert bench.command.cycles[first:first + len(entries)] == [start + c for c in cycles]
                left, going = golden.follow(DESIGN, left, real(entries), outcomes, stop)
                entries = [entry for _, entry in going]
                followed = [(bench.outcome.cycles[results - 1], [cycle for cycle, _ in going])] if going else []
        await bench.clock.edge(6 + DESIGN.hw.entries)
        assert bench.command.items == expected
        assert int(dut.left.value) == left
    assert sum(len(entries) for entries, _ in log) > 100


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


async def left_is(bench, count):
    await bench.clock.sample()
    assert int(bench.dut.left.value) == count
    await bench.clock.edge()


@cocotb.test()
async def each_bit_of_the_count(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    cocotb.start_soon(machine(bench, rng, [1]))
    for count in (*(1 << k for k in range(1, 16)), 0xFFFF):
        await bench.load(count)
        await left_is(bench, count)
        given = len(bench.command.items)
        bench.entry.send([entry_of(rng, 0) | {"want": 1}])
        await bench.command.wait(given + 2)             # the second follows the first
        await left_is(bench, count - 1)
        await bench.load(0)
        await bench.clock.edge(40)


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
