import pytest

from hwgen.top import make
from sim.designs import small_design
from sim.kv_units import HeadsToAttention
from sim.runner import run, simulators

CACHES = {
    "smallest": dict(entries=1, slots=1, context=1, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, head_dim=2,
                     hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=2),
    # 3 words in a row, 3 slots of 3 blocks, 3 layers of 3 heads
    "odd": dict(slots=3, context=11, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3, head_dim=6,
                vector_lanes=2,
                attention_lanes=2, kv_block=4, kv_blocks=7),
    "positions": dict(slots=4, context=6, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=2,
                      vector_lanes=2,
                      attention_lanes=2, kv_block=1, kv_blocks=10, kv_ecc=True),
}
# blocks behind the window are given back: one in each cycle; and a window, with the entries of a pass, of no whole
# number of blocks
CACHES["window_1"] = {**CACHES["positions"], "entries": 1, "context": 9, "kv_blocks": 3, "sliding_window": 1,
                      "kv_ecc": False}
CACHES["window"] = {**CACHES["odd"], "entries": 3, "context": 22, "kv_blocks": 8, "sliding_window": 5}
CACHES["one_window"] = {**CACHES["window"], "slots": 1, "kv_blocks": 3, "num_hidden_layers": 1}
CACHES["corrected"] = {**CACHES["odd"], "kv_ecc": True, "kv_blocks": 0}
# words of 64 bits, 2 in a row
FLIPPED = dict(slots=2, context=6, num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1, head_dim=16,
               vector_lanes=2,
               attention_lanes=8, kv_block=2, kv_ecc=True)
SYSTEMS = {
    "smallest": dict(entries=1, slots=1, context=5, num_hidden_layers=1, num_attention_heads=1,
                     num_key_value_heads=1, head_dim=2,
                     hidden_size=8, vector_lanes=2, attention_lanes=2, kv_block=2),
    # a window that begins in blocks and at their edges, in one of two layers
    "words": dict(entries=3, slots=2, context=16, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                  vector_lanes=2,
                  attention_lanes=4, kv_block=4, layer_types=[{"window": 3}, {}]),
}


# One shape on all simulators; the others, to save time, on the one that builds fastest.
FASTEST = simulators()[-1]


@pytest.mark.parametrize("shape, sim", [*(("odd", sim) for sim in simulators()), ("smallest", FASTEST)])
def test_kv_cache(shape, sim):
    run(make.kv_cache(small_design(**CACHES[shape])), f"kv_cache_{shape}", "bench_kv_cache", params=CACHES[shape],
        sim=sim)


@pytest.mark.parametrize("shape", ["positions", "corrected"])
def test_other_blocks(shape):
    run(make.kv_cache(small_design(**CACHES[shape])), f"kv_cache_{shape}", "bench_kv_cache", params=CACHES[shape],
        sim=FASTEST,
        testcase=["every_address", "history/pattern=0", "copies_and_readers"])


@pytest.mark.parametrize("shape", ["window_1", "window", "one_window"])
def test_blocks_behind_a_window(shape):
    others = ["cuts_at_the_window", "writes_beyond_the_end_are_dropped"] if CACHES[shape]["slots"] > 1 else []
    run(make.kv_cache(small_design(**CACHES[shape])), f"kv_cache_{shape}", "bench_kv_cache", params=CACHES[shape],
        sim=FASTEST,
        testcase=["every_address", "history/pattern=0", *others])


def test_flipped_bits():
    run(make.kv_cache(small_design(**FLIPPED)), "kv_cache_flipped", "bench_kv_ecc", params=FLIPPED, sim=FASTEST,
        internals=True)


@pytest.mark.parametrize("shape, sim", [*(("smallest", sim) for sim in simulators()), ("words", FASTEST)])
def test_kv_writer(shape, sim):
    run(HeadsToAttention(small_design(**SYSTEMS[shape])), f"kv_writer_{shape}", "bench_kv_writer",
        params=SYSTEMS[shape], sim=sim)
