"""The packed weight stream: every byte that a pass reads, in the order in which it reads them."""
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from ..params.block import Norm, Project
from ..params.design import Design, Matmul
from ..params.stream import BLOCK, EMBEDDING, FINAL_NORM, HEAD, HEADER, POSITIONS, Tiling
from .quantize import Layer, QuantizedModel

__all__ = ["matrix_rows", "model_id", "pack", "pack_file", "sections", "tile_beats", "tiled_inputs"]


def model_id(quantized: QuantizedModel) -> int:
    """32 bits that tell models apart: the start of the quantized model's digest."""
    return int(quantized.digest[:8], 16)


def pack(quantized: QuantizedModel, design: Design, out: np.ndarray | None = None) -> np.ndarray:
    """The weight stream of docs/architecture.md as uint8 [design.stream_beats, design.hw.beat_bytes].

    ``out``, if given, is filled and returned: an array or memmap of that shape.

    Raises
    ------
    ValueError              if the model is not the design's, its recipe another, or a scale out of range
    """
    size = (design.stream_beats, design.hw.beat_bytes)
    if out is None:
        out = np.empty(size, np.uint8)
    elif out.shape != size or out.dtype != np.uint8:
        raise ValueError(f"Array for the stream must be uint8 {list(size)}, not {out.dtype} {list(out.shape)}")
    address = 0
    for beats in sections(quantized, design):
        out[address:address + len(beats)] = beats
        address += len(beats)
    return out


def pack_file(quantized: QuantizedModel, design: Design, file: BinaryIO) -> None:
    """Write the stream to a binary file, a section at a time: no more than one matrix is in memory twice."""
    for beats in sections(quantized, design):
        file.write(np.ascontiguousarray(beats).data)


def sections(quantized: QuantizedModel, design: Design) -> Iterator[np.ndarray]:
    """The stream in parts, in the order of `Design.stream`. Each is uint8 [beats, beat_bytes]."""
    _check(quantized, design)
    block = design.block
    gains = {norm.name: norm.gain for norm in block.of(Norm)}
    projects = {project.name: project for project in block.of(Project)}
    tables = {HEAD: quantized.head, EMBEDDING: quantized.embedding}
    if quantized.positions is not None:
        tables[POSITIONS] = quantized.positions
    for section in design.stream:
        if section.name == HEADER:
            identity = model_id(quantized)
            # in 8 bits, as the residual takes them
            exponents = [tables[name].exponent for name in section.exponents]
            yield _words(design, [*exponents, 0][:2] + [identity & 0xFFFF, identity >> 16])
        elif section.name == FINAL_NORM:
            yield _words(design, [design.stored_exponent(tables[name]) for name in section.exponents],
                         quantized.final_gain,
                         [_padded(getattr(quantized, vector.name), design, vector) for vector in block.final_vectors])
        elif section.name in tables:
            table = tables[section.name]
            yield _tiles(design, section.tiling, table.codes, table.lo, table.rows, table.blocks)
        elif section.name in gains:
            assert section.layer is not None
            layer = quantized.layers[section.layer]
            yield _words(design, [design.stored_exponent(getattr(layer, name)) for name in section.exponents],
                         getattr(layer, gains[section.name]),
                         [_vector(layer, design, vector) for vector in block.vectors(section.name)])
        else:
            assert section.layer is not None
            layer, project = quantized.layers[section.layer], projects[section.name]
            yield _tiles(design, section.tiling, _codes(layer, design, project), None,
                         _offsets(layer, design, project, "rows", section.tiling.row_tiles),
                         _offsets(layer, design, project, "blocks", section.tiling.block_steps))


def _check(quantized, design):
    if quantized.shape != design.model:
        raise ValueError(f"Model must be the design's {design.model.name}, not {quantized.shape.name} (their "
                         "shapes differ)")
    if quantized.recipe != design.recipe:
        raise ValueError("Recipe of the quantized model must be the design's: quantize again")
    sections = [(section, matrix) for section in design.stream if section.matmul
                for matrix in _matrices(quantized, design, section)]
    for section, matrix in sections:
        tiling = section.tiling
        largest = matrix.exponent + (0 if matrix.rows is None else int(matrix.rows.max(initial=0)))
        if section.layer is None and matrix.rows is not None and largest > 511:
            raise ValueError(f"Scale exponent of {section.name} must fit 10 bits with its rows' offsets, not "
                             f"{matrix.exponent} + {matrix.rows.max()}")
        for part, wanted, most, noun in ((matrix.rows, tiling.row_tiles,
                                          design.recipe.row_offsets(HEAD if section.layer is None else section.name),
                                          "rows"),
                                         (matrix.blocks, tiling.block_steps, design.largest_block, "blocks")):
            if (part is not None) != bool(wanted) or part is not None and part.max(initial=0) > most:
                raise ValueError(f"Offsets of {noun} of {section.name} must be "
                                 f"{f'0 to {most}' if wanted else 'none'}, as the recipe says: quantize again")


