"""The weight stream's source and dispatcher on simulators."""
import random

import pytest

from sim.designs import small_design
from sim.runner import run
from sim.weights_units import Weights, image, random_stream

DESIGNS = {
    "plain": dict(),
    "beats": dict(tile_beats=4, vector_lanes=2, head="pair", tie_word_embeddings=False, entries=3, num_hidden_layers=1),
    "halves": dict(tile_beats=2, entries=4, halves=2, num_hidden_layers=2),
    "smallest": dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, hidden_size=1,
                     intermediate_size=1, head_dim=2,
                     num_attention_heads=1, num_hidden_layers=1, vocab_size=1, entries=1),
    # no matrix has a second step of its tiles
    "one_step": dict(formats="scales=row", hidden_size=2, intermediate_size=1, num_attention_heads=1,
                     num_hidden_layers=1, vocab_size=3, tile_beats=1),
}
# some matrices are logic, and not in the stream: in a layer, the LM head, a whole run between two records
WIRED = {
    "head": dict(wire_matrices="head+o", num_hidden_layers=2),
    "runs": dict(wire_matrices="gate_up+down", tie_word_embeddings=False, tile_beats=2, vector_lanes=2),
    "alone": dict(wire_matrices="qkv+o+gate_up+down", num_hidden_layers=1, formats="weights=e2m1,head=e3m4"),
    "formats": dict(wire_matrices="o+head+down", formats="layers.1=e2m1,layers.0.gate_up=e2m1", hidden_size=80,
                    intermediate_size=70, tile_beats=4, block=dict(norms="sandwich", biased=["up"])),
    "all": dict(num_hidden_layers=1),
}
BLOCKS = {
    "vectors": dict(block=dict(biased=["q", "k", "v", "down"], qk_norm=dict(span="head")), vector_lanes=2,
                    tile_beats=2, columns=4),
    "posts": dict(block=dict(norms="sandwich", biased=["up"]), entries=4, halves=2),
    "posts_in_turn": dict(block=dict(norms="post", qk_norm=dict(span="projection")), entries=3, num_hidden_layers=1),
    "parallel": dict(block=dict(parallel=True, biased=["q", "k", "v", "o", "up", "down"], gated=False), vector_lanes=2),
    "parallel_halves": dict(block=dict(parallel=True, biased=["o"], final_bias=True), entries=2, halves=2),
    # the final record has vectors, and no other one has
    "final": dict(block=dict(final_bias=True), vector_lanes=2, tile_beats=2, entries=1, num_hidden_layers=1),
}
POSITIONS = {
    "plain": dict(entries=3, tile_beats=2, context=24, kv_block=4, hidden_size=20),
    "pair": dict(vector_lanes=2, entries=1, head="pair", tie_word_embeddings=False, num_hidden_layers=1,
                 formats="scales=row"),
    "halves": dict(entries=4, halves=2, vector_lanes=2, lanes=2, columns=8, tile_beats=1, hidden_size=2,
                   attention_lanes=2,
                   block=dict(biased=["q", "k", "v", "up"])),
}
ONE_COLUMN_A_BEAT = dict(lanes=8, columns=4, tile_beats=4, entries=1, num_hidden_layers=1, head="pair")


def random_changes(seed):
    """A shape that nobody would choose."""
    rng = random.Random(seed)
    lanes, columns, vector = rng.choice([4, 8, 16]), rng.choice([4, 8, 16]), rng.choice([2, 4])
    beats = [b for b in (1, 2, 4, 8) if b <= columns and lanes * columns // b >= 2 * vector]
    return dict(lanes=lanes, columns=columns, vector_lanes=vector, attention_lanes=vector, tile_beats=rng.choice(beats),
                hidden_size=rng.randint(1, 40), intermediate_size=rng.randint(1, 20), vocab_size=rng.randint(2, 50),
                entries=rng.randint(1, 5), num_hidden_layers=rng.randint(1, 2), tie_word_embeddings=rng.random() < 0.5,
                head=rng.choice(["single", "pair"]))


def simulate(changes, simulator):
    design = small_design(**changes)
    run(Weights(design, image(random_stream(design))), "weights", "bench_weights", params=changes, sim=simulator)


@pytest.mark.parametrize("changes", DESIGNS.values(), ids=DESIGNS)
def test_weights(simulator, changes):
    simulate(changes, simulator)


@pytest.mark.parametrize("changes", WIRED.values(), ids=WIRED)
def test_what_is_logic(changes):
    simulate(changes | dict(source="wired", entries=1), "verilator")


@pytest.mark.parametrize("changes", BLOCKS.values(), ids=BLOCKS)
def test_blocks(changes):
    simulate(changes, "verilator")


@pytest.mark.parametrize("changes", POSITIONS.values(), ids=POSITIONS)
def test_positions(changes):
    simulate(changes | dict(learned_positions=True), "verilator")


# offsets of rows and blocks, matrices in E2M1: layers of one length and of several, all there is in E2M1, tiles wider
# than a block
FORMATS = {
    "one_beat": dict(formats="weights=e2m1,head=e3m4", hidden_size=80, intermediate_size=70, head_dim=8),
    "narrow": dict(formats="weights=e2m1", hidden_size=40, tile_beats=2, tie_word_embeddings=False, halves=2),
    "layers": dict(formats="layers.1=e2m1,layers.0.down=e2m1", hidden_size=80, intermediate_size=140, tile_beats=4,
                   halves=2, entries=4,
                   block=dict(norms="sandwich", biased=["up"])),
    "wide": dict(formats="weights=e2m1,head=e4m3,scales=matrix", lanes=64, columns=4, hidden_size=150,
                 intermediate_size=90, tile_beats=4, entries=1),
    "rows": dict(formats="scales=row,head=pair", learned_positions=True, entries=3, tile_beats=2, context=24,
                 kv_block=4, hidden_size=20, vocab_size=150),
    "two_lanes": dict(formats="layers.0.o=e2m1,layers.1.gate_up=e2m1", lanes=2, columns=8, vector_lanes=2,
                      attention_lanes=2, hidden_size=40, entries=3,
                      tile_beats=4, intermediate_size=70),
    "one_step": dict(formats="weights=e2m1,head=e3m4", hidden_size=2, intermediate_size=1, num_attention_heads=1,
                     tile_beats=1),
    "no_blocks": dict(formats="weights=e2m1,block_range=0", tie_word_embeddings=False, lanes=4, columns=16,
                      tile_beats=1, hidden_size=20),
}


@pytest.mark.nightly        # (in each `make test` a random shape of sim/test_decoder.py has matrices in E2M1)
@pytest.mark.parametrize("changes", FORMATS.values(), ids=FORMATS)
def test_formats(changes):
    simulate(changes, "verilator")


@pytest.mark.parametrize("changes", [ONE_COLUMN_A_BEAT, random_changes(1)], ids=["one_column_a_beat", "random"])
def test_odd_shapes(changes):
    simulate(changes, "verilator")
