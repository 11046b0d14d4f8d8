"""Bench of KvPort on its bus: what is written is in the memory, what is read by jobs is what was written, and when."""

import cocotb
import numpy as np

from hwgen.golden.kv_port import KvReads, k_row, row_beat, v_row
from hwgen.lib.layouts import ADMIT
from hwgen.params.errors import KvOp
from sim.axi_memory import Timing, kv_memory
from sim.kv_bench import DESIGN, HW, WORDS, Cache, addresses
from sim.stream_bench import start_clock_reset, value_of

PLACES = DESIGN.kv_places
PAUSED = Timing(latency=30, refresh=(70, 20), stall=0.3, busy=0.5)


class Port(Cache):
    """The port, its memory, and what its slots should hold."""

    def __init__(self, dut, clock, idle=0, stall=0, timing=None):
        super().__init__(dut, clock, idle, stall)
        base = self.rng.randrange(1 << 16) << 12
        dut.base.value = base
        self.memory, self.writes = kv_memory(dut, clock, DESIGN, self.rng, base, timing,
                                             **{"latency": 9} if timing else {})

    def job(self, slot, layer, head, first, last):
        """An item of jobs, and the rows that it wants."""
        item = dict(slot=slot, layer=layer, head=head, position=last)
        if any(DESIGN.window(index) for index in range(DESIGN.layers)):
            item["first"] = first
        else:
            first = 0
        rows = [dict(slot=slot, layer=layer, head=head, position=position, part=part)
                for position in range(first, last + 1) for part in range(WORDS)]
        return item, rows

    def any_job(self):
        """Of a slot that has something, over positions that it has not given back."""
        slot, last = self.rng.choice(self.places())
        first = min(position for of, position in self.places() if of == slot)
        return self.job(slot, self.rng.randrange(DESIGN.layers), self.rng.randrange(DESIGN.kv_heads),
                        self.rng.randrange(first, last + 1), last)

    async def jobs(self, jobs):
        """Jobs, and all that comes of them."""
        for sink in self.sinks.values():
            sink.clear()
        self.sources["jobs"].send([item for item, _ in jobs])
        for name, sink in self.sinks.items():
            want = [self.expected(name, row, int(i == len(rows) - 1)) for _, rows in jobs for i, row in enumerate(rows)]
            await sink.wait(len(want))
            assert sink.items == want

    async def settle(self):
        """All that was written is in the memory: so long it is idle."""
        idle = 0
        while idle < 30:
            idle = idle + 1 if int(self.dut.flushed.value) else 0
            await self.clock.edge()

    def check_memory(self):
        """Each row that a slot has is where it should be, byte for byte."""
        size = PLACES.beat_bytes
        for slot, position in self.places():
            block = self.blocks.tables[slot][position // HW.kv_block] if HW.paged else position // HW.kv_block
            for at in addresses(slot, position)[::WORDS]:
                line = at["layer"] * DESIGN.kv_heads + at["head"]
                row, where = self.texts[slot][position], (at["layer"], at["head"])
                k, v = (np.array([row[value, *where, part] for part in range(WORDS)]) for value in (0, 1))
                exps = [row[value, *where] for value in (0, 1)]
                for value, want in ((0, k_row(k, *exps, size)), (1, v_row(v))):
                    first = row_beat(DESIGN, line, block, position, value) * size
                    got = bytes(self.memory.data[first:first + len(want)])
                    head = PLACES.head_beats * size if value == 0 else 0        # what fills it up is nobody's
                    assert (got[:4], got[head:]) == (want[:4], want[head:]), (slot, position, at, value)


async def port(dut, idle=0, stall=0, timing=None):
    return Port(dut, await start_clock_reset(dut), idle, stall, timing)


@cocotb.test()
async def every_row(dut):
    """The whole memory is written, byte for byte; and each job's words come in their cycles."""
    p = await port(dut)
    await p.fill()
    await p.settle()
    p.check_memory()
    for _ in range(12):
        item, rows = p.any_job()
        await p.jobs([(item, rows)])
        offered = p.sources["jobs"].sent[-1][0]
        want = {"k": [], "v": []}
        reads = KvReads(DESIGN)
        reads.job(0, rows[0]["position"], rows[-1]["position"])
        for name, head in (("k", PLACES.head_beats), ("v", 0)):
            for _ in range(len(rows) // WORDS):
                for part in range(head + WORDS):
                    want[name] += [reads.peek()] * (part >= head)
                    reads.take(reads.peek())
        assert {name: [cycle - offered for cycle in sink.cycles] for name, sink in p.sinks.items()} == want


@cocotb.test()
@cocotb.parametrize(("pattern", [(0, 0.5), (0.5, 0)]), ("timing", [None, PAUSED]))
async def values(dut, pattern, timing):
    """Jobs at any pace, from a memory at any pace; rows that are written between are read as they are."""
    p = await port(dut, *pattern, timing)
    for slot in range(HW.slots):
        for _ in range(min(HW.context, 5)):
            await p.admit(slot)
    await p.write(p.places())
    for _ in range(2):
        await p.jobs([p.any_job() for _ in range(6)])
        await p.write(p.rng.sample(p.places(), 2 if len(p.places()) > 1 else 1))


@cocotb.test()
@cocotb.parametrize(("timing", [None, PAUSED]))
async def history(dut, timing):
    """Slots grow, fork, are cut and freed: errors, contents, and with the cycle model's memory the cycles, those of
    copies too."""
    p = await port(dut, timing=timing)
    if timing:
        async def plain(*args, **more):
            error, _ = await asked(*args, **more)
            return error, None
        asked, p.ask, predicted = p.ask, plain, (p.blocks.admit, p.blocks.operate)

        class Uncounted:
            """An operation takes as long as it takes."""
            def __eq__(self, other):
                return other is None

            def __sub__(self, cycles):
                return self
        p.blocks.admit = lambda *args: (predicted[0](*args)[0], Uncounted())
        p.blocks.operate = lambda *args: (predicted[1](*args)[0], Uncounted())
    for step in range(60):
        slot, other = p.rng.randrange(HW.slots), p.rng.randrange(max(2, HW.slots)) % HW.slots
        if p.rng.random() < 0.7 or HW.slots == 1:
            if len(p.texts[slot]) < HW.context:
                await p.settle()
                if not await p.admit(slot):
                    await p.write([(slot, len(p.texts[slot]) - 1)])
        else:
            await p.operate(p.rng.choice(list(KvOp)), slot, other, p.rng.randrange(len(p.texts[slot]) + 1))
        if p.places() and step % 3 == 0:
            await p.jobs([p.any_job() for _ in range(2)])
    await p.settle()
    p.check_memory()


@cocotb.test()
async def copies(dut):
    """A shared block that is full in part is copied before its slot goes on: in the cycles that golden says, or, while
    jobs are under way, behind them."""
    if not HW.paged or HW.kv_block == 1:
        return
    p = await port(dut)
    for busy in (False, True):
        for length in (n for n in range(1, min(HW.context, 2 * HW.kv_block)) if n % HW.kv_block):
            for slot in (0, 1):
                await p.operate(KvOp.FREE, slot)
            for _ in range(length):
                await p.admit(0)
            await p.write(p.places())
            await p.settle()
            await p.operate(KvOp.FORK, 0, 1, length)
            if busy:
                jobs = [p.any_job() for _ in range(2)]
                running = cocotb.start_soon(p.jobs(jobs))
                await p.clock.edge(3)
                _, extra = p.blocks.admit(1, length)
                error, waited = await p.ask(ADMIT, 1, length=length)
                assert not error and waited > extra
                await running
                p.texts[1].append({})
            else:
                await p.admit(1)
                assert p.blocks.tables[1][-1] != p.blocks.tables[0][-1]
            await p.write([(1, length)])
            await p.settle()
            await p.jobs([p.job(slot, layer, head, 0, length - 1 + slot) for slot in (0, 1)
                          for layer in range(DESIGN.layers) for head in range(DESIGN.kv_heads)])
            p.check_memory()


@cocotb.test()
async def errors(dut):
    """What a bus answers wrongly, or not for too long, is told once with its place, of reads and of writes; and a flush
    lets nothing more be written."""
    p = await port(dut)
    if HW.paged:
        await p.admit(0)
        await p.write([(0, 0)])
    else:
        await p.admit(0)
        await p.write(p.places())
    await p.settle()
    told, size = [], 3 + len(dut.m_axi_kv_araddr)

    async def watch():
        while True:
            await p.clock.sample()
            bits = value_of(dut.fault)
            if bits & 1:
                told.append((bits >> 1 & 7, bits >> 4 & (1 << size - 3) - 1))
            await p.clock.edge()
    cocotb.start_soon(watch())
    item, _ = p.job(0, DESIGN.layers - 1, DESIGN.kv_heads - 1, 0, 0)
    for code, channel in ((1, p.memory), (2, p.memory), (1, p.writes), (2, p.writes)):
        seen, bad = [], 0
        channel.fail = lambda address, code=code, seen=seen: seen.append(address) or code + 1
        if channel is p.memory:
            p.sources["jobs"].send([item])
        else:
            p.sources["write"].send(list(p.rows(0, 0)))
        while not told or not value_of(dut.flushed):
            await p.clock.sample()
            bad += value_of(dut.bad)
            await p.clock.edge()
        await p.settle()
        assert told[0] == (code, seen[0]) and bad > 0
        channel.fail = lambda address: 0
        told.clear()
    for bit in range(3, 9):
        for channel, name, what in ((p.memory, "jobs", [item]), (p.writes, "write", list(p.rows(0, 0))[:1])):
            dut.timeout.value = 1 << bit
            channel.mute = True
            p.sources[name].send(what)
            await p.sources[name].drained()
            await p.clock.edge((1 << bit) - 2)
            assert not told
            await p.clock.edge(20)
            assert [code for code, _ in told] == [4] and not value_of(dut.flushed)
            channel.mute = False
            await p.settle()
            told.clear()
    before = bytes(p.memory.data)
    dut.flush.value = 1
    p.sources["write"].send(list(p.rows(0, 0)))
    await p.clock.edge(100)
    assert bytes(p.memory.data) == before and value_of(dut.flushed)


@cocotb.test()
async def writes_beyond_the_end_are_dropped(dut):
    """A position that a slot has not come to is not written: not in its blocks, nor in others'."""
    p = await port(dut)
    if not HW.paged:
        return
    await p.admit(0)
    await p.write([(0, 0)])
    await p.settle()
    before = bytes(p.memory.data)
    at = next(at for at in addresses(0, 0))
    for position in (1, HW.context - 1):
        p.sources["write"].send([{**at, "position": position, "value": value, "codes": [1] * HW.attention_lanes,
                                  "exp": 3} for value in (0, 1)])
    await p.sources["write"].drained()
    await p.settle()
    assert bytes(p.memory.data) == before and HW.context > 1
