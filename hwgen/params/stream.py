"""The weight stream: its sections, and the address of each byte. No other module computes an address in it."""
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .block import Norm, Project

if TYPE_CHECKING:
    from .design import Design, Matmul

__all__ = ["BLOCK", "EMBEDDING", "FINAL_NORM", "HEAD", "HEADER", "POSITIONS", "Place", "Section", "Stream", "Tiling"]

#: Inputs of a block of E2M1 weights, which share an exponent: as in OCP's MXFP4.
BLOCK = 32

# beside the names of a block's steps
HEADER, FINAL_NORM, HEAD, EMBEDDING, POSITIONS = "header", "norm_f", "head", "embedding", "positions"

#: What `Stream` finds a section by.
Key = str | tuple[str, int | None]


@dataclass(frozen=True)
class Tiling:
    """The layout of a matrix in its section: the beat of each part, counted from the section's first beat.

    An n-tile is ``steps`` tiles one after the other (k-tiles, and of a pair hi and lo); each takes ``beats`` beats, or,
    if it is ``narrow``, half as
    many: of a single beat two tiles. The rows' offsets of ``row_tiles`` n-tiles stand in a beat before them, those of
    the blocks of ``block_steps`` steps in one before these; 0: there are none.
    """
    matmul: "Matmul"
    beats: int
    narrow: bool = False
    row_tiles: int = 0
    block_steps: int = 0

    @property
    def steps(self) -> int:
        return self.matmul.k_tiles * self.matmul.codes

    def _codes(self, steps: int) -> int:
        """Beats of the codes of so many steps that are whole beats."""
        return steps * self.beats >> self.narrow

    @property
    def n_tile_beats(self) -> int:
        """Beats of an n-tile, without its rows' offsets."""
        return -(-self.steps // self.block_steps if self.block_steps
                 else 0) + -(-self.steps * self.beats >> self.narrow)

    @property
    def all_beats(self) -> int:
        return self.n_tile(self.matmul.n_tiles - 1) + self.n_tile_beats

    def n_tile(self, j: int) -> int:
        """First beat of an n-tile, behind its rows' offsets."""
        return j * self.n_tile_beats + (j // self.row_tiles + 1 if self.row_tiles else 0)

    def rows(self, j: int) -> int:
        """The beat of the rows' offsets of an n-tile."""
        return self.n_tile(j - j % self.row_tiles) - 1

    def blocks(self, j: int, k: int) -> int:
        """The beat of the offsets of the blocks of a step."""
        return self.n_tile(j) + k // self.block_steps * (1 + self._codes(self.block_steps))

    def step(self, j: int, k: int) -> int:
        """First beat of a step."""
        return self.n_tile(j) + self._codes(k) + (k // self.block_steps + 1 if self.block_steps else 0)

    def waits(self, j: int) -> tuple[int, ...]:
        """Cycles from one tile's take to the next one's arrival, for each step of an n-tile: its beats, and those of
        offsets before it."""
        beats = max(1, self.beats >> self.narrow)
        return tuple(beats + bool(self.block_steps and k % self.block_steps == 0)
                     + bool(k == 0 and self.row_tiles and j % self.row_tiles == 0)
                     for k in range(self.steps))

    @property
    def plain(self) -> bool:
        """There are no offsets, and all tiles take the same time."""
        return not (self.narrow or self.row_tiles or self.block_steps)


class Section(NamedTuple):
    """A part of the stream.

    name        of the block's step, or HEADER, FINAL_NORM, HEAD, EMBEDDING, POSITIONS
    layer       None if it is of no layer
    address     of its first beat
    beats
    matmul      of a matrix, else None
    exponents   of a record: the names of the matrices whose exponents it holds, in order; of the header, of the tables
    granules    of a record: of its exponents, its gains and its vectors
    vectors     of a record: (name, granules) of the vectors behind its gains, in order
    tiling      of a matrix, else None
    """
    name: str
    layer: int | None
    address: int
    beats: int
    matmul: "Matmul | Any" = None       # Any: who has a matrix at hand need not ask whether it is None
    exponents: tuple[str, ...] = ()
    granules: int = 0
    vectors: tuple[tuple[str, int], ...] = ()
    tiling: Tiling | Any = None

    @property
    def end(self) -> int:
        return self.address + self.beats


class Place(NamedTuple):
    """The place of a byte in a matrix: row, column, and which code of a pair (0: the high one).

    ``of``: "codes"; or "rows" or "blocks", whose offsets are of this output and the next one (from this input on), as
    E2M1 codes are of this input and the next one; or "" where it is nothing.
    """
    output: int
    input: int
    code: int
    of: str = "codes"


class Stream:
    """The sections of a design's stream, in order. ``stream[name]`` is a section outside the layers, ``stream[name,
    layer]`` a layer's.

    A tied LM head without a format of its own is the embedding table too: ``stream[EMBEDDING]`` is ``stream[HEAD]``,
    which stands in the stream once. The table of learned positions has a row for each position that the machine has.
    Matrices that are logic have no section, and the head only as a table.
    """

    def __init__(self, design: "Design") -> None:
        self._design, self._sections = design, []
        self._named: dict[tuple[str, int | None], Section] = {}
        block = design.block
        self._add(HEADER, None, design.header_beats, exponents=(EMBEDDING, POSITIONS)[:design.embedding_rows()])
        for layer in range(design.layers):
            for step in block.steps:
                if isinstance(step, Norm):
                    self._record(step.name, layer, block.exponents(step.name),
                                 tuple((vector.name, design.vector_granules(vector))
                                       for vector in block.vectors(step.name)))
                elif isinstance(step, Project) and self.has_tiles(step.name):
                    self._matrix(step.name, layer, design.matmul(step.name), design.recipe.format_of(step.name, layer))
        self._record(FINAL_NORM, None, (HEAD,), tuple((vector.name, design.vector_granules(vector))
                                                      for vector in block.final_vectors))
        tied = design.recipe.ties(design.model)
        if self.has_tiles(HEAD) or tied:
            self._matrix(HEAD, None, design.head_matmul, design.recipe.format_of(HEAD))
        if tied:
            self._named[EMBEDDING, None] = self[HEAD]
        else:
            self._matrix(EMBEDDING, None, design.head_matmul)
        if design.model.learned_positions:
            self._matrix(POSITIONS, None, design.position_matmul())

    def _matrix(self, name, layer, matmul, fmt=None):
        tiling = self._design.tiling(matmul, fmt)
        self._add(name, layer, tiling.all_beats, matmul, tiling=tiling)

    def _record(self, name, layer, exponents, vectors=()):
        granules = self._design.record_granules + sum(count for _, count in vectors)
        self._add(name, layer, -(-granules // self._design.granules_per_beat), exponents=exponents, granules=granules,
                  vectors=vectors)

    def _add(self, name, layer, beats, matmul=None, exponents=(), granules=0, vectors=(), tiling=None):
        section = Section(name, layer, self.beats, beats, matmul, exponents, granules, vectors, tiling)
        self._sections.append(section)
        self._named[name, layer] = section

    def __iter__(self) -> Iterator[Section]:
        return iter(self._sections)

    def __getitem__(self, key: Key) -> Section:
        return self._named[key if isinstance(key, tuple) else (key, None)]

    def __contains__(self, key: Key) -> bool:
        return (key if isinstance(key, tuple) else (key, None)) in self._named

    def has_tiles(self, name: str) -> bool:
        """Whether a pass takes the matrices of a project, or the LM head (HEAD), from the stream: they are no logic."""
        return not self._design.hw.is_logic(name)

    @property
    def beats(self) -> int:
        """Beats of the whole stream."""
        return self._sections[-1].end if self._sections else 0

    @property
    def body(self) -> int:
        """First beat of the layers, which end where the final norm's record begins."""
        return self[HEADER].end

    @property
    def all_end(self) -> int:
        """Behind the last beat of a pass that wants output: that of the LM head, or, if it is logic, of the record
        before it."""
        return self[HEAD].end if self.has_tiles(HEAD) else self[FINAL_NORM].end

    @property
    def layer_beats(self) -> int:
        """Beats of a layer: they are all alike, but for formats of their own."""
        return (self[FINAL_NORM].address - self.body) // self._design.layers

    def at(self, beat: int) -> Section:
        """The section of a beat. IndexError if there is no such beat."""
        for section in self._sections:
            if section.address <= beat < section.end:
                return section
        raise IndexError(beat)

    def place(self, section: Section, beat: int, byte: int) -> Place:
        """The `Place` of a byte of a beat, of a section that is a matrix."""
        hw, matmul, tiling = self._design.hw, section.matmul, section.tiling
        beat -= section.address
        j = next(j for j in reversed(range(matmul.n_tiles)) if beat >= tiling.n_tile(j)
                 - bool(tiling.row_tiles and j % tiling.row_tiles == 0))
        group, column = divmod(2 * byte, hw.columns)
        if beat < tiling.n_tile(j):
            here = group < tiling.row_tiles and j + group < matmul.n_tiles
            return Place((j + group) * hw.columns + column, 0, 0, "rows" if here else "")
        k = next(k for k in reversed(range(tiling.steps)) if beat >= tiling.step(j, k)
                 - bool(tiling.block_steps and k % tiling.block_steps == 0))
        if beat < tiling.step(j, k):
            block = group
            first = k // tiling.block_steps * tiling.block_steps * hw.lanes + BLOCK * block
            here = first < min(matmul.cols, (k // tiling.block_steps + 1) * tiling.block_steps * hw.lanes)
            return Place(j * hw.columns + column, first, 0, "blocks" if here else "")
        place = (beat - tiling.step(j, k)) * hw.beat_bytes + byte
        if tiling.narrow:
            place *= 2
            if tiling.beats == 1:       # two steps in a beat
                k = k // 2 * 2 + place // (hw.columns * hw.lanes)
        column, lane = divmod(place % (hw.columns * hw.lanes), hw.lanes)
        k_tile, code = divmod(k, matmul.codes)
        return Place(j * hw.columns + column, k_tile * hw.lanes + lane, code, "codes" if k < tiling.steps else "")

    def byte(self, section: Section, output: int, input: int, code: int = 0) -> int:
        """Byte of a weight's code, from the start of its section: `place` the other way round. (An E2M1 code is its
        lower half if the input is even.)"""
        hw, tiling = self._design.hw, section.tiling
        k = input // hw.lanes * section.matmul.codes + code
        place = output % hw.columns * hw.lanes + input % hw.lanes
        if tiling.narrow:
            place = place + (k % 2) * hw.columns * hw.lanes >> 1 if tiling.beats == 1 else place >> 1
        return tiling.step(output // hw.columns, k) * hw.beat_bytes + place

    def row_byte(self, section: Section, output: int) -> int:
        """Byte of a row's offset, from the start of its section: its lower half if the output is even."""
        hw, tiling = self._design.hw, section.tiling
        j, column = divmod(output, hw.columns)
        return tiling.rows(j) * hw.beat_bytes + (j % tiling.row_tiles * hw.columns + column) // 2

    def block_byte(self, section: Section, output: int, block: int) -> int:
        """Byte of a block's offset, as `row_byte`."""
        hw, tiling = self._design.hw, section.tiling
        per_beat = tiling.block_steps * hw.lanes // BLOCK
        beat = tiling.n_tile(output // hw.columns) + block // per_beat * (1 + tiling._codes(tiling.block_steps))
        return beat * hw.beat_bytes + (block % per_beat * hw.columns + output % hw.columns) // 2
