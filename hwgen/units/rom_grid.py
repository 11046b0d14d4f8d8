"""A grid of MAC arrays that each own their slice of the weights: a ROM beside each array, and no stream that they
share."""
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from ..lib.fp8_dot import expand_e2m1
from ..lib.layouts import OFFSET_BITS
from ..lib.rom import FileRom
from ..lib.verilog import shared
from ..params.formats import E2M1
from ..params.stream import BLOCK
from .array_grid import GridSum, grid_name
from .mac_array import ArrayParams, MacArray

__all__ = ["ColumnCodes", "RomGrid", "RomGridParams", "RomTile", "run_layout", "word_layout"]


@dataclass(frozen=True, kw_only=True)
class RomGridParams:
    """What all parts of a grid with ROMs are made for.

    array           of one array; ``acc_bits`` must hold whole sums, of all rows
    words           of each ROM, at least 2: each is a tile
    narrow          all weights are in E2M1; else all are of 8 bits
    largest_block   the largest offset of a block of E2M1 weights; 0: blocks have none
    """
    array: ArrayParams
    words: int
    narrow: bool = False
    largest_block: int = 0

    def __post_init__(self):
        if self.words < 2:
            raise ValueError(f"ROM of a tile must have at least 2 words, not {self.words}")
        if self.narrow and self.array.weight.bits == 8:
            raise ValueError("Weights of a grid with ROMs must all be of 8 bits, or all in e2m1")

    @property
    def word_layout(self):
        return word_layout(self.array, narrow=self.narrow, largest_block=self.largest_block)

    @property
    def name(self):
        """What tells the parts of two grids apart."""
        array = self.array
        return (f"{array.weight}_{array.activation}_l{array.lanes}_c{array.columns}_t{array.entries}"
                f"_v{array.vector_lanes}_a{array.acc_bits}_o{self.largest_block}{'_rows' * array.row_offsets}")


