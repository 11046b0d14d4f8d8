"""Bench of Convert: QKV and gate/up commands, values, order, padding and cycles."""

import cocotb
import numpy as np

from hwgen.golden import convert as golden
from hwgen.golden.numbers import bf16_bits
from hwgen.lib.layouts import converted_layout, result_layout
from hwgen.params.block import Project
from hwgen.units.convert import Convert
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

DESIGN = small_design(**bench_params())
V = DESIGN.hw.vector_lanes
CMD = Convert(DESIGN).cmd.payload.shape()


def case(rng, gate_up, n):
    """(inputs, exps, outputs) of a command: sums of all magnitudes, with zeros and ties."""
    matmul = DESIGN.gate_up_matmul if gate_up else DESIGN.qkv_matmul
    bits = DESIGN.acc_bits
    shape = (n, matmul.rows)
    acc = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape) >> rng.integers(0, bits, shape)
    acc[0, :2] = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    ties = (2 * rng.integers(128, 256, shape) + 1) << rng.integers(0, bits - 11, shape)
    acc = np.where(rng.random(shape) < 0.2, ties * rng.choice([-1, 1], shape), acc)
    far = rng.random() < 0.3
    exps = rng.integers(-70 if far else -12, 60 if far else 12, DESIGN.block.record_words).tolist()
    exponents = rng.integers(-60 if far else -10, 60 if far else 10, n).tolist()
    names = [name for step in DESIGN.block.of(Project) if step.name == ("gate_up" if gate_up else "qkv") for name in step.matrices]
    convert = golden.convert_gate_up if gate_up else golden.convert_qkv
    x = convert(acc, exponents, {name: exps[DESIGN.block.record_of(name)[1]] for name in names}, DESIGN)
    x = bf16_bits(x).reshape(n, 1 if gate_up else DESIGN.qkv_heads, -1, V)
    inputs, outputs = [], []
    granules = acc.reshape(n, matmul.n_tiles, -1, V)
    for tile, entry, group, head, part, last in golden.granules(DESIGN, gate_up, n):
        inputs.append({"acc": granules[entry, tile, group].tolist(), "entry": entry, "exp": exponents[entry], "group": group})
        if head is not None:
            outputs.append({"x": x[entry, head, part].tolist(), "entry": entry, "head": head, "part": part, "last": int(last)})
    return inputs, exps, outputs


class Bench:
    async def start(self, dut, idle=0, stall=0):
        self.dut = dut
        self.clock = await start_clock_reset(dut)
        self.cmd = StreamSource(dut, "cmd", self.clock, idle=idle, shape=CMD)
        self.i = StreamSource(dut, "i", self.clock, idle=idle, shape=result_layout(DESIGN))
        self.o = StreamSink(dut, "o", self.clock, stall=stall, shape=converted_layout(DESIGN))
        return self

    def command(self, gate_up, n, exps):
        self.dut.exps.value = sum((e & 1023) << (10 * k) for k, e in enumerate(exps))
        self.cmd.send([{"gate_up": gate_up, "n": n}])


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, *pattern)
    for gate_up, n in ((0, 1), (1, DESIGN.hw.entries), (0, DESIGN.hw.entries), (1, 1)):
        inputs, exps, outputs = case(rng, gate_up, n)
        bench.o.clear()
        for port in (bench.cmd, bench.i):
            port.sent.clear()
        bench.command(gate_up, n, exps)
        bench.i.send(inputs)
        await bench.cmd.drained()
        bench.dut.exps.value = 0                           # they were taken over with the command
        await bench.i.drained()
        assert await bench.o.wait(len(outputs)) == outputs
        if pattern == (0, 0):
            taken = [cycle for cycle, _ in bench.i.sent]
            # one per cycle; the first waits for the command
            assert taken == list(range(bench.cmd.sent[0][0] + 1, bench.cmd.sent[0][0] + 1 + len(inputs)))
            real = [cycle for cycle, (*_, head, _, _) in zip(taken, golden.granules(DESIGN, gate_up, n)) if head is not None]
            assert bench.o.cycles == [cycle + golden.LATENCY for cycle in real]
    await bench.clock.edge(10)
    assert bench.o.items == outputs


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    inputs, exps, _ = case(rng, 0, 1)
    bench.command(0, 1, exps)
    bench.i.send(inputs)
    await bench.clock.edge(golden.LATENCY + 2)
    bench.i.clear()
    await bench.clock.reset()
    bench.o.clear()
    inputs, exps, outputs = case(rng, 0, DESIGN.hw.entries)
    bench.command(0, DESIGN.hw.entries, exps)
    bench.i.send(inputs)
    assert await bench.o.wait(len(outputs)) == outputs
