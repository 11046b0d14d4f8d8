"""Bench of UartBridge: answers and their cycles, in front of registers that some answer and some refuse."""
import random

import cocotb
from cocotb.triggers import ReadOnly

from hwgen.golden.uart_bridge import UartBridge, frame, offer_cycles
from hwgen.params.frames import FIXED, MAX_BYTES, SILENCE, START, WRITE
from sim.stream_bench import StreamSink, bench_params, start_clock_reset

PARAMS = bench_params()
WIDTH, DIVISOR = PARAMS["address_width"], PARAMS["divisor"]
REFUSED = 0x0C0         # registers from here on are not there: every other one is refused by the interconnect


def answer(address):
    """OKAY, SLVERR or DECERR."""
    return 0 if address < REFUSED else 2 + address // 4 % 2


class Registers:
    """What is behind the bus, in the bench and in the golden model."""

    def __init__(self):
        self.words, self.log = {}, []

    def read(self, address):
        address %= 1 << WIDTH
        self.log.append(("read", address))
        return 0 if answer(address) else self.words.get(address, address * 0x01010101 & 0xFFFFFFFF), answer(address)

    def write(self, address, word):
        address %= 1 << WIDTH
        self.log.append(("write", address, word))
        if not answer(address):
            self.words[address] = word
        return answer(address)


class Bus:
    """An AXI4-Lite slave that answers after ``wait`` cycles, and watches its master: offers stay as they are until they
    are taken, once.

    Address and data of a write are taken ``apart`` cycles from each other, now this first, now that; or, if the slave
    is ``early``, at once, for which it is ready before they are there.
    """

    def __init__(self, dut, clock, registers, wait, apart, early):
        self.dut, self.clock, self.registers = dut, clock, registers
        self.wait, self.apart, self.early = wait, apart, early
        self.first = 0
        for ready in (dut.m_axi_arready, dut.m_axi_awready, dut.m_axi_wready):
            ready.value = int(early)
        cocotb.start_soon(self._run())
        for channel, answer, payload in (("aw", "b", ("addr",)), ("w", "b", ("data", "strb")), ("ar", "r", ("addr",))):
            cocotb.start_soon(self._watch(*(self._signals(channel, *names)
                                            for names in (("valid",), ("ready",),
                                                          payload)), *self._signals(answer, "valid", "ready")))

    def _signals(self, channel, *names):
        return [getattr(self.dut, f"m_axi_{channel}{name}") for name in names]

    async def _watch(self, valid, ready, payload, answered, takes):
        (valid,), (ready,), before, waiting = valid, ready, None, False
        while True:
            await ReadOnly()
            now = [int(signal.value) for signal in payload] if int(valid.value) else None
            if self.clock.in_reset:
                before, waiting = None, False
            else:
                assert before in (None, now), f"{valid._name}: the offer changed from {before} to {now}"
                assert now is None or not waiting, f"{valid._name}: another offer, before the answer to the last"
                taken, answer = now and int(ready.value), int(answered.value)
                assert not answer or int(takes.value), f"{answered._name}: the answer is not taken"
                before, waiting = None if taken else now, (waiting or bool(taken)) and not answer
            await self.clock.edge()

    async def _run(self):
        dut = self.dut
        while True:
            await ReadOnly()
            reading, writing = int(dut.m_axi_arvalid.value), int(dut.m_axi_awvalid.value)
            assert writing == int(dut.m_axi_wvalid.value), "address and data of a write are offered together"
            if reading:
                word, response = self.registers.read(int(dut.m_axi_araddr.value))
            elif writing:
                assert int(dut.m_axi_wstrb.value) == 15
                response = self.registers.write(int(dut.m_axi_awaddr.value), int(dut.m_axi_wdata.value))
            await self.clock.edge()
            if not (reading or writing):
                continue
            # the address is taken in its first or second cycle, the response comes ``wait`` cycles later
            ready = [dut.m_axi_arready] if reading else [dut.m_axi_awready, dut.m_axi_wready]
            parts = [ready] if reading or not self.apart else [ready[self.first:][:1], ready[1 - self.first:][:1]]
            self.first ^= 1
            for k, part in enumerate([] if self.early else parts):
                if k:
                    await self.clock.edge(self.apart - 1)
                for signal in part:
                    signal.value = 1
                await self.clock.edge()
                for signal in part:
                    signal.value = 0
            await self.clock.edge(self.wait)
            valid = dut.m_axi_rvalid if reading else dut.m_axi_bvalid
            if reading:
                dut.m_axi_rdata.value, dut.m_axi_rresp.value = word, response
            else:
                dut.m_axi_bresp.value = response
            valid.value = 1
            await self.clock.edge()
            valid.value = 0


