"""ArrayGrid on both simulators; its Verilog has each kind of module once."""
import re

import pytest

from hwgen.lib.verilog import emit_design
from hwgen.top import make
from sim.designs import small_design
from sim.runner import run, simulators

SHAPES = {
    # entries hide the loading of all tiles of a row
    "square": (2, 2, dict(lanes=4, columns=4, vector_lanes=2, entries=4, attention_lanes=4, tile_beats=2)),
    # rows that are no power of two, loading that takes longer than the entries, slow drain
    "wide": (3, 3, dict(lanes=2, columns=8, vector_lanes=2, entries=3, attention_lanes=2, tile_beats=4,
                        weight_format="e4m3")),
}


@pytest.mark.parametrize("shape, sim", [*(("square", sim) for sim in simulators()), ("wide", simulators()[-1])])
def test_array_grid(shape, sim):
    rows, tiles, changes = SHAPES[shape]
    changes = dict(changes, intermediate_size=512)      # accumulators wide enough for every bench
    run(make.array_grid(small_design(**changes), rows, tiles), "array_grid", "bench_array_grid",
        params={"design": changes, "rows": rows, "tiles": tiles}, sim=sim)


def test_each_module_once():
    """Four times the arrays are some more instances, and no more modules."""
    texts = [emit_design(make.array_grid(small_design(), size, size), "grid") for size in (2, 4)]
    small, large = (re.findall(r"^module (\w+)", text, re.MULTILINE) for text in texts)
    assert [name for name in small if "_row_" not in name
            and "_sum_" not in name] == [n for n in large if "_row_" not in n
                                                                                       and "_sum_" not in n]
    assert len(small) == len(set(small)) == len(large) and len(texts[1]) < 1.5 * len(texts[0])


def test_an_empty_grid():
    with pytest.raises(ValueError, match="Grid must have at least 1 row and 1 tile in each, not 0 and 2"):
        make.array_grid(small_design(), 0, 2)


@pytest.mark.parametrize("formats", ["scales=row", "down=e2m1"])
def test_a_grid_of_other_weights(formats):
    with pytest.raises(ValueError, match="Weights of a grid must be of 8 bits with one scale a matrix"):
        make.array_grid(small_design(formats=formats), 1, 1)
