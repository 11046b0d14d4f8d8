"""What the dispatcher of the weight stream (`hwgen.units.dispatcher`) and its parts in this folder are made for."""
from dataclasses import dataclass
from functools import cached_property

from ..params.block import Block, Norm, Project
from ..params.design import Matmul
from ..params.formats import Fp8
from ..params.stream import EMBEDDING, FINAL_NORM, HEAD, Stream

__all__ = ["StreamParams"]


@dataclass(frozen=True, kw_only=True)
class StreamParams:
    """A weight stream, who asks for it, and who takes what it holds.

    stream              the sections, each with its place
    block               what a layer is made of
    layers
    matmuls             of a layer's projects, in order
    head_matmul         of the LM head, as which the tables of tokens and positions are laid out
    vocab_size          rows of the table of tokens
    positions           rows of the table of learned positions; 0: positions are not learned
    entries             of a pass, at most (T)
    halves              2 where two half-batches take turns, else 1
    lanes, columns      of the array (L, C)
    vector_lanes        elements of a granule (V)
    tile_beats          beats of a tile (B)
    weight              format of the array's weights
    largest_block       the largest offset of a block of E2M1 weights; 0: blocks have none
    """
    stream: Stream
    block: Block
    layers: int
    matmuls: tuple[Matmul, ...]
    head_matmul: Matmul
    vocab_size: int
    positions: int = 0
    entries: int
    halves: int = 1
    lanes: int
    columns: int
    vector_lanes: int
    tile_beats: int
    weight: Fp8
    largest_block: int = 0

    def matmul(self, name):
        """The `Matmul` of a project."""
        return next(matmul for matmul in self.matmuls if matmul.name == name)

    def tiles(self, name):
        """Tiles of a project's matrix, or of the LM head (HEAD), in the stream: 0 of what is logic."""
        return (self.head_matmul if name == HEAD else self.matmul(name)).tiles * self.stream.has_tiles(name)

    @property
    def tables(self):
        """Tables of which an entry reads a row each: of tokens, and of positions where they are learned."""
        return 2 if self.positions else 1

    @property
    def pair(self):
        """A weight of the LM head, and of a table, is two codes."""
        return self.head_matmul.codes == 2

    @property
    def wired(self):
        """All matrices are logic: the stream has none."""
        return not any(self.tiles(name) for name in (*(matmul.name for matmul in self.matmuls), HEAD))

    @cached_property
    def tilings(self):
        """The `Tiling` s of all matrices of the stream."""
        return [section.tiling for section in self.stream if section.tiling]

    @property
    def row_offsets(self):
        """Rows of matrices and tables have offsets."""
        return self.stream[EMBEDDING].tiling.row_tiles > 0

    @cached_property
    def narrow(self):
        """Some matrices are in E2M1."""
        return any(tiling.narrow for tiling in self.tilings)

    @cached_property
    def mixed_layers(self):
        """Layers have different formats."""
        return any(self.stream[project.name, layer].tiling.narrow != self.stream[project.name, 0].tiling.narrow
                   for project in self.block.of(Project) if self.tiles(project.name) for layer in range(self.layers))

    @property
    def beat_bytes(self):
        return self.lanes * self.columns // self.tile_beats

    @property
    def granules_per_beat(self):
        return self.beat_bytes // (2 * self.vector_lanes)

    @property
    def row_granules(self):
        """Granules of a row of a table, and of a norm's gains."""
        return self.head_matmul.cols // self.vector_lanes

    @property
    def header_granules(self):
        """Granules of the stream's header, and of a record's exponents."""
        return -(-self.block.record_words // self.vector_lanes)

    @cached_property
    def vector_granules(self):
        """Granules of the vectors of each record of a layer, and of the final norm's if it has any."""
        records = [self.stream[norm.name, 0] for norm in self.block.of(Norm)]
        if self.block.final_vectors:
            records.append(self.stream[FINAL_NORM])
        return [sum(count for _, count in record.vectors) for record in records]
