import pytest

from hwgen.params.block import LLAMA, Project, dense
from hwgen.params.stream import EMBEDDING, FINAL_NORM, HEAD, HEADER
from sim.designs import small_design

SHAPES = [{}, {"tie_word_embeddings": False}, {"head": "pair", "tile_beats": 4, "lanes": 16}]


@pytest.mark.parametrize("changes", SHAPES)
def test_sections_follow_one_another(changes):
    design = small_design(**changes)
    sections = list(design.stream)
    assert [s.address for s in sections] == [0] + [s.end
                                                   for s in sections[:-1]] and sections[-1].end == design.stream_beats
    layer = ["norm_1", "qkv", "o", "norm_2", "gate_up", "down"]
    tables = [HEAD] if design.model.tie_word_embeddings else [HEAD, EMBEDDING]
    assert [s.name for s in sections] == [HEADER, *layer * design.layers, FINAL_NORM, *tables]
    assert design.stream["qkv", 1].address - design.stream["qkv", 0].address == design.stream.layer_beats
    assert (design.stream[EMBEDDING] is design.stream[HEAD]) == design.model.tie_word_embeddings


def test_records_name_their_exponents():
    stream = small_design().stream
    assert stream["norm_1", 0].exponents == ("q", "k", "v",
                                             "o") and stream["norm_2", 1].exponents == ("gate", "up", "down")
    assert stream[FINAL_NORM].exponents == (HEAD,) and stream[HEADER].exponents == (EMBEDDING,)


@pytest.mark.parametrize("changes", SHAPES)
def test_places_and_bytes_are_inverse(changes):
    design = small_design(**changes)
    hw, stream = design.hw, design.stream
    for section in (stream["down", 1], stream[HEAD]):
        for byte in range(0, section.beats * hw.beat_bytes, 7):
            beat, within = divmod(byte, hw.beat_bytes)
            assert stream.at(section.address + beat) is section
            assert stream.byte(section, *stream.place(section, section.address + beat, within)[:3]) == byte


@pytest.mark.parametrize("gated", [True, False])
def test_rows_of_the_mlp_have_no_padding(gated):
    design = small_design(lanes=4, columns=16, intermediate_size=20, block=dense(gated=gated))
    padded = 24 if gated else 32
    assert design.padded_intermediate_size == padded and design.matmul("gate_up").rows == padded * (2 if gated else 1)


def test_nothing_behind_the_end():
    design = small_design()
    with pytest.raises(IndexError):
        design.stream.at(design.stream_beats)


def test_every_matrix_is_in_one_step():
    names = [name for step in LLAMA.of(Project) for name in step.matrices]
    assert sorted(names) == sorted(matrix.name for matrix in LLAMA.matrices)
