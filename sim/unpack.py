"""The model of an emitted folder: its memory image, read back. What `hwgen.models.pack` does, backwards, and with none
of its code."""
from pathlib import Path

import numpy as np

from hwgen.models.quantize import Layer, Matrix, QuantizedModel
from hwgen.params.block import Norm, Project
from hwgen.params.stream import EMBEDDING, FINAL_NORM, HEAD, HEADER, POSITIONS

__all__ = ["read_image", "unpack"]


def read_image(path, design):
    """The weight stream in a folder's memory image: uint8 [beats, bytes]."""
    if Path(path).suffix == ".hex":
        rows = [bytes.fromhex(line)[::-1] for line in Path(path).read_text().split()]
        beats = np.frombuffer(b"".join(rows), np.uint8)
    else:
        beats = np.fromfile(path, np.uint8)
    return beats.reshape(design.stream_beats, design.hw.beat_bytes)


def unpack(beats, design):
    """The `QuantizedModel` that a weight stream, uint8 [beats, bytes], was packed from."""
    block, model, hw, fmt = design.block, design.model, design.hw, design.recipe.weight_format
    sizes = {"hidden": model.hidden_size, "ff": model.intermediate_size, "heads": design.heads * design.padded_head_dim,
             "kv_heads": design.kv_heads * design.padded_head_dim}

    def part(*name):
        section = design.stream[name if len(name) > 1 else name[0]]
        return section, beats[section.address:section.end].reshape(-1)

    def record(*name):
        """({name of a matrix: exponent}, gains, {name of a vector: numbers}) of a record."""
        section, data = part(*name)
        words, at = data.view("<u2"), design.record_header_granules * hw.vector_lanes
        gains, at, vectors = words[at:at + design.padded_hidden_size].copy(), at + design.padded_hidden_size, {}
        for vector, granules in section.vectors:
            vectors[vector] = words[at:at + granules * hw.vector_lanes].copy()
            at += granules * hw.vector_lanes
        return dict(zip(section.exponents, words.view("<i2")[:len(section.exponents)].tolist())), gains, vectors

    def tiles(rows, cols, *name):
        """The codes of a matrix: [hi (and lo), rows, cols]."""
        section, data = part(*name)
        matmul = section.matmul
        found = data.reshape(matmul.n_tiles, matmul.k_tiles, matmul.codes, hw.columns,
                             hw.lanes).transpose(2, 0, 3, 1, 4)
        return found.reshape(matmul.codes, matmul.n_tiles * hw.columns, -1)[:, :min(rows, matmul.rows), :cols]

    def heads(values, rotary=False):
        """Stored heads without their padding, the elements of each in the checkpoint's order."""
        stored = values.reshape(-1, design.padded_head_dim, values.shape[1])[:, :model.head_dim]
        found = np.empty_like(stored)
        found[:, model.rotary_order() if rotary else slice(None)] = stored
        return found.reshape(-1, values.shape[1])

    def divided(project, values):
        """{name of a matrix: its rows} of a project's rows."""
        names, found, at = project.matrices, {}, 0
        for i, name in enumerate(names):
            matrix = block.matrix(name)
            size = sizes[matrix.rows]
            rows = values[i:size * len(names):len(names)] if project.interleaved else values[at:at + size]
            found[name], at = heads(rows, matrix.rotary) if matrix.rows in ("heads", "kv_heads") else rows, at + size
        return found

    def layer(i):
        exponents, gains, vectors = {}, {}, {}
        for norm in block.of(Norm):
            more, gain, behind = record(norm.name, i)
            exponents, vectors = exponents | more, vectors | behind
            gains[norm.gain] = gain[:model.hidden_size]
        codes, biases = {}, {}
        for project in block.of(Project):
            width = sizes[project.inputs]
            found = tiles(sum(sizes[block.matrix(name).rows] for name in project.matrices), width, project.name, i)[0]
            codes |= divided(project, heads(found.T).T if project.inputs == "heads" else found)
            if (bias := vectors.get(f"{project.name}_bias")) is not None:
                biases |= divided(project, bias[:, None])
        parts = {matrix.name: Matrix(np.ascontiguousarray(codes[matrix.name]), exponents[matrix.name], fmt)
                 for matrix in block.matrices} | gains
        for matrix in (block.queries, block.keys) if block.qk_norm else ():
            parts[f"{matrix.name}_gain"] = heads(vectors[f"{matrix.name}_gain"][:, None], rotary=True)[:, 0]
        return Layer(**parts, **{f"{matrix.name}_bias": biases[matrix.name][:, 0] for matrix in block.matrices
                                 if matrix.biased})

    def table(exponent, rows, *name, columns=model.hidden_size):
        hi, *lo = tiles(rows, columns, *name)
        return Matrix(np.ascontiguousarray(hi), exponent, fmt, *map(np.ascontiguousarray, lo))

    header = dict(zip(design.stream[HEADER].exponents, part(HEADER)[1].view("<i2").tolist()))
    exponents, gain, vectors = record(FINAL_NORM)
    head = table(exponents[HEAD], model.vocab_size, HEAD, columns=model.head_inputs)
    return QuantizedModel(
        shape=model, recipe=design.recipe, layers=tuple(layer(i) for i in range(design.layers)),
        final_gain=gain[:model.head_inputs], head=head,
        embedding=head if design.recipe.ties(model) else table(header[EMBEDDING], model.vocab_size, EMBEDDING),
        final_bias=vectors["final_bias"][:model.head_inputs] if block.final_bias else None,
        positions=table(header[POSITIONS], model.max_position_embeddings, POSITIONS)
        if model.learned_positions else None)
