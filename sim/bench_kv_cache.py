"""Bench of KvCache: what was written is read, from every address, and when; by whoever has it, and by nobody else."""

import cocotb

from hwgen.golden.kv_cache import copy_words, look_up, read_latency
from hwgen.lib.layouts import ADMIT
from hwgen.params.errors import ErrorCode, KvOp
from sim.kv_bench import DESIGN, HW, addresses, cache
from sim.stream_bench import cross

LATENCY = read_latency(DESIGN)


@cocotb.test()
async def every_address(dut):
    """All of the memory is written, then all is read, at one row per cycle."""
    c = await cache(dut)
    await c.fill()
    everywhere = [at for place in c.places() for at in addresses(*place)]
    orders = {name: c.rng.sample(everywhere, len(everywhere)) for name in c.sinks}
    await c.check(orders)
    for name, sink in c.sinks.items():
        start = c.sources[f"{name}_req"].sent[0][0]
        assert sink.cycles == [start + LATENCY + i for i in range(len(everywhere))]


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    """K and V are read at their own pace while other rows are written."""
    c = await cache(dut, *pattern)
    await c.fill()
    places = c.places()
    half = max(1, len(places) // 2)
    old, new = places[:half], places[half:]
    orders = {name: [c.rng.choice(addresses(*c.rng.choice(old))) for _ in range(60)] for name in c.sinks}
    c.changing = new
    for place in new:
        c.sources["write"].send(c.rows(*place, value=1))
    await c.check(orders)


@cocotb.test()
async def seen_in_the_next_cycle(dut):
    """A write taken in cycle s is seen by a request taken in cycle s + 1."""
    c = await cache(dut)
    await c.admit(0)
    await c.write([(0, 0)])
    at = addresses(0, 0)[-1]
    for _ in range(3):
        before = dict(c.texts[0][0])
        *_, k = c.rows(0, 0, value=0)
        *_, v = c.rows(0, 0, value=1)
        for item in (k, v):                       # only the last part is written again
            before[item["value"], at["layer"], at["head"], at["part"]] = item["codes"]
        c.texts[0][0] = before
        c.start.update(write=c.clock.cycle + 2, k_req=c.clock.cycle + 4, v_req=c.clock.cycle + 4)
        c.sources["write"].send([k, v])
        for name in c.sinks:
            c.sinks[name].clear()
            c.read(name, [at])
        for name, sink in c.sinks.items():
            assert await sink.wait(1) == [c.expected(name, at, 0)]
            assert c.sources[f"{name}_req"].sent[-1][0] == c.sources["write"].sent[-1][0] + 1


@cocotb.test()
@cocotb.parametrize(("pattern", [(0, 0), (0.5, 0.5)]))
async def history(dut, pattern):
    """Slots grow, fork, are cut and freed in random order: errors, cycles and contents; reads beyond a slot's end find
    nothing."""
    c = await cache(dut, *pattern)
    answers, short = set(), HW.blocks < HW.slots * DESIGN.most_blocks(HW.context)
    if short:
        await c.fill()
        slot = next(slot for slot, text in enumerate(c.texts) if len(text) < HW.context)
        answers.add(error := await c.admit(slot))
        if not error:       # a block behind the window became free
            await c.write([(slot, len(c.texts[slot]) - 1)])
    for _ in range(120):
        slot, other = c.rng.randrange(HW.slots), c.rng.randrange(max(2, HW.slots)) % HW.slots
        length = c.rng.randrange(HW.context + 1)
        if DESIGN.positions_kept:       # a text that grows long, and a cut before all that it has given back
            slot, length = c.rng.choice([0, 0, 0, slot]), c.rng.choice([0, length, length])
        if c.rng.random() < (0.85 if DESIGN.positions_kept else 0.7):
            wrong = c.rng.random() < 0.1
            at = c.rng.randrange(HW.context) if wrong else None
            if wrong or len(c.texts[slot]) < HW.context:
                error = await c.admit(slot, at)
                answers.add(error)
                if not error:
                    await c.write([(slot, len(c.texts[slot]) - 1)])
        else:
            if c.rng.random() < 0.5:
                length = min(length, len(c.texts[slot]))
            answers.add(await c.operate(c.rng.choice(list(KvOp)), slot, other, length))
        if HW.paged or c.texts[0]:
            await c.check({name: [c.anywhere() for _ in range(4)] for name in c.sinks})
    await c.check({name: [at for place in c.places() for at in addresses(*place)] for name in c.sinks if c.places()})
    assert {ErrorCode.OK, ErrorCode.OTHER} < answers and (ErrorCode.NO_BLOCK in answers) == short
    assert (ErrorCode.WINDOW in answers) == (DESIGN.positions_kept is not None)
    # every block is still there, and no more than that
    for slot in range(HW.slots):
        await c.operate(KvOp.FREE, slot)
    assert c.blocks.free_blocks == HW.blocks
    await c.fill()
    await c.check({name: [at for place in c.places() for at in addresses(*place)] for name in c.sinks})


@cocotb.test()
async def copies_and_readers(dut):
    """A block is copied when nobody reads. Rows asked for before or in the middle of a copy come first; those after it
    find it done."""
    if not HW.paged or HW.kv_block == 1:
        return
    until = [0]
    c = await cache(dut, stall=lambda cycle: cycle < until[0])
    for when in ["before", "amid", "after"] * 6:
        for slot in (0, 1):
            await c.operate(KvOp.FREE, slot)
        length = c.rng.choice([n for n in range(1, HW.context) if n % HW.kv_block])
        for _ in range(length):
            await c.admit(0)
        await c.write(c.places())
        await c.operate(KvOp.FORK, 0, 1, length)
        words = copy_words(DESIGN, length % HW.kv_block)
        asked, decided = c.clock.cycle + 2, c.clock.cycle + 2 + look_up(DESIGN)
        delay = {"before": 0, "amid": 2, "after": 1}[when]      # of the first request: not while a word is copied
        start = decided + {"before": 0, "amid": c.rng.randrange(2, 1 + words), "after": 2 + words}[when]
        c.start.update(ask=asked, k_req=start, v_req=start)
        c.start[c.rng.choice(("k_req", "v_req"))] += c.rng.randrange(3)
        until[0] = start + c.rng.randrange(LATENCY + 5)
        copied = addresses(1, length - 1)[-1]               # last
        orders = {}
        for name, sink in c.sinks.items():
            orders[name] = [copied, *c.rng.choices([at for place in c.places() for at in addresses(*place)],
                                                   k=c.rng.randrange(40))]
            sink.clear()
            c.read(name, orders[name])
        assert c.blocks.admit(1, length) == (ErrorCode.OK, look_up(DESIGN) + 1 + words)
        error, waited = await c.ask(ADMIT, 1, length=length)
        assert not error
        if when == "after":
            assert waited == look_up(DESIGN) + 1 + words
        else:
            # a word in each cycle from the second after the decision to that of the first request, the others from the
            # second after the last answer
            assert asked + waited - max(c.sinks[name].cycles[-1]
                                        for name in c.sinks) == 1 + words - max(0, start - decided - 1)
        for name, order in orders.items():
            await c.sinks[name].wait(len(order))
            assert c.sinks[name].items == [c.expected(name, at, i & 1) for i, at in enumerate(order)]
            assert c.sources[f"{name}_req"].sent[-len(order)][0] == max(start + delay, c.start[f"{name}_req"])
        c.texts[1].append({})
        await c.write([(1, length)])
        await c.check({name: [at for place in c.places() for at in addresses(*place)] for name in c.sinks})


@cocotb.test()
async def forks_of_whole_blocks(dut):
    """And of none: no block more is shared, in no cycle more."""
    if not HW.paged or DESIGN.positions_kept:
        return
    c = await cache(dut)
    for length in range(0, HW.context + 1, HW.kv_block):
        for slot in (0, 1):
            await c.operate(KvOp.FREE, slot)
        for _ in range(min(length + 1, HW.context)):
            await c.admit(0)
        assert not await c.operate(KvOp.FORK, 0, 1, length)
    await c.operate(KvOp.FREE, 0)
    await c.operate(KvOp.FREE, 1)
    await c.fill()
    await c.check({name: [c.anywhere() for _ in range(20)] for name in c.sinks})


@cocotb.test()
async def cuts_at_the_window(dut):
    """Forks and truncations to 0, to less than the slot's window still reaches, and to the least that it does."""
    if not DESIGN.positions_kept:
        return
    c = await cache(dut)
    for op in (KvOp.FORK, KvOp.TRUNCATE):
        for slot in (0, 1):
            await c.operate(KvOp.FREE, slot)
        for _ in range(2):
            await c.admit(0)
        assert not await c.operate(op, 0, 1, 1)         # too short to have given back what that sees
        await c.operate(KvOp.FREE, 1)
        for _ in range(c.rng.randrange(DESIGN.positions_kept + HW.kv_block, HW.context - 3)):
            await c.admit(0)
        await c.write(c.places())
        for cut in (-1, 0, 1) if op == KvOp.FORK else (-1, 1, 0):
            least = c.blocks.tables[0].count(None) * HW.kv_block + DESIGN.rows_seen() - 1
            assert await c.operate(op, 0, 1, (0, least, least - 1)[cut]) == (ErrorCode.WINDOW if cut == -1
                                                                             else ErrorCode.OK)
            for slot in (0, 1):
                await c.admit(slot)
                await c.write([(slot, len(c.texts[slot]) - 1)])
            await c.check({name: [c.anywhere() for _ in range(20)] for name in c.sinks})
            await c.operate(KvOp.FREE, 1)


@cocotb.test()
async def writes_beyond_the_end_are_dropped(dut):
    """A slot that does not have a position cannot write there: the block is another's now."""
    if not HW.paged:
        return
    c = await cache(dut)
    await c.fill()
    slot = next(s for s, text in enumerate(c.texts) if text)
    other = next(s for s in range(HW.slots) if s != slot)
    lost = [item for position in range(len(c.texts[slot])) for item in c.rows(slot, position)]
    await c.operate(KvOp.FREE, other)
    await c.operate(KvOp.FREE, slot)
    while len(c.texts[other]) < HW.context and not await c.admit(other):
        await c.write([(other, len(c.texts[other]) - 1)])
    c.sources["write"].send(lost)
    await c.sources["write"].drained()
    await c.check({name: [at for place in c.places() for at in addresses(*place)] for name in c.sinks})


@cocotb.test()
async def reset_in_flight(dut):
    c = await cache(dut, stall=0.5)
    await c.fill()
    for name in c.sinks:
        c.read(name, [at for place in c.rng.choices(c.places(), k=9) for at in addresses(*place)])
    await c.clock.edge(6)
    for source in c.sources.values():
        source.clear()
    await c.clock.reset()
    c.forget()
    await c.fill()
    await c.check({name: [c.anywhere() for _ in range(9)] for name in c.sinks})
