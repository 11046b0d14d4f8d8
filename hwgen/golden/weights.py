"""The dispatcher's twin: its outputs and their cycles, with a source like the ROM and without stalls.

Values come from a packed stream, uint8 [stream_beats, beat_bytes] (`hwgen.models.pack`). Cycles count from the one that
takes the pass's first command; all entries' commands are offered without a gap.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..params.design import Design, Matmul
from ..params.formats import Fp8
from ..params.phases import turn
from ..params.stream import BLOCK, EMBEDDING, FINAL_NORM, HEAD, HEADER, POSITIONS, Section, Tiling

__all__ = ["Piece", "ROM_LATENCY", "beats_taken", "block_offsets", "embed_cycle", "embed_done_cycle", "embed_exponent",
           "embedding_row", "expanded", "exps_cycle", "gain_cycle", "matrix_of", "model_id", "pieces",
           "position_exponent", "position_row", "record", "record_end",
           "record_first", "request_list", "row_offset", "row_offsets", "stored_codes", "tile_after_tile_cycle",
           "tiles", "waits"]

ROM_LATENCY = 5     # cycles from taking a request to its first beat


# Values

def matrix_of(section: Section) -> tuple[Matmul, Tiling]:
    """`Matmul` and `Tiling` of a section that is a matrix."""
    assert isinstance(section.matmul, Matmul) and section.tiling is not None
    return section.matmul, section.tiling


def _words(stream, design, address, beats):
    """int64: the 16-bit words of some beats."""
    return stream[address:address + beats].reshape(-1).view("<u2").astype(np.int64)


def _signed10(words):
    return (words + 512) % 1024 - 512


def embed_exponent(stream: np.ndarray, design: Design) -> int:
    """Exponent of the embedding table, from the header."""
    return int(_signed10(_words(stream, design, 0, design.header_beats)[0]))


def position_exponent(stream: np.ndarray, design: Design) -> int:
    """Exponent of the table of learned positions, from the header."""
    return int(_signed10(_words(stream, design, 0, design.header_beats)[1]))


def model_id(stream: np.ndarray, design: Design) -> int:
    """32 bits that tell models apart, from the header."""
    words = _words(stream, design, 0, design.header_beats)
    return int(words[2] + (words[3] << 16))


class Piece(NamedTuple):
    """A section of the stream by its name, a record or a matrix, as one half-batch needs it. ``layer``: 0 if it is of
    no layer."""
    name: str
    half: int
    layer: int


def pieces(design: Design, both: bool, wants_head: Sequence[bool]) -> Iterator[Piece]:
    """The order in which two half-batches read records and matrices (docs/architecture.md, section 5).

    both            the second half has entries
    wants_head      (bool, bool): some entry of that half wants output
    """
    order, present = turn(design.block), [True, both]
    yield Piece(order.opening.name, 0, 0)
    for step in range(2 * design.layers + 1):
        layer, x = divmod(step, 2)
        y, behind = 1 - x, (step + 1) // 2 - 1          # the other half and the layer of its MLP
        attends = layer < design.layers and present[x]
        if attends:
            yield from (Piece(of.name, x, layer) for of in order.attention)
        if present[y]:
            if step:
                yield from (Piece(of.name, y, behind) for of in order.mlp)
            if behind + 1 < design.layers:
                yield Piece(order.opening.name, y, behind + 1)
            elif wants_head[y]:
                yield Piece(FINAL_NORM, y, 0)
        if attends:
            yield from (Piece(of.name, x, layer) for of in order.rest)
    for half in (0, 1):
        if wants_head[half]:
            yield Piece(HEAD, half, 0)


def _piece_request(design, piece):
    """(address, count, stride) of a piece."""
    section = design.stream[piece.name] if piece.name in (FINAL_NORM, HEAD) else design.stream[piece.name, piece.layer]
    return section.address, section.beats, 0


def _row_request(design, name, row):
    """[(address, count, stride)] of a row of a table: before its codes comes the beat that has its offset, if it has
    one."""
    hw, section = design.hw, design.stream[name]
    _, tiling = matrix_of(section)
    tile, column = divmod(row, hw.columns)
    codes = section.address + tiling.n_tile(tile) + column * hw.tile_beats // hw.columns, tiling.steps, 1
    return [(section.address + tiling.rows(tile), 1, 0), codes] if design.scaled else [codes]


def request_list(design: Design, tokens: Sequence[int], wants_head: bool | Sequence[bool],
                 positions: Sequence[int] | None = None) -> list[tuple[int, int, int]]:
    """[(address, count, stride)] that a pass asks for. ``wants_head``: the LM head is wanted; where two half-batches
    alternate, by each.

    ``positions``: of the entries, where they are learned.
    """
    hw, stream = design.hw, design.stream
    requests = [(stream[HEADER].address, stream[HEADER].beats, 0)]
    for i, token in enumerate(tokens):
        requests += _row_request(design, EMBEDDING, token)
        if design.model.learned_positions:
            assert positions is not None
            requests += _row_request(design, POSITIONS, positions[i])
    if hw.halves == 2:
        both = len(tokens) > hw.entries // 2
        assert not isinstance(wants_head, bool)
        return requests + [_piece_request(design, piece) for piece in pieces(design, both, wants_head)]
    end = stream.all_end if wants_head else stream[FINAL_NORM].address
    return [*requests, (stream.body, end - stream.body, 0)]


def embedding_row(stream: np.ndarray, design: Design, token: int) -> np.ndarray:
    """A token's codes, uint8 [codes, hidden]: hi, and lo if the table has pairs."""
    return _table_row(stream, design, EMBEDDING, token)


