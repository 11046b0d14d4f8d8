"""The cost of matrices that are logic before they are made: from their sizes and formats, and from the number of their
rows that differ where weights are known.

Adders per weight fall with the outputs that share pairs, as a + b / sqrt(outputs): fitted to networks of normal weights
with 32 inputs and 32, 128 and 512 outputs (`python -m tools.bench_wired --only formats` makes
some of them again), within 7 % of these; registers within 20 %.
Weights that were trained so that many of them are 0 take less. An adder is two LUT4.
"""
import math
from collections.abc import Mapping
from typing import NamedTuple

from ..params.adapters import SUM_BITS
from ..params.block import Project
from ..params.design import Design
from ..params.formats import E3M4
from ..params.stream import HEAD

__all__ = ["WAY", "Expected", "Rows", "expected", "unit"]

#: Weights' format -> (a, b) of the adders of a weight; registers of an adder besides its carry, with one level;
#: bits of a sum of 32 inputs in E3M4.
_COSTS = {"e2m1": (0.454, 1.19, 1.7, 19), "e3m4": (0.803, 2.44, 2.5, 25), "e4m3": (0.647, 2.59, 3.2, 32),
          "e2m5": (0.896, 2.04, 2.0, 23)}
#: LUT4 of a bit of a sum that is kept and moved on, so that whole machines come out right. Of a unit alone it is 1.05
#: (docs/wired.md, wired_unit_lut4_per_weight less wired_lut4_per_weight).
_SUM_BIT = 0.8
#: (LUT4, flip-flops) of a bit of a granule to which an adapter's is added: `hwgen.lib.added_sums` alone, by the boards'
#: script (4 lanes of 28 and of 40 bits, 8 of 28).
_ADDED_BIT = 3.1, 2.2
#: Part of a unit's LUTs that lengthens the way of a machine's slowest path, as adders stand beside those that they
#: feed: of the one build (fpga/ulx3s-85f-wired/report.json).
WAY = 0.5


class Expected(NamedTuple):
    """A matrix: the numbers of a `FixedMatrix` that `golden.wired.wired_cycles` reads, and its logic."""
    size: tuple[int, int]
    bits: int
    latency: int
    luts: float
    ffs: float


#: {(project's name, layer): rows of weights that differ} (`models.wires.different_rows`).
Rows = Mapping[tuple[str, int | None], int]


def expected(design: Design, rows: Rows | None = None) -> dict[tuple[str, int | None], Expected]:
    """{(project's name, layer): `Expected`} of the matrices that are logic, in the order of
    `models.wires.fixed_matrices`. Equal rows are made once; without ``rows`` all of them differ."""
    recipe, levels = design.recipe, design.hw.wire_levels
    most = design.acc_bits - SUM_BITS * (design.hw.adapters > 0)

    def one(matmul, name, layer):
        a, b, kept, bits = _COSTS[recipe.format_of(name, layer).name]
        made = max(1, rows[name, layer] if rows else matmul.rows)
        adders = (made * matmul.cols * (a + b / math.sqrt(made))
                  * (recipe.codes_per_head_weight if name == HEAD else 1))
        bits += math.ceil(math.log2(matmul.cols / 32)) + recipe.activation_format.int_bits - E3M4.int_bits
        return Expected((matmul.rows, matmul.cols), min(bits, most),
                        (matmul.cols.bit_length() + 1) // levels, 2 * adders, adders * (1 + kept / levels))

    found: dict[tuple[str, int | None], Expected] = {
        (project.name, layer): one(design.matmul(project.name), project.name, layer)
        for layer in range(design.layers) for project in design.block.of(Project) if design.hw.is_logic(project.name)}
    return found | ({(HEAD, None): one(design.head_matmul, HEAD, None)} if design.hw.is_logic(HEAD) else {})


def unit(design: Design, matrices: Mapping[tuple[str, int | None], Expected]) -> tuple[float, float]:
    """(LUT4, flip-flops) of all of `Wired`, and of what adds adapters' sums to its own."""
    added = design.hw.vector_lanes * design.acc_bits * (design.hw.adapters > 0)
    kept = max(m.bits for m in matrices.values()) * max(m.size[0] for m in matrices.values())
    lines = (design.recipe.activation_format.int_bits + 1) * max(m.size[1] for m in matrices.values())
    return (sum(m.luts for m in matrices.values()) + _SUM_BIT * kept + lines + _ADDED_BIT[0] * added
            + sum(m.size[0] for m in matrices.values()) / 2,
            sum(m.ffs for m in matrices.values()) + kept + lines + _ADDED_BIT[1] * added)
