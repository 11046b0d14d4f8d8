"""A reader of the weight stream on LiteDRAM: how many cycles long streams take. For `sim/test_dram.py` and
`tools.bench_dram`, which give the parameters."""
import json
from dataclasses import replace
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge, with_timeout

from hwgen.params.axi import AxiShape
from hwgen.params.dram import MT48LC16M16
from hwgen.units.weights import request_layout
from sim.designs import small_design
from sim.dram_units import chip_address, power_up
from sim.stream_bench import StreamSource, bench_params, start_clock_reset, value_of

PARAMS = bench_params()
MEMORY = replace(MT48LC16M16, port_width=PARAMS["axi"]["data_width"])
DESIGN, AXI = small_design(**PARAMS["changes"]), AxiShape(**PARAMS["axi"])
BYTES, WORD = DESIGN.hw.beat_bytes, MEMORY.data_width // 8


@cocotb.test()
async def streams(dut):
    """Whole streams, one behind the other: what the chip has behind power-up, in order."""
    clock = await start_clock_reset(dut)
    await with_timeout(RisingEdge(dut.memory_ready), 30_000 * clock.period, "ns")
    source = StreamSource(dut, "req", clock, shape=request_layout(stream_beats=DESIGN.stream_beats))
    beats = DESIGN.stream_beats
    dut.beats__ready.value = 1
    base = PARAMS["base"]
    dut.base.value = base
    before = {name: value_of(getattr(dut, f"chip_{name}")) for name in ("reads", "activates", "refreshes")}
    source.send([dict(address=0, count=beats, stride=0)] * PARAMS["streams"])
    found, cycles = [], []
    start = clock.cycle
    while len(found) < beats * PARAMS["streams"]:
        # a beat is several words: it is never there for two cycles
        await with_timeout(RisingEdge(dut.beats__valid), 10_000 * clock.period, "ns")
        await clock.sample()
        found.append(value_of(dut.beats__payload))
        if len(source.sent) == PARAMS["streams"]:
            source.stop()       # it takes most of the time
        cycles.append(clock.cycle)
    words = np.arange(beats * BYTES // WORD) * WORD + base
    data = power_up(MEMORY, chip_address(MEMORY, words)).astype("<u2").tobytes()
    assert found == [int.from_bytes(data[i:i + BYTES], "little")
                     for i in range(0, len(data), BYTES)] * PARAMS["streams"]
    error = value_of(dut.chip_error)
    assert error == 0, f"error {error} in the chip's cycle {value_of(dut.chip_error_cycle)}"
    counts = {name: value_of(getattr(dut, f"chip_{name}")) - count for name, count in before.items()}
    assert counts["reads"] == len(words) * PARAMS["streams"]
    counts |= {"cycles": cycles[-1] - start, "steady": cycles[-1] - cycles[0], "words": counts["reads"] - BYTES // WORD}
    dut._log.info(f"{counts}: {counts['words'] / counts['steady']:.4f} of the chip's bandwidth")
    if "out" in PARAMS:
        Path(PARAMS["out"]).write_text(json.dumps(counts))
