"""A memory on an AXI4 read port, as a DRAM controller behaves, that distrusts its master."""
import random
from dataclasses import dataclass

import cocotb
from cocotb.triggers import ReadOnly

from sim.stream_bench import value_of

__all__ = ["AxiMemory", "Timing"]

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

    Checks of the master: an offer stays as it is, bursts are INCR of whole words and stay within 4 KiB, ``rready`` is always
    high (``lazy``: it need not be), no more bursts are owed than allowed.

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
                   ("arid", "araddr", "arlen", "arsize", "arburst", "arvalid", "arready", "rid", "rdata", "rresp", "rlast",
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
        return self.mute or (period and cycle % period >= period - length) or (self.timing.stall and self._rng.random() < self.timing.stall)

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
                    assert (tag, asize, kind) == (0, size, 1) and address % self.word == 0, f"burst {offer} in cycle {cycle}"
                    assert address // PAGE == (address + length * self.word) // PAGE, f"burst {offer} crosses 4 KiB in cycle {cycle}"
                    self._take(cycle, address, length + 1)
            await self.clock.edge()
