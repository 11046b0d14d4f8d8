"""The dispatcher's twin against a packed model: what is read is what was packed."""
import numpy as np
import pytest

from hwgen.golden import weights as golden
from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import model_id, pack
from hwgen.params.stream import FINAL_NORM
from sim.designs import small_design

DESIGNS = {
    "plain": dict(),
    "beats": dict(tile_beats=4, vector_lanes=2, head="pair"),
    "untied": dict(tile_beats=2, tie_word_embeddings=False, columns=16, vocab_size=35),
}


@pytest.fixture(params=DESIGNS.values(), ids=DESIGNS)
def packed(request):
    design = small_design(**request.param)
    q = quantize(random_checkpoint(design.model, 3), design.recipe)
    return design, q, pack(q, design)


def test_header(packed):
    design, q, stream = packed
    assert golden.embed_exponent(stream, design) == q.embedding.exponent
    assert golden.model_id(stream, design) == model_id(q)


def test_embedding_rows(packed):
    design, q, stream = packed
    table = [q.embedding.codes] if q.embedding.lo is None else [q.embedding.codes, q.embedding.lo]
    for token in range(design.model.vocab_size):
        row = golden.embedding_row(stream, design, token)
        assert row.shape == (len(table), design.hidden)
        assert (row[:, :design.model.hidden_size] == [codes[token] for codes in table]).all()
        assert not row[:, design.model.hidden_size:].any()


def test_requests_are_the_rows_and_the_body(packed):
    design, _, stream = packed
    header, *rows, body = golden.request_list(design, range(design.model.vocab_size), True)
    assert header == (0, design.header_beats, 0)
    per_beat = design.hw.columns // design.hw.tile_beats
    for token, (address, count, stride) in enumerate(rows):
        assert stride == 1
        beats = stream[address + np.arange(count) * design.hw.tile_beats].reshape(count, per_beat, design.hw.lanes)
        row = beats[:, token % per_beat].reshape(-1, design.head_matmul.codes, design.hw.lanes).swapaxes(0, 1)
        assert (row.reshape(design.head_matmul.codes, -1) == golden.embedding_row(stream, design, token)).all()
    assert body == (design.body_address, design.head_address + design.head_matmul.tiles * design.hw.tile_beats - design.body_address, 0)
    assert golden.request_list(design, [0], False)[-1] == (design.body_address, design.final_address - design.body_address, 0)


def test_records(packed):
    design, q, stream = packed
    records = [record for i, layer in enumerate(q.layers) for record in (
        (("norm_1", i), [layer.q, layer.k, layer.v, layer.o], layer.input_gain),
        (("norm_2", i), [layer.gate, layer.up, layer.down], layer.post_gain))]
    for section, matrices, gain in [*records, (FINAL_NORM, [q.head], q.final_gain)]:
        exps, gains, vectors = golden.record(stream, design, design.stream[section])
        assert not len(vectors)
        assert exps.tolist() == [m.exponent for m in matrices] + [0] * (4 - len(matrices))
        assert (gains[:len(gain)] == gain).all() and not gains[len(gain):].any()


def test_tiles_make_the_matrix(packed):
    design, q, stream = packed
    matmul = design.matmul("down")
    tiles = golden.tiles(stream, design, design.stream["down", 1]).reshape(
        matmul.n_tiles, matmul.k_tiles, design.hw.columns, design.hw.lanes)
    matrix = tiles.swapaxes(1, 2).reshape(matmul.rows, matmul.cols)
    codes = q.layers[1].down.codes
    assert (matrix[:codes.shape[0], :codes.shape[1]] == codes).all()


def test_cycles_add_up():
    """With everything ready a pass is as long as its granules and beats, and the few cycles at its start."""
    design = small_design(tile_beats=2)
    previous = golden.record_first(design, 2)
    for layer in range(design.layers):
        for norm, matmuls in (("norm_1", design.layer_matmuls[:2]), ("norm_2", design.layer_matmuls[2:])):
            previous = golden.tile_after_tile_cycle(design, golden.record_end(design.stream[norm, layer], previous))
            for _ in range(sum(m.tiles for m in matmuls) - 1):
                previous = golden.tile_after_tile_cycle(design, previous)
    serial = design.record_header_granules + (2 + 2 * design.layers) * (design.hidden // design.hw.vector_lanes)
    serial += 2 * design.layers * design.record_header_granules
    tiles = design.layers * sum(m.tiles for m in design.layer_matmuls)
    assert previous == golden.ROM_LATENCY - 1 + serial + 2 * tiles
    beats = 2 * design.record_beats * design.layers + 2 * tiles
    assert golden.beats_taken(design, 2, False) == design.header_beats + 2 * design.head_matmul.k_tiles + beats
