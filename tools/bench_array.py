#!/usr/bin/env python3
"""Simulation speed of the 32 x 32 MAC array in Verilator, one entry, an operation in each cycle; all sums compared with
the golden model.

Cycles per second of CPU time (not of the clock on the wall, which others share).
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from hwgen.golden.mac_array import mac_array
from hwgen.lib import verilator
from hwgen.lib.verilog import emit_design
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.top import make
from tools import ledger

DESIGN = Design(model=SMOLLM2_135M, hw=HwShape(lanes=32, columns=32, vector_lanes=16), recipe=Recipe())
N_TILES, K_TILES = 8, 18

MAIN = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>
#include <sys/resource.h>
#include "Vtop.h"
static std::vector<char> slurp(const char* name) {
    std::ifstream file(name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}
int main(int, char** argv) {
    const auto tiles = slurp("tiles"), ops = slurp("ops"), sums = slurp("sums");
    const size_t rounds = atol(argv[1]), tile = sizeof(Vtop::tile___05Fpayload), op = sizeof(Vtop::x___05Fpayload);
    const size_t count = ops.size() / op, granules = sums.size() / GRANULE;
    Vtop top;
    auto edge = [&] { top.clk = 1; top.eval(); top.clk = 0; };
    top.rst = 1;
    top.eval();
    edge();
    top.rst = 0;
    top.tile___05Fvalid = top.x___05Fvalid = top.o___05Fready = 1;
    size_t cycles = 0, in = 0, loaded = 0, out = 0;
    rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (; out < rounds * granules; ++cycles) {
        memcpy(&top.tile___05Fpayload, &tiles[loaded % count * tile], tile);
        memcpy(&top.x___05Fpayload, &ops[in % count * op], op);
        top.eval();
        in += top.x___05Fready;
        loaded += top.tile___05Fready;
        if (top.o___05Fvalid && memcmp(&top.o___05Fpayload, &sums[out++ % granules * GRANULE], GRANULE)) {
            fprintf(stderr, "granule %zu differs\n", out - 1);
            return 1;
        }
        edge();
    }
    getrusage(RUSAGE_SELF, &after);
    printf("%zu %f\n", cycles,
           after.ru_utime.tv_sec - before.ru_utime.tv_sec + 1e-6 * (after.ru_utime.tv_usec - before.ru_utime.tv_usec));
}
"""


def codes(rng, fmt, shape):
    return (rng.integers(0, fmt.max_code + 1, shape) | rng.integers(0, 2, shape) << 7).astype(np.uint8)


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    hw, rng = DESIGN.hw, np.random.default_rng(1)
    w = codes(rng, DESIGN.recipe.weight_format, (N_TILES * hw.columns, K_TILES * hw.lanes))
    x = codes(rng, DESIGN.recipe.activation_format, (1, K_TILES * hw.lanes))
    tiles = w.reshape(N_TILES, hw.columns, K_TILES, hw.lanes).swapaxes(1, 2)
    # behind the codes: exp (10 bits), first, last, tile_end
    flags = np.zeros((N_TILES, K_TILES), np.uint32)
    flags[:, 0] |= 1 << 10
    flags[:, -1] |= 1 << 11
    flags |= 1 << 12
    ops = b"".join(x[0, k * hw.lanes:][:hw.lanes].tobytes() + flags[j, k].astype("<u4").tobytes()
                   for j in range(N_TILES) for k in range(K_TILES))
    assert DESIGN.acc_bits == 32
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "array.v").write_text(emit_design(make.mac_array(DESIGN), "array"))
        (folder / "main.cpp").write_text(MAIN)
        (folder / "tiles").write_bytes(np.ascontiguousarray(tiles).tobytes())
        (folder / "ops").write_bytes(ops)
        (folder / "sums").write_bytes(mac_array(DESIGN, w, x).astype("<i4").tobytes())
        model = verilator.build([folder / "array.v"], "array", cpp=[folder / "main.cpp"], folder=folder / "obj",
                                executable="model",
                                cflags=f"-DGRANULE={4 * hw.vector_lanes}", opt="-O2")
        done = subprocess.run([model, "1000"], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
    cycles, seconds = (float(word) for word in done.stdout.split())
    ledger.record("array.json", [{"name": f"array_{hw.lanes}x{hw.columns}_verilator_rate",
                                  "value": round(cycles / seconds, -2),
                                  "unit": "cycles/s of CPU", "kind": "measured",
                                  "command": "python -m tools.bench_array"}])
    print(f"{cycles / seconds:,.0f} cycles per second of CPU time, "
          f"{hw.lanes * hw.columns * cycles / seconds / 1e6:.0f} million MACs per second")


if __name__ == "__main__":
    main()
