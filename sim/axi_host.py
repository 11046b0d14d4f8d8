"""The host of an `AxiDecoder` in a bench: its clock, and a driver on bus models by somebody else (cocotbext-axi)."""
import itertools
import json
import logging
import os
import random
from types import SimpleNamespace

import cocotb
from cocotb.clock import Clock as CocotbClock
from cocotb.triggers import with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from hwgen.params.registers import RESULT, command_fields, register_map
from sim import points
from sim.stream_bench import Clock

__all__ = ["AxiClock", "Host", "BusError"]


class BusError(Exception):
    """A register answered with an error."""


class AxiClock(Clock):
    """`Clock` of a design with ``aclk`` and ``aresetn``; made by `start`."""

    def __init__(self, dut, period=10):
        super().__init__(SimpleNamespace(clk=dut.aclk), period)
        self._aresetn = dut.aresetn

    @classmethod
    async def start(cls, dut, **more):
        """All inputs 0, clock, reset. Returns the clock at the start of cycle 0."""
        for name, direction, _ in json.loads(os.environ["HWGEN_BENCH_PORTS"]):
            if direction == "input":
                getattr(dut, name).value = 0
        clock = cls(dut, **more)
        CocotbClock(dut.aclk, clock.period, unit="ns").start(start_high=False)
        await clock.edge()
        await clock.reset()
        points.watch(dut, clock)
        return clock

    async def reset(self, cycles=2):
        self.in_reset = True
        self._aresetn.value = 0
        await self.edge(cycles)
        self._aresetn.value = 1
        self.in_reset = False
        self._zero = round(get_sim_time("ns"))


def packed(fields, values):
    return sum(values[field.name] << field.lsb for field in fields)


def unpacked(fields, word):
    return {field.name: word >> field.lsb & (1 << field.width) - 1 for field in fields}


class Host:
    """Registers by name; entries and results by stream or queue, as the design has them.

    ``hesitate``: probability of a cycle in which a channel of this side rests. ``master``: what reads and writes
    registers, if no bus does.
    """

    def __init__(self, dut, clock, design, axi, hesitate=0, master=None):
        self.dut, self.clock, self.registers = dut, clock, register_map(design, axi)
        self.entry_fields = command_fields(design)
        # of the bus models: a line for each access
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
        self.queue = axi.host == "queue"
        self.master = master or AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn,
                                              reset_active_level=False)
        if master:
            return
        write, read = self.master.write_if, self.master.read_if
        channels = [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]
        if not self.queue:
            self.commands = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_command"), dut.aclk, dut.aresetn,
                                            reset_active_level=False,
                                            byte_lanes=1)
            self.results = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis_result"), dut.aclk, dut.aresetn,
                                         reset_active_level=False,
                                         byte_lanes=1)
            channels += [self.commands, self.results]
        for i, channel in enumerate(channels if hesitate else []):
            rng = random.Random(f"{cocotb.RANDOM_SEED} {i}")
            channel.set_pause_generator(rng.random() < hesitate for _ in itertools.count())

    async def read(self, name, index=0):
        """A register's 32 bits."""
        answer = await self.master.read(self.registers[name].offset + 4 * index, 4)
        if answer.resp:
            raise BusError(f"read of {name}[{index}]: {answer.resp!r}")
        return int.from_bytes(answer.data, "little")

    async def fields(self, name):
        word = await self.read(name)
        return {field.name: (word & field.mask) >> field.lsb for field in self.registers[name].fields}

    async def write(self, name, **values):
        """A register, from its fields (``value=`` where there is one); fields that are not named are 0."""
        word = sum(values.pop(field.name, 0) << field.lsb for field in self.registers[name].fields)
        assert not values, f"{name} has no {list(values)}"
        answer = await self.master.write(self.registers[name].offset, word.to_bytes(4, "little"))
        if answer.resp:
            raise BusError(f"write of {name}: {answer.resp!r}")

    async def set_base(self, base, of="WEIGHT"):
        await self.write(f"{of}_BASE_LO", value=(base & 0xFFFFFFFF) >> 12)
        if f"{of}_BASE_HI" in self.registers:
            await self.write(f"{of}_BASE_HI", value=base >> 32)

    async def start(self, base, inv_temperature=0, seed=0):
        """Bring-up: where the weights are, and go."""
        await self.set_base(base)
        if "SEED" in self.registers:
            await self.write("INV_TEMPERATURE", value=inv_temperature)
            await self.write("SEED", value=seed)
        await self.write("IRQ_ENABLE", done=1, error=1)
        await self.write("CONTROL", run=1)

    def forget(self):
        """With a reset: what is under way on the streams."""
        if not self.queue:
            self.commands.clear()
            self.results.clear()

    async def reset(self):
        """By software."""
        await self.write("CONTROL", run=1, reset=1)
        self.forget()
        while (await self.fields("STATUS"))["resetting"]:
            pass
        self.forget()

    def words(self, entries, last=1):
        """Of entries [(slot, position, token, want, key, adapter or nothing)]; the ``last`` bit of the last of them."""
        return [packed(self.entry_fields, {"slot": s, "position": p, "token": t, "want": w, "key": key,
                                           "adapter": (*number, 0)[0],
                                           "last": last * (i == len(entries) - 1)})
                for i, (s, p, t, w, key, *number) in enumerate(entries)]

    async def give(self, entries):
        """Entries [(slot, position, token, want, key)] of a pass; the key counts with sampler "gumbel"."""
        words = self.words(entries)
        if not self.queue:
            await self.commands.send(AxiStreamFrame(words))
            return
        for word in words:
            while (await self.fields("QUEUE"))["space"] == 0:
                pass
            for name, part in (("COMMAND_LO", word), ("COMMAND_KEY", word >> 64), ("COMMAND_ADAPTER", word >> 96),
                               ("COMMAND_HI", word >> 32)):
                if name in self.registers:
                    await self.write(name, **{f.name: (part & f.mask) >> f.lsb for f in self.registers[name].fields})

    async def take(self):
        """The results of a pass."""
        results = []
        if not self.queue:
            frame = await self.results.recv()
            results = [unpacked(RESULT, int(word)) for word in frame.tdata]
            assert [r["last"] for r in results] == [0] * (len(results) - 1) + [1]
            return results
        while not results or not results[-1]["last"]:
            while (await self.fields("QUEUE"))["results"] == 0:
                await self.interrupt()
            low, high = await self.read("RESULT_LO"), await self.read("RESULT_HI")
            await self.write("QUEUE", pop=1)
            results.append(unpacked(RESULT, low | high << 32))
        return results

    async def operate(self, op, slot, other=0, length=0):
        """An operation on the KV memory: its error code."""
        await self.write("KV_LENGTH", value=length)
        await self.write("KV_COMMAND", op=op, slot=slot, other=other)
        while (answer := await self.fields("KV_ANSWER"))["busy"]:
            pass
        return answer["error"]

    async def interrupt(self, cycles=200_000):
        """Wait for irq."""
        if not int(self.dut.irq.value):
            await with_timeout(self.dut.irq.value_change, cycles * self.clock.period, "ns")

    async def run(self, entries):
        """A pass: what comes back for it. Its cause is cleared."""
        await self.give(entries)
        results = await self.take()
        await self.interrupt()
        causes = await self.fields("IRQ_STATUS")
        assert causes["done"] and causes["result"]
        await self.write("IRQ_STATUS", done=1, result=1)
        return results

    async def signatures(self, layers, entries, n):
        return [[await self.read("SIGNATURE", layer * entries + i) for i in range(n)] for layer in range(layers)]
