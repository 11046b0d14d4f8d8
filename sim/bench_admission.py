"""Bench of Admission with the KV memory behind it: right and wrong entries, operations, and the cycles of both."""
import random

from amaranth.hdl import Shape
import cocotb

from hwgen.golden.admission import admit_pass
from hwgen.golden.kv_cache import KvBlocks
from hwgen.params.errors import ErrorCode, KvOp
from sim.admission_units import AdmissionToMemory
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset, unpack, value_of

DESIGN = small_design(**bench_params())
HW = DESIGN.hw
PORTS = AdmissionToMemory(DESIGN)
FIELDS = ("slot", "position", "token", "want", "last", "none")
#: {field: bits} of what goes along with an entry, and is not looked at: its key, its adapter.
ALONG = {name: Shape.cast(field.shape).width for name, field in PORTS.command.p.shape() if name not in FIELDS}


def most(limit):
    """The largest number that fits the bits of one below ``limit``."""
    return (1 << (limit - 1).bit_length()) - 1


class Host:
    """The host's side, and a sequencer that is told what to answer."""

    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock, self.rng = dut, clock, random.Random(cocotb.RANDOM_SEED)
        self.free = True                # the sequencer is between passes
        self.deaf = False               # the host does not look at results
        self.given = 0                  # transfers of `entry` so far
        rng = random.Random(cocotb.RANDOM_SEED + 1)

        def source(name, **more):
            return StreamSource(dut, name, clock, shape=getattr(PORTS, name).p.shape(), **more)

        def sink(name, **more):
            return StreamSink(dut, name, clock, shape=getattr(PORTS, name).p.shape(), **more)
        self.command, self.kv_command = source("command", idle=idle), source("kv_command")
        self.result = source("result", idle=idle)
        self.outcome = sink("outcome", stall=lambda _: self.deaf or rng.random() < stall)
        self.kv_answer = sink("kv_answer", stall=stall)
        self.entry = sink("entry", stall=lambda _: not self.free
                          or any(e["last"] for e in self.entry.items[self.given:]))
        self.blocks, self.exact = KvBlocks(DESIGN), not (idle or stall)
        cocotb.start_soon(self._watch())

    async def _watch(self):
        """A pass opens with its first entry, and is open until its last outcome is taken."""
        def transfer(port):
            return value_of(port.valid) and value_of(port.ready)
        opened = False
        while True:
            await self.clock.sample()
            if self.clock.in_reset:
                opened = False
            else:
                opens = bool(transfer(self.command) and not opened)
                assert (value_of(self.dut.opens), value_of(self.dut.opened)) == (opens, opened), self.clock.cycle
                ends = transfer(self.outcome) and unpack(self.outcome.shape, value_of(self.outcome.payload))["last"]
                opened = (opened or opens) and not ends
            await self.clock.edge()

    def entries(self, count, wrong):
        """Random (slot, position, token, want), some of them wrong."""
        ahead = list(self.blocks.lengths)
        out = []
        for _ in range(count):
            slot = self.rng.randrange(HW.slots)
            position, token = min(ahead[slot], most(HW.context)), self.rng.randrange(DESIGN.model.vocab_size)
            if self.rng.random() < wrong:
                slot, position, token = self.rng.choice([
                    (most(HW.slots), position, token), (slot, self.rng.randint(0, most(HW.context)), token),
                    (slot, position, most(DESIGN.model.vocab_size)),
                    (slot, most(HW.context), token)])
            elif position < HW.context:
                ahead[slot] += 1
            out.append((slot, position, token, self.rng.randrange(2)))
        return out

    def item(self, *values):
        """A transfer of `FIELDS`, with something along."""
        return dict(zip(FIELDS, values, strict=True)) | {name: self.rng.getrandbits(bits)
                                                         for name, bits in ALONG.items()}

    async def run(self, entries, closing=False):
        """A pass, against golden; with ``closing`` its end comes in a transfer of its own. Returns `Admitted`."""
        want = admit_pass(DESIGN, self.blocks, entries)
        self.outcome.clear()
        alone = closing or not entries
        items = [self.item(*e, int(i + 1 == len(entries) and not alone), 0) for i, e in enumerate(entries)]
        items += [self.item(0, 0, 0, 0, 1, 1)] * alone
        before = len(self.command.sent)
        answers = [self.answer(a.entry, int(a.error), a.last and not (closing and entries)) for a in want.answers]
        if closing and entries and not want.rows:
            if want.answers[-1].error:
                answers.append(self.answer(None, 0, True))
            else:
                answers[-1]["last"] = 1
        self.command.send(items)
        await self.command.drained()
        self.deaf = False
        if want.rows:
            while not (self.entry.items[self.given:] and self.entry.items[-1]["last"]):
                await self.clock.edge()
            self.free = False
            got = [e for e in self.entry.items[self.given:] if not e["none"]]
            assert [(e["slot"], e["position"], e["token"], e["want"]) for e in got] == [entries[i] for i in want.rows]
            assert [{name: e[name] for name in ALONG} for e in got] == [{name: items[i][name] for name in ALONG}
                                                                        for i in want.rows]
            assert [e["last"] for e in self.entry.items[self.given:]][:-1] == [0] * (len(self.entry.items)
                                                                                     - self.given - 1)
            wanted = [(row, i) for row, i in enumerate(want.rows) if entries[i][3]]
            results = [{"entry": row, "token": entries[i][2], "none": 0, "last": 0}
                       for row, i in wanted] or [{"entry": 0, "token": 0, "none": 1, "last": 0}]
            results[-1]["last"] = 1
            self.result.send(results)
            answers += [{"entry": i, "token": entries[i][2], "none": 0, "last": int(i == wanted[-1][1]), "error": 0}
                        for _, i in wanted] or [self.answer(None, 0, True)]
        got = [{**o, "token": o["token"] if not o["none"] and not o["error"] else 0,
                "entry": 0 if o["none"] else o["entry"]}
               for o in await self.outcome.wait(len(answers))]
        assert got == answers
        if self.exact and not closing:
            start = self.command.sent[before][0]
            assert [cycle - start for cycle in self.outcome.cycles[:len(want.answers)]] == [a.cycle
                                                                                            for a in want.answers]
            if want.rows:
                assert self.entry.cycles[-1] - start == want.closed
        self.end()
        return want

    def end(self):
        """The sequencer is ready for the next pass."""
        self.free, self.given = True, len(self.entry.received)

    @staticmethod
    def answer(entry, error, last):
        return {"entry": entry or 0, "token": 0, "none": int(entry is None), "last": int(last), "error": error}

    async def operate(self, op, slot, other, length):
        error, cycles = self.blocks.operate(op, slot, other, length)
        self.kv_answer.clear()
        self.kv_command.send([{"op": int(op), "slot": slot, "other": other, "length": length}])
        assert await self.kv_answer.wait(1) == [{"error": error}]
        if self.exact:
            assert self.kv_answer.cycles[0] - self.kv_command.sent[-1][0] == cycles
        return error


