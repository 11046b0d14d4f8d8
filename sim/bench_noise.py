"""Bench of the sampler's random numbers: words and noise bit by bit."""
import random

import cocotb
import numpy as np

from hwgen.golden.sampler import gumbel_noise, threefry2x32
from sim.sampler_units import INPUT, OUTPUT, STAGES
from sim.stream_bench import StreamSink, StreamSource, start_clock_reset


@cocotb.test()
async def words_and_noise(dut):
    rng = random.Random(cocotb.RANDOM_SEED)
    corners = [0, 0xFFFFFFFF, *(1 << k for k in range(32)), *((1 << k) - 1
                                                              for k in range(32)), *(~(1 << k) & 0xFFFFFFFF
                                                                                     for k in range(32))]
    for seed in (0, 0xFFFFFFFF, rng.getrandbits(32)):
        clock = await start_clock_reset(dut)
        dut.seed.value = seed
        source = StreamSource(dut, "i", clock, shape=INPUT)
        sink = StreamSink(dut, "o", clock, shape=OUTPUT, source=source)
        items = [{"counter": c, "key": 0, "word": c} for c in corners]
        # uniform words, and those that are small, on either side
        items += [{"counter": rng.getrandbits(32), "key": rng.getrandbits(32),
                   "word": rng.getrandbits(32) >> rng.choice([0, 0, rng.randrange(32)]) ^ rng.choice([0, 0xFFFFFFFF])}
                  for _ in range(400)]
        source.send(items)
        noise = gumbel_noise(np.array([item["word"] for item in items])).tolist()
        expected = [{"words": [int(word) for c in (item["counter"], item["counter"] ^ 0xFFFFFFFF)
                               for word in threefry2x32((seed, item["key"]), (c, 0))], "noise": noise[k]}
                    for k, item in enumerate(items)]
        assert await sink.wait(len(items)) == expected
        assert sink.cycles == [cycle + STAGES for cycle, _ in source.sent]
        source.stop(), sink.stop()
