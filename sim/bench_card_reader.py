"""Bench of CardReader with a card at its pins: each byte to the card in its cycle, what the loader gets, and what is
said of cards that are not there, are other ones, have other images, or fail."""
import random
import zlib

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge, with_timeout

from hwgen.golden import card_reader as golden
from hwgen.params.card import BLOCK_BYTES, CRC_AT, RESETS, TRIES, CardError, CardTiming, card_blocks, head_error
from sim.stream_bench import bench_params, start_clock_reset, value_of

PARAMS = bench_params()
HEAD, SIZE = bytes.fromhex(PARAMS["head"]), PARAMS["size"]
TIMING = CardTiming(PARAMS["slow"], PARAMS["fast"], PARAMS["patience"])
LAST = card_blocks(SIZE)


class Bench:
    """A card and a loader. Attributes are what the next boot does."""

    async def start(self, dut, rng):
        self.dut, self.rng = dut, rng
        self.clock = await start_clock_reset(dut)
        self.weights = rng.randbytes(SIZE)
        self.head, self.crc = HEAD, zlib.crc32(self.weights)
        self.card = dict(present=1, seed=rng.getrandbits(32), kind=0, deaf=rng.randrange(3), starts=rng.randrange(4),
                         waits=rng.randint(1, 9), fault=0, fault_block=0, fault_times=0)
        self.late = lambda: rng.randrange(200)          # cycles that the loader is busy behind its block
        self.errors = []                                # of the loader's blocks, one behind the other
        self.spoil = ()                                 # (command, byte that comes instead behind it, how many times)
        self.flip = False                               # what is read back is something else
        self.memory = bytearray(SIZE)
        self.ready = rng.randrange(40)
        return self

    async def _content(self):
        image = self.head + self.crc.to_bytes(4, "little")
        image = (image.ljust(BLOCK_BYTES, b"\0") + self.weights).ljust((LAST + 1) * BLOCK_BYTES, b"\xA5")
        while True:
            place = value_of(self.dut.card_at_block) * BLOCK_BYTES + value_of(self.dut.card_at_byte)
            self.dut.card_content.value = image[place] if place < len(image) else self.rng.getrandbits(8)
            await self.dut.card_logged.value_change
            selected = bool(value_of(self.dut.card_log_selected))
            self.log.append((self.clock.cycle, value_of(self.dut.card_log_in), selected))
            spoilt = value_of(self.dut.card_spoilt)
            self.came.append(self.spoil[1] if spoilt else value_of(self.dut.card_log_out))
            if self.spoil:
                await self._spoil()

    async def _spoil(self):
        """Behind a command, other bytes come from the card: from the end of its last one on."""
        command, byte, times = self.spoil
        frame = [sent[1] for sent in self.log[-6:]]
        self.spoiling = times if frame[0] == 0x40 | command and len(frame) == 6 else max(0, self.spoiling - 1)
        await self.clock.edge(TIMING.fast if command in (12, 18, 58) else TIMING.slow)
        self.dut.card_instead.value, self.dut.card_spoilt.value = byte, int(self.spoiling > 0)

    async def _loader(self):
        dut = self.dut
        while True:
            await RisingEdge(dut.load)
            await self.clock.sample()
            address, length = value_of(dut.address), value_of(dut.length)
            self.loads.append((self.clock.cycle, address, length))
            await self.clock.edge()
            dut.loader_busy.value = 1
            data = bytearray()
            while len(data) < length:
                await RisingEdge(dut.rx_valid)
                await self.clock.sample()
                if value_of(dut.rx_valid):      # and it was no change on the way to nothing
                    data.append(value_of(dut.rx_data))
            self.memory[address:address + length] = data
            self.bytes.append(bytes(data))
            await self.clock.edge(1 + self.late())
            error = self.errors.pop(0) if self.errors else 0
            dut.loader_busy.value, dut.loader_error.value = 0, error
            self.held.append((self.clock.cycle, error))

    async def _check(self):
        dut = self.dut
        await RisingEdge(dut.check)
        await self.clock.sample()
        self.checks.append((self.clock.cycle, value_of(dut.address), value_of(dut.length)))
        await self.clock.edge()
        dut.loader_busy.value = 1
        await self.clock.edge(self.rng.randint(5, 50))
        error = self.errors.pop(0) if self.errors else 0
        crc = zlib.crc32(self.memory) ^ self.flip
        dut.loader_busy.value, dut.loader_error.value, dut.loader_crc.value = 0, error, crc
        self.checked.append((self.clock.cycle, error, crc))

    async def _loaded(self):
        await RisingEdge(self.dut.loaded)
        await self.clock.sample()
        self.sealed.append((self.clock.cycle, value_of(self.dut.crc)))

    async def begin(self, powered=False):
        """Resets, and begins. The card has just got its power, too, unless it was ``powered`` before."""
        dut = self.dut
        self.log, self.came, self.loads, self.bytes = [], [], [], []
        self.held, self.checks, self.checked, self.sealed = [], [], [], []
        dut.ready.value, dut.loader_busy.value, dut.loader_error.value, dut.card_spoilt.value = 0, 0, 0, 0
        self.spoiling = 0
        for name, level in self.card.items():
            getattr(dut, f"card_{name}").value = level * powered if name == "present" else level
        dut.rst.value = 1
        await self.clock.edge()
        dut.card_present.value = self.card["present"]
        await self.clock.reset()
        tasks = self._content(), self._loader(), self._check(), self._loaded()
        self.tasks = [cocotb.start_soon(task) for task in tasks]
        await self.clock.edge(self.ready)
        dut.ready.value = 1
        await self.clock.edge()
        dut.ready.value = self.rng.getrandbits(1)

    def cancel(self):
        for task in self.tasks:
            task.cancel()

    async def boot(self, powered=False):
        """From the reset to the end. Returns golden's `Boot`, with which all has been compared."""
        await self.begin(powered)
        await with_timeout(FallingEdge(self.dut.busy), 200, "ms")
        await self.clock.sample()
        end = self.clock.cycle
        self.cancel()
        await self.clock.edge()
        return self._compare(end)

    def _compare(self, end):
        dut, came, held, checked = self.dut, iter(self.came), iter(self.held), iter(self.checked)

        def late(now):
            cycle, error = next(held)
            return max(now, cycle), error
        if self.card["present"]:
            answer = lambda out: next(came)
        else:
            answer = lambda out: 0xFF
        want = golden.boot(HEAD, SIZE, TIMING, answer, ready=self.ready, held=late, checked=lambda now: next(checked))
        if self.card["present"]:
            # a byte's last bit is the card's in the cycle behind the last rise of the clock
            told, meant = ([each[1:] for each in log] for log in (self.log, want.sent))
            assert told == meant
            halves = [TIMING.slow if number < self._quick(want) else TIMING.fast for number in range(len(want.sent))]
            ends = [cycle + 15 * half + 2 for (cycle, _, _), half in zip(want.sent, halves)]
            assert [cycle for cycle, _, _ in self.log] == ends
        assert self.loads == want.loads and self.bytes == want.bytes
        assert self.checks == ([(want.check, 0, SIZE)] if want.check else [])
        assert (value_of(dut.error), value_of(dut.block)) == (want.error, want.block)
        assert end == want.end
        good = want.error == CardError.NONE
        assert [crc for _, crc in self.sealed] == [self.crc] * good
        if good:
            assert self.memory == self.weights and value_of(dut.card_blocks) >= LAST + 1
        return want

    @staticmethod
    def _quick(want):
        """Number of the first byte at the fast clock: that before CMD58."""
        bytes_ = bytes(byte for _, byte, _ in want.sent)
        place = bytes_.find(golden.frame(58, 0))
        return len(bytes_) if place < 0 else place - 1

    def right(self):
        """The card has nothing to complain of."""
        assert value_of(self.dut.card_error) == 0, f"cycle {value_of(self.dut.card_error_cycle)} of the card"


