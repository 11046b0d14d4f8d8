"""Bench of the decoder on buses: what a driver does, on models of the buses by somebody else and a memory of our
own."""
import random
from pathlib import Path

import cocotb
from cocotbext.axi import AxiRamRead, AxiReadBus, AxiStreamFrame
import pytest

from hwgen.golden import axi_reader as golden
from hwgen.golden.weights import request_list
from hwgen.params.axi import AXI_EVENTS, AxiShape
from hwgen.params.errors import ErrorCode, KvOp
from hwgen.params.counters import EVENTS
from hwgen.params.registers import register_map
from sim.axi_host import AxiClock, BusError, Host
from sim.axi_memory import AxiMemory, Timing, kv_memory
from sim.designs import small_design
from sim.stream_bench import bench_params

PARAMS = bench_params()
DESIGN = small_design(source="stream", **PARAMS["changes"])
AXI = AxiShape(**PARAMS["axi"])
MAP = register_map(DESIGN, AXI)
WEIGHTS = Path(PARAMS["weights"]).read_bytes()
PASSES = PARAMS["passes"]       # of {entries, tokens, signatures}, by golden
BASES = random.Random(f"bases {cocotb.RANDOM_SEED}")


def bases():
    """Two places of the weights, far from the ends, of which each bit of a page's address is 1 in one."""
    one = BASES.randrange(1 << 9, (1 << AXI.address_width - 12) - (1 << 10)) << 12
    return one, (1 << AXI.address_width) - 4096 - one


def requests_of(entries):
    """What a pass asks the memory for."""
    half = DESIGN.hw.entries // DESIGN.hw.halves
    heads = tuple(any(e[3] for e in entries[i * half:(i + 1) * half]) for i in range(DESIGN.hw.halves))
    return request_list(DESIGN, [e[2] for e in entries], heads if DESIGN.hw.halves == 2 else heads[0])


async def begin(dut, timing=None, hesitate=0, start=True):
    clock = await AxiClock.start(dut)
    memory = AxiMemory(dut, clock, WEIGHTS, base=bases()[0], width=AXI.data_width, outstanding=AXI.outstanding,
                       timing=timing)
    host = Host(dut, clock, DESIGN, AXI, hesitate)
    if DESIGN.hw.kv_port:
        host.kv_memory = KvMemory(dut, clock, timing if hesitate else None)
    if start:
        await bring_up(memory, host)
    return clock, memory, host


async def bring_up(memory, host):
    await host.start(memory.base, **PARAMS["sampling"])
    if DESIGN.hw.kv_port:
        await host.set_base(host.kv_memory.base, "KV")


class KvMemory:
    """The memory of keys and values, at first with anything in it: that of the cycle model, or of another
    ``timing``."""

    def __init__(self, dut, clock, timing=None):
        places = DESIGN.kv_places
        first, last = DESIGN.kv_base, (1 << AXI.address_width) - places.size
        self.base = BASES.randrange(-(-first >> 12), (last >> 12) + 1) << 12
        self.reads, self.writes = kv_memory(dut, clock, DESIGN, BASES, self.base, timing,
                                            **{"latency": 7} if timing else {})


def check(results, expected, bus_error=0, lost=False):
    """Tokens of a pass; with a bus error, or what it has ``lost``, only which entries have one."""
    wanted = sorted((int(entry), token) for entry, token in expected["tokens"].items())
    # a half-batch may be through before the other one's weights are read
    flags = [r["bus_error"] for r in results]
    assert flags == [bus_error] * len(results) or (bus_error and DESIGN.hw.halves == 2 and flags[-1])
    assert [r["error"] for r in results] == [0] * len(results)
    if not wanted:
        assert [r["none"] for r in results] == [1]
    else:
        assert [r["none"] for r in results] == [0] * len(wanted)
        assert [r["entry"] for r in results] == [entry for entry, _ in wanted]
        if not bus_error and not lost:
            assert [r["token"] for r in results] == [token for _, token in wanted]


async def checked_pass(host, expected):
    """A pass: tokens and signatures."""
    n = len(expected["entries"])
    check(await host.run(expected["entries"]), expected)
    assert await host.signatures(DESIGN.layers, DESIGN.hw.entries, n) == expected["signatures"]