def word_layout(array, *, narrow=False, largest_block=0):
    """A tile as its ROM has it: codes as those of `hwgen.lib.layouts.tile_layout`, but in E2M1 where all weights are;
    of each 32 lanes (or of all, if these are fewer) the offsets of the columns' blocks; the offsets of the columns'
    rows. The arguments are as those of `RomGridParams`."""
    columns, groups = ArrayLayout(unsigned(OFFSET_BITS), array.columns), max(1, array.lanes // BLOCK)
    return StructLayout({
        "codes": ArrayLayout(unsigned(E2M1.bits if narrow else 8), array.columns * array.lanes),
        **({"blocks": ArrayLayout(columns, groups)} if largest_block else {}),
        **({"rows": columns} if array.row_offsets else {})})


def run_layout(words):
    """The words of a matrix, ``first`` to ``last``: in every ROM the same."""
    return StructLayout({"first": range(words), "last": range(words)})


class ColumnCodes(wiring.Component):
    """The codes of a column in the array's format, of E2M1 codes and the offsets of their blocks; no register.

    Parameters
    ----------
    weight : Fp8            the array's format
    lanes : int             L
    largest_block : int     the largest offset, at least 1

    Members
    -------
    i : In(L codes in E2M1), blocks : In(an offset of each 32 of them), o : Out(L codes)
    """

    def __init__(self, *, weight, lanes, largest_block):
        self._weight, self._lanes, self._largest_block = weight, lanes, largest_block
        super().__init__({"i": In(E2M1.bits * lanes), "blocks": In(OFFSET_BITS * max(1, lanes // BLOCK)),
                          "o": Out(weight.bits * lanes)})

    @property
    def module_name(self):
        return f"column_codes_{self._weight}_l{self._lanes}_o{self._largest_block}"

    def elaborate(self, platform):
        m = Module()
        fmt, bits, found = self._weight, self._largest_block.bit_length(), []
        for lane in range(self._lanes):
            offset = self.blocks.word_select(lane // BLOCK, OFFSET_BITS)[:bits]
            found.append(expand_e2m1(m, fmt, self.i.word_select(lane, E2M1.bits), offset, name=f"code{lane}"))
        m.d.comb += self.o.eq(Cat(found))
        return m


class RomTile(wiring.Component):
    """A `MacArray` and what reads the words of its ROM, one in a cycle, each a tile.

    params : RomGridParams
    runs : In(stream of `run_layout`)       one after the other without a gap
    rom_en, rom_address : Out; rom_data : In        of a memory with a register at its output, `hwgen.lib.rom.FileRom`
    x, o : as `MacArray`'s
    """

    def __init__(self, params):
        self._params, words = params, params.words
        super().__init__({
            "runs": In(stream.Signature(run_layout(words))),
            "rom_en": Out(1), "rom_address": Out(range(words)), "rom_data": In(params.word_layout.size),
            "x": In(stream.Signature(params.array.op_layout)),
            "o": Out(stream.Signature(params.array.result_layout)),
        })

    @property
    def module_name(self):
        return f"rom_tile_{self._params.words}_{self._params.name}"

    def elaborate(self, platform):
        m = Module()
        params, sizes = self._params, self._params.array
        m.submodules.array = array = MacArray(sizes)
        connect(m, flipped(self.x), array.x)
        connect(m, array.o, flipped(self.o))

        reading, there, read = Signal(name="reading"), Signal(name="there"), Signal(name="read")
        address, last = (Signal(range(params.words), name=name, reset_less=True) for name in ("address", "last"))
        m.d.comb += [read.eq(reading & (~there | array.tile.ready)), self.rom_en.eq(read), self.rom_address.eq(address),
                     array.tile.valid.eq(there), self.runs.ready.eq(~reading | read & (address == last))]
        with m.If(~there | array.tile.ready):
            m.d.sync += there.eq(reading)
        with m.If(read):
            m.d.sync += address.eq(address + 1)
        with m.If(self.runs.ready):
            m.d.sync += [reading.eq(self.runs.valid), address.eq(self.runs.p.first), last.eq(self.runs.p.last)]

        word = params.word_layout(self.rom_data)
        codes = word.codes.as_value()
        if params.largest_block:
            columns = [ColumnCodes(weight=sizes.weight, lanes=sizes.lanes, largest_block=params.largest_block)
                       for _ in range(sizes.columns)]
            for c, column in enumerate(columns):
                m.submodules[f"codes{c}"] = shared(column, column.module_name)
                m.d.comb += [column.i.eq(codes.word_select(c, E2M1.bits * sizes.lanes)),
                             column.blocks.eq(Cat(group[c] for group in word.blocks))]
            codes = Cat(column.o for column in columns)
        m.d.comb += array.tile.payload.eq(Cat(codes, word.rows.as_value()) if sizes.row_offsets else codes)
        return m


class RomGrid(wiring.Component):
    """R rows of H tiles, a ROM beside each: R * L lanes by H * C columns, all of whose weights are read in each cycle.

    Row r has a part of the inputs (its own operations), column h of tiles a part of the outputs; the sums of the R rows
    are added up, whole. A matrix of N outputs and K inputs is ceil(N / (H * C)) * ceil(K / (R * L)) words of each ROM,
    and as many rounds of n cycles for n entries. All ROMs are read at the same addresses.

    Parameters
    ----------
    params : RomGridParams
    rows, tiles : int       R and H
    images : str            the ROM of tile h in row r is initialized from the file ``IMAGESrR_hH.hex``, a word a line
                            (`hwgen.lib.rom.hex_lines`)

    Members
    -------
    runs : In(stream of `run_layout`)       matrices in the order in which their operations come
    x : In(stream of `op_layout`) * R       of a row: goes to its tiles in the same cycle, when all can take it
    o : Out(stream of `result_layout`) * H

    The first tile is at the arrays two cycles after a run was taken; the next run's follow without a gap. Latency:
    `MacArray`'s and one register. Verilog: one module each of column, tile, memory and sum, whatever R and H. The
    memory's module is ``<top>_slice``: a macro of a memory compiler takes its place.

    Raises
    ------
    ValueError              for an empty grid
    """

    def __init__(self, params, *, rows, tiles, images="slice_"):
        if rows < 1 or tiles < 1:
            raise ValueError(f"Grid must have at least 1 row and 1 tile in each, not {rows} and {tiles}")
        self._params, self._rows, self._tiles, self._images = params, rows, tiles, images
        super().__init__({
            "runs": In(stream.Signature(run_layout(params.words))),
            "x": In(stream.Signature(params.array.op_layout)).array(rows),
            "o": Out(stream.Signature(params.array.result_layout)).array(tiles),
        })

    def elaborate(self, platform):
        m = Module()
        params, every = self._params, []
        sums = [GridSum(params.array.result_layout, self._rows, grid_name(params.array, tile_beats=1))
                for _ in range(self._tiles)]
        for r in range(self._rows):
            row = [RomTile(params) for _ in range(self._tiles)]
            every += row
            for h, tile in enumerate(row):
                rom = FileRom(params.word_layout.size, params.words, file=f"{self._images}r{r}_h{h}.hex",
                              name="slice", own=True)
                m.submodules[f"rom{r}_{h}"] = rom
                m.submodules[f"tile{r}_{h}"] = shared(tile, tile.module_name)
                m.d.comb += [rom.en.eq(tile.rom_en), rom.address.eq(tile.rom_address), tile.rom_data.eq(rom.data),
                             tile.x.valid.eq(self.x[r].valid & self.x[r].ready), tile.x.payload.eq(self.x[r].payload),
                             tile.runs.valid.eq(self.runs.valid & self.runs.ready),
                             tile.runs.payload.eq(self.runs.payload)]
                connect(m, tile.o, sums[h].i[r])
            m.d.comb += self.x[r].ready.eq(Cat(tile.x.ready for tile in row).all())
        m.d.comb += self.runs.ready.eq(Cat(tile.runs.ready for tile in every).all())
        for h, total in enumerate(sums):
            m.submodules[f"sum{h}"] = shared(total, total.module_name)
            connect(m, total.o, flipped(self.o[h]))
        return m
