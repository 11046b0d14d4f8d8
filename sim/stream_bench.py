"""What benches share: clock and reset, drivers and monitors of streams, structured payloads.

One sampling rule keeps all simulators alike to the cycle: drive right after ``RisingEdge``, sample in the ``ReadOnly``
that follows; what is seen there is what the *next* edge acts on. Cycle 0 is the first in which reset is low. A transfer
in cycle n is one that is seen (valid and ready) in cycle n.
"""

import enum
import json
import os
import random

from amaranth.hdl import Shape
from amaranth.lib import data
import cocotb
from cocotb.clock import Clock as CocotbClock
from cocotb.triggers import Event, ReadOnly, RisingEdge, SimTimeoutError, with_timeout
from cocotb.utils import get_sim_time

from sim import points
from sim.explain import Seen, context, install


__all__ = ["Clock", "StreamSink", "StreamSource", "bench_params", "cross", "cycles_of", "pack", "start_clock_reset",
           "unpack", "value_of"]


def bench_params():
    """The ``params`` that ``sim.runner.run`` was called with."""
    return json.loads(os.environ.get("HWGEN_BENCH_PARAMS", "{}"))


def cross():
    """(idle, stall) probabilities that each streaming unit is tried with."""
    return [(0, 0), (0, 0.5), (0.5, 0), (0.5, 0.5), (0.9, 0.1), (0.1, 0.9)]


# Payloads

def pack(shape, value):
    """The bits of a payload: ``value`` is an int, or a list for an array, or a dict (all fields) for a structure."""
    if isinstance(shape, data.ArrayLayout):
        width = Shape.cast(shape.elem_shape).width
        if len(value) != shape.length:
            raise ValueError(f"Array payload must have {shape.length} elements, not {len(value)}")
        return sum(pack(shape.elem_shape, item) << (width * index) for index, item in enumerate(value))
    if isinstance(shape, data.StructLayout):
        if set(value) != set(shape.members):
            raise ValueError(f"Structure payload must have the fields {list(shape.members)}, not {list(value)}")
        return sum(pack(field.shape, value[name]) << field.offset for name, field in shape)
    if isinstance(shape, data.UnionLayout):
        (name, item), = value.items()
        return pack(shape[name].shape, item)
    cast, bits = Shape.cast(shape), int(value)
    low, high = (-(1 << cast.width >> 1), 1 << cast.width >> 1) if cast.signed else (0, 1 << cast.width)
    if not low <= bits < max(high, 1):
        raise ValueError(f"Payload field must fit {cast}, not {bits}")
    return bits & ((1 << cast.width) - 1)


def unpack(shape, bits):
    """The opposite of :func:`pack`; a union gives all of its members."""
    if isinstance(shape, data.ArrayLayout):
        width = Shape.cast(shape.elem_shape).width
        return [unpack(shape.elem_shape, (bits >> (width * i)) & ((1 << width) - 1)) for i in range(shape.length)]
    if isinstance(shape, data.Layout):
        return {name: unpack(field.shape, (bits >> field.offset) & ((1 << field.width) - 1)) for name, field in shape}
    cast = Shape.cast(shape)
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        return shape(bits)
    return bits - (1 << cast.width) if cast.signed and bits >> (cast.width - 1) else bits


def value_of(handle):
    """A signal's value as an unsigned int. ValueError on X or Z."""
    value = handle.value
    return value.to_unsigned() if hasattr(value, "to_unsigned") else int(value)


# Clock and reset

class Clock:
    """The clock of a bench, with its count of cycles. Made by :func:`start_clock_reset`."""

    def __init__(self, dut, period):
        self.dut, self.period = dut, period  # ns
        self.in_reset = True
        self.sources, self.sinks = [], []  # on this clock, for `sim.explain`
        self._zero = 0

    @property
    def cycle(self):
        """The current cycle: 0 is the first after reset."""
        return (round(get_sim_time("ns")) - self._zero) // self.period

    async def edge(self, count=1):
        """Wait for the next rising edge: the time to drive."""
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    async def sample(self):
        """Wait until the current cycle's values are settled: the time to look, and not to drive."""
        await ReadOnly()

    async def reset(self, cycles=2):
        """Reset now, for some cycles. Returns at the start of cycle 0. Call it at the time to drive."""
        self.in_reset = True
        if hasattr(self.dut, "rst"):
            self.dut.rst.value = 1
        await self.edge(cycles)
        if hasattr(self.dut, "rst"):
            self.dut.rst.value = 0
        self.in_reset = False
        for port in (*self.sources, *self.sinks):
            port.restart()
        self._zero = round(get_sim_time("ns"))