@cocotb.test()
async def passes(dut):
    """Who am I, bring-up, passes, their counters."""
    clock, memory, host = await begin(dut, Timing(latency=9), start=False)
    for name in ("ID", "VERSION", "DESIGN_ID", "CONTEXT", "LAYERS", "VOCABULARY"):
        assert await host.read(name) == MAP[name].fields[0].reset, name
    assert await host.read("WEIGHTS_ID") == 0
    pair = [cocotb.start_soon(host.read(name)) for name in ("ID", "VERSION")]       # at once: the second waits
    assert [await each for each in pair] == [MAP[name].fields[0].reset for name in ("ID", "VERSION")]
    with pytest.raises(BusError):
        await host.read(MAP.registers[-1].name, MAP.registers[-1].count)
    await bring_up(memory, host)
    for expected in PASSES[:4]:
        memory.clear()
        start = clock.cycle
        await checked_pass(host, expected)
        requests = requests_of(expected["entries"])
        bursts = [b for request in requests for b in golden.bursts(DESIGN, AXI, *request)]
        assert [(a - memory.base, n) for _, a, n in memory.addresses] == [(b.offset, b.words) for b in bursts]
        counts = {name: await host.read("COUNTER", i) for i, name in enumerate([*EVENTS, *AXI_EVENTS])}
        assert counts["axi_words"] == len(memory.words) and counts["axi_bursts"] == len(bursts)
        assert counts["weight_beats"] == sum(count for _, count, _ in requests)
        assert {name: counts[name] for name in ("mac_busy", "saturated")} == {name: expected[name]
                                                                              for name in ("mac_busy", "saturated")}
        if DESIGN.hw.kv_port:           # whose memory is that of the cycle model
            assert counts["attention"] == expected["attention"]
        assert 0 < counts["cycles"] < clock.cycle - start and not (await host.fields("STATUS"))["busy"]
        assert counts["axi_waits"] + counts["axi_words"] <= counts["cycles"]
    assert await host.read("WEIGHTS_ID") == PARAMS["weights_id"]
    assert not (await host.fields("IRQ_STATUS"))["error"] and (await host.fields("ERROR")) == {"code": 0, "count": 0}
    if DESIGN.hw.kv_ecc:
        assert [await host.read(name) for name in ("KV_CORRECTED", "KV_FAILED")] == [0, 0]


@cocotb.test()
@cocotb.parametrize(("timing", [dict(stall=0.3, busy=0.5, latency=60, refresh=(100, 30), row=(256, 10))]),
                    ("hesitate", [0.6]))
async def hesitant(dut, timing, hesitate):
    """Buses and hosts that hesitate change when, never what."""
    _, _, host = await begin(dut, Timing(**timing), hesitate)
    for expected in PASSES[:2]:
        await checked_pass(host, expected)


@cocotb.test()
async def somebody_elses_memory(dut):
    """The weights from cocotbext-axi's AXI4 memory."""
    clock = await AxiClock.start(dut)
    memory = AxiRamRead(AxiReadBus.from_prefix(dut, "m_axi"), dut.aclk, dut.aresetn, reset_active_level=False,
                        size=1 << 20)
    memory.write(0x3000, WEIGHTS)
    host = Host(dut, clock, DESIGN, AXI)
    await host.start(0x3000, **PARAMS["sampling"])
    for expected in PASSES[:2]:
        await checked_pass(host, expected)


@cocotb.test()
async def kv_operations(dut):
    """Slots are freed and forked by registers; what is refused is refused, and what does not fit is answered with an
    error."""
    _, _, host = await begin(dut)
    first = PASSES[0]
    await checked_pass(host, first)
    lengths = [sum(e[0] == slot for e in first["entries"]) for slot in range(DESIGN.hw.slots)]
    results = await host.run(first["entries"])          # the same positions again
    assert [(r["entry"], r["error"]) for r in results] == [(i, int(ErrorCode.POSITION))
                                                           for i in range(len(first["entries"]))]
    used = next(slot for slot, length in enumerate(lengths) if length)
    assert await host.operate(int(KvOp.TRUNCATE), used, length=lengths[used] + 1) == ErrorCode.LENGTH
    # an operation waits for the end of the pass, and another for its answer
    await host.give(PASSES[1]["entries"])
    while not (await host.fields("STATUS"))["busy"]:
        pass
    await host.write("KV_COMMAND", op=int(KvOp.FREE), slot=0)
    with pytest.raises(BusError):
        await host.write("KV_COMMAND", op=int(KvOp.FREE), slot=0)
    check(await host.take(), PASSES[1])
    await host.write("IRQ_STATUS", done=1, result=1)
    while (await host.fields("KV_ANSWER"))["busy"]:
        pass
    for slot in range(DESIGN.hw.slots):
        assert await host.operate(int(KvOp.FREE), slot) == 0
    await checked_pass(host, first)
    if DESIGN.hw.paged:
        other = next(slot for slot in range(DESIGN.hw.slots) if slot != used)
        await host.operate(int(KvOp.FREE), other)
        assert await host.operate(int(KvOp.FORK), used, other, lengths[used]) == 0
        assert await host.operate(int(KvOp.FORK), used, other, lengths[used]) == ErrorCode.OCCUPIED
    for fields in (dict(op=4), dict(slot=1 << 9)):
        with pytest.raises(BusError):
            await host.write("KV_COMMAND", **fields)