@cocotb.test()
@cocotb.parametrize(("variety", range(2)))
async def boots(dut, variety):
    """Weights arrive, from cards that are late in any way; the memory may be ready from the first cycle on."""
    bench = await Bench().start(dut, random.Random(f"{cocotb.RANDOM_SEED} {variety}"))
    bench.ready *= variety
    assert (await bench.boot()).error == CardError.NONE
    bench.right()


@cocotb.test()
@cocotb.parametrize(("fault", (1, 2, 3)), ("times", (1, TRIES - 1, TRIES)))
async def blocks_that_fail(dut, fault, times):
    """A block that fails is read again: a bit of it was wrong, the card could not read it, or said nothing. Each time
    is too often."""
    codes = {1: CardError.CRC, 2: CardError.REFUSED, 3: CardError.SILENT}
    bench = await Bench().start(dut, random.Random(f"{cocotb.RANDOM_SEED} {fault} {times}"))
    block = bench.rng.randint(0, LAST)
    bench.card |= dict(fault=fault, fault_block=block, fault_times=times)
    found = await bench.boot()
    assert (found.error, found.block) == ((CardError.NONE, LAST) if times < TRIES else (codes[fault], block))
    bench.right()


@cocotb.test()
async def other_cards(dut):
    """None, one of standard capacity, one of version 1, one that never gets ready, and one that always is deaf."""
    for card, error in ((dict(present=0), CardError.NO_CARD), (dict(kind=1), CardError.KIND),
                        (dict(kind=2), CardError.KIND), (dict(starts=255), CardError.SILENT),
                        (dict(deaf=RESETS), CardError.NO_CARD)):
        bench = await Bench().start(dut, random.Random(cocotb.RANDOM_SEED))
        bench.card |= card
        found = await bench.boot()
        assert found.error == error and not found.loads
        if error == CardError.NO_CARD:
            assert len(found.sent) > RESETS * 7
        bench.right()


