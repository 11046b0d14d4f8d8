"""The weight stream: its sections, and where each byte of them belongs. Nothing else computes an address of it."""
from typing import NamedTuple

from .block import Norm, Project

__all__ = ["EMBEDDING", "FINAL_NORM", "HEAD", "HEADER", "POSITIONS", "Place", "Section", "Stream"]

HEADER, FINAL_NORM, HEAD, EMBEDDING, POSITIONS = "header", "norm_f", "head", "embedding", "positions"       # beside the names of a block's steps


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
    """
    name: str
    layer: int | None
    address: int
    beats: int
    matmul: object = None
    exponents: tuple = ()
    granules: int = 0
    vectors: tuple = ()

    @property
    def end(self):
        return self.address + self.beats


class Place(NamedTuple):
    """Where a byte of a matrix belongs: row, column, and which code of a pair (0: the high one)."""
    output: int
    input: int
    code: int


class Stream:
    """The sections of a design's stream, in order. ``stream[name]`` is one of no layer, ``stream[name, layer]`` one of a layer.

    A tied LM head is the embedding table too: ``stream[EMBEDDING]`` is ``stream[HEAD]``, which stands in the stream once. The table of
    learned positions has a row for each position that the machine has.
    """

    def __init__(self, design):
        self._design, self._sections, self._named = design, [], {}
        block = design.block
        self._add(HEADER, None, design.header_beats, exponents=(EMBEDDING, POSITIONS)[:design.embedding_rows()])
        for layer in range(design.layers):
            for step in block.steps:
                if isinstance(step, Norm):
                    self._record(step.name, layer, block.exponents(step.name),
                                 tuple((vector.name, design.vector_granules(vector)) for vector in block.vectors(step.name)))
                elif isinstance(step, Project):
                    self._matrix(step.name, layer, design.matmul(step.name))
        self._record(FINAL_NORM, None, (HEAD,), tuple((vector.name, design.vector_granules(vector)) for vector in block.final_vectors))
        self._matrix(HEAD, None, design.head_matmul)
        if design.model.tie_word_embeddings:
            self._named[EMBEDDING, None] = self[HEAD]
        else:
            self._matrix(EMBEDDING, None, design.head_matmul)
        if design.model.learned_positions:
            self._matrix(POSITIONS, None, design.position_matmul())

    def _matrix(self, name, layer, matmul):
        self._add(name, layer, matmul.tiles * self._design.hw.tile_beats, matmul)

    def _record(self, name, layer, exponents, vectors=()):
        granules = self._design.record_granules + sum(count for _, count in vectors)
        self._add(name, layer, -(-granules // self._design.granules_per_beat), exponents=exponents, granules=granules, vectors=vectors)

    def _add(self, name, layer, beats, matmul=None, exponents=(), granules=0, vectors=()):
        section = Section(name, layer, self.beats, beats, matmul, exponents, granules, vectors)
        self._sections.append(section)
        self._named[name, layer] = section

    def __iter__(self):
        return iter(self._sections)

    def __getitem__(self, key):
        return self._named[key if isinstance(key, tuple) else (key, None)]

    @property
    def beats(self):
        """Beats of the whole stream."""
        return self._sections[-1].end if self._sections else 0

    @property
    def body(self):
        """First beat of the layers, which end where the final norm's record begins."""
        return self[HEADER].end

    @property
    def layer_beats(self):
        """Beats of a layer: they are all alike."""
        return (self[FINAL_NORM].address - self.body) // self._design.layers

    def at(self, beat):
        """The section of a beat. IndexError if there is no such beat."""
        for section in self._sections:
            if section.address <= beat < section.end:
                return section
        raise IndexError(beat)

    def place(self, section, beat, byte):
        """The `Place` of a byte of a beat, of a section that is a matrix."""
        hw, matmul = self._design.hw, section.matmul
        tile, part = divmod(beat - section.address, hw.tile_beats)
        tile, code = divmod(tile, matmul.codes)
        n_tile, k_tile = divmod(tile, matmul.k_tiles)
        column, lane = divmod(part * hw.beat_bytes + byte, hw.lanes)
        return Place(n_tile * hw.columns + column, k_tile * hw.lanes + lane, code)

    def byte(self, section, output, input, code=0):
        """Byte of a weight, from the start of its section: `place` the other way round."""
        hw, matmul = self._design.hw, section.matmul
        tile = (output // hw.columns * matmul.k_tiles + input // hw.lanes) * matmul.codes + code
        return (tile * hw.columns + output % hw.columns) * hw.lanes + input % hw.lanes
