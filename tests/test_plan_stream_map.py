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


@pytest.mark.parametrize("name, place, told", [
    ("k_gain", 3, "layer 1: record of norm 1, gain of keys, element 3"), ("q_gain", 0, "layer 1: record of norm 1, gain of queries, element 0"),
    ("q_bias", 0, "layer 1: record of norm 1, bias of qkv, output {q}"), ("o_bias", 6, "layer 1: record of norm 1, bias of o, output 6"),
    ("attention_gain", 5, "layer 1: record of norm 2, gain, element 5"), ("up_bias", 2, "layer 1: record of norm 3, bias of gate_up, output 5")])
def test_every_byte_that_a_vector_changes_is_described_as_that_number(name, place, told):
    block = dense(biased=("q", "o", "up"), qk_norm=QkNorm("head"), norms="sandwich")
    design = small_design(block=block, rotary_dim=0)        # heads are stored in their elements' order
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    before = pack(quantized, design)
    getattr(quantized.layers[1], name)[place] ^= 0x0101
    changed = {describe(design, beat, byte) for beat, byte in np.argwhere(pack(quantized, design) != before)}
    assert changed - {"header"} == {told.format(q=2 * design.kv_heads * design.head)}


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
    assert [line for line in changed if line != "header"] == ["LM head, output 2, input 15", "LM head, output 2, bias (input 16)"]


def test_ends():
    design = small_design()
    assert describe(design, 0) == "header"
    assert describe(design, design.body_address) == "layer 0: record of norm 1, exponent of q"
    assert describe(design, design.final_address) == "record of the final norm, exponent of LM head"
    assert describe(design, design.stream_beats - 1, design.hw.beat_bytes - 1) == "LM head, output 39, input 15"
    for beat, byte in ((-1, 0), (design.stream_beats, 0), (0, design.hw.beat_bytes)):
        with pytest.raises(ValueError, match="must be 0 to"):
            describe(design, beat, byte)
