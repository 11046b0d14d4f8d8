"""Bench of KvWriter with all its neighbours (`sim.kv_units`): what attention makes of heads that were written in
bf16."""

import cocotb
from cocotb.triggers import ReadOnly
import numpy as np

from hwgen.golden.attention import attention, attention_cycles
from hwgen.golden.kv_cache import kv_arrays, kv_settled, kv_write, kv_write_cycles
from hwgen.golden.numbers import bf16, bf16_bits
from hwgen.golden.vector_buffer import quantize
from hwgen.lib.layouts import ADMIT
from hwgen.params.kv_port import READ_CYCLES, WRITE_CYCLES
from sim.axi_memory import AxiMemory, AxiWrites, Timing
from sim.designs import small_design
from sim.kv_units import HeadsToAttention
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset

DESIGN = small_design(**bench_params())
PORTS = HeadsToAttention(DESIGN)
V = DESIGN.hw.vector_lanes


class Bench:
    def __init__(self, dut, clock, idle=0, stall=0):
        self.dut, self.clock, self.rows = dut, clock, kv_arrays(DESIGN)
        self.ask, self.w, self.kv_cmd, self.cmd = (StreamSource(dut, name, clock, idle=idle,
                                                                shape=getattr(PORTS, name).p.shape())
                                                   for name in ("ask", "w", "kv_cmd", "cmd"))
        self.o = StreamSink(dut, "o", clock, stall=stall, shape=PORTS.o.p.shape())
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)
        if DESIGN.hw.kv_port:
            base = int(self.rng.integers(1, 1 << 16)) << 12
            dut.base.value = base
            memory = AxiMemory(dut, clock, bytearray(self.rng.bytes(DESIGN.kv_places.size)), base=base,
                               width=DESIGN.hw.kv_port, outstanding=4, prefix="m_axi_kv",
                               timing=Timing(latency=READ_CYCLES, stall=stall, busy=stall))
            self.memory = memory, AxiWrites(memory, latency=WRITE_CYCLES, stall=stall, busy=stall, prefix="m_axi_kv")

    async def until(self, signal):
        """The cycle in which a signal is up; returns in the one after."""
        while True:
            await ReadOnly()
            if self.sees(signal):
                cycle = self.clock.cycle
                await self.clock.edge()
                return cycle
            await self.clock.edge()

    @staticmethod
    def sees(signal):
        return bool(int(signal.value))

    async def heads(self):
        """New heads in the buffer, and what they become: (codes [entries, qkv_heads, head_dim], exponents)."""
        d = DESIGN
        x = bf16(self.rng.normal(size=(d.hw.entries, d.qkv_heads, d.padded_head_dim))
                 * 2.0 ** self.rng.integers(-3, 3, (d.hw.entries, d.qkv_heads, 1)))
        self.w.send([{"x": bits.tolist(), "row": row, "part": part}
                     for row, granules in enumerate(bf16_bits(x).reshape(-1, d.padded_head_dim // V, V))
                     for part, bits in enumerate(granules)])
        await self.w.drained()
        return quantize(x, d.recipe.kv_format)

    async def admit(self, commands):
        self.ask.send([{"op": ADMIT, "slot": c["slot"], "other": 0, "length": c["position"]} for c in commands])
        await self.ask.drained()

    async def write(self, codes, exps, commands):
        self.dut.attending.value = 0
        kv, taken = DESIGN.kv_heads, len(self.kv_cmd.sent)
        self.kv_cmd.send(commands)
        done = await self.until(self.dut.kv_done)
        for c in commands:
            e = c["entry"]
            kv_write(self.rows, c["layer"], c["slot"], c["position"], codes[e, :kv], exps[e, :kv], codes[e, kv:2 * kv],
                     exps[e, kv:2 * kv])
        return done - self.kv_cmd.sent[taken][0]

    async def attend(self, codes, exps, commands):
        self.dut.attending.value = 1
        kv, expected = 2 * DESIGN.kv_heads, []
        for c in commands:
            e = c["entry"]
            rows = self.rows.slot(c["layer"], c["slot"], c["position"] + 1)
            x = bf16_bits(attention(DESIGN, codes[e, kv:], exps[e, kv:], *rows,
                                    DESIGN.window(c["layer"]))).reshape(-1, V)
            expected += [{"x": g.tolist(), "entry": e, "part": i, "last": int(i == len(x) - 1)}
                         for i, g in enumerate(x)]
        self.o.clear()
        taken = len(self.cmd.sent)
        self.cmd.send(commands)
        done = await self.until(self.dut.done)
        assert self.o.items == expected
        start = self.cmd.sent[taken][0]
        return [cycle - start for cycle in self.o.cycles], done - start


    def predicted(self, commands, took):
        """`attention_cycles` of the latest commands, whose rows took so long to write."""
        n = len(commands)
        since = self.cmd.sent[-n][0] - (self.kv_cmd.sent[-n][0] + took + 1)
        return attention_cycles(DESIGN, [c["position"] for c in commands], DESIGN.window(commands[0]["layer"]),
                                kv_settled(DESIGN, n) - since)


async def passes(dut, idle, stall):
    """A chunk of prefill of one slot after the other, the entries mixed; all layers."""
    b = Bench(dut, await start_clock_reset(dut), idle, stall)
    n, context, at = DESIGN.hw.entries, DESIGN.hw.context, [0] * DESIGN.hw.slots
    for _ in range(5):
        slots = [int(s) for s in b.rng.integers(DESIGN.hw.slots, size=n)]
        for layer in range(DESIGN.layers):
            codes, exps = await b.heads()
            ahead = list(at)
            commands = []
            for entry, slot in enumerate(slots):
                commands.append({"entry": entry, "slot": slot, "position": ahead[slot], "layer": layer,
                                 "last": int(entry == n - 1)})
                ahead[slot] += 1
            assert max(ahead) <= context
            if layer == 0:
                await b.admit(commands)
            took = await b.write(codes, exps, commands)
            granules, done = await b.attend(codes, exps, commands)
            if not (idle or stall):
                assert took == kv_write_cycles(DESIGN, n)
                assert (granules, done) == b.predicted(commands, took)
        at = ahead


@cocotb.test()
async def full_speed(dut):
    await passes(dut, 0, 0)


@cocotb.test()
@cocotb.parametrize(("pattern", [(0.5, 0.5), (0.1, 0.9)]))
async def stalled(dut, pattern):
    await passes(dut, *pattern)


@cocotb.test()
async def reset_in_flight(dut):
    b = Bench(dut, await start_clock_reset(dut))
    command = {"entry": 0, "slot": 0, "position": 0, "layer": 0, "last": 1}
    for wait in (2, 5, 9):
        codes, exps = await b.heads()
        dut.attending.value = 0
        b.kv_cmd.send([command])
        await b.clock.edge(wait)
        b.kv_cmd.clear()
        await b.clock.reset()
        if DESIGN.hw.kv_port:
            b.memory[0].forget()
        await b.admit([command])
        took = await b.write(codes, exps, [command])
        assert took == kv_write_cycles(DESIGN, 1)
        assert await b.attend(codes, exps, [command]) == b.predicted([command], took)
