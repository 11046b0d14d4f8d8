"""The dispatcher's twin against a packed model: what is read is what was packed."""
import ml_dtypes
import numpy as np
import pytest

from hwgen.golden import weights as golden
from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import model_id, pack
from hwgen.params.hardware import block_ranges
from hwgen.params.stream import FINAL_NORM
from sim.designs import small_design
from sim.passes import scattered

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
        assert row.shape == (len(table), design.padded_hidden_size)
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
    assert body == (design.body_address, design.head_address + design.head_matmul.tiles * design.hw.tile_beats
                    - design.body_address, 0)
    assert golden.request_list(design, [0], False)[-1] == (design.body_address,
                                                           design.final_address - design.body_address, 0)


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


FORMATS = {
    "rows": dict(formats="scales=row", tile_beats=2, lanes=2, columns=16, vector_lanes=2, attention_lanes=2),
    "one beat": dict(formats="weights=e2m1,head=e4m3", tile_beats=1, hidden_size=40, lanes=4, columns=16),
    "pairs": dict(formats="gate_up=e2m1,layers.1.down=e2m1,head=pair", tile_beats=4, hidden_size=70, lanes=16,
                  columns=4, intermediate_size=100),
    "narrow": dict(formats="weights=e2m1,scales=matrix", tile_beats=2, tie_word_embeddings=False, lanes=64, columns=4,
                   hidden_size=150),
    "no blocks": dict(formats="weights=e2m1,block_range=0", tile_beats=1, tie_word_embeddings=False, hidden_size=24),
}


@pytest.mark.parametrize("changes", FORMATS.values(), ids=FORMATS)
def test_what_is_read_is_the_model(changes):
    """Codes of the array, exponents of the records and offsets of the rows make the values of each matrix; so do those
    of the tables' rows."""
    design = small_design(**changes)
    q = scattered(quantize(random_checkpoint(design.model, 3), design.recipe), 4)
    stream = pack(q, design)

    def values(name, record, index, layer=None):
        section = design.stream[name, layer]
        shape = section.matmul.n_tiles, section.matmul.k_tiles, section.matmul.codes, design.hw.columns, design.hw.lanes
        codes = golden.tiles(stream, design, section).reshape(shape)
        ints = design.array_format.values()[codes].sum(axis=2).swapaxes(1, 2).reshape(section.matmul.rows, -1)
        rows = golden.row_offsets(stream, design, section).astype(int)[:, None] if design.scaled else 0
        return np.ldexp(ints.astype(float), design.array_format.unit_exp
                        + int(golden.record(stream, design, design.stream[record, layer])[0][index]) + rows)

    for layer in range(design.layers):
        for name, record, index in (("down", "norm_2", 2), ("o", "norm_1", 3)):
            want = getattr(q.layers[layer], name).values()
            if name == "down" or design.padded_head_dim == design.model.head_dim:
                assert (values(name, record, index, layer)[:want.shape[0], :want.shape[1]] == want).all()
    assert (values("head", FINAL_NORM, 0)[:design.model.vocab_size, :design.model.hidden_size] == q.head.values()).all()
    table = design.recipe.weight_format
    for token in range(design.model.vocab_size):
        ints = table.values()[golden.embedding_row(stream, design, token)].sum(axis=0)[:design.model.hidden_size]
        exponent = golden.embed_exponent(stream, design) + golden.row_offset(stream, design, "embedding", token)
        assert (np.ldexp(ints.astype(float), table.unit_exp + exponent) == q.embedding.values()[token]).all()


def test_the_stream_shrinks():
    """A weight in E2M1 takes 4 bits and an eighth; offsets of rows are hardly anything."""
    def bytes_of(formats, **changes):
        design = small_design(formats=formats, hidden_size=1024, intermediate_size=2048, lanes=32, columns=32,
                              vocab_size=64, num_attention_heads=32, head_dim=32, **changes)
        return design.stream["down", 0].beats * design.hw.beat_bytes
    for beats in (1, 2, 8):
        wide = bytes_of("e3m4", tile_beats=beats)
        assert wide == 2048 * 1024 and bytes_of("scales=row", tile_beats=beats) < 1.005 * wide
        assert bytes_of("down=e2m1,scales=matrix",
                        tile_beats=beats) == wide * 4.125 / 8 and bytes_of("down=e2m1",
                                                                           tile_beats=beats) < wide * 4.15 / 8


def test_expanded_codes_are_e2m1_times_a_power_of_two():
    for fmt, most in block_ranges().items():
        for offset in range(most + 1):
            codes = np.arange(16, dtype=np.uint8)
            exact = codes.view(ml_dtypes.float4_e2m1fn).astype(float) * 2.0 ** (offset + 1)
            assert (fmt.values()[golden.expanded(codes, np.full(16, offset), fmt, most)] == exact).all()


def test_cycles_add_up():
    """With everything ready a pass is as long as its granules and beats, and the few cycles at its start."""
    design = small_design(tile_beats=2)
    previous = golden.record_first(design, 2)
    for layer in range(design.layers):
        for norm, matmuls in (("norm_1", design.layer_matmuls[:2]), ("norm_2", design.layer_matmuls[2:])):
            tiling = design.stream["qkv", layer].tiling
            previous = golden.tile_after_tile_cycle(tiling, golden.record_end(design.stream[norm, layer], previous))
            for _ in range(sum(m.tiles for m in matmuls) - 1):
                previous = golden.tile_after_tile_cycle(tiling, previous)
    serial = design.record_header_granules + (2 + 2 * design.layers) * (design.padded_hidden_size
                                                                        // design.hw.vector_lanes)
    serial += 2 * design.layers * design.record_header_granules
    tiles = design.layers * sum(m.tiles for m in design.layer_matmuls)
    assert previous == golden.ROM_LATENCY - 1 + serial + 2 * tiles
    beats = 2 * design.record_beats * design.layers + 2 * tiles
    assert golden.beats_taken(design, 2, False) == design.header_beats + 2 * design.head_matmul.k_tiles + beats