async def start_clock_reset(dut, *, period=10, cycles=2):
    """Set all inputs to 0, start the clock, reset. Returns the :class:`Clock` at the start of cycle 0."""
    for name, direction, _ in json.loads(os.environ["HWGEN_BENCH_PORTS"]):
        if direction == "input":
            getattr(dut, name).value = 0
    clock = Clock(dut, period)
    install(clock)
    CocotbClock(dut.clk, period, unit="ns").start(start_high=False)
    await clock.edge()
    await clock.reset(cycles)
    points.watch(dut, clock)
    return clock


# Streams

def cycles_of(signal, clock):
    """A list that grows: the cycles, from now on, in which a signal of one bit is 1 and there is no reset."""
    found = []

    async def watch():
        while True:
            await clock.sample()
            if not clock.in_reset and value_of(signal):
                found.append(clock.cycle)
            await clock.edge()
    cocotb.start_soon(watch())
    return found


class _Chance:
    """Whether a cycle is held back: with a probability, in stretches of up to 32 cycles between which there are some of
    always, and of never."""

    def __init__(self, chance, rng):
        self._chance, self._rng, self._now, self._left = chance, rng, chance, 0

    def __call__(self, cycle):
        if not self._left and 0 < self._chance < 1:
            self._now, self._left = self._rng.choice((self._chance, self._chance, self._chance, 1,
                                                      0)), self._rng.randrange(1, 33)
        self._left -= 1
        return self._rng.random() < self._now


class _Port:
    def __init__(self, dut, name, clock, shape, numbers, chance, purpose):
        self.name, self.clock, self.shape, self.numbers = name, clock, shape, numbers
        self.valid, self.ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
        # A payload of no width has no port.
        self.payload = getattr(dut, f"{name}__payload", None)
        rng = random.Random(f"{cocotb.RANDOM_SEED} {name} {purpose}")
        self._rng = random.Random(f"garbage {rng.random()}")
        self._holds_back = chance if callable(chance) else _Chance(chance, rng)
        self._task = cocotb.start_soon(self._run())

    def stop(self):
        """Stop driving (the last values stay)."""
        self._task.cancel()
        for ports in (self.clock.sources, self.clock.sinks):
            if self in ports:
                ports.remove(self)


class StreamSource(_Port):
    """Drives a stream's input port of the design.

    ``idle`` is the probability of a cycle without an offer (and at times there is a long gap, or none), or a function
    from the cycle to whether it is one. The payload of a cycle without an offer is random. With a
    ``shape``, items are as :func:`pack` takes them; without, they are ints. ``numbers`` is as a :class:`StreamSink`'s.
    """

    def __init__(self, dut, name, clock, *, idle=0, shape=None, numbers=None):
        self.sent = []  # (cycle, item) of each transfer
        self.log = []   # the same since the last reset, whatever the bench forgets
        self._queue = []
        self._empty = Event()
        self._empty.set()
        super().__init__(dut, name, clock, shape, numbers, idle, "idle")
        clock.sources.append(self)

    def send(self, items):
        """Queue items. Those queued before the first clock edge after creation start in the current cycle."""
        self._queue.extend(items)
        if self._queue:
            self._empty.clear()

    def clear(self):
        """Forget what was not transferred yet (with a reset, or the stream's rule is broken)."""
        self._queue.clear()
        self._empty.set()

    def restart(self):
        """There was a reset."""
        self.log.clear()

    def given_by(self, cycle):
        """Number of the last transfer up to a cycle, or None."""
        return max((i for i, (when, _) in enumerate(self.log) if when <= cycle), default=None)

    async def drained(self, timeout=100_000):
        """Wait until everything queued was transferred; then for the next edge."""
        await _within(self._empty, timeout, self.clock,
                      lambda: f"{self.name}: {len(self._queue)} items still not taken after {timeout} cycles",
                      self.sent)
        await self.clock.edge()

    async def _run(self):
        offered = False
        while True:
            if not self._queue or self.clock.in_reset:
                offered = False
            elif not offered:
                offered = not self._holds_back(self.clock.cycle)
            self.valid.value = int(offered)
            if self.payload is not None:
                # between offers it is anything
                item = self._queue[0] if offered else self._rng.getrandbits(len(self.payload))
                self.payload.value = pack(self.shape, item) if offered and self.shape is not None else item
            await ReadOnly()
            if offered and not self.clock.in_reset and self._queue and value_of(self.ready):
                self.sent.append((self.clock.cycle, self._queue.pop(0)))
                self.log.append(self.sent[-1])
                offered = False
                if not self._queue:
                    self._empty.set()
            await self.clock.edge()


