"""A grid of MAC arrays, for chips of millions of multipliers: each kind of module stands in the Verilog once."""
from dataclasses import dataclass

from amaranth.hdl import Array, Cat, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.verilog import shared
from .mac_array import ArrayParams, MacArray

__all__ = ["ArrayGrid", "GridParams", "GridRow", "GridSum", "GridTile", "WEIGHTS", "grid_name"]

#: What a grid says of weights that it cannot have.
WEIGHTS = "Weights of a grid must be of 8 bits with one scale a matrix: it reads no offsets of rows or blocks"


@dataclass(frozen=True, kw_only=True)
class GridParams:
    """What all parts of a grid are made for.

    array           of one array; ``acc_bits`` must hold whole sums, of all rows. Weights are of 8 bits, without offsets
    tile_beats      beats of a tile of one array
    """
    array: ArrayParams
    tile_beats: int

    def __post_init__(self):
        if self.array.row_offsets or self.array.weight.bits != 8:
            raise ValueError(WEIGHTS)

    @property
    def beat_bits(self):
        return 8 * self.array.lanes * self.array.columns // self.tile_beats

    @property
    def name(self):
        return grid_name(self.array, self.tile_beats)


def grid_name(array, tile_beats):
    """What tells the parts of two grids apart: by the `ArrayParams` of their arrays, and the beats of a tile."""
    return (f"{array.weight}_{array.activation}_l{array.lanes}_c{array.columns}_t{array.entries}"
            f"_v{array.vector_lanes}_b{tile_beats}_a{array.acc_bits}")


class GridTile(wiring.Component):
    """A `MacArray` and the register that its next tile is collected in, ``tile_beats`` beats, the first in the lowest
    bits.

    params : GridParams
    beats : In(stream of beats), x, o : as `MacArray`'s
    """

    def __init__(self, params):
        self._params, array = params, params.array
        super().__init__({
            "beats": In(stream.Signature(unsigned(params.beat_bits))),
            "x": In(stream.Signature(array.op_layout)),
            "o": Out(stream.Signature(array.result_layout)),
        })

    @property
    def module_name(self):
        return f"grid_tile_{self._params.name}"

    def elaborate(self, platform):
        m = Module()
        params = self._params
        m.submodules.array = array = MacArray(params.array)
        connect(m, flipped(self.x), array.x)
        connect(m, array.o, flipped(self.o))
        collected = Signal(params.array.tile_layout.size, reset_less=True)
        full, count = Signal(name="full"), Signal(range(params.tile_beats))
        m.d.comb += [array.tile.valid.eq(full), array.tile.payload.eq(collected),
                     self.beats.ready.eq(~full | array.tile.ready)]
        with m.If(array.tile.ready):
            m.d.sync += full.eq(0)
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += [collected.eq(Cat(collected, self.beats.payload)[params.beat_bits:]),
                         full.eq(count == params.tile_beats - 1), count.eq(count + 1)]
        return m


class GridRow(wiring.Component):
    """Some tiles that take the same operations, each for other columns; their weights come one tile after the other.

    params : GridParams
    tiles : int
    beats : In(stream of beats)     of the first tile, the second ..., and around again
    x : In(stream of `op_layout`)   goes to all tiles in the same cycle, when all can take it
    o : Out(stream of `result_layout`) * tiles
    """

    def __init__(self, params, tiles):
        self._params, self._tiles, array = params, tiles, params.array
        super().__init__({
            "beats": In(stream.Signature(unsigned(params.beat_bits))),
            "x": In(stream.Signature(array.op_layout)),
            "o": Out(stream.Signature(array.result_layout)).array(tiles),
        })

    @property
    def module_name(self):
        return f"grid_row_{self._tiles}_{self._params.name}"

    def elaborate(self, platform):
        m = Module()
        beats, tiles = self._params.tile_beats, [GridTile(self._params) for _ in range(self._tiles)]
        turn, count = Signal(range(self._tiles), name="turn"), Signal(range(beats))
        for i, tile in enumerate(tiles):
            m.submodules[f"tile{i}"] = shared(tile, tile.module_name)
            m.d.comb += [tile.beats.valid.eq(self.beats.valid & (turn == i)), tile.beats.payload.eq(self.beats.payload),
                         tile.x.valid.eq(self.x.valid & self.x.ready), tile.x.payload.eq(self.x.payload)]
            connect(m, tile.o, flipped(self.o[i]))
        m.d.comb += [self.beats.ready.eq(Array(tile.beats.ready for tile in tiles)[turn]),
                     self.x.ready.eq(Cat(tile.x.ready for tile in tiles).all())]
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += count.eq(count + 1)
            with m.If(count == beats - 1):
                m.d.sync += turn.eq(turn + 1)
                with m.If(turn == self._tiles - 1):
                    m.d.sync += turn.eq(0)
        return m