async def host(dut, idle=0, stall=0):
    return Host(dut, await start_clock_reset(dut), idle, stall)


@cocotb.test()
@cocotb.parametrize(("pattern", [(0, 0), (0.5, 0.5), (0.9, 0.1), (0.1, 0.9)]))
async def history(dut, pattern):
    """Passes and operations, some of them wrong: what is let in, what is answered, and when."""
    h = await host(dut, *pattern)
    errors = set()
    for _ in range(400 if h.exact else 60):
        if h.rng.random() < 0.75:
            entries = h.entries(h.rng.choice([1, HW.entries, h.rng.randint(0, HW.entries + 2)]), h.rng.choice([0, 0.4]))
            h.deaf = h.rng.random() < 0.3 and not h.exact
            errors |= set((await h.run(entries, closing=h.rng.random() < 0.2)).errors.values())
        else:
            slot = h.rng.randint(0, most(HW.slots)) if h.rng.random() < 0.2 else h.rng.randrange(HW.slots)
            length = h.rng.randint(0, h.blocks.lengths[slot] if slot < HW.slots and h.rng.random() < 0.7
                                   else HW.context)
            errors.add(await h.operate(h.rng.choice([*2 * [KvOp.FORK, KvOp.TRUNCATE], KvOp.FREE, 3]), slot,
                                       h.rng.randint(0, most(HW.slots)), length))
    if h.exact:
        impossible = {code for code, possible in {
            ErrorCode.SLOT: most(HW.slots) >= HW.slots,
            ErrorCode.TOKEN: most(DESIGN.model.vocab_size) >= DESIGN.model.vocab_size,
            ErrorCode.NO_BLOCK: HW.kv_blocks, ErrorCode.OCCUPIED: HW.paged,
            ErrorCode.WINDOW: DESIGN.positions_kept}.items()
            if not possible}
        # of `hwgen.top.axi`, before it
        impossible |= {ErrorCode.MEMORY, ErrorCode.MEMORY_FAILED, ErrorCode.NO_WEIGHTS}
        assert errors == set(ErrorCode) - impossible


