"""Bench of hwgen.lib.secded: every flip of one bit, and every flip of two bits (some, where a word has several
pieces)."""
import random
from itertools import combinations

import cocotb

from hwgen.golden.secded import load, store, stored_bits
from sim.secded_units import layouts
from sim.stream_bench import StreamSink, StreamSource, bench_params, start_clock_reset

WIDTH = bench_params()["width"]
I, O = layouts(WIDTH)


@cocotb.test()
@cocotb.parametrize(("pattern", ((0, 0), (0.5, 0.5))))
async def flips(dut, pattern):
    clock = await start_clock_reset(dut)
    source = StreamSource(dut, "i", clock, idle=pattern[0], shape=I)
    sink = StreamSink(dut, "o", clock, stall=pattern[1], shape=O, source=source)
    rng, bits = random.Random(cocotb.RANDOM_SEED), stored_bits(WIDTH)
    pairs = [1 << a | 1 << b for a, b in combinations(range(bits), 2)]
    masks = [0, *(1 << i for i in range(bits)), *(pairs if WIDTH <= 64 and pattern == (0, 0)
                                                  else rng.sample(pairs, min(300, len(pairs))))]
    items = [{"data": rng.getrandbits(WIDTH), "flips": mask} for mask in masks]
    await clock.edge(3)
    assert sink.items == []
    source.send(items)
    loaded = await sink.wait(len(items))
    assert loaded == [dict(zip(("data", "corrected", "failed"),
                               load(store(item["data"], WIDTH) ^ item["flips"], WIDTH))) for item in items]
    for item, got in zip(items, loaded):
        flipped = item["flips"].bit_count()
        if flipped < 2:                                    # what the code is for, whatever the twin says
            assert (got["data"], got["corrected"], got["failed"]) == (item["data"], flipped, 0)
        elif WIDTH <= 64:
            assert got["failed"]
    await clock.edge(3)
    assert len(sink.items) == len(items)
