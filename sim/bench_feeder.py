"""Bench of Feeder: order, flags and cycles of its requests."""
from dataclasses import replace

import cocotb

from hwgen.golden import feeder as golden
from hwgen.lib.steps import matrices
from hwgen.top import make
from sim.designs import small_design
from sim.stream_bench import StreamSink, StreamSource, bench_params, cross, start_clock_reset

DESIGN = small_design(**bench_params())
Matrix = matrices(DESIGN.block)
MATMULS = dict(zip(Matrix, (replace(matmul, n_tiles=1, codes=1) if DESIGN.hw.is_logic(matmul.name) else matmul
                            for matmul in (*DESIGN.layer_matmuls, DESIGN.head_matmul))))
PORTS = make.feeder(DESIGN)
COMMANDS = [(matrix, n) for matrix in Matrix for n in range(1, DESIGN.hw.entries + 1)]


@cocotb.test()
@cocotb.parametrize(("pattern", cross()))
async def values(dut, pattern):
    idle, stall = pattern
    clock = await start_clock_reset(dut)
    cmd = StreamSource(dut, "cmd", clock, idle=idle, shape=PORTS.cmd.p.shape())
    sink = StreamSink(dut, "o", clock, stall=stall, shape=PORTS.o.p.shape())
    cmd.send([{"matrix": matrix.value, "n": n} for matrix, n in COMMANDS])
    expected = [request for matrix, n in COMMANDS for request in golden.requests(MATMULS[matrix], n)]
    assert await sink.wait(len(expected)) == expected
    if pattern == (0, 0):
        taken, cycles, at = [], [], 0
        for matrix, n in COMMANDS:
            taken.append(at)
            cycles.extend(at + golden.REQUEST_LATENCY + i for i in range(MATMULS[matrix].tiles * n))
            at += golden.duration(MATMULS[matrix], n)
        assert [cycle for cycle, _ in cmd.sent] == taken
        assert sink.cycles == cycles


@cocotb.test()
async def reset_in_flight(dut):
    clock = await start_clock_reset(dut)
    cmd = StreamSource(dut, "cmd", clock, shape=PORTS.cmd.p.shape())
    sink = StreamSink(dut, "o", clock, shape=PORTS.o.p.shape())
    cmd.send([{"matrix": Matrix.HEAD.value, "n": 1}])
    await clock.edge(4)
    cmd.clear()
    await clock.reset()
    sink.clear()
    cmd.send([{"matrix": Matrix.DOWN.value, "n": 1}])
    expected = list(golden.requests(MATMULS[Matrix.DOWN], 1))
    assert await sink.wait(len(expected)) == expected
