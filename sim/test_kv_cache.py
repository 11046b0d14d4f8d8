import pytest

from hwgen.top import make
from sim.designs import small_design
from sim.kv_units import CACHES, SYSTEMS, HeadsToAttention
from sim.runner import run, simulators

# words of 64 bits, 2 in a row
FLIPPED = dict(slots=2, context=6, num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1, head_dim=16,
               vector_lanes=2,
               attention_lanes=8, kv_block=2, kv_ecc=True)


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


@pytest.mark.parametrize("shape", ["window_1", "window", "one_window", "rows_window"])
def test_blocks_behind_a_window(shape):
    others = ["cuts_at_the_window", "writes_beyond_the_end_are_dropped"] if CACHES[shape]["slots"] > 1 else []
    run(make.kv_cache(small_design(**CACHES[shape])), f"kv_cache_{shape}", "bench_kv_cache", params=CACHES[shape],
        sim=FASTEST,
        testcase=["every_address", "history/pattern=0", *others])


@pytest.mark.parametrize("shape, cases", [
    ("rows", None), ("rows_block", ["every_address", "history/pattern=0", "copies_and_readers"]),
    ("rows_single", ["every_address", "values/pattern=0"])])
def test_several_rows(shape, cases):
    run(make.kv_cache(small_design(**CACHES[shape])), f"kv_cache_{shape}", "bench_kv_cache", params=CACHES[shape],
        sim=FASTEST, **({"testcase": cases} if cases else {}))


def test_flipped_bits():
    run(make.kv_cache(small_design(**FLIPPED)), "kv_cache_flipped", "bench_kv_ecc", params=FLIPPED, sim=FASTEST,
        internals=True)


@pytest.mark.parametrize("shape, sim", [*(("smallest", sim) for sim in simulators()), ("words", FASTEST),
                                        ("rows", FASTEST)])
def test_kv_writer(shape, sim):
    run(HeadsToAttention(small_design(**SYSTEMS[shape])), f"kv_writer_{shape}", "bench_kv_writer",
        params=SYSTEMS[shape], sim=sim)
