"""A memory on an AXI4 port, as a DRAM controller behaves, that distrusts its master."""
import random
from dataclasses import dataclass

import cocotb
from cocotb.triggers import ReadOnly

from hwgen.params.kv_port import READ_CYCLES, WRITE_CYCLES
from sim.stream_bench import value_of

__all__ = ["AxiMemory", "AxiWrites", "Timing", "kv_memory"]

PAGE = 4096


@dataclass
class Timing:
    """How a memory behaves.

    latency     cycles from an address that is taken to its first word
    refresh     (period, length): the last ``length`` cycles of each ``period`` give no word
    stall       probability of a cycle without a word
    busy        probability of a cycle that takes no address
    row         (bytes, cycles): as many more cycles before the first word of another row
    """
    latency: int = 4
    refresh: tuple = (0, 0)
    stall: float = 0
    busy: float = 0
    row: tuple = (0, 0)


class AxiMemory:
    """Serves ``data`` (bytes) from address ``base``, in order, a word a cycle at best; other addresses answer DECERR.

    Checks of the master: an offer stays as it is, bursts are INCR of whole words and stay within 4 KiB, ``rready`` is
    always high (``lazy``: it need not be), no more bursts are owed than allowed.

    Attributes
    ----------
    timing : Timing         may be exchanged at any time
    fail : callable         byte address -> response code of that word (0 is OKAY)
    mute : bool             give no words
    last : callable         words left in the burst, this one included -> whether this one is marked as the last
    addresses               (cycle, byte address, words) of each burst
    words                   cycle of each word
    rests                   cycles in which it would have given no word, whoever had asked
    """

    def __init__(self, dut, clock, data, *, base=0, width, outstanding=256, timing=None, prefix="m_axi", id_width=1):
        self.dut, self.clock, self.data, self.base = dut, clock, data, base
        self.word, self.outstanding = width // 8, outstanding
        self.timing = timing or Timing()
        self.fail = lambda address: 0
        self.mute, self.last = False, None
        self.id_width = id_width
        self._s = {name: getattr(dut, f"{prefix}_{name}") for name in
                   ("arid", "araddr", "arlen", "arsize", "arburst", "arvalid", "arready", "rid", "rdata",
                    "rresp", "rlast",
                    "rvalid", "rready")}
        self._rng = random.Random(f"{cocotb.RANDOM_SEED} {prefix}")
        self.addresses, self.words = [], []
        self.rests = []
        self._queue = []        # [first cycle, address, words left] of each burst owed
        self._row = None
        self._task = cocotb.start_soon(self._run())

    def forget(self):
        """With a reset of the bus: nothing is owed any more."""
        self._queue.clear()
        self.clear()

    def clear(self):
        """Forget what was noted."""
        self.addresses.clear()
        self.words.clear()
        self.rests.clear()

    def _resting(self, cycle):
        period, length = self.timing.refresh
        return self.mute or (period and cycle % period >= period
                             - length) or (self.timing.stall and self._rng.random() < self.timing.stall)

    def _take(self, cycle, address, words):
        row, cost = self.timing.row
        start = cycle + self.timing.latency
        if row and address // row != self._row:
            start += cost
            self._row = address // row
        if self._queue:
            start = max(start, self._queue[-1][0])
        self._queue.append([start, address, words])
        self.addresses.append((cycle, address, words))
        assert len(self._queue) <= self.outstanding, f"{len(self._queue)} bursts are owed in cycle {cycle}"

    async def _run(self):
        s, size = self._s, (self.word - 1).bit_length()
        s["rid"].value = 0
        pending = None
        driven = None
        while True:
            cycle = self.clock.cycle
            ready = not (self.timing.busy and self._rng.random() < self.timing.busy)
            s["arready"].value = int(ready)
            resting = self._resting(cycle)
            valid = bool(self._queue) and not resting and self._queue[0][0] <= cycle and not self.clock.in_reset
            if resting:
                self.rests.append(cycle)
            if valid:
                _, address, left = self._queue[0]
                place = address - self.base
                inside = 0 <= place and place + self.word <= len(self.data) + -len(self.data) % self.word
                code = self.fail(address) if inside else 3
                item = int.from_bytes(self.data[place:place + self.word], "little") if inside else 0
                # what comes with an error is of no use: see that nobody uses it
                item = item if code < 2 else self._rng.getrandbits(8 * self.word)
                last = left == 1 if self.last is None else self.last(left)
                s["rdata"].value, s["rresp"].value, s["rlast"].value = item, code, int(last)
            if valid != driven:
                s["rvalid"].value = int(valid)
                driven = valid
            await ReadOnly()
            if self.clock.in_reset:
                pending = None
            else:
                assert value_of(s["rready"]), f"rready is low in cycle {cycle}"
                if valid:
                    self.words.append(cycle)
                    self._queue[0][1] += self.word
                    self._queue[0][2] -= 1
                    if self._queue[0][2] == 0:
                        self._queue.pop(0)
                offer = None
                if value_of(s["arvalid"]):
                    offer = tuple(value_of(s[name]) for name in ("arid", "araddr", "arlen", "arsize", "arburst"))
                assert pending in (None, offer), f"address {pending} became {offer} in cycle {cycle}"
                pending = None if ready else offer
                if offer and ready:
                    tag, address, length, asize, kind = offer
                    assert (tag, asize, kind) == (0, size,
                                                  1) and address % self.word == 0, f"burst {offer} in cycle {cycle}"
                    assert address // PAGE == (address + length
                                               * self.word) // PAGE, f"burst {offer} crosses 4 KiB in cycle {cycle}"
                    self._take(cycle, address, length + 1)
            await self.clock.edge()


