"""RomGrid on a simulator; its Verilog has each kind of module once, and a memory beside each tile."""
import re

import pytest

from hwgen.lib.rom import FileRom
from hwgen.lib.verilog import emit_design
from hwgen.top import make
from sim.designs import small_design
from sim.rom_grid_units import images
from sim.runner import run, simulators

#: Accumulators wide enough for every bench.
_WIDE = dict(intermediate_size=512, tie_word_embeddings=False, tile_beats=1)
SHAPES = {
    # offsets of rows and of blocks, of which a word has one of 32 lanes; and one entry
    "e2m1": (2, 2, _WIDE | dict(lanes=4, columns=4, vector_lanes=2, entries=1, attention_lanes=4,
                                formats="weights=e2m1")),
    # two blocks in a word, columns of E2M1 codes themselves
    "blocks": (1, 1, _WIDE | dict(lanes=64, columns=2, vector_lanes=2, entries=3, attention_lanes=2,
                                  formats="weights=e2m1,scales=matrix,block_range=4")),
    "plain": (3, 1, _WIDE | dict(lanes=2, columns=8, vector_lanes=2, entries=3, attention_lanes=2,
                                 weight_format="e4m3")),
}


@pytest.mark.parametrize("shape, cases", [("e2m1", None), ("blocks", "cycles_and_values"),
                                          *(pytest.param(shape, None, marks=pytest.mark.nightly)
                                            for shape in ("blocks", "plain"))])
def test_rom_grid(shape, cases):
    rows, tiles, changes = SHAPES[shape]
    design = small_design(**changes)
    words, files = images(design, rows, tiles)
    run(make.rom_grid(design, rows, tiles, words, files), "rom_grid", "bench_rom_grid", testcase=cases,
        params={"design": changes, "rows": rows, "tiles": tiles}, sim=simulators()[-1])


def test_each_module_once():
    """Four times the arrays are some more instances, and as many memories, each with a file of its own."""
    design = small_design(**SHAPES["e2m1"][2] | dict(lanes=2, columns=2, attention_lanes=2,
                                                     formats="weights=e2m1,block_range=0"))
    small, large = (emit_design(make.rom_grid(design, size, size, 5), "grid") for size in (1, 2))
    names = [re.findall(r"^module (\w+)", text, re.MULTILINE) for text in (small, large)]
    kinds = [sorted({re.sub(r"_sum_\d+|rom\d+_\d+", "", name) for name in found}) for found in names]
    assert kinds[0] == kinds[1] and all(len(found) == len(set(found)) for found in names)
    assert sorted(re.findall(r'FILE\("(\w+)\.hex"\)', large)) == [f"slice_r{r}_h{h}" for r in range(2)
                                                                  for h in range(2)]
    assert len(re.findall(r"^module grid_slice ", large, re.MULTILINE)) == 1 and len(large) < 2 * len(small)


@pytest.mark.parametrize("arguments, changes, complaint", [
    ((0, 2, 9), {}, "Grid must have at least 1 row and 1 tile in each, not 0 and 2"),
    ((1, 1, 1), {}, "ROM of a tile must have at least 2 words, not 1"),
    ((1, 1, 9), dict(tile_beats=2), "Beats per tile must be 1 where a ROM has a tile in each word, not 2"),
    ((1, 1, 9), dict(formats="down=e2m1"), "Weights of a grid with ROMs must all be of 8 bits, or all in e2m1")])
def test_a_grid_that_cannot_be(arguments, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        make.rom_grid(small_design(**changes), *arguments)


def test_a_memory_of_its_own_has_a_file():
    with pytest.raises(ValueError, match="Memory file must be given where each instance has one of its own"):
        FileRom(8, 4, name="slice", own=True)
