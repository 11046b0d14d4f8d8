"""A reader of the weight stream on LiteDRAM's DDR3: how many cycles long streams take. For `sim/test_ddr3.py` and
`tools.bench_ddr3`, which give the parameters."""
import json
from pathlib import Path

import cocotb
from cocotb.clock import Clock as CocotbClock
from cocotb.triggers import RisingEdge, with_timeout
import numpy as np

from hwgen.host.links.ddr3 import SKEW
from hwgen.params import dram
from hwgen.params.axi import AxiShape
from hwgen.units.weights import request_layout
from sim.ddr3_memory import bus_clock, power_up
from sim.designs import small_design
from sim.stream_bench import StreamSource, bench_params, value_of

PARAMS = bench_params()
MEMORY, PERIOD = getattr(dram, PARAMS["chip"]), 10
DESIGN, AXI = small_design(**PARAMS["changes"]), AxiShape(**PARAMS["axi"])
BYTES, WORD = DESIGN.hw.beat_bytes, MEMORY.data_width // 8


#: ps of a cycle of the reader, if it is not on the memory's clock, and cycles of the memory's in one of its.
MACHINE = PARAMS.get("machine")
PER = MACHINE / (1000 * MEMORY.phy.phases * PERIOD) if MACHINE else 1


@cocotb.test()
async def streams(dut):
    """Whole streams, one behind the other: what the chip has behind power-up, in order."""
    for name in ("base", "req__valid", "req__payload", "beats__ready"):
        getattr(dut, name).value = 0
    dut.skew.value, dut.mute.value = SKEW, 0
    CocotbClock(dut.clk, PERIOD, unit="ns").start(start_high=False)
    behind, clock = await bus_clock(dut, MEMORY, PERIOD, MACHINE)
    await with_timeout(RisingEdge(dut.memory_ready), 40, "ms")
    await clock.edge(2)
    clock.in_reset = False
    source = StreamSource(behind, "req", clock, shape=request_layout(stream_beats=DESIGN.stream_beats))
    beats = DESIGN.stream_beats
    dut.beats__ready.value = 1
    dut.base.value = PARAMS["base"]
    before = {name: value_of(getattr(dut, f"chip_{name}")) for name in ("reads", "activates", "refreshes")}
    source.send([dict(address=0, count=beats, stride=0)] * PARAMS["streams"])
    found, cycles = [], []
    start = clock.cycle
    while len(found) < beats * PARAMS["streams"]:
        await clock.sample()
        if value_of(dut.beats__valid):
            found.append(value_of(dut.beats__payload))
            cycles.append(clock.cycle)
        await clock.edge()
    words = np.arange(beats * BYTES // WORD) * WORD + PARAMS["base"]
    data = power_up(MEMORY, words).astype("<u2").tobytes()
    assert found == [int.from_bytes(data[i:i + BYTES], "little")
                     for i in range(0, len(data), BYTES)] * PARAMS["streams"]
    error = value_of(dut.chip_error)
    assert error == 0, f"error {error} in the chip's cycle {value_of(dut.chip_error_cycle)} (ddr3_chip.v)"
    counts = {name: value_of(getattr(dut, f"chip_{name}")) - count for name, count in before.items()}
    counts |= {"cycles": round((cycles[-1] - start) * PER), "steady": round((cycles[-1] - cycles[0]) * PER),
               "words": (len(found) - 1) * BYTES * 8 // MEMORY.cycle_bits}
    dut._log.info(f"{counts}: {counts['words'] / counts['steady']:.4f} of the controller's bandwidth")
    if "out" in PARAMS:
        Path(PARAMS["out"]).write_text(json.dumps(counts))
