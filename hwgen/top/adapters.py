"""Adapters in a decoder: their tiles between the base's and the array's, A's sums, and the buffer of these."""
from typing import NamedTuple

from amaranth.lib.wiring import connect

from ..lib.added_sums import AddedSums
from ..params.block import Project
from ..params.stream import HEAD
from ..units.adapters import AdapterSums
from ..units.vector_buffer import VectorBuffer
from . import make

__all__ = ["Adapters", "place_adapters"]


class Adapters(NamedTuple):
    """What the array's input and results go to beside the engines of every machine."""
    sums: AdapterSums       # takes A's results, and knows the shift of B's
    buffer: VectorBuffer    # of A's sums as activations
    added: AddedSums | None     # B's sums, added to those of matrices that are logic; None where none are


def place_adapters(m, engines, load):
    """Place the engines of adapters, and connect them to the tiles on their way, to the feeder and to each other.

    ``load`` is a stream of `adapter_layout`. Returns `Adapters`.
    """
    design, hw = engines.design, engines.design.hw
    m.submodules.adapters = tiles = make.adapter_tiles(design)
    m.submodules.adapter_sums = sums = make.adapter_sums(engines.half_design)
    count = max(design.adapter_matmuls(project)[1].cols for project in design.block.of(Project))
    m.submodules.xz = xz = VectorBuffer(rows=engines.rows, length=count, write_lanes=hw.vector_lanes,
                                        read_lanes=hw.lanes, fmt=design.recipe.activation_format,
                                        meta=engines.feeder.o.p.meta.shape(), least=True)
    connect(m, load, tiles.load)
    connect(m, engines.dispatcher.tile, tiles.base)
    connect(m, tiles.tile, engines.array.tile)
    feed, opens, entry = engines.sequencer.feed, engines.admission.opens, engines.admission.entry
    start = feed.valid & feed.ready
    m.d.comb += [tiles.clear.eq(opens), tiles.enter.eq(entry.valid & entry.ready & ~entry.p.none),
                 tiles.number.eq(entry.p.adapter), tiles.layer.eq(engines.sequencer.layer),
                 engines.feeder.runs.eq(tiles.runs), engines.feeder.ready.eq(sums.ready),
                 sums.runs.eq(tiles.runs), sums.exponents.eq(tiles.exponents), sums.o.ready.eq(1)]
    if engines.alternating:
        m.d.comb += tiles.half.eq(engines.commanded)
    for unit in (tiles, sums):
        m.d.comb += [unit.start.eq(start), unit.matrix.eq(feed.p.matrix)]
    m.d.comb += [xz.w.valid.eq(sums.o.valid & (sums.o.p.part < count // hw.vector_lanes)),
                 *(xz.w.p[name].eq(sums.o.p[name]) for name in ("x", "row", "part", "least"))]
    return Adapters(sums, xz, _place_added_sums(m, engines, tiles) if engines.wired else None)


def _place_added_sums(m, engines, tiles):
    """What adds B's sums to those of matrices that are logic, in a pass whose row has an adapter."""
    m.submodules.added_sums = added = AddedSums(engines.wired.o.payload.shape(), engines.array.o.payload.shape())
    connect(m, engines.wired.o, added.base)
    m.d.comb += added.both.eq(engines.steady((tiles.runs.count != 0) & ~engines.phase_is(HEAD), "adapted"))
    return added