def position_row(stream: np.ndarray, design: Design, position: int) -> np.ndarray:
    """A learned position's codes, as `embedding_row`."""
    return _table_row(stream, design, POSITIONS, position)


def row_offset(stream: np.ndarray, design: Design, name: str, number: int) -> int:
    """The offset of a row of a table: 0 where there are none."""
    section = design.stream[name]
    return int(row_offsets(stream, design, section)[number]) if design.scaled else 0


def _table_row(stream, design, name, number):
    hw, section = design.hw, design.stream[name]
    (table, _), matrix = matrix_of(section), tiles(stream, design, section)
    tile, column = divmod(number, hw.columns)
    row = matrix.reshape(table.n_tiles, table.k_tiles, table.codes, hw.columns, hw.lanes)[tile, :, :, column]
    return row.swapaxes(0, 1).reshape(table.codes, table.cols)


def record(stream: np.ndarray, design: Design, section: Section) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(exponents int64 [block.record_words], gains uint16 [hidden], words uint16 of the vectors behind them) of a
    section that is a record."""
    words = _words(stream, design, section.address, section.beats)
    start, v = design.record_header_granules * design.hw.vector_lanes, design.hw.vector_lanes
    after = start + design.padded_hidden_size
    gains, vectors = words[start:after], words[after:section.granules * v]
    return _signed10(words[:design.block.record_words]), gains.astype(np.uint16), vectors.astype(np.uint16)


def tiles(stream: np.ndarray, design: Design, section: Section) -> np.ndarray:
    """Tiles of a section that is a matrix, in codes of the array's format: uint8 [tiles, columns * lanes]."""
    matmul, tiling = matrix_of(section)
    codes = stored_codes(stream, design, section)
    if tiling.narrow:
        blocks = np.arange(matmul.k_tiles * design.hw.lanes) // BLOCK
        offsets = (block_offsets(stream, design, section)[:, blocks] if tiling.block_steps
                   else np.zeros((matmul.rows, len(blocks)), np.uint8))
        offsets = offsets.reshape(matmul.n_tiles, design.hw.columns, -1, design.hw.lanes).swapaxes(1, 2)
        codes = expanded(codes, offsets, design.array_format, design.largest_block)
    return codes.reshape(matmul.tiles, -1)


def stored_codes(stream: np.ndarray, design: Design, section: Section) -> np.ndarray:
    """The codes of a matrix's section as they are stored, 8 or 4 bits each: uint8 [n_tiles, steps, columns, lanes]."""
    hw, beats = design.hw, stream[section.address:section.end]
    matmul, tiling = matrix_of(section)
    shape = matmul.n_tiles, tiling.steps, hw.columns, hw.lanes
    if tiling.plain:
        return beats.reshape(shape)
    found = np.empty((*shape[:2], hw.columns * hw.lanes), np.uint8)
    for j in range(shape[0]):
        for k in range(shape[1]):
            codes = beats[tiling.step(j, k):][:max(1, tiling.beats >> tiling.narrow)].reshape(-1)
            if tiling.narrow:       # a beat may have the codes of two steps
                codes = _nibbles(codes).reshape(-1, found.shape[2])[k % 2 if tiling.beats == 1 else 0]
            found[j, k] = codes
    return found.reshape(shape)