#: {what: (command, byte that comes behind it, how many times, what is said)}; 0xFF is none
SPOILT = {
    "CMD0: garbage": (0, 0x11, 1, CardError.NO_CARD), "CMD8: nothing": (8, 0xFF, 12, CardError.NO_CARD),
    "CMD8: ready": (8, 0x00, 1, CardError.NO_CARD), "CMD59: nothing": (59, 0xFF, 12, CardError.SILENT),
    "CMD59: illegal": (59, 0x05, 1, CardError.REFUSED), "CMD55: ready": (55, 0x00, 1, CardError.REFUSED),
    "CMD41: nothing": (41, 0xFF, 12, CardError.SILENT), "CMD41: illegal": (41, 0x05, 1, CardError.REFUSED),
    "CMD58: nothing": (58, 0xFF, 12, CardError.SILENT), "CMD58: starting": (58, 0x01, 1, CardError.REFUSED),
    "CMD58: not powered": (58, 0x40, 5, CardError.REFUSED), "CMD58: no CCS": (58, 0x00, 5, CardError.KIND),
    "CMD18: nothing": (18, 0xFF, 12, CardError.SILENT), "CMD18: refused": (18, 0x20, 1, CardError.REFUSED),
    "CMD12: nothing": (12, 0xFF, 12, CardError.NONE), "CMD12: busy for ever": (12, 0x00, 1 << 20, CardError.SILENT)}


@cocotb.test()
@cocotb.parametrize(("what", tuple(SPOILT)))
async def other_answers(dut, what):
    """A command is answered in another way than a card should, each time."""
    bench = await Bench().start(dut, random.Random(f"{cocotb.RANDOM_SEED} {what}"))
    *bench.spoil, error = SPOILT[what]
    bench.card |= dict(starts=0, deaf=0, waits=1)
    assert (await bench.boot()).error == error


@cocotb.test()
@cocotb.parametrize(("place", (0, 7, 8, 11, 12, CRC_AT - 1)))
async def other_images(dut, place):
    """No image, one of another version, for another machine, of another length: by the first byte that is wrong."""
    bench = await Bench().start(dut, random.Random(f"{cocotb.RANDOM_SEED} {place}"))
    bench.card["starts"] = 0
    wrong = {place, *(k for k in range(place, CRC_AT) if bench.rng.random() < 0.3)}
    bench.head = bytes(byte ^ (1 << bench.rng.randrange(8) if k in wrong else 0) for k, byte in enumerate(HEAD))
    found = await bench.boot()
    assert (found.error, found.block, found.loads) == (head_error(place), 0, [])
    bench.right()


@cocotb.test()
async def other_weights(dut):
    """An image that is not what it says."""
    bench = await Bench().start(dut, random.Random(cocotb.RANDOM_SEED))
    bench.crc ^= 1 << 31
    assert (await bench.boot()).error == CardError.CHECKSUM


#: {what: (errors of the loader's blocks and of the read-back, in order; its CRC is another one; what is said)}
MEMORIES = {
    "again": ([6] * (TRIES - 1) + [0] * LAST, False, CardError.NONE), "never": ([2] * TRIES, False, CardError.MEMORY),
    "not read": ([0] * LAST + [1], False, CardError.MEMORY), "not kept": ([], True, CardError.CHECKSUM)}


@cocotb.test()
@cocotb.parametrize(("what", tuple(MEMORIES)))
async def memories_that_fail(dut, what):
    """A block's error is tried again, the read-back's is not; nor is another CRC."""
    bench = await Bench().start(dut, random.Random(f"{cocotb.RANDOM_SEED} {what}"))
    errors, bench.flip, error = MEMORIES[what]
    bench.errors = [*errors]
    assert (await bench.boot()).error == error
    bench.right()


@cocotb.test()
async def configured_anew(dut):
    """The reader begins again while the card, which keeps its power, sends a block."""
    bench = await Bench().start(dut, random.Random(cocotb.RANDOM_SEED))
    bench.card["starts"] = 0
    await bench.begin()
    while not bench.bytes:
        await dut.card_logged.value_change
    await bench.clock.edge(bench.rng.randrange(5000))
    bench.cancel()
    assert (await bench.boot(powered=True)).error == CardError.NONE