class Bench:
    async def start(self, dut, wait=0, stall=0, apart=0, early=False):
        self.dut, self.clock = dut, await start_clock_reset(dut)
        self.registers, self.model = Registers(), Registers()
        Bus(dut, self.clock, self.registers, wait, apart, early)
        cycles = 3 + wait - early
        self.golden = UartBridge(self.model.read, self.model.write, read_cycles=cycles, write_cycles=cycles + apart)
        self.tx = StreamSink(dut, "tx", self.clock, stall=stall, shape=8)
        return self

    async def send(self, data, gap=1):
        """Bytes as a receiver gives them, if faster; returns the cycle of the last."""
        for byte in data:
            self.dut.rx_valid.value, self.dut.rx_data.value = 1, byte
            cycle = self.clock.cycle
            await self.clock.edge()
            self.dut.rx_valid.value = 0
            await self.clock.edge(gap)
        return cycle

    async def pause(self, data, cycles):
        """Bytes, and then such a silence that the next one comes this many cycles after the last."""
        for at, byte in enumerate(data, start=1):
            await self.send([byte], gap=1 if at < len(data) else cycles - 1)

    async def check(self, data, *, exact=True):
        """A whole frame, and what comes of it."""
        self.tx.clear()
        expected = self.golden.receive(data)
        cycle = await self.send(data)
        if expected is None:
            await self.clock.edge(40)
            assert self.tx.items == []
            return None
        answer, cycles = expected
        assert bytes(await self.tx.wait(len(answer))) == answer
        if exact:
            assert self.tx.cycles == [cycle + cycles + k for k in offer_cycles(len(answer))]
        await self.clock.edge(2)
        assert bytes(self.tx.items) == answer and self.registers.log == self.model.log
        return answer


def operation(rng, words=None):
    kind, count = rng.choice((0, FIXED, WRITE, WRITE | FIXED)), words or rng.randrange(1, 5)
    data = rng.randbytes(4 * count) if kind & WRITE else b""
    return bytes([kind | count - 1]) + rng.randrange(0, 1 << WIDTH, 4).to_bytes(2, "little") + data


@cocotb.test()
@cocotb.parametrize(("wait", (0, 3)), ("stall", (0, 0.4)))
async def requests(dut, wait, stall):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, wait, stall, apart=wait)
    assert await bench.check(frame(0, b""), exact=not stall) == frame(0, b"")
    for sequence in rng.sample(range(14, 256), 11):
        request = frame(sequence, b"".join(operation(rng) for _ in range(rng.randrange(1, 6))))
        for _ in range(1 + sequence % 2):       # some are asked again
            await bench.check(request, exact=not stall)
    # the longest: 63 words and a status byte fill an answer, 62 a request
    await bench.check(frame(12, bytes([62, 0, 0])), exact=not stall)
    await bench.check(frame(13, bytes([WRITE | 61, 0, 0]) + rng.randbytes(4 * 62)), exact=not stall)
    assert max(len(bytes([62, 0, 0])), 3 + 4 * 62) <= MAX_BYTES


