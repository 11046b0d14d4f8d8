"""The decoder that sim/test_decoder.py builds with shared blocks and error correction: a short soak, and errors in its
KV memory."""
from hwgen.golden.secded import stored_bits
from hwgen.host.links.link import Entry
from hwgen.lib.layouts import EXP_BITS
from sim.decoders import checked
from sim.soak import DESIGN, WINDOW, soak

MEMORIES = {"k_codes": 8 * DESIGN.hw.attention_lanes, "v_codes": 8 * DESIGN.hw.attention_lanes, "k_exps": EXP_BITS,
            "v_exps": EXP_BITS}


def test_a_short_soak(tmp_path):
    """`make soak` runs thousands of passes."""
    counts = soak(tmp_path, passes=20, seed=1, stall=0.2)
    assert counts["passes"] > 20 and counts["operations"] and counts["NO_BLOCK"]


def test_blocks_behind_a_window(tmp_path):
    counts = soak(tmp_path, passes=60, seed=1, design=WINDOW)
    assert counts["WINDOW"] and counts["NO_BLOCK"]


def words(blocks, slot, position):
    """{memory: index of the word of the last layer's last head (and part)} of a position."""
    parts, size = DESIGN.padded_head_dim // DESIGN.hw.attention_lanes, DESIGN.hw.kv_block
    block = blocks.tables[slot][position // size]
    row = ((DESIGN.layers * DESIGN.kv_heads - 1) * DESIGN.hw.blocks + block) * size + position % size
    return {name: row * parts + parts - 1 if name.endswith("codes") else row for name in MEMORIES}


def test_errors_in_the_kv_memory(tmp_path):
    """Every single bit of a word of each memory: passes as ever. Two bits of one: reported, with slot and position."""
    with checked(DESIGN, tmp_path) as link:
        slot, position, expected = 3, 2, 0
        link.run_pass([Entry(0, 0, 3), Entry(slot, 0, 5), Entry(slot, 1, 7)])
        link.run_pass([Entry(slot, position, 9), Entry(0, 1, 4)])
        where = words(link.golden.decoder.blocks, slot, position)
        for bit in range(max(stored_bits(width) for width in MEMORIES.values())):
            flipped = [(name, word, bit) for name, word in where.items() if bit < stored_bits(MEMORIES[name])]
            for flip in flipped:
                link.link.flip(*flip)
            link.run_pass([Entry(slot, position + 1, 11, True)])           # equals the golden model's, cycles and all
            link.truncate(slot, position + 1)
            for flip in flipped:
                link.link.flip(*flip)
            # an exponent comes with each part of the K row; a word of codes with its own
            expected += (DESIGN.padded_head_dim // DESIGN.hw.attention_lanes if bit < stored_bits(EXP_BITS) else 1) + 1
            assert link.link.ecc() == (expected, 0, None)
        for bit in (0, 1):
            link.link.flip("k_codes", where["k_codes"], bit)
        link.link.run_pass([Entry(0, 2, 6, True), Entry(slot, position + 1, 11, True)])
        assert link.link.ecc()[1:] == (1, (slot, position))