@cocotb.test()
async def bus_errors(dut):
    """Weights that cannot be read: the pass ends and says so, the first address is kept, and the next pass is as
    ever."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock, memory, host = await begin(dut, Timing(latency=5))
    first = PASSES[0]
    offsets = [b.offset + i * AXI.word_bytes for r in requests_of(first["entries"])
               for b in golden.bursts(DESIGN, AXI, *r)
               for i in range(b.words)]
    # the one with the most bits in its address and some that are read later, then all
    many = max(range(len(offsets)), key=lambda i: (offsets[i] % 4096).bit_count())
    later = sorted(set(offsets) - set(offsets[:many + 1]))
    for base, which, code in zip(bases(), ([offsets[many], *rng.sample(later, min(2, len(later)))], offsets), (2, 1)):
        memory.base = base
        await host.set_base(base)
        words = [base + offset for offset in offsets]
        broken = [base + offset for offset in which]
        memory.fail = lambda address, code=code, broken=broken: code + 1 if address in broken else 0
        check(await host.run(first["entries"]), first, bus_error=1)
        assert (await host.fields("IRQ_STATUS"))["error"] and int(dut.irq.value)
        failed = [word for word in words if word in broken]
        assert await host.fields("ERROR") == {"code": code, "count": len(failed)}
        for wait in (0, 0, 1):          # some cycles apart, once an odd number: what turns over in each is seen
            await clock.edge(wait)
            assert await host.read("ERROR_ADDRESS_LO") == failed[0] & 0xFFFFFFFF
        assert failed[0] < 1 << 32 or await host.read("ERROR_ADDRESS_HI") == failed[0] >> 32
        memory.fail = lambda address: 0
        check(await host.run(PASSES[1]["entries"]), PASSES[1], lost=True)       # what the bad pass kept is still there
        await host.reset()
        await checked_pass(host, first)
        assert await host.fields("ERROR") == {"code": code, "count": len(failed)}       # until it is cleared
        await host.write("IRQ_STATUS", error=1)
        assert await host.fields("ERROR") == {"code": 0, "count": 0} and not int(dut.irq.value)
        await host.reset()
    await host.set_base(base + 0x100000)        # where nothing is
    for times in range(1, 8):
        check(await host.run(first["entries"]), first, bus_error=1)
        assert await host.fields("ERROR") == {"code": 2, "count": times * len(words)}
        await host.reset()
    await host.set_base(base)
    await checked_pass(host, first)


@cocotb.test()
async def history(dut):
    """Passes and operations on slots, right ones and wrong ones: the machine refuses what golden refuses, with its
    codes."""
    _, _, host = await begin(dut)
    for step in PARAMS["steps"]:
        if "operation" in step:
            assert await host.operate(**step["operation"]) == step["error"]
            assert (await host.fields("IRQ_STATUS"))["kv"]
            await host.write("IRQ_STATUS", kv=1)
            continue
        results = await host.run(step["entries"])
        assert [r["error"] for r in results if r["error"]] == step["errors"]
        good = [r for r in results if not r["error"]]
        assert {str(r["entry"]): r["token"] for r in good if not r["none"]} == step["tokens"]
        assert not any(r["bus_error"] for r in results) and [r["last"]
                                                             for r in results] == [0] * (len(results) - 1) + [1]
        assert await host.signatures(DESIGN.layers, DESIGN.hw.entries, step["rows"]) == step["signatures"]


@cocotb.test()
async def interrupts(dut):
    """`irq` is high while a cause is set that is enabled, each of them alone."""
    clock, _, host = await begin(dut)
    await host.give(PASSES[0]["entries"])
    check(await host.take(), PASSES[0])
    await host.interrupt()
    await host.operate(int(KvOp.FREE), 0)
    causes = list(await host.fields("IRQ_STATUS"))
    for cleared in ((), ("kv",), causes):
        await host.write("IRQ_STATUS", **dict.fromkeys(cleared, 1))
        status = await host.fields("IRQ_STATUS")
        assert status["kv"] == (not cleared) and status["done"] == (cleared != causes)
        for enabled in ((), *((cause,) for cause in causes), causes):
            await host.write("IRQ_ENABLE", **{cause: int(cause in enabled) for cause in causes})
            await clock.edge(2)
            assert int(dut.irq.value) == any(status[cause] for cause in enabled), (cleared, enabled)


@cocotb.test()
async def numbers_without_bits(dut):
    """They are refused where they come, and not taken for others; the entries beside them run."""
    _, _, host = await begin(dut)
    wrong = [(DESIGN.hw.slots << 1, 0, 0, 1, 0), (0, DESIGN.hw.context << 1, 0, 1, 0),
             (0, 0, DESIGN.model.vocab_size << 1, 1, 0)]
    if host.queue:
        for entry in wrong:
            try:
                await host.give([entry])
            except BusError:
                continue
            raise AssertionError(f"{entry} was taken")
        check(await host.run(PASSES[0]["entries"]), PASSES[0])
    else:
        check(await host.run([*wrong, *PASSES[0]["entries"]]), PASSES[0])
        assert (await host.fields("IRQ_STATUS"))["dropped"]
    for numbers in (dict(slot=DESIGN.hw.slots << 1), dict(slot=0, other=1023),
                    dict(slot=0, length=DESIGN.hw.context << 2)):
        try:
            await host.operate(2, **numbers)
        except BusError:
            continue
        raise AssertionError(f"an operation with {numbers} was taken")


@cocotb.test(skip=AXI.host != "stream")
async def either_last(dut):
    """A pass ends with the bit in its last entry, TLAST or not, and with TLAST alone."""
    _, _, host = await begin(dut)
    first, second = (expected["entries"] for expected in PASSES[:2])
    await host.commands.send(AxiStreamFrame([*host.words(first), *host.words(second, last=0)]))
    for expected in PASSES[:2]:
        check(await host.take(), expected)


@cocotb.test(skip=AXI.host != "stream")
async def each_bit_without_a_place(dut):
    """An entry with one of them is none: alone it makes an empty pass, and a note."""
    _, _, host = await begin(dut)
    room = {"slot": (DESIGN.hw.slots - 1).bit_length(), "position": (DESIGN.hw.context - 1).bit_length(),
            "token": (DESIGN.model.vocab_size - 1).bit_length()}
    for field in (field for field in host.entry_fields if field.name in room):
        for bit in range(room[field.name], field.width):
            await host.commands.send(AxiStreamFrame([1 << field.lsb + bit]))
            result, = await host.take()
            assert (result["none"], result["error"]) == (1, ErrorCode.EMPTY_PASS), (field.name, bit)
            assert (await host.fields("IRQ_STATUS"))["dropped"], (field.name, bit)
            await host.write("IRQ_STATUS", dropped=1)
            assert not (await host.fields("IRQ_STATUS"))["dropped"]


@cocotb.test()
async def each_bit_of_an_address(dut):
    """One bit off, it is another register or none."""
    _, _, host = await begin(dut, start=False)
    there = {register.offset + 4 * index for register in MAP.registers for index in range(register.count)}
    for bit in range(2, MAP.address_width):
        if (address := MAP["ID"].offset ^ 1 << bit) not in there:
            result = await host.master.read(address, 4)
            assert result.resp != 0, f"{address:#x}"


@cocotb.test(skip=not DESIGN.hw.kv_port)
async def outside(dut):
    """Keys and values that cannot be written or read: the pass says so, the place is kept, and after a reset all is as
    ever. Registers say where they are; at first that is behind the weights."""
    _, _, host = await begin(dut)
    kv, first = host.kv_memory, PASSES[0]
    for code, failing in ((2, kv.reads), (1, kv.reads), (2, kv.writes), (1, kv.writes)):
        seen = []
        failing.fail = lambda address, code=code, seen=seen: seen.append(address) or code + 1
        check(await host.run(first["entries"]), first, bus_error=1)
        error = await host.fields("ERROR")
        assert error["code"] == code and error["count"] == len(seen)
        low, high = await host.read("ERROR_ADDRESS_LO"), await host.read("ERROR_ADDRESS_HI")
        assert low | high << 32 == seen[0]
        failing.fail = lambda address: 0
        await host.reset()
        await host.write("IRQ_STATUS", error=1)
        await checked_pass(host, first)
        await host.reset()
    assert MAP["KV_BASE_LO"].fields[0].reset << 12 == -(-len(WEIGHTS) // 4096) * 4096


# which shows a bench the memories
@cocotb.test(skip=not (DESIGN.hw.kv_ecc and cocotb.SIM_NAME.lower().startswith("icarus")))
async def errors_of_the_kv_memory(dut):
    """Flipped bits of keys are corrected and counted; two in a word are counted as lost, with the place of the
    first."""
    _, _, host = await begin(dut)
    rows = dut.decoder.kv_cache.k_codes.memory.rows

    def flip(bits):
        for row in (rows[i] for i in rows.range):
            if row.value.is_resolvable:
                row.value = int(row.value) ^ bits

    await checked_pass(host, PASSES[0])
    flip(0b1)
    for expected in PASSES[1:4]:
        await checked_pass(host, expected)
    assert await host.read("KV_CORRECTED") > 0 and await host.read("KV_FAILED") == 0
    flip(0b110)
    check(await host.run(PASSES[4]["entries"]), PASSES[4], lost=True)
    assert await host.read("KV_FAILED") > 0
    lost = await host.fields("KV_FAULT")
    assert (lost["slot"], lost["position"]) in {(e[0], e[1]) for expected in PASSES[:4] for e in expected["entries"]}


@cocotb.test()
async def silent_memory(dut):
    """A memory that does not answer is reported, after as many cycles as are set; the pass goes on when it does."""
    clock, memory, host = await begin(dut)
    await host.write("TIMEOUT", value=64)
    memory.mute = True
    await host.give(PASSES[0]["entries"])
    await host.interrupt()
    assert (await host.fields("IRQ_STATUS"))["error"] and (await host.fields("ERROR"))["code"] == 4
    assert await host.read("ERROR_ADDRESS_LO") == memory.base & 0xFFFFFFFF and (await host.fields("STATUS"))["busy"]
    memory.mute = False
    check(await host.take(), PASSES[0])
    await host.write("IRQ_STATUS", done=1, error=1, result=1)
    await host.give(PASSES[1]["entries"])
    for bit in range(7, 32):
        await host.write("TIMEOUT", value=64 | 1 << bit)
        words, memory.mute = len(memory.words), False
        while len(memory.words) == words:
            await clock.edge()
        memory.mute = True
        await clock.edge(70)
        assert not (await host.fields("IRQ_STATUS"))["error"]
    memory.mute = False
    check(await host.take(), PASSES[1])


@cocotb.test()
async def numbers_of_many_bits(dut):
    """Counts to which no simulation gets: their registers are set."""
    clock, memory, host = await begin(dut)
    memory.mute = True
    await host.give(PASSES[0]["entries"])
    while not memory.addresses:
        await clock.edge()
    for number in (0x55555555, 0xAAAAAAAA):
        await host.write("TIMEOUT", value=number)
        dut.reader.silent.value = number - 40
        await clock.edge(30)
        assert (await host.fields("ERROR"))["code"] == 0
        await clock.edge(20)
        assert (await host.fields("ERROR"))["code"] == 4
        await host.write("IRQ_STATUS", error=1)
        if DESIGN.hw.kv_ecc:
            kv = dut.decoder.kv_cache
            kv.corrected.value, kv.failed.value = number, number ^ 0xFFFFFFFF
            assert [await host.read(name) for name in ("KV_CORRECTED", "KV_FAILED")] == [number, number ^ 0xFFFFFFFF]
    memory.mute = False
    check(await host.take(), PASSES[0])


@cocotb.test()
async def reset_by_software(dut):
    """In the middle of passes: what the bus owes is taken, then everything is as new."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock, memory, host = await begin(dut, Timing(latency=20))
    for _ in range(3):
        await host.give(PASSES[0]["entries"])
        await clock.edge(rng.randrange(1, 400))
        await host.reset()
        assert not memory._queue and not (await host.fields("STATUS"))["busy"]
        assert not host.queue or (await host.fields("QUEUE"))["results"] == 0
        await host.write("IRQ_STATUS", done=1, result=1)
        await checked_pass(host, PASSES[0])
        await host.reset()