@cocotb.test()
async def malformed(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    good = bytes([0, 8, 0])
    for sequence, data in enumerate((good + b"\x00", good + b"\x00\x10", bytes([WRITE, 4, 0]) + b"abc",
                                     good + bytes([WRITE | 1, 4, 0]) + b"abcdefg",
                                     bytes([63, 0, 0]), bytes([60, 0, 0]) + 3 * bytes([0, 4, 0]),
                                     # the answer is full to its last byte, or but for one, when an operation comes
                                     bytes([62, 0, 0]) + bytes([2, 0, 0]), bytes([61, 0, 0]) + bytes([WRITE, 0, 0])
                                     + b"1234" + 4 * (bytes([WRITE, 0, 0]) + b"1234"),
                                     bytes([62, 0, 0]) + bytes([WRITE, 0, 0]) + b"1234",
                                     *(n * (bytes([WRITE, 0, 0]) + b"1234") + bytes([length, 0, 0]) for n in range(8)
                                       for length in (61, 62))), start=1):
        await bench.check(frame(sequence, data))
    for sequence in range(40, 60):
        data = b"".join(operation(rng) for _ in range(4))
        await bench.check(frame(sequence, data[:rng.randrange(len(data))]))


@cocotb.test()
async def asked_again(dut):
    bench = await Bench().start(dut, early=True)
    write = bytes([WRITE, 4, 0, 1, 2, 3, 4])
    first = await bench.check(frame(7, write))
    count = len(bench.registers.log)
    assert await bench.check(frame(7, write)) == first and len(bench.registers.log) == count
    assert await bench.check(frame(7, b"")) == first            # only the number counts
    await bench.check(frame(8, write + bytes([3, 4, 0])))
    await bench.check(frame(0, write))
    await bench.check(frame(0, write))                          # FIRST is executed each time
    assert len(bench.registers.log) == count + 7


@cocotb.test()
async def broken(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    good = frame(5, bytes([WRITE, 4, 0, 1, 2, 3, 4]))
    for bit in range(8, 8 * len(good), 5):                      # of all but START
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        bench.tx.clear()
        await bench.send(data)
        if data[2] > good[2]:                                   # it waits for more
            await bench.clock.edge(SILENCE * 10 * DIVISOR + 1)
        await bench.clock.edge(4)
        # behind a shorter length a frame may begin anew; none has the right CRC
        assert bench.tx.items == [] and bench.registers.log == [], bit
        await bench.clock.edge(SILENCE * 10 * DIVISOR + 1)
    await bench.send(good[:4])                                  # cut off: the next is taken after a silence
    await bench.clock.edge(SILENCE * 10 * DIVISOR + 1)
    await bench.check(good)
    await bench.send(rng.randbytes(50).replace(bytes([START]), b"\x00"))
    await bench.check(frame(6, good[3:-2]))


@cocotb.test()
async def silence(dut):
    """A byte in the last cycle that it may come in still belongs to its frame; one a cycle later may begin another."""
    bench = await Bench().start(dut)
    limit = SILENCE * 10 * DIVISOR
    for sequence, cut in enumerate((1, 2, 3, 4, 9, 11), start=1):
        good = frame(sequence, bytes([WRITE, 4, 0, 1, 2, 3, sequence]))
        expected, _ = bench.golden.receive(good)
        bench.tx.clear()
        await bench.pause(good[:cut], limit)
        await bench.send(good[cut:])
        assert bytes(await bench.tx.wait(len(expected))) == expected, cut
        await bench.pause(good[:cut], limit + 1)
        await bench.check(frame(sequence + 10, good[3:-2]))


@cocotb.test()
async def reset_in_flight(dut):
    for cycles in (3, 12, 14, 30):
        bench = await Bench().start(dut)
        await bench.send(frame(1, bytes([WRITE, 4, 0, 1, 2, 3, 4]))[:cycles])
        await bench.clock.edge(max(0, cycles - 12))
        await bench.clock.reset()
        bench.tx.clear()
        await bench.clock.edge(5)
        bench.registers.log.clear()
        bench.model.words |= bench.registers.words              # the write may have been done
        await bench.check(frame(1, bytes([1, 4, 0])))
