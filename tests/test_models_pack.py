"""The packed stream against the architecture's words, byte by byte, with index arithmetic of its own."""
import dataclasses
import io

import numpy as np
import pytest

from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import model_id, pack, pack_file
from hwgen.models.quantize import QuantizedModel
from sim.designs import small_design

DESIGNS = {
    "plain": dict(),
    "beats": dict(tile_beats=4, vector_lanes=2, head="pair"),
    "untied": dict(tile_beats=2, tie_word_embeddings=False, head="pair", columns=16, vocab_size=35),
    "padded": dict(hidden_size=13, intermediate_size=11, head_dim=6, num_attention_heads=3, num_key_value_heads=3,
                   lanes=16, columns=4, vector_lanes=4, tie_word_embeddings=False, num_hidden_layers=1),
    "smallest": dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, hidden_size=1,
                     intermediate_size=1, head_dim=2,
                     num_attention_heads=1, num_hidden_layers=1, vocab_size=1),
    "wide": dict(lanes=4, columns=16, tile_beats=8, attention_lanes=4, vector_lanes=4, weight_format="e4m3"),
}


def quantized_for(design, seed=0):
    return quantize(random_checkpoint(design.model, seed), design.recipe)


class Reader:
    """Bytes of a stream in order, as the architecture writes them down."""

    def __init__(self, stream, design):
        self.stream, self.design, self.beat = stream.tolist(), design, 0

    def words(self, granules):
        """16-bit words of so many granules from here; what is left of the last beat must be zero."""
        hw = self.design.hw
        count = granules * hw.vector_lanes
        beats = -(-2 * count // hw.beat_bytes)
        data = bytes(b for beat in self.stream[self.beat:self.beat + beats] for b in beat)
        self.beat += beats
        assert not any(data[2 * count:])
        return [int.from_bytes(data[2 * i:2 * i + 2], "little") for i in range(count)]

    def matrix(self, rows, cols, codes):
        """code(row, col, which) of the matrix that starts here."""
        hw, base = self.design.hw, self.beat
        k_tiles, per_beat = -(-cols // hw.lanes), hw.columns // hw.tile_beats
        tiles = -(-rows // hw.columns) * k_tiles * codes
        self.beat += tiles * hw.tile_beats

        def code(row, col, which=0):
            tile = ((row // hw.columns) * k_tiles + col // hw.lanes) * codes + which
            column = row % hw.columns
            beat = self.stream[base + tile * hw.tile_beats + column // per_beat]
            return beat[column % per_beat * hw.lanes + col % hw.lanes]

        total = sum(sum(beat) for beat in self.stream[base:self.beat])
        return code, total


def check_matrix(reader, rows, cols, expect, codes=1):
    """``expect(row, col, which)`` everywhere it is not None, and nothing else but zeros."""
    code, total = reader.matrix(rows, cols, codes)
    seen = 0
    for which in range(codes):
        for row in range(rows):
            for col in range(cols):
                want = expect(row, col, which)
                assert code(row, col, which) == (want or 0), (row, col, which)
                seen += want or 0
    assert seen == total


def within(matrix, row, col):
    return int(matrix[row, col]) if row < matrix.shape[0] and col < matrix.shape[1] else None


def check_record(reader, exponents, gains):
    design = reader.design
    words = reader.words(design.record_header_granules + design.padded_hidden_size // design.hw.vector_lanes)
    assert words[:4] == [e % 65536 for e in exponents]
    start = -(-4 // design.hw.vector_lanes) * design.hw.vector_lanes
    assert not any(words[4:start])
    assert words[start:start + len(gains)] == gains.tolist()
    assert not any(words[start + len(gains):])


@pytest.mark.parametrize("changes", DESIGNS.values(), ids=DESIGNS)
def test_every_weight_is_where_the_architecture_says(changes):
    design = small_design(**changes)
    model, q = design.model, quantized_for(design)
    stream = pack(q, design)
    assert stream.shape == (design.stream_beats, design.hw.beat_bytes)
    reader = Reader(stream, design)
    dim, head, heads, kv = model.head_dim, design.padded_head_dim, model.num_attention_heads, model.num_key_value_heads

    words = reader.words(-(-4 // design.hw.vector_lanes))
    assert words[:4] == [q.embedding.exponent % 65536, 0, model_id(q) % 65536, model_id(q) >> 16]
    assert not any(words[4:])
    for layer in q.layers:
        check_record(reader, [layer.q.exponent, layer.k.exponent, layer.v.exponent, layer.o.exponent], layer.input_gain)

        def qkv(row, col, _):
            vector, element = divmod(row, head)
            if element >= dim:
                return None
            source = element // 2 + element % 2 * dim // 2
            if vector < kv:
                return within(layer.k.codes, vector * dim + source, col)
            if vector < 2 * kv:
                return within(layer.v.codes, (vector - kv) * dim + element, col)
            return within(layer.q.codes, (vector - 2 * kv) * dim + source, col)

        def o(row, col, _):
            vector, element = divmod(col, head)
            return within(layer.o.codes, row, vector * dim + element) if element < dim and vector < heads else None

        check_matrix(reader, (heads + 2 * kv) * head, design.padded_hidden_size, qkv)
        check_matrix(reader, design.padded_hidden_size, design.padded_attention_size, o)
        check_record(reader, [layer.gate.exponent, layer.up.exponent, layer.down.exponent, 0], layer.post_gain)
        check_matrix(reader, 2 * design.padded_intermediate_size, design.padded_hidden_size,
                     lambda row, col, _: within([layer.gate, layer.up][row % 2].codes, row // 2, col))
        check_matrix(reader, design.padded_hidden_size, design.padded_intermediate_size,
                     lambda row, col, _: within(layer.down.codes, row, col))
    assert reader.beat == design.final_address
    check_record(reader, [q.head.exponent, 0, 0, 0], q.final_gain)
    assert reader.beat == design.head_address
    codes = design.recipe.codes_per_head_weight
    tables = [q.head] if model.tie_word_embeddings else [q.head, q.embedding]
    for table in tables:
        start = reader.beat
        check_matrix(reader, model.vocab_size, design.padded_hidden_size,
                     lambda row, col, which: within([table.codes, table.lo][which], row, col), codes)
    assert start == design.embed_address
    assert reader.beat == design.stream_beats


def test_file_and_array_are_the_same_bytes(tmp_path):
    design = small_design(tile_beats=4, head="pair")
    q = quantized_for(design)
    file = io.BytesIO()
    pack_file(q, design, file)
    mapped = np.memmap(tmp_path / "stream", np.uint8, "w+", shape=(design.stream_beats, design.hw.beat_bytes))
    pack(q, design, mapped)
    assert file.getvalue() == pack(q, design).tobytes() == mapped.tobytes()


def test_another_model_is_refused():
    q = quantized_for(small_design())
    with pytest.raises(ValueError, match="their shapes differ"):
        pack(q, small_design(hidden_size=17))
    with pytest.raises(ValueError, match="Recipe of the quantized model"):
        pack(q, small_design(head="pair"))
    with pytest.raises(ValueError, match="Array for the stream must be uint8"):
        pack(q, small_design(), np.empty((1, 2), np.uint8))


def test_a_scale_out_of_range_is_refused():
    design = small_design()
    q = quantized_for(design)
    fields = {name: getattr(q, name) for name in ("shape", "recipe", "layers", "final_gain", "head")}
    embedding = type(q.head)(q.head.codes, 512, q.head.fmt)
    with pytest.raises(ValueError, match="Scale exponent must fit 10 bits"):
        pack(QuantizedModel(**fields, embedding=embedding), design)


def test_the_heads_bias_is_behind_its_weights():
    """In columns that the head has, and the layers' matrices have not."""
    design = small_design(hidden_size=13, tie_word_embeddings=False, block=dict(final_bias=True), head_bias=True)
    q = quantized_for(design)
    assert (design.padded_hidden_size, design.layer_hidden()) == (24, 16)
    assert q.head.size[1] == 21 == design.model.head_inputs
    assert [design.matmul(name).k_tiles for name in ("qkv", "gate_up")] == [2, 2] and design.head_matmul.k_tiles == 3
    assert [design.matmul(name).n_tiles for name in ("o", "down")] == [2, 2]
    reader = Reader(pack(q, design), design)
    reader.beat = design.head_address
    check_matrix(reader, design.model.vocab_size, design.padded_hidden_size,
                 lambda row, col, _: within(q.head.codes, row, col))
    assert q.head.codes[:, 13:].any(axis=1).all()


def test_the_final_norms_bias_is_behind_its_gains():
    design = small_design(hidden_size=13, vector_lanes=4, tile_beats=4, block=dict(final_bias=True))
    q = quantized_for(design)
    reader = Reader(pack(q, design), design)
    reader.beat = design.final_address
    words = reader.words(design.record_granules + 4)
    assert reader.beat == design.head_address
    assert words[4:] == [*q.final_gain.tolist(), 0, 0, 0, *q.final_bias.tolist(), 0, 0, 0]
    assert any(q.final_bias) and q.digest != dataclasses.replace(q, final_bias=q.final_bias ^ 1).digest