@cocotb.test()
async def more_than_a_full_pass(dut):
    """The entries that are too many change nothing for those that were let in."""
    h = await host(dut)
    places = [(slot, position) for position in range(HW.context) for slot in range(HW.slots)][:HW.entries]
    assert len((await h.run([(*place, 1, 1) for place in places] + [(0, 0, 1, 1)] * 2)).rows) == len(places)


@cocotb.test()
async def all_wrong_and_nobody_listens(dut):
    """The queue of refusals holds a pass's worst case, so the host need not listen while it gives entries."""
    h = await host(dut)
    bad = (0, 1, 0, 1)
    for entries, closing in (([bad] * HW.entries, True), ([bad] * (HW.entries + 3), False),
                             ([bad] * (HW.entries + 1), True), ([], False),
                             ([bad], False)):
        h.deaf, h.exact = True, False
        await h.run(entries, closing)


@cocotb.test(skip=not (HW.paged and HW.slots > 1 and HW.context > HW.kv_block))
async def fork_at_the_edge_of_a_block(dut):
    h = await host(dut)
    for position in range(HW.kv_block):
        await h.run([(0, position, 1, 1)])
    assert await h.operate(KvOp.FORK, 0, 1, HW.kv_block) == ErrorCode.OK


@cocotb.test()
async def operations_wait_for_the_end_of_a_pass(dut):
    h = await host(dut)
    await h.run([(0, 0, 1, 1)])
    h.command.send([h.item(0, 1, 2, 1, 0, 0)])
    await h.command.drained()
    h.kv_command.send([{"op": int(KvOp.FREE), "slot": 0, "other": 0, "length": 0}])
    await h.clock.edge(10)
    assert not h.kv_command.sent
    h.command.send([h.item(0, 2, 2, 1, 1, 0)])
    await h.command.drained()
    await h.clock.edge(3)
    h.free = False
    h.outcome.clear()
    h.result.send([{"entry": 0, "token": 3, "none": 0, "last": 1}])
    await h.outcome.wait(1)
    assert not h.kv_command.sent
    h.end()
    assert (await h.kv_answer.wait(1))[0] == {"error": 0}
    h.blocks = KvBlocks(DESIGN)
    h.exact = False         # blocks come in another order than in a new KvBlocks
    await h.run([(0, 0, 1, 1)])


@cocotb.test()
async def reset_in_flight(dut):
    h = await host(dut)
    for wait in range(1, 8):
        h.command.send([h.item(0, i, 1, 1, 0, 0) for i in range(2)])
        h.kv_command.send([{"op": int(KvOp.TRUNCATE), "slot": 0, "other": 0, "length": 0}])
        await h.clock.edge(wait)
        h.command.clear()
        h.kv_command.clear()
        await h.clock.reset()
        h.blocks = KvBlocks(DESIGN)
        h.end()
        h.outcome.clear()
        h.kv_answer.clear()
        await h.run([(0, 0, 1, 1)])
