"""The engine that a step of a layer starts, and the cycle in which it ends: the engines' twins by the names in
`hwgen.params.block`."""
from ..params.block import Norm, Project
from ..params.design import Design
from . import convert, qk_norm, residual, rope, swiglu
from .adapted_wires import AdaptedWires
from .mac_array import MatmulTimes
from .wired import WiredTimes

__all__ = ["WRITTEN", "norm_end", "sink_end"]

# from the cycle that takes a result to `done`: whoever reads it begins in the cycle after that, and asks one later
WRITTEN = 1


def norm_end(design: Design, norm: Norm, done: int) -> int:
    """When the result of a layer's norm can be read, of the cycle of its last row's `done`."""
    # the cycle before it takes the row's last granule
    return done if norm.writes == "normed" else done - 1 + residual.DONE_LATENCY


def sink_end(design: Design, project: Project, times: MatmulTimes | WiredTimes | AdaptedWires, n: int) -> int:
    """The cycle in which the result of a layer's matrix of n entries can be read: the `done` of its sink."""
    v = design.hw.vector_lanes
    converted = convert.latency(design)
    if project.sink == "heads":
        last = times.granule(design.qkv_heads * design.padded_head_dim // v - 1)       # of those that are not padding
        normed = qk_norm.cycles(design, n) if design.block.qk_norm else 0
        return last + converted + normed + rope.ROPE_LATENCY + WRITTEN
    if project.sink == "activation":
        return times.granule(-1) + converted + swiglu.latency(design.block) + WRITTEN
    return times.granule(-1) + residual.DONE_LATENCY