@cocotb.test()
async def reset_by_wire(dut):
    """Bus and machine are reset together, in the middle of a pass."""
    rng = random.Random(cocotb.RANDOM_SEED)
    clock, memory, host = await begin(dut, Timing(latency=20))
    for _ in range(2):
        await host.give(PASSES[0]["entries"])
        await clock.edge(rng.randrange(1, 300))
        memory.forget()
        await clock.reset(3)
        memory.forget()
        host.forget()
        assert await host.read("WEIGHT_BASE_LO") == 0 and not (await host.fields("STATUS"))["busy"]
        await host.start(memory.base, **PARAMS["sampling"])
        await checked_pass(host, PASSES[0])


@cocotb.test()
async def not_before_it_may(dut):
    """Entries wait until software says run; what was begun is finished without it."""
    clock, memory, host = await begin(dut, start=False)
    await host.set_base(memory.base)
    await host.give(PASSES[0]["entries"])
    await clock.edge(100)
    assert memory.addresses == [] and not (await host.fields("STATUS"))["busy"]
    await host.start(memory.base, **PARAMS["sampling"])
    check(await host.take(), PASSES[0])
    if host.queue:
        space = (await host.fields("QUEUE"))["space"]
        await host.write("CONTROL", run=0)
        for _ in range(space):
            await host.write("COMMAND_HI", want=1)
        assert (await host.fields("QUEUE"))["space"] == 0
        try:
            await host.write("COMMAND_HI", want=1)
        except BusError:
            return
        raise AssertionError("a full queue took an entry")