def _nibbles(data):
    """Numbers of 4 bits, of each byte the lower half first: uint8 [..., n] -> uint8 [..., 2 n]."""
    return np.stack([data & 15, data >> 4], axis=-1).reshape(*data.shape[:-1], -1)


def row_offsets(stream: np.ndarray, design: Design, section: Section) -> np.ndarray:
    """Offsets of the rows of a section that is a matrix, as they are stored: uint8 [rows]."""
    (matmul, tiling), columns = matrix_of(section), design.hw.columns
    return np.concatenate([_nibbles(stream[section.address + tiling.rows(j)])[j % tiling.row_tiles * columns:][:columns]
                           for j in range(matmul.n_tiles)])


def block_offsets(stream: np.ndarray, design: Design, section: Section) -> np.ndarray:
    """Offsets of the blocks of a section in E2M1, as they are stored: uint8 [rows, blocks], as many blocks as there is
    room for."""
    (matmul, tiling), columns = matrix_of(section), design.hw.columns
    return np.concatenate([np.concatenate([_nibbles(stream[section.address
                                                           + tiling.blocks(j, k)]).reshape(-1, columns).T
                                           for k in range(0, tiling.steps, tiling.block_steps)], axis=1)
                                           for j in range(matmul.n_tiles)])


def expanded(codes: ArrayLike, offsets: ArrayLike, fmt: Fp8, largest: int) -> np.ndarray:
    """E2M1 codes times 2**offset in another format, uint8: by their bits, for all codes. The offset has the bits of
    ``largest``."""
    codes, offsets = np.asarray(codes, np.int64), np.asarray(offsets, np.int64) & (1 << largest.bit_length()) - 1
    exponent, fraction = codes >> 1 & 3, codes & 1 & (codes >> 1 & 3 != 0)
    place, man = exponent + offsets, fmt.man_bits           # the highest bit of the magnitude
    small, field = (2 | fraction) << np.minimum(place, man) >> 1, place - man + 1 & (1 << fmt.exp_bits) - 1
    magnitude = np.where(codes & 7 == 0, 0, np.where(place < man, small, field << man | fraction << man - 1))
    return (magnitude | codes >> 3 << fmt.bits - 1).astype(np.uint8)


# Cycles

def _row_granules(design):
    """Embedding granules of an entry: of its row in each table, all codes."""
    return design.embedding_rows() * design.head_matmul.codes * design.padded_hidden_size // design.hw.vector_lanes


def embed_cycle(design: Design, granule: int) -> int:
    """Cycle that transfers an embedding granule; they are counted over the whole pass."""
    # The header's granules enter the register from cycle ROM_LATENCY on, the rows' right behind them, each behind its
    # offset if it has one.
    offsets = granule // (_row_granules(design) // design.embedding_rows()) + 1 if design.scaled else 0
    return ROM_LATENCY + design.record_header_granules + offsets + granule + 1


def embed_done_cycle(design: Design, n: int) -> int:
    """Cycle that transfers the final embedding granule of n entries."""
    return embed_cycle(design, n * _row_granules(design) - 1)


def record_first(design: Design, n: int) -> int:
    """The cycle before the first record's first granule enters the register: stands for "the previous tile's take"."""
    return embed_done_cycle(design, n) - 1


def exps_cycle(design: Design, previous: int) -> int:
    """First cycle that shows a record's exponents, of the cycle that took the tile before it."""
    return previous + design.record_header_granules + 2


def gain_cycle(design: Design, previous: int, granule: int) -> int:
    """Cycle that transfers a granule of gains, of the cycle that took the tile before its record."""
    return previous + design.record_header_granules + granule + 2


def record_end(section: Section, previous: int) -> int:
    """The cycle that counts as a record's take of a tile, from the cycle that took the tile before the record, whose
    `Section` it is.

    A record that follows another one begins behind that one's `record_end`.
    """
    return previous + section.granules


def tile_after_tile_cycle(tiling: Tiling, previous: int, tile: int = 0) -> int:
    """Cycle in which a tile of a matrix is valid, of the cycle that took the one before it."""
    return previous + tiling.waits(tile // tiling.steps)[tile % tiling.steps]


# Counters

def beats_taken(design: Design, n: int, wants_head: bool | Sequence[bool]) -> int:
    """Beats that a pass takes from the source."""
    return sum(count for _, count, _ in request_list(design, [0] * n, wants_head, [0] * n))


def waits(design: Design) -> int:
    """Cycles in which a pass wants a beat that is not there: until the header's first, and never again."""
    return ROM_LATENCY - 1