class StreamSink(_Port):
    """Takes from a stream's output port of the design, and checks that offers are kept and do not change.

    ``stall`` is the probability of a cycle that is not ready (and at times it is long ones), or a function from the
    cycle to whether it is one. With a
    ``shape``, items are as :func:`unpack` gives them; without, they are ints.

    For messages: ``numbers`` are the formats of fields ("" for a payload without fields), each an `Fp8` or "bf16";
    without, those called x are read as bf16, and codes as both FP8 formats. ``source`` is the source whose item n
    becomes item n of this sink.
    """

    def __init__(self, dut, name, clock, *, stall=0, shape=None, numbers=None, source=None):
        self.received = []  # (cycle, item) of each transfer
        self.source, self.first = source, 0     # its item that became the first one here
        self._awaited = {}  # count of transfers: event
        super().__init__(dut, name, clock, shape, numbers, stall, "stall")
        clock.sinks.append(self)

    @property
    def items(self):
        """What was received, without the cycles."""
        return Seen([item for _, item in self.received], self, "item")

    @property
    def cycles(self):
        """The cycles in which something was received."""
        return Seen([cycle for cycle, _ in self.received], self, "cycle")

    def clear(self):
        """Forget what was received."""
        self.received = []
        self.first = len(self.source.log) if self.source else 0

    def restart(self):
        """There was a reset."""
        self.first = 0

    async def wait(self, count, timeout=100_000):
        """Wait until ``count`` items were received in all; then for the next edge. Returns the items."""
        if len(self.received) < count:
            event = self._awaited.setdefault(count, Event())
            await _within(event, timeout, self.clock, lambda: f"{self.name}: {len(self.received)} items instead of "
                          f"{count} after {timeout} cycles", self.received)
        await self.clock.edge()
        return self.items

    async def _run(self):
        pending = None
        while True:
            ready = not self._holds_back(self.clock.cycle)
            self.ready.value = int(ready)
            await ReadOnly()
            if self.clock.in_reset:
                pending = None
            else:
                valid = value_of(self.valid)
                bits = value_of(self.payload) if valid and self.payload is not None else 0
                assert pending is None or valid, f"{self.name}: offer dropped in cycle {self.clock.cycle}"
                assert pending is None or bits == pending, \
                    f"{self.name}: payload changed while stalled in cycle {self.clock.cycle}: {pending:#x}, {bits:#x}"
                pending = bits if valid and not ready else None
                if valid and ready:
                    item = bits if self.shape is None else unpack(self.shape, bits)
                    self.received.append((self.clock.cycle, item))
                    if event := self._awaited.pop(len(self.received), None):
                        event.set()
            await self.clock.edge()


async def _within(event, timeout, clock, complaint, transfers):
    try:
        await with_timeout(event.wait(), timeout * clock.period, "ns")
    except SimTimeoutError:
        last = transfers[-1][0] if transfers else 0
        said = complaint() + f", the last in cycle {last}" * bool(transfers)
        raise AssertionError("\n".join([said, *context(since=last)])) from None