@cocotb.test()
async def offers_stay(dut):
    """The entry that the machine was offered is taken behind its pass, though software said stop before; the next one
    waits."""
    clock, memory, host = await begin(dut)
    first, second = PASSES[:2]
    await host.give(first["entries"])
    await host.give(second["entries"])
    while not memory.addresses:
        await clock.edge()
    await host.write("CONTROL", run=0)
    check(await host.take(), first)
    await clock.edge(50)
    asked = len(memory.addresses)
    assert (await host.fields("STATUS"))["busy"]
    await clock.edge(100)
    assert len(memory.addresses) == asked
    await host.write("CONTROL", run=1)
    check(await host.take(), second)


async def load(host, number, words):
    await host.write("ADAPTER_LOAD", number=number)
    for word in words:
        await host.write("ADAPTER_DATA", value=word)


async def refused(access):
    with pytest.raises(BusError):
        await access


@cocotb.test(skip=not DESIGN.hw.adapters)
async def adapters(dut):
    """Loaded between passes and while one runs, replaced, and mixed in passes; what names one that is not there is
    refused."""
    clock, _, host = await begin(dut)
    words, steps = PARAMS["adapters"], PARAMS["adapted"]
    assert await host.read("ADAPTER_WORDS") == len(words[0])
    assert await host.fields("ADAPTER_STATUS") == {"loaded": 0, "missing": 0}
    for number in (0, DESIGN.hw.adapters + 1):
        await refused(host.write("ADAPTER_LOAD", number=number))
    await refused(host.write("ADAPTER_DATA", value=1))
    await refused(host.give([(0, 0, 0, 1, 0, 1)]))
    await load(host, 1, words[1])
    await load(host, 1, words[0])                   # another one in its place
    assert await host.fields("ADAPTER_STATUS") == {"loaded": 1, "missing": 0}
    await refused(host.give([(0, 0, 0, 1, 0, 2)]))
    await host.give(steps[0]["entries"])
    await refused(host.write("ADAPTER_LOAD", number=1))     # whose entries run
    await host.write("ADAPTER_LOAD", number=2)
    for word in words[1]:
        await host.write("ADAPTER_DATA", value=word)
    check(await host.take(), steps[0])
    await host.write("IRQ_STATUS", done=1, result=1)
    assert await host.signatures(DESIGN.layers, DESIGN.hw.entries, steps[0]["rows"]) == steps[0]["signatures"]
    for step in steps[1:4]:
        await checked_pass(host, step)
    await clock.edge(20)
    await load(host, 1, words[0][:-1])              # cut off: the others go on
    assert await host.fields("ADAPTER_STATUS") == {"loaded": 2, "missing": 1}
    await refused(host.give([(0, 0, 0, 1, 0, 1)]))
    await checked_pass(host, steps[4])
    await host.reset()                              # which leaves the memory alone
    assert await host.fields("ADAPTER_STATUS") == {"loaded": 2, "missing": 1}
    await host.write("ADAPTER_DATA", value=words[0][-1])
    assert await host.fields("ADAPTER_STATUS") == {"loaded": 3, "missing": 0}
    await checked_pass(host, steps[0])
