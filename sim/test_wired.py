"""Wired on both simulators: formats, several matrices in a unit, adders behind each other."""
import numpy as np
import pytest

from hwgen.lib.verilator import lint
from hwgen.lib.verilog import emit_design
from hwgen.params.wired import FixedMatrix
from hwgen.top import make
from sim.runner import run
from sim.wired_units import wired

SHAPES = {
    # one matrix, all sums in registers
    "one": (dict(formats="weights=e2m1,scales=matrix,block_range=0", tie_word_embeddings=False, head_dim=32),
            [(21, 3)], 1),
    # rows that are no whole groups, offsets of rows, three adders behind each other
    "rows": (dict(formats="e3m4,scales=row", columns=16, lanes=4, entries=3), [(9, 2), (35, 5), (2, 1)], 3),
    # E4M3, and nothing but carries in registers
    "deep": (dict(weight_format="e4m3", activation_format="e4m3"), [(8, 1), (7, 4)], 50),
}


@pytest.mark.parametrize("shape", ["rows", *(pytest.param(shape, marks=pytest.mark.nightly)
                                             for shape in ("one", "deep"))])
def test_wired(simulator, shape):
    changes, sizes, levels = SHAPES[shape]
    run(wired(changes, sizes, levels)[2], "wired", "bench_wired",
        params={"design": changes, "sizes": sizes, "levels": levels}, sim=simulator)


def test_it_is_clean_and_the_same_again(tmp_path):
    text = emit_design(wired(*SHAPES["rows"])[2], "wired")
    assert text == emit_design(wired(*SHAPES["rows"])[2], "wired")
    (tmp_path / "wired.v").write_text(text)
    lint(tmp_path / "wired.v", "wired")


@pytest.mark.parametrize("inputs, complaint", [(6, "must be a multiple of 8 lanes, not 6"),
                                               (2400, "must be of at most")])
def test_refusals(inputs, complaint):
    design = wired(*SHAPES["one"])[0]
    with pytest.raises(ValueError, match=complaint):
        make.wired(design, {"m": FixedMatrix(np.full((2, inputs), 12), design.recipe.activation_format)})
