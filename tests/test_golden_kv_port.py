"""The twin of the KV port: where rows are, and cycles that can be counted by hand."""
import numpy as np
import pytest

from hwgen.golden.attention import attention_cycles
from hwgen.golden.kv_cache import copy_words, kv_settled, kv_write_cycles
from hwgen.golden.kv_port import KvReads, k_row, row_beat, v_row
from hwgen.params.axi import AxiShape
from hwgen.params.kv_port import READ_CYCLES
from sim.designs import small_design

SHAPE = dict(source="stream", kv_port=64, attention_lanes=4, head_dim=8, num_attention_heads=2, num_key_value_heads=2,
             vector_lanes=2, slots=2, context=12, kv_block=4, kv_blocks=5, num_hidden_layers=2)


def test_bytes_of_rows():
    codes = np.arange(1, 9)
    assert k_row(codes, -2, 300, 4) == b"\xfe\xff\x2c\x01" + bytes(range(1, 9))
    assert k_row(codes, -2, 300, 8) == b"\xfe\xff\x2c\x01\0\0\0\0" + bytes(range(1, 9))
    assert v_row(codes) == bytes(range(1, 9))


@pytest.mark.parametrize("lanes, port", [(2, 8), (4, 64), (8, 1024)])
def test_rows_lie_apart(lanes, port):
    design = small_design(**SHAPE | dict(attention_lanes=lanes, kv_port=port))
    places, seen = design.kv_places, set()
    for line in range(places.lines):
        for block in range(places.blocks):
            for position in range(4):
                for value, beats in ((0, places.k_beats), (1, places.v_beats)):
                    first = row_beat(design, line, block, position, value)
                    row = set(range(first, first + beats))
                    assert not row & seen and max(row) < places.beats
                    seen |= row
            assert row_beat(design, line, block, 0, 0) * lanes % min(4096, 64 * port // 8) == 0
    assert len(seen) == places.lines * places.blocks * 4 * (places.k_beats + places.v_beats)


def test_a_row_by_hand():
    """A job of one row: three cycles to the request, two to the address, the memory, two through the reader, one
    through the register."""
    reads = KvReads(small_design(**SHAPE))
    reads.job(0, 2, 2)
    got = []
    for _ in range(5):          # exponents and two words of K, two of V
        got.append(reads.peek())
        reads.take(got[-1])
    first = 3 + 2 + READ_CYCLES + 2 + 1
    # K: beats 6 to 8 of the block, in words 3 and 4; V: its request three cycles behind
    assert got == [first, first + 1, first + 2, first + 3, first + 4]


def test_a_taker_that_waits_holds_the_beats_back():
    reads = KvReads(small_design(**SHAPE))
    reads.job(0, 0, 3)
    first = reads.peek()
    reads.take(first + 100)
    assert reads.peek() == first + 101


def test_cycles_of_a_design():
    inside, outside = (small_design(**SHAPE | dict(kv_port=port)) for port in (0, 64))
    # a row's exponent and two words, four cycles each: twelve in the long run, of which the first words wait for nobody
    rows = 2 * outside.kv_heads
    assert kv_write_cycles(outside, 5) - kv_write_cycles(outside, 4) == 12 * rows
    assert kv_write_cycles(inside, 5) - kv_write_cycles(inside, 4) == 2 * rows
    assert kv_settled(inside, 3) == 0 < kv_settled(outside, 3)
    for positions in ([0], [11], [3, 4, 5]):
        now, late = attention_cycles(outside, positions)[1], attention_cycles(outside, positions, None, 1000)[1]
        assert attention_cycles(inside, positions)[1] < now < late - 800
    assert copy_words(outside, 1) < copy_words(outside, 2) < copy_words(outside, 3)


def test_what_is_refused():
    for more, why in ((dict(kv_port=48), "KV port must be a power of two, 8 to 1024 bits, or 0 .*, not 48"),
                      (dict(kv_port=2048), "not 2048"),
                      (dict(source="rom"), "Weight source must be stream where keys and values are outside"),
                      (dict(kv_ecc=True), "KV ECC must be 0 where"),
                      (dict(halves=2, entries=2), "count must be 1 where")):
        with pytest.raises(ValueError, match=why):
            small_design(**SHAPE | more)
    design = small_design(**SHAPE)
    with pytest.raises(ValueError, match="must reach .* bytes of weights, keys and values"):
        AxiShape(address_width=13).check(design)
