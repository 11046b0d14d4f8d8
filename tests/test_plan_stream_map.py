import numpy as np
import pytest

from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import pack
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


def test_vectors_of_records_are_described_by_name():
    design = small_design(tile_beats=4, block=dict(biased=["k"], final_bias=True))
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    before = pack(quantized, design)
    quantized.layers[0].k_bias[0] ^= 1
    quantized.final_bias[13] ^= 0x0101
    changed = [describe(design, beat, byte) for beat, byte in np.argwhere(pack(quantized, design) != before)]
    assert [line for line in changed if line != "header"] == [
        "layer 0: record of norm 1, qkv_bias 0", *2 * ["record of the final norm, final_bias 13"]]


def test_ends():
    design = small_design()
    assert describe(design, 0) == "header"
    assert describe(design, design.body_address) == "layer 0: record of norm 1"
    assert describe(design, design.final_address) == "record of the final norm"
    assert describe(design, design.stream_beats - 1, design.hw.beat_bytes - 1) == "LM head, output 39, input 15"
    for beat, byte in ((-1, 0), (design.stream_beats, 0), (0, design.hw.beat_bytes)):
        with pytest.raises(ValueError, match="must be 0 to"):
            describe(design, beat, byte)
