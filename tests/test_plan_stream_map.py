import random

import numpy as np
import pytest

from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import pack
from hwgen.params.block import QkNorm, dense
from hwgen.plan.stream_map import describe
from sim.designs import small_design


@pytest.mark.parametrize("changes", [{}, dict(head="pair", tie_word_embeddings=False, tile_beats=4, lanes=16)])
def test_every_byte_that_a_weight_changes_is_described_as_that_weight(changes):
    design = small_design(**changes)
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    before = pack(quantized, design)
    down, head = quantized.layers[1].down, quantized.head
    down.codes[5, 7] ^= 1
    head.codes[30, 3] ^= 1
    if head.lo is not None:
        head.lo[2, 15] ^= 1
    changed = [describe(design, beat, byte) for beat, byte in np.argwhere(pack(quantized, design) != before)]
    kind = " (high code)" if head.lo is not None else ""
    # the model's digest is in the header
    assert [line for line in dict.fromkeys(changed) if line != "header"] == [
        "layer 1: down, output 5, input 7", *(["LM head, output 2, input 15 (low code)"] if kind else []),
        f"LM head, output 30, input 3{kind}"]


FORMATS = {"rows": dict(formats="scales=row", tile_beats=2),
           "pair": dict(formats="scales=row,head=pair", columns=16, lanes=4, tile_beats=8, attention_lanes=4),
           "e2m1": dict(formats="weights=e2m1,head=e3m4", hidden_size=80, lanes=8, tile_beats=1),
           "one beat": dict(formats="down=e2m1", tile_beats=2, intermediate_size=70),
           "wide": dict(formats="weights=e2m1,scales=matrix", tie_word_embeddings=False, lanes=64, columns=4,
                        tile_beats=4, hidden_size=150)}


@pytest.mark.parametrize("changes", FORMATS.values(), ids=FORMATS)
def test_every_byte_with_offsets_or_in_e2m1_is_described(changes):
    """What changes a code or an offset changes one byte, in which the stream places it; the description names the
    outputs, and the inputs."""
    design, rng = small_design(**changes), random.Random(1)
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    before, stream = pack(quantized, design), design.stream
    for name, matrix in (("down", quantized.layers[1].down), ("head", quantized.head)):
        section, (outputs, inputs) = stream[(name, 1) if name == "down" else name], matrix.size
        for _ in range(20):
            r, c = rng.randrange(outputs), rng.randrange(inputs)
            parts = [(matrix.codes, (r, c), stream.byte(section, r, c), f", output {r}, input")]
            if matrix.rows is not None:
                parts.append((matrix.rows, r, stream.row_byte(section, r),
                              f", offsets of outputs {r & ~1} and {r | 1}"))
            if matrix.blocks is not None:
                parts.append((matrix.blocks, (r, c // 32), stream.block_byte(section, r, c // 32),
                              f", offsets of outputs {r & ~1} and {r | 1}, inputs {c & ~31} to {c | 31}"))
            for array, at, byte, told in parts:
                array[at] ^= 1
                (beat, place), = np.argwhere((pack(quantized, design) != before)[design.header_beats:])
                array[at] ^= 1
                beat += design.header_beats
                assert divmod(byte, design.hw.beat_bytes) == (beat - section.address, place)
                line = describe(design, int(beat), int(place))
                assert told in line and line.startswith("layer 1: down" if name == "down" else "LM head")


def test_every_byte_of_a_matrix_is_described_once():
    """Of each code there are as many bits as its format has, and of each offset four."""
    design = small_design(formats="weights=e2m1,head=e3m4", hidden_size=40, intermediate_size=40, tile_beats=2)
    section = design.stream["gate_up", 0]
    places = [design.stream.place(section, beat, byte) for beat in range(section.address, section.end)
              for byte in range(design.hw.beat_bytes)]
    of = {kind: [place[:2] for place in places if place.of == kind] for kind in ("codes", "rows", "blocks", "")}
    rows, cols = section.matmul.rows, section.matmul.cols
    assert sorted(of["codes"]) == [(r, c) for r in range(rows) for c in range(0, cols, 2)]
    assert sorted(of["rows"]) == [(r, 0) for r in range(0, rows, 2)]
    assert sorted(of["blocks"]) == [(r, c) for r in range(0, rows, 2) for c in range(0, cols, 32)]


@pytest.mark.parametrize("name, place, told", [
    ("k_gain", 3, "layer 1: record of norm 1, gain of keys, element 3"),
    ("q_gain", 0, "layer 1: record of norm 1, gain of queries, element 0"),
    ("q_bias", 0, "layer 1: record of norm 1, bias of qkv, output {q}"),
    ("o_bias", 6, "layer 1: record of norm 1, bias of o, output 6"),
    ("attention_gain", 5, "layer 1: record of norm 2, gain, element 5"),
    ("up_bias", 2, "layer 1: record of norm 3, bias of gate_up, output 5")])
def test_every_byte_that_a_vector_changes_is_described_as_that_number(name, place, told):
    block = dense(biased=("q", "o", "up"), qk_norm=QkNorm("head"), norms="sandwich")
    design = small_design(block=block, rotary_dim=0)        # heads are stored in their elements' order
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    before = pack(quantized, design)
    getattr(quantized.layers[1], name)[place] ^= 0x0101
    changed = {describe(design, beat, byte) for beat, byte in np.argwhere(pack(quantized, design) != before)}
    assert changed - {"header"} == {told.format(q=2 * design.kv_heads * design.padded_head_dim)}


def test_vectors_of_records_are_described_by_name():
    design = small_design(tile_beats=4, block=dict(biased=["k"], final_bias=True))
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    before = pack(quantized, design)
    quantized.layers[0].k_bias[0] ^= 1
    quantized.final_bias[13] ^= 0x0101
    changed = [describe(design, beat, byte) for beat, byte in np.argwhere(pack(quantized, design) != before)]
    assert [line for line in changed if line != "header"] == [
        "layer 0: record of norm 1, bias of qkv, output 0", *2 * ["record of the final norm, bias, element 13"]]


def test_the_heads_bias_is_described():
    design = small_design(tie_word_embeddings=False, block=dict(final_bias=True), head_bias=True)
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    before = pack(quantized, design)
    quantized.head.codes[2, 15:17] ^= 1
    changed = [describe(design, beat, byte) for beat, byte in np.argwhere(pack(quantized, design) != before)]
    assert [line for line in changed if line != "header"] == ["LM head, output 2, input 15",
                                                              "LM head, output 2, bias (input 16)"]


def test_ends():
    design = small_design()
    assert describe(design, 0) == "header"
    assert describe(design, design.body_address) == "layer 0: record of norm 1, exponent of q"
    assert describe(design, design.final_address) == "record of the final norm, exponent of LM head"
    assert describe(design, design.stream_beats - 1, design.hw.beat_bytes - 1) == "LM head, output 39, input 15"
    for beat, byte in ((-1, 0), (design.stream_beats, 0), (0, design.hw.beat_bytes)):
        with pytest.raises(ValueError, match="must be 0 to"):
            describe(design, beat, byte)