def _matrices(quantized, design, section):
    """The matrices of a section."""
    if section.layer is None:
        return [{HEAD: quantized.head, EMBEDDING: quantized.embedding, POSITIONS: quantized.positions}[section.name]]
    project = next(project for project in design.block.of(Project) if project.name == section.name)
    return [getattr(quantized.layers[section.layer], name) for name in project.matrices]


def _words(design, head, gains=None, vectors=()):
    """A record, or the header: words of exponents padded to granules, the gains, the vectors, zeros up to a whole
    beat."""
    hw = design.hw
    for exponent in head if gains is not None else head[:2]:
        if not -512 <= exponent < 512:
            raise ValueError(f"Scale exponent must fit 10 bits, -512 to 511, not {exponent}")
    start, beats = design.record_header_granules * hw.vector_lanes, design.header_beats
    head = list(head) + [0] * (design.block.record_words - len(head))
    if gains is not None:
        end = start + design.padded_hidden_size + sum(map(len, vectors))
        beats = -(-end * 2 // hw.beat_bytes)
    words = np.zeros(beats * hw.beat_bytes // 2, np.uint16)
    words[:design.block.record_words] = np.array(head, np.int64) & 0xFFFF
    if gains is not None:
        words[start:start + len(gains)] = gains
        words[start + design.padded_hidden_size:end] = np.concatenate([np.zeros(0, np.uint16), *vectors])
    return words.astype("<u2").view(np.uint8).reshape(beats, hw.beat_bytes)


def _heads(values, design, rotary=False):
    """Rows [heads * head_dim, n] -> [heads * design.padded_head_dim, n]: each head padded, rotary pairs made
    neighbours."""
    size = design.model.head_dim
    heads = values.reshape(-1, size, values.shape[1])
    if rotary:
        heads = heads[:, design.model.rotary_order()]
    padded = np.zeros((len(heads), design.padded_head_dim, values.shape[1]), values.dtype)
    padded[:, :size] = heads
    return padded.reshape(-1, values.shape[1])


def matrix_rows(values: Mapping[str, np.ndarray], design: Design, project: Project) -> np.ndarray:
    """Rows of a `Project`'s matrices, as name -> [outputs, n], in the order in which the array has them."""
    found = []
    for name in project.matrices:
        matrix = design.block.matrix(name)
        found.append(_heads(values[name], design, matrix.rotary) if matrix.rows in ("heads", "kv_heads")
                     else values[name])
    if project.interleaved:
        return np.stack(found, axis=1).reshape(-1, found[0].shape[1])
    return np.concatenate(found)


def _codes(layer, design, project):
    """A layer's matrices of a `Project` as the array sees them: uint8 [outputs, inputs]."""
    codes = matrix_rows({name: getattr(layer, name).codes for name in project.matrices}, design, project)
    return tiled_inputs(codes, design, project)


def tiled_inputs(codes: np.ndarray, design: Design, project: Project) -> np.ndarray:
    """A matrix [outputs, inputs] with its inputs as the array sees those of a `Project`."""
    return _heads(codes.T, design).T if project.inputs == "heads" else codes


def _vector(layer, design, vector):
    """A `Vector` of a record as bf16 words, padded to its granules."""
    block = design.block
    if vector.project:
        project = next(project for project in block.of(Project) if project.name == vector.project)
        values = matrix_rows({name: getattr(layer, f"{name}_bias",
                                            np.zeros(len(getattr(layer, name).codes), np.uint16))[:, None]
                        for name in project.matrices}, design, project)
    else:
        values = _heads(getattr(layer, vector.name)[:, None], design, rotary=True)
    return _padded(values[:, 0], design, vector)


def _padded(values, design, vector):
    return np.pad(values, (0, design.vector_granules(vector) * design.hw.vector_lanes - len(values)))


def _offsets(layer: Layer, design: Design, project: Project, part: str, wanted: int) -> np.ndarray | None:
    """The offsets of a project's rows [outputs], or of their blocks [outputs, blocks], as the array sees them; None
    where there are none."""
    if not wanted:
        return None
    found = {name: getattr(getattr(layer, name), part) for name in project.matrices}
    if part == "rows":
        return matrix_rows({name: offsets[:, None] for name, offsets in found.items()}, design, project)[:, 0]
    # blocks of the stored inputs: `_check` knows that they are whole
    if project.inputs == "heads" and design.padded_head_dim != design.model.head_dim:
        width = design.model.head_dim // BLOCK
        found = {name: np.pad(offsets.reshape(len(offsets), -1, width),
                              [(0, 0), (0, 0), (0, design.padded_head_dim // BLOCK - width)]).reshape(len(offsets), -1)
                 for name, offsets in found.items()}
    return matrix_rows(found, design, project)


def tile_beats(design: Design, matmul: Matmul, codes: np.ndarray) -> np.ndarray:
    """A matrix [outputs, inputs] of a `Matmul` as tiles without offsets: uint8 [beats, beat_bytes]."""
    return _tiles(design, Tiling(matmul, design.hw.tile_beats), codes)


def _tiles(design, tiling, codes, lo=None, rows=None, blocks=None):
    """A matrix [outputs, inputs] as tiles, with the offsets of rows and blocks between them: uint8 [beats,
    beat_bytes]."""
    hw, matmul = design.hw, tiling.matmul
    tiles = np.zeros((matmul.n_tiles, matmul.k_tiles, matmul.codes, hw.columns, hw.lanes), np.uint8)
    for i, part in enumerate((codes, lo)[:matmul.codes]):
        padded = part = part[:matmul.rows]          # a machine has no more positions than its context
        if part.shape != (matmul.rows, matmul.cols):
            padded = np.zeros((matmul.rows, matmul.cols), np.uint8)
            padded[:part.shape[0], :part.shape[1]] = part
        tiles[:, :, i] = padded.reshape(matmul.n_tiles, hw.columns, matmul.k_tiles, hw.lanes).transpose(0, 2, 1, 3)
    if tiling.plain:
        return tiles.reshape(-1, hw.beat_bytes)
    tiles = tiles.reshape(matmul.n_tiles, tiling.steps, -1)
    if tiling.narrow:
        tiles = _nibbles(np.pad(tiles, [(0, 0), (0, tiling.steps % 2 if tiling.beats == 1 else 0), (0, 0)]))
    tiles = tiles.reshape(matmul.n_tiles, -1, hw.beat_bytes)
    if tiling.block_steps:
        tiles = _with_blocks(hw, tiling, tiles, blocks)
    beats = np.zeros((tiling.all_beats, hw.beat_bytes), np.uint8)
    for j, tile in enumerate(tiles):
        beats[tiling.n_tile(j):tiling.n_tile(j) + len(tile)] = tile
    if tiling.row_tiles:
        offsets = _groups(hw, rows[:matmul.rows, None], tiling.row_tiles, matmul.n_tiles)
        beats[[tiling.rows(j) for j in range(0, matmul.n_tiles, tiling.row_tiles)]] = offsets
    return beats


def _nibbles(values):
    """Pairs of numbers below 16 in a byte, the first in the lower half: uint8 [..., 2 n] -> uint8 [..., n]."""
    return values[..., ::2] | values[..., 1::2] << 4


def _groups(hw, offsets, count, n_tiles):
    """Beats of offsets [outputs, 1], ``count`` n-tiles in each: uint8 [beats, beat_bytes]."""
    beats = -(-n_tiles // count)
    padded = np.zeros(beats * count * hw.columns, np.uint8)
    padded[:len(offsets)] = offsets[:, 0]
    packed = _nibbles(padded.reshape(beats, -1))
    return np.pad(packed, [(0, 0), (0, hw.beat_bytes - packed.shape[1])])


def _with_blocks(hw, tiling, tiles, blocks):
    """N-tiles' beats [n_tiles, beats, beat_bytes] with those of their blocks' offsets [outputs, blocks] between
    them."""
    n_tiles, per_beat, codes = (len(tiles), tiling.block_steps * hw.lanes // BLOCK, tiling.block_steps
                                * tiling.beats // 2)
    beats = -(-tiling.steps // tiling.block_steps)
    padded = np.zeros((n_tiles * hw.columns, beats * per_beat), np.uint8)
    padded[:blocks.shape[0], :blocks.shape[1]] = blocks[:len(padded), :padded.shape[1]]
    groups = padded.reshape(n_tiles, hw.columns, beats, per_beat).transpose(0, 2, 3, 1).reshape(n_tiles, beats, -1)
    offsets = _nibbles(groups).reshape(n_tiles, beats, hw.beat_bytes)
    found = []
    for i in range(beats):
        found += [offsets[:, i:i + 1], tiles[:, i * codes:(i + 1) * codes]]
    return np.concatenate(found, axis=1)
