"""Bench of Convert: QKV and gate/up commands, values, biases, order, padding and cycles."""

import cocotb
import numpy as np

from hwgen.golden import convert as golden
from hwgen.golden.numbers import bf16, bf16_bits
from hwgen.lib.layouts import OFFSET_BITS
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

PARAMS = bench_params()
BANKS = PARAMS.pop("banks", 1)
DESIGN = small_design(**PARAMS)
V = DESIGN.hw.vector_lanes
UNIT = make.convert(DESIGN, BANKS)
LATENCY = golden.latency(DESIGN)


def case(rng, gate_up, n):
    """(inputs, exps, outputs, biases or None) of a command: sums of all magnitudes, with zeros and ties."""
    step = DESIGN.block.converted[gate_up]
    matmul = DESIGN.matmul(step.name)
    bits = DESIGN.acc_bits
    shape = (n, matmul.rows)
    acc = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape) >> rng.integers(0, bits, shape)
    acc[0, :2] = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    ties = (2 * rng.integers(128, 256, shape) + 1) << rng.integers(0, bits - 11, shape)
    acc = np.where(rng.random(shape) < 0.2, ties * rng.choice([-1, 1], shape), acc)
    # results about 1, or such that some, but not all, are beyond the smallest or the largest number
    exps = (rng.choice([0, 0, -130, 115]) + rng.integers(-12, 12, DESIGN.block.record_words)).tolist()
    exponents = rng.integers(-10, 10, n).tolist()
    convert = golden.convert_gate_up if gate_up else golden.convert_qkv
    of_name = {name: exps[DESIGN.block.record_of(name)[1]] for name in step.matrices}
    offsets = rng.integers(0, 1 << OFFSET_BITS, matmul.rows) if DESIGN.scaled else None
    x, bias = convert(acc, exponents, of_name, DESIGN, rows=offsets), None
    if DESIGN.block.biased(step):
        # near the sums that they are added to, some their opposites, some 0, some far away
        factor = rng.choice([0, -1, -1.0078125, 1.5, -2.0**-9, 2.0**9],
                            matmul.rows) * 2.0 ** rng.integers(-3, 4, matmul.rows)
        bias = bf16(np.resize(x[rng.integers(n)], matmul.rows) * factor)
        x = convert(acc, exponents, of_name, DESIGN, bias, offsets)
    x = bf16_bits(x).reshape(n, 1 if gate_up else DESIGN.qkv_heads, -1, V)
    inputs, outputs = [], []
    granules = acc.reshape(n, matmul.n_tiles, -1, V)
    for tile, entry, group, head, part, last in golden.granules(DESIGN, gate_up, n):
        inputs.append({"acc": granules[entry, tile, group].tolist(), "entry": entry, "exp": exponents[entry],
                       "group": group}
                      | ({"rows": offsets.reshape(matmul.n_tiles, -1, V)[tile, group].tolist()}
                         if DESIGN.scaled else {}))
        if head is not None:
            outputs.append({"x": x[entry, head, part].tolist(), "entry": entry, "head": head, "part": part,
                            "last": int(last)})
    return inputs, exps, outputs, bias


class Bench:
    async def start(self, dut, idle=0, stall=0):
        self.dut = dut
        self.clock = await start_clock_reset(dut)
        self.cmd = StreamSource(dut, "cmd", self.clock, idle=idle, shape=UNIT.cmd.p.shape())
        self.i = StreamSource(dut, "i", self.clock, idle=idle, shape=UNIT.i.p.shape())
        self.bias = StreamSource(dut, "bias", self.clock, idle=idle,
                                 shape=UNIT.bias.p.shape()) if hasattr(UNIT, "bias") else None
        self.o = StreamSink(dut, "o", self.clock, stall=stall, shape=UNIT.o.p.shape())
        return self

    async def biases(self, gate_up, bank, bias):
        if bias is not None:
            which = {"gate_up": gate_up, "bank": bank} if BANKS == 2 else {"gate_up": gate_up}
            self.bias.send([{"x": x, **which, "part": part}
                            for part, x in enumerate(bf16_bits(bias).reshape(-1, V).tolist())])
            await self.bias.drained()

    def command(self, gate_up, n, exps, bank=0):
        self.set_bank(bank)
        self.dut.exps.value = sum((e & 1023) << (10 * k) for k, e in enumerate(exps))
        self.cmd.send([{"gate_up": gate_up, "n": n}])

    def set_bank(self, bank):
        if hasattr(UNIT, "bank"):
            self.dut.bank.value = bank


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut, *pattern)
    commands = [(gate_up, n, bank % BANKS, *case(rng, gate_up, n))
                for gate_up, n, bank in ((0, 1, 0), (1, DESIGN.hw.entries, 0), (0, DESIGN.hw.entries, 1), (1, 1, 1))]
    for k, (gate_up, n, bank, inputs, exps, outputs, _) in enumerate(commands):
        if k % (2 * BANKS) == 0:                           # all regions are filled before one is used
            for other in commands[k:k + 2 * BANKS]:
                await bench.biases(other[0], other[2], other[-1])
        bench.o.clear()
        for port in (bench.cmd, bench.i):
            port.sent.clear()
        bench.command(gate_up, n, exps, bank)
        bench.i.send(inputs)
        await bench.cmd.drained()
        bench.dut.exps.value = 0                           # they were taken over with the command
        bench.set_bank(1 - bank)
        await bench.i.drained()
        assert await bench.o.wait(len(outputs)) == outputs
        if pattern == (0, 0):
            taken = [cycle for cycle, _ in bench.i.sent]
            # one per cycle; the first waits for the command
            assert taken == list(range(bench.cmd.sent[0][0] + 1, bench.cmd.sent[0][0] + 1 + len(inputs)))
            real = [cycle for cycle, (*_, head, _, _) in zip(taken, golden.granules(DESIGN, gate_up, n))
                    if head is not None]
            assert bench.o.cycles == [cycle + LATENCY for cycle in real]
    await bench.clock.edge(10)
    assert bench.o.items == outputs


@cocotb.test()
async def the_next_command_waits(dut):
    """And has the exponents that are there when it is taken."""
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    commands = [(gate_up, *case(rng, gate_up, 1)) for gate_up in (0, 1)]
    for gate_up, *_, bias in commands:
        await bench.biases(gate_up, 0, bias)
    for gate_up, inputs, exps, *_ in commands:
        bench.command(gate_up, 1, exps)
        bench.i.send(inputs)
        if not gate_up:
            await bench.cmd.drained()
    outputs = [item for _, _, _, outputs, _ in commands for item in outputs]
    assert await bench.o.wait(len(outputs)) == outputs


@cocotb.test()
async def reset_in_flight(dut):
    rng = np.random.default_rng(cocotb.RANDOM_SEED)
    bench = await Bench().start(dut)
    inputs, exps, _, bias = case(rng, 0, 1)
    await bench.biases(0, 0, bias)
    bench.command(0, 1, exps)
    bench.i.send(inputs)
    await bench.clock.edge(LATENCY + 2)
    bench.i.clear()
    await bench.clock.reset()
    bench.o.clear()
    inputs, exps, outputs, bias = case(rng, 0, DESIGN.hw.entries)
    await bench.biases(0, 0, bias)
    bench.command(0, DESIGN.hw.entries, exps)
    bench.i.send(inputs)
    assert await bench.o.wait(len(outputs)) == outputs