class GridSum(wiring.Component):
    """Adds up the granules of one column of tiles, one from each row; one register.

    Parameters
    ----------
    layout : StructLayout       `result_layout`
    rows : int
    name : str                  tells the sums of two grids apart

    Members
    -------
    i : In(stream of ``layout``) * rows     in the same order, with the same entry and group
    o : Out(stream of ``layout``)
    """

    def __init__(self, layout, rows, name):
        self._layout, self._rows, self._name = layout, rows, name
        super().__init__({"i": In(stream.Signature(layout)).array(rows), "o": Out(stream.Signature(layout))})

    @property
    def module_name(self):
        return f"grid_sum_{self._rows}_{self._name}"

    def elaborate(self, platform):
        m = Module()
        granules = [self.i[r] for r in range(self._rows)]
        move = Signal()
        m.d.comb += move.eq(Cat(granule.valid for granule in granules).all() & (~self.o.valid | self.o.ready))
        m.d.comb += [granule.ready.eq(move) for granule in granules]
        o = Signal.like(self.o.payload, reset_less=True)
        m.d.comb += self.o.payload.eq(o)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(move)
        with m.If(move):
            m.d.sync += [o[name].eq(granules[0].p[name]) for name, _ in self._layout if name != "acc"]
            for v in range(len(o.acc)):
                values = [granule.p.acc[v] for granule in granules]
                while len(values) > 1:      # whole sums of all rows fit into acc_bits, so no sum of some of them is cut
                    values = [sum(values[i:i + 2]) for i in range(0, len(values), 2)]
                m.d.sync += o.acc[v].eq(values[0])
        return m


class ArrayGrid(wiring.Component):
    """R rows of H arrays: R * L lanes by H * C columns.

    Row r has a part of the inputs (its own operations and weights), column h of tiles a part of the outputs; the sums
    of the R rows are added up, whole. So a matrix of N outputs and K inputs is ceil(N / (H * C)) * ceil(K / (R * L))
    rounds, each of n operations in every row, and a round costs max(n, H * tile_beats) cycles: the H tiles of a row are
    loaded one after the other while the round before runs.

    Parameters
    ----------
    params : GridParams
    rows, tiles : int       R and H

    Members
    -------
    beats : In(stream of beats) * R
    x : In(stream of `op_layout`) * R
    o : Out(stream of `result_layout`) * H

    Latency: `MacArray`'s and one register. Verilog: one module each of column, tile, row and sum, whatever R and H.
    """

    def __init__(self, params, *, rows, tiles):
        if rows < 1 or tiles < 1:
            raise ValueError(f"Grid must have at least 1 row and 1 tile in each, not {rows} and {tiles}")
        self._params, self._rows, self._tiles, array = params, rows, tiles, params.array
        super().__init__({
            "beats": In(stream.Signature(unsigned(params.beat_bits))).array(rows),
            "x": In(stream.Signature(array.op_layout)).array(rows),
            "o": Out(stream.Signature(array.result_layout)).array(tiles),
        })

    def elaborate(self, platform):
        m = Module()
        params = self._params
        rows = [GridRow(params, self._tiles) for _ in range(self._rows)]
        sums = [GridSum(params.array.result_layout, self._rows, params.name) for _ in range(self._tiles)]
        for r, row in enumerate(rows):
            m.submodules[f"row{r}"] = shared(row, row.module_name)
            connect(m, flipped(self.beats[r]), row.beats)
            connect(m, flipped(self.x[r]), row.x)
        for h, total in enumerate(sums):
            m.submodules[f"sum{h}"] = shared(total, total.module_name)
            for r, row in enumerate(rows):
                connect(m, row.o[h], total.i[r])
            connect(m, total.o, flipped(self.o[h]))
        return m