class AxiWrites:
    """The write channels of an `AxiMemory`, whose ``data`` is a bytearray then. One burst at a time, as its master
    promises.

    Checks of the master: an offer stays as it is, no word before its burst's address, INCR of whole words within 4 KiB,
    the last word is marked and only it, ``bready`` is always high.

    Attributes
    ----------
    latency : int           cycles from a burst's last word to its answer
    stall, busy             probability of a cycle that takes no word, or no address
    mute : bool             take nothing, answer nothing
    fail : callable         byte address of a burst -> its answer (0 is OKAY)
    addresses               (cycle, byte address, words) of each burst
    words                   cycle of each word
    """

    def __init__(self, memory, *, latency=1, stall=0, busy=0, prefix="m_axi"):
        dut = memory.dut
        self.memory, self.clock, self.latency, self.stall, self.busy = memory, memory.clock, latency, stall, busy
        self.mute, self.fail = False, lambda address: 0
        self._s = {name: getattr(dut, f"{prefix}_{name}") for name in
                   ("awid", "awaddr", "awlen", "awsize", "awburst", "awvalid", "awready", "wdata", "wstrb", "wlast",
                    "wvalid", "wready",
                    "bid", "bresp", "bvalid", "bready")}
        self._rng = random.Random(f"{cocotb.RANDOM_SEED} {prefix} writes")
        self.addresses, self.words = [], []
        self._task = cocotb.start_soon(self._run())

    def clear(self):
        """Forget what was noted."""
        self.addresses.clear()
        self.words.clear()

    def _offer(self, channel, names):
        return tuple(value_of(self._s[channel + name])
                     for name in names) if value_of(self._s[channel + "valid"]) else None

    def _store(self, address, data, strobe):
        memory = self.memory
        for k in range(memory.word):
            if strobe >> k & 1:
                assert 0 <= address + k - memory.base < len(memory.data), f"byte {address + k:#x} is not the memory's"
                memory.data[address + k - memory.base] = data >> 8 * k & 0xFF

    async def _run(self):
        s, memory, size = self._s, self.memory, (self.memory.word - 1).bit_length()
        s["bid"].value = s["bresp"].value = 0
        burst = answer = None           # [first, next address, words left]; (cycle, code)
        before = {"aw": None, "w": None}
        while True:
            cycle = self.clock.cycle
            takes = not self.mute and not (self.busy and self._rng.random() < self.busy)
            hears = not self.mute and not (self.stall and self._rng.random() < self.stall)
            answers = answer is not None and not self.mute and cycle >= answer[0]
            s["awready"].value, s["wready"].value, s["bvalid"].value = int(takes), int(hears), int(answers)
            if answers:
                s["bresp"].value = answer[1]
            await ReadOnly()
            if self.clock.in_reset:
                burst = answer = None
                before = {"aw": None, "w": None}
            else:
                assert value_of(s["bready"]), f"bready is low in cycle {cycle}"
                offers = {"aw": self._offer("aw", ("id", "addr", "len", "size", "burst")),
                          "w": self._offer("w", ("data", "strb", "last"))}
                for channel, taken in (("aw", takes), ("w", hears)):
                    old, new = before[channel], offers[channel]
                    assert old in (None, new), f"{channel} {old} became {new} in cycle {cycle}"
                    before[channel] = None if taken else offers[channel]
                assert offers["w"] is None or burst, f"a word before its address in cycle {cycle}"
                if answers:
                    answer = None
                if hears and offers["w"]:
                    data, strobe, last = offers["w"]
                    self._store(burst[1], data, strobe)
                    self.words.append(cycle)
                    burst[1] += memory.word
                    burst[2] -= 1
                    assert last == (burst[2] == 0), f"wlast is {last} in cycle {cycle}"
                    if last:
                        burst, answer = None, (cycle + self.latency, self.fail(burst[0]))
                if takes and offers["aw"]:
                    tag, address, length, asize, kind = offers["aw"]
                    assert burst is answer is None, (f"burst {offers['aw']} before the answer to the one before, "
                                                     f"in cycle {cycle}")
                    assert (tag, asize, kind) == (0, size, 1), f"burst {offers['aw']} in cycle {cycle}"
                    assert address % memory.word == 0, f"burst {offers['aw']} in cycle {cycle}"
                    end = address + length * memory.word
                    assert address // PAGE == end // PAGE, f"burst {offers['aw']} crosses 4 KiB in cycle {cycle}"
                    burst = [address, address, length + 1]
                    self.addresses.append((cycle, address, length + 1))
            await self.clock.edge()


def kv_memory(dut, clock, design, rng, base, timing=None, latency=WRITE_CYCLES):
    """(`AxiMemory`, its `AxiWrites`) of keys and values outside, at first with anything in it: that of the cycle model,
    or of another ``timing``, whose stalls writes have too, and ``latency`` of writes."""
    memory = AxiMemory(dut, clock, bytearray(rng.randbytes(design.kv_places.size)), base=base, width=design.hw.kv_port,
                       outstanding=4, prefix="m_axi_kv", timing=timing or Timing(latency=READ_CYCLES))
    stall, busy = (timing.stall, timing.busy) if timing else (0, 0)
    return memory, AxiWrites(memory, latency=latency, stall=stall, busy=busy, prefix="m_axi_kv")
