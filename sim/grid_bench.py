"""What benches of grids of arrays share: ports of rows and of columns of tiles, and how they are stalled and reset."""
import random

import cocotb

from sim.stream_bench import StreamSink, StreamSource, start_clock_reset

STALLS = [(0.6, 0), (0, 0.6), (0.4, 0.4)]


class GridBench:
    """A grid of ``rows`` x ``tiles`` arrays. A bench adds ``more``, which makes the sources of its weights, and
    ``send(rng, ...)``, which offers a matrix and entries and returns what each column of tiles should give."""

    def __init__(self, array, rows, tiles):
        self._array, self._rows, self._tiles = array, rows, tiles

    async def start(self, dut, idle=0, stall=0):
        self.clock = await start_clock_reset(dut)
        weights = self.more(dut, idle)
        self.x = [StreamSource(dut, f"x__{r}", self.clock, idle=idle, shape=self._array.op_layout)
                  for r in range(self._rows)]
        self.o = [StreamSink(dut, f"o__{h}", self.clock, stall=stall, shape=self._array.result_layout)
                  for h in range(self._tiles)]
        self.sources = (*weights, *self.x)
        return self

    async def check(self, expected):
        for sink, of_tiles in zip(self.o, expected, strict=True):
            assert await sink.wait(len(of_tiles), timeout=50_000) == of_tiles

    async def restart(self):
        """A reset, and nothing offered."""
        await self.clock.reset()
        for port in (*self.o, *self.sources):
            port.clear()

    async def check_all(self, rng, items):
        """All items in a row; rows and columns drift apart and meet again."""
        expected = [self.send(rng, *item) for item in items]
        await self.check([sum(of_tiles, []) for of_tiles in zip(*expected)])

    async def check_resets(self, rng, item):
        """Resets at any time, then an item."""
        coin = random.Random(cocotb.RANDOM_SEED)
        for _ in range(3):
            self.send(rng, *item)
            await self.clock.edge(coin.randrange(2, 60))
            for source in self.sources:
                source.clear()
            await self.clock.reset()
            for sink in self.o:
                sink.clear()
        await self.check(self.send(rng, *item))
