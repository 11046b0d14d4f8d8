"""Decode passes through the decoder on buses: how much of the memory's bandwidth they use. For `tools.bench_axi`, which
gives the parameters."""
import json
from dataclasses import replace
from pathlib import Path

import cocotb

from hwgen.params.axi import AXI_EVENTS, AxiShape
from hwgen.params.design import Design
from hwgen.params.model import DEMO
from hwgen.params.counters import EVENTS
from hwgen.params.presets import hw_shape, recipe
from sim.axi_host import AxiClock, Host
from sim.axi_memory import AxiMemory, Timing
from sim.stream_bench import bench_params

PARAMS = bench_params()
MODEL = replace(DEMO, tie_word_embeddings=PARAMS.get("tied", True))
DESIGN = Design(model=MODEL, hw=hw_shape(PARAMS["shape"], MODEL), recipe=recipe(PARAMS.get("formats")))
AXI = AxiShape(**PARAMS["axi"])
BASE = 0x10000


@cocotb.test()
@cocotb.parametrize(("name", list(PARAMS.get("timings", ["none"]))))
async def decode(dut, name):
    """Passes of one entry: tokens equal to golden's, and their counters into a file."""
    clock = await AxiClock.start(dut)
    memory = AxiMemory(dut, clock, Path(PARAMS["weights"]).read_bytes(), base=BASE, width=AXI.data_width,
                       outstanding=AXI.outstanding,
                       timing=Timing(**PARAMS["timings"][name]))
    host = Host(dut, clock, DESIGN, AXI)
    await host.start(BASE)
    measured = []
    for entry, token in PARAMS["passes"]:
        memory.clear()
        results = await host.run([entry])
        assert [(r["token"], r["bus_error"], r["error"]) for r in results] == [(token, 0, 0)]
        counts = {event: await host.read("COUNTER", i) for i, event in enumerate([*EVENTS, *AXI_EVENTS])}
        assert counts["axi_words"] == len(memory.words)
        # the first address follows the first entry by less than a refresh, so this window is the pass's but for an end
        # of few cycles
        start = memory.addresses[0][0]
        rested = sum(start <= cycle < start + counts["cycles"] for cycle in memory.rests)
        measured.append({**counts, "rested": rested})
        dut._log.info(f"{name}: {counts}")
    Path(PARAMS["out"]).with_suffix(f".{name}.json").write_text(json.dumps(measured))
